/*
 * Products, avx2 tier: F32 input, weights widened in registers, one fused multiply-add for each k in ascending
 * order. Integers: gemm_int_avx2.c.
 */
#include "kernel/cpu/x86/gemm_avx2.h"

#include <string.h>

#define F8_AHEAD 4096u /* AHEAD of F8 */
#define F8_FEW_ROWS 3u

/* acc += v x; v = the even or the odd values of 8 pairs. */
#define FMA(acc, v, x) __asm__ volatile("vfmadd231ps %2, %1, %0" : "+x"(acc) : "x"(v), "x"(x))
#define ZERO(x) __asm__ volatile("vxorps %0, %0, %0" : "=x"(x))
#define AND(v, x, p) __asm__ volatile("vpand %2, %1, %0" : "=x"(v) : "x"(x), "m"(*(const __m256i *)(p)))
#define EVEN(v, p) __asm__ volatile("vmovdqa %1, %0\n\tvpslld $16, %0, %0" : "=x"(v) : "m"(*(p)))
#define ODD(v, p)                                                                                  \
	__asm__ volatile("vmovdqa %1, %0\n\tvpand %2, %0, %0" : "=x"(v) : "m"(*(p)), "m"(*(const __m256i *)high_halves))
#define EVEN_OF(v, pairs) __asm__ volatile("vpslld $16, %1, %0" : "=x"(v) : "x"(pairs))
#define ODD_OF(v, pairs) AND(v, pairs, high_halves)

static const uint32_t high_halves[8] __attribute__((aligned(32))) = {0xFFFF0000, 0xFFFF0000, 0xFFFF0000, 0xFFFF0000,
	0xFFFF0000, 0xFFFF0000, 0xFFFF0000, 0xFFFF0000};

/* acc += chains over n of K. */
INLINE void chain_bf16(__m256 acc[][8], const float *const *a, const struct halves *s, uint32_t n, const int M,
	const int H, const bool fetch)
{
	for (uint32_t k = 0; k < n; k += 2) {
		size_t at = k / WEIGHT_K_STEP * STEP_BYTES + k % WEIGHT_K_STEP * 32;

		if (fetch)
#pragma GCC unroll 2
			for (int p = 0; p < (H + 3) / 4; p++)
				fetch_lines(s->near + (size_t)p * s->near_bytes + k * WEIGHT_PANEL_ROWS * 2, 2);
#pragma GCC unroll 2
		for (int odd = 0; odd < 2; odd++) {
			__m256 v[8], x[8];

			/* Few rows: all inputs, then half by half. Many: the other way, so that registers suffice. */
#pragma GCC unroll 8
			for (int m = 0; m < M && M < H; m++)
				BROADCAST(x[m], a[m] + k + odd);
#pragma GCC unroll 8
			for (int h = 0; h < H; h++) {
				const __m256 *p = (const __m256 *)(s->w + (size_t)(h / 4) * s->panel_bytes + at + half_at(h));

				if (!odd)
					EVEN(v[h], p);
				else
					ODD(v[h], p);
#pragma GCC unroll 8
				for (int m = 0; m < M && M < H; m++)
					FMA(acc[m][h], v[h], x[m]);
			}
#pragma GCC unroll 8
			for (int m = 0; m < M && M >= H; m++) {
				BROADCAST(x[m], a[m] + k + odd);
#pragma GCC unroll 8
				for (int h = 0; h < H; h++)
					FMA(acc[m][h], v[h], x[m]);
			}
		}
	}
}

/* Sums of a range: from zero where scales end them. */
INLINE void sums_begin(const struct gemm_block *b, const float *c, __m256 acc[][8], bool first, const int M,
	const int H)
{
	bool zero = b->scales || first;

#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
#pragma GCC unroll 8
		for (int h = 0; h < H; h++)
			if (zero)
				ZERO(acc[m][h]);
			else
				acc[m][h] = _mm256_load_ps(c + m * GEMM_COLS + h * 8);
}

/* scales: of the block's first panel in this range. */
INLINE void sums_end(const struct gemm_block *b, float *c, __m256 acc[][8], const float *scales, bool first,
	const int M, const int H)
{
#pragma GCC unroll 8
	for (int h = 0; h < H; h++)
#pragma GCC unroll 8
		for (int m = 0; m < M; m++) {
			float *p = c + m * GEMM_COLS + h * 8;
			__m256 sum = acc[m][h], scale;

			if (scales) {
				if (first)
					ZERO(sum);
				else
					sum = _mm256_load_ps(p);
				BROADCAST(scale, scales + (size_t)(h / 4) * b->scale_stride);
				FMA(sum, acc[m][h], scale);
			}
			_mm256_store_ps(p, sum);
		}
}

