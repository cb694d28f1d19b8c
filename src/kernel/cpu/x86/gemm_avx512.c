/*
 * Products, avx512 tier: VDPBF16PS, one accumulator chain for each output.
 *
 * A chain adds k pairs in ascending order (the instruction's own order inside a pair; it treats
 * denormals as zero). The register block is rows x 64 columns, or x 32 when a single panel is left;
 * neither shows in a chain. FP8 becomes BF16 first, exactly.
 */
#include <immintrin.h>

#include "kernel/cpu/gemm.h"
#include "kernel/cpu/x86/f8_avx512.h"
#include "kernel/cpu/x86/gemm_avx512.h"
#include "kernel/cpu/x86/gemm_rows_avx512.h"

INLINE __m512 dot(__m512 c, __m512i w, int32_t a)
{
	return _mm512_dpbf16_ps(c, (__m512bh)w, (__m512bh)_mm512_set1_epi32(a));
}

/* Chains over `steps` K steps: acc[m][t] for m < M rows, t < 2 P tiles. */
INLINE void chain_bf16(__m512 acc[][4], const uint8_t *const *a, const uint8_t *w,
	size_t panel_bytes, size_t k_bytes, uint32_t steps, const int M, const int P)
{
	for (uint32_t s = 0; s < steps; s++) {
#pragma GCC unroll 4
		for (uint32_t pair = 0; pair < 16; pair++) {
			__m512i v[4];

#pragma GCC unroll 4
			for (int t = 0; t < 2 * P; t++) {
				const uint8_t *p = w + (t / 2) * panel_bytes +
						   (size_t)s * STEP_BYTES + (t % 2) * TILE_BYTES +
						   pair * 64;

				v[t] = _mm512_load_si512(p);
				_mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0);
			}
#pragma GCC unroll 8
			for (int m = 0; m < M; m++) {
				int32_t x = load_pair(a[m] + k_bytes + (size_t)s * 64 + pair * 4);

#pragma GCC unroll 4
				for (int t = 0; t < 2 * P; t++)
					acc[m][t] = dot(acc[m][t], v[t], x);
			}
		}
	}
}

INLINE void rows_bf16(const struct gemm_block *b, uint32_t row0, const int M, const int P)
{
	float *c = b->c + (size_t)row0 * GEMM_COLS;
	const uint8_t *a[8];
	__m512 acc[8][4];

#pragma GCC unroll 8
	for (int m = 0; m < M; m++) {
		a[m] = b->a[row0 + (uint32_t)m];
#pragma GCC unroll 4
		for (int t = 0; t < 2 * P; t++)
			acc[m][t] = b->first ? _mm512_setzero_ps()
					     : _mm512_load_ps(c + m * GEMM_COLS + t * 16);
	}
	chain_bf16(acc, a, b->w, b->panel_bytes, 0, b->k / WEIGHT_K_STEP, M, P);
#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
#pragma GCC unroll 4
		for (int t = 0; t < 2 * P; t++)
			_mm512_store_ps(c + m * GEMM_COLS + t * 16, acc[m][t]);
}

INLINE void rows_f8u(const struct gemm_block *b, uint32_t row0, const int M, const int P)
{
	float *c = b->c + (size_t)row0 * GEMM_COLS;
	const uint8_t *a[8];

#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
		a[m] = b->a[row0 + (uint32_t)m];
	for (uint32_t k = 0; k < b->k; k += WEIGHT_SCALE_BLOCK) {
		uint32_t n = b->k - k < WEIGHT_SCALE_BLOCK ? b->k - k : WEIGHT_SCALE_BLOCK;
		const float *s = b->scales + k / WEIGHT_SCALE_BLOCK;
		float scale[2] = {s[0], P == 2 ? s[b->scale_stride] : 0};
		__m512 acc[8][4];

#pragma GCC unroll 8
		for (int m = 0; m < M; m++)
#pragma GCC unroll 4
			for (int t = 0; t < 2 * P; t++)
				acc[m][t] = _mm512_setzero_ps();
		chain_bf16(acc, a, b->w + (size_t)k * WEIGHT_PANEL_ROWS * 2, b->panel_bytes,
			(size_t)k * 2, n / WEIGHT_K_STEP, M, P);
		gemm_scale_f32(c, acc, scale, b->first && k == 0, M, P);
	}
}

