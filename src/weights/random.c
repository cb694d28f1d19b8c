/*
 * Random weights of a shape (weights/weights.h): for benchmarks and tests, where only sizes and finite
 * values matter. Matrices have standard deviation 1 / sqrt(k), so that activations keep their size.
 */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "base/progress.h"
#include "base/random.h"
#include "weights/weights_int.h"

struct filler {
	const struct layout *l;
	uint64_t seed;
	float f8_rms; /* of uniformly drawn codes */
	atomic_size_t next;
	atomic_size_t done_bytes;
	struct progress progress;
};

static uint64_t next64(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return x * 0x2545F4914F6CDD1Du;
}

/* Uniform, with this standard deviation. */
static void fill_bf16(uint16_t *out, size_t n, float deviation, uint64_t state)
{
	float factor = deviation * sqrtf(3.0f) / 32768;

	for (size_t i = 0; i < n; i += 4) {
		uint64_t r = next64(&state);

		for (size_t j = i; j < n && j < i + 4; j++, r >>= 16)
			out[j] = f32_to_bf16((float)(int16_t)r * factor);
	}
}

/* Any code but NaN. */
static void fill_f8(uint8_t *out, size_t n, uint64_t state)
{
	for (size_t i = 0; i < n; i += 8) {
		uint64_t r = next64(&state);

		for (size_t j = i; j < n && j < i + 8; j++, r >>= 8)
			out[j] = (uint8_t)r - ((r & 0x7F) == 0x7F);
	}
}

/* Of the codes that fill_f8() draws: the largest one stands for NaN too. */
static float f8_rms(void)
{
	double sum = 0;

	for (int i = 0; i < 0x80; i++) {
		double x = f8e4m3_to_f32((uint8_t)(i - (i == 0x7F)));

		sum += x * x;
	}
	return (float)sqrt(sum / 0x80);
}

static void fill_matrix(const struct filler *f, const struct item *it, uint64_t seed)
{
	struct weight *w = it->w;
	float deviation = 1 / sqrtf((float)w->k);

	for (uint32_t i = 0; i * WEIGHT_PANEL_ROWS < it->rows; i++) {
		uint32_t panel = it->panel0 + i * it->panel_step;
		uint8_t *out = w->panels + (size_t)panel * w->panel_bytes;
		uint64_t state = random_u64(seed, panel) | 1;

		if (w->format == WEIGHT_BF16) {
			fill_bf16((uint16_t *)out, w->panel_bytes / 2, deviation, state);
			continue;
		}
		fill_f8(out, w->panel_bytes, state);
		for (uint32_t b = 0; b < w->k_blocks; b++)
			w->scales[(size_t)panel * w->k_blocks + b] = deviation / f->f8_rms;
	}
}

static void fill_thread(void *arg, int thread, int n_threads)
{
	struct filler *f = arg;
	size_t i;

	while ((i = atomic_fetch_add(&f->next, 1)) < f->l->n_items) {
		const struct item *it = &f->l->items[i];
		uint64_t seed = random_u64(f->seed, i);
		size_t bytes = it->bytes;

		if (it->kind == ITEM_MATRIX)
			fill_matrix(f, it, seed);
		else if (it->kind == ITEM_TABLE)
			fill_bf16(*it->table, it->n, 1, seed | 1);
		else
			for (uint64_t j = 0; j < it->n; j++)
				(*it->vector)[j] = 1;
		bytes += atomic_fetch_add(&f->done_bytes, bytes);
		if (thread == 0)
			progress_update(&f->progress, bytes);
	}
}

enum status weights_random(struct model_weights **out, const struct model_config *config,
	enum weight_format format, uint64_t seed, struct kernel *kn,
	const struct weights_options *options, struct error *err)
{
	struct filler f = {.seed = seed, .f8_rms = f8_rms()};
	size_t limit = weights_memory_limit(options);
	struct layout l;
	enum status st;

	BUG_ON(format != WEIGHT_BF16 && format != WEIGHT_F8_BLOCK);
	TRY(layout_build(&l, config, NULL, format, options, err));
	if (l.bytes > limit) {
		st = error_set(err, E_NOMEM, "random weights of this shape need %.2f GB, %.2f GB are "
			"available: fewer layers or experts take less", (double)l.bytes * 1e-9,
			(double)limit * 1e-9);
		goto out;
	}
	TRY_GOTO(out, layout_bind(&l, err));
	f.l = &l;
	progress_begin(&f.progress, "making weights", l.bytes, PROGRESS_BYTES, options->progress);
	kernel_parallel(kn, fill_thread, &f);
	progress_end(&f.progress);
	*out = l.w;
	l.w = NULL;
out:
	layout_deinit(&l);
	return st;
}
