/*
 * Driver of products (kernel/kernel.h, kernel_gemm): cuts all jobs of a call into one list of tasks
 * and runs it over the pool.
 *
 * A task is (job, chunk of up to GEMM_ROWS rows, up to GEMM_GROUP blocks of panels). It walks K in ranges:
 * the weight of a block's range stays in the first cache while all rows pass by, the input of a range in
 * the second one while the task's blocks do. Where all of a chunk's input fits there, a task is one block.
 * Threads take runs of tasks from one counter; which thread does a task, and how panels are grouped, does
 * not show in the result (cpu/gemm.h).
 */
#include "kernel/cpu/gemm.h"

#include <stdatomic.h>

#include "kernel/cpu/device.h"

#define NEAR_BYTES ((size_t)512 << 10) /* of a chunk's input that stays near without cutting K */
#define MAX_RUN 16u		       /* tasks taken at a time at most */
#define FETCH_ROWS 8u		       /* rows ahead, where a part of each is made wider */

struct gemm_run {
	struct kernel *kn;
	const struct gemm_job *jobs;
	uint32_t n_jobs;
	uint32_t max_panels; /* of a task, except that SiLU needs two */
	uint32_t n_tasks;
	atomic_uint next;
};

/* A task of job `job`: rows row0 .. row0 + rows - 1, panels panel0 .. panel0 + panels - 1. */
struct gemm_task {
	const struct gemm_job *job;
	uint32_t row0;
	uint32_t rows;
	uint32_t panel0;
	uint32_t panels;
	const struct gemm_task *next; /* the thread's next task, where it is known */
};

