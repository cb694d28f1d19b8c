/*
 * Products, avx2 tier: weights widened to F32, one fused multiply-add for each k in ascending order.
 * FP8 panels become BF16 first, exactly. Integers are multiplied in 16 bits and summed in 32.
 */
#include <immintrin.h>

#include "kernel/cpu/gemm.h"

#define INLINE static inline __attribute__((always_inline))
#define STEP_BYTES 2048u /* a K step of a panel */
#define TILE_BYTES 1024u
#define AHEAD 2048u

enum input { INPUT_BF16, INPUT_F32 };

/* Values k and k + 1 of a row. */
INLINE void input_pair(__m256 x[2], const uint8_t *a, uint32_t k, enum input type)
{
	if (type == INPUT_F32) {
		x[0] = _mm256_broadcast_ss((const float *)a + k);
		x[1] = _mm256_broadcast_ss((const float *)a + k + 1);
	} else {
		__m256i v = _mm256_castps_si256(_mm256_broadcast_ss((const float *)(a + 2 * k)));

		x[0] = _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
		x[1] = _mm256_castsi256_ps(
			_mm256_and_si256(v, _mm256_set1_epi32((int)0xFFFF0000)));
	}
}

/* acc[m][h] += chains over k0 .. k0 + n - 1, for M rows and H halves (8 weight rows) from `w`. */
INLINE void chain(__m256 acc[][4], const uint8_t *const *a, const uint8_t *w, uint32_t k0,
	uint32_t n, enum input type, const int M, const int H)
{
	const __m256i high = _mm256_set1_epi32((int)0xFFFF0000);

	for (uint32_t k = 0; k < n; k += 2) {
		const uint8_t *at = w + k / WEIGHT_K_STEP * STEP_BYTES + k % WEIGHT_K_STEP * 32;
		__m256 x[4][2];

#pragma GCC unroll 4
		for (int m = 0; m < M; m++)
			input_pair(x[m], a[m], k0 + k, type);
#pragma GCC unroll 4
		for (int h = 0; h < H; h++) {
			const uint8_t *p = at + (h / 2) * TILE_BYTES + (h % 2) * 32;
			__m256i v = _mm256_load_si256((const __m256i *)p);
			__m256 even = _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
			__m256 odd = _mm256_castsi256_ps(_mm256_and_si256(v, high));

			_mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0);
#pragma GCC unroll 4
			for (int m = 0; m < M; m++) {
				acc[m][h] = _mm256_fmadd_ps(even, x[m][0], acc[m][h]);
				acc[m][h] = _mm256_fmadd_ps(odd, x[m][1], acc[m][h]);
			}
		}
	}
}

/* M rows against the H halves at `w`, whose results go to c (row stride GEMM_COLS). */
INLINE void rows_halves(const struct gemm_block *b, uint32_t row0, const uint8_t *w, float *c,
	const float *scales, enum input type, const int M, const int H)
{
	const uint8_t *const *a = b->a + row0;
	uint32_t cut = scales ? WEIGHT_SCALE_BLOCK : b->k;

	for (uint32_t k = 0; k < b->k; k += cut) {
		uint32_t n = b->k - k < cut ? b->k - k : cut;
		bool zero = b->first && k == 0;
		__m256 acc[4][4];

#pragma GCC unroll 4
		for (int m = 0; m < M; m++)
#pragma GCC unroll 4
			for (int h = 0; h < H; h++)
				acc[m][h] = scales || zero ? _mm256_setzero_ps()
							   : _mm256_load_ps(c + m * GEMM_COLS + h * 8);
		chain(acc, a, w + (size_t)k * WEIGHT_PANEL_ROWS * 2, k, n, type, M, H);
#pragma GCC unroll 4
		for (int m = 0; m < M; m++)
#pragma GCC unroll 4
			for (int h = 0; h < H; h++) {
				float *p = c + m * GEMM_COLS + h * 8;
				__m256 r = acc[m][h];

				if (scales)
					r = _mm256_fmadd_ps(r,
						_mm256_set1_ps(scales[k / WEIGHT_SCALE_BLOCK]),
						zero ? _mm256_setzero_ps() : _mm256_load_ps(p));
				_mm256_store_ps(p, r);
			}
	}
}

