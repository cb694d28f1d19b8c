/* Checked wrappers over malloc, and page-aligned mappings for what is large. */
#include "base/mem.h"

#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void *mem_check(void *p, size_t bytes)
{
	if (!p && bytes) {
		fprintf(stderr, "fathom: out of memory allocating %zu bytes\n", bytes);
		abort();
	}
	return p;
}

void *mem_alloc(size_t bytes)
{
	return mem_check(calloc(1, bytes), bytes);
}

void *mem_realloc(void *p, size_t bytes)
{
	return mem_check(realloc(p, bytes), bytes);
}

char *mem_strdup(const char *s)
{
	return mem_check(strdup(s), strlen(s) + 1);
}

void *mem_try_alloc(size_t count, size_t bytes)
{
	return calloc(count, bytes);
}

void *mem_grow(void *base, size_t *cap, size_t need, size_t elem_bytes)
{
	size_t n = *cap ? *cap : 8;

	if (need <= *cap)
		return base;
	while (n < need) {
		BUG_ON(n > SIZE_MAX / 2 / elem_bytes);
		n *= 2;
	}
	base = mem_realloc(base, n * elem_bytes);
	*cap = n;
	return base;
}

size_t mem_heap_bytes(void)
{
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
#else
	return 0;
#endif
}

enum status mem_map(void **out, size_t bytes, const char *what, struct error *err)
{
	void *p;

	if (bytes == 0 || bytes > PTRDIFF_MAX)
		return error_set(err, E_NOMEM, "%s: cannot map %zu bytes", what, bytes);
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return error_set(err, E_NOMEM, "%s: cannot map %zu bytes: %s", what, bytes,
			strerror(errno));
	/* Advice only: without huge pages everything works, slower. */
	madvise(p, bytes, MADV_HUGEPAGE);
	*out = p;
	return OK;
}

void mem_unmap(void *p, size_t bytes)
{
	if (p)
		munmap(p, bytes);
}

/* Linux 6.1; C libraries name it later. */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

void mem_collapse(void *p, size_t bytes)
{
	madvise(p, bytes, MADV_COLLAPSE);
}