static uint32_t smaller(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* The part of the panels that block `b` of a task computes. */
static uint32_t block_panels(const struct gemm_task *t, uint32_t b)
{
	return smaller(t->panels - b * GEMM_PANELS, GEMM_PANELS);
}

static uint32_t task_blocks(const struct gemm_task *t)
{
	return (t->panels + GEMM_PANELS - 1) / GEMM_PANELS;
}

static bool gemm_wide(const struct gemm_ukernels *uk, const struct gemm_job *job)
{
	return uk->wide && job->a->kind == ACT_BF16;
}

/* Whether integer input of 16 bits is kept for all of K. */
static bool int_input_fits(const struct gemm_job *job, uint32_t rows)
{
	return (size_t)rows * job->w.k_padded * 2 <= GEMM_WIDE_BYTES;
}

/* Whether a chunk's input is near for all of K. */
static bool input_fits(const struct gemm_ukernels *uk, const struct gemm_job *job, uint32_t rows)
{
	size_t values = (size_t)rows * job->w.k_padded;

	/* Its ranges of K are kept apart, each as long as the others. */
	if (gemm_wide(uk, job))
		return 4 * (size_t)rows * ((job->w.k_padded + GEMM_WIDE_K - 1) / GEMM_WIDE_K * GEMM_WIDE_K) <=
		       GEMM_WIDE_BYTES;
	return values * (job->a->kind == ACT_I8 ? 1 : job->a->kind == ACT_F32 ? 4 : 2) <= NEAR_BYTES;
}

/* Whether rows are so few that a block is all of K. */
static bool gemm_few(const struct gemm_ukernels *uk, const struct gemm_job *job, uint32_t rows)
{
	if (weight_traits(job->w.format)->integer)
		return rows <= uk->few_rows;
	if (gemm_wide(uk, job))
		return rows <= uk->stream_rows && input_fits(uk, job, rows);
	return rows <= uk->stream_rows && (job->w.format != WEIGHT_F8_BLOCK || uk->f8);
}

/* Panels of a task. */
static uint32_t gemm_unit(const struct gemm_run *run, const struct gemm_job *job)
{
	const struct gemm_ukernels *uk = run->kn->gemm;
	uint32_t rows = smaller(job->m, GEMM_ROWS), unit = run->max_panels;

	if (gemm_few(uk, job, rows) || input_fits(uk, job, rows))
		unit = smaller(unit, GEMM_PANELS);
	return job->epilogue == GEMM_SILU_MUL && unit < GEMM_PANELS ? GEMM_PANELS : unit;
}

static uint32_t gemm_tasks(const struct gemm_run *run, const struct gemm_job *job)
{
	uint32_t unit = gemm_unit(run, job);

	return (job->m + GEMM_ROWS - 1) / GEMM_ROWS * ((job->w.n_panels + unit - 1) / unit);
}

static struct gemm_task gemm_task_at(
	const struct gemm_run *run, const struct gemm_job *job, uint32_t index)
{
	uint32_t unit = gemm_unit(run, job), units = (job->w.n_panels + unit - 1) / unit;
	struct gemm_task t = {.job = job};

	t.row0 = index / units * GEMM_ROWS;
	t.rows = smaller(job->m - t.row0, GEMM_ROWS);
	t.panel0 = index % units * unit;
	t.panels = smaller(job->w.n_panels - t.panel0, unit);
	return t;
}

/* Bytes of the packed weight of one panel from its beginning to k. */
static size_t weight_at(const struct weight *w, uint32_t k)
{
	return (size_t)k * WEIGHT_PANEL_ROWS * weight_traits(w->format)->bits / 8;
}

/* Each row's first value. */
static void gemm_inputs(const struct gemm_task *t, struct gemm_scratch *s)
{
	const struct gemm_job *job = t->job;

	for (uint32_t i = 0; i < t->rows; i++) {
		size_t row = job->rows ? (size_t)job->rows[t->row0 + i] : t->row0 + i;

		s->a[i] = job->a->data + row * job->a->stride_bytes;
	}
}

static void advance(struct gemm_scratch *s, uint32_t rows, size_t bytes)
{
	for (uint32_t i = 0; i < rows; i++)
		s->a[i] += bytes;
}

/* Block `i` of a task over b->k of K from k: its place, its weight, and what comes after it. */
static void gemm_place(struct gemm_block *b, const struct gemm_task *t, uint32_t i, uint32_t k,
	struct gemm_scratch *s)
{
	const struct weight *w = &t->job->w;
	const uint8_t *panel = w->panels + (t->panel0 + i * GEMM_PANELS) * w->panel_bytes;

	b->c = s->c[i];
	b->sum = s->sum[i];
	b->panels = block_panels(t, i);
	b->w = panel + weight_at(w, k);
	b->next = b->w;
	b->next_bytes = b->panel_bytes = w->panel_bytes;
	if (i + 1 < task_blocks(t)) {
		b->next += GEMM_PANELS * w->panel_bytes;
	} else if (k + b->k < w->k_padded) {
		b->next = w->panels + t->panel0 * w->panel_bytes + weight_at(w, k + b->k);
	} else if (t->next) {
		const struct weight *v = &t->next->job->w;

		b->next = v->panels + t->next->panel0 * v->panel_bytes;
		b->next_bytes = v->panel_bytes;
	}
}

/* Adds the sums of block `block` of K, times their scales, to c. */
static void gemm_add_scaled(const struct row_ukernels *row, const struct weight *w, uint32_t panel0,
	uint32_t block, const struct gemm_block *b)
{
	for (uint32_t p = 0; p < b->panels; p++) {
		size_t at = weight_scale_index(w, (panel0 + p) * WEIGHT_PANEL_ROWS, block);
		size_t col = p * WEIGHT_PANEL_ROWS;

		for (uint32_t i = 0; i < b->rows; i++)
			row->add_scaled(b->c + (size_t)i * GEMM_COLS + col,
				b->sum + (size_t)i * GEMM_COLS + col, w->bias + at, w->scales + at,
				block == 0, WEIGHT_PANEL_ROWS);
	}
}

/* I4 panels of a block as I8 ones in scratch. */
static void gemm_unpack_i4(const struct gemm_ukernels *uk, struct gemm_block *b, struct gemm_scratch *s)
{
	size_t n = (size_t)b->k * WEIGHT_PANEL_ROWS;

	for (uint32_t p = 0; p < b->panels; p++)
		uk->unpack_i4(s->w + p * n, b->w + p * b->panel_bytes, n / 2);
	b->w = s->w;
	b->panel_bytes = n;
}

/* Whether the kernel of a task takes integer input of 16 bits. */
static bool int_wide(const struct gemm_ukernels *uk, const struct gemm_job *job, bool few)
{
	return uk->widen_i8 && !(few && job->w.format == WEIGHT_I4);
}

/* A part of a row that is read soon: rows are too far apart for the CPU to see where the next one is. */
static void fetch_row(const uint8_t *p, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 64)
		__builtin_prefetch(p + i);
}

