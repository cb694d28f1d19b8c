/*
 * Reads a checkpoint into packed weights (weights/weights.h).
 *
 * The items of the layout are cut into units of a few megabytes of source, in the order of the files.
 * Every compute thread takes units from one counter, reads with positioned reads into its own buffer,
 * and packs from there: the peak is the packed size and one buffer per thread. A part of a matrix's
 * columns is cut out of whole rows: on one host the ranks share them in the page cache.
 */
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/progress.h"
#include "weights/weights_int.h"

#define UNIT_BYTES ((size_t)4 << 20)

/* Source rows of one group of an item, or bytes of a vector or table. */
struct unit {
	const struct item *item;
	uint64_t first; /* matrix: first destination row (a multiple of 32); else first value */
	uint64_t count;
	uint64_t file_at; /* for the order */
};

struct loader {
	const struct safetensors *files;
	struct unit *units; /* owned */
	size_t n, cap;
	size_t unit_bytes;    /* most source bytes of a unit */
	size_t scale_values;  /* most scales of a unit */
	size_t buffer_stride; /* of one thread: source, then scales as F32, then as read */
	uint8_t *buffers;
	atomic_size_t next;
	atomic_size_t done_bytes;
	atomic_int failed;
	struct progress progress;
	struct error err; /* of the unit that failed first */
};

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

static uint64_t item_cols(const struct item *it)
{
	return it->src->shape[1];
}

static void add_unit(struct loader *ld, const struct item *it, uint64_t first, uint64_t count,
	uint64_t file_at)
{
	ld->units = mem_grow(ld->units, &ld->cap, ld->n + 1, sizeof(*ld->units));
	ld->units[ld->n++] = (struct unit){it, first, count, it->src->offset + file_at};
}

static void cut_matrix(struct loader *ld, const struct item *it)
{
	const struct row_map *m = &it->map;
	size_t elem = dtype_bytes(it->src->dtype), row_bytes = elem * item_cols(it);
	uint32_t step = (uint32_t)(UNIT_BYTES / row_bytes) / WEIGHT_PANEL_ROWS * WEIGHT_PANEL_ROWS;
	size_t source_rows;

	if (m->transposed)
		step = m->group_rows;
	else if (step == 0)
		step = WEIGHT_PANEL_ROWS;
	for (uint32_t g = 0; g * m->group_rows < it->rows; g++) {
		uint32_t begin = g * m->group_rows, end = begin + m->group_rows;

		end = end < it->rows ? end : it->rows;
		for (uint32_t at = begin; at < end; at += step)
			add_unit(ld, it, at, end - at < step ? end - at : step,
				row_bytes * (m->row0 + (uint64_t)g * m->group_stride + (at - begin)));
	}
	source_rows = m->transposed ? it->w->k : step;
	ld->unit_bytes = larger(ld->unit_bytes, row_bytes * source_rows);
	if (it->scale)
		ld->scale_values =
			larger(ld->scale_values, (source_rows / 128 + 2) * it->scale->shape[1]);
}

static void cut_values(struct loader *ld, const struct item *it)
{
	size_t elem = dtype_bytes(it->src->dtype);
	uint64_t step = UNIT_BYTES / elem;

	for (uint64_t at = 0; at < it->n; at += step)
		add_unit(ld, it, at, it->n - at < step ? it->n - at : step, at * elem);
	ld->unit_bytes = larger(ld->unit_bytes, elem * (it->n < step ? it->n : step));
}

static int by_place(const void *a, const void *b)
{
	const struct unit *x = a, *y = b;

	if (x->item->src->file != y->item->src->file)
		return x->item->src->file < y->item->src->file ? -1 : 1;
	return (x->file_at > y->file_at) - (x->file_at < y->file_at);
}

