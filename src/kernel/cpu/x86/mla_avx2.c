/*
 * Attention core, AVX2 tier (with FMA). See cpu/mla.h.
 *
 * Same shape as the AVX-512 tier, in F32: queries and values are widened when they are packed
 * (queries [d][16 lanes], values [dv / 16][keys][16 columns]), key rows and kv_b when they are
 * read: a pair of BF16 is two F32 after one shift and one mask. Probabilities stay F32 [keys][16
 * lanes], with values that BF16 holds exactly. Each accumulator is one chain in ascending order.
 */
#include <immintrin.h>

#include "kernel/cpu/mla.h"

static __m256 even(__m256i pairs)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}

static __m256 odd(__m256i pairs)
{
	return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32((int)0xFFFF0000)));
}

static __m256i broadcast_pair(const void *p)
{
	int x;

	memcpy(&x, p, sizeof(x));
	return _mm256_set1_epi32(x);
}

static void avx2_pack_q(void *out, const uint16_t *a, size_t a_stride, uint32_t na,
	const uint16_t *b, size_t b_stride, uint32_t nb, uint32_t d, uint32_t lanes)
{
	float *q = out; /* [d, 16] */

	for (uint32_t i = 0; i < d; i++)
		for (uint32_t j = 0; j < MLA_BLOCK; j++) {
			uint16_t x = 0;

			if (j < lanes && i < na + nb)
				x = i < na ? a[j * a_stride + i] : b[j * b_stride + (i - na)];
			q[(size_t)i * MLA_BLOCK + j] = bf16_to_f32(x);
		}
}

static __m256 widen(const uint16_t *p)
{
	return even(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)));
}

static void avx2_pack_v(
	void *out, uint32_t at, const uint16_t *rows, size_t stride, uint32_t keys, uint32_t dv)
{
	for (uint32_t c = 0; c < dv; c += 16) {
		float *to = (float *)out + (size_t)c * MLA_TILE + at * 16;

		for (uint32_t i = 0; i < MLA_CHUNK; i++, to += 16) {
			__m256 lo = _mm256_setzero_ps(), hi = lo;

			if (i < keys) {
				lo = widen(rows + i * stride + c);
				hi = widen(rows + i * stride + c + 8);
			}
			_mm256_store_ps(to, lo);
			_mm256_store_ps(to + 8, hi);
		}
	}
}

/* 4 keys by one lane block. */
static inline void scores_4(
	float *s, const float *q, const uint16_t *k, size_t k_stride, uint32_t d)
{
	__m256 acc[4][2];

	for (uint32_t i = 0; i < 4; i++)
		acc[i][0] = acc[i][1] = _mm256_setzero_ps();
	for (uint32_t j = 0; j < d; j += 2) {
		const float *qj = q + (size_t)j * MLA_BLOCK;

#pragma GCC unroll 4
		for (uint32_t i = 0; i < 4; i++) {
			__m256i x = broadcast_pair(k + i * k_stride + j);
			__m256 x0 = even(x), x1 = odd(x);

			acc[i][0] = _mm256_fmadd_ps(x0, _mm256_load_ps(qj), acc[i][0]);
			acc[i][1] = _mm256_fmadd_ps(x0, _mm256_load_ps(qj + 8), acc[i][1]);
			acc[i][0] = _mm256_fmadd_ps(x1, _mm256_load_ps(qj + 16), acc[i][0]);
			acc[i][1] = _mm256_fmadd_ps(x1, _mm256_load_ps(qj + 24), acc[i][1]);
		}
	}
	for (uint32_t i = 0; i < 4; i++) {
		_mm256_store_ps(s + i * MLA_BLOCK, acc[i][0]);
		_mm256_store_ps(s + i * MLA_BLOCK + 8, acc[i][1]);
	}
}

