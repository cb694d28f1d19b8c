/*
 * Reads a checkpoint into packed weights (weights/weights.h).
 *
 * The items of the layout are cut into units of a few megabytes of source, in the order of the files.
 * Every compute thread takes units from one counter, reads them piece by piece with positioned reads into
 * its own buffer, which stays in its core's cache, and packs from there: the peak is the packed size and one buffer per thread. A part of a matrix's
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
#define PIECE_BYTES ((size_t)256 << 10)

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
	size_t piece_bytes;   /* most source bytes that are read at a time */
	size_t scratch_bytes; /* most that packing a panel needs */
	size_t part_values;   /* most values of a unit in tensors beside matrices */
	size_t buffer_stride; /* of one thread: source, scratch, then parts as F32 or I32, then as read */
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

/* Rows of a matrix that a row of the part stands for, and its columns; 0 columns: not for packing. */
static uint32_t part_rows(const struct weight_part *p)
{
	return p->extent == PART_BLOCKS ? WEIGHT_SCALE_BLOCK : 1;
}

static size_t part_cols(const struct item *it, int i)
{
	const struct weight_part *p = &it->scheme->parts[i];

	if (!it->part[i] || p->extent == PART_ONE || p->extent == PART_ANY)
		return 0;
	return p->extent == PART_ROWS ? 1 : it->part[i]->shape[1];
}

/* Bytes of a row of the tensor, which may be two of the matrix. */
static size_t row_bytes(const struct item *it)
{
	return dtype_bytes(it->src->dtype) * item_cols(it);
}

/*
 * Source rows that are read at a time: whole panels, few enough to be packed out of the core's own cache. A
 * transposed source has all that a panel needs in no fewer than all rows.
 */
static uint32_t piece_rows(const struct item *it)
{
	uint64_t fit = PIECE_BYTES / row_bytes(it) * it->scheme->rows_per_byte / WEIGHT_PANEL_ROWS;

	if (it->map.transposed)
		return it->w->k;
	return fit ? (uint32_t)fit * WEIGHT_PANEL_ROWS : WEIGHT_PANEL_ROWS;
}

static size_t source_bytes(const struct item *it, uint64_t rows)
{
	uint32_t per_byte = it->scheme->rows_per_byte;

	return row_bytes(it) * ((rows + per_byte - 1) / per_byte);
}

static void cut_matrix(struct loader *ld, const struct item *it)
{
	const struct row_map *m = &it->map;
	uint32_t per_byte = it->scheme->rows_per_byte, piece = piece_rows(it);
	uint64_t fit = UNIT_BYTES / source_bytes(it, piece) * piece, source_rows;
	uint32_t step = m->transposed || fit > m->group_rows ? m->group_rows : (uint32_t)fit;
	size_t values = 0;

	step = step > piece || m->transposed ? step : piece;
	for (uint32_t g = 0; g * m->group_rows < it->rows; g++) {
		uint32_t begin = g * m->group_rows, end = begin + m->group_rows;

		end = end < it->rows ? end : it->rows;
		for (uint32_t at = begin; at < end; at += step)
			add_unit(ld, it, at, end - at < step ? end - at : step,
				row_bytes(it) * ((m->row0 + (uint64_t)g * m->group_stride + (at - begin)) / per_byte));
	}
	source_rows = m->transposed ? it->w->k : step;
	ld->piece_bytes = larger(ld->piece_bytes, source_bytes(it, piece < source_rows ? piece : source_rows));
	for (int i = 0; i < WEIGHT_PARTS && it->scheme->parts[i].suffix; i++)
		values += (source_rows / part_rows(&it->scheme->parts[i]) + 2) * part_cols(it, i);
	ld->part_values = larger(ld->part_values, values);
	ld->scratch_bytes =
		larger(ld->scratch_bytes, weight_scheme_scratch(it->scheme, item_cols(it), it->w->k));
}

