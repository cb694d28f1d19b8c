/*
 * Products, avx512 tier: VDPBF16PS, one accumulator chain for each output.
 *
 * A chain adds k pairs in ascending order (the instruction's own order inside a pair; it treats
 * denormals as zero). The register block is rows x 64 columns, or x 32 when a single panel is left;
 * neither shows in a chain. FP8 becomes BF16 by table, exactly.
 */
#include <immintrin.h>

#include "kernel/cpu/gemm.h"
#include "kernel/cpu/x86/f8_avx512.h"
#include "kernel/cpu/x86/gemm_avx512.h"

#define INLINE static inline __attribute__((always_inline))
#define STEP_BYTES 2048u /* a K step of a BF16 panel */
#define TILE_BYTES 1024u
#define AHEAD 4096u /* prefetch distance in each panel */

INLINE __m512 dot(__m512 c, __m512i w, int32_t a)
{
	return _mm512_dpbf16_ps(c, (__m512bh)w, (__m512bh)_mm512_set1_epi32(a));
}

INLINE int32_t load_pair(const uint8_t *a)
{
	int32_t x;

	memcpy(&x, a, sizeof(x));
	return x;
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

/* c = fma(acc, scale of its panel, c), or acc * scale at the first block of K. */
INLINE void add_scaled(
	float *c, __m512 acc[][4], const float scale[2], bool first, const int M, const int P)
{
#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
#pragma GCC unroll 4
		for (int t = 0; t < 2 * P; t++) {
			float *p = c + m * GEMM_COLS + t * 16;
			__m512 old = first ? _mm512_setzero_ps() : _mm512_load_ps(p);

			_mm512_store_ps(
				p, _mm512_fmadd_ps(acc[m][t], _mm512_set1_ps(scale[t / 2]), old));
		}
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
		add_scaled(c, acc, scale, b->first && k == 0, M, P);
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
		const uint8_t *w = b->w + (size_t)k * WEIGHT_PANEL_ROWS;
		const float *s = b->scales + k / WEIGHT_SCALE_BLOCK;
		float scale[2] = {s[0], P == 2 ? s[b->scale_stride] : 0};
		__m512 acc[8][4];

#pragma GCC unroll 8
		for (int m = 0; m < M; m++)
#pragma GCC unroll 4
			for (int t = 0; t < 2 * P; t++)
				acc[m][t] = _mm512_setzero_ps();
		for (uint32_t i = 0; i < n / 4; i++) { /* two pairs: 4 k */
			const uint8_t *at = w + i / 8 * (STEP_BYTES / 2) + i % 8 * 64;
			__m512i even[4], odd[4];

#pragma GCC unroll 4
			for (int t = 0; t < 2 * P; t++) {
				const uint8_t *p = at + (t / 2) * b->panel_bytes +
						   (t % 2) * (TILE_BYTES / 2);

				f8_unpack(&table, _mm512_load_si512(p), &even[t], &odd[t]);
				_mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0);
			}
#pragma GCC unroll 8
			for (int m = 0; m < M; m++) {
				const uint8_t *x = a[m] + ((size_t)k + i * 4) * 2;
				int32_t x0 = load_pair(x), x1 = load_pair(x + 4);

#pragma GCC unroll 4
				for (int t = 0; t < 2 * P; t++)
					acc[m][t] = dot(acc[m][t], even[t], x0);
#pragma GCC unroll 4
				for (int t = 0; t < 2 * P; t++)
					acc[m][t] = dot(acc[m][t], odd[t], x1);
			}
		}
		add_scaled(c, acc, scale, b->first && k == 0, M, P);
	}
}

/* F32 input: weights widened, one fused multiply-add for each k. */
INLINE void rows_f32(const struct gemm_block *b, uint32_t row0, const int M, const int P)
{
	const __m512i high = _mm512_set1_epi32((int)0xFFFF0000);
	float *c = b->c + (size_t)row0 * GEMM_COLS;
	const float *a[4];
	__m512 acc[4][4];

#pragma GCC unroll 4
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

#pragma GCC unroll 4
			for (int m = 0; m < M; m++) {
				acc[m][t] = _mm512_fmadd_ps(
					even, _mm512_set1_ps(a[m][k]), acc[m][t]);
				acc[m][t] = _mm512_fmadd_ps(
					odd, _mm512_set1_ps(a[m][k + 1]), acc[m][t]);
			}
		}
	}