static void avx2_scores(float *s, const void *q, uint32_t blocks, const void *k, size_t k_stride,
	uint32_t keys, uint32_t d, float *wide, const uint16_t *ahead)
{
	for (uint32_t b = 0; b < blocks; b++)
		for (uint32_t i = 0; i < keys; i += 4)
			scores_4(s + (size_t)b * MLA_SCORES + i * MLA_BLOCK,
				(const float *)q + (size_t)b * d * MLA_BLOCK,
				(const uint16_t *)k + i * k_stride, k_stride, d);
}

/* 2^x for x <= 0: 1 exactly at 0, 0 below the normal range; relative error below 2e-7. */
static inline __m256 exp2_neg(__m256 x)
{
	__m256 normal = _mm256_cmp_ps(x, _mm256_set1_ps(-126.0f), _CMP_GT_OQ);
	__m256 n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	__m256 r = _mm256_sub_ps(x, n);
	__m256 p = _mm256_set1_ps(1.5403530e-4f);
	__m256i e;

	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3333558e-3f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(9.6181291e-3f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.5504109e-2f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(2.4022651e-1f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(6.9314718e-1f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
	e = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
	return _mm256_and_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(e)), normal);
}

/* BF16 bits of a number that is no NaN, in the upper half of each element. */
static inline __m256i round_bf16(__m256 x)
{
	__m256i u = _mm256_castps_si256(x);
	__m256i lsb = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));

	u = _mm256_add_epi32(u, _mm256_add_epi32(lsb, _mm256_set1_epi32(0x7FFF)));
	return _mm256_and_si256(u, _mm256_set1_epi32((int)0xFFFF0000));
}

/* 8 lanes of a block. */
static void softmax_8(float *s, uint32_t keys, uint32_t key0, const uint32_t *limit, float scale2,
	float *max, float *sum, float *corr)
{
	const __m256 minus_inf = _mm256_set1_ps(-INFINITY);
	__m256i lim = _mm256_loadu_si256((const __m256i *)limit); /* below 2^31 */
	__m256 old = _mm256_loadu_ps(max), m = old, base, factor, total[2];
	__m256 sc = _mm256_set1_ps(scale2);

	for (uint32_t i = 0; i < keys; i++) {
		__m256i seen = _mm256_cmpgt_epi32(lim, _mm256_set1_epi32((int)(key0 + i)));
		__m256 t = _mm256_mul_ps(_mm256_load_ps(s + i * MLA_BLOCK), sc);

		t = _mm256_blendv_ps(minus_inf, t, _mm256_castsi256_ps(seen));
		m = _mm256_max_ps(m, t);
		_mm256_store_ps(s + i * MLA_BLOCK, t);
	}
	/* A lane that has seen no key keeps -inf as its maximum; its probabilities are zero. */
	base = _mm256_andnot_ps(_mm256_cmp_ps(m, minus_inf, _CMP_EQ_OQ), m);
	factor = exp2_neg(_mm256_sub_ps(old, base));
	total[0] = total[1] = _mm256_setzero_ps();
	for (uint32_t i = 0; i < keys; i++) {
		__m256 e = exp2_neg(_mm256_sub_ps(_mm256_load_ps(s + i * MLA_BLOCK), base));

		e = _mm256_castsi256_ps(round_bf16(e));
		total[i % 2] = _mm256_add_ps(total[i % 2], e);
		_mm256_store_ps(s + i * MLA_BLOCK, e);
	}
	_mm256_storeu_ps(max, m);
	_mm256_storeu_ps(corr, factor);
	_mm256_storeu_ps(sum,
		_mm256_fmadd_ps(_mm256_loadu_ps(sum), factor, _mm256_add_ps(total[0], total[1])));
}

static void avx2_softmax(float *s, uint32_t blocks, uint32_t keys, uint32_t key0,
	const uint32_t *limit, float scale2, float *max, float *sum, float *corr)
{
	for (uint32_t lane = 0; lane < blocks * MLA_BLOCK; lane += 8) {
		size_t at = (size_t)lane / MLA_BLOCK * MLA_SCORES + lane % MLA_BLOCK;

		softmax_8(s + at, keys, key0, limit + lane, scale2, max + lane, sum + lane,
			corr + lane);
	}
}

