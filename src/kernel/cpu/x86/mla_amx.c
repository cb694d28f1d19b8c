/*
 * Attention core, AMX tier (BF16 tiles). See cpu/mla.h.
 *
 * The layouts of the AVX-512 tier are B tiles as they lie: 16 pairs by 16 lanes of packed queries,
 * 16 pairs of keys by 16 columns of packed values, 16 pairs of k by 16 rows of a weight panel. A
 * tiles are key rows and latent rows as they lie, and probabilities, which softmax leaves as rows
 * of lanes. Each product runs as 2 x 2 tiles: four loads feed four dot products.
 *
 * MLA_AMX_TABLE names the table, so that tests can compile this file again on the emulation.
 */
#include <immintrin.h>

#include "kernel/cpu/mla.h"
#include "kernel/cpu/x86/amx.h"
#include "kernel/cpu/x86/mla_avx512.h"

#ifndef MLA_AMX_TABLE
#define MLA_AMX_TABLE mla_ukernels_amx
#endif

#define SLAB (MLA_TILE * 32) /* values of 32 packed columns */
#define ROW 64		     /* bytes of a row of B, and of 16 scores */

/* 32 keys by one or two lane blocks; the second block is `next` values of q further on. ahead: as
 * many key rows to prefetch, or NULL. */
static inline __attribute__((always_inline)) void scores_32(float *s, const uint16_t *q,
	size_t next, int nq, const uint16_t *k, size_t k_stride, uint32_t d, const uint16_t *ahead)
{
	amx_zero(0);
	amx_zero(1);
	amx_zero(2);
	amx_zero(3);
	for (uint32_t j = 0; j < d; j += 32) {
		const uint16_t *qj = q + (size_t)j * MLA_BLOCK;

		amx_load(4, k + j, k_stride * 2);
		amx_load(5, k + 16 * k_stride + j, k_stride * 2);
		for (uint32_t i = 0; ahead && i < 32; i++)
			_mm_prefetch(ahead + (size_t)(j + i) * 32, _MM_HINT_T1);
		amx_load(6, qj, ROW);
		amx_dp_bf16(0, 4, 6);
		amx_dp_bf16(1, 5, 6);
		if (nq == 2) {
			amx_load(7, qj + next, ROW);
			amx_dp_bf16(2, 4, 7);
			amx_dp_bf16(3, 5, 7);
		}
	}
	amx_store(0, s, ROW);
	amx_store(1, s + 16 * MLA_BLOCK, ROW);
	if (nq == 2) {
		amx_store(2, s + MLA_SCORES, ROW);
		amx_store(3, s + MLA_SCORES + 16 * MLA_BLOCK, ROW);
	}
}

static void amx_scores(float *s, const void *q, uint32_t blocks, const void *k, size_t k_stride,
	uint32_t keys, uint32_t d, float *wide, const uint16_t *ahead)
{
	size_t next = (size_t)2 * d * MLA_BLOCK; /* 4 bytes are reserved for each packed value */

	for (uint32_t b = 0; b < blocks; b += 2) {
		const uint16_t *qb = (const uint16_t *)q + b * next;
		float *sb = s + (size_t)b * MLA_SCORES;

		for (uint32_t i = 0; i < keys; i += 32) {
			const uint16_t *ki = (const uint16_t *)k + i * k_stride;
			const uint16_t *near = ahead && !b ? ahead + i * k_stride : NULL;

			if (b + 1 < blocks)
				scores_32(sb + i * MLA_BLOCK, qb, next, 2, ki, k_stride, d, near);
			else
				scores_32(sb + i * MLA_BLOCK, qb, next, 1, ki, k_stride, d, near);
		}
	}
}

/* As AVX-512, then [16 key pairs][16 lanes] becomes [16 lanes][16 key pairs]: A tiles of 32 keys.
 */
static void amx_softmax(float *s, uint32_t blocks, uint32_t keys, uint32_t key0,
	const uint32_t *limit, float scale2, float *max, float *sum, float *corr)
{
	__m512i r[16];

	mla_avx512_softmax(s, blocks, keys, key0, limit, scale2, max, sum, corr);
	for (uint32_t b = 0; b < blocks; b++)
		for (uint32_t i = 0; i < keys; i += 32) {
			float *p = s + (size_t)b * MLA_SCORES + i / 2 * MLA_BLOCK;

			for (uint32_t j = 0; j < 16; j++)
				r[j] = _mm512_load_si512(p + j * 16);
			mla_avx512_transpose(r);
			for (uint32_t j = 0; j < 16; j++)
				_mm512_store_si512(p + j * 16, r[j]);
		}
}

/* o[16 lanes][16 columns] = o * corr + t. */
static void values_add(float *o, const float *corr, const float *t, uint32_t dv)
{
	for (uint32_t i = 0; i < MLA_BLOCK; i++) {
		float *row = o + (size_t)i * dv;

		_mm512_store_ps(row, _mm512_fmadd_ps(_mm512_load_ps(row), _mm512_set1_ps(corr[i]),
					     _mm512_load_ps(t + i * 16)));
	}
}