/* M rows and H halves from half h0 on, over the range of n from k. */
INLINE void rows_bf16(const struct gemm_block *b, uint32_t row0, uint32_t h0, uint32_t k, uint32_t n, const int M,
	const int H, const bool fetch)
{
	float *c = b->c + (size_t)row0 * GEMM_COLS + h0 * 8;
	size_t at = (size_t)k * WEIGHT_PANEL_ROWS * 2, bytes = (size_t)b->k * WEIGHT_PANEL_ROWS * 2, p = h0 / 4;
	const float *scales = b->scales ? b->scales + p * b->scale_stride + k / WEIGHT_SCALE_BLOCK : NULL, *a[8];
	const struct halves s = {b->w + p * b->panel_bytes + at + half_at((int)h0),
		ahead_by(b, (uint32_t)p, at, bytes, AHEAD), b->panel_bytes, b->next_bytes};
	__m256 acc[8][8];

#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
		a[m] = (const float *)b->a[row0 + (uint32_t)m] + k;
	sums_begin(b, c, acc, b->first && k == 0, M, H);
	chain_bf16(acc, a, &s, n, M, H, fetch && h0 % 4 == 0);
	sums_end(b, c, acc, scales, b->first && k == 0, M, H);
}

/* Halves at once of few rows: as many as give eight or more chains. */
#define FEW_HALVES(rows) ((rows) > 3 ? 2 : 4)

static void few_range(const struct gemm_block *b, uint32_t k, uint32_t n)
{
	if (b->rows == 1 && b->panels == 2) {
		rows_bf16(b, 0, 0, k, n, 1, 8, true);
		return;
	}
#define CALL(M) rows_bf16(b, 0, h, k, n, M, FEW_HALVES(M), true)
	for (uint32_t h = 0; h < 4 * b->panels; h += FEW_HALVES(b->rows))
		ROWS_CASES(b->rows, CALL)
#undef CALL
}

/* Many rows over one range. A group fetches its share of the next weight, and the next group's sums. */
static void many_range(const struct gemm_block *b, uint32_t k, uint32_t n)
{
	size_t bytes = (size_t)n * WEIGHT_PANEL_ROWS * (b->scales ? 1 : 2);
	struct fetch_share f = fetch_share_begin(b, bytes, (b->rows + 5) / 6 * 2 * b->panels);

#define CALL(M)                                                                                    \
	fetch_share(&f);                                                                           \
	fetch_sums(b->c + ((size_t)row0 + M) * GEMM_COLS + h * 8, M);                              \
	rows_bf16(b, row0, h, k, n, M, 2, false)
	for (uint32_t h = 0; h < 4 * b->panels; h += 2)
		EACH_GROUP(b, CALL)
#undef CALL
}

void gemm_f32_avx2(const struct gemm_block *b)
{
	for (uint32_t k = 0; k < b->k; k += RANGE)
		(b->rows <= FEW_ROWS ? few_range : many_range)(b, k, b->k - k < RANGE ? b->k - k : RANGE);
}

/*
 * 32 values to BF16 by bytes. The high byte of a normal number's BF16 is 0x3C + the upper three bits of its
 * magnitude, below the sign; the low one the other four bits. Magnitudes below 16, subnormal ones among them,
 * are put right by tables that give 0 for all others.
 */