/* Whether the rows of a task are wide in scratch for all of K. After the task they are, if they fit. */
static bool wide_kept(struct gemm_scratch *s, const struct gemm_task *t, bool fits)
{
	bool kept = fits && s->wide_job == t->job && s->wide_row0 == t->row0;

	s->wide_job = fits ? t->job : NULL;
	s->wide_row0 = t->row0;
	return kept;
}

/* Input is n values from k of each row, as the kernel takes them, at `wide` and `stride` bytes apart: BF16 as F32,
 * integers as 16 bits. Unless kept they are made here. */
static void wide_input(const struct gemm_run *run, const struct gemm_task *t, uint32_t k, uint32_t n, uint8_t *wide,
	size_t stride, bool kept, struct gemm_scratch *s)
{
	bool integer = t->job->a->kind == ACT_I8;
	size_t size = integer ? 1 : 2;

	if (!kept) {
		gemm_inputs(t, s);
		advance(s, t->rows, k * size);
		for (uint32_t i = 0; i < t->rows; i++) {
			if (i + FETCH_ROWS < t->rows)
				fetch_row(s->a[i + FETCH_ROWS], n * size);
			if (integer)
				run->kn->gemm->widen_i8((uint16_t *)(wide + i * stride), s->a[i], n);
			else
				run->kn->row->from_bf16((float *)(wide + i * stride), (const uint16_t *)s->a[i], n);
		}
	}
	for (uint32_t i = 0; i < t->rows; i++)
		s->a[i] = wide + i * stride;
}

/* Integers: ranges of K that do not cross blocks of scales, unless the kernel does them itself. */
static void gemm_compute_int(const struct gemm_run *run, const struct gemm_task *t, struct gemm_scratch *s)
{
	const struct gemm_ukernels *uk = run->kn->gemm;
	const struct weight *w = &t->job->w;
	bool i4 = w->format == WEIGHT_I4, few = gemm_few(uk, t->job, t->rows);
	bool scales = few ? uk->few_scales : uk->i8_scales, whole = few && scales;
	bool wide = int_wide(uk, t->job, few), fits = wide && int_input_fits(t->job, t->rows);
	bool kept = wide && wide_kept(s, t, fits);
	gemm_block_fn *fn = !few ? uk->i8 : i4 ? uk->i4_few : uk->i8_few;
	struct gemm_block b = {.a = s->a, .rows = t->rows};

	for (uint32_t k = 0; k < w->k_padded; k += b.k) {
		uint32_t block = k / w->k_block, end = smaller((block + 1) * w->k_block, w->k_padded);

		b.first = k == block * w->k_block;
		b.first_scaled = block == 0;
		b.k = whole ? w->k_padded : few ? end - k : smaller(end - k, uk->k_int);
		b.k_block = scales && (whole || k + b.k == end) ? w->k_block : 0;
		if (wide)
			wide_input(run, t, k, b.k, s->wide + (fits ? 2 * (size_t)k * t->rows : 0), 2 * (size_t)b.k,
				kept, s);
		for (uint32_t i = 0; i < task_blocks(t); i++) {
			uint32_t panel0 = t->panel0 + i * GEMM_PANELS;
			size_t at = weight_scale_index(w, panel0 * WEIGHT_PANEL_ROWS, block);

			gemm_place(&b, t, i, k, s);
			b.scales = w->scales + at;
			b.bias = w->bias + at;
			b.scale_stride = (size_t)w->k_blocks * WEIGHT_PANEL_ROWS;
			if (i4 && !few)
				gemm_unpack_i4(uk, &b, s);
			fn(&b);
			if (!scales && k + b.k == end)
				gemm_add_scaled(run->kn->row, w, panel0, block, &b);
		}
		if (!wide)
			advance(s, t->rows, b.k);
	}
}

