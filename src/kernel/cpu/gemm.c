/*
 * Driver of products (kernel/kernel.h, kernel_gemm): cuts all jobs of a call into one list of tasks
 * and runs it over the pool.
 *
 * A task is (job, chunk of up to GEMM_ROWS rows, one or two neighbouring panels). Tasks of a chunk
 * follow each other, so its input stays in the shared cache while the weight passes by. Threads take
 * tasks from one counter; which thread does a task, and how panels are grouped, does not show in the
 * result (cpu/gemm.h).
 */
#include "kernel/cpu/gemm.h"

#include <stdatomic.h>

#include "kernel/cpu/device.h"

struct gemm_run {
	struct kernel *kn;
	const struct gemm_job *jobs;
	uint32_t n_jobs;
	uint32_t unit_panels; /* panels of a task, except where SiLU needs two */
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
};

static uint32_t gemm_unit(const struct gemm_run *run, const struct gemm_job *job)
{
	return job->epilogue == GEMM_SILU_MUL ? GEMM_PANELS : run->unit_panels;
}

static uint32_t gemm_units(const struct gemm_run *run, const struct gemm_job *job)
{
	uint32_t unit = gemm_unit(run, job);

	return (job->w.n_panels + unit - 1) / unit;
}

static uint32_t gemm_tasks(const struct gemm_run *run, const struct gemm_job *job)
{
	return (job->m + GEMM_ROWS - 1) / GEMM_ROWS * gemm_units(run, job);
}