INLINE void unpack_32(uint16_t *out, const uint8_t *in)
{
	const __m256i high = _mm256_broadcastsi128_si256(_mm_setr_epi8(0x3C, 0x3D, 0x3E, 0x3F, 0x40, 0x41, 0x42, 0x43,
		(char)0xBC, (char)0xBD, (char)0xBE, (char)0xBF, (char)0xC0, (char)0xC1, (char)0xC2, (char)0xC3));
	const __m256i small_high = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(0x3C, 0x07, 0x07, 0x07, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
	const __m256i small_low = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0x10, (char)0xA0, (char)0xF0, 0x40, 0x70,
		0x20, 0x10, 0, 0, 0, 0, 0, 0, 0, 0));
	const __m256i nibble = _mm256_set1_epi8(0x0F), nan = _mm256_set1_epi8(0x7F);
	__m256i x = _mm256_permute4x64_epi64(_mm256_loadu_si256((const __m256i *)in), 0xD8);
	__m256i mag = _mm256_and_si256(x, nan), at = _mm256_add_epi8(mag, _mm256_set1_epi8(0x70));
	__m256i lo = _mm256_xor_si256(_mm256_andnot_si256(nibble, _mm256_slli_epi16(x, 4)),
		_mm256_shuffle_epi8(small_low, at));
	__m256i hi = _mm256_xor_si256(
		_mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble)),
		_mm256_shuffle_epi8(small_high, at));

	hi = _mm256_or_si256(hi, _mm256_and_si256(_mm256_cmpeq_epi8(mag, nan), nan));
	_mm256_storeu_si256((__m256i *)out, _mm256_unpacklo_epi8(lo, hi));
	_mm256_storeu_si256((__m256i *)(out + 16), _mm256_unpackhi_epi8(lo, hi));
}

static void unpack_f8(uint16_t *out, const uint8_t *in, size_t n)
{
	for (size_t i = 0; i < n; i += 64) {
		_mm_prefetch((const char *)in + i + F8_AHEAD, _MM_HINT_T0);
		unpack_32(out + i, in + i);
		unpack_32(out + i + 32, in + i + 32);
	}
}

/* A range by way of BF16. */
static void f8_range(const struct gemm_block *b, uint32_t k, uint32_t n)
{
	uint16_t w[GEMM_PANELS * RANGE * WEIGHT_PANEL_ROWS] __attribute__((aligned(64)));
	const uint8_t *a[FEW_ROWS];
	struct gemm_block one = *b;

	for (uint32_t p = 0; p < b->panels; p++)
		unpack_f8(w + (size_t)p * n * WEIGHT_PANEL_ROWS,
			b->w + p * b->panel_bytes + (size_t)k * WEIGHT_PANEL_ROWS, (size_t)n * WEIGHT_PANEL_ROWS);
	one.a = a;
	one.first = b->first && k == 0;
	one.w = (const uint8_t *)w;
	one.panel_bytes = (size_t)n * WEIGHT_PANEL_ROWS * 2;
	one.k = n;
	one.scales += k / WEIGHT_SCALE_BLOCK;
	one.next = one.w;
	one.next_bytes = one.panel_bytes;
	for (uint32_t row0 = 0; row0 < b->rows; row0 += FEW_ROWS, one.c += FEW_ROWS * GEMM_COLS) {
		one.rows = b->rows - row0 < FEW_ROWS ? b->rows - row0 : FEW_ROWS;
		for (uint32_t i = 0; i < one.rows; i++)
			a[i] = b->a[row0 + i] + k * sizeof(float);
		few_range(&one, 0, n);
	}
}

/*
 * F8 panels of few rows become F32 by shifts alone: a code's magnitude at the upper end of an F32's mantissa is the
 * value times 2^-120, subnormal codes too, if the CPU does not count denormals as zero. Input is scaled up, so that
 * sums are ordinary numbers: F8_SUMS times the true ones, each of their roundings the same.
 *
 * That holds where input is 0 or its magnitude from 2^-90 to below 2^28: then no sum overflows, and sums smaller
 * than 2^-82 are exact multiples of 2^-106. Other input and NaN codes go by way of BF16.
 */
#define F8_INPUT 0x1p100f
#define F8_SUMS 0x1p-20f
#define F8_INPUT_MIN 0x1p-90f
#define F8_INPUT_END 0x1p28f

/* 32 bytes of a tile as BF16 of 2^-120 times the values: rows 0 - 3 and 8 - 11, then the others. `seen` has twice the
 * largest magnitudes. */
struct f8_pairs {
	__m256i bf16[2];
};

INLINE struct f8_pairs f8_pairs_load(const uint8_t *p, __m256i *seen)
{
	static const uint64_t signs[4] __attribute__((aligned(32))) = {0x8080808080808080, 0x8080808080808080,
		0x8080808080808080, 0x8080808080808080};
	const __m256i factors = _mm256_set1_epi16((short)(240 << 8 | 16));
	__m256i x = _mm256_load_si256((const __m256i *)p), s;

	AND(s, x, signs);
	*seen = _mm256_max_epu8(*seen, _mm256_add_epi8(x, x));
	/* 16 byte + 240 sign byte, both with their sign: the magnitude four bits up, and the sign. */
	return (struct f8_pairs){{_mm256_maddubs_epi16(factors, _mm256_unpacklo_epi8(x, s)),
		_mm256_maddubs_epi16(factors, _mm256_unpackhi_epi8(x, s))}};
}