static void cut(struct loader *ld, const struct layout *l)
{
	*ld = (struct loader){.files = l->files};
	for (size_t i = 0; i < l->n_items; i++) {
		if (l->items[i].kind == ITEM_MATRIX)
			cut_matrix(ld, &l->items[i]);
		else
			cut_values(ld, &l->items[i]);
	}
	qsort(ld->units, ld->n, sizeof(*ld->units), by_place);
	ld->unit_bytes = (ld->unit_bytes + 63) / 64 * 64;
	ld->buffer_stride =
		(ld->unit_bytes + 2 * sizeof(float) * ld->scale_values + 4095) / 4096 * 4096;
}

/* --- one unit ----------------------------------------------------------------------------------- */

/* Where a thread reads to. */
struct buffers {
	uint8_t *data;
	float *scales;
	void *raw_scales;
};

/* Rows of the scale tensor that source rows row0 .. row0 + rows - 1 touch, as F32. */
static enum status read_scales(struct loader *ld, const struct item *it, uint64_t row0, uint64_t rows,
	const struct buffers *b, struct error *err)
{
	const struct st_tensor *t = it->scale;
	uint64_t cols = t->shape[1], first = row0 / 128, last = (row0 + rows - 1) / 128;
	size_t n = (size_t)((last - first + 1) * cols), elem = dtype_bytes(t->dtype);

	TRY(safetensors_read(ld->files, t, b->raw_scales, first * cols * elem, n * elem, err));
	for (size_t i = 0; i < n; i++) {
		float s;

		if (t->dtype == DT_F32)
			s = ((const float *)b->raw_scales)[i];
		else if (t->dtype == DT_BF16)
			s = bf16_to_f32(((const uint16_t *)b->raw_scales)[i]);
		else
			s = ldexpf(1.0f, ((const uint8_t *)b->raw_scales)[i] - 127);
		if (!(s > 0) || !isfinite(s))
			return error_set(err, E_FORMAT,
				"%s: tensor %.60s: scale %zu is %g, expected a positive number",
				safetensors_path(ld->files, t), t->name, (size_t)(first * cols) + i, (double)s);
		b->scales[i] = s;
	}
	return OK;
}

/* Panel `panel` of w from source rows at `src`, which lie at row `row` of the tensor. */
static void pack(const struct item *it, uint32_t panel, uint32_t n_rows, const uint8_t *src,
	uint64_t row, uint64_t col, const float *scales, uint64_t scale_row0)
{
	struct weight *w = it->w;
	enum dtype type = it->src->dtype;
	size_t stride = item_cols(it), scale_cols = it->scale ? it->scale->shape[1] : 0;
	bool t = it->map.transposed;

	if (!it->scale) {
		weight_pack_panel(w, panel, n_rows, src, type, t ? 1 : stride, t ? stride : 1);
	} else if (w->format == WEIGHT_F8_BLOCK) {
		float *out = w->scales + (size_t)panel * w->k_blocks;

		/* Blocks of K follow each other along the source's columns, transposed along its rows. */
		weight_pack_panel(w, panel, n_rows, src, type, t ? 1 : stride, t ? stride : 1);
		scales += (row / WEIGHT_SCALE_BLOCK - scale_row0) * scale_cols + col / WEIGHT_SCALE_BLOCK;
		for (uint32_t i = 0; i < w->k_blocks; i++)
			out[i] = scales[i * (t ? scale_cols : 1)];
	} else {
		/* scales points at block row scale_row0: positions count from there. */
		uint32_t r = (uint32_t)(row - scale_row0 * 128), c = (uint32_t)col;

		weight_pack_panel_dequant(w, panel, n_rows, src, t ? 1 : stride, t ? stride : 1, scales,
			t ? c : r, t ? r : c, t ? 1 : scale_cols, t ? scale_cols : 1);
	}
}

static enum status load_matrix(
	struct loader *ld, const struct unit *u, const struct buffers *b, struct error *err)
{
	const struct item *it = u->item;
	const struct row_map *m = &it->map;
	uint64_t group = u->first / m->group_rows, in_group = u->first % m->group_rows;
	uint64_t row = m->row0 + group * m->group_stride + (m->transposed ? 0 : in_group);
	uint64_t rows = m->transposed ? it->w->k : u->count, scale_row0 = row / 128;
	size_t elem = dtype_bytes(it->src->dtype), row_bytes = elem * item_cols(it);

