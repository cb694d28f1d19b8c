/* The cache of grammars (text/grammar_cache.h): a list, the most recently used first. */
#include "text/grammar_cache.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define MAX_ENTRIES 256u
#define DROPPED_AT_ONCE 4

struct entry {
	char *key; /* owned */
	size_t len;
	uint64_t hash;
	struct grammar *g; /* a reference */
};

struct grammar_cache {
	size_t limit_bytes;
	struct entry list[MAX_ENTRIES];
	size_t n;
};

struct grammar_cache *grammar_cache_create(size_t limit_bytes)
{
	struct grammar_cache *c = mem_alloc(sizeof(*c));

	c->limit_bytes = limit_bytes;
	return c;
}

static void drop_last(struct grammar_cache *c)
{
	struct entry *e = &c->list[--c->n];

	grammar_unref(e->g);
	free(e->key);
}

void grammar_cache_destroy(struct grammar_cache *c)
{
	if (!c)
		return;
	while (c->n)
		drop_last(c);
	free(c);
}

static uint64_t hash(const char *key, size_t len)
{
	uint64_t h = 14695981039346656037u;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)key[i]) * 1099511628211u;
	return h;
}

static void move_first(struct grammar_cache *c, size_t i)
{
	struct entry e = c->list[i];

	memmove(c->list + 1, c->list, i * sizeof(e));
	c->list[0] = e;
}

/* Grammars grow while they are used: their sizes are taken anew. Few are dropped at a time, since freeing takes time. */
static void shrink(struct grammar_cache *c)
{
	size_t bytes = 0, keep = 0;

	while (keep < c->n && bytes <= c->limit_bytes) {
		bytes += grammar_bytes(c->list[keep].g) + c->list[keep].len;
		keep += bytes <= c->limit_bytes || keep == 0;
	}
	for (int i = 0; i < DROPPED_AT_ONCE && c->n > keep; i++)
		drop_last(c);
}

/* Whether it is there; then it is the first. */
static bool bring_first(struct grammar_cache *c, const char *key, size_t len)
{
	uint64_t h = hash(key, len);

	for (size_t i = 0; i < c->n; i++) {
		const struct entry *e = &c->list[i];

		if (e->hash != h || e->len != len || memcmp(e->key, key, len) != 0)
			continue;
		move_first(c, i);
		return true;
	}
	return false;
}

struct grammar *grammar_cache_find(struct grammar_cache *c, const char *key, size_t len)
{
	if (bring_first(c, key, len))
		return grammar_ref(c->list[0].g);
	shrink(c); /* what is compiled next needs room */
	return NULL;
}

void grammar_cache_put(struct grammar_cache *c, const char *key, size_t len, struct grammar *g)
{
	struct entry e;

	if (bring_first(c, key, len))
		return;
	e = (struct entry){ mem_alloc(len + 1), len, hash(key, len), grammar_ref(g) };
	memcpy(e.key, key, len);
	if (c->n == MAX_ENTRIES)
		drop_last(c);
	c->list[c->n++] = e;
	move_first(c, c->n - 1);
	shrink(c);
}
