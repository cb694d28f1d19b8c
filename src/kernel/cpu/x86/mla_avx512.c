/*
 * Attention core, AVX-512 tier (VNNI, BF16). See cpu/mla.h.
 *
 * Both products are VDPBF16PS with the lanes of the accumulator on the packed side and a broadcast
 * pair from the other side:
 *   scores: packed queries [d / 2][16 lanes][2], broadcast pairs of adjacent columns of a key row,
 *           so that cache rows are read as they lie;
 *   values: packed values [dv / 32][keys / 2][32 columns][2], broadcast pairs of adjacent keys of
 *           probabilities [keys / 2][16 lanes][2], which is how softmax leaves them.
 * Softmax never crosses vector lanes. Each accumulator is one chain in ascending order.
 */
#include <immintrin.h>

#include "kernel/cpu/mla.h"
#include "kernel/cpu/x86/mla_avx512.h"

#define SLAB (MLA_TILE * 32) /* values of 32 packed columns */

static __m512bh as_bh(__m512i x)
{
	return (__m512bh)x;
}

static __m512i broadcast_pair(const void *p)
{
	int x;

	memcpy(&x, p, sizeof(x));
	return _mm512_set1_epi32(x);
}

void mla_avx512_pack_q(void *out, const uint16_t *a, size_t a_stride, uint32_t na,
	const uint16_t *b, size_t b_stride, uint32_t nb, uint32_t d, uint32_t lanes)
{
	__m512i r[16];

	for (uint32_t i = 0; i < d; i += 32) {
		mla_avx512_load_pairs(r, i, a, a_stride, na, b, b_stride, nb, lanes);
		for (uint32_t j = 0; j < 16; j++)
			_mm512_store_si512((uint16_t *)out + (size_t)i * MLA_BLOCK + j * 32, r[j]);
	}
}

void mla_avx512_pack_v(
	void *out, uint32_t at, const uint16_t *rows, size_t stride, uint32_t keys, uint32_t dv)
{
	const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9,
		40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
	const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));

	for (uint32_t c = 0; c < dv; c += 32) {
		uint16_t *to = (uint16_t *)out + (size_t)c / 32 * SLAB + at * 32;

		for (uint32_t i = 0; i < MLA_CHUNK; i += 2) {
			const uint16_t *row = rows + i * stride + c;
			__m512i r0 = i < keys ? _mm512_loadu_si512(row) : _mm512_setzero_si512();
			__m512i r1 = i + 1 < keys ? _mm512_loadu_si512(row + stride)
						  : _mm512_setzero_si512();

			_mm512_store_si512(to, _mm512_permutex2var_epi16(r0, low, r1));
			_mm512_store_si512(to + 32, _mm512_permutex2var_epi16(r0, high, r1));
			to += 64;
		}
	}
}

/* 8 keys by `nq` (1 or 2) lane blocks. ahead: as many key rows to prefetch, or NULL. */
static inline __attribute__((always_inline)) void scores_8(float *s, const uint16_t *q, uint32_t nq,
	const uint16_t *k, size_t k_stride, uint32_t d, const uint16_t *ahead)
{
	const uint16_t *k4 = k + 4 * k_stride;
	__m512 acc[8][2];

	for (uint32_t i = 0; i < 8; i++)
		acc[i][0] = acc[i][1] = _mm512_setzero_ps();
	for (uint32_t j = 0; j < d; j += 2) {
		__m512i q0 = _mm512_load_si512(q + (size_t)j * MLA_BLOCK), q1 = q0;

		if (nq == 2)
			q1 = _mm512_load_si512(q + (size_t)(d * 2 + j) * MLA_BLOCK);
		if (ahead) /* 32 bytes a pair of columns */
			_mm_prefetch(ahead + (size_t)j * 8, _MM_HINT_T1);
#pragma GCC unroll 8
		for (uint32_t i = 0; i < 8; i++) {
			const uint16_t *row = i < 4 ? k + i * k_stride : k4 + (i - 4) * k_stride;
			__m512i x = broadcast_pair(row + j);

			acc[i][0] = _mm512_dpbf16_ps(acc[i][0], as_bh(q0), as_bh(x));
			if (nq == 2)
				acc[i][1] = _mm512_dpbf16_ps(acc[i][1], as_bh(q1), as_bh(x));
		}
	}
	for (uint32_t i = 0; i < 8; i++) {
		_mm512_store_ps(s + i * MLA_BLOCK, acc[i][0]);
		if (nq == 2)
			_mm512_store_ps(s + MLA_SCORES + i * MLA_BLOCK, acc[i][1]);
	}
}