/* Tables go where they belong without a buffer. */
static void cut_values(struct loader *ld, const struct item *it)
{
	size_t elem = dtype_bytes(it->src->dtype);
	uint64_t step = (it->kind == ITEM_TABLE ? UNIT_BYTES : PIECE_BYTES) / elem;

	for (uint64_t at = 0; at < it->n; at += step)
		add_unit(ld, it, at, it->n - at < step ? it->n - at : step, at * elem);
	if (it->kind != ITEM_TABLE)
		ld->piece_bytes = larger(ld->piece_bytes, elem * (it->n < step ? it->n : step));
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
	ld->piece_bytes = (ld->piece_bytes + 63) / 64 * 64;
	ld->scratch_bytes = (ld->scratch_bytes + 63) / 64 * 64;
	ld->buffer_stride = (ld->piece_bytes + ld->scratch_bytes +
		(sizeof(float) + sizeof(uint64_t)) * ld->part_values + 64 + 4095) / 4096 * 4096;
}

/* --- one unit ----------------------------------------------------------------------------------- */

/* Where a thread reads to. */
struct buffers {
	uint8_t *data;
	void *scratch;
	uint32_t *parts; /* F32 or I32, one part after the other */
	uint8_t *raw;
};

static enum status wrong_value(struct loader *ld, const struct st_tensor *t, uint64_t at, double value,
	const char *expected, struct error *err)
{
	return error_set(err, E_FORMAT, "%s: tensor %.60s: %s %llu is %g, expected %s",
		safetensors_path(ld->files, t), t->name, t->dtype == DT_I32 ? "value" : "scale",
		(unsigned long long)at, value, expected);
}

/* Values first .. first + n - 1 of a part, as F32, or I32 as they are. */
static enum status read_values(struct loader *ld, const struct item *it, int part, uint64_t first, size_t n,
	uint32_t *out, uint8_t *raw, struct error *err)
{
	const struct st_tensor *t = it->part[part];
	bool integer = it->scheme->parts[part].role == PART_BIAS;
	/* A row of zeros may have the scale zero; a block of FP8 never has. */
	bool zero = it->scheme->parts[part].extent != PART_BLOCKS;
	size_t elem = dtype_bytes(t->dtype);

	TRY(safetensors_read(ld->files, t, raw, first * elem, n * elem, err));
	for (size_t i = 0; i < n; i++) {
		float x = dtype_to_f32(t->dtype, raw, i);

		if (integer) {
			memcpy(&out[i], raw + i * elem, sizeof(*out));
			if (fabsf(x) >= 0x1p30f)
				return wrong_value(ld, t, first + i, (double)x, "less than 2^30", err);
			continue;
		}
		if (!(zero ? x >= 0 : x > 0) || !isfinite(x))
			return wrong_value(ld, t, first + i, (double)x,
				zero ? "a number that is not negative" : "a positive number", err);
		memcpy(&out[i], &x, sizeof(x));
	}
	return OK;
}

/* What a unit holds of the parts: rows [first_row, ...) of each, which belong to the source row `row`. */
struct unit_parts {
	uint32_t *at[WEIGHT_PARTS];
	uint64_t first_row[WEIGHT_PARTS];
};

static enum status read_parts(struct loader *ld, const struct item *it, uint64_t row, uint64_t rows,
	const struct buffers *b, struct unit_parts *out, struct error *err)
{
	uint32_t *to = b->parts;

	*out = (struct unit_parts){0};
	for (int i = 0; i < WEIGHT_PARTS && it->scheme->parts[i].suffix; i++) {
		uint64_t each = part_rows(&it->scheme->parts[i]), cols = part_cols(it, i);
		uint64_t first = row / each, last = (row + rows - 1) / each;
		size_t n = (size_t)((last - first + 1) * cols);

		if (!cols)
			continue;
		TRY(read_values(ld, it, i, first * cols, n, to, b->raw, err));
		out->at[i] = to;
		out->first_row[i] = first;
		to += n;
	}
	return OK;
}