#pragma GCC unroll 4
	for (int m = 0; m < M; m++)
#pragma GCC unroll 4
		for (int t = 0; t < 2 * P; t++)
			_mm512_store_ps(c + m * GEMM_COLS + t * 16, acc[m][t]);
}

/* Integers: VPDPBUSD of input bytes and weights, 4 k a time. */
INLINE void rows_i8(const struct gemm_block *b, uint32_t row0, const int M, const int P)
{
	int32_t *c = b->sum + (size_t)row0 * GEMM_COLS;
	const uint8_t *a[8];
	__m512i acc[8][4];

#pragma GCC unroll 8
	for (int m = 0; m < M; m++) {
		a[m] = b->a[row0 + (uint32_t)m];
#pragma GCC unroll 4
		for (int t = 0; t < 2 * P; t++)
			acc[m][t] = b->first ? _mm512_setzero_si512()
					     : _mm512_load_si512(c + m * GEMM_COLS + t * 16);
	}
	for (uint32_t s = 0; s < b->k / 64; s++) {
#pragma GCC unroll 4
		for (uint32_t quad = 0; quad < 16; quad++) {
			__m512i v[4];

#pragma GCC unroll 4
			for (int t = 0; t < 2 * P; t++) {
				const uint8_t *p = b->w + (t / 2) * b->panel_bytes + (size_t)s * STEP_BYTES +
						   (t % 2) * TILE_BYTES + quad * 64;

				v[t] = _mm512_load_si512(p);
				_mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0);
			}
#pragma GCC unroll 8
			for (int m = 0; m < M; m++) {
				__m512i x = _mm512_set1_epi32(load_pair(a[m] + (size_t)s * 64 + quad * 4));

#pragma GCC unroll 4
				for (int t = 0; t < 2 * P; t++)
					acc[m][t] = _mm512_dpbusd_epi32(acc[m][t], x, v[t]);
			}
		}
	}
#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
#pragma GCC unroll 4
		for (int t = 0; t < 2 * P; t++)
			_mm512_store_si512(c + m * GEMM_COLS + t * 16, acc[m][t]);
}