/* Reads the panels as bytes: a register of 64 is two pairs of k of one tile. */
INLINE void rows_f8(const struct gemm_block *b, uint32_t row0, const int M, const int P)
{
	const struct f8_table table = f8_table_load();
	float *c = b->c + (size_t)row0 * GEMM_COLS;
	const uint8_t *a[8];

#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
		a[m] = b->a[row0 + (uint32_t)m];
	for (uint32_t k = 0; k < b->k; k += WEIGHT_SCALE_BLOCK) {
		uint32_t n = b->k - k < WEIGHT_SCALE_BLOCK ? b->k - k : WEIGHT_SCALE_BLOCK;
		const float *s = b->scales + k / WEIGHT_SCALE_BLOCK;
		float scale[2] = {s[0], P == 2 ? s[b->scale_stride] : 0};
		__m512 acc[8][4];

#pragma GCC unroll 8
		for (int m = 0; m < M; m++)
#pragma GCC unroll 4
			for (int t = 0; t < 2 * P; t++)
				acc[m][t] = _mm512_setzero_ps();
		for (uint32_t j = k; j < k + n; j += WEIGHT_K_STEP) {
			const struct f8_step step = f8_step_at(b, j, P);

#pragma GCC unroll 2
			for (uint32_t i = 0; i < 8; i++) {
				__m512i first[4], second[4];

				f8_tiles(&step, &table, i, first, second, P);
#pragma GCC unroll 8
				for (int m = 0; m < M; m++) {
					const uint8_t *x = a[m] + ((size_t)j + i * 4) * 2;
					int32_t x0 = load_pair(x), x1 = load_pair(x + 4);

#pragma GCC unroll 4
					for (int t = 0; t < 2 * P; t++)
						acc[m][t] = dot(acc[m][t], first[t], x0);
#pragma GCC unroll 4
					for (int t = 0; t < 2 * P; t++)
						acc[m][t] = dot(acc[m][t], second[t], x1);
				}
			}
		}
		gemm_scale_f32(c, acc, scale, b->first && k == 0, M, P);
	}
}

/* F32 input: weights widened, one fused multiply-add for each k. */
INLINE void rows_f32(const struct gemm_block *b, uint32_t row0, const int M, const int P)
{
	const __m512i high = _mm512_set1_epi32((int)0xFFFF0000);
	float *c = b->c + (size_t)row0 * GEMM_COLS;
	const float *a[8];
	__m512 acc[8][4];

#pragma GCC unroll 8
	for (int m = 0; m < M; m++) {
		a[m] = (const float *)b->a[row0 + (uint32_t)m];
#pragma GCC unroll 4
		for (int t = 0; t < 2 * P; t++)
			acc[m][t] = b->first ? _mm512_setzero_ps()
					     : _mm512_load_ps(c + m * GEMM_COLS + t * 16);
	}
	for (uint32_t k = 0; k < b->k; k += 2) {
		const uint8_t *at = b->w + k / WEIGHT_K_STEP * STEP_BYTES + k % WEIGHT_K_STEP * 32;

#pragma GCC unroll 4
		for (int t = 0; t < 2 * P; t++) {
			__m512i v = _mm512_load_si512(
				at + (t / 2) * b->panel_bytes + (t % 2) * TILE_BYTES);
			__m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
			__m512 odd = _mm512_castsi512_ps(_mm512_and_si512(v, high));

#pragma GCC unroll 8
			for (int m = 0; m < M; m++) {
				acc[m][t] = _mm512_fmadd_ps(
					even, _mm512_set1_ps(a[m][k]), acc[m][t]);
				acc[m][t] = _mm512_fmadd_ps(
					odd, _mm512_set1_ps(a[m][k + 1]), acc[m][t]);
			}
		}
	}
#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
#pragma GCC unroll 4
		for (int t = 0; t < 2 * P; t++)
			_mm512_store_ps(c + m * GEMM_COLS + t * 16, acc[m][t]);
}

