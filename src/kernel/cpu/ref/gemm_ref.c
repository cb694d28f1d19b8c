/*
 * Products, reference tier: the sums of cpu/gemm.h in plain C, one multiplication and one addition
 * for each k in ascending order.
 */
#include "kernel/cpu/gemm.h"

#include <string.h>

#define TILE_ROWS 16u
#define TILE_VALUES (TILE_ROWS * WEIGHT_K_STEP)

/* s[r] += a . tile row r over one K step. */
static void tile_dot(float *restrict s, const float *restrict a, const uint16_t *restrict tile)
{
	for (uint32_t k = 0; k < WEIGHT_K_STEP; k += 2)
		for (uint32_t r = 0; r < TILE_ROWS; r++) {
			const uint16_t *w = tile + k * TILE_ROWS + 2 * r;

			s[r] += a[k] * bf16_to_f32(w[0]);
			s[r] += a[k + 1] * bf16_to_f32(w[1]);
		}
}

enum input { INPUT_BF16, INPUT_F32 };

static void input_step(float *out, const uint8_t *a, uint32_t k, enum input type)
{
	for (uint32_t i = 0; i < WEIGHT_K_STEP; i++) {
		uint16_t x;

		if (type == INPUT_F32) {
			memcpy(out + i, a + (k + i) * 4, 4);
		} else {
			memcpy(&x, a + (k + i) * 2, 2);
			out[i] = bf16_to_f32(x);
		}
	}
}

/* One row against one tile column (16 weight rows) of a panel. */
static void row_tile(const struct gemm_block *b, float *c, const uint8_t *a, uint32_t panel,
	uint32_t tile, enum input type)
{
	const uint16_t *w = (const uint16_t *)(b->w + panel * b->panel_bytes) + tile * TILE_VALUES;
	uint32_t flush = b->scales ? WEIGHT_SCALE_BLOCK : b->k;
	float sum[TILE_ROWS] = {0}, x[WEIGHT_K_STEP];

	if (b->first)
		memset(c, 0, sizeof(sum));
	if (!b->scales)
		memcpy(sum, c, sizeof(sum));
	for (uint32_t k = 0; k < b->k; k += WEIGHT_K_STEP) {
		input_step(x, a, k, type);
		tile_dot(sum, x, w + (size_t)k * WEIGHT_PANEL_ROWS);
		if (b->scales && ((k + WEIGHT_K_STEP) % flush == 0 || k + WEIGHT_K_STEP == b->k)) {
			float scale = b->scales[panel * b->scale_stride + k / flush];

			for (uint32_t r = 0; r < TILE_ROWS; r++)
				c[r] += sum[r] * scale;
			memset(sum, 0, sizeof(sum));
		}
	}
	if (!b->scales)
		memcpy(c, sum, sizeof(sum));
}

static void block(const struct gemm_block *b, enum input type)
{
	for (uint32_t i = 0; i < b->rows; i++)
		for (uint32_t t = 0; t < 2 * b->panels; t++)
			row_tile(b, b->c + (size_t)i * GEMM_COLS + t * TILE_ROWS, b->a[i], t / 2,
				t % 2, type);
}

void gemm_bf16_ref(const struct gemm_block *b)
{
	block(b, INPUT_BF16);
}

void gemm_f32_ref(const struct gemm_block *b)
{
	block(b, INPUT_F32);
}

void gemm_f8u_ref(const struct gemm_block *b)
{
	block(b, INPUT_BF16);
}

static void unpack_f8(uint16_t *out, const uint8_t *in, size_t n)
{
	uint16_t table[256];

	for (int i = 0; i < 256; i++)
		table[i] = f32_to_bf16(f8e4m3_to_f32((uint8_t)i)); /* exact */
	for (size_t i = 0; i < n; i++)
		out[i] = table[in[i]];
}

void gemm_i8_ref(const struct gemm_block *b)
{
	for (uint32_t i = 0; i < b->rows; i++)
		for (uint32_t p = 0; p < b->panels; p++)
			for (uint32_t r = 0; r < WEIGHT_PANEL_ROWS; r++) {
				/* kernel/weight.h: steps of 64 k, tiles of 16 rows, groups of 4 k */
				const uint8_t *w = b->w + p * b->panel_bytes + r / TILE_ROWS * 1024 +
						   r % TILE_ROWS * 4;
				int32_t *out = b->sum + (size_t)i * GEMM_COLS + p * WEIGHT_PANEL_ROWS + r;
				int32_t sum = b->first ? 0 : *out;

				for (uint32_t k = 0; k < b->k; k++)
					sum += b->a[i][k] *
					       (int8_t)w[(size_t)(k / 64) * 2048 + k % 64 / 4 * 64 + k % 4];
				*out = sum;
			}
}

static void unpack_i4(uint8_t *out, const uint8_t *in, size_t n)
{
	/* A step of low nibbles, a step of high ones. */
	for (size_t at = 0; at < n; at += 2048, out += 4096)
		for (size_t i = 0; i < 2048; i++) {
			out[i] = (uint8_t)(in[at + i] << 4);
			out[2048 + i] = in[at + i] & 0xF0;
		}
}

const struct gemm_ukernels gemm_ukernels_ref = {
	.bf16 = gemm_bf16_ref,
	.f32 = gemm_f32_ref,
	.f8u = gemm_f8u_ref,
	.unpack_f8 = unpack_f8,
	.k_int = GEMM_INT_K,
	.i8 = gemm_i8_ref,
	.unpack_i4 = unpack_i4,
};
