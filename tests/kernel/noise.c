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

void noise_weight_init(
	struct noise_weight *out, struct noise *s, enum weight_format format, uint32_t n, uint32_t k)
{
	uint16_t *bf16 = malloc(sizeof(*bf16) * k * WEIGHT_PANEL_ROWS);
	uint8_t *f8 = malloc((size_t)k * WEIGHT_PANEL_ROWS);
	struct weight *w = &out->w;

	weight_layout(w, format, n, k);
	out->mem = guarded_alloc(weight_panels_bytes(w) + weight_scales_bytes(w));
	weight_bind(w, out->mem);
	out->values = malloc(sizeof(float) * n * k);
	for (uint32_t p = 0; p < w->n_panels; p++) {
		uint32_t row0 = p * WEIGHT_PANEL_ROWS;
		uint32_t rows = n - row0 < WEIGHT_PANEL_ROWS ? n - row0 : WEIGHT_PANEL_ROWS;

		for (uint32_t i = 0; i < w->k_blocks; i++)
			w->scales[p * w->k_blocks + i] = 0.001f + fabsf(noise_f32(s)) * 0.01f;
		for (uint32_t i = 0; i < rows * k; i++) {
			float *v = &out->values[(size_t)row0 * k + i];

			if (format == WEIGHT_F8_BLOCK) {
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
		if (format == WEIGHT_F8_BLOCK)
			weight_pack_panel(w, p, rows, f8, DT_F8_E4M3, k, 1);
		else
			weight_pack_panel(w, p, rows, bf16, DT_BF16, k, 1);
	}
	free(bf16);
	free(f8);
}

void noise_weight_deinit(struct noise_weight *w)
{
	guarded_free(w->mem);
	free(w->values);
}