/* Panel `panel` of an item from source bytes at `src`, which lie at (row, col) of the tensor. */
static void pack(const struct item *it, uint32_t panel, uint32_t n_rows, const uint8_t *src, uint64_t row,
	uint64_t col, const struct unit_parts *parts, void *scratch)
{
	bool t = it->map.transposed;
	size_t stride = item_cols(it);
	struct pack_job job = {
		.w = it->w,
		.panel = panel,
		.n_rows = n_rows,
		.src = src,
		.type = it->src->dtype,
		.row_stride = t ? 1 : stride,
		.col_stride = t ? stride : 1,
		.transposed = t,
		.row = row,
		.col = col,
		.scratch = scratch,
	};

	for (int i = 0; i < WEIGHT_PARTS && it->scheme->parts[i].suffix; i++) {
		const struct weight_part *p = &it->scheme->parts[i];
		size_t cols = part_cols(it, i);

		if (!parts->at[i])
			continue;
		job.part[p->role] = parts->at[i] + (row / part_rows(p) - parts->first_row[i]) * cols;
		job.part_cols[p->role] = cols;
	}
	it->scheme->pack(&job);
}

/* Reads `rows` source rows from `row` on and packs what they hold of the panels from row `first` of the item on. */
static enum status load_piece(struct loader *ld, const struct item *it, uint64_t row, uint64_t rows, uint64_t first,
	uint64_t count, const struct unit_parts *parts, const struct buffers *b, struct error *err)
{
	const struct row_map *m = &it->map;
	size_t elem = dtype_bytes(it->src->dtype), bytes = row_bytes(it);
	uint64_t in_group = first % m->group_rows, per_byte = it->scheme->rows_per_byte;

	TRY(safetensors_read(
		ld->files, it->src, b->data, row / per_byte * bytes, source_bytes(it, rows), err));
	for (uint64_t i = 0; i < count; i += WEIGHT_PANEL_ROWS) {
		uint32_t panel = (uint32_t)((first + i) / WEIGHT_PANEL_ROWS);
		uint32_t n = count - i < WEIGHT_PANEL_ROWS ? (uint32_t)(count - i) : WEIGHT_PANEL_ROWS;
		uint64_t at_row = m->transposed ? row : row + i;
		uint64_t at_col = m->col0 + (m->transposed ? in_group + i : 0);
		const uint8_t *src = b->data + (at_row - row) / per_byte * bytes + at_col * elem;

		pack(it, it->panel0 + panel * it->panel_step, n, src, at_row, at_col, parts, b->scratch);
	}
	return OK;
}

static enum status load_matrix(
	struct loader *ld, const struct unit *u, const struct buffers *b, struct error *err)
{
	const struct item *it = u->item;
	const struct row_map *m = &it->map;
	uint64_t row = m->row0 + u->first / m->group_rows * m->group_stride;
	uint64_t piece = piece_rows(it);
	struct unit_parts parts;

