/*
 * Attention core, AVX-512 tier, on F32 multiply-adds. See cpu/mla.h.
 *
 * For CPUs that do two multiply-adds a cycle but a VDPBF16PS only every other one (base/cpu.h). Bit for bit the
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
#define ALONE static __attribute__((noinline)) /* keeps its registers to itself */
#define STEPS 128u			       /* of a block: even, and WEIGHT_SCALE_BLOCK */
#define ROWS 6u
#define VECS 4u

_Static_assert(STEPS == WEIGHT_SCALE_BLOCK, "a block of sums has one scale");

/* acc[row][vec] += sum of a[row][j * a_step] * b[vec][j * b_step ..][16] over k steps, an even number. */
INLINE void add_products(__m512 acc[ROWS][VECS], uint32_t rows, uint32_t vecs,
	const float *const a[ROWS], size_t a_step, const float *const b[VECS], size_t b_step, uint32_t k)
{
	for (size_t j = 0; j < k; j += 2) {
#pragma GCC unroll 2
		for (int odd = 1; odd >= 0; odd--) {
			__m512 y[VECS];

#pragma GCC unroll 4
			for (uint32_t v = 0; v < vecs; v++)
				y[v] = _mm512_load_ps(b[v] + (j + odd) * b_step);
#pragma GCC unroll 6
			for (uint32_t r = 0; r < rows; r++) {
				__m512 x = _mm512_set1_ps(a[r][(j + odd) * a_step]);

#pragma GCC unroll 4
				for (uint32_t v = 0; v < vecs; v++)
					acc[r][v] = _mm512_fmadd_ps(x, y[v], acc[r][v]);
			}
		}
	}
}

/* Vector v of row r at p + r * row + v * vec. */
struct sums {
	float *p;
	size_t row;
	size_t vec;
};

/* Rows of one side of dots(): keys, or latents to be expanded. */
struct rows {
	float *p; /* F32 */
	size_t stride;
	uint32_t n;
	const uint16_t *narrow; /* BF16 rows of which to make them, or NULL */
	const uint16_t *ahead;	/* other BF16 rows to prefetch, or NULL */
};

/* Columns i .. i + n - 1, a multiple of 32, of BF16 rows to F32 ones. Just before a block of sums reads
 * them, so that the stores drain while it computes. */
ALONE void widen(float *out, const uint16_t *in, size_t stride, uint32_t rows, uint32_t i, uint32_t n)
{
	const __m512i low = _mm512_set_epi16(15, 0, 14, 0, 13, 0, 12, 0, 11, 0, 10, 0, 9, 0, 8, 0, 7, 0, 6,
		0, 5, 0, 4, 0, 3, 0, 2, 0, 1, 0, 0, 0);
	const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
	const __mmask32 odd = 0xAAAAAAAA;

	for (uint32_t r = 0; r < rows; r++, out += stride, in += stride)
		for (uint32_t c = i; c < i + n; c += 32) {
			__m512i x = _mm512_loadu_si512(in + c);

			_mm512_store_si512(out + c, _mm512_maskz_permutexvar_epi16(odd, low, x));
			_mm512_store_si512(out + c + 16, _mm512_maskz_permutexvar_epi16(odd, high, x));
		}
}

/* Up to 6 rows. */
INLINE void dots_block(uint32_t rows, uint32_t vecs, struct sums c, bool add, const float *x,
	size_t x_stride, const float *b, size_t b_vec, uint32_t k)
{
	const float *xr[ROWS], *bv[VECS];
	__m512 acc[ROWS][VECS];

	/* One register a row and vector; the compiler would keep more addresses than there are registers. */
#pragma GCC unroll 6
	for (uint32_t r = 0; r < rows; r++)
		__asm__("" : "=r"(xr[r]) : "0"(x + r * x_stride));
#pragma GCC unroll 4
	for (uint32_t v = 0; v < vecs; v++)
		__asm__("" : "=r"(bv[v]) : "0"(b + v * b_vec));
#pragma GCC unroll 6
	for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
		for (uint32_t v = 0; v < vecs; v++)
			acc[r][v] = add ? _mm512_load_ps(c.p + r * c.row + v * c.vec)
					: _mm512_setzero_ps();
	add_products(acc, rows, vecs, xr, 1, bv, 16, k);
#pragma GCC unroll 6
	for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
		for (uint32_t v = 0; v < vecs; v++)
			_mm512_store_ps(c.p + r * c.row + v * c.vec, acc[r][v]);
}

/* Dot products over steps k0 .. k0 + k - 1 of all rows with vectors [k][16], b_vec apart; added to c, or
 * alone. Rows are computed up to 4 or 6. */