/* F8_BLOCK panels of a block as BF16 in scratch. */
static void gemm_unpack_f8(const struct gemm_ukernels *uk, struct gemm_block *b, struct gemm_scratch *s)
{
	size_t n = (size_t)b->k * WEIGHT_PANEL_ROWS;

	for (uint32_t p = 0; p < b->panels; p++)
		uk->unpack_f8((uint16_t *)s->w + p * n, b->w + p * b->panel_bytes, n);
	b->w = s->w;
	b->panel_bytes = n * sizeof(uint16_t);
}

/* Scales of block `i` at K position k. */
static void place_scales(struct gemm_block *b, const struct gemm_task *t, uint32_t i, uint32_t k)
{
	const struct weight *w = &t->job->w;

	if (w->format != WEIGHT_F8_BLOCK)
		return;
	b->scales = w->scales + (size_t)(t->panel0 + i * GEMM_PANELS) * w->k_blocks + k / WEIGHT_SCALE_BLOCK;
	b->scale_stride = w->k_blocks;
}

/* Sums of a task into scratch->c: K range by K range. */
static void gemm_compute(
	const struct gemm_ukernels *uk, const struct gemm_task *t, struct gemm_scratch *s)
{
	const struct gemm_job *job = t->job;
	const struct weight *w = &job->w;
	bool f8 = w->format == WEIGHT_F8_BLOCK, few = gemm_few(uk, job, t->rows);
	gemm_block_fn *fn = job->a->kind == ACT_F32 ? uk->f32 : !f8 ? uk->bf16 : few ? uk->f8 : uk->f8u;
	struct gemm_block b = {.a = s->a, .rows = t->rows};

	for (uint32_t k = 0; k < w->k_padded; k += b.k) {
		b.first = k == 0;
		b.k = few ? w->k_padded : smaller(w->k_padded - k, GEMM_K);
		for (uint32_t i = 0; i < task_blocks(t); i++) {
			gemm_place(&b, t, i, k, s);
			place_scales(&b, t, i, k);
			if (f8 && !few)
				gemm_unpack_f8(uk, &b, s);
			fn(&b);
		}
		advance(s, t->rows, b.k * (job->a->kind == ACT_F32 ? 4 : 2));
	}
}

/* BF16 input as F32, few rows: a block is all of K. */
static void gemm_compute_wide_few(const struct gemm_run *run, const struct gemm_task *t, bool kept,
	struct gemm_scratch *s)
{
	const struct gemm_ukernels *uk = run->kn->gemm;
	const struct weight *w = &t->job->w;
	struct gemm_block b = {.a = s->a, .rows = t->rows, .k = w->k_padded, .first = true};

	wide_input(run, t, 0, w->k_padded, s->wide, 4 * (size_t)w->k_padded, kept, s);
	for (uint32_t i = 0; i < task_blocks(t); i++) {
		gemm_place(&b, t, i, 0, s);
		place_scales(&b, t, i, 0);
		(w->format == WEIGHT_F8_BLOCK ? uk->wide_f8_few : uk->wide_few)(&b);
	}
}

/* Panels of a block as `wide` takes them. */
static void gemm_widen(const struct gemm_ukernels *uk, bool f8, struct gemm_block *b, struct gemm_scratch *s)
{
	if (uk->widen) {
		(f8 ? uk->widen_f8 : uk->widen)((float *)s->w, b->w, b->panel_bytes, b->panels, b->k);
		b->w = s->w;
	} else if (f8) {
		gemm_unpack_f8(uk, b, s);
	}
}

/* The same of many, K range by K range: the input is made for all of K, or again for each range. */
static void gemm_compute_wide_many(const struct gemm_run *run, const struct gemm_task *t, bool fits, bool kept,
	struct gemm_scratch *s)
{
	const struct gemm_ukernels *uk = run->kn->gemm;
	const struct weight *w = &t->job->w;
	bool f8 = w->format == WEIGHT_F8_BLOCK;
	struct gemm_block b = {.a = s->a, .rows = t->rows};

