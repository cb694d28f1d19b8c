/*
 * Products, amx tier: TDPBF16PS for any number of rows, so that a row's sums are the same alone and
 * in company. The router's F32 input takes the avx512 kernel.
 *
 * 32 rows by one panel are 2 x 2 tiles of sums; up to 16 rows by two panels are 1 x 4. A chain adds
 * whole K steps in ascending order (the instruction's own order inside a step), whichever shape it is
 * computed in.
 */
#include "kernel/cpu/x86/amx.h"

#include <immintrin.h>

#include "kernel/cpu/gemm.h"
#include "kernel/cpu/x86/gemm_avx512.h"

#define TILE 16u
#define TILE_BYTES 1024u
#define STEP_BYTES 2048u
#define C_STRIDE (GEMM_COLS * sizeof(float))
#define A_STRIDE (GEMM_K * sizeof(uint16_t)) /* bytes of a range of K: of integers too */

/* Up to 16 input rows as a tile operand: row i at p + i * stride. */
struct amx_input {
	const uint8_t *p;
	size_t stride;
};

/* Rows that lie evenly in memory are read in place; others are copied to buf [16][A_STRIDE]. Missing
 * rows repeat row 0 or hold stale values: they only reach rows of c that nobody reads. */
static struct amx_input amx_input(
	const uint8_t *const *a, uint32_t rows, size_t bytes, uint8_t *buf)
{
	size_t stride = rows > 1 ? (size_t)(a[1] - a[0]) : 0;
	bool even = rows == TILE || rows == 1;

	for (uint32_t i = 1; even && i < rows; i++)
		even = a[i] == a[0] + i * stride;
	if (even)
		return (struct amx_input){a[0], stride};
	for (uint32_t i = 0; i < rows; i++)
		memcpy(buf + i * A_STRIDE, a[i], bytes);
	return (struct amx_input){buf, A_STRIDE};
}

/* Tiles 0-3: rows of x0 by both tiles of the panel, then rows of x1. */
static void chain_2x2(struct amx_input x0, struct amx_input x1, const uint8_t *w, uint32_t steps)
{
	for (uint32_t s = 0; s < steps; s++, w += STEP_BYTES) {
		amx_load(4, x0.p + s * 64, x0.stride);
		amx_load(6, w, 64);
		amx_dp_bf16(0, 4, 6);
		amx_load(7, w + TILE_BYTES, 64);
		amx_dp_bf16(1, 4, 7);
		amx_load(5, x1.p + s * 64, x1.stride);
		amx_dp_bf16(2, 5, 6);
		amx_dp_bf16(3, 5, 7);
	}
}

/* Tiles 0-3: rows of x by the tiles of two panels. */
static void chain_1x4(struct amx_input x, const uint8_t *w, size_t panel_bytes, uint32_t steps)
{
	for (uint32_t s = 0; s < steps; s++, w += STEP_BYTES) {
		amx_load(4, x.p + s * 64, x.stride);
		amx_load(5, w, 64);
		amx_dp_bf16(0, 4, 5);
		amx_load(6, w + TILE_BYTES, 64);
		amx_dp_bf16(1, 4, 6);
		amx_load(7, w + panel_bytes, 64);
		amx_dp_bf16(2, 4, 7);
		amx_load(5, w + panel_bytes + TILE_BYTES, 64);
		amx_dp_bf16(3, 4, 5);
	}
}

/* The same of integers, 64 k a step: tiles are as large. */
static void chain_2x2_i8(struct amx_input x0, struct amx_input x1, const uint8_t *w, uint32_t steps)
{
	for (uint32_t s = 0; s < steps; s++, w += STEP_BYTES) {
		amx_load(4, x0.p + s * 64, x0.stride);
		amx_load(6, w, 64);
		amx_dp_busd(0, 4, 6);
		amx_load(7, w + TILE_BYTES, 64);
		amx_dp_busd(1, 4, 7);
		amx_load(5, x1.p + s * 64, x1.stride);
		amx_dp_busd(2, 5, 6);
		amx_dp_busd(3, 5, 7);
	}
}

