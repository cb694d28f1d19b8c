/*
 * Packs source rows into panels (kernel/weight.h has the layout).
 *
 * A tile is a small square turned over: what 16 source rows hold side by side, in groups of VNNI values,
 * comes to lie row by row within each group. Rows that hold the bytes of a tile as they are get turned where
 * they lie; what is missing, converted, or strided is gathered into a block of the same form first.
 *
 * Invariant: every byte of a packed panel is written by one weight_pack_panel* call, filling included, so
 * panels may be packed by any thread in any order into memory that was never cleared. Called by the loader
 * while it reads a checkpoint, and by tests.
 */
#include "kernel/weight.h"

#include <stdbool.h>

#define TILE_ROWS 16u
#define BLOCK_BYTES 64u /* most bytes of a row that a tile takes */

typedef uint16_t u16x8 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));

#ifdef __clang__
#define MIX(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define MIX(type, a, b, ...) __builtin_shuffle(a, b, (type){__VA_ARGS__})
#endif

/* --- turning ------------------------------------------------------------------------------------ */

/*
 * Squares of 8 x 8 pairs of bytes. Each round interleaves the first half of the registers with the second,
 * which rotates the bits of an element's number, row before column; after three rounds they have changed
 * places.
 */
static void turn_square_of_2(uint8_t *out, size_t out_stride, const uint8_t *in, size_t in_stride)
{
	u16x8 x[8], y[8];

	for (int i = 0; i < 8; i++)
		memcpy(&x[i], in + (size_t)i * in_stride, sizeof(x[i]));
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 4; i++) {
			y[2 * i] = MIX(u16x8, x[i], x[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
			y[2 * i + 1] = MIX(u16x8, x[i], x[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
		}
		memcpy(x, y, sizeof(x));
	}
	for (int i = 0; i < 8; i++)
		memcpy(out + (size_t)i * out_stride, &x[i], sizeof(x[i]));
}

/* The same for 4 x 4 words. */
static void turn_square_of_4(uint8_t *out, size_t out_stride, const uint8_t *in, size_t in_stride)
{
	u32x4 x[4], y[4];

	for (int i = 0; i < 4; i++)
		memcpy(&x[i], in + (size_t)i * in_stride, sizeof(x[i]));
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 2; i++) {
			y[2 * i] = MIX(u32x4, x[i], x[i + 2], 0, 4, 1, 5);
			y[2 * i + 1] = MIX(u32x4, x[i], x[i + 2], 2, 6, 3, 7);
		}
		memcpy(x, y, sizeof(x));
	}
	for (int i = 0; i < 4; i++)
		memcpy(out + (size_t)i * out_stride, &x[i], sizeof(x[i]));
}

/* A tile of groups of 2 bytes: 32 bytes of each row. */
static void turn_tile_of_2(uint8_t *out, const uint8_t *in, size_t stride)
{
	for (size_t row = 0; row < TILE_ROWS; row += 8)
		for (size_t at = 0; at < 32; at += 16)
			turn_square_of_2(out + at * TILE_ROWS + row * 2, TILE_ROWS * 2, in + row * stride + at,
				stride);
}

/* A tile of groups of 4 bytes: 64 bytes of each row. */
static void turn_tile_of_4(uint8_t *out, const uint8_t *in, size_t stride)
{
	for (size_t row = 0; row < TILE_ROWS; row += 4)
		for (size_t at = 0; at < 64; at += 16)
			turn_square_of_4(out + at * TILE_ROWS + row * 4, TILE_ROWS * 4, in + row * stride + at,
				stride);
}

/* --- gathering ---------------------------------------------------------------------------------- */

/* Source rows of a panel. What is not there is zero. */
struct source {
	const uint8_t *at;
	enum dtype type;
	size_t row_stride, col_stride; /* elements */
	uint32_t rows, cols;
	/* Writes columns first .. first + n - 1 of a row as a tile has them; n is no more than it takes. */
	void (*gather)(uint8_t *out, const struct source *s, uint32_t row, uint32_t first, uint32_t n);
	/* FP8 that is dequantized: a scale for each 128 x 128 of its tensor, where (row0, col0) is (0, 0) here. */
	const float *scales;
	size_t scale_row_stride, scale_col_stride;
	uint32_t row0, col0;
};

static size_t element(const struct source *s, uint32_t row, uint32_t col)
{
	return row * s->row_stride + col * s->col_stride;
}

static void gather_bytes(uint8_t *out, const struct source *s, uint32_t row, uint32_t first, uint32_t n)
{
	const uint8_t *in = s->at + element(s, row, first);
	size_t stride = s->col_stride;

	for (uint32_t i = 0; i < n; i++)
		out[i] = in[i * stride];
}

static void gather_pairs(uint8_t *out, const struct source *s, uint32_t row, uint32_t first, uint32_t n)
{
	const uint8_t *in = s->at + 2 * element(s, row, first);
	size_t stride = 2 * s->col_stride;

	for (uint32_t i = 0; i < n; i++)
		memcpy(out + 2 * i, in + i * stride, 2);
}

