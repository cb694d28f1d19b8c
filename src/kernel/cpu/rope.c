/*
 * Rotary positions of queries: kernel_q_rope (kernel/kernel.h) and the angles that kv_write.c
 * shares. Threads split tokens; the angles of a token are computed once for all its heads.
 */
#include "kernel/cpu/rope.h"

#include "kernel/cpu/device.h"

struct q_rope_job {
	const struct q_rope_args *args;
	const struct rope_ukernels *uk;
};

void rope_angles(float *cosines, float *sines, const struct rope_table *t, uint32_t pos)
{
	for (uint32_t j = 0; j < t->rope / 2; j++) {
		float angle = (float)pos * t->freq[j];
		double s, c;

		sincos(angle, &s, &c);
		cosines[j] = (float)c * t->mscale;
		sines[j] = (float)s * t->mscale;
	}
}

static void q_rope_thread(void *arg, int thread, int n_threads)
{
	const struct q_rope_job *job = arg;
	const struct q_rope_args *a = job->args;
	uint32_t rope = a->rope.rope, width = a->nope + rope;
	uint32_t nope_padded = (a->nope + 31) / 32 * 32;
	uint32_t begin = (uint32_t)((uint64_t)a->rows * thread / n_threads);
	uint32_t end = (uint32_t)((uint64_t)a->rows * (thread + 1) / n_threads);
	float cosines[ROPE_MAX / 2], sines[ROPE_MAX / 2];

	for (uint32_t i = begin; i < end; i++) {
		const float *q = a->q + (size_t)i * a->heads * width; /* [heads, nope + rope] */
		uint16_t *nope = (uint16_t *)(a->nope_act->data + i * a->nope_act->stride_bytes);
		uint16_t *rotated = a->q_rope + (size_t)i * a->heads * rope;

		rope_angles(cosines, sines, &a->rope, (uint32_t)a->pos[i]);
		for (uint32_t h = 0; h < a->heads; h++) {
			job->uk->round(
				nope + (size_t)h * nope_padded, q + (size_t)h * width, a->nope);
			job->uk->rotate(rotated + (size_t)h * rope, q + (size_t)h * width + a->nope,
				cosines, sines, rope / 2);
		}
	}
}

void kernel_q_rope(struct kernel *kn, const struct q_rope_args *args)
{
	OP_SCOPE(kn, KERNEL_OP_Q_ROPE, args, 1);
	struct q_rope_job job = {args, kn->rope};

	BUG_ON(args->rope.rope > ROPE_MAX || args->rope.rope % 2);
	BUG_ON(args->nope_act->kind != ACT_BF16 || args->nope_act->rows < args->rows);
	if (args->rows)
		kernel_parallel(kn, q_rope_thread, &job);
}
