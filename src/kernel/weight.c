/*
 * Packed weight matrices: the formats, sizes and places (kernel/weight.h has the layout), reading elements
 * back. weight_pack.c fills panels.
 */
#include "kernel/weight.h"

#include <stdbool.h>

#define TILE_ROWS 16u
#define INT_STEP 64u   /* k values of a tile of integers */

/* To add a packed format: a row here, its cases in weight_pack.c and reading below, its products in
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