INLINE void block(const struct gemm_block *b, enum input type)
{
	for (uint32_t p = 0; p < b->panels; p++) {
		const uint8_t *w = b->w + p * b->panel_bytes;
		const float *s = b->scales ? b->scales + p * b->scale_stride : NULL;

		for (uint32_t i = 0; i < b->rows;) {
			float *c = b->c + (size_t)i * GEMM_COLS + p * WEIGHT_PANEL_ROWS;

			if (b->rows - i >= 4) {
				rows_halves(b, i, w, c, s, type, 4, 2);
				rows_halves(b, i, w + TILE_BYTES, c + 16, s, type, 4, 2);
				i += 4;
			} else {
				rows_halves(b, i, w, c, s, type, 1, 4);
				i += 1;
			}
		}
	}
}

void gemm_bf16_avx2(const struct gemm_block *b)
{
	block(b, INPUT_BF16);
}

void gemm_f32_avx2(const struct gemm_block *b)
{
	block(b, INPUT_F32);
}

void gemm_f8u_avx2(const struct gemm_block *b)
{
	block(b, INPUT_BF16);
}

/* Through F16, whose exponent holds all of E4M3's after a shift of 2^8; NaN codes apart. */
static void unpack_f8(uint16_t *out, const uint8_t *in, size_t n)
{
	const __m256i nan = _mm256_set1_epi16(0x7F), sign = _mm256_set1_epi16(0x80);
	const __m256 up = _mm256_set1_ps(256.0f);

	for (size_t i = 0; i < n; i += 16) {
		__m256i x = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(in + i)));
		__m256i s = _mm256_slli_epi16(_mm256_and_si256(x, sign), 8);
		__m256i mag = _mm256_and_si256(x, nan);
		__m256i h = _mm256_or_si256(s, _mm256_slli_epi16(mag, 7));
		__m256 a = _mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(h)), up);
		__m256 b = _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(h, 1)), up);
		__m256i r = _mm256_packus_epi32(_mm256_srli_epi32(_mm256_castps_si256(a), 16),
			_mm256_srli_epi32(_mm256_castps_si256(b), 16));

		r = _mm256_permute4x64_epi64(r, 0xD8);
		r = _mm256_blendv_epi8(r, _mm256_or_si256(s, _mm256_set1_epi16(0x7FC0)),
			_mm256_cmpeq_epi16(mag, nan));
		_mm256_storeu_si256((__m256i *)(out + i), r);
	}
}

/* 8 weight rows by 4 k of bytes, as pairs of 16 bits: k 0 and 2, k 1 and 3. */
struct quad {
	__m256i even;
	__m256i odd;
};

INLINE struct quad quad_i8(__m256i v)
{
	return (struct quad){_mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8), _mm256_srai_epi16(v, 8)};
}

/* Four bytes of input for all 8 rows. */
INLINE struct quad quad_input(const uint8_t *a)
{
	__m256i v = _mm256_castps_si256(_mm256_broadcast_ss((const float *)a));
	const __m256i low = _mm256_set1_epi32(0x00FF00FF);

	return (struct quad){_mm256_and_si256(v, low), _mm256_and_si256(_mm256_srli_epi16(v, 8), low)};
}

/* Exact: products of 8 bits, pairs summed in 32. VPMADDUBSW would saturate. */
INLINE __m256i quad_dot(__m256i c, struct quad w, struct quad a)
{
	c = _mm256_add_epi32(c, _mm256_madd_epi16(w.even, a.even));
	return _mm256_add_epi32(c, _mm256_madd_epi16(w.odd, a.odd));
}

INLINE void sums_i8(const struct gemm_block *b, int32_t *c, __m256i acc[][4], bool store,
	const int M, const int H)
{
#pragma GCC unroll 4
	for (int m = 0; m < M; m++)
#pragma GCC unroll 4
		for (int h = 0; h < H; h++) {
			__m256i *p = (__m256i *)(c + m * GEMM_COLS + h * 8);

			if (store)
				_mm256_store_si256(p, acc[m][h]);
			else
				acc[m][h] = b->first ? _mm256_setzero_si256() : _mm256_load_si256(p);
		}
}