INLINE void dots(uint32_t vecs, struct sums c, bool add, const struct rows *x, uint32_t k0,
	const float *b, size_t b_vec, uint32_t k)
{
	for (uint32_t i = 0; i < x->n; i += ROWS, c.p += ROWS * c.row) {
		uint32_t rows = x->n - i < ROWS ? x->n - i : ROWS;
		size_t at = i * x->stride;

		for (uint32_t r = 0; x->ahead && r < rows; r++)
			for (uint32_t j = k0; j < k0 + k; j += 32)
				_mm_prefetch(x->ahead + at + r * x->stride + j, _MM_HINT_T1);
		if (x->narrow)
			widen(x->p + at, x->narrow + at, x->stride, rows, k0, k);
		if (rows > 4)
			dots_block(ROWS, vecs, c, add, x->p + at + k0, x->stride, b, b_vec, k);
		else
			dots_block(4, vecs, c, add, x->p + at + k0, x->stride, b, b_vec, k);
	}
}

typedef void dots_fn(struct sums c, bool add, const struct rows *x, uint32_t k0, const float *b,
	size_t b_vec, uint32_t k);

#define DOTS(vecs)                                                                                      \
	ALONE void dots_##vecs(struct sums c, bool add, const struct rows *x, uint32_t k0,             \
		const float *b, size_t b_vec, uint32_t k)                                              \
	{                                                                                              \
		if (add)                                                                                \
			dots(vecs, c, true, x, k0, b, b_vec, k);                                        \
		else                                                                                    \
			dots(vecs, c, false, x, k0, b, b_vec, k);                                       \
	}
DOTS(1)
DOTS(2)
DOTS(3)
DOTS(4)

static dots_fn *const dots_of[] = {NULL, dots_1, dots_2, dots_3, dots_4}; /* by vectors */

/* 16 pairs of BF16 as two rows of 16. */
INLINE void store_pairs(float *out, __m512i pairs)
{
	_mm512_store_si512(out, _mm512_slli_epi32(pairs, 16));
	_mm512_store_si512(out + 16, _mm512_and_si512(pairs, _mm512_set1_epi32(-65536)));
}

static void wide_panels(float *out, const struct mla_panels *w)
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

static void wide_pack_q(void *out, const uint16_t *a, size_t a_stride, uint32_t na, const uint16_t *b,
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

static void wide_scores(float *s, const void *q, uint32_t blocks, const void *k, size_t k_stride,
	uint32_t keys, uint32_t d, float *wide, const uint16_t *ahead)
{
	struct rows x = {wide ? wide : (float *)k, k_stride, keys, wide ? k : NULL, ahead};

	for (uint32_t b = 0; b < blocks; b += VECS, x.narrow = x.ahead = NULL) {
		struct sums c = {s + (size_t)b * MLA_SCORES, MLA_BLOCK, MLA_SCORES};
		const float *qb = (const float *)q + (size_t)b * d * MLA_BLOCK;

		for (uint32_t i = 0; i < d; i += STEPS)
			dots_of[blocks - b < VECS ? blocks - b : VECS](c, i, &x, i,
				qb + (size_t)i * MLA_BLOCK, (size_t)d * MLA_BLOCK,
				d - i < STEPS ? d - i : STEPS);
	}
}

/* Lanes by 16 * vecs columns over n keys; corr: factors of o, or NULL. */
INLINE void values_block(uint32_t rows, uint32_t vecs, float *o, uint32_t dv, const float *corr,
	const float *p, const float *v, size_t v_stride, uint32_t n)
{
	__m512 acc[ROWS][VECS];

#pragma GCC unroll 6
	for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
		for (uint32_t c = 0; c < vecs; c++) {
			acc[r][c] = _mm512_load_ps(o + (size_t)r * dv + c * 16);
			if (corr)
				acc[r][c] = _mm512_mul_ps(acc[r][c], _mm512_set1_ps(corr[r]));
		}
	add_products(acc, rows, vecs, (const float *[]){p, p + 1, p + 2, p + 3, p + 4, p + 5}, MLA_BLOCK,
		(const float *[]){v, v + 16, v + 32, v + 48}, v_stride, n);
#pragma GCC unroll 6
	for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
		for (uint32_t c = 0; c < vecs; c++)
			_mm512_store_ps(o + (size_t)r * dv + c * 16, acc[r][c]);
}

#define VALUES(rows, vecs)                                                                              \
	ALONE void values_##rows##x##vecs(float *o, uint32_t dv, const float *corr, const float *p,    \
		const float *v, size_t v_stride, uint32_t n)                                           \
	{                                                                                              \
		values_block(rows, vecs, o, dv, corr, p, v, v_stride, n);                               \
	}
VALUES(6, 4)
VALUES(5, 4)
VALUES(6, 2)
VALUES(5, 2)

