/*
 * Attention core, AVX-512 tier, on F32 multiply-adds. See cpu/mla.h.
 *
 * For CPUs that do two multiply-adds a cycle but a VDPBF16PS only every other one. Bit for bit the
 * results of mla_avx512.c: VDPBF16PS(c, a, b) is fma(a0, b0, fma(a1, b1, c)) as long as denormals
 * count as zero, so every sum here takes the odd element of a pair first.
 *
 * Operands are widened once and read many times: keys, values and latents are F32 rows, packed
 * queries and kv_b [lanes or outputs / 16][d][16], probabilities [block][key][16 lanes]. All three
 * products are one: a tile of up to 6 rows by 4 vectors in registers, rows broadcast from the one
 * side, vectors loaded from the other. Sums go back to memory every 128 steps, so that the vectors
 * of a block (32 KB) stay in L1 for all rows.
 */
#include <immintrin.h>

#include "kernel/cpu/mla.h"
#include "kernel/cpu/x86/mla_avx512.h"

#define INLINE static inline __attribute__((always_inline))
#define STEPS 128u /* of a block: even, and WEIGHT_SCALE_BLOCK */
#define ROWS 6u
#define VECS 4u

_Static_assert(STEPS == WEIGHT_SCALE_BLOCK, "a block of sums has one scale");

/* One side of a product: element (i, j) of row or vector i at step j is at p + i * next + j * step. */
struct side {
	const float *p;
	size_t next;
	size_t step;
};

/* acc[row][vec] += sum over k steps, an even number. */
INLINE void add_products(__m512 acc[ROWS][VECS], uint32_t rows, uint32_t vecs, struct side a,
	struct side b, uint32_t k)
{
	for (uint32_t j = 0; j < k; j += 2) {
#pragma GCC unroll 2
		for (int odd = 1; odd >= 0; odd--) {
			__m512 y[VECS];

#pragma GCC unroll 4
			for (uint32_t v = 0; v < vecs; v++)
				y[v] = _mm512_load_ps(b.p + v * b.next + odd * b.step);
#pragma GCC unroll 6
			for (uint32_t r = 0; r < rows; r++) {
				__m512 x = _mm512_set1_ps(a.p[r * a.next + odd * a.step]);

#pragma GCC unroll 4
				for (uint32_t v = 0; v < vecs; v++)
					acc[r][v] = _mm512_fmadd_ps(x, y[v], acc[r][v]);
			}
		}
		a.p += 2 * a.step;
		b.p += 2 * b.step;
	}
}

INLINE void zero(__m512 acc[ROWS][VECS], uint32_t rows, uint32_t vecs)
{
#pragma GCC unroll 6
	for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
		for (uint32_t v = 0; v < vecs; v++)
			acc[r][v] = _mm512_setzero_ps();
}

INLINE void load(__m512 acc[ROWS][VECS], uint32_t rows, uint32_t vecs, const float *c, size_t row,
	size_t vec)
{
#pragma GCC unroll 6
	for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
		for (uint32_t v = 0; v < vecs; v++)
			acc[r][v] = _mm512_load_ps(c + r * row + v * vec);
}

INLINE void store(float *c, size_t row, size_t vec, __m512 acc[ROWS][VECS], uint32_t rows,
	uint32_t vecs)
{
#pragma GCC unroll 6
	for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
		for (uint32_t v = 0; v < vecs; v++)
			_mm512_store_ps(c + r * row + v * vec, acc[r][v]);
}

static void f32_widen(float *out, const uint16_t *in, size_t n)
{
	for (size_t i = 0; i < n; i += 32) {
		__m512i x = _mm512_loadu_si512(in + i);
		__m512i lo = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(x));
		__m512i hi = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(x, 1));

		_mm512_store_si512(out + i, _mm512_slli_epi32(lo, 16));
		_mm512_store_si512(out + i + 16, _mm512_slli_epi32(hi, 16));
	}
}

/* 16 pairs of BF16 as two rows of 16. */
INLINE void store_pairs(float *out, __m512i pairs)
{
	_mm512_store_si512(out, _mm512_slli_epi32(pairs, 16));
	_mm512_store_si512(out + 16, _mm512_and_si512(pairs, _mm512_set1_epi32(-65536)));
}

static void f32_widen_panels(float *out, const struct mla_panels *w)
{
	for (uint32_t panel = 0; panel < w->n / WEIGHT_PANEL_ROWS; panel++) {
		const uint16_t *from = (const uint16_t *)(w->panels + panel * w->panel_bytes);
		float *to = out + (size_t)panel * WEIGHT_PANEL_ROWS * w->k;

		/* Steps of 32 k hold two tiles of 16 pairs by 16 rows: kernel/weight.h. */
		for (uint32_t k = 0; k < w->k; k += 2) {
			const uint16_t *at = from + (size_t)(k / 32) * 1024 + k % 32 * 16;

			store_pairs(to + (size_t)k * 16, _mm512_load_si512(at));
			store_pairs(to + (size_t)(w->k + k) * 16, _mm512_load_si512(at + 512));
		}
	}
}

