/*
 * Integer products, avx2 tier: exact.
 *
 * I8 panels are multiplied in 16 bits, pairs summed in 32: VPMADDUBSW of bytes would saturate. Input rows are 16
 * bits wide, k 0 and 2 of each four, then 1 and 3, as a panel's bytes become words. Nibbles are small enough for
 * bytes: of 255 * -8, a sum of 16 bits holds sixteen.
 */
#include "kernel/cpu/x86/gemm_avx2.h"

#define I4_RANGE 512u /* K, likewise */

/* acc += pairs of v times x; v = words of the bytes k 0 and 2, or 1 and 3, of 8 rows. */
#define MADD(acc, v, x, t)                                                                         \
	__asm__ volatile("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0" : "+x"(acc), "=&x"(t) : "x"(v), "x"(x))
#define ZERO(x) __asm__ volatile("vpxor %0, %0, %0" : "=x"(x))
#define EVEN(v, p)                                                                                 \
	__asm__ volatile("vmovdqa %1, %0\n\tvpsllw $8, %0, %0\n\tvpsraw $8, %0, %0" : "=x"(v) : "m"(*(p)))
#define ODD(v, p) __asm__ volatile("vmovdqa %1, %0\n\tvpsraw $8, %0, %0" : "=x"(v) : "m"(*(p)))

/* acc += sums over n of K. words: the tile's (tile_words()), or NULL. */
INLINE void chain_i8(__m256i acc[][8], const uint8_t *const *a, const struct halves *s, const __m256i *words,
	uint32_t n, const int M, const int H, const bool fetch)
{
	for (uint32_t k = 0; k < n; k += 4) {
		size_t at = k / 64 * STEP_BYTES + k % 64 * 16;

		if (fetch)
#pragma GCC unroll 2
			for (int p = 0; p < (H + 3) / 4; p++)
				fetch_lines(s->near + (size_t)p * s->near_bytes + k * WEIGHT_PANEL_ROWS, 2);
#pragma GCC unroll 2
		for (int odd = 0; odd < 2; odd++) {
			__m256i v[8], x[8], t;

			/* Few rows and many: as in chain_bf16(). */
#pragma GCC unroll 8
			for (int m = 0; m < M && M < H; m++)
				BROADCAST(x[m], a[m] + 2 * k + 4 * odd);
#pragma GCC unroll 8
			for (int h = 0; h < H; h++) {
				const __m256i *p =
					(const __m256i *)(s->w + (size_t)(h / 4) * s->panel_bytes + at + half_at(h));

				if (words)
					v[h] = words[k + 2 * odd + h];
				else if (odd)
					ODD(v[h], p);
				else
					EVEN(v[h], p);
#pragma GCC unroll 8
				for (int m = 0; m < M && M < H; m++)
					MADD(acc[m][h], v[h], x[m], t);
			}
#pragma GCC unroll 8
			for (int m = 0; m < M && M >= H; m++) {
				BROADCAST(x[m], a[m] + 2 * k + 4 * odd);
#pragma GCC unroll 8
				for (int h = 0; h < H; h++)
					MADD(acc[m][h], v[h], x[m], t);
			}
		}
	}
}

/* M rows and H halves from half h0 on, over the range of n from k. */
INLINE void rows_i8(const struct gemm_block *b, uint32_t row0, uint32_t h0, uint32_t k, uint32_t n,
	const __m256i *words, const int M, const int H, const bool fetch)
{
	int32_t *sum = b->sum + (size_t)row0 * GEMM_COLS + h0 * 8;
	size_t at = (size_t)k * WEIGHT_PANEL_ROWS, bytes = (size_t)b->k * WEIGHT_PANEL_ROWS, p = h0 / 4;
	const struct halves s = {b->w + p * b->panel_bytes + at + half_at((int)h0),
		ahead_by(b, (uint32_t)p, at, bytes, AHEAD), b->panel_bytes, b->next_bytes};
	bool zero = b->first && k == 0;
	const uint8_t *a[8];
	__m256i acc[8][8];

#pragma GCC unroll 8
	for (int m = 0; m < M; m++) {
		a[m] = b->a[row0 + (uint32_t)m] + 2 * (size_t)k;
#pragma GCC unroll 8
		for (int h = 0; h < H; h++)
			if (zero)
				ZERO(acc[m][h]);
			else
				acc[m][h] = _mm256_load_si256((__m256i *)(sum + m * GEMM_COLS + h * 8));
	}
	chain_i8(acc, a, &s, words, n, M, H, fetch && h0 % 4 == 0);
#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
#pragma GCC unroll 8
		for (int h = 0; h < H; h++)
			_mm256_store_si256((__m256i *)(sum + m * GEMM_COLS + h * 8), acc[m][h]);
}