static void chain_1x4_i8(struct amx_input x, const uint8_t *w, size_t panel_bytes, uint32_t steps)
{
	for (uint32_t s = 0; s < steps; s++, w += STEP_BYTES) {
		amx_load(4, x.p + s * 64, x.stride);
		amx_load(5, w, 64);
		amx_dp_busd(0, 4, 5);
		amx_load(6, w + TILE_BYTES, 64);
		amx_dp_busd(1, 4, 6);
		amx_load(7, w + panel_bytes, 64);
		amx_dp_busd(2, 4, 7);
		amx_load(5, w + panel_bytes + TILE_BYTES, 64);
		amx_dp_busd(3, 4, 5);
	}
}

/* Sums of tiles 0-3 start at zero, or go from and to four places. */
static void sums_zero(void)
{
	amx_zero(0);
	amx_zero(1);
	amx_zero(2);
	amx_zero(3);
}

static void sums_load(float *const c[4])
{
	amx_load(0, c[0], C_STRIDE);
	amx_load(1, c[1], C_STRIDE);
	amx_load(2, c[2], C_STRIDE);
	amx_load(3, c[3], C_STRIDE);
}

static void sums_store(float *const c[4])
{
	amx_store(0, c[0], C_STRIDE);
	amx_store(1, c[1], C_STRIDE);
	amx_store(2, c[2], C_STRIDE);
	amx_store(3, c[3], C_STRIDE);
}

/* Where the four tiles of sums go: 2 x 2 from the first column of a panel, or 1 x 4. */
static void sums_place(float *out[4], float *c, bool square)
{
	out[0] = c;
	out[1] = c + TILE;
	out[2] = square ? c + TILE * GEMM_COLS : c + 2 * TILE;
	out[3] = out[2] + TILE;
}

static void add_scaled(
	float *c, const float *sum, uint32_t rows, uint32_t cols, const float *scale, bool first)
{
	for (uint32_t i = 0; i < rows; i++)
		for (uint32_t j = 0; j < cols; j += TILE) {
			size_t at = (size_t)i * GEMM_COLS + j;
			__m512 old = first ? _mm512_setzero_ps() : _mm512_load_ps(c + at);

			_mm512_store_ps(c + at,
				_mm512_fmadd_ps(_mm512_load_ps(sum + at),
					_mm512_set1_ps(scale[j / WEIGHT_PANEL_ROWS]), old));
		}
}

/* Up to 32 rows by one panel (square), or up to 16 by two. `w` and `c` are the panel's. */
static void part(const struct gemm_block *b, uint32_t row0, uint32_t rows, uint32_t panel,
	bool square, float *c)
{
	uint8_t buf[2 * TILE * A_STRIDE] __attribute__((aligned(64)));
	float sum[2 * TILE * GEMM_COLS] __attribute__((aligned(64)));
	const uint8_t *w = b->w + panel * b->panel_bytes;
	uint32_t low = rows < TILE ? rows : TILE;
	struct amx_input x0 = amx_input(b->a + row0, low, (size_t)b->k * 2, buf), x1 = x0;
	uint32_t cut = b->scales ? WEIGHT_SCALE_BLOCK : b->k;
	float *at[4];

	if (rows > TILE)
		x1 = amx_input(b->a + row0 + TILE, rows - TILE, (size_t)b->k * 2, buf + TILE * A_STRIDE);
	sums_place(at, b->scales ? sum : c, square);
	for (uint32_t k = 0; k < b->k; k += cut) {
		uint32_t n = b->k - k < cut ? b->k - k : cut;

		if (b->scales || b->first)
			sums_zero();
		else
			sums_load(at);
		if (square)
			chain_2x2(x0, x1, w, n / WEIGHT_K_STEP);
		else
			chain_1x4(x0, w, b->panel_bytes, n / WEIGHT_K_STEP);
		sums_store(at);
		if (b->scales) {
			const float *s = b->scales + panel * b->scale_stride + k / cut;
			float scale[2] = {s[0], square ? 0 : s[b->scale_stride]};

			add_scaled(c, sum, rows, square ? WEIGHT_PANEL_ROWS : GEMM_COLS, scale,
				b->first && k == 0);
		}
		x0.p += (size_t)n * 2;
		x1.p += (size_t)n * 2;
		w += (size_t)n * WEIGHT_PANEL_ROWS * 2;
	}
}

