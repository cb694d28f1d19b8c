/*
 * Random weights of a shape (weights/weights.h): for benchmarks and tests, where only sizes and finite
 * values matter. Matrices have standard deviation 1 / sqrt(k), so that activations keep their size.
 */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/progress.h"
#include "base/random.h"
#include "weights/weights_int.h"

#define PANELS_PART 64u	      /* panels of a matrix that a thread fills at a time */
#define TABLE_PART (1u << 21) /* values of the embedding table */

struct filler {
	const struct layout *l;
	uint64_t seed;
	float f8_rms; /* of uniformly drawn codes */
	size_t n_parts;
	atomic_size_t next;
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

/* 256 evenly spaced values with this standard deviation and mean zero. */
static void bf16_levels(uint16_t levels[256], float deviation)
{
	/* Deviation of -255, -253, ... 255. */
	float factor = deviation / sqrtf((256.0f * 256.0f - 1) / 3);

	for (int i = 0; i < 256; i++)
		levels[i] = f32_to_bf16((float)(2 * i - 255) * factor);
}

/* A level for each random byte: as fast as memory takes them. */
static void fill_bf16(uint16_t *out, size_t n, float deviation, uint64_t state)
{
	uint16_t levels[256];

	bf16_levels(levels, deviation);
	for (size_t i = 0; i < n; i += 8) {
		uint64_t r = next64(&state);

		for (size_t j = i; j < n && j < i + 8; j++, r >>= 8)
			out[j] = levels[r & 0xFF];
	}
}

/* Any code but NaN: 0x7F becomes 0x7E in all eight bytes of a word at once. */
static void fill_f8(uint8_t *out, size_t n, uint64_t state)
{
	const uint64_t ones = 0x0101010101010101u;

	for (size_t i = 0; i < n; i += 8) {
		uint64_t r = next64(&state);
		/* Adding 1 carries into the sign bit of exactly those bytes. */
		uint64_t nan = (((r & 0x7F * ones) + ones) >> 7) & ones;

		r -= nan;
		memcpy(out + i, &r, n - i < 8 ? n - i : 8);
	}
}

/* -127 .. 127, the one code too many standing for zero: a mean other than zero would grow with each layer. */
static void fill_i8(uint8_t *out, size_t n, uint64_t state)
{
	for (size_t i = 0; i < n; i += 8) {
		uint64_t r = next64(&state);

		for (size_t j = i; j < n && j < i + 8; j++, r >>= 8)
			out[j] = (r & 0xFF) == 0x80 ? 0 : (uint8_t)r;
	}
}

/* The same of nibbles: -7 .. 7. */
static void fill_i4(uint8_t *out, size_t n, uint64_t state)
{
	const uint64_t ones = 0x1111111111111111u;

	for (size_t i = 0; i < n; i += 8) {
		uint64_t r = next64(&state), high = r & 8 * ones;
		/* Nibbles that are 8 alone. */
		uint64_t rest = (r | r >> 1 | r >> 2) & ones, eight = high >> 3 & ~rest;

		r &= ~(8 * eight);
		memcpy(out + i, &r, n - i < 8 ? n - i : 8);
	}
}

/* Root of the mean square of what a format's codes stand for, drawn evenly, before scales. */
static float code_rms(const struct filler *f, enum weight_format format)
{
	double sum = 0;
	int most = format == WEIGHT_I4 ? 7 : 127;

	if (format == WEIGHT_F8_BLOCK)
		return f->f8_rms;
	for (int i = 1; i <= most; i++)
		sum += 2.0 * i * i;
	/* One code more than values: zero comes twice. A nibble is packed as 16 times its value. */
	return (float)sqrt(sum / (2 * most + 2)) * (format == WEIGHT_I4 ? 16 : 1);
}

/* `bytes` of codes as sources and panels alike store them. */
static void fill_codes(
	void *out, enum weight_format format, size_t bytes, float deviation, uint64_t state)
{
	if (format == WEIGHT_BF16)
		fill_bf16(out, bytes / 2, deviation, state);
	else if (format == WEIGHT_F8_BLOCK)
		fill_f8(out, bytes, state);
	else if (format == WEIGHT_I8)
		fill_i8(out, bytes, state);
	else
		fill_i4(out, bytes, state);
}

/* A panel that rows or columns do not fill: the rest is zero (kernel/weight.h). */
static void fill_partial_panel(struct weight *w, uint32_t panel, float deviation, uint64_t state)
{
	uint32_t left = w->n - panel * WEIGHT_PANEL_ROWS;
	uint32_t rows = left < WEIGHT_PANEL_ROWS ? left : WEIGHT_PANEL_ROWS;
	/* Two rows in a byte: an odd last one has a byte for itself. */
	size_t bytes = ((size_t)rows + 1) * w->k * weight_traits(w->format)->bits / 8;
	enum dtype type = w->format == WEIGHT_BF16 ? DT_BF16 : w->format == WEIGHT_F8_BLOCK ? DT_F8_E4M3 : DT_I8;
	void *src = mem_alloc(bytes);

	fill_codes(src, w->format, bytes, deviation, state);
	weight_pack_panel(w, panel, rows, src, type, w->k, 1);
	free(src);
}

/* Scales of a panel that make codes have this deviation. */
static void fill_scales(const struct filler *f, struct weight *w, uint32_t panel, float deviation)
{
	uint32_t rows = w->bias ? WEIGHT_PANEL_ROWS : 1;
	float *out = w->scales + (size_t)panel * w->k_blocks * rows;

	for (uint32_t i = 0; i < w->k_blocks * rows; i++)
		out[i] = deviation / code_rms(f, w->format);
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

/* Panels first, first + 1, ... of an item. */
static void fill_matrix(
	const struct filler *f, const struct item *it, uint64_t seed, uint32_t first, uint32_t n)
{
	struct weight *w = it->w;
	float deviation = 1 / sqrtf((float)w->k);

	for (uint32_t i = first; i < first + n && i * WEIGHT_PANEL_ROWS < it->rows; i++) {
		uint32_t panel = it->panel0 + i * it->panel_step;
		uint8_t *out = w->panels + (size_t)panel * w->panel_bytes;
		uint64_t state = random_u64(seed, panel) | 1;

		if ((panel + 1) * WEIGHT_PANEL_ROWS > w->n || w->k != w->k_padded)
			fill_partial_panel(w, panel, deviation, state);
		else
			fill_codes(out, w->format, w->panel_bytes, deviation, state);
		if (w->bias)
			weight_set_bias(w, panel);
		if (w->k_blocks)
			fill_scales(f, w, panel, deviation);
	}
}

/* Part `part` of an item, which has item_parts() of them. What it writes depends on nothing else. */
static void fill_part(const struct filler *f, const struct item *it, uint64_t seed, uint32_t part)
{
	uint64_t at = (uint64_t)part * TABLE_PART;

	if (it->kind == ITEM_MATRIX)
		fill_matrix(f, it, seed, part * PANELS_PART, PANELS_PART);
	else if (it->kind == ITEM_TABLE)
		fill_bf16(*it->table + at, it->n - at < TABLE_PART ? it->n - at : TABLE_PART, 1,
			random_u64(seed, part) | 1);
	else
		for (uint64_t j = 0; j < it->n; j++)
			(*it->vector)[j] = 1;
}

static uint32_t item_parts(const struct item *it)
{
	uint64_t n = it->n, of = TABLE_PART;

	if (it->kind == ITEM_VECTOR)
		return 1;
	if (it->kind == ITEM_MATRIX) {
		n = it->rows;
		of = PANELS_PART * WEIGHT_PANEL_ROWS;
	}
	return (uint32_t)((n + of - 1) / of);
}

static void fill_thread(void *arg, int thread, int n_threads)
{
	struct filler *f = arg;
	size_t item = 0, first = 0, done = 0, i;

	while ((i = atomic_fetch_add(&f->next, 1)) < f->n_parts) {
		/* Parts are numbered through; a thread only ever moves forward. */
		while (i - first >= item_parts(&f->l->items[item])) {
			first += item_parts(&f->l->items[item]);
			done += f->l->items[item++].bytes;
		}
		fill_part(f, &f->l->items[item], random_u64(f->seed, item), (uint32_t)(i - first));
		if (thread == 0)
			progress_update(&f->progress, done);
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

	BUG_ON(format == WEIGHT_NONE);
	TRY(layout_build(&l, config, NULL, NULL, format, options, err));
	l.w->config.integer = weight_traits(format)->integer;
	if (l.bytes > limit) {
		st = error_set(err, E_NOMEM, "random weights of this shape need %.2f GB, %.2f GB are "
			"available (%s): fewer layers or experts take less", (double)l.bytes * 1e-9,
			(double)limit * 1e-9, options->memory_limit_name);
		goto out;
	}
	TRY_GOTO(out, layout_bind(&l, err));
	f.l = &l;
	for (size_t i = 0; i < l.n_items; i++)
		f.n_parts += item_parts(&l.items[i]);
	progress_begin(&f.progress, "making weights", l.bytes, PROGRESS_BYTES, options->progress);
	kernel_parallel(kn, fill_thread, &f);
	progress_end(&f.progress);
	*out = l.w;
	l.w = NULL;
out:
	layout_deinit(&l);
	return st;
}
