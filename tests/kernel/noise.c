/* See noise.h. */
#include "noise.h"

#include <stdlib.h>

#define GUARD 256u
#define PATTERN 0xA5u

uint32_t noise_u32(struct noise *s)
{
	uint64_t z = s->state += 0x9E3779B97F4A7C15u;

	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
	z = (z ^ z >> 27) * 0x94D049BB133111EBu;
	return (uint32_t)(z >> 32);
}

float noise_f32(struct noise *s)
{
	return (float)(int32_t)noise_u32(s) * 0x1p-31f;
}

void *guarded_alloc(size_t bytes)
{
	size_t body = (bytes + 63) / 64 * 64;
	uint8_t *p = aligned_alloc(64, 2 * GUARD + body);

	BUG_ON(!p);
	memset(p, PATTERN, 2 * GUARD + body);
	memcpy(p, &bytes, sizeof(bytes));
	memset(p + GUARD, 0, bytes);
	return p + GUARD;
}

void guarded_free(void *mem)
{
	uint8_t *p = (uint8_t *)mem - GUARD;
	size_t bytes, body;

	memcpy(&bytes, p, sizeof(bytes));
	body = (bytes + 63) / 64 * 64;
	for (size_t i = sizeof(bytes); i < GUARD; i++)
		BUG_ON(p[i] != PATTERN);
	for (size_t i = GUARD + bytes; i < 2 * GUARD + body; i++)
		BUG_ON(p[i] != PATTERN);
	free(p);
}

/* A panel of small integers, as the formats' sources store them. */
static void fill_int_panel(struct noise_weight *out, struct noise *s, uint32_t panel, uint32_t rows)
{
	struct weight *w = &out->w;
	uint32_t k = w->k, row0 = panel * WEIGHT_PANEL_ROWS;
	bool i4 = w->format == WEIGHT_I4;
	uint8_t *src = calloc((size_t)k, WEIGHT_PANEL_ROWS);

	for (uint32_t r = 0; r < WEIGHT_PANEL_ROWS; r++)
		for (uint32_t b = 0; b < w->k_blocks; b++) {
			size_t at = weight_scale_index(w, row0 + r, b);

			w->scales[at] = (0.001f + fabsf(noise_f32(s)) * 0.01f) / (i4 ? 16 : 1);
			out->extra[at] = (int32_t)(noise_u32(s) % 20001) - 10000;
		}
	for (uint32_t r = 0; r < rows; r++)
		for (uint32_t c = 0; c < k; c++) {
			uint8_t x = (uint8_t)noise_u32(s);
			int q = i4 ? (int)(x & 15) - 8 : (int8_t)x;
			size_t at = (size_t)(i4 ? r / 2 : r) * k + c;

			src[at] = (uint8_t)(i4 ? src[at] | (q & 15) << (r % 2 ? 4 : 0) : q);
			out->values[(size_t)(row0 + r) * k + c] = (float)q * (i4 ? 16 : 1) *
				w->scales[weight_scale_index(w, row0 + r, c / w->k_block)];
		}
	weight_pack_panel(w, panel, rows, src, DT_I8, k, 1);
	for (uint32_t i = 0; i < w->k_blocks * WEIGHT_PANEL_ROWS; i++)
		w->bias[weight_scale_index(w, row0, 0) + i] += out->extra[weight_scale_index(w, row0, 0) + i];
	free(src);
}

static void fill_float_panel(struct noise_weight *out, struct noise *s, uint32_t p, uint32_t rows)
{
	struct weight *w = &out->w;
	uint32_t k = w->k;
	uint16_t *bf16 = malloc(sizeof(*bf16) * k * WEIGHT_PANEL_ROWS);
	uint8_t *f8 = malloc((size_t)k * WEIGHT_PANEL_ROWS);

	for (uint32_t i = 0; i < w->k_blocks; i++)
		w->scales[p * w->k_blocks + i] = 0.001f + fabsf(noise_f32(s)) * 0.01f;
	for (uint32_t i = 0; i < rows * k; i++) {
		float *v = &out->values[(size_t)p * WEIGHT_PANEL_ROWS * k + i];

		if (w->format == WEIGHT_F8_BLOCK) {
			do
				f8[i] = (uint8_t)noise_u32(s);
			while ((f8[i] & 0x7F) == 0x7F);
			*v = f8e4m3_to_f32(f8[i]) *
			     w->scales[p * w->k_blocks + i % k / WEIGHT_SCALE_BLOCK];
		} else {
			bf16[i] = f32_to_bf16(noise_f32(s));
			*v = bf16_to_f32(bf16[i]);
		}
	}
	if (w->format == WEIGHT_F8_BLOCK)
		weight_pack_panel(w, p, rows, f8, DT_F8_E4M3, k, 1);
	else
		weight_pack_panel(w, p, rows, bf16, DT_BF16, k, 1);
	free(bf16);
	free(f8);
}

void noise_weight_init(
	struct noise_weight *out, struct noise *s, enum weight_format format, uint32_t n, uint32_t k)
{
	noise_weight_init_groups(out, s, format, n, k, 0);
}

void noise_weight_init_groups(struct noise_weight *out, struct noise *s, enum weight_format format, uint32_t n,
	uint32_t k, uint32_t group)
{
	struct weight *w = &out->w;
	bool integer = weight_traits(format)->integer;

	weight_layout_groups(w, format, n, k, group);
	out->mem = guarded_alloc(weight_panels_bytes(w) + weight_scales_bytes(w));
	weight_bind(w, out->mem);
	out->values = malloc(sizeof(float) * n * k);
	out->extra = integer ? malloc(sizeof(*out->extra) * w->n_panels * w->k_blocks * WEIGHT_PANEL_ROWS) : NULL;
	for (uint32_t p = 0; p < w->n_panels; p++) {
		uint32_t row0 = p * WEIGHT_PANEL_ROWS;
		uint32_t rows = n - row0 < WEIGHT_PANEL_ROWS ? n - row0 : WEIGHT_PANEL_ROWS;

		if (integer)
			fill_int_panel(out, s, p, rows);
		else
			fill_float_panel(out, s, p, rows);
	}
}

void noise_weight_deinit(struct noise_weight *w)
{
	guarded_free(w->mem);
	free(w->values);
	free(w->extra);
}
