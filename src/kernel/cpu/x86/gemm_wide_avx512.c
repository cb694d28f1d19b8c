/*
 * BF16 and F8 products in F32 multiply-adds, for AVX-512 CPUs whose VDPBF16PS is slower than those.
 *
 * The bits are VDPBF16PS's: with denormals as zero it is fma(a0, b0, fma(a1, b1, c)), the odd value of a pair
 * first (tests/kernel/gemm_test.c). Input rows are F32. A weight's pair of values becomes two registers of F32:
 * once for all rows where there are many, as they are read where there are few.
 */
#include "kernel/cpu/x86/gemm_avx512.h"
#include "kernel/cpu/x86/gemm_rows_avx512.h"

/* The second and the first value of each pair. */
INLINE __m512 odd_of(__m512i pairs)
{
	return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xFFFF0000)));
}

INLINE __m512 even_of(__m512i pairs)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}

INLINE void sums_begin(const struct gemm_block *b, const float *c, __m512 acc[][4], const int M, const int P)
{
#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
#pragma GCC unroll 4
		for (int t = 0; t < 2 * P; t++)
			acc[m][t] = b->scales || b->first ? _mm512_setzero_ps()
							  : _mm512_load_ps(c + m * GEMM_COLS + t * 16);
}

INLINE void sums_end(const struct gemm_block *b, float *c, __m512 acc[][4], const int M, const int P)
{
	if (b->scales) {
		float scale[2] = {b->scales[0], P == 2 ? b->scales[b->scale_stride] : 0};

		gemm_scale_f32(c, acc, scale, b->first, M, P);
		return;
	}
#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
#pragma GCC unroll 4
		for (int t = 0; t < 2 * P; t++)
			_mm512_store_ps(c + m * GEMM_COLS + t * 16, acc[m][t]);
}

/* Expanded weights: a range of K inside one block of scales. */
INLINE void rows_wide(const struct gemm_block *b, uint32_t row0, uint32_t group, const int M, const int P)
{
	float *c = b->c + (size_t)row0 * GEMM_COLS;
	const float *w = (const float *)b->w, *a[8];
	const struct fetch_next far = fetch_begin(b, group, b->k * WEIGHT_PANEL_ROWS * 2);
	__m512 acc[8][4];

#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
		a[m] = (const float *)b->a[row0 + (uint32_t)m];
	sums_begin(b, c, acc, M, P);
	for (uint32_t pair = 0; pair < b->k / 2; pair++, w += 4 * P * 16) {
		fetch_step(&far, pair);
		if (pair % 8 == 0)
			fetch_group(b, c, row0, M, pair / 8, (size_t)pair * 8);
#pragma GCC unroll 2
		for (int half = 0; half < 2; half++) {
			__m512 v[4];

#pragma GCC unroll 4
			for (int t = 0; t < 2 * P; t++)
				v[t] = _mm512_load_ps(w + (half * 2 * P + t) * 16);
#pragma GCC unroll 8
			for (int m = 0; m < M; m++) {
				__m512 x = _mm512_set1_ps(a[m][2 * pair + 1 - half]);

#pragma GCC unroll 4
				for (int t = 0; t < 2 * P; t++)
					acc[m][t] = _mm512_fmadd_ps(v[t], x, acc[m][t]);
			}
		}
	}
	sums_end(b, c, acc, M, P);
}

void gemm_wide_avx512(const struct gemm_block *b)
{
#define CALL1(M) rows_wide(b, row0, group, M, 1)
#define CALL2(M) rows_wide(b, row0, group, M, 2)
	if (b->panels == 2)
		EACH_GROUP(b, CALL2)
	else
		EACH_GROUP(b, CALL1)
#undef CALL1
#undef CALL2
}

void gemm_widen_avx512(float *out, const uint8_t *panel, size_t panel_bytes, uint32_t panels, uint32_t k)
{
	uint32_t tiles = 2 * panels;

	for (uint32_t pair = 0; pair < k / 2; pair++, out += 2 * tiles * 16)
		for (uint32_t t = 0; t < tiles; t++) {
			__m512i x = _mm512_load_si512(panel + t / 2 * panel_bytes + pair / 16 * STEP_BYTES +
						      t % 2 * TILE_BYTES + pair % 16 * 64);

			_mm512_store_ps(out + t * 16, odd_of(x));
			_mm512_store_ps(out + (tiles + t) * 16, even_of(x));
		}
}

