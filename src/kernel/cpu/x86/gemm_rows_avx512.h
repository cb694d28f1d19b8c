/*
 * What the avx512 products share: prefetch, F8 panels. Include only in files compiled for AVX-512.
 */
#ifndef KERNEL_CPU_X86_GEMM_ROWS_AVX512_H
#define KERNEL_CPU_X86_GEMM_ROWS_AVX512_H

#include "kernel/cpu/x86/f8_avx512.h"
#include "kernel/cpu/x86/gemm_rows_x86.h"

#define AHEAD 4096u /* prefetch distance in each panel that streams by */

/* What a group of rows fetches meanwhile. */
enum fetch {
	FETCH_NEXT,  /* its share of the next weight, into the second cache (struct fetch_next) */
	FETCH_BOTH,  /* and this weight's next step, into the first */
	FETCH_AHEAD, /* streaming: AHEAD bytes in each panel, then the next panels */
};

/* A group's share of the next weight: evenly, so that memory is busy all the time. A range of K has as many
 * bytes as this one, 128 in each panel for each 64 bytes that a row of a tile has here. */
struct fetch_next {
	const char *p[2];
	size_t stride;
};

INLINE struct fetch_next fetch_begin(const struct gemm_block *b, uint32_t group, uint32_t bytes)
{
	uint32_t groups = (b->rows + 5) / 6;
	const char *p = (const char *)b->next + (size_t)bytes / groups * group;

	return (struct fetch_next){{p, p + (b->panels - 1) * b->next_bytes}, (128 + groups - 1) / groups};
}

INLINE void fetch_step(const struct fetch_next *f, size_t i)
{
	_mm_prefetch(f->p[0] + i * f->stride, _MM_HINT_T1);
	_mm_prefetch(f->p[1] + i * f->stride, _MM_HINT_T1);
}

/* The next group's sums (of F32 or integers) and input, into the first cache: step `s` of 8 takes 3 lines and
 * one of each row. */
INLINE void fetch_group(const struct gemm_block *b, const void *c, uint32_t row0, uint32_t rows, uint32_t s,
	size_t at)
{
	uint32_t left = b->rows - row0 - rows < 6 ? b->rows - row0 - rows : 6;

	for (uint32_t i = 0; i < left; i++)
		_mm_prefetch((const char *)b->a[row0 + rows + i] + at, _MM_HINT_T0);
	for (uint32_t i = 0; i < 3; i++)
		_mm_prefetch((const char *)c + (size_t)rows * GEMM_COLS * 4 + (s * 3 + i) * 64, _MM_HINT_T0);
}

INLINE const uint8_t *ahead(const struct gemm_block *b, uint32_t p, size_t at, size_t bytes)
{
	return ahead_by(b, p, at, bytes, AHEAD);
}

/* c = fma(acc, scale of its panel, c), or acc * scale at the first block of K. */
INLINE void gemm_scale_f32(
	float *c, __m512 acc[][4], const float scale[2], bool first, const int M, const int P)
{
#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
#pragma GCC unroll 4
		for (int t = 0; t < 2 * P; t++) {
			float *p = c + m * GEMM_COLS + t * 16;
			__m512 old = first ? _mm512_setzero_ps() : _mm512_load_ps(p);

			_mm512_store_ps(
				p, _mm512_fmadd_ps(acc[m][t], _mm512_set1_ps(scale[t / 2]), old));
		}
}

/* Where a K step of a block's F8 panels is, and what is fetched meanwhile. */
struct f8_step {
	const uint8_t *w[2];
	const uint8_t *near[2];
};

INLINE struct f8_step f8_step_at(const struct gemm_block *b, uint32_t k, const int P)
{
	size_t at = (size_t)k * WEIGHT_PANEL_ROWS, bytes = (size_t)b->k * WEIGHT_PANEL_ROWS;

	return (struct f8_step){{b->w + at, b->w + (size_t)(P - 1) * b->panel_bytes + at},
		{ahead(b, 0, at, bytes), ahead(b, (uint32_t)P - 1, at, bytes)}};
}

/* BF16 of 4 k of a step, the i-th of 8: for each tile two registers of pairs. */
INLINE void f8_tiles(const struct f8_step *s, const struct f8_table *table, uint32_t i, __m512i first[4],
	__m512i second[4], const int P)
{
#pragma GCC unroll 4
	for (int t = 0; t < 2 * P; t++) {
		size_t at = (size_t)(t % 2) * (TILE_BYTES / 2) + i * 64;

		f8_unpack(table, _mm512_load_si512(s->w[t / 2] + at), &first[t], &second[t]);
		_mm_prefetch((const char *)s->near[t / 2] + at, _MM_HINT_T0);
	}
}

#endif