	for (uint32_t k = 0; k < w->k_padded; k += b.k) {
		b.first = k == 0;
		b.k = smaller(w->k_padded - k, GEMM_WIDE_K);
		wide_input(run, t, k, b.k, s->wide + (fits ? 4 * (size_t)k * t->rows : 0), 4 * GEMM_WIDE_K, kept, s);
		for (uint32_t i = 0; i < task_blocks(t); i++) {
			gemm_place(&b, t, i, k, s);
			place_scales(&b, t, i, k);
			gemm_widen(uk, f8, &b, s);
			uk->wide(&b);
		}
	}
}

/* The same as gemm_compute() with F32 multiply-adds. Tasks of the same rows share their input as F32. */
static void gemm_compute_wide(const struct gemm_run *run, const struct gemm_task *t, struct gemm_scratch *s)
{
	const struct gemm_ukernels *uk = run->kn->gemm;
	bool fits = input_fits(uk, t->job, t->rows);
	bool kept = wide_kept(s, t, fits);

	if (gemm_few(uk, t->job, t->rows))
		gemm_compute_wide_few(run, t, kept, s);
	else
		gemm_compute_wide_many(run, t, fits, kept, s);
}

/* Writes columns col0 .. of one row from its block's sums; `factor` is on them. */
static void store_row(const struct row_ukernels *row, const struct gemm_job *job, uint32_t i, uint32_t col0,
	uint32_t cols, float *c, const float *factor)
{
	size_t at = i * job->out_stride + col0;

	if (job->epilogue == GEMM_STORE_F32) {
		if (factor)
			row->mul(job->out_f32 + at, c, *factor, cols);
		else
			memcpy(job->out_f32 + at, c, sizeof(*c) * cols);
		return;
	}
	if (factor)
		row->mul(c, c, *factor, cols);
	if (job->epilogue == GEMM_STORE_BF16) {
		row->to_bf16(job->out_bf16 + at, c, cols);
	} else {
		struct act *out = job->out_act;
		uint8_t *to = out->data + ((size_t)job->out_row0 + i) * out->stride_bytes;

		if (out->kind == ACT_F32)
			row->silu_mul_f32((float *)to + col0 / 2, c, c + WEIGHT_PANEL_ROWS, cols / 2);
		else
			row->silu_mul((uint16_t *)to + col0 / 2, c, c + WEIGHT_PANEL_ROWS, cols / 2);
	}
}

/* Writes a task's sums to the job's output. */
static void gemm_store(const struct row_ukernels *row, const struct gemm_task *t, struct gemm_scratch *s)
{
	const struct gemm_job *job = t->job;
	bool integer = weight_traits(job->w.format)->integer;

	for (uint32_t b = 0; b < task_blocks(t); b++) {
		uint32_t col0 = (t->panel0 + b * GEMM_PANELS) * WEIGHT_PANEL_ROWS;
		uint32_t cols = smaller(job->w.n - col0, block_panels(t, b) * WEIGHT_PANEL_ROWS);

		for (uint32_t i = t->row0; i < t->row0 + t->rows; i++) {
			size_t from = job->rows ? (size_t)job->rows[i] : i;

			store_row(row, job, i, col0, cols, s->c[b] + (size_t)(i - t->row0) * GEMM_COLS,
				integer ? act_row_scale(job->a, from) : NULL);
		}
	}
}

static void gemm_do(const struct gemm_run *run, const struct gemm_task *t, struct gemm_scratch *s)
{
	const struct gemm_ukernels *uk = run->kn->gemm;

	gemm_inputs(t, s);
	if (weight_traits(t->job->w.format)->integer)
		gemm_compute_int(run, t, s);
	else if (gemm_wide(uk, t->job))
		gemm_compute_wide(run, t, s);
	else
		gemm_compute(uk, t, s);
	gemm_store(run->kn->row, t, s);
}

/* Where a thread is in the list of jobs; it only goes forward. */
struct gemm_cursor {
	uint32_t job;
	uint32_t task0; /* the job's first task in the list */
	uint32_t tasks;
};

