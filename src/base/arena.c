/* Chained blocks; a request larger than a block gets a block of its own. */
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define ARENA_BLOCK_BYTES ((size_t)64 << 10)
#define ARENA_ALIGN ((size_t)16)

struct arena_block {
	struct arena_block *next;
	size_t size;
	size_t used;
	size_t pad; /* keeps data 16-byte aligned */
	unsigned char data[];
};

void arena_init(struct arena *a, size_t limit_bytes)
{
	*a = (struct arena){.limit_bytes = limit_bytes};
}

void arena_deinit(struct arena *a)
{
	struct arena_block *b = a->head;

	while (b) {
		struct arena_block *next = b->next;

		free(b);
		b = next;
	}
	*a = (struct arena){0};
}

void arena_reset(struct arena *a)
{
	size_t limit = a->limit_bytes;

	arena_deinit(a);
	arena_init(a, limit);
}

void *arena_try_alloc(struct arena *a, size_t count, size_t bytes)
{
	struct arena_block *b = a->head;
	size_t n;
	void *p;

	if (__builtin_mul_overflow(count, bytes, &n) || n > SIZE_MAX / 2)
		return NULL;
	n = (n + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);
	if (a->limit_bytes && n > a->limit_bytes - a->used_bytes)
		return NULL;
	if (!b || b->size - b->used < n) {
		size_t size = n > ARENA_BLOCK_BYTES ? n : ARENA_BLOCK_BYTES;

		b = calloc(1, sizeof(*b) + size);
		if (!b)
			return NULL;
		b->size = size;
		b->next = a->head;
		a->head = b;
	}
	p = b->data + b->used;
	b->used += n;
	a->used_bytes += n;
	return p;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
	void *p = arena_try_alloc(a, 1, bytes);

	BUG_ON(!p);
	return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t len)
{
	char *p = arena_alloc(a, len + 1);

	memcpy(p, s, len);
	return p;
}
