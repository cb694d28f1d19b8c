/*
 * Appends tokens to the latent cache: kernel_kv_write (kernel/kernel.h). A cached row is the normed
 * latent, the rotated key and zeros to a multiple of 64 bytes. Threads split the rows of the call.
 */
#include "kernel/cpu/device.h"
#include "kernel/cpu/mla.h"
#include "kernel/cpu/rope.h"

struct kv_write_job {
	const struct kv_write_args *args;
	const struct rope_ukernels *uk;
	uint32_t rows; /* over all sequences */
};

static void kv_write_row(const struct kv_write_job *job, const struct mla_seq *seq, uint32_t row)
{
	const struct kv_write_args *a = job->args;
	const struct kv_view *c = &a->cache;
	const float *x = a->kv + (size_t)(seq->row0 + row) * a->kv_stride;
	size_t row_bytes = kernel_kv_row_bytes(c->kv_lora, c->rope);
	uint32_t pos = seq->pos0 + row, used = c->kv_lora + c->rope;
	uint16_t *out = (uint16_t *)mla_row(c, seq->blocks, pos, row_bytes);
	float cosines[ROPE_MAX / 2], sines[ROPE_MAX / 2];

	rope_angles(cosines, sines, &a->rope, pos);
	job->uk->norm(out, x, a->norm_weight, a->norm_bias, a->eps, c->kv_lora);
	job->uk->rotate(out + c->kv_lora, x + c->kv_lora, cosines, sines, c->rope / 2);
	memset(out + used, 0, row_bytes - sizeof(*out) * used);
}

static void kv_write_thread(void *arg, int thread, int n_threads)
{
	const struct kv_write_job *job = arg;
	uint32_t begin = (uint32_t)((uint64_t)job->rows * thread / n_threads);
	uint32_t end = (uint32_t)((uint64_t)job->rows * (thread + 1) / n_threads);
	uint32_t at = 0; /* rows of the sequences before */

	for (uint32_t s = 0; s < job->args->n_seqs && at < end; s++) {
		const struct mla_seq *seq = &job->args->seqs[s];

		for (uint32_t i = begin > at ? begin - at : 0; i < seq->rows && at + i < end; i++)
			kv_write_row(job, seq, i);
		at += seq->rows;
	}
}

void kernel_kv_write(struct kernel *kn, const struct kv_write_args *args)
{
	OP_SCOPE(kn, KERNEL_OP_KV_WRITE, args, 1);
	struct kv_write_job job = {args, kn->rope, 0};

	BUG_ON(args->rope.rope != args->cache.rope || args->rope.rope > ROPE_MAX);
	BUG_ON(args->cache.rope % 2 || (args->cache.block_tokens & (args->cache.block_tokens - 1)));
	for (uint32_t s = 0; s < args->n_seqs; s++)
		job.rows += args->seqs[s].rows;
	if (job.rows)
		kernel_parallel(kn, kv_write_thread, &job);
}
