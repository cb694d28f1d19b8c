/*
 * Integer products, avx2 tier: exact, in 16 bits and sums of 32.
 */
#include "kernel/cpu/x86/gemm_avx2.h"
#include "kernel/cpu/x86/gemm_rows_x86.h"

#define AHEAD 2048u

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

void gemm_unpack_i4_avx2(uint8_t *out, const uint8_t *in, size_t n)
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