INLINE bool f8_nan_seen(__m256i seen)
{
	return _mm256_movemask_epi8(_mm256_cmpeq_epi8(seen, _mm256_set1_epi8((char)0xFE))) != 0;
}

/* The tile's rows in order, and the scaling of sums taken off. */
INLINE void f8_sums(__m256 acc[2])
{
	const __m256 back = _mm256_set1_ps(1 / F8_SUMS);
	__m256 lo = _mm256_mul_ps(acc[0], back), hi = _mm256_mul_ps(acc[1], back);

	acc[0] = _mm256_permute2f128_ps(lo, hi, 0x20);
	acc[1] = _mm256_permute2f128_ps(lo, hi, 0x31);
}

/* acc += chains over a pair of k of tile t. x: [M][RANGE], input times F8_INPUT; x1: the pair of a row alone. */
INLINE void tile_f8(__m256 acc[][8], const int t, struct f8_pairs w, const float *x, const __m256 x1[2], const int M)
{
#pragma GCC unroll 2
	for (int odd = 0; odd < 2; odd++) {
		__m256 v[2], xm;

#pragma GCC unroll 2
		for (int h = 0; h < 2; h++) {
			if (odd)
				ODD_OF(v[h], w.bf16[h]);
			else
				EVEN_OF(v[h], w.bf16[h]);
			if (M == 1)
				FMA(acc[0][2 * t + h], v[h], x1[odd]);
		}
#pragma GCC unroll 8
		for (int m = 0; m < M && M > 1; m++) {
			BROADCAST(xm, x + m * (int)RANGE + odd);
			FMA(acc[m][2 * t], v[0], xm);
			FMA(acc[m][2 * t + 1], v[1], xm);
		}
	}
}

/* The same over n of K of H halves, where denormals are what they are. Returns what f8_pairs_load() saw. */
INLINE __m256i chain_f8(__m256 acc[][8], struct halves s, const float *x, uint32_t n, const int M, const int H,
	const bool fetch)
{
	const uint32_t csr = _mm_getcsr();
	__m256i seen = _mm256_setzero_si256();

	_mm_setcsr(csr & ~(uint32_t)_MM_DENORMALS_ZERO_MASK);
	for (uint32_t k = 0; k < n; k += WEIGHT_K_STEP, s.w += STEP_BYTES / 2, s.near += STEP_BYTES / 2)
		for (uint32_t j = 0; j < WEIGHT_K_STEP; j += 2) {
			const float *xj = x + k + j;
			__m256 x1[2];

			if (M == 1) {
				BROADCAST(x1[0], xj);
				BROADCAST(x1[1], xj + 1);
			}
#pragma GCC unroll 4
			for (int t = 0; t < H / 2; t++) {
				size_t p = (size_t)t / 2;
				const uint8_t *tile = s.w + p * s.panel_bytes + half_at(2 * t) / 2;
				struct f8_pairs w = f8_pairs_load(tile + j * 16, &seen);

				if (fetch && t % 2 == 0)
					fetch_lines(s.near + p * s.near_bytes + j * WEIGHT_PANEL_ROWS, 1);
				tile_f8(acc, t, w, xj, x1, M);
			}
		}
	_mm_setcsr(csr);
	return seen;
}

/* M rows and H halves from half h0 on. False where there are NaN codes: nothing is stored. */
INLINE bool rows_f8(const struct gemm_block *b, uint32_t h0, const float *x, uint32_t k, uint32_t n, const int M,
	const int H)
{
	size_t at = (size_t)k * WEIGHT_PANEL_ROWS, bytes = (size_t)b->k * WEIGHT_PANEL_ROWS, p = h0 / 4;
	const float *scales = b->scales + p * b->scale_stride + k / WEIGHT_SCALE_BLOCK;
	const struct halves s = {b->w + p * b->panel_bytes + at + half_at((int)h0) / 2,
		ahead_by(b, (uint32_t)p, at, bytes, F8_AHEAD), b->panel_bytes, b->next_bytes};
	__m256 acc[8][8];

#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
#pragma GCC unroll 8
		for (int h = 0; h < H; h++)
			ZERO(acc[m][h]);
	if (f8_nan_seen(chain_f8(acc, s, x, n, M, H, h0 % 4 == 0)))
		return false;
#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
#pragma GCC unroll 4
		for (int t = 0; t < H / 2; t++)
			f8_sums(&acc[m][2 * t]);
	sums_end(b, b->c + h0 * 8, acc, scales, b->first && k == 0, M, H);
	return true;
}

