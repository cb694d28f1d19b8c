/*
 * Packing of weight matrices into panels and reading them back (kernel/weight.h has the layout).
 *
 * Invariant: every byte of a packed panel is written by one weight_pack_panel* call, filling
 * included, so panels may be packed by any thread in any order into memory that was never cleared.
 * Called by the loader while it reads a checkpoint, and by tests.
 */
#include "kernel/weight.h"

#include <stdbool.h>

#define TILE_ROWS 16u
#define INT_STEP 64u   /* k values of a tile of integers */
#define PAIR_BYTES 2048u /* a step of two tiles of I8, or two steps of I4 */

/* To add a packed format: a row here, its cases in packing and reading below, its products in
 * cpu/gemm.h. */
static const struct weight_traits traits[WEIGHT_FORMAT_COUNT] = {
	[WEIGHT_NONE] = {.name = "none"},
	[WEIGHT_BF16] = {.name = "bf16", .bits = 16, .k_fill = 32, .step = 32, .vnni = 2},
	[WEIGHT_F8_BLOCK] = {.name = "fp8", .bits = 8, .k_fill = 32, .step = 32, .vnni = 2,
		.k_block = WEIGHT_SCALE_BLOCK},
	[WEIGHT_I8] = {.name = "int8", .bits = 8, .k_fill = 64, .step = INT_STEP, .vnni = 4, .integer = true},
	[WEIGHT_I4] = {.name = "int4", .bits = 4, .k_fill = 128, .step = INT_STEP, .vnni = 4, .integer = true},
};

const struct weight_traits *weight_traits(enum weight_format f)
{
	return &traits[f];
}

const char *weight_format_name(enum weight_format f)
{
	return traits[f].name;
}

static size_t round_up(size_t x, size_t to)
{
	return (x + to - 1) / to * to;
}

void weight_layout(struct weight *w, enum weight_format format, uint32_t n, uint32_t k)
{
	weight_layout_groups(w, format, n, k, 0);
}

void weight_layout_groups(
	struct weight *w, enum weight_format format, uint32_t n, uint32_t k, uint32_t group)
{
	const struct weight_traits *t = &traits[format];

	BUG_ON(n == 0 || k == 0 || k > UINT32_MAX - WEIGHT_SCALE_BLOCK ||
		n > UINT32_MAX - WEIGHT_PANEL_ROWS);
	BUG_ON(t->bits == 0 || (t->integer && k > WEIGHT_INTEGER_MAX_K));
	BUG_ON(group && (!t->integer || group % t->k_fill));
	*w = (struct weight){.format = format, .n = n, .k = k};
	w->k_padded = (uint32_t)round_up(k, t->k_fill);
	w->n_panels = (n + WEIGHT_PANEL_ROWS - 1) / WEIGHT_PANEL_ROWS;
	w->k_block = group ? group : t->integer ? w->k_padded : t->k_block;
	if (w->k_block)
		w->k_blocks = (k + w->k_block - 1) / w->k_block;
	w->panel_bytes = (size_t)WEIGHT_PANEL_ROWS * w->k_padded * t->bits / 8;
}

/* Scales of a panel and block of K. */
static size_t scale_rows(const struct weight *w)
{
	return traits[w->format].integer ? WEIGHT_PANEL_ROWS : 1;
}

size_t weight_scale_index(const struct weight *w, uint32_t row, uint32_t block)
{
	return ((size_t)(row / WEIGHT_PANEL_ROWS) * w->k_blocks + block) * WEIGHT_PANEL_ROWS +
	       row % WEIGHT_PANEL_ROWS;
}

size_t weight_panels_bytes(const struct weight *w)
{
	return w->n_panels * w->panel_bytes;
}

size_t weight_scales_bytes(const struct weight *w)
{
	size_t n = (size_t)w->n_panels * w->k_blocks * scale_rows(w);

	return round_up(n * sizeof(float), 64) * (traits[w->format].integer ? 2 : 1);
}

void weight_bind(struct weight *w, void *mem)
{
	BUG_ON((uintptr_t)mem % 64);
	w->panels = mem;
	w->scales = w->k_blocks ? (float *)(w->panels + weight_panels_bytes(w)) : NULL;
	if (traits[w->format].integer)
		w->bias = (int32_t *)w->scales + (size_t)w->n_panels * w->k_blocks * WEIGHT_PANEL_ROWS;
}

struct weight weight_rows(const struct weight *w, uint32_t row0, uint32_t n)
{
	struct weight r = *w;
	uint32_t panel0 = row0 / WEIGHT_PANEL_ROWS;

	BUG_ON(row0 % WEIGHT_PANEL_ROWS || n == 0 || n > w->n || row0 > w->n - n);
	BUG_ON(n % WEIGHT_PANEL_ROWS && row0 + n != w->n);
	r.n = n;
	r.n_panels = (n + WEIGHT_PANEL_ROWS - 1) / WEIGHT_PANEL_ROWS;
	r.panels += panel0 * w->panel_bytes;
	if (r.scales)
		r.scales += (size_t)panel0 * w->k_blocks * scale_rows(w);
	if (r.bias)
		r.bias += (size_t)panel0 * w->k_blocks * WEIGHT_PANEL_ROWS;
	return r;
}

