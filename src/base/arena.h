/*
 * Arena: many small allocations, freed together. One owner, one thread.
 *
 * Memory is zeroed and aligned to 16 bytes. A `limit` bounds what a single document or request may
 * take: arena_try_alloc then returns NULL, arena_alloc aborts (use it only for bounded sizes).
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
	struct arena_block *head; /* owned chain, newest first */
	size_t used_bytes;        /* handed out since init or reset */
	size_t limit_bytes;       /* 0: none */
};

void arena_init(struct arena *a, size_t limit_bytes);
void arena_deinit(struct arena *a);
void arena_reset(struct arena *a); /* frees everything, keeps the limit */

void *arena_alloc(struct arena *a, size_t bytes);
void *arena_try_alloc(struct arena *a, size_t count, size_t bytes); /* NULL: overflow, limit, memory */
char *arena_strndup(struct arena *a, const char *s, size_t len);    /* NUL added; aborts like arena_alloc */

#endif