static void gather_f32(uint8_t *out, const struct source *s, uint32_t row, uint32_t first, uint32_t n)
{
	const uint8_t *in = s->at + sizeof(float) * element(s, row, first);
	size_t stride = sizeof(float) * s->col_stride;

	for (uint32_t i = 0; i < n; i++) {
		uint16_t x;
		float f;

		memcpy(&f, in + i * stride, sizeof(f));
		x = f32_to_bf16(f);
		memcpy(out + 2 * i, &x, sizeof(x));
	}
}

static void gather_dequantized(uint8_t *out, const struct source *s, uint32_t row, uint32_t first, uint32_t n)
{
	const float *scales = s->scales + (s->row0 + row) / WEIGHT_SCALE_BLOCK * s->scale_row_stride;

	for (uint32_t i = 0; i < n; i++) {
		float scale = scales[(s->col0 + first + i) / WEIGHT_SCALE_BLOCK * s->scale_col_stride];
		uint16_t x = f32_to_bf16(f8e4m3_to_f32(s->at[element(s, row, first + i)]) * scale);

		memcpy(out + 2 * i, &x, sizeof(x));
	}
}

/* Two steps in the place of one, from bytes that hold two rows. */
static void gather_nibbles(uint8_t *out, const struct source *s, uint32_t row, uint32_t first, uint32_t n)
{
	const uint8_t *in = s->at + element(s, row / 2, first);
	int shift = row % 2 * 4;

	if (n == 2 * BLOCK_BYTES && s->col_stride == 1) {
		for (uint32_t i = 0; i < BLOCK_BYTES; i += sizeof(u16x8)) {
			u16x8 low, high;

			memcpy(&low, in + i, sizeof(low));
			memcpy(&high, in + BLOCK_BYTES + i, sizeof(high));
			low = (low >> shift & 0x0F0F) | (high >> shift & 0x0F0F) << 4;
			memcpy(out + i, &low, sizeof(low));
		}
		return;
	}
	memset(out, 0, BLOCK_BYTES);
	for (uint32_t i = 0; i < n; i++)
		out[i % BLOCK_BYTES] |= (uint8_t)((in[i * s->col_stride] >> shift & 0x0F) << i / BLOCK_BYTES * 4);
}

/* --- panels ------------------------------------------------------------------------------------- */

/* How the rows of a format fill tiles. */
struct tiling {
	uint32_t k;         /* columns that a tile takes */
	uint32_t row_bytes; /* which are so many bytes */
	enum dtype as_is;   /* elements that are stored so already; DT_COUNT: none */
	void (*turn)(uint8_t *out, const uint8_t *in, size_t stride);
};

static const struct tiling tilings[WEIGHT_FORMAT_COUNT] = {
	[WEIGHT_BF16] = {32, 64, DT_BF16, turn_tile_of_4},
	[WEIGHT_F8_BLOCK] = {32, 32, DT_F8_E4M3, turn_tile_of_2},
	[WEIGHT_I8] = {64, 64, DT_I8, turn_tile_of_4},
	[WEIGHT_I4] = {128, 64, DT_COUNT, turn_tile_of_4},
};

/* The tile at (row, col) by way of a block. */
static void gather_tile(uint8_t *out, const struct tiling *t, const struct source *s, uint32_t row, uint32_t col)
{
	uint8_t block[TILE_ROWS * BLOCK_BYTES];
	uint32_t n = col < s->cols ? s->cols - col : 0;

	n = n < t->k ? n : t->k;
	if (n < t->k || row + TILE_ROWS > s->rows)
		memset(block, 0, sizeof(block));
	for (uint32_t i = 0; i < TILE_ROWS && row + i < s->rows && n; i++)
		s->gather(block + i * BLOCK_BYTES, s, row + i, col, n);
	t->turn(out, block, BLOCK_BYTES);
}

static void pack(uint8_t *out, const struct weight *w, const struct source *s)
{
	const struct tiling *t = &tilings[w->format];
	size_t elem = dtype_bytes(s->type);
	bool as_is = s->type == t->as_is && s->col_stride == 1;

	for (uint32_t col = 0; col < w->k_padded; col += t->k)
		for (uint32_t row = 0; row < WEIGHT_PANEL_ROWS; row += TILE_ROWS) {
			if (as_is && row + TILE_ROWS <= s->rows && col + t->k <= s->cols)
				t->turn(out, s->at + element(s, row, col) * elem, s->row_stride * elem);
			else
				gather_tile(out, t, s, row, col);
			out += TILE_ROWS * t->row_bytes;
		}
}

static bool source_fits(enum weight_format f, enum dtype type)
{
	if (f == WEIGHT_BF16)
		return type == DT_BF16 || type == DT_F32;
	return type == (f == WEIGHT_F8_BLOCK ? DT_F8_E4M3 : DT_I8);
}