/* One or two lane blocks by 32 columns. */
static inline __attribute__((always_inline)) void values_32(float *o, const float *p, int np,
	const float *corr, const uint16_t *v, uint32_t keys, uint32_t dv)
{
	float t[4][256] __attribute__((aligned(64)));

	amx_zero(0);
	amx_zero(1);
	amx_zero(2);
	amx_zero(3);
	for (uint32_t i = 0; i < keys; i += 32) {
		amx_load(6, v + (size_t)i * 32, 2 * ROW);
		amx_load(7, v + (size_t)i * 32 + 32, 2 * ROW);
		amx_load(4, p + i / 2 * MLA_BLOCK, ROW);
		amx_dp_bf16(0, 4, 6);
		amx_dp_bf16(1, 4, 7);
		if (np == 2) {
			amx_load(5, p + MLA_SCORES + i / 2 * MLA_BLOCK, ROW);
			amx_dp_bf16(2, 5, 6);
			amx_dp_bf16(3, 5, 7);
		}
	}
	amx_store(0, t[0], ROW);
	amx_store(1, t[1], ROW);
	values_add(o, corr, t[0], dv);
	values_add(o + 16, corr, t[1], dv);
	if (np == 2) {
		amx_store(2, t[2], ROW);
		amx_store(3, t[3], ROW);
		values_add(o + (size_t)MLA_BLOCK * dv, corr + MLA_BLOCK, t[2], dv);
		values_add(o + (size_t)MLA_BLOCK * dv + 16, corr + MLA_BLOCK, t[3], dv);
	}
}

static void amx_values(float *o, const void *p, const float *corr, const void *v, size_t v_stride,
	uint32_t blocks, uint32_t keys, uint32_t dv)
{
	for (uint32_t c = 0; c < dv; c += 32) {
		const uint16_t *vc = (const uint16_t *)v + (size_t)c / 32 * SLAB;

		for (uint32_t b = 0; b < blocks; b += 2) {
			float *ob = o + (size_t)b * MLA_BLOCK * dv + c;
			const float *pb = (const float *)p + (size_t)b * MLA_SCORES;

			if (b + 1 < blocks)
				values_32(ob, pb, 2, corr + b * MLA_BLOCK, vc, keys, dv);
			else
				values_32(ob, pb, 1, corr + b * MLA_BLOCK, vc, keys, dv);
		}
	}
}

/* Tiles 0 .. 3 = 32 latent rows by one panel over k values [k0, k1), stored to t. */
static void expand_tiles(float t[4][256], const uint16_t *x, size_t x_stride, const uint16_t *panel,
	uint32_t k0, uint32_t k1)
{
	amx_zero(0);
	amx_zero(1);
	amx_zero(2);
	amx_zero(3);
	for (uint32_t k = k0; k < k1; k += 32) {
		amx_load(4, x + k, x_stride * 2);
		amx_load(5, x + 16 * x_stride + k, x_stride * 2);
		amx_load(6, panel + (size_t)k * 32, ROW);
		amx_load(7, panel + (size_t)k * 32 + 512, ROW);
		amx_dp_bf16(0, 4, 6);
		amx_dp_bf16(1, 4, 7);
		amx_dp_bf16(2, 5, 6);
		amx_dp_bf16(3, 5, 7);
	}
	amx_store(0, t[0], ROW);
	amx_store(1, t[1], ROW);
	amx_store(2, t[2], ROW);
	amx_store(3, t[3], ROW);
}

/* 32 latent rows by one panel. */
static void expand_panel(uint16_t *out, size_t out_stride, const uint16_t *x, size_t x_stride,
	const struct mla_panels *w, uint32_t panel)
{
	const uint16_t *from = (const uint16_t *)(w->panels + panel * w->panel_bytes);
	float acc[4][256] __attribute__((aligned(64))), t[4][256] __attribute__((aligned(64)));

	if (!w->scales)
		expand_tiles(acc, x, x_stride, from, 0, w->k);
	else
		memset(acc, 0, sizeof(acc));
	for (uint32_t blk = 0; blk < w->k_blocks; blk++) {
		uint32_t end = (blk + 1) * WEIGHT_SCALE_BLOCK;
		__m512 scale = _mm512_set1_ps(w->scales[panel * w->k_blocks + blk]);

		expand_tiles(
			t, x, x_stride, from, blk * WEIGHT_SCALE_BLOCK, end < w->k ? end : w->k);
		for (uint32_t i = 0; i < 4 * 256; i += 16)
			_mm512_store_ps(acc[0] + i, _mm512_fmadd_ps(_mm512_load_ps(t[0] + i), scale,
							    _mm512_load_ps(acc[0] + i)));
	}
	for (uint32_t i = 0; i < 32; i++) {
		const float *lo = acc[i / 16 * 2] + i % 16 * 16;
		const float *hi = acc[i / 16 * 2 + 1] + i % 16 * 16;

		_mm512_storeu_si512(out + i * out_stride,
			(__m512i)_mm512_cvtne2ps_pbh(_mm512_load_ps(hi), _mm512_load_ps(lo)));
	}
}

static void amx_expand(void *out, size_t out_stride, const void *x, size_t x_stride, uint32_t keys,
	const struct mla_panels *w, float *wide)
{
	for (uint32_t panel = 0; panel < w->n / WEIGHT_PANEL_ROWS; panel++)
		for (uint32_t i = 0; i < keys; i += 32)
			expand_panel((uint16_t *)out + i * out_stride + panel * WEIGHT_PANEL_ROWS,
				out_stride, (const uint16_t *)x + i * x_stride, x_stride, w, panel);
}

static void amx_thread_begin(void)
{
	amx_begin();
}

static void amx_thread_end(void)
{
	amx_end();
}

const struct mla_ukernels MLA_AMX_TABLE = {
	.thread_begin = amx_thread_begin,
	.thread_end = amx_thread_end,
	.pack_q = mla_avx512_pack_q,
	.pack_v = mla_avx512_pack_v,
	.scores = amx_scores,
	.softmax = amx_softmax,
	.values = amx_values,
	.merge = mla_avx512_merge,
	.finish = mla_avx512_finish,
	.unpack_f8 = mla_avx512_unpack_f8,
	.expand = amx_expand,
};