static void avx512_scores(float *s, const void *q, uint32_t blocks, const void *k, size_t k_stride,
	uint32_t keys, uint32_t d, float *wide, const uint16_t *ahead)
{
	/* The driver reserves 4 bytes for each packed value: blocks lie 2 * d * 16 BF16 apart. */
	for (uint32_t b = 0; b < blocks; b += 2) {
		const uint16_t *qb = (const uint16_t *)q + (size_t)b * 2 * d * MLA_BLOCK;
		float *sb = s + (size_t)b * MLA_SCORES;

		for (uint32_t i = 0; i < keys; i += 8) {
			const uint16_t *ki = (const uint16_t *)k + i * k_stride;
			const uint16_t *next = ahead && !b ? ahead + i * k_stride : NULL;

			if (b + 1 < blocks && next)
				scores_8(sb + i * MLA_BLOCK, qb, 2, ki, k_stride, d, next);
			else if (b + 1 < blocks)
				scores_8(sb + i * MLA_BLOCK, qb, 2, ki, k_stride, d, NULL);
			else
				scores_8(sb + i * MLA_BLOCK, qb, 1, ki, k_stride, d,
					next ? next : ki);
		}
	}
}

/* 2^x for x <= 0: 1 exactly at 0, 0 below the normal range; relative error below 2e-7. */
static inline __m512 exp2_neg(__m512 x)
{
	__mmask16 normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.0f), _CMP_GT_OQ);
	__m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	__m512 r = _mm512_sub_ps(x, n);
	__m512 p = _mm512_set1_ps(1.5403530e-4f);

	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3333558e-3f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.6181291e-3f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.5504109e-2f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4022651e-1f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9314718e-1f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
	return _mm512_maskz_scalef_ps(normal, p, n);
}

/* Maxima of m and of the scores times sc. Masked where a lane does not see all keys; scores that are
 * not seen become -inf times sc. */
static __m512 softmax_max(float *s, uint32_t keys, uint32_t key0, __m512i limit, __m512 sc, __m512 m)
{
	const __m512 minus_inf = _mm512_set1_ps(-INFINITY);
	__mmask16 all = _mm512_cmpge_epu32_mask(limit, _mm512_set1_epi32((int)(key0 + keys)));
	__m512 x[4] = {m, m, m, m};
	uint32_t i = 0;

	for (; all == 0xFFFF && i + 4 <= keys; i += 4)
#pragma GCC unroll 4
		for (uint32_t j = 0; j < 4; j++)
			x[j] = _mm512_max_ps(
				x[j], _mm512_mul_ps(_mm512_load_ps(s + (i + j) * MLA_BLOCK), sc));
	for (; i < keys; i++) {
		__mmask16 seen = _mm512_cmpgt_epu32_mask(limit, _mm512_set1_epi32((int)(key0 + i)));
		__m512 t = _mm512_mask_mov_ps(minus_inf, seen, _mm512_load_ps(s + i * MLA_BLOCK));

		_mm512_store_ps(s + i * MLA_BLOCK, t);
		x[0] = _mm512_max_ps(x[0], _mm512_mul_ps(t, sc));
	}
	return _mm512_max_ps(_mm512_max_ps(x[0], x[1]), _mm512_max_ps(x[2], x[3]));
}