static void f32_pack_q(void *out, const uint16_t *a, size_t a_stride, uint32_t na, const uint16_t *b,
	size_t b_stride, uint32_t nb, uint32_t d, uint32_t lanes)
{
	float *q = out;
	__m512i r[16];

	for (uint32_t i = 0; i < d; i += 32) {
		mla_avx512_load_pairs(r, i, a, a_stride, na, b, b_stride, nb, lanes);
		for (uint32_t j = 0; j < 16; j++)
			store_pairs(q + (size_t)(i + 2 * j) * MLA_BLOCK, r[j]);
	}
}

/* Up to 6 keys (4: when no more are left) by up to 4 lane blocks over steps d0 .. d0 + n - 1. */
INLINE void scores_block(float *s, uint32_t rows, uint32_t vecs, const float *q, const float *k,
	size_t k_stride, uint32_t d, uint32_t d0, uint32_t n)
{
	__m512 acc[ROWS][VECS];

	if (d0)
		load(acc, rows, vecs, s, MLA_BLOCK, MLA_SCORES);
	else
		zero(acc, rows, vecs);
	add_products(acc, rows, vecs, (struct side){k + d0, k_stride, 1},
		(struct side){q + (size_t)d0 * MLA_BLOCK, (size_t)d * MLA_BLOCK, MLA_BLOCK}, n);
	store(s, MLA_BLOCK, MLA_SCORES, acc, rows, vecs);
}

/* All keys by `vecs` lane blocks. ahead: BF16 rows of d values to prefetch, or NULL. */
INLINE void scores_vecs(float *s, uint32_t vecs, const float *q, const float *k, size_t k_stride,
	uint32_t keys, uint32_t d, const uint16_t *ahead)
{
	for (uint32_t d0 = 0; d0 < d; d0 += STEPS) {
		uint32_t n = d - d0 < STEPS ? d - d0 : STEPS;

		for (uint32_t i = 0; i < keys; i += ROWS) {
			float *si = s + (size_t)i * MLA_BLOCK;
			const float *ki = k + i * k_stride;

			for (uint32_t j = i; ahead && j < i + ROWS && j < keys; j++)
				for (uint32_t c = d0; c < d0 + n; c += 32)
					_mm_prefetch(ahead + (size_t)j * d + c, _MM_HINT_T1);
			if (keys - i > 4)
				scores_block(si, ROWS, vecs, q, ki, k_stride, d, d0, n);
			else
				scores_block(si, 4, vecs, q, ki, k_stride, d, d0, n);
		}
	}
}

static void f32_scores(float *s, const void *q, uint32_t blocks, const void *k, size_t k_stride,
	uint32_t keys, uint32_t d, const uint16_t *ahead)
{
	for (uint32_t b = 0; b < blocks; b += VECS, ahead = NULL) {
		const float *qb = (const float *)q + (size_t)b * d * MLA_BLOCK;
		float *sb = s + (size_t)b * MLA_SCORES;

		switch (blocks - b) {
		case 1:
			scores_vecs(sb, 1, qb, k, k_stride, keys, d, ahead);
			break;
		case 2:
			scores_vecs(sb, 2, qb, k, k_stride, keys, d, ahead);
			break;
		case 3:
			scores_vecs(sb, 3, qb, k, k_stride, keys, d, ahead);
			break;
		default:
			scores_vecs(sb, VECS, qb, k, k_stride, keys, d, ahead);
		}
	}
}

/* `rows` lanes by 16 * vecs columns over keys key0 .. key0 + n - 1. */
INLINE void values_block(float *o, uint32_t rows, uint32_t vecs, const float *p, const float *corr,
	const float *v, size_t v_stride, uint32_t key0, uint32_t n, uint32_t dv)
{
	__m512 acc[ROWS][VECS];

	load(acc, rows, vecs, o, dv, 16);
#pragma GCC unroll 6
	for (uint32_t r = 0; !key0 && r < rows; r++)
#pragma GCC unroll 4
		for (uint32_t c = 0; c < vecs; c++)
			acc[r][c] = _mm512_mul_ps(acc[r][c], _mm512_set1_ps(corr[r]));
	add_products(acc, rows, vecs, (struct side){p + (size_t)key0 * MLA_BLOCK, 1, MLA_BLOCK},
		(struct side){v + key0 * v_stride, 16, v_stride}, n);
	store(o, dv, 16, acc, rows, vecs);
}