/* F8_INPUT times a range of a row; false where a value is too large or too small for that. */
INLINE bool f8_input(float *out, const float *in, uint32_t n)
{
	const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
	const __m256i min = _mm256_castps_si256(_mm256_set1_ps(F8_INPUT_MIN));
	const __m256i max = _mm256_sub_epi32(
		_mm256_castps_si256(_mm256_set1_ps(F8_INPUT_END)), _mm256_add_epi32(min, _mm256_set1_epi32(1)));
	__m256i bad = _mm256_setzero_si256();

	for (uint32_t i = 0; i < n; i += 8) {
		__m256 x = _mm256_loadu_ps(in + i);
		__m256i y = _mm256_and_si256(_mm256_castps_si256(x), magnitude), above = _mm256_sub_epi32(y, min);
		__m256i good = _mm256_or_si256(_mm256_cmpeq_epi32(y, _mm256_setzero_si256()),
			_mm256_cmpeq_epi32(_mm256_min_epu32(above, max), above));

		bad = _mm256_or_si256(bad, _mm256_xor_si256(good, _mm256_set1_epi32(-1)));
		_mm256_store_ps(out + i, _mm256_mul_ps(x, _mm256_set1_ps(F8_INPUT)));
	}
	return _mm256_testz_si256(bad, bad);
}

/* A range by way of BF16 from half h0 on: the halves before have it. */
static void f8_rest(const struct gemm_block *b, uint32_t h0, uint32_t k, uint32_t n)
{
	float c[F8_FEW_ROWS * GEMM_COLS] __attribute__((aligned(64)));
	uint32_t col0 = h0 * 8, cols = b->panels * WEIGHT_PANEL_ROWS - col0;
	struct gemm_block all = *b;

	memcpy(c, b->c, sizeof(*c) * b->rows * GEMM_COLS);
	all.c = c;
	f8_range(&all, k, n);
	for (uint32_t at = col0, m = 0; m < b->rows; m++, at += GEMM_COLS)
		memcpy(b->c + at, c + at, sizeof(*c) * cols);
}

static void f8_few_range(const struct gemm_block *b, uint32_t k, uint32_t n)
{
	float x[F8_FEW_ROWS * RANGE] __attribute__((aligned(64)));
	uint32_t h = 0, step = b->rows == 3 ? 2 : b->rows == 1 && b->panels == 2 ? 8 : 4;
	bool done = true;

	for (uint32_t m = 0; m < b->rows; m++)
		done = f8_input(x + m * RANGE, (const float *)b->a[m] + k, n) && done;
	while (done && h < 4 * b->panels) {
		done = b->rows == 3   ? rows_f8(b, h, x, k, n, 3, 2)
		       : b->rows == 2 ? rows_f8(b, h, x, k, n, 2, 4)
		       : step == 4    ? rows_f8(b, h, x, k, n, 1, 4)
				      : rows_f8(b, h, x, k, n, 1, 8);
		h += done ? step : 0;
	}
	if (!done)
		f8_rest(b, h, k, n);
}

void gemm_f8_avx2(const struct gemm_block *b)
{
	for (uint32_t k = 0; k < b->k; k += RANGE)
		(b->rows <= F8_FEW_ROWS ? f8_few_range : f8_range)(b, k, b->k - k < RANGE ? b->k - k : RANGE);
}

const struct gemm_ukernels gemm_ukernels_avx2 = {
	.stream_rows = FEW_ROWS,
	.f32 = gemm_f32_avx2,
	.wide = gemm_f32_avx2,
	.wide_few = gemm_f32_avx2,
	.wide_f8_few = gemm_f8_avx2,
	.unpack_f8 = unpack_f8,
	.few_rows = FEW_ROWS,
	.k_int = I8_RANGE,
	.i8_few = gemm_i8_avx2,
	.i4_few = gemm_i4_avx2,
	.i8 = gemm_i8_avx2,
	.widen_i8 = gemm_widen_i8_avx2,
	.unpack_i4 = gemm_unpack_i4_avx2,
};