/* M rows against H halves (8 weight rows) of an I8 panel, from `w`. */
INLINE void rows_i8(const struct gemm_block *b, uint32_t row0, const uint8_t *w, int32_t *c, const int M,
	const int H)
{
	const uint8_t *const *a = b->a + row0;
	__m256i acc[4][4];

	sums_i8(b, c, acc, false, M, H);
	for (uint32_t k = 0; k < b->k; k += 4) {
		const uint8_t *at = w + k / 64 * STEP_BYTES + k % 64 * 16;
		struct quad x[4];

#pragma GCC unroll 4
		for (int m = 0; m < M; m++)
			x[m] = quad_input(a[m] + k);
#pragma GCC unroll 4
		for (int h = 0; h < H; h++) {
			const uint8_t *p = at + (h / 2) * TILE_BYTES + (h % 2) * 32;
			struct quad v = quad_i8(_mm256_load_si256((const __m256i *)p));

			_mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0);
#pragma GCC unroll 4
			for (int m = 0; m < M; m++)
				acc[m][h] = quad_dot(acc[m][h], v, x[m]);
		}
	}
	sums_i8(b, c, acc, true, M, H);
}

void gemm_i8_avx2(const struct gemm_block *b)
{
	for (uint32_t p = 0; p < b->panels; p++) {
		const uint8_t *w = b->w + p * b->panel_bytes;

		for (uint32_t i = 0; i < b->rows;) {
			int32_t *c = b->sum + (size_t)i * GEMM_COLS + p * WEIGHT_PANEL_ROWS;

			if (b->rows - i >= 2) {
				rows_i8(b, i, w, c, 2, 4);
				i += 2;
			} else {
				rows_i8(b, i, w, c, 1, 4);
				i += 1;
			}
		}
	}
}

/* One row against a panel of nibbles: the low ones are 64 k ahead of the high ones. */
static void row_i4(const struct gemm_block *b, uint32_t row, const uint8_t *w, int32_t *c)
{
	const __m256i high = _mm256_set1_epi8((char)0xF0);
	const uint8_t *a = b->a[row];
	__m256i acc[1][4];

	sums_i8(b, c, acc, false, 1, 4);
	for (uint32_t k = 0; k < b->k; k += k % 64 == 60 ? 68 : 4) {
		const uint8_t *at = w + k / 128 * STEP_BYTES + k % 64 * 16;
		struct quad x = quad_input(a + k), y = quad_input(a + k + 64);

#pragma GCC unroll 4
		for (int h = 0; h < 4; h++) {
			const uint8_t *p = at + (h / 2) * TILE_BYTES + (h % 2) * 32;
			__m256i v = _mm256_load_si256((const __m256i *)p);

			_mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0);
			acc[0][h] = quad_dot(acc[0][h],
				quad_i8(_mm256_and_si256(_mm256_slli_epi16(v, 4), high)), x);
			acc[0][h] = quad_dot(acc[0][h], quad_i8(_mm256_and_si256(v, high)), y);
		}
	}
	sums_i8(b, c, acc, true, 1, 4);
}

void gemm_i4_avx2(const struct gemm_block *b)
{
	for (uint32_t p = 0; p < b->panels; p++)
		for (uint32_t i = 0; i < b->rows; i++)
			row_i4(b, i, b->w + p * b->panel_bytes,
				b->sum + (size_t)i * GEMM_COLS + p * WEIGHT_PANEL_ROWS);
}

static void unpack_i4(uint8_t *out, const uint8_t *in, size_t n)
{
	const __m256i high = _mm256_set1_epi8((char)0xF0);

	for (size_t at = 0; at < n; at += 2048, out += 4096)
		for (size_t i = 0; i < 2048; i += 32) {
			__m256i v = _mm256_loadu_si256((const __m256i *)(in + at + i));

			_mm256_storeu_si256((__m256i *)(out + i),
				_mm256_and_si256(_mm256_slli_epi16(v, 4), high));
			_mm256_storeu_si256((__m256i *)(out + 2048 + i), _mm256_and_si256(v, high));
		}
}

const struct gemm_ukernels gemm_ukernels_avx2 = {
	.name = "avx2",
	.stream_rows = 1,
	.bf16 = gemm_bf16_avx2,
	.f32 = gemm_f32_avx2,
	.f8u = gemm_f8u_avx2,
	.unpack_f8 = unpack_f8,
	.k_int = GEMM_INT_K,
	.few_rows = 1,
	.i8_few = gemm_i8_avx2,
	.i4_few = gemm_i4_avx2,
	.i8 = gemm_i8_avx2,
	.unpack_i4 = unpack_i4,
};
