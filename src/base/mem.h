/*
 * Heap memory. Small allocations whose size fathom chooses abort on failure; sizes that a file, a
 * client or a flag chooses use the try_ forms, which return NULL.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

void *mem_alloc(size_t bytes);                   /* zeroed; aborts when out of memory */
void *mem_realloc(void *p, size_t bytes);        /* aborts when out of memory */
char *mem_strdup(const char *s);                 /* aborts when out of memory */
void *mem_try_alloc(size_t count, size_t bytes); /* zeroed; NULL on overflow or out of memory */

/*
 * Grows an array so that it holds at least `need` elements of `elem_bytes`; *cap is in elements.
 * Doubles, so that appending is linear. Aborts when out of memory. Returns the new base.
 */
void *mem_grow(void *base, size_t *cap, size_t need, size_t elem_bytes);

/* Bytes of malloc() in use, of all threads: what was allocated and not freed. Takes long where much lies free in small
 * pieces. 0: the C library does not tell. */
size_t mem_heap_bytes(void);

/*
 * Large page-aligned buffers for weights, caches and workspaces: anonymous, zero-filled on first
 * touch, huge pages advised. Not counted against a limit here; callers print their budget.
 */
enum status mem_map(void **out, size_t bytes, const char *what, struct error *err);
void mem_unmap(void *p, size_t bytes);

/*
 * Gathers what has been touched of a mapping into huge pages, where memory was too scattered to give them
 * at first touch: moves pages about, so it may take as long as copying them. A system that cannot, does not.
 */
void mem_collapse(void *p, size_t bytes);

#endif