/* Halves at once of few rows: as many as registers hold the sums of. */
#define FEW_HALVES(rows) ((rows) > 2 ? 2 : 4)

static void few_range(const struct gemm_block *b, uint32_t k, uint32_t n)
{
	if (b->rows == 1 && b->panels == 2) {
		rows_i8(b, 0, 0, k, n, NULL, 1, 8, true);
		return;
	}
#define CALL(M) rows_i8(b, 0, h, k, n, NULL, M, FEW_HALVES(M), true)
	for (uint32_t h = 0; h < 4 * b->panels; h += FEW_HALVES(b->rows))
		ROWS_CASES(b->rows, CALL)
#undef CALL
}

/* A range of a tile as words: for each four of k both halves' even sixteen, then the odd sixteen. */
static void tile_words(__m256i *out, const uint8_t *w, uint32_t n)
{
	for (uint32_t i = 0; i < n; i += 4, out += 4)
		for (int h = 0; h < 2; h++) {
			__m256i x = _mm256_load_si256(
				(const __m256i *)(w + i / 64 * STEP_BYTES + i % 64 * 16 + (size_t)h * 32));

			out[h] = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
			out[2 + h] = _mm256_srai_epi16(x, 8);
		}
}

/* Many rows: a group fetches its share of the next weight, and the next group's sums. */
static void many_range(const struct gemm_block *b, uint32_t k, uint32_t n)
{
	struct fetch_share f =
		fetch_share_begin(b, (size_t)n * WEIGHT_PANEL_ROWS, (b->rows + 5) / 6 * 2 * b->panels);
	__m256i words[I8_RANGE];

#define CALL(M)                                                                                    \
	fetch_share(&f);                                                                           \
	fetch_sums(b->sum + ((size_t)row0 + M) * GEMM_COLS + h * 8, M);                            \
	rows_i8(b, row0, h, k, n, words, M, 2, false)
	for (uint32_t h = 0; h < 4 * b->panels; h += 2) {
		tile_words(words, b->w + h / 4 * b->panel_bytes + (size_t)k * WEIGHT_PANEL_ROWS + half_at((int)h), n);
		EACH_GROUP(b, CALL)
	}
#undef CALL
}

void gemm_i8_avx2(const struct gemm_block *b)
{
	for (uint32_t k = 0; k < b->k; k += I8_RANGE)
		(b->rows <= FEW_ROWS ? few_range : many_range)(b, k, b->k - k < I8_RANGE ? b->k - k : I8_RANGE);
}

void gemm_widen_i8_avx2(uint16_t *out, const uint8_t *in, size_t n)
{
	const __m256i low = _mm256_set1_epi16(0x00FF);

	for (size_t i = 0; i < n; i += 32) {
		__m256i x = _mm256_loadu_si256((const __m256i *)(in + i));
		__m256i even = _mm256_and_si256(x, low), odd = _mm256_srli_epi16(x, 8);
		__m256i lo = _mm256_unpacklo_epi32(even, odd), hi = _mm256_unpackhi_epi32(even, odd);

		_mm256_storeu_si256((__m256i *)(out + i), _mm256_permute2x128_si256(lo, hi, 0x20));
		_mm256_storeu_si256((__m256i *)(out + i + 16), _mm256_permute2x128_si256(lo, hi, 0x31));
	}
}

/* M rows over Q quads of k, from `w` in a panel, and those 64 k further: all halves, sums in memory. A nibble counts
 * 16 times its value (kernel/weight.h). */
INLINE void quads_i4(int32_t *sum, const uint8_t *const *a, const uint8_t *w, uint32_t panels, size_t panel_bytes,
	uint32_t k, const int M, const int Q)
{
	const __m256i nibble = _mm256_set1_epi8(0x0F), sixteen = _mm256_set1_epi16(16);
	const __m256i value = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1));
	__m256i x[4][4], y[4][4];