/* 4 lanes by 16 columns. p: first lane's key 0; v: the slab [keys][16]. */
static inline void values_4(
	float *o, const float *p, const float *corr, const float *v, uint32_t keys, uint32_t dv)
{
	__m256 acc[4][2];

#pragma GCC unroll 4
	for (uint32_t i = 0; i < 4; i++) {
		__m256 c = _mm256_set1_ps(corr[i]);

		acc[i][0] = _mm256_mul_ps(_mm256_load_ps(o + (size_t)i * dv), c);
		acc[i][1] = _mm256_mul_ps(_mm256_load_ps(o + (size_t)i * dv + 8), c);
	}
	for (uint32_t j = 0; j < keys; j++) {
		__m256 v0 = _mm256_load_ps(v + j * 16), v1 = _mm256_load_ps(v + j * 16 + 8);

#pragma GCC unroll 4
		for (uint32_t i = 0; i < 4; i++) {
			__m256 x = _mm256_broadcast_ss(p + j * MLA_BLOCK + i);

			acc[i][0] = _mm256_fmadd_ps(x, v0, acc[i][0]);
			acc[i][1] = _mm256_fmadd_ps(x, v1, acc[i][1]);
		}
	}
#pragma GCC unroll 4
	for (uint32_t i = 0; i < 4; i++) {
		_mm256_store_ps(o + (size_t)i * dv, acc[i][0]);
		_mm256_store_ps(o + (size_t)i * dv + 8, acc[i][1]);
	}
}

static void avx2_values(float *o, const void *p, const float *corr, const void *v, size_t v_stride,
	uint32_t blocks, uint32_t keys, uint32_t dv)
{
	for (uint32_t c = 0; c < dv; c += 16)
		for (uint32_t lane = 0; lane < blocks * MLA_BLOCK; lane += 4)
			values_4(o + (size_t)lane * dv + c,
				(const float *)p + (size_t)lane / MLA_BLOCK * MLA_SCORES +
					lane % MLA_BLOCK,
				corr + lane, (const float *)v + (size_t)c * MLA_TILE, keys, dv);
}

static void avx2_merge(float *ao, float *amax, float *asum, const float *bo, const float *bmax,
	const float *bsum, uint32_t lanes, uint32_t dv)
{
	for (uint32_t j = 0; j < lanes; j++) {
		__m256 ma = _mm256_set1_ps(amax[j]), mb = _mm256_set1_ps(bmax[j]);
		__m256 m = _mm256_max_ps(ma, mb);
		__m256 fa = exp2_neg(_mm256_sub_ps(ma, m)), fb = exp2_neg(_mm256_sub_ps(mb, m));
		float *a = ao + (size_t)j * dv;
		const float *b = bo + (size_t)j * dv;

		if (bsum[j] == 0)
			continue;
		asum[j] = asum[j] * _mm256_cvtss_f32(fa) + bsum[j] * _mm256_cvtss_f32(fb);
		amax[j] = _mm256_cvtss_f32(m);
		for (uint32_t i = 0; i < dv; i += 8)
			_mm256_store_ps(a + i, _mm256_fmadd_ps(_mm256_load_ps(a + i), fa,
						       _mm256_mul_ps(_mm256_load_ps(b + i), fb)));
	}
}

static void avx2_finish(uint16_t *out, size_t out_stride, const float *o, const float *sum,
	uint32_t lanes, uint32_t dv)
{
	for (uint32_t j = 0; j < lanes; j++) {
		float r = 1.0f / sum[j];

		for (uint32_t i = 0; i < dv; i++)
			out[j * out_stride + i] = f32_to_bf16(o[(size_t)j * dv + i] * r + 0.0f);
	}
}

static void avx2_unpack_f8(uint16_t *out, const uint8_t *in, size_t n, int exponent)
{
	uint16_t table[256];

	for (uint32_t i = 0; i < 256; i++)
		table[i] = f32_to_bf16(ldexpf(f8e4m3_to_f32((uint8_t)i), exponent));
	for (size_t i = 0; i < n; i++)
		out[i] = table[in[i]];
}