static struct gemm_task gemm_task_at(
	const struct gemm_run *run, const struct gemm_job *job, uint32_t index)
{
	uint32_t unit = gemm_unit(run, job), units = gemm_units(run, job);
	struct gemm_task t = {.job = job};

	t.row0 = index / units * GEMM_ROWS;
	t.rows = job->m - t.row0 < GEMM_ROWS ? job->m - t.row0 : GEMM_ROWS;
	t.panel0 = index % units * unit;
	t.panels = job->w.n_panels - t.panel0 < unit ? job->w.n_panels - t.panel0 : unit;
	return t;
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

/* Adds the sums of block `block` of K, times their scales, to scratch->c. */
static void gemm_add_scaled(const struct row_ukernels *row, const struct gemm_task *t, uint32_t block,
	struct gemm_scratch *s)
{
	const struct weight *w = &t->job->w;

	for (uint32_t p = 0; p < t->panels; p++) {
		size_t at = weight_scale_index(w, (t->panel0 + p) * WEIGHT_PANEL_ROWS, block);
		size_t col = p * WEIGHT_PANEL_ROWS;

		for (uint32_t i = 0; i < t->rows; i++)
			row->add_scaled(s->c + (size_t)i * GEMM_COLS + col,
				s->sum + (size_t)i * GEMM_COLS + col, w->bias + at, w->scales + at,
				block == 0, WEIGHT_PANEL_ROWS);
	}
}

/* The same as gemm_compute() for integers: block of scales by block, each in ranges of K. */
static void gemm_compute_int(const struct gemm_ukernels *uk, const struct row_ukernels *row,
	const struct gemm_task *t, struct gemm_scratch *s)
{
	const struct weight *w = &t->job->w;
	bool i4 = w->format == WEIGHT_I4, few = t->rows <= uk->few_rows;
	uint32_t range = few ? w->k_padded : GEMM_INT_K;
	gemm_block_fn *fn = !few ? uk->i8 : i4 ? uk->i4_few : uk->i8_few;
	struct gemm_block b = {.sum = s->sum, .a = s->a, .rows = t->rows, .panels = t->panels};

	for (uint32_t k = 0; k < w->k_padded; k += b.k) {
		uint32_t block = k / w->k_block, end = (block + 1) * w->k_block;

		end = end < w->k_padded ? end : w->k_padded;
		b.first = k == block * w->k_block;
		b.k = end - k < range ? end - k : range;
		b.w = w->panels + t->panel0 * w->panel_bytes + (size_t)k * WEIGHT_PANEL_ROWS / (i4 ? 2 : 1);
		b.panel_bytes = w->panel_bytes;
		if (i4 && !few) {
			size_t n = (size_t)b.k * WEIGHT_PANEL_ROWS;

			for (uint32_t p = 0; p < t->panels; p++)
				uk->unpack_i4((uint8_t *)s->w + p * n, b.w + p * w->panel_bytes, n / 2);
			b.w = (const uint8_t *)s->w;
			b.panel_bytes = n;
		}
		fn(&b);
		if (k + b.k == end)
			gemm_add_scaled(row, t, block, s);
		for (uint32_t i = 0; i < t->rows; i++)
			s->a[i] += b.k;
	}
	for (uint32_t i = 0; i < t->rows; i++) {
		size_t from = t->job->rows ? (size_t)t->job->rows[t->row0 + i] : t->row0 + i;
		float *c = s->c + (size_t)i * GEMM_COLS, scale = *act_row_scale(t->job->a, from);

		row->mul(c, c, scale, (size_t)t->panels * WEIGHT_PANEL_ROWS);
	}
}

/* Sums of a task into scratch->c: K range by K range. */
static void gemm_compute(
	const struct gemm_ukernels *uk, const struct gemm_task *t, struct gemm_scratch *s)
{
	const struct gemm_job *job = t->job;
	const struct weight *w = &job->w;
	size_t a_bytes = job->a->kind == ACT_F32 ? 4 : 2;
	bool f8 = w->format == WEIGHT_F8_BLOCK;
	bool stream = t->rows <= uk->stream_rows && !(f8 && !uk->f8);
	uint32_t range = stream ? w->k_padded : GEMM_K;
	struct gemm_block b = {.c = s->c, .a = s->a, .rows = t->rows, .panels = t->panels};

	for (uint32_t k0 = 0; k0 < w->k_padded; k0 += range) {
		size_t at = (size_t)k0 * WEIGHT_PANEL_ROWS * (f8 ? 1 : 2);

		b.first = k0 == 0;
		b.k = w->k_padded - k0 < range ? w->k_padded - k0 : range;
		b.w = w->panels + t->panel0 * w->panel_bytes + at;
		b.panel_bytes = w->panel_bytes;
		if (f8) {
			b.scales = w->scales + (size_t)t->panel0 * w->k_blocks +
				   k0 / WEIGHT_SCALE_BLOCK;
			b.scale_stride = w->k_blocks;
		}
		if (f8 && !stream) {
			size_t n = (size_t)b.k * WEIGHT_PANEL_ROWS;

			for (uint32_t p = 0; p < t->panels; p++)
				uk->unpack_f8(s->w + p * n, b.w + p * w->panel_bytes, n);
			b.w = (const uint8_t *)s->w;
			b.panel_bytes = n * sizeof(*s->w);
		}
		if (f8)
			(stream ? uk->f8 : uk->f8u)(&b);
		else
			(job->a->kind == ACT_F32 ? uk->f32 : uk->bf16)(&b);
		for (uint32_t i = 0; i < t->rows; i++)
			s->a[i] += b.k * a_bytes;
	}
}

/* Writes a task's sums to the job's output. */
static void gemm_store(
	const struct row_ukernels *row, const struct gemm_task *t, const struct gemm_scratch *s)
{
	const struct gemm_job *job = t->job;
	uint32_t col0 = t->panel0 * WEIGHT_PANEL_ROWS, cols = t->panels * WEIGHT_PANEL_ROWS;

	cols = job->w.n - col0 < cols ? job->w.n - col0 : cols;
	for (uint32_t i = 0; i < t->rows; i++) {
		const float *c = s->c + (size_t)i * GEMM_COLS;
		size_t at = (t->row0 + i) * job->out_stride + col0;

		if (job->epilogue == GEMM_STORE_F32) {
			memcpy(job->out_f32 + at, c, sizeof(*c) * cols);
		} else if (job->epilogue == GEMM_STORE_BF16) {
			row->to_bf16(job->out_bf16 + at, c, cols);
		} else {
			struct act *out = job->out_act;
			size_t r = (size_t)job->out_row0 + t->row0 + i;

			uint8_t *to = out->data + r * out->stride_bytes;

			if (out->kind == ACT_F32)
				row->silu_mul_f32((float *)to + col0 / 2, c, c + WEIGHT_PANEL_ROWS, cols / 2);
			else
				row->silu_mul((uint16_t *)to + col0 / 2, c, c + WEIGHT_PANEL_ROWS, cols / 2);
		}
	}
}

static void gemm_thread(void *arg, int thread, int n_threads)
{
	struct gemm_run *run = arg;
	const struct gemm_ukernels *uk = run->kn->gemm;
	struct gemm_scratch *scratch = &run->kn->gemm_scratch[thread];
	uint32_t i, job = 0, job_task0 = 0, n = gemm_tasks(run, run->jobs);

	if (uk->thread_begin)
		uk->thread_begin();
	while ((i = atomic_fetch_add_explicit(&run->next, 1, memory_order_relaxed)) <
		run->n_tasks) {
		struct gemm_task t;

		while (i - job_task0 >= n) {
			job_task0 += n;
			n = gemm_tasks(run, &run->jobs[++job]);
		}
		t = gemm_task_at(run, &run->jobs[job], i - job_task0);
		gemm_inputs(&t, scratch);
		if (weight_traits(t.job->w.format)->integer)
			gemm_compute_int(uk, run->kn->row, &t, scratch);
		else
			gemm_compute(uk, &t, scratch);
		gemm_store(run->kn->row, &t, scratch);
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

void kernel_gemm(struct kernel *kn, const struct gemm_job *jobs, uint32_t n_jobs)
{
	OP_SCOPE(kn, KERNEL_OP_GEMM, jobs, n_jobs);
	struct gemm_run run = {.kn = kn, .jobs = jobs, .n_jobs = n_jobs, .unit_panels = GEMM_PANELS};

	for (uint32_t i = 0; i < n_jobs; i++) {
		gemm_check(&jobs[i]);
		run.n_tasks += gemm_tasks(&run, &jobs[i]);
	}
	if (run.n_tasks == 0)
		return;
	/* Few tasks for the threads: halve them, so that the last ones end together. */
	if (run.n_tasks < 4 * (uint32_t)kn->threads) {
		run.unit_panels = 1;
		run.n_tasks = 0;
		for (uint32_t i = 0; i < n_jobs; i++)
			run.n_tasks += gemm_tasks(&run, &jobs[i]);
	}
	kernel_parallel(kn, gemm_thread, &run);
}