#pragma GCC unroll 4
	for (int m = 0; m < M; m++)
#pragma GCC unroll 4
		for (int q = 0; q < Q; q++) {
			x[m][q] = _mm256_set1_epi32(load_pair(a[m] + k + 4 * q));
			y[m][q] = _mm256_set1_epi32(load_pair(a[m] + k + 64 + 4 * q));
		}
	for (uint32_t p = 0; p < panels; p++, w += panel_bytes, sum += WEIGHT_PANEL_ROWS)
#pragma GCC unroll 4
		for (int h = 0; h < 4; h++) {
			__m256i t[4];

#pragma GCC unroll 4
			for (int q = 0; q < Q; q++) {
				__m256i v = _mm256_load_si256((const __m256i *)(w + half_at(h) + 64 * q));
				__m256i lo = _mm256_shuffle_epi8(value, _mm256_and_si256(v, nibble));
				__m256i hi = _mm256_shuffle_epi8(value, _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble));

#pragma GCC unroll 4
				for (int m = 0; m < M; m++) {
					__m256i s = _mm256_maddubs_epi16(x[m][q], lo);

					t[m] = q ? _mm256_add_epi16(t[m], s) : s;
					t[m] = _mm256_add_epi16(t[m], _mm256_maddubs_epi16(y[m][q], hi));
				}
			}
#pragma GCC unroll 4
			for (int m = 0; m < M; m++) {
				__m256i *to = (__m256i *)(sum + m * GEMM_COLS + h * 8);

				_mm256_store_si256(to, _mm256_add_epi32(_mm256_load_si256(to), _mm256_madd_epi16(t[m], sixteen)));
			}
		}
}

/* M rows over the range of n from k0. The first ones fetch what comes next. */
INLINE void rows_i4(const struct gemm_block *b, uint32_t row0, uint32_t k0, uint32_t n, const int M, const int Q)
{
	size_t bytes = (size_t)b->k * WEIGHT_PANEL_ROWS / 2;
	int32_t *sum = b->sum + (size_t)row0 * GEMM_COLS;

	for (int m = 0; b->first && k0 == 0 && m < M; m++)
		memset(sum + m * GEMM_COLS, 0, sizeof(*sum) * b->panels * WEIGHT_PANEL_ROWS);
	for (uint32_t k = k0; k < k0 + n; k += 128) {
		size_t at = (size_t)k * WEIGHT_PANEL_ROWS / 2;
		const uint8_t *near[2] = {
			ahead_by(b, 0, at, bytes, AHEAD), ahead_by(b, b->panels - 1, at, bytes, AHEAD)};

		for (uint32_t i = 0; i < 64; i += 4 * Q) {
			for (uint32_t p = 0; row0 == 0 && p < b->panels; p++)
				fetch_lines(near[p] + i * WEIGHT_PANEL_ROWS, 2 * Q);
			quads_i4(sum, b->a + row0, b->w + at + i * 16, b->panels, b->panel_bytes, k + i, M, Q);
		}
	}
}

/* A row alone sums sixteen products in 16 bits; two rows as many as registers hold the input of. */
void gemm_i4_avx2(const struct gemm_block *b)
{
	for (uint32_t k = 0, n; k < b->k; k += n) {
		n = b->k - k < I4_RANGE ? b->k - k : I4_RANGE;
		for (uint32_t row = 0; row < b->rows; row += 2)
			if (b->rows - row == 1)
				rows_i4(b, row, k, n, 1, 4);
			else
				rows_i4(b, row, k, n, 2, 1);
	}
}

void gemm_unpack_i4_avx2(uint8_t *out, const uint8_t *in, size_t n)
{
	const __m256i high = _mm256_set1_epi8((char)0xF0);

	for (size_t at = 0; at < n; at += STEP_BYTES, out += 2 * STEP_BYTES)
		for (size_t i = 0; i < STEP_BYTES; i += 32) {
			__m256i v = _mm256_loadu_si256((const __m256i *)(in + at + i));

			_mm256_storeu_si256((__m256i *)(out + i),
				_mm256_and_si256(_mm256_slli_epi16(v, 4), high));
			_mm256_storeu_si256((__m256i *)(out + STEP_BYTES + i), _mm256_and_si256(v, high));
		}
}
