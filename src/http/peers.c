/* Counts in a hash table with chains; an address without connections takes no memory. */
#include "http/peers_int.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define BUCKETS 4096u

struct http_peer {
	struct http_peer *next;
	uint64_t key[2];
	uint32_t bucket;
	uint32_t count;
	size_t body_bytes;
};

struct http_peers {
	struct http_peer *buckets[BUCKETS];
};

struct http_peers *http_peers_create(void)
{
	return mem_alloc(sizeof(struct http_peers));
}

void http_peers_destroy(struct http_peers *p)
{
	for (uint32_t i = 0; i < BUCKETS; i++)
		BUG_ON(p->buckets[i]);
	free(p);
}

/* An IPv4 address has the same key when it comes through an IPv6 socket. */
static void make_key(const struct sockaddr_storage *from, uint64_t key[2])
{
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)from;
	uint32_t four = 0;

	key[0] = from->ss_family;
	key[1] = 0;
	if (from->ss_family == AF_INET) {
		four = ((const struct sockaddr_in *)from)->sin_addr.s_addr;
	} else if (from->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr)) {
		key[0] = AF_INET;
		memcpy(&four, six->sin6_addr.s6_addr + 12, sizeof(four));
	} else if (from->ss_family == AF_INET6) {
		memcpy(&key[1], six->sin6_addr.s6_addr, sizeof(key[1]));
		return;
	}
	key[1] = four;
}

struct http_peer *http_peers_take(
	struct http_peers *p, const struct sockaddr_storage *from, uint32_t limit)
{
	uint64_t key[2];
	struct http_peer *e;
	uint32_t bucket;

	make_key(from, key);
	bucket = (uint32_t)((key[1] * 0x9E3779B97F4A7C15u) >> 40) % BUCKETS;
	for (e = p->buckets[bucket]; e; e = e->next)
		if (e->key[0] == key[0] && e->key[1] == key[1])
			break;
	if (e && limit && e->count >= limit)
		return NULL;
	if (!e) {
		e = mem_alloc(sizeof(*e));
		e->key[0] = key[0];
		e->key[1] = key[1];
		e->bucket = bucket;
		e->next = p->buckets[bucket];
		p->buckets[bucket] = e;
	}
	e->count++;
	return e;
}

void http_peers_put(struct http_peers *p, struct http_peer *peer)
{
	struct http_peer **at = &p->buckets[peer->bucket];

	if (--peer->count)
		return;
	while (*at != peer)
		at = &(*at)->next;
	*at = peer->next;
	free(peer);
}

bool http_peer_hold(struct http_peer *peer, size_t n, size_t all, size_t limit)
{
	size_t used = all + peer->body_bytes; /* twice what is this one's own */

	if (used > limit || n > (limit - used) / 2)
		return false;
	peer->body_bytes += n;
	return true;
}

void http_peer_release(struct http_peer *peer, size_t n)
{
	peer->body_bytes -= n;
}