static struct gemm_task cursor_task(const struct gemm_run *run, struct gemm_cursor *c, uint32_t i)
{
	while (i - c->task0 >= c->tasks) {
		c->task0 += c->tasks;
		c->tasks = gemm_tasks(run, &run->jobs[++c->job]);
	}
	return gemm_task_at(run, &run->jobs[c->job], i - c->task0);
}

/* Takes tasks [*begin, *end): fewer as the list gets short, so that all threads end together. */
static bool take_run(struct gemm_run *run, uint32_t n_threads, uint32_t *begin, uint32_t *end)
{
	uint32_t at = atomic_load_explicit(&run->next, memory_order_relaxed);
	uint32_t n = at < run->n_tasks ? smaller((run->n_tasks - at) / (8 * n_threads), MAX_RUN) : 0;

	n = n ? n : 1;
	*begin = atomic_fetch_add_explicit(&run->next, n, memory_order_relaxed);
	*end = smaller(*begin + n, run->n_tasks);
	return *begin < run->n_tasks;
}

static void gemm_thread(void *arg, int thread, int n_threads)
{
	struct gemm_run *run = arg;
	const struct gemm_ukernels *uk = run->kn->gemm;
	struct gemm_scratch *scratch = &run->kn->gemm_scratch[thread];
	struct gemm_cursor cursor = {.tasks = gemm_tasks(run, run->jobs)};
	uint32_t begin, end;

	scratch->wide_job = NULL;
	if (uk->thread_begin)
		uk->thread_begin();
	while (take_run(run, (uint32_t)n_threads, &begin, &end)) {
		struct gemm_task t = cursor_task(run, &cursor, begin), next;

		for (uint32_t i = begin; i < end; i++, t = next) {
			if (i + 1 < end)
				next = cursor_task(run, &cursor, i + 1);
			t.next = i + 1 < end ? &next : NULL;
			gemm_do(run, &t, scratch);
		}
	}
	if (uk->thread_end)
		uk->thread_end();
}

static void gemm_check(const struct gemm_job *j)
{
	BUG_ON(j->a->k != j->w.k);
	BUG_ON(j->a->kind == ACT_F32 ? j->w.format != WEIGHT_BF16 : j->a->kind != act_kind_for(j->w.format));
	BUG_ON(j->a->kind == ACT_I8 && (j->a->input_scale != j->w.input_scale ||
					       j->a->input_offset != j->w.input_offset));
	BUG_ON(!j->rows && j->m > j->a->rows);
	if (j->epilogue == GEMM_SILU_MUL)
		BUG_ON(j->w.n % GEMM_COLS || j->out_act->kind == ACT_I8 ||
			j->out_act->k != j->w.n / 2 || j->out_row0 > j->out_act->rows ||
			j->m > j->out_act->rows - j->out_row0);
	else
		BUG_ON(j->out_stride < j->w.n);
}

static uint32_t count_tasks(const struct gemm_run *run)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < run->n_jobs; i++)
		n += gemm_tasks(run, &run->jobs[i]);
	return n;
}

void kernel_gemm(struct kernel *kn, const struct gemm_job *jobs, uint32_t n_jobs)
{
	OP_SCOPE(kn, KERNEL_OP_GEMM, jobs, n_jobs);
	struct gemm_run run = {
		.kn = kn, .jobs = jobs, .n_jobs = n_jobs, .max_panels = GEMM_GROUP * GEMM_PANELS};

	for (uint32_t i = 0; i < n_jobs; i++)
		gemm_check(&jobs[i]);
	run.n_tasks = count_tasks(&run);
	/* Few tasks for the threads: smaller ones, so that the last ones end together. */
	while (run.n_tasks && run.max_panels > 1 &&
		run.n_tasks < (run.max_panels > GEMM_PANELS ? 16 : 4) * (uint32_t)kn->threads) {
		run.max_panels /= 2;
		run.n_tasks = count_tasks(&run);
	}
	if (run.n_tasks)
		kernel_parallel(kn, gemm_thread, &run);
}