/* Element index of (row, column) inside a panel of one value after the other. */
static size_t panel_index(const struct weight *w, uint32_t row, uint32_t col)
{
	uint32_t n = traits[w->format].step, vnni = traits[w->format].vnni;
	size_t step = (size_t)(col / n) * WEIGHT_PANEL_ROWS * n;
	size_t tile = (size_t)(row / TILE_ROWS) * TILE_ROWS * n;
	size_t group = (size_t)(col % n / vnni) * TILE_ROWS * vnni;

	return step + tile + group + row % TILE_ROWS * vnni + col % vnni;
}

/* Byte of (row, column) inside a panel of nibbles; the high one in odd steps. */
static size_t nibble_index(const struct weight *w, uint32_t row, uint32_t col)
{
	return panel_index(w, row, col / (2 * INT_STEP) * INT_STEP + col % INT_STEP);
}

static bool nibble_is_high(uint32_t col)
{
	return col / INT_STEP % 2;
}

/* 16 times the nibble at (row, column). */
static int nibble_get(const struct weight *w, const uint8_t *panel, uint32_t row, uint32_t col)
{
	uint8_t x = panel[nibble_index(w, row, col)];

	return (int8_t)(nibble_is_high(col) ? x & 0xF0 : x << 4);
}

static uint16_t source_bf16(const void *src, enum dtype type, size_t i)
{
	if (type == DT_BF16) {
		uint16_t x;

		memcpy(&x, (const uint8_t *)src + 2 * i, sizeof(x));
		return x;
	} else {
		float x;

		memcpy(&x, (const uint8_t *)src + 4 * i, sizeof(x));
		return f32_to_bf16(x);
	}
}

/* A whole row whose elements lie side by side and are stored as they are: VNNI groups move together. */
static void pack_row(const struct weight *w, uint8_t *panel, uint32_t row, const uint8_t *src)
{
	const struct weight_traits *t = &traits[w->format];
	size_t elem = t->bits / 8, group = t->vnni * elem;
	uint32_t full = w->k / t->step * t->step;

	for (uint32_t c = 0; c < full; c += t->step) {
		uint8_t *out = panel + panel_index(w, row, c) * elem;
		const uint8_t *in = src + c * elem;

		if (group == 4)
			for (uint32_t i = 0; i < t->step / t->vnni; i++)
				memcpy(out + i * TILE_ROWS * 4, in + i * 4, 4);
		else
			for (uint32_t i = 0; i < t->step / t->vnni; i++)
				memcpy(out + i * TILE_ROWS * 2, in + i * 2, 2);
	}
	for (uint32_t c = full; c < w->k_padded; c++) {
		uint8_t *out = panel + panel_index(w, row, c) * elem;

		memset(out, 0, elem);
		if (c < w->k)
			memcpy(out, src + c * elem, elem);
	}
}

/* Element (r, c) of a source whose bytes hold two rows, 0 outside. */
static uint8_t source_nibble(const uint8_t *src, uint32_t r, size_t at, bool inside)
{
	return inside ? (uint8_t)(r % 2 ? src[at] >> 4 : src[at] & 0x0F) : 0;
}

/* Four columns at a time where rows lie side by side and are whole. */
static void pack_nibbles(const struct weight *w, uint8_t *panel, uint32_t n_rows, const uint8_t *src,
	size_t row_stride, size_t col_stride)
{
	const uint32_t low = 0x0F0F0F0Fu;

	for (uint32_t r = 0; r < WEIGHT_PANEL_ROWS; r++)
		for (uint32_t c = 0; c < w->k_padded; c += c % INT_STEP == INT_STEP - 4 ? INT_STEP + 4 : 4) {
			size_t at = r / 2 * row_stride;
			uint8_t *out = panel + nibble_index(w, r, c);

			if (r < n_rows && col_stride == 1 && c + INT_STEP + 4 <= w->k) {
				uint32_t x, y;

				memcpy(&x, src + at + c, 4);
				memcpy(&y, src + at + c + INT_STEP, 4);
				x = r % 2 ? (x >> 4 & low) | (y & ~low) : (x & low) | (y & low) << 4;
				memcpy(out, &x, 4);
				continue;
			}
			for (uint32_t i = c; i < c + 4; i++) {
				uint32_t j = i + INT_STEP;

				out[i - c] = (uint8_t)(source_nibble(src, r, at + i * col_stride,
							       r < n_rows && i < w->k) |
						       source_nibble(src, r, at + j * col_stride,
							       r < n_rows && j < w->k)
							       << 4);
			}
		}
}