void gemm_widen_f8_avx512(float *out, const uint8_t *panel, size_t panel_bytes, uint32_t panels, uint32_t k)
{
	const struct f8_table table = f8_table_load();
	uint32_t tiles = 2 * panels;

	for (uint32_t i = 0; i < k / 4; i++, out += 4 * tiles * 16)
		for (uint32_t t = 0; t < tiles; t++) {
			__m512i first, second;
			const uint8_t *p = panel + t / 2 * panel_bytes + i / 8 * (STEP_BYTES / 2) +
					   t % 2 * (TILE_BYTES / 2) + i % 8 * 64;

			f8_unpack(&table, _mm512_load_si512(p), &first, &second);
			_mm512_store_ps(out + t * 16, odd_of(first));
			_mm512_store_ps(out + (tiles + t) * 16, even_of(first));
			_mm512_store_ps(out + (2 * tiles + t) * 16, odd_of(second));
			_mm512_store_ps(out + (3 * tiles + t) * 16, even_of(second));
		}
}

/* Multiply-adds of one pair of k: its odd values, then its even ones. */
INLINE void add_pair(__m512 acc[][4], const __m512i v[4], const float *const *a, size_t k, const int M, const int P)
{
#pragma GCC unroll 2
	for (int half = 0; half < 2; half++) {
		__m512 x[8];

#pragma GCC unroll 8
		for (int m = 0; m < M; m++)
			x[m] = _mm512_set1_ps(a[m][k + 1 - (size_t)half]);
#pragma GCC unroll 4
		for (int t = 0; t < 2 * P; t++) {
			__m512 w = half ? even_of(v[t]) : odd_of(v[t]);

#pragma GCC unroll 8
			for (int m = 0; m < M; m++)
				acc[m][t] = _mm512_fmadd_ps(w, x[m], acc[m][t]);
		}
	}
}

/* Streaming: BF16 panels as they are. */
INLINE void rows_few(const struct gemm_block *b, uint32_t row0, const int M, const int P)
{
	float *c = b->c + (size_t)row0 * GEMM_COLS;
	size_t bytes = (size_t)b->k * WEIGHT_PANEL_ROWS * 2;
	const float *a[8];
	__m512 acc[8][4];

#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
		a[m] = (const float *)b->a[row0 + (uint32_t)m];
	sums_begin(b, c, acc, M, P);
	for (uint32_t s = 0; s < b->k / WEIGHT_K_STEP; s++) {
		size_t at = (size_t)s * STEP_BYTES;
		const uint8_t *near[2] = {ahead(b, 0, at, bytes), ahead(b, P - 1, at, bytes)};

#pragma GCC unroll 2
		for (uint32_t pair = 0; pair < 16; pair++) {
			__m512i v[4];

#pragma GCC unroll 4
			for (int t = 0; t < 2 * P; t++) {
				v[t] = _mm512_load_si512(b->w + (t / 2) * b->panel_bytes + at +
							 (t % 2) * TILE_BYTES + pair * 64);
				_mm_prefetch((const char *)near[t / 2] + (t % 2) * TILE_BYTES + pair * 64, _MM_HINT_T0);
			}
			add_pair(acc, v, a, (size_t)s * WEIGHT_K_STEP + 2 * pair, M, P);
		}
	}
	sums_end(b, c, acc, M, P);
}

/* The same of F8 panels, block of scales by block. */
INLINE void rows_f8_few(const struct gemm_block *b, uint32_t row0, const int M, const int P)
{
	const struct f8_table table = f8_table_load();
	float *c = b->c + (size_t)row0 * GEMM_COLS;
	const float *a[8];

#pragma GCC unroll 8
	for (int m = 0; m < M; m++)
		a[m] = (const float *)b->a[row0 + (uint32_t)m];
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
				add_pair(acc, first, a, (size_t)j + i * 4, M, P);
				add_pair(acc, second, a, (size_t)j + i * 4 + 2, M, P);
			}
		}
		gemm_scale_f32(c, acc, scale, b->first && k == 0, M, P);
	}
}

void gemm_wide_few_avx512(const struct gemm_block *b)
{
#define CALL1(M) rows_few(b, row0, M, 1)
#define CALL2(M) rows_few(b, row0, M, 2)
	if (b->panels == 2)
		EACH_GROUP(b, CALL2)
	else
		EACH_GROUP(b, CALL1)
#undef CALL1
#undef CALL2
}

/* From four rows on, two panels at once would not fit the registers. */
void gemm_wide_f8_few_avx512(const struct gemm_block *b)
{
	struct gemm_block one = *b;

#define CALL1(M) rows_f8_few(&one, row0, M, 1)
#define CALL2(M) rows_f8_few(b, row0, (M) < 3 ? (M) : 3, 2)
	if (b->panels == 2 && b->rows <= 3) {
		EACH_GROUP(b, CALL2)
		return;
	}
	for (uint32_t p = 0; p < b->panels; p++) {
		EACH_GROUP(&one, CALL1)
		one.c += WEIGHT_PANEL_ROWS;
		one.w += one.panel_bytes;
		one.next += one.next_bytes;
		one.scales += one.scale_stride;
	}
#undef CALL1
#undef CALL2
}