/* Probabilities take the place of scores: key i of F32 rows at s + i * 16, else pair i of keys. */
static inline __attribute__((always_inline)) void softmax_block(float *s, uint32_t keys,
	uint32_t key0, const uint32_t *limit, float scale2, float *max, float *sum, float *corr, bool rows)
{
	const __m512 minus_inf = _mm512_set1_ps(-INFINITY);
	__m512 old = _mm512_loadu_ps(max), sc = _mm512_set1_ps(scale2), m, base, factor;
	__m512 total0 = _mm512_setzero_ps(), total1 = total0;
	uint32_t even = keys & ~1u, i = 0;

	m = softmax_max(s, keys, key0, _mm512_loadu_si512(limit), sc, old);
	/* A lane that has seen no key keeps -inf as its maximum; its probabilities are zero. */
	base = _mm512_mask_mov_ps(m, _mm512_cmpeq_ps_mask(m, minus_inf), _mm512_setzero_ps());
	factor = exp2_neg(_mm512_sub_ps(old, base));
	if (keys > even)
		_mm512_store_ps(s + (size_t)keys * MLA_BLOCK, minus_inf);
	for (; i < keys; i += 2) {
		float *si = s + (size_t)i * MLA_BLOCK;
		__m512 t0 = _mm512_mul_ps(_mm512_load_ps(si), sc);
		__m512 t1 = _mm512_mul_ps(_mm512_load_ps(si + MLA_BLOCK), sc);
		__m512i p0 = mla_avx512_round_bf16(exp2_neg(_mm512_sub_ps(t0, base)));
		__m512i p1 = mla_avx512_round_bf16(exp2_neg(_mm512_sub_ps(t1, base)));
		__m512 w0 = mla_avx512_widen(p0), w1 = mla_avx512_widen(p1);

		total0 = _mm512_add_ps(total0, w0);
		total1 = _mm512_add_ps(total1, w1);
		if (rows) {
			_mm512_store_ps(si, w0);
			_mm512_store_ps(si + MLA_BLOCK, w1);
		} else {
			_mm512_store_si512(s + i / 2 * MLA_BLOCK,
				_mm512_or_si512(p0, _mm512_castps_si512(w1)));
		}
	}
	/* Tiles read pairs of keys in steps of 32 keys. */
	for (; !rows && i % 32; i += 2)
		_mm512_store_si512(s + i / 2 * MLA_BLOCK, _mm512_setzero_si512());
	_mm512_storeu_ps(max, m);
	_mm512_storeu_ps(corr, factor);
	_mm512_storeu_ps(
		sum, _mm512_fmadd_ps(_mm512_loadu_ps(sum), factor, _mm512_add_ps(total0, total1)));
}

void mla_avx512_softmax(float *s, uint32_t blocks, uint32_t keys, uint32_t key0,
	const uint32_t *limit, float scale2, float *max, float *sum, float *corr)
{
	for (uint32_t b = 0; b < blocks; b++)
		softmax_block(s + (size_t)b * MLA_SCORES, keys, key0, limit + b * MLA_BLOCK, scale2,
			max + b * MLA_BLOCK, sum + b * MLA_BLOCK, corr + b * MLA_BLOCK, false);
}

void mla_avx512_softmax_f32(float *s, uint32_t blocks, uint32_t keys, uint32_t key0,
	const uint32_t *limit, float scale2, float *max, float *sum, float *corr)
{
	for (uint32_t b = 0; b < blocks; b++)
		softmax_block(s + (size_t)b * MLA_SCORES, keys, key0, limit + b * MLA_BLOCK, scale2,
			max + b * MLA_BLOCK, sum + b * MLA_BLOCK, corr + b * MLA_BLOCK, true);
}

/* 8 lanes by 32 columns over `pairs` key pairs. p: first lane's pair 0; v: the slab. */
static inline void values_8(float *o, const uint16_t *p, const float *corr, const uint16_t *v,
	uint32_t pairs, uint32_t dv)
{
	__m512 acc[8][2];

#pragma GCC unroll 8
	for (uint32_t i = 0; i < 8; i++) {
		__m512 c = _mm512_set1_ps(corr[i]);

		acc[i][0] = _mm512_mul_ps(_mm512_load_ps(o + (size_t)i * dv), c);
		acc[i][1] = _mm512_mul_ps(_mm512_load_ps(o + (size_t)i * dv + 16), c);
	}
	for (uint32_t j = 0; j < pairs; j++) {
		__m512i v0 = _mm512_load_si512(v + (size_t)j * 64);
		__m512i v1 = _mm512_load_si512(v + (size_t)j * 64 + 32);

#pragma GCC unroll 8
		for (uint32_t i = 0; i < 8; i++) {
			__m512i x = broadcast_pair(p + (size_t)j * 2 * MLA_BLOCK + 2 * i);

			acc[i][0] = _mm512_dpbf16_ps(acc[i][0], as_bh(v0), as_bh(x));
			acc[i][1] = _mm512_dpbf16_ps(acc[i][1], as_bh(v1), as_bh(x));
		}
	}
#pragma GCC unroll 8
	for (uint32_t i = 0; i < 8; i++) {
		_mm512_store_ps(o + (size_t)i * dv, acc[i][0]);
		_mm512_store_ps(o + (size_t)i * dv + 16, acc[i][1]);
	}
}