/* Adds 4 keys times k values [k0, k1) of one tile of 16 rows to acc. */
static inline void expand_4(__m256 acc[4][2], const uint16_t *x, size_t x_stride,
	const uint16_t *tile, uint32_t k0, uint32_t k1)
{
	for (uint32_t k = k0; k < k1; k += 2) {
		/* Steps of 32 k hold two tiles of 512 values: kernel/weight.h. */
		const uint16_t *w = tile + (size_t)(k / 32) * 1024 + k % 32 * 16;
		__m256i w0 = _mm256_load_si256((const __m256i *)w);
		__m256i w1 = _mm256_load_si256((const __m256i *)(w + 16));

#pragma GCC unroll 4
		for (uint32_t i = 0; i < 4; i++) {
			__m256i b = broadcast_pair(x + i * x_stride + k);

			acc[i][0] = _mm256_fmadd_ps(even(w0), even(b), acc[i][0]);
			acc[i][1] = _mm256_fmadd_ps(even(w1), even(b), acc[i][1]);
			acc[i][0] = _mm256_fmadd_ps(odd(w0), odd(b), acc[i][0]);
			acc[i][1] = _mm256_fmadd_ps(odd(w1), odd(b), acc[i][1]);
		}
	}
}

/* 4 keys by 16 rows of panel `panel`: tile 0 or 1. */
static void expand_tile(uint16_t *out, size_t out_stride, const uint16_t *x, size_t x_stride,
	const struct mla_panels *w, uint32_t panel, uint32_t tile)
{
	const uint16_t *from = (const uint16_t *)(w->panels + panel * w->panel_bytes) + tile * 512;
	__m256 acc[4][2], part[4][2];

	for (uint32_t i = 0; i < 4; i++)
		acc[i][0] = acc[i][1] = _mm256_setzero_ps();
	if (!w->scales)
		expand_4(acc, x, x_stride, from, 0, w->k);
	for (uint32_t blk = 0; blk < w->k_blocks; blk++) {
		uint32_t end = (blk + 1) * WEIGHT_SCALE_BLOCK;
		__m256 scale = _mm256_set1_ps(w->scales[panel * w->k_blocks + blk]);

		for (uint32_t i = 0; i < 4; i++)
			part[i][0] = part[i][1] = _mm256_setzero_ps();
		expand_4(
			part, x, x_stride, from, blk * WEIGHT_SCALE_BLOCK, end < w->k ? end : w->k);
		for (uint32_t i = 0; i < 4; i++) {
			acc[i][0] = _mm256_fmadd_ps(part[i][0], scale, acc[i][0]);
			acc[i][1] = _mm256_fmadd_ps(part[i][1], scale, acc[i][1]);
		}
	}
	for (uint32_t i = 0; i < 4; i++) {
		float row[16];

		_mm256_storeu_ps(row, acc[i][0]);
		_mm256_storeu_ps(row + 8, acc[i][1]);
		for (uint32_t j = 0; j < 16; j++)
			out[i * out_stride + j] = f32_to_bf16(row[j]);
	}
}

static void avx2_expand(void *out, size_t out_stride, const void *x, size_t x_stride, uint32_t keys,
	const struct mla_panels *w, float *wide)
{
	for (uint32_t row = 0; row < w->n; row += 16)
		for (uint32_t i = 0; i < keys; i += 4)
			expand_tile((uint16_t *)out + i * out_stride + row, out_stride,
				(const uint16_t *)x + i * x_stride, x_stride, w,
				row / WEIGHT_PANEL_ROWS, row % WEIGHT_PANEL_ROWS / 16);
}

const struct mla_ukernels mla_ukernels_avx2 = {
	.pack_q = avx2_pack_q,
	.pack_v = avx2_pack_v,
	.scores = avx2_scores,
	.softmax = avx2_softmax,
	.values = avx2_values,
	.merge = avx2_merge,
	.finish = avx2_finish,
	.unpack_f8 = avx2_unpack_f8,
	.expand = avx2_expand,
};