static void block(const struct gemm_block *b)
{
	for (uint32_t row0 = 0; row0 < b->rows; row0 += 2 * TILE) {
		uint32_t rows = b->rows - row0 < 2 * TILE ? b->rows - row0 : 2 * TILE;
		float *c = b->c + (size_t)row0 * GEMM_COLS;

		if (rows <= TILE && b->panels == 2) {
			part(b, row0, rows, 0, false, c);
			continue;
		}
		for (uint32_t p = 0; p < b->panels; p++)
			part(b, row0, rows, p, true, c + p * WEIGHT_PANEL_ROWS);
	}
}

void gemm_bf16_amx(const struct gemm_block *b)
{
	block(b);
}

void gemm_f8u_amx(const struct gemm_block *b)
{
	block(b);
}

/* As part(), without scales; places of I32 sums are those of F32 ones. */
static void part_i8(const struct gemm_block *b, uint32_t row0, uint32_t rows, uint32_t panel, bool square,
	float *c)
{
	uint8_t buf[2 * TILE * A_STRIDE] __attribute__((aligned(64)));
	const uint8_t *w = b->w + panel * b->panel_bytes;
	uint32_t low = rows < TILE ? rows : TILE;
	struct amx_input x0 = amx_input(b->a + row0, low, b->k, buf), x1 = x0;
	float *at[4];

	if (rows > TILE)
		x1 = amx_input(b->a + row0 + TILE, rows - TILE, b->k, buf + TILE * A_STRIDE);
	sums_place(at, c, square);
	if (b->first)
		sums_zero();
	else
		sums_load(at);
	if (square)
		chain_2x2_i8(x0, x1, w, b->k / 64);
	else
		chain_1x4_i8(x0, w, b->panel_bytes, b->k / 64);
	sums_store(at);
}

void gemm_i8_amx(const struct gemm_block *b)
{
	for (uint32_t row0 = 0; row0 < b->rows; row0 += 2 * TILE) {
		uint32_t rows = b->rows - row0 < 2 * TILE ? b->rows - row0 : 2 * TILE;
		float *c = (float *)b->sum + (size_t)row0 * GEMM_COLS;

		if (rows <= TILE && b->panels == 2) {
			part_i8(b, row0, rows, 0, false, c);
			continue;
		}
		for (uint32_t p = 0; p < b->panels; p++)
			part_i8(b, row0, rows, p, true, c + p * WEIGHT_PANEL_ROWS);
	}
}

/* Functions, as amx_begin and amx_end are inline. */
static void thread_begin(void)
{
	amx_begin();
}

static void thread_end(void)
{
	amx_end();
}

const struct gemm_ukernels gemm_ukernels_amx = {
	.thread_begin = thread_begin,
	.thread_end = thread_end,
	.bf16 = gemm_bf16_amx,
	.f32 = gemm_f32_avx512,
	.f8u = gemm_f8u_amx,
	.unpack_f8 = gemm_unpack_f8_avx512,
	.k_int = GEMM_INT_K,
	.few_rows = 4, /* fewer than a tile's worth: the weight streams by, and sums are exact anyway */
	.few_scales = true,
	.i8_few = gemm_i8_few_avx512,
	.i4_few = gemm_i4_few_avx512,
	.i8 = gemm_i8_amx,
	.unpack_i4 = gemm_unpack_i4_avx512,
};