/* All lanes and keys by 16 * vecs columns. */
INLINE void values_vecs(float *o, uint32_t vecs, const float *p, const float *corr, const float *v,
	size_t v_stride, uint32_t blocks, uint32_t keys, uint32_t dv)
{
	for (uint32_t key0 = 0; key0 < keys; key0 += STEPS) {
		uint32_t n = keys - key0 < STEPS ? keys - key0 : STEPS;

		for (uint32_t b = 0; b < blocks; b++) {
			float *ob = o + (size_t)b * MLA_BLOCK * dv;
			const float *pb = p + (size_t)b * MLA_SCORES, *cb = corr + b * MLA_BLOCK;

			values_block(ob, 6, vecs, pb, cb, v, v_stride, key0, n, dv);
			values_block(ob + (size_t)6 * dv, 5, vecs, pb + 6, cb + 6, v, v_stride, key0,
				n, dv);
			values_block(ob + (size_t)11 * dv, 5, vecs, pb + 11, cb + 11, v, v_stride,
				key0, n, dv);
		}
	}
}

static void f32_values(float *o, const void *p, const float *corr, const void *v, size_t v_stride,
	uint32_t blocks, uint32_t keys, uint32_t dv)
{
	uint32_t even = (keys + 1) / 2 * 2, c = 0;

	for (; c + 16 * VECS <= dv; c += 16 * VECS)
		values_vecs(o + c, VECS, p, corr, (const float *)v + c, v_stride, blocks, even, dv);
	if (c < dv)
		values_vecs(o + c, 2, p, corr, (const float *)v + c, v_stride, blocks, even, dv);
}

/* What a block of expand() adds up. */
struct expand_block {
	const struct mla_panels *w;
	uint32_t col0;
	uint32_t k0;
	uint32_t n; /* steps */
};

/* `rows` keys by 16 * vecs columns over one block of k. */
INLINE void expand_block(float *out, size_t out_stride, uint32_t rows, uint32_t vecs, const float *x,
	size_t x_stride, const struct expand_block *e)
{
	const struct mla_panels *w = e->w;
	const float *b = (const float *)w->panels + (size_t)e->col0 * w->k + (size_t)e->k0 * 16;
	__m512 acc[ROWS][VECS];

	if (e->k0 && !w->scales)
		load(acc, rows, vecs, out, out_stride, 16);
	else
		zero(acc, rows, vecs);
	add_products(acc, rows, vecs, (struct side){x + e->k0, x_stride, 1},
		(struct side){b, (size_t)w->k * 16, 16}, e->n);
	if (w->scales)
#pragma GCC unroll 4
		for (uint32_t v = 0; v < vecs; v++) {
			size_t panel = e->col0 / WEIGHT_PANEL_ROWS + v / 2;
			__m512 scale = _mm512_set1_ps(w->scales[panel * w->k_blocks + e->k0 / STEPS]);

#pragma GCC unroll 6
			for (uint32_t r = 0; r < rows; r++) {
				__m512 c = _mm512_setzero_ps();

				if (e->k0)
					c = _mm512_load_ps(out + r * out_stride + v * 16);
				acc[r][v] = _mm512_fmadd_ps(acc[r][v], scale, c);
			}
		}
	if (e->k0 + e->n == w->k) {
#pragma GCC unroll 6
		for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
			for (uint32_t v = 0; v < vecs; v++)
				acc[r][v] = mla_avx512_widen(mla_avx512_round_bf16(acc[r][v]));
	}
	store(out, out_stride, 16, acc, rows, vecs);
}

INLINE void expand_vecs(float *out, size_t out_stride, uint32_t vecs, const float *x, size_t x_stride,
	uint32_t keys, struct expand_block e)
{
	for (e.k0 = 0; e.k0 < e.w->k; e.k0 += STEPS) {
		e.n = e.w->k - e.k0 < STEPS ? e.w->k - e.k0 : STEPS;
		for (uint32_t i = 0; i < keys; i += ROWS) {
			float *to = out + i * out_stride + e.col0;

			if (keys - i > 4)
				expand_block(to, out_stride, ROWS, vecs, x + i * x_stride, x_stride, &e);
			else
				expand_block(to, out_stride, 4, vecs, x + i * x_stride, x_stride, &e);
		}
	}
}

static void f32_expand(void *out, size_t out_stride, const void *x, size_t x_stride, uint32_t keys,
	const struct mla_panels *w)
{
	struct expand_block e = {.w = w};

	for (; e.col0 + 16 * VECS <= w->n; e.col0 += 16 * VECS)
		expand_vecs(out, out_stride, VECS, x, x_stride, keys, e);
	if (e.col0 < w->n)
		expand_vecs(out, out_stride, 2, x, x_stride, keys, e);
}

const struct mla_ukernels mla_ukernels_avx512_f32 = {
	.name = "avx512 f32",
	.widen = f32_widen,
	.widen_panels = f32_widen_panels,
	.pack_q = f32_pack_q,
	.scores = f32_scores,
	.softmax = mla_avx512_softmax_f32,
	.values = f32_values,
	.merge = mla_avx512_merge,
	.finish = mla_avx512_finish,
	.unpack_f8 = mla_avx512_unpack_f8,
	.expand = f32_expand,
};