static void avx512_values(float *o, const void *p, const float *corr, const void *v, size_t v_stride,
	uint32_t blocks, uint32_t keys, uint32_t dv)
{
	uint32_t pairs = (keys + 1) / 2;

	for (uint32_t c = 0; c < dv; c += 32)
		for (uint32_t lane = 0; lane < blocks * MLA_BLOCK; lane += 8)
			values_8(o + (size_t)lane * dv + c,
				(const uint16_t *)p + (size_t)lane / MLA_BLOCK * 2 * MLA_SCORES +
					lane % MLA_BLOCK * 2,
				corr + lane, (const uint16_t *)v + (size_t)c / 32 * SLAB, pairs,
				dv);
}

void mla_avx512_merge(float *ao, float *amax, float *asum, const float *bo, const float *bmax,
	const float *bsum, uint32_t lanes, uint32_t dv)
{
	float fa[MLA_BLOCK], fb[MLA_BLOCK];

	for (uint32_t b = 0; b < lanes; b += MLA_BLOCK) {
		__m512 ma = _mm512_loadu_ps(amax + b), mb = _mm512_loadu_ps(bmax + b);
		__m512 m = _mm512_max_ps(ma, mb);
		__m512 xa = exp2_neg(_mm512_sub_ps(ma, m)), xb = exp2_neg(_mm512_sub_ps(mb, m));
		__m512 sa = _mm512_loadu_ps(asum + b), sb = _mm512_loadu_ps(bsum + b);
		__mmask16 live = _mm512_cmp_ps_mask(sb, _mm512_setzero_ps(), _CMP_NEQ_UQ);

		sb = _mm512_fmadd_ps(sa, xa, _mm512_mul_ps(sb, xb));
		_mm512_mask_storeu_ps(asum + b, live, sb);
		_mm512_mask_storeu_ps(amax + b, live, m);
		_mm512_storeu_ps(fa, xa);
		_mm512_storeu_ps(fb, xb);
		for (uint32_t j = 0; j < MLA_BLOCK; j++) {
			float *a = ao + (size_t)(b + j) * dv;
			const float *c = bo + (size_t)(b + j) * dv;

			if (!(live >> j & 1))
				continue;
			for (uint32_t i = 0; i < dv; i += 16)
				_mm512_store_ps(a + i, _mm512_fmadd_ps(_mm512_load_ps(a + i),
							       _mm512_set1_ps(fa[j]),
							       _mm512_mul_ps(_mm512_load_ps(c + i),
								       _mm512_set1_ps(fb[j]))));
		}
	}
}

void mla_avx512_finish(uint16_t *out, size_t out_stride, const float *o, const float *sum,
	uint32_t lanes, uint32_t dv)
{
	for (uint32_t j = 0; j < lanes; j++) {
		__m512 r = _mm512_set1_ps(1.0f / sum[j]), zero = _mm512_setzero_ps();

		for (uint32_t i = 0; i < dv; i += 32) {
			const float *from = o + (size_t)j * dv + i;
			__m512 lo = _mm512_fmadd_ps(_mm512_load_ps(from), r, zero);
			__m512 hi = _mm512_fmadd_ps(_mm512_load_ps(from + 16), r, zero);

			_mm512_storeu_si512(
				out + j * out_stride + i, (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
		}
	}
}

void mla_avx512_unpack_f8(uint16_t *out, const uint8_t *in, size_t n, int exponent)
{
	/* Without a leading bit (exponent 0) the value is man * 2^-9, man = 0 .. 7. */
	const __m512i small = _mm512_castsi128_si512(
		_mm_set_epi16(0x3C60, 0x3C40, 0x3C20, 0x3C00, 0x3BC0, 0x3B80, 0x3B00, 0));
	const __m512i low7 = _mm512_set1_epi16(0x7F);
	const __m512i shift = _mm512_set1_epi16((short)(exponent * 128));

	for (size_t i = 0; i < n; i += 32) {
		__m512i x = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(in + i)));
		__m512i abs = _mm512_and_si512(x, low7);
		__m512i y = _mm512_add_epi16(_mm512_slli_epi16(abs, 4), _mm512_set1_epi16(0x3C00));

		y = _mm512_mask_permutexvar_epi16(
			y, _mm512_cmplt_epu16_mask(abs, _mm512_set1_epi16(8)), abs, small);
		y = _mm512_maskz_add_epi16(_mm512_test_epi16_mask(abs, abs), y, shift);
		y = _mm512_mask_mov_epi16(
			y, _mm512_cmpeq_epi16_mask(abs, low7), _mm512_set1_epi16(0x7FC0));
		y = _mm512_or_si512(y, _mm512_slli_epi16(_mm512_andnot_si512(low7, x), 8));
		_mm512_storeu_si512(out + i, y);
	}
}