	TRY(safetensors_read(ld->files, it->src, b->data, row * row_bytes, rows * row_bytes, err));
	if (it->scale)
		TRY(read_scales(ld, it, row, rows, b, err));
	for (uint64_t i = 0; i < u->count; i += WEIGHT_PANEL_ROWS) {
		uint32_t panel = (uint32_t)((u->first + i) / WEIGHT_PANEL_ROWS);
		uint32_t n = u->count - i < WEIGHT_PANEL_ROWS ? (uint32_t)(u->count - i) : WEIGHT_PANEL_ROWS;
		uint64_t at_row = m->transposed ? row : row + i;
		uint64_t at_col = m->col0 + (m->transposed ? in_group + i : 0);
		const uint8_t *src = b->data + (at_row - row) * row_bytes + at_col * elem;

		pack(it, it->panel0 + panel * it->panel_step, n, src, at_row, at_col, b->scales, scale_row0);
	}
	return OK;
}

static enum status load_values(
	struct loader *ld, const struct unit *u, const struct buffers *b, struct error *err)
{
	const struct item *it = u->item;
	size_t elem = dtype_bytes(it->src->dtype);

	if (it->kind == ITEM_TABLE)
		return safetensors_read(
			ld->files, it->src, *it->table + u->first, u->first * elem, u->count * elem, err);
	TRY(safetensors_read(ld->files, it->src, b->data, u->first * elem, u->count * elem, err));
	for (uint64_t i = 0; i < u->count; i++)
		(*it->vector)[u->first + i] = it->src->dtype == DT_F32
						      ? ((const float *)b->data)[i]
						      : bf16_to_f32(((const uint16_t *)b->data)[i]);
	return OK;
}

static void load_thread(void *arg, int thread, int n_threads)
{
	struct loader *ld = arg;
	uint8_t *mem = ld->buffers + (size_t)thread * ld->buffer_stride;
	struct buffers b = {mem, (float *)(mem + ld->unit_bytes), NULL};
	size_t i;

	b.raw_scales = b.scales + ld->scale_values;
	while ((i = atomic_fetch_add(&ld->next, 1)) < ld->n && !atomic_load(&ld->failed)) {
		const struct unit *u = &ld->units[i];
		struct error err;
		enum status st = u->item->kind == ITEM_MATRIX ? load_matrix(ld, u, &b, &err)
							      : load_values(ld, u, &b, &err);
		size_t bytes = dtype_bytes(u->item->src->dtype) * u->count;
		int none = 0;

		if (st != OK && atomic_compare_exchange_strong(&ld->failed, &none, 1))
			ld->err = err;
		if (u->item->kind == ITEM_MATRIX)
			bytes *= u->item->map.transposed ? u->item->w->k : item_cols(u->item);
		bytes += atomic_fetch_add(&ld->done_bytes, bytes);
		if (thread == 0)
			progress_update(&ld->progress, bytes);
	}
}

static size_t read_bytes(const struct loader *ld)
{
	size_t sum = 0;

	for (size_t i = 0; i < ld->n; i++) {
		const struct item *it = ld->units[i].item;
		size_t values = ld->units[i].count;

		if (it->kind == ITEM_MATRIX)
			values *= it->map.transposed ? it->w->k : item_cols(it);
		sum += values * dtype_bytes(it->src->dtype);
	}
	return sum;
}

static enum status run(struct loader *ld, struct kernel *kn, bool progress, struct error *err)
{
	size_t bytes = ld->buffer_stride * (size_t)kernel_threads(kn);
	void *mem;

	TRY(mem_map(&mem, bytes, "read buffers", err));
	ld->buffers = mem;
	progress_begin(&ld->progress, "loading", read_bytes(ld), PROGRESS_BYTES, progress);
	kernel_parallel(kn, load_thread, ld);
	progress_end(&ld->progress);
	mem_unmap(mem, bytes);
	if (ld->failed)
		*err = ld->err;
	return ld->failed ? err->code : OK;
}

