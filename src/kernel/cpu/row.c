/*
 * Drivers of the row ops: embedding, norms, residual sums, conversions (kernel/kernel.h). Each
 * splits by rows, one contiguous run a thread; a row is one thread's whole work.
 */
#include "kernel/cpu/row.h"

#include <math.h>
#include <string.h>

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
	OP_SCOPE(kn, KERNEL_OP_EMBED, NULL, n);
	struct embed_job job = {kn, out, table, ids, n, hidden};

	for (uint32_t i = 0; i < n; i++)
		BUG_ON(ids[i] < 0);
	kernel_parallel(kn, embed_thread, &job);
}

struct rmsnorm_job {
	struct kernel *kn;
	const struct rmsnorm_args *a;
};

#define ROW_CHUNK 512u /* values scaled at a time when F32 is not wanted */

/* Where a row of quantized values goes, and how. */
struct quant_row {
	const struct row_ukernels *uk;
	uint8_t *out;
	float scale; /* of x; never 0 */
	float offset;
};

/* max: of |x| over the whole row, 0 where it is not known yet; NaN and infinity make the row's scale one of them. */
static struct quant_row quant_begin(
	const struct row_ukernels *uk, const struct act *act, size_t row, float max)
{
	struct quant_row q = {uk, act->data + row * act->stride_bytes, act->input_scale, act->input_offset};

	*act_row_scale(act, row) = !(q.scale > 0) ? max / 127.0f : isfinite(max) ? 1 : NAN;
	if (!(q.scale > 0)) {
		q.scale = max / 127.0f > 0 ? max / 127.0f : 1;
		q.offset = 0;
	}
	return q;
}

static void quant_values(const struct quant_row *q, const float *x, uint32_t at, uint32_t n)
{
	q->uk->quantize(q->out + at, x, q->scale, q->offset, n);
}

/* One normed row in pieces, each into f32 or a piece of the stack. */
struct norm_row {
	const struct rmsnorm_args *a;
	const struct row_ukernels *uk;
	const float *x;
	float r;
	float *f32;
};

static const float *norm_piece(const struct norm_row *row, float *chunk, uint32_t at, uint32_t n)
{
	const struct rmsnorm_args *a = row->a;
	float *y = row->f32 ? row->f32 + at : chunk;

	row->uk->scale(y, row->x + at, row->r, a->weight + at, a->bias ? a->bias + at : NULL, n);
	return y;
}

static void norm_pieces(const struct norm_row *row, size_t i)
{
	const struct rmsnorm_args *a = row->a;
	const struct act *act = a->out_act;
	bool quant = act && act->kind == ACT_I8, twice = quant && !(act->input_scale > 0);
	float chunk[ROW_CHUNK], max = 0;
	struct quant_row q;

	for (uint32_t at = 0, n; twice && at < a->n; at += n) {
		n = a->n - at < ROW_CHUNK ? a->n - at : ROW_CHUNK;
		max = row->uk->max_abs(norm_piece(row, chunk, at, n), max, n);
	}
	if (quant)
		q = quant_begin(row->uk, act, i, max);
	for (uint32_t at = 0, n; at < a->n; at += n) {
		const float *y;

		n = a->n - at < ROW_CHUNK ? a->n - at : ROW_CHUNK;
		y = twice && row->f32 ? row->f32 + at : norm_piece(row, chunk, at, n);
		if (quant && !twice)
			max = row->uk->max_abs(y, max, n);
		if (quant)
			quant_values(&q, y, at, n);
		else if (act && act->kind == ACT_F32)
			memcpy(act->data + i * act->stride_bytes + at * sizeof(*y), y, sizeof(*y) * n);
		else if (act)
			row->uk->to_bf16((uint16_t *)(act->data + i * act->stride_bytes) + at, y, n);
	}
	if (quant && !isfinite(max))
		*act_row_scale(act, i) = NAN;
}

static void rmsnorm_row(const struct rmsnorm_job *job, size_t i)
{
	const struct rmsnorm_args *a = job->a;
	const struct row_ukernels *uk = job->kn->row;
	float *x = a->x + i * a->x_stride;
	struct norm_row row = {.a = a, .uk = uk, .x = x, .f32 = a->out_f32 ? a->out_f32 + i * a->n : NULL};

	if (a->add)
		uk->add(x, a->add + i * a->n, a->n);
	row.r = uk->rms(x, a->eps, a->n);
	norm_pieces(&row, i);
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
	OP_SCOPE(kn, KERNEL_OP_RMSNORM, args, 1);
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
	OP_SCOPE(kn, KERNEL_OP_ADD, NULL, 0);
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
	const struct row_ukernels *uk = j->kn->row;
	size_t begin, end;

	cpu_split(j->out->rows, thread, n_threads, &begin, &end);
	for (size_t i = begin; i < end; i++) {
		uint8_t *out = j->out->data + i * j->out->stride_bytes;
		const float *x = j->x + i * j->x_stride;

		if (j->out->kind == ACT_F32) {
			memcpy(out, x, sizeof(*x) * j->out->k);
		} else if (j->out->kind == ACT_BF16) {
			uk->to_bf16((uint16_t *)out, x, j->out->k);
		} else {
			float max = uk->max_abs(x, 0, j->out->k);
			struct quant_row q = quant_begin(uk, j->out, i, max);

			quant_values(&q, x, 0, j->out->k);
		}
	}
}

void kernel_act_from_f32(struct kernel *kn, struct act *out, const float *x, size_t x_stride)
{
	OP_SCOPE(kn, KERNEL_OP_ACT_FROM_F32, out, 1);
	struct act_job job = {kn, out, x, x_stride};

	BUG_ON(x_stride < out->k);
	kernel_parallel(kn, act_thread, &job);
}
