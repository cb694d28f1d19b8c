/*
 * Integer products, avx512 tier: VPDPBUSD, 4 k a time, exactly. Sums are scaled in registers where a block of
 * scales ends.
 */
#include "kernel/cpu/x86/gemm_avx512.h"
#include "kernel/cpu/x86/gemm_rows_avx512.h"

/* c = (first ? 0 : c) + F32 of (sum + bias) * scale: as row_ukernels.add_scaled(). */
INLINE void scale_sums(const struct gemm_block *b, float *c, __m512i acc[][4], size_t at, bool first,
	const int M, const int P)
{
#pragma GCC unroll 4
	for (int t = 0; t < 2 * P; t++) {
		size_t i = at + (t / 2) * b->scale_stride + (t % 2) * 16;
		__m512i bias = _mm512_loadu_si512(b->bias + i);
		__m512 scale = _mm512_loadu_ps(b->scales + i);

#pragma GCC unroll 8
		for (int m = 0; m < M; m++) {
			float *p = c + m * GEMM_COLS + t * 16;
			__m512 y = _mm512_mul_ps(
				_mm512_cvtepi32_ps(_mm512_add_epi32(acc[m][t], bias)), scale);

			_mm512_store_ps(p, first ? y : _mm512_add_ps(_mm512_load_ps(p), y));
		}
	}
}

/* acc over `steps` steps of 64 k (of 128 from nibbles) from step `step0` of the block. */
INLINE void chain_i8(const struct gemm_block *b, __m512i acc[][4], const uint8_t *const *a,
	const struct fetch_next *far, uint32_t row0,
	uint32_t step0, uint32_t steps, const int M, const int P, const enum fetch f)
{
	size_t bytes = (size_t)b->k / 64 * STEP_BYTES;

	for (uint32_t s = step0; s < step0 + steps; s++) {
		const uint8_t *w = b->w + (size_t)s * STEP_BYTES;
		const uint8_t *near[2] = {ahead(b, 0, (size_t)s * STEP_BYTES, bytes),
			ahead(b, P - 1, (size_t)s * STEP_BYTES, bytes)};

		if (f != FETCH_AHEAD)
			fetch_group(b, b->sum + (size_t)row0 * GEMM_COLS, row0, M, s, (size_t)s * 64);
#pragma GCC unroll 4
		for (uint32_t quad = 0; quad < 16; quad++) {
			__m512i v[4];

#pragma GCC unroll 4
			for (int t = 0; t < 2 * P; t++) {
				const uint8_t *p = w + (t / 2) * b->panel_bytes + (t % 2) * TILE_BYTES + quad * 64;

				v[t] = _mm512_load_si512(p);
				if (f == FETCH_AHEAD)
					_mm_prefetch((const char *)near[t / 2] + (t % 2) * TILE_BYTES + quad * 64,
						_MM_HINT_T0);
				if (f == FETCH_BOTH)
					_mm_prefetch((const char *)p + STEP_BYTES, _MM_HINT_T0);
			}
			if (f != FETCH_AHEAD)
				fetch_step(far, (size_t)s * 16 + quad);
#pragma GCC unroll 8
			for (int m = 0; m < M; m++) {
				__m512i x = _mm512_set1_epi32(load_pair(a[m] + (size_t)s * 64 + quad * 4));

#pragma GCC unroll 4
				for (int t = 0; t < 2 * P; t++)
					acc[m][t] = _mm512_dpbusd_epi32(acc[m][t], x, v[t]);
			}
		}
	}
}

/* The same from nibbles: a register holds 4 k of a step and, 64 k further, 4 of the next. */
INLINE void chain_i4(const struct gemm_block *b, __m512i acc[][4], const uint8_t *const *a, uint32_t step0,
	uint32_t steps, const int M, const int P)
{
	const __m512i high = _mm512_set1_epi8((char)0xF0);
	size_t bytes = (size_t)b->k / 128 * STEP_BYTES;

	for (uint32_t s = step0; s < step0 + steps; s++) {
		const uint8_t *near[2] = {ahead(b, 0, (size_t)s * STEP_BYTES, bytes),
			ahead(b, P - 1, (size_t)s * STEP_BYTES, bytes)};

#pragma GCC unroll 2
		for (uint32_t quad = 0; quad < 16; quad++) {
			__m512i v[4], w[4];

#pragma GCC unroll 4
			for (int t = 0; t < 2 * P; t++) {
				const uint8_t *p = b->w + (t / 2) * b->panel_bytes + (size_t)s * STEP_BYTES +
						   (t % 2) * TILE_BYTES + quad * 64;
				__m512i x = _mm512_load_si512(p);

				_mm_prefetch((const char *)near[t / 2] + (t % 2) * TILE_BYTES + quad * 64, _MM_HINT_T0);
				v[t] = _mm512_and_si512(_mm512_slli_epi16(x, 4), high);
				w[t] = _mm512_and_si512(x, high);
			}
#pragma GCC unroll 8
			for (int m = 0; m < M; m++) {
				const uint8_t *at = a[m] + (size_t)s * 128 + quad * 4;
				__m512i x = _mm512_set1_epi32(load_pair(at));
				__m512i y = _mm512_set1_epi32(load_pair(at + 64));

#pragma GCC unroll 4
				for (int t = 0; t < 2 * P; t++)
					acc[m][t] = _mm512_dpbusd_epi32(acc[m][t], x, v[t]);
#pragma GCC unroll 4
				for (int t = 0; t < 2 * P; t++)
					acc[m][t] = _mm512_dpbusd_epi32(acc[m][t], y, w[t]);
			}
		}
	}
}