/* Sums of the rows over one step of 64 k, whose tiles are at p. */
static void add_step(int32_t sum[WEIGHT_PANEL_ROWS], const uint8_t *p, bool nibbles, bool high)
{
	for (uint32_t tile = 0; tile < 2; tile++)
		for (uint32_t k = 0; k < INT_STEP / 4; k++)
			for (uint32_t i = 0; i < TILE_ROWS * 4; i++) {
				uint8_t x = p[(tile * INT_STEP / 4 + k) * TILE_ROWS * 4 + i];

				if (nibbles)
					x = (uint8_t)(high ? x & 0xF0 : x << 4);
				sum[tile * TILE_ROWS + i / 4] += (int8_t)x;
			}
}

void weight_set_bias(struct weight *w, uint32_t panel)
{
	const uint8_t *p = w->panels + panel * w->panel_bytes;
	bool nibbles = w->format == WEIGHT_I4;

	for (uint32_t b = 0; b < w->k_blocks; b++) {
		uint32_t begin = b * w->k_block, end = begin + w->k_block;
		int32_t sum[WEIGHT_PANEL_ROWS] = {0};
		int32_t *out = w->bias + weight_scale_index(w, panel * WEIGHT_PANEL_ROWS, b);

		end = end < w->k_padded ? end : w->k_padded;
		for (uint32_t k = begin; k < end; k += INT_STEP)
			add_step(sum, p + (size_t)(nibbles ? k / 2 / INT_STEP : k / INT_STEP) * PAIR_BYTES,
				nibbles, nibble_is_high(k));
		for (uint32_t r = 0; r < WEIGHT_PANEL_ROWS; r++)
			out[r] = -128 * sum[r];
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
	uint8_t *out = w->panels + panel * w->panel_bytes;
	bool bytes = traits[w->format].bits == 8;

	BUG_ON(panel >= w->n_panels || n_rows > WEIGHT_PANEL_ROWS || !source_fits(w->format, src_type));
	if (w->format == WEIGHT_I4)
		pack_nibbles(w, out, n_rows, src, row_stride, col_stride);
	/* Rows outermost: a source row is read once, in order. */
	for (uint32_t r = 0; r < WEIGHT_PANEL_ROWS && w->format != WEIGHT_I4; r++) {
		if (r < n_rows && col_stride == 1 && src_type != DT_F32) {
			pack_row(w, out, r, (const uint8_t *)src + r * row_stride * dtype_bytes(src_type));
			continue;
		}
		for (uint32_t c = 0; c < w->k_padded; c++) {
			bool inside = r < n_rows && c < w->k;
			size_t from = r * row_stride + c * col_stride, at = panel_index(w, r, c);

			if (bytes) {
				out[at] = inside ? ((const uint8_t *)src)[from] : 0;
			} else {
				uint16_t x = inside ? source_bf16(src, src_type, from) : 0;

				memcpy(out + 2 * at, &x, sizeof(x));
			}
		}
	}
	if (w->bias)
		weight_set_bias(w, panel);
}

void weight_pack_panel_dequant(struct weight *w, uint32_t panel, uint32_t n_rows,
	const uint8_t *src, size_t row_stride, size_t col_stride, const float *scales,
	uint32_t row0, uint32_t col0, size_t scale_row_stride, size_t scale_col_stride)
{
	uint8_t *out = w->panels + panel * w->panel_bytes;

	BUG_ON(panel >= w->n_panels || n_rows > WEIGHT_PANEL_ROWS || w->format != WEIGHT_BF16);
	for (uint32_t r = 0; r < WEIGHT_PANEL_ROWS; r++) {
		const float *s = scales + (row0 + r) / WEIGHT_SCALE_BLOCK * scale_row_stride;

		for (uint32_t c = 0; c < w->k_padded; c++) {
			size_t block = (col0 + c) / WEIGHT_SCALE_BLOCK;
			uint16_t x = 0;

			if (r < n_rows && c < w->k)
				x = f32_to_bf16(
					f8e4m3_to_f32(src[r * row_stride + c * col_stride]) *
					s[block * scale_col_stride]);
			memcpy(out + 2 * panel_index(w, r, c), &x, sizeof(x));
		}
	}
}

float weight_get(const struct weight *w, uint32_t row, uint32_t col)
{
	uint32_t panel = row / WEIGHT_PANEL_ROWS, r = row % WEIGHT_PANEL_ROWS;
	const uint8_t *p = w->panels + panel * w->panel_bytes;
	uint16_t x;

	BUG_ON(row >= w->n || col >= w->k);
	switch (w->format) {
	case WEIGHT_F8_BLOCK:
		return f8e4m3_to_f32(p[panel_index(w, r, col)]) *
		       w->scales[(size_t)panel * w->k_blocks + col / WEIGHT_SCALE_BLOCK];
	case WEIGHT_I8:
		return (float)(int8_t)p[panel_index(w, r, col)] *
		       w->scales[weight_scale_index(w, row, col / w->k_block)];
	case WEIGHT_I4:
		return (float)nibble_get(w, p, r, col) *
		       w->scales[weight_scale_index(w, row, col / w->k_block)];
	default:
		memcpy(&x, p + 2 * panel_index(w, r, col), sizeof(x));
		return bf16_to_f32(x);
	}
}