/* All lanes and keys by 64 columns, or 32. */
static void values_vecs(float *o, bool wide, const float *p, const float *corr, const float *v,
	size_t v_stride, uint32_t blocks, uint32_t keys, uint32_t dv)
{
	for (uint32_t key0 = 0; key0 < keys; key0 += STEPS) {
		uint32_t n = keys - key0 < STEPS ? keys - key0 : STEPS;
		const float *vk = v + key0 * v_stride;

		for (uint32_t b = 0; b < blocks; b++)
			for (uint32_t i = 0; i < MLA_BLOCK; i += i ? 5 : 6) { /* 6, 5, 5 lanes */
				const float *pk = p + (size_t)b * MLA_SCORES + (size_t)key0 * MLA_BLOCK + i;
				const float *factors = key0 ? NULL : corr + b * MLA_BLOCK + i;
				float *to = o + ((size_t)b * MLA_BLOCK + i) * dv;

				if (wide)
					(i ? values_5x4 : values_6x4)(
						to, dv, factors, pk, vk, v_stride, n);
				else
					(i ? values_5x2 : values_6x2)(
						to, dv, factors, pk, vk, v_stride, n);
			}
	}
}

static void wide_values(float *o, const void *p, const float *corr, const void *v, size_t v_stride,
	uint32_t blocks, uint32_t keys, uint32_t dv)
{
	uint32_t even = (keys + 1) / 2 * 2, c = 0;

	for (; c + 16 * VECS <= dv; c += 16 * VECS)
		values_vecs(o + c, true, p, corr, (const float *)v + c, v_stride, blocks, even, dv);
	if (c < dv)
		values_vecs(o + c, false, p, corr, (const float *)v + c, v_stride, blocks, even, dv);
}

/* c = c + part * scale, with one scale for 2 vectors; c starts at zero when `first`. */
static void expand_scale(struct sums c, struct sums part, uint32_t rows, uint32_t vecs, bool first,
	const float *scales, size_t scale_stride)
{
	for (uint32_t r = 0; r < rows; r++)
		for (uint32_t v = 0; v < vecs; v++) {
			float *at = c.p + r * c.row + v * c.vec;
			__m512 old = first ? _mm512_setzero_ps() : _mm512_load_ps(at);
			__m512 scale = _mm512_set1_ps(scales[v / 2 * scale_stride]);
			__m512 x = _mm512_load_ps(part.p + r * part.row + v * part.vec);

			_mm512_store_ps(at, _mm512_fmadd_ps(x, scale, old));
		}
}

static void expand_round(struct sums c, uint32_t rows, uint32_t vecs)
{
	for (uint32_t r = 0; r < rows; r++)
		for (uint32_t v = 0; v < vecs; v++) {
			float *at = c.p + r * c.row + v * c.vec;

			_mm512_store_ps(at, mla_avx512_widen(mla_avx512_round_bf16(_mm512_load_ps(at))));
		}
}

/* All latents by 16 * vecs outputs from `col` on. */
static void expand_cols(
	struct sums out, uint32_t vecs, const struct rows *x, const struct mla_panels *w, uint32_t col)
{
	float mem[MLA_CHUNK * VECS * 16] __attribute__((aligned(64)));
	struct sums part = {mem, VECS * 16, 16};
	const float *b = (const float *)w->panels + (size_t)col * w->k;

	for (uint32_t k = 0; k < w->k; k += STEPS) {
		const float *scales = w->scales;

		dots_of[vecs](scales ? part : out, k && !scales, x, k, b + (size_t)k * 16, (size_t)w->k * 16,
			w->k - k < STEPS ? w->k - k : STEPS);
		if (scales)
			expand_scale(out, part, x->n, vecs, !k,
				scales + col / WEIGHT_PANEL_ROWS * w->k_blocks + k / STEPS, w->k_blocks);
	}
	expand_round(out, x->n, vecs);
}

static void wide_expand(void *out, size_t out_stride, const void *x, size_t x_stride, uint32_t keys,
	const struct mla_panels *w, float *wide)
{
	struct rows k = {wide ? wide : (float *)x, x_stride, keys, wide ? x : NULL, NULL};

	for (uint32_t col = 0; col < w->n; col += 16 * VECS, k.narrow = NULL)
		expand_cols((struct sums){(float *)out + col, out_stride, 16},
			w->n - col < 16 * VECS ? 2 : VECS, &k, w, col);
}

const struct mla_ukernels mla_ukernels_avx512_wide = {
	.widen_panels = wide_panels,
	.pack_q = wide_pack_q,
	.scores = wide_scores,
	.softmax = mla_avx512_softmax_f32,
	.values = wide_values,
	.merge = mla_avx512_merge,
	.finish = mla_avx512_finish,
	.unpack_f8 = mla_avx512_unpack_f8,
	.expand = wide_expand,
};
