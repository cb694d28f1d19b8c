/*
 * Sum of expert outputs in canonical order (kernel/kernel.h, kernel_moe_combine).
 *
 * The leaves of a binary tree over expert indices (rounded up to a power of two) are gate * y of the
 * chosen experts; a node with one present child is that child. Ids ascend, so a stack suffices: two
 * neighbours meet at the node of the highest bit in which their ids differ, lower nodes first.
 */
#include "kernel/cpu/device.h"

#define COMBINE_CHUNK 256u  /* values summed at a time */
#define COMBINE_MAX_K 64u   /* experts of a token at most */
#define COMBINE_DEPTH 33u   /* open nodes at most: one for each bit of an id, and a leaf */

struct combine_job {
	struct kernel *kn;
	const struct moe_combine_args *a;
};

/* Leaves of one token that are present on this device. */
struct combine_leaves {
	uint32_t n;
	const float *y[COMBINE_MAX_K];
	float gate[COMBINE_MAX_K];
	uint32_t join[COMBINE_MAX_K]; /* height of the node where leaf i meets leaf i + 1 */
};

static void combine_leaves(
	const struct moe_combine_args *a, uint32_t row, struct combine_leaves *l)
{
	int32_t last = 0;

	l->n = 0;
	for (uint32_t j = 0; j < a->top_k; j++) {
		size_t at = (size_t)row * a->top_k + j;

		if (a->slot[at] < 0)
			continue;
		if (l->n)
			l->join[l->n - 1] =
				32 - (uint32_t)__builtin_clz((uint32_t)(a->ids[at] ^ last));
		last = a->ids[at];
		l->y[l->n] = a->y + (size_t)a->slot[at] * a->hidden;
		l->gate[l->n++] = a->gates[at];
	}
}

/* out = shared + tree, columns col0 .. col0 + n - 1. */
static void combine_chunk(const struct combine_job *job, const struct combine_leaves *l,
	uint32_t row, uint32_t col0, uint32_t n)
{
	const struct moe_combine_args *a = job->a;
	const struct row_ukernels *uk = job->kn->row;
	float stack[COMBINE_DEPTH][COMBINE_CHUNK] __attribute__((aligned(64)));
	uint32_t height[COMBINE_DEPTH]; /* of the node that joins entry i - 1 and entry i */
	uint32_t depth = 0;
	float *out = a->out + (size_t)row * a->hidden + col0;

	for (uint32_t i = 0; i < l->n; i++) {
		uk->mul(stack[depth], l->y[i] + col0, l->gate[i], n);
		height[depth++] = i ? l->join[i - 1] : UINT32_MAX;
		while (depth > 1 && (i + 1 == l->n || height[depth - 1] < l->join[i])) {
			depth--;
			uk->add(stack[depth - 1], stack[depth], n);
		}
	}
	if (!a->shared)
		memset(out, 0, sizeof(*out) * n);
	else if (out != a->shared + (size_t)row * a->hidden + col0)
		memcpy(out, a->shared + (size_t)row * a->hidden + col0, sizeof(*out) * n);
	if (depth)
		uk->add(out, stack[0], n);
}

static void combine_thread(void *arg, int thread, int n_threads)
{
	const struct combine_job *job = arg;
	const struct moe_combine_args *a = job->a;
	uint32_t chunks = (a->hidden + COMBINE_CHUNK - 1) / COMBINE_CHUNK;
	struct combine_leaves leaves;
	size_t begin, end;

	/* By (row, chunk), so that one row is shared by all threads. */
	cpu_split((size_t)a->rows * chunks, thread, n_threads, &begin, &end);
	for (size_t i = begin; i < end; i++) {
		uint32_t row = (uint32_t)(i / chunks), col0 = (uint32_t)(i % chunks) * COMBINE_CHUNK;
		uint32_t n = a->hidden - col0 < COMBINE_CHUNK ? a->hidden - col0 : COMBINE_CHUNK;

		if (i == begin || col0 == 0)
			combine_leaves(a, row, &leaves);
		combine_chunk(job, &leaves, row, col0, n);
	}
}

void kernel_moe_combine(struct kernel *kn, const struct moe_combine_args *args)
{
	OP_SCOPE(kn, KERNEL_OP_MOE_COMBINE, args, 1);
	struct combine_job job = {kn, args};

	BUG_ON(args->top_k == 0 || args->top_k > COMBINE_MAX_K);
	kernel_parallel(kn, combine_thread, &job);
}