/* Integers: VPDPBUSD of input bytes and weights, 4 k a time. */
INLINE void rows_int(const struct gemm_block *b, uint32_t row0, uint32_t group, const int M, const int P,
	const enum fetch f, const bool i4)
{
	int32_t *sum = b->sum + (size_t)row0 * GEMM_COLS;
	float *c = b->c + (size_t)row0 * GEMM_COLS;
	uint32_t cut = b->k_block && b->k_block < b->k ? b->k_block : b->k;
	const struct fetch_next far = fetch_begin(b, group, b->k * WEIGHT_PANEL_ROWS);
	const uint8_t *a[8];

#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
		a[m] = b->a[row0 + (uint32_t)m];
	for (uint32_t k = 0; k < b->k; k += cut) {
		uint32_t n = b->k - k < cut ? b->k - k : cut;
		__m512i acc[8][4];

#pragma GCC unroll 8
		for (int m = 0; m < M; m++)
#pragma GCC unroll 4
			for (int t = 0; t < 2 * P; t++)
				acc[m][t] = b->first || k ? _mm512_setzero_si512()
							  : _mm512_load_si512(sum + m * GEMM_COLS + t * 16);
		if (i4)
			chain_i4(b, acc, a, k / 128, n / 128, M, P);
		else
			chain_i8(b, acc, a, &far, row0, k / 64, n / 64, M, P, f);
		if (b->k_block) {
			scale_sums(b, c, acc, (size_t)(k / cut) * WEIGHT_PANEL_ROWS,
				b->first_scaled && k == 0, M, P);
			continue;
		}
#pragma GCC unroll 8
		for (int m = 0; m < M; m++)
#pragma GCC unroll 4
			for (int t = 0; t < 2 * P; t++)
				_mm512_store_si512(sum + m * GEMM_COLS + t * 16, acc[m][t]);
	}
}

void gemm_i8_few_avx512(const struct gemm_block *b)
{
#define CALL1(M) rows_int(b, row0, group, M, 1, FETCH_AHEAD, false)
#define CALL2(M) rows_int(b, row0, group, M, 2, FETCH_AHEAD, false)
	if (b->panels == 2)
		EACH_GROUP(b, CALL2)
	else
		EACH_GROUP(b, CALL1)
#undef CALL1
#undef CALL2
}

void gemm_i8_avx512(const struct gemm_block *b)
{
#define CALL1(M) rows_int(b, row0, group, M, 1, FETCH_NEXT, false)
#define CALL2(M)                                                                                   \
	if (M == 6 && group == 0)                                                                  \
		rows_int(b, row0, group, 6, 2, FETCH_BOTH, false);                                 \
	else                                                                                       \
		rows_int(b, row0, group, M, 2, FETCH_NEXT, false)
	if (b->panels == 2)
		EACH_GROUP(b, CALL2)
	else
		EACH_GROUP(b, CALL1)
#undef CALL1
#undef CALL2
}

/* From four rows on, two panels at once would not fit the registers. */
void gemm_i4_few_avx512(const struct gemm_block *b)
{
	struct gemm_block one = *b;

	if (b->panels == 2 && b->rows <= 3) {
		switch (b->rows) {
		case 1:
			rows_int(b, 0, 0, 1, 2, FETCH_AHEAD, true);
			break;
		case 2:
			rows_int(b, 0, 0, 2, 2, FETCH_AHEAD, true);
			break;
		default:
			rows_int(b, 0, 0, 3, 2, FETCH_AHEAD, true);
		}
		return;
	}
#define CALL(M) rows_int(&one, row0, group, M, 1, FETCH_AHEAD, true)
	for (uint32_t p = 0; p < b->panels; p++) {
		EACH_GROUP(&one, CALL)
		one.sum += WEIGHT_PANEL_ROWS;
		one.c += WEIGHT_PANEL_ROWS;
		one.w += one.panel_bytes;
		one.next += one.next_bytes;
		one.scales += one.scale_stride;
		one.bias += one.scale_stride;
	}
#undef CALL
}

void gemm_unpack_i4_avx512(uint8_t *out, const uint8_t *in, size_t n)
{
	const __m512i high = _mm512_set1_epi8((char)0xF0);

	for (size_t at = 0; at < n; at += STEP_BYTES, out += 2 * STEP_BYTES)
		for (size_t i = 0; i < STEP_BYTES; i += 64) {
			__m512i x = _mm512_loadu_si512(in + at + i);

			_mm512_storeu_si512(out + i, _mm512_and_si512(_mm512_slli_epi16(x, 4), high));
			_mm512_storeu_si512(out + STEP_BYTES + i, _mm512_and_si512(x, high));
			_mm_prefetch((const char *)in + at + i + AHEAD, _MM_HINT_T0);
		}
}
