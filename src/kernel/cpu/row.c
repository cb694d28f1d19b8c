/*
 * Drivers of the row ops: embedding, norms, residual sums, conversions (kernel/kernel.h). Each
 * splits by rows, one contiguous run a thread; a row is one thread's whole work.
 */
#include "kernel/cpu/row.h"

#include "kernel/cpu/device.h"

struct embed_job {
	struct kernel *kn;
	float *out;
	const uint16_t *table;
	const int32_t *ids;
	uint32_t n;
	uint32_t hidden;
};

static void embed_thread(void *arg, int thread, int n_threads)
{
	const struct embed_job *j = arg;
	size_t begin, end;

	cpu_split(j->n, thread, n_threads, &begin, &end);
	for (size_t i = begin; i < end; i++)
		j->kn->row->from_bf16(j->out + i * j->hidden,
			j->table + (size_t)j->ids[i] * j->hidden, j->hidden);
}

void kernel_embed(struct kernel *kn, float *out, const uint16_t *table, const int32_t *ids,
	uint32_t n, uint32_t hidden)
{
	struct embed_job job = {kn, out, table, ids, n, hidden};

	for (uint32_t i = 0; i < n; i++)
		BUG_ON(ids[i] < 0);
	kernel_parallel(kn, embed_thread, &job);
}

struct rmsnorm_job {
	struct kernel *kn;
	const struct rmsnorm_args *a;
};

#define ROW_CHUNK 512u /* values scaled at a time when only BF16 is wanted */

static void rmsnorm_row(const struct rmsnorm_job *job, size_t i)
{
	const struct rmsnorm_args *a = job->a;
	const struct row_ukernels *uk = job->kn->row;
	float *x = a->x + i * a->x_stride;
	float *f32 = a->out_f32 ? a->out_f32 + i * a->n : NULL;
	uint8_t *act = a->out_act ? a->out_act->data + i * a->out_act->stride_bytes : NULL;
	float chunk[ROW_CHUNK], r;

	if (a->add)
		uk->add(x, a->add + i * a->n, a->n);
	r = uk->rms(x, a->eps, a->n);
	if (act && a->out_act->kind == ACT_F32) {
		uk->scale((float *)act, x, r, a->weight, a->bias, a->n);
		if (f32)
			memcpy(f32, act, sizeof(*f32) * a->n);
		return;
	}
	for (uint32_t at = 0; at < a->n; at += ROW_CHUNK) {
		uint32_t n = a->n - at < ROW_CHUNK ? a->n - at : ROW_CHUNK;
		float *y = f32 ? f32 + at : chunk;

		uk->scale(y, x + at, r, a->weight + at, a->bias ? a->bias + at : NULL, n);
		if (act)
			uk->to_bf16((uint16_t *)act + at, y, n);
	}
}

static void rmsnorm_thread(void *arg, int thread, int n_threads)
{
	const struct rmsnorm_job *job = arg;
	size_t begin, end;

	cpu_split(job->a->rows, thread, n_threads, &begin, &end);
	for (size_t i = begin; i < end; i++)
		rmsnorm_row(job, i);
}

void kernel_rmsnorm(struct kernel *kn, const struct rmsnorm_args *args)
{
	struct rmsnorm_job job = {kn, args};

	BUG_ON(args->n == 0 || args->x_stride < args->n);
	BUG_ON(args->out_act && (args->out_act->k != args->n || args->out_act->rows < args->rows));
	kernel_parallel(kn, rmsnorm_thread, &job);
}

struct add_job {
	struct kernel *kn;
	float *x;
	const float *add;
	size_t n;
};

static void add_thread(void *arg, int thread, int n_threads)
{
	const struct add_job *j = arg;
	size_t begin, end, lines = (j->n + 15) / 16;

	cpu_split(lines, thread, n_threads, &begin, &end);
	end = end * 16 < j->n ? end * 16 : j->n;
	begin = begin * 16 < end ? begin * 16 : end;
	j->kn->row->add(j->x + begin, j->add + begin, end - begin);
}

void kernel_add(struct kernel *kn, float *x, const float *add, size_t n)
{
	struct add_job job = {kn, x, add, n};

	kernel_parallel(kn, add_thread, &job);
}

struct act_job {
	struct kernel *kn;
	struct act *out;
	const float *x;
	size_t x_stride;
};

static void act_thread(void *arg, int thread, int n_threads)
{
	const struct act_job *j = arg;
	size_t begin, end;

	cpu_split(j->out->rows, thread, n_threads, &begin, &end);
	for (size_t i = begin; i < end; i++) {
		uint8_t *out = j->out->data + i * j->out->stride_bytes;
		const float *x = j->x + i * j->x_stride;

		if (j->out->kind == ACT_F32)
			memcpy(out, x, sizeof(*x) * j->out->k);
		else
			j->kn->row->to_bf16((uint16_t *)out, x, j->out->k);
	}
}

void kernel_act_from_f32(struct kernel *kn, struct act *out, const float *x, size_t x_stride)
{
	struct act_job job = {kn, out, x, x_stride};

	BUG_ON(x_stride < out->k);
	kernel_parallel(kn, act_thread, &job);
}
