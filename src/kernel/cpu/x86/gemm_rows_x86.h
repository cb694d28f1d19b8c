/* What products of several tiers share: groups of rows, prefetch. */
#ifndef KERNEL_CPU_X86_GEMM_ROWS_X86_H
#define KERNEL_CPU_X86_GEMM_ROWS_X86_H

#include <immintrin.h>
#include <string.h>

#include "kernel/cpu/gemm.h"

#define INLINE static inline __attribute__((always_inline))
#define STEP_BYTES 2048u /* a K step of a BF16 or I8 panel, two of an I4 one */
#define TILE_BYTES 1024u

INLINE int32_t load_pair(const uint8_t *a)
{
	int32_t x;

	memcpy(&x, a, sizeof(x));
	return x;
}

/* Where panel `p` fetches from while it reads byte `at` of `bytes`: `distance` on, then in the next panel. */
INLINE const uint8_t *ahead_by(const struct gemm_block *b, uint32_t p, size_t at, size_t bytes, size_t distance)
{
	return at + distance < bytes ? b->w + p * b->panel_bytes + at + distance
				     : b->next + p * b->next_bytes + (at + distance - bytes);
}

/* `n` lines into the first cache. In the order of their addresses, however the tiles between are read: only then do
 * the prefetchers of a core go on from here, and more is on its way than the core itself can wait for. */
INLINE void fetch_lines(const uint8_t *p, int n)
{
	for (int i = 0; i < n; i++)
		_mm_prefetch((const char *)p + 64 * i, _MM_HINT_T0);
}

/* What comes after a block, fetched into the second cache a share at a time. */
struct fetch_share {
	const char *p;
	size_t next_bytes;
	size_t share;
	size_t left;
	uint32_t panels;
};

INLINE struct fetch_share fetch_share_begin(const struct gemm_block *b, size_t panel_bytes, uint32_t shares)
{
	return (struct fetch_share){(const char *)b->next, b->next_bytes,
		(panel_bytes / 64 + shares - 1) / shares * 64, panel_bytes, b->panels};
}

INLINE void fetch_share(struct fetch_share *f)
{
	size_t n = f->left < f->share ? f->left : f->share;

	for (size_t i = 0; i < n; i += 64)
		for (uint32_t p = 0; p < f->panels; p++)
			_mm_prefetch(f->p + p * f->next_bytes + i, _MM_HINT_T1);
	f->p += n;
	f->left -= n;
}

/* A line of each of `rows` rows of sums, into the first cache. */
INLINE void fetch_sums(const void *c, uint32_t rows)
{
	for (uint32_t i = 0; i < rows; i++)
		_mm_prefetch((const char *)c + (size_t)i * GEMM_COLS * 4, _MM_HINT_T0);
}

/* fn(..., M, ...) for M = `rows` < 6, or 6. */
#define ROWS_CASES(rows, call)                                                                     \
	switch (rows) {                                                                            \
	case 1:                                                                                    \
		call(1);                                                                           \
		break;                                                                             \
	case 2:                                                                                    \
		call(2);                                                                           \
		break;                                                                             \
	case 3:                                                                                    \
		call(3);                                                                           \
		break;                                                                             \
	case 4:                                                                                    \
		call(4);                                                                           \
		break;                                                                             \
	case 5:                                                                                    \
		call(5);                                                                           \
		break;                                                                             \
	default:                                                                                   \
		call(6);                                                                           \
	}

/* Up to 6 rows a time, evenly: `call` gets M, and finds row0 and the number of its group. */
#define EACH_GROUP(b, call)                                                                        \
	for (uint32_t row0 = 0, group = 0, left; row0 < (b)->rows; row0 += left, group++) {        \
		uint32_t groups = ((b)->rows + 5) / 6 - group;                                     \
                                                                                                   \
		left = ((b)->rows - row0 + groups - 1) / groups;                                   \
		ROWS_CASES(left, call)                                                             \
	}

#endif