	if (m->transposed) {
		TRY(read_parts(ld, it, row, piece, b, &parts, err));
		return load_piece(ld, it, row, piece, u->first, u->count, &parts, b, err);
	}
	row += u->first % m->group_rows;
	TRY(read_parts(ld, it, row, u->count, b, &parts, err));
	for (uint64_t i = 0; i < u->count; i += piece) {
		uint64_t n = u->count - i < piece ? u->count - i : piece;

		TRY(load_piece(ld, it, row + i, n, u->first + i, n, &parts, b, err));
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
	for (uint64_t i = 0; i < u->count; i++) {
		float x = dtype_to_f32(it->src->dtype, b->data, i);

		if (!isfinite(x))
			return error_set(err, E_FORMAT, "%s: tensor %.60s: value %llu is %g, expected a finite number",
				safetensors_path(ld->files, it->src), it->src->name,
				(unsigned long long)(u->first + i), (double)x);
		(*it->vector)[u->first + i] = x;
	}
	return OK;
}

/* Source bytes, for the bar. */
static size_t unit_bytes(const struct unit *u)
{
	const struct item *it = u->item;
	size_t values = u->count;

	if (it->kind == ITEM_MATRIX)
		values = values * (it->map.transposed ? it->w->k : item_cols(it)) / it->scheme->rows_per_byte;
	return values * dtype_bytes(it->src->dtype);
}

static void load_thread(void *arg, int thread, int n_threads)
{
	struct loader *ld = arg;
	uint8_t *mem = ld->buffers + (size_t)thread * ld->buffer_stride;
	struct buffers b = {mem, mem + ld->piece_bytes, NULL, NULL};
	size_t i;

	b.parts = (uint32_t *)(mem + ld->piece_bytes + ld->scratch_bytes);
	b.raw = (uint8_t *)(b.parts + ld->part_values);
	while ((i = atomic_fetch_add(&ld->next, 1)) < ld->n && !atomic_load(&ld->failed)) {
		const struct unit *u = &ld->units[i];
		struct error err;
		enum status st = u->item->kind == ITEM_MATRIX ? load_matrix(ld, u, &b, &err)
							      : load_values(ld, u, &b, &err);
		size_t bytes = unit_bytes(u);
		int none = 0;

		if (st != OK && atomic_compare_exchange_strong(&ld->failed, &none, 1))
			ld->err = err;
		bytes += atomic_fetch_add(&ld->done_bytes, bytes);
		if (thread == 0)
			progress_update(&ld->progress, bytes);
	}
}

static size_t read_bytes(const struct loader *ld)
{
	size_t sum = 0;

	for (size_t i = 0; i < ld->n; i++)
		sum += unit_bytes(&ld->units[i]);
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
	return (struct weights_options){.plan = shard_plan_whole(), .mtp = true, .memory_limit_name = "free memory"};
}

/* Formats of other makers, told by a file beside the weights. */
static enum status check_maker(const char *dir, struct error *err)
{
	static const struct {
		const char *file, *format;
	} others[] = {
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

/* What is open while a checkpoint is read. */
struct checkpoint {
	struct safetensors *files;
	struct description *description; /* or NULL */
	struct layout l;
	struct loader ld;
};

static void close_checkpoint(struct checkpoint *c)
{
	free(c->ld.units);
	layout_deinit(&c->l);
	description_close(c->description);
	safetensors_close(c->files);
}

/* Files, layout and units of a checkpoint. On failure nothing is held. */
static enum status open_checkpoint(struct checkpoint *c, const char *dir, const struct weights_options *options,
	struct error *err)
{
	struct model_config config;
	enum status st;

	*c = (struct checkpoint){0};
	TRY(weights_config(&config, dir, options, err));
	TRY(check_maker(dir, err));
	TRY(safetensors_open_dir(&c->files, dir, err));
	TRY_GOTO(out, description_open(&c->description, dir, err));
	TRY_GOTO(out, layout_build(&c->l, &config, c->files, c->description, WEIGHT_NONE, options, err));
	cut(&c->ld, &c->l);
	return OK;
out:
	description_close(c->description);
	safetensors_close(c->files);
	return st;
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
			"%.3g GB needed (weights %.3g, loading %.3g), %.3g GB available (%s)",
			(double)(out->packed_bytes + out->buffer_bytes) * 1e-9,
			(double)out->packed_bytes * 1e-9, (double)out->buffer_bytes * 1e-9,
			(double)out->limit_bytes * 1e-9, options->memory_limit_name);
	return OK;
}

enum status weights_plan(struct weights_budget *out, const char *dir,
	const struct weights_options *options, struct error *err)
{
	struct checkpoint c;
	enum status st;

	TRY(open_checkpoint(&c, dir, options, err));
	st = budget_of(out, &c.l, &c.ld, cpu_cores_available(), options, err);
	close_checkpoint(&c);
	return st;
}

enum status weights_load(struct model_weights **out, const char *dir, struct kernel *kn,
	const struct weights_options *options, struct error *err)
{
	struct weights_budget budget;
	struct checkpoint c;
	double begin = clock_s();
	enum status st;

	TRY(open_checkpoint(&c, dir, options, err));
	TRY_GOTO(out, budget_of(&budget, &c.l, &c.ld, kernel_threads(kn), options, err));
	TRY_GOTO(out, layout_bind(&c.l, err));
	TRY_GOTO(out, run(&c.ld, kn, options->progress, err));
	log_info("weights", "loaded %.3f GB seconds %.2f", (double)c.l.w->bytes * 1e-9, clock_s() - begin);
	*out = c.l.w;
	c.l.w = NULL;
out:
	close_checkpoint(&c);
	return st;
}
