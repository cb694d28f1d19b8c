/* Open connections, and the bodies that they hold, counted by address. IPv6 peers are counted by their /64, which one
 * host may own. */
#ifndef HTTP_PEERS_INT_H
#define HTTP_PEERS_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct http_peers;
struct http_peer;

struct http_peers *http_peers_create(void);
void http_peers_destroy(struct http_peers *p); /* when all are put back */
/* One more connection from there, unless limit (0: none) are open: NULL then. */
struct http_peer *http_peers_take(
	struct http_peers *p, const struct sockaddr_storage *from, uint32_t limit);
void http_peers_put(struct http_peers *p, struct http_peer *peer);
/*
 * n more bytes of bodies, of which everybody together holds `all` of at most `limit`. False: not taken, since then
 * less would be left than this address has. So one gets half of the limit at most; two that grow together get a third
 * each; who comes when others have theirs gets half of what is left.
 */
bool http_peer_hold(struct http_peer *peer, size_t n, size_t all, size_t limit);
void http_peer_release(struct http_peer *peer, size_t n);

#endif