void weight_pack_panel(struct weight *w, uint32_t panel, uint32_t n_rows, const void *src,
	enum dtype src_type, size_t row_stride, size_t col_stride)
{
	struct source s = {
		.at = src,
		.type = src_type,
		.row_stride = row_stride,
		.col_stride = col_stride,
		.rows = n_rows,
		.cols = w->k,
		.gather = gather_bytes,
	};

	BUG_ON(panel >= w->n_panels || n_rows > WEIGHT_PANEL_ROWS || !source_fits(w->format, src_type));
	if (w->format == WEIGHT_BF16)
		s.gather = src_type == DT_F32 ? gather_f32 : gather_pairs;
	else if (w->format == WEIGHT_I4)
		s.gather = gather_nibbles;
	pack(w->panels + panel * w->panel_bytes, w, &s);
	if (w->bias)
		weight_set_bias(w, panel);
}

void weight_pack_panel_dequant(struct weight *w, uint32_t panel, uint32_t n_rows,
	const uint8_t *src, size_t row_stride, size_t col_stride, const float *scales,
	uint32_t row0, uint32_t col0, size_t scale_row_stride, size_t scale_col_stride)
{
	struct source s = {
		.at = src,
		.type = DT_F8_E4M3,
		.row_stride = row_stride,
		.col_stride = col_stride,
		.rows = n_rows,
		.cols = w->k,
		.gather = gather_dequantized,
		.scales = scales,
		.scale_row_stride = scale_row_stride,
		.scale_col_stride = scale_col_stride,
		.row0 = row0,
		.col0 = col0,
	};

	BUG_ON(panel >= w->n_panels || n_rows > WEIGHT_PANEL_ROWS || w->format != WEIGHT_BF16);
	pack(w->panels + panel * w->panel_bytes, w, &s);
}

/* --- biases ------------------------------------------------------------------------------------- */

#define INT_STEP 64u     /* k values of a tile of I8 */
#define PAIR_BYTES 2048u /* its two tiles */
#define SUMMED_STEPS 16u /* whose sums of bytes fit in 16 bits */

/*
 * Adds the rows of a tile to `sum`, over `steps` steps: bytes << shift & mask. Two bytes are summed at a time,
 * 128 above their values: as one number and the upper one alone, from which the lower follows.
 */
static void add_rows(int32_t sum[TILE_ROWS], const uint8_t *tile, uint32_t steps, int shift, uint16_t mask)
{
	u16x8 both[4] = {{0}}, upper[4] = {{0}};
	uint16_t b[2 * TILE_ROWS], u[2 * TILE_ROWS];

	for (uint32_t i = 0; i < steps * (INT_STEP / 4); i++) {
		const uint8_t *group = tile + i / (INT_STEP / 4) * PAIR_BYTES + i % (INT_STEP / 4) * BLOCK_BYTES;

		for (int j = 0; j < 4; j++) {
			u16x8 x;

			memcpy(&x, group + j * 16, sizeof(x));
			x = (x << shift & mask) ^ 0x8080;
			both[j] += x;
			upper[j] += x >> 8;
		}
	}
	memcpy(b, both, sizeof(b));
	memcpy(u, upper, sizeof(u));
	for (uint32_t i = 0; i < 2 * TILE_ROWS; i++)
		sum[i / 2] += u[i] + (uint16_t)(b[i] - (u[i] << 8)) - 128 * (int32_t)(steps * INT_STEP / 2);
}

void weight_set_bias(struct weight *w, uint32_t panel)
{
	const uint8_t *p = w->panels + panel * w->panel_bytes;
	bool nibbles = w->format == WEIGHT_I4;
	uint32_t step = nibbles ? 2 * INT_STEP : INT_STEP;

	for (uint32_t b = 0; b < w->k_blocks; b++) {
		uint32_t begin = b * w->k_block, end = begin + w->k_block;
		int32_t sum[WEIGHT_PANEL_ROWS] = {0};
		int32_t *out = w->bias + weight_scale_index(w, panel * WEIGHT_PANEL_ROWS, b);

		end = end < w->k_padded ? end : w->k_padded;
		for (uint32_t at = begin / step; at < end / step; at += SUMMED_STEPS) {
			uint32_t n = end / step - at < SUMMED_STEPS ? end / step - at : SUMMED_STEPS;

			for (uint32_t tile = 0; tile < 2; tile++) {
				const uint8_t *from = p + (size_t)at * PAIR_BYTES + tile * PAIR_BYTES / 2;

				if (nibbles) {
					add_rows(sum + tile * TILE_ROWS, from, n, 4, 0xF0F0);
					add_rows(sum + tile * TILE_ROWS, from, n, 0, 0xF0F0);
				} else {
					add_rows(sum + tile * TILE_ROWS, from, n, 0, 0xFFFF);
				}
			}
		}
		for (uint32_t r = 0; r < WEIGHT_PANEL_ROWS; r++)
			out[r] = -128 * sum[r];
	}
}