/* --- the interface ------------------------------------------------------------------------------ */

struct weights_options weights_options_default(void)
{
	return (struct weights_options){.plan = shard_plan_whole(), .mtp = true};
}

/* Formats of other makers, told by a file beside the weights. */
static enum status check_maker(const char *dir, struct error *err)
{
	static const struct {
		const char *file, *format;
	} others[] = {
		{"quant_model_description.json", "msmodelslim W8A8 / W4A8"},
		{"hf_quant_config.json", "ModelOpt NVFP4 / FP8"},
	};
	char path[4096];

	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, others[i].file);
		if (access(path, F_OK) == 0)
			return error_set(err, E_UNSUPPORTED,
				"%s: weights in the format %s are not supported", weights_path_tail(path),
				others[i].format);
	}
	return OK;
}

/* Files, layout and units of a checkpoint. On failure nothing is held. */
static enum status open_checkpoint(struct safetensors **files, struct layout *l, struct loader *ld,
	const char *dir, const struct weights_options *options, struct error *err)
{
	struct model_config config;
	enum status st;

	TRY(config_load(&config, dir, err));
	TRY(check_maker(dir, err));
	TRY(safetensors_open_dir(files, dir, err));
	st = layout_build(l, &config, *files, WEIGHT_NONE, options, err);
	if (st != OK) {
		safetensors_close(*files);
		return st;
	}
	cut(ld, l);
	return OK;
}

static void close_checkpoint(struct safetensors *files, struct layout *l, struct loader *ld)
{
	free(ld->units);
	layout_deinit(l);
	safetensors_close(files);
}

static enum status budget_of(struct weights_budget *out, const struct layout *l, const struct loader *ld,
	int threads, const struct weights_options *options, struct error *err)
{
	*out = (struct weights_budget){
		.file_bytes = l->file_bytes,
		.packed_bytes = l->bytes,
		.buffer_bytes = ld->buffer_stride * (size_t)threads,
		.limit_bytes = weights_memory_limit(options),
		.token_bytes = weights_token_bytes(l->w),
	};
	if (out->packed_bytes + out->buffer_bytes > out->limit_bytes)
		return error_set(err, E_NOMEM,
			"%.3g GB needed (weights %.3g, loading %.3g), %.3g GB available",
			(double)(out->packed_bytes + out->buffer_bytes) * 1e-9,
			(double)out->packed_bytes * 1e-9, (double)out->buffer_bytes * 1e-9,
			(double)out->limit_bytes * 1e-9);
	return OK;
}

enum status weights_plan(struct weights_budget *out, const char *dir,
	const struct weights_options *options, struct error *err)
{
	struct safetensors *files;
	struct layout l;
	struct loader ld;
	enum status st;

	TRY(open_checkpoint(&files, &l, &ld, dir, options, err));
	st = budget_of(out, &l, &ld, cpu_cores_available(), options, err);
	close_checkpoint(files, &l, &ld);
	return st;
}

enum status weights_load(struct model_weights **out, const char *dir, struct kernel *kn,
	const struct weights_options *options, struct error *err)
{
	struct weights_budget budget;
	struct safetensors *files;
	struct layout l;
	struct loader ld;
	double begin = clock_s();
	enum status st;

	TRY(open_checkpoint(&files, &l, &ld, dir, options, err));
	TRY_GOTO(out, budget_of(&budget, &l, &ld, kernel_threads(kn), options, err));
	TRY_GOTO(out, layout_bind(&l, err));
	TRY_GOTO(out, run(&ld, kn, options->progress, err));
	log_info("weights", "loaded %.3f GB seconds %.2f", (double)l.w->bytes * 1e-9, clock_s() - begin);
	*out = l.w;
	l.w = NULL;
out:
	close_checkpoint(files, &l, &ld);
	return st;
}