/* The same from nibbles: a register holds 4 k of a step and, 64 k further, 4 of the next. */
INLINE void rows_i4(const struct gemm_block *b, uint32_t row0, const int M, const int P)
{
	const __m512i high = _mm512_set1_epi8((char)0xF0);
	int32_t *c = b->sum + (size_t)row0 * GEMM_COLS;
	const uint8_t *a[8];
	__m512i acc[8][4];

#pragma GCC unroll 8
	for (int m = 0; m < M; m++) {
		a[m] = b->a[row0 + (uint32_t)m];
#pragma GCC unroll 4
		for (int t = 0; t < 2 * P; t++)
			acc[m][t] = b->first ? _mm512_setzero_si512()
					     : _mm512_load_si512(c + m * GEMM_COLS + t * 16);
	}
	for (uint32_t s = 0; s < b->k / 128; s++) {
#pragma GCC unroll 2
		for (uint32_t quad = 0; quad < 16; quad++) {
			__m512i v[4], w[4];

#pragma GCC unroll 4
			for (int t = 0; t < 2 * P; t++) {
				const uint8_t *p = b->w + (t / 2) * b->panel_bytes + (size_t)s * STEP_BYTES +
						   (t % 2) * TILE_BYTES + quad * 64;
				__m512i x = _mm512_load_si512(p);

				_mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0);
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
#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
#pragma GCC unroll 4
		for (int t = 0; t < 2 * P; t++)
			_mm512_store_si512(c + m * GEMM_COLS + t * 16, acc[m][t]);
}

/* Calls fn(b, row0, M, P) with constants, M rows at a time, at most `max`. */
#define EACH_ROWS(fn, b, max, P)                                                                   \
	for (uint32_t row0 = 0, left; row0 < (b)->rows; row0 += left) {                            \
		left = (b)->rows - row0 < (max) ? (b)->rows - row0 : (max);                        \
		switch (left) {                                                                    \
		case 1:                                                                            \
			fn(b, row0, 1, P);                                                         \
			break;                                                                     \
		case 2:                                                                            \
			fn(b, row0, 2, P);                                                         \
			break;                                                                     \
		case 3:                                                                            \
			fn(b, row0, 3, P);                                                         \
			break;                                                                     \
		case 4:                                                                            \
			fn(b, row0, 4, P);                                                         \
			break;                                                                     \
		case 5:                                                                            \
			fn(b, row0, 5, P);                                                         \
			break;                                                                     \
		default:                                                                           \
			fn(b, row0, 6, P);                                                         \
		}                                                                                  \
	}

void gemm_bf16_avx512(const struct gemm_block *b)
{
	if (b->panels == 2)
		EACH_ROWS(rows_bf16, b, 6, 2)
	else
		EACH_ROWS(rows_bf16, b, 6, 1)
}

void gemm_f8u_avx512(const struct gemm_block *b)
{
	if (b->panels == 2)
		EACH_ROWS(rows_f8u, b, 6, 2)
	else
		EACH_ROWS(rows_f8u, b, 6, 1)
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
	for (uint32_t p = 0; p < b->panels; p++) {
		EACH_ROWS(rows_f8, &one, 6, 1)
		one.c += WEIGHT_PANEL_ROWS;
		one.w += one.panel_bytes;
		one.scales += one.scale_stride;
	}
}

void gemm_i8_avx512(const struct gemm_block *b)
{
	if (b->panels == 2)
		EACH_ROWS(rows_i8, b, 6, 2)
	else
		EACH_ROWS(rows_i8, b, 6, 1)
}

/* From four rows on, two panels at once would not fit the registers. */
void gemm_i4_avx512(const struct gemm_block *b)
{
	struct gemm_block one = *b;

	if (b->panels == 2 && b->rows <= 3) {
		switch (b->rows) {
		case 1:
			rows_i4(b, 0, 1, 2);
			break;
		case 2:
			rows_i4(b, 0, 2, 2);
			break;
		default:
			rows_i4(b, 0, 3, 2);
		}
		return;
	}
	for (uint32_t p = 0; p < b->panels; p++) {
		EACH_ROWS(rows_i4, &one, 6, 1)
		one.sum += WEIGHT_PANEL_ROWS;
		one.w += one.panel_bytes;
	}
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

void gemm_f32_avx512(const struct gemm_block *b)
{
	if (b->panels == 2)
		for (uint32_t r = 0; r < b->rows; r++)
			if (r + 4 <= b->rows) {
				rows_f32(b, r, 4, 2);
				r += 3;
			} else {
				rows_f32(b, r, 1, 2);
			}
	else
		for (uint32_t r = 0; r < b->rows; r++)
			rows_f32(b, r, 1, 1);
}

void gemm_unpack_f8_avx512(uint16_t *out, const uint8_t *in, size_t n)
{
	const struct f8_table table = f8_table_load();

	for (size_t i = 0; i < n; i += 64) {
		__m512i even, odd;

		f8_unpack(&table, _mm512_loadu_si512(in + i), &even, &odd);
		_mm512_storeu_si512(out + i, even);
		_mm512_storeu_si512(out + i + 32, odd);
		_mm_prefetch((const char *)in + i + AHEAD, _MM_HINT_T0);
	}
}

const struct gemm_ukernels gemm_ukernels_avx512 = {
	.name = "avx512",
	.stream_rows = 6,
	.bf16 = gemm_bf16_avx512,
	.f32 = gemm_f32_avx512,
	.f8 = gemm_f8_avx512,
	.f8u = gemm_f8u_avx512,
	.unpack_f8 = gemm_unpack_f8_avx512,
	.few_rows = 6,
	.i8_few = gemm_i8_avx512,
	.i4_few = gemm_i4_avx512,
	.i8 = gemm_i8_avx512,
	.unpack_i4 = gemm_unpack_i4_avx512,
};