void gemm_bf16_avx512(const struct gemm_block *b)
{
#define CALL1(M) rows_bf16(b, row0, M, 1)
#define CALL2(M) rows_bf16(b, row0, M, 2)
	if (b->panels == 2)
		EACH_GROUP(b, CALL2)
	else
		EACH_GROUP(b, CALL1)
#undef CALL1
#undef CALL2
}

void gemm_f8u_avx512(const struct gemm_block *b)
{
#define CALL1(M) rows_f8u(b, row0, M, 1)
#define CALL2(M) rows_f8u(b, row0, M, 2)
	if (b->panels == 2)
		EACH_GROUP(b, CALL2)
	else
		EACH_GROUP(b, CALL1)
#undef CALL1
#undef CALL2
}

/* From four rows on, two panels at once would not fit the registers. */
void gemm_f8_avx512(const struct gemm_block *b)
{
	struct gemm_block one = *b;

	if (b->panels == 2 && b->rows <= 3) {
		switch (b->rows) {
		case 1:
			rows_f8(b, 0, 1, 2);
			break;
		case 2:
			rows_f8(b, 0, 2, 2);
			break;
		default:
			rows_f8(b, 0, 3, 2);
		}
		return;
	}
#define CALL(M) rows_f8(&one, row0, M, 1)
	for (uint32_t p = 0; p < b->panels; p++) {
		EACH_GROUP(&one, CALL)
		one.c += WEIGHT_PANEL_ROWS;
		one.w += one.panel_bytes;
		one.scales += one.scale_stride;
		one.next += one.next_bytes;
	}
#undef CALL
}

void gemm_f32_avx512(const struct gemm_block *b)
{
#define CALL1(M) rows_f32(b, row0, M, 1)
#define CALL2(M) rows_f32(b, row0, M, 2)
	if (b->panels == 2)
		EACH_GROUP(b, CALL2)
	else
		EACH_GROUP(b, CALL1)
#undef CALL1
#undef CALL2
}

void gemm_unpack_f8_avx512(uint16_t *out, const uint8_t *in, size_t n)
{
	const struct f8_table table = f8_table_load();

	for (size_t i = 0; i < n; i += 64) {
		__m512i first, second;

		f8_unpack(&table, _mm512_loadu_si512(in + i), &first, &second);
		_mm512_storeu_si512(out + i, first);
		_mm512_storeu_si512(out + i + 32, second);
		_mm_prefetch((const char *)in + i + AHEAD, _MM_HINT_T0);
	}
}

#define AVX512_UKERNELS                                                                            \
	.stream_rows = 6, .bf16 = gemm_bf16_avx512, .f32 = gemm_f32_avx512, .f8 = gemm_f8_avx512,  \
	.f8u = gemm_f8u_avx512, .unpack_f8 = gemm_unpack_f8_avx512, .few_rows = 6, .k_int = 512,   \
	.few_scales = true, .i8_scales = true, .i8_few = gemm_i8_few_avx512, .i4_few = gemm_i4_few_avx512,            \
	.i8 = gemm_i8_avx512, .unpack_i4 = gemm_unpack_i4_avx512

const struct gemm_ukernels gemm_ukernels_avx512 = {AVX512_UKERNELS};
const struct gemm_ukernels gemm_ukernels_avx512_wide = {
	AVX512_UKERNELS,
	.wide = gemm_wide_avx512,
	.wide_few = gemm_wide_few_avx512,
	.wide_f8_few = gemm_wide_f8_few_avx512,
	.widen = gemm_widen_avx512,
	.widen_f8 = gemm_widen_f8_avx512,
};