/* Adds 8 keys times k values [k0, k1) of one panel to acc: [8 keys][2 tiles of 16 rows]. */
static inline __attribute__((always_inline)) void expand_8(__m512 acc[8][2], const uint16_t *x,
	size_t x_stride, const uint16_t *panel, uint32_t k0, uint32_t k1)
{
	const uint16_t *x4 = x + 4 * x_stride;

	for (uint32_t k = k0; k < k1; k += 2) {
		/* Steps of 32 k hold two tiles of 512 values: kernel/weight.h. */
		const uint16_t *w = panel + (size_t)(k / 32) * 1024 + k % 32 * 16;
		__m512i w0 = _mm512_load_si512(w), w1 = _mm512_load_si512(w + 512);

#pragma GCC unroll 8
		for (uint32_t i = 0; i < 8; i++) {
			const uint16_t *row = i < 4 ? x + i * x_stride : x4 + (i - 4) * x_stride;
			__m512i b = broadcast_pair(row + k);

			acc[i][0] = _mm512_dpbf16_ps(acc[i][0], as_bh(w0), as_bh(b));
			acc[i][1] = _mm512_dpbf16_ps(acc[i][1], as_bh(w1), as_bh(b));
		}
	}
}

static void expand_panel(uint16_t *out, size_t out_stride, const uint16_t *x, size_t x_stride,
	const struct mla_panels *w, uint32_t panel)
{
	const uint16_t *from = (const uint16_t *)(w->panels + panel * w->panel_bytes);
	__m512 acc[8][2], part[8][2];

	for (uint32_t i = 0; i < 8; i++)
		acc[i][0] = acc[i][1] = _mm512_setzero_ps();
	if (!w->scales)
		expand_8(acc, x, x_stride, from, 0, w->k);
	for (uint32_t blk = 0; blk < w->k_blocks; blk++) {
		uint32_t end = (blk + 1) * WEIGHT_SCALE_BLOCK;
		__m512 scale = _mm512_set1_ps(w->scales[panel * w->k_blocks + blk]);

		for (uint32_t i = 0; i < 8; i++)
			part[i][0] = part[i][1] = _mm512_setzero_ps();
		expand_8(
			part, x, x_stride, from, blk * WEIGHT_SCALE_BLOCK, end < w->k ? end : w->k);
		for (uint32_t i = 0; i < 8; i++) {
			acc[i][0] = _mm512_fmadd_ps(part[i][0], scale, acc[i][0]);
			acc[i][1] = _mm512_fmadd_ps(part[i][1], scale, acc[i][1]);
		}
	}
	for (uint32_t i = 0; i < 8; i++)
		_mm512_storeu_si512(
			out + i * out_stride, (__m512i)_mm512_cvtne2ps_pbh(acc[i][1], acc[i][0]));
}

static void avx512_expand(void *out, size_t out_stride, const void *x, size_t x_stride, uint32_t keys,
	const struct mla_panels *w, float *wide)
{
	for (uint32_t panel = 0; panel < w->n / WEIGHT_PANEL_ROWS; panel++)
		for (uint32_t i = 0; i < keys; i += 8)
			expand_panel((uint16_t *)out + i * out_stride + panel * WEIGHT_PANEL_ROWS,
				out_stride, (const uint16_t *)x + i * x_stride, x_stride, w, panel);
}

const struct mla_ukernels mla_ukernels_avx512 = {
	.pack_q = mla_avx512_pack_q,
	.pack_v = mla_avx512_pack_v,
	.scores = avx512_scores,
	.softmax = mla_avx512_softmax,
	.values = avx512_values,
	.merge = mla_avx512_merge,
	.finish = mla_avx512_finish,
	.unpack_f8 = mla_avx512_unpack_f8,
	.expand = avx512_expand,
};
