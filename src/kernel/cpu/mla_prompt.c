/*
 * Attention of prompt tokens, expanded form (kernel/kernel.h, kernel_mla_prompt).
 *
 * A task is one head of one sequence, or a part of its query rows where there are fewer heads than
 * threads. It walks the keys in blocks of 512 that stay in L2: expand latents to keys and values,
 * then let every query tile that can see the block pass over it. Query tiles are cut at absolute
 * positions 0, 64, 128, ... A lane meets the key tiles in ascending order whatever the chunk, so
 * its bits do not depend on it.
 */
#include "kernel/cpu/mla.h"

#include <stdatomic.h>

#include "kernel/cpu/device.h"

#define PROMPT_KEYS 512u /* keys expanded at a time */
#define PROMPT_PAD 16u	 /* F32 values after a row of values: rows apart by a power of two share cache sets */

struct prompt_job {
	const struct mla_prompt_args *args;
	struct kernel *kn;
	uint32_t parts; /* of each sequence's rows */
	uint32_t n_tasks;
	atomic_uint next;
};

/* One thread's scratch. Lanes of query tile t are t * MLA_QUERIES ... */
struct prompt_buf {
	uint8_t *latent;  /* [MLA_CHUNK][cache row bytes] */
	float *x;	  /* [MLA_CHUNK, values of a cached row] as F32 */
	uint8_t *k;	  /* [PROMPT_KEYS, dk], BF16 or F32 */
	uint8_t *v;	  /* tiles of packed [MLA_TILE, v_dim] or F32 rows [MLA_TILE, v_dim + PROMPT_PAD] */
	uint16_t *v_rows; /* [MLA_CHUNK, v_dim] */
	uint16_t *w;	  /* kv_b of one head when it must be unpacked: [nope + v_dim, kv_lora] */
	float *w_wide;	  /* the same as F32 */
	uint8_t *q;	  /* packed lanes of one query tile */
	float *s;	  /* [MLA_QUERY_BLOCKS, MLA_TILE, MLA_BLOCK] */
	float *o;	  /* [lanes, v_dim] */
	float *max;	  /* [lanes] */
	float *sum;	  /* [lanes] */
	float *corr;	  /* [MLA_QUERIES] */
	uint32_t *limit;  /* [MLA_QUERIES] */
};

/* Everything one task needs. */
struct prompt_task {
	const struct mla_prompt_args *args;
	const struct mla_ukernels *uk;
	const struct row_ukernels *row_uk;
	const struct mla_seq *seq;
	uint32_t head;
	uint32_t row_begin; /* rows of the sequence's chunk */
	uint32_t row_end;
	uint32_t dk;	   /* nope + rope + zeros */
	uint32_t k_bytes;  /* of an element of a key */
	uint32_t v_stride; /* elements of 4 bytes between value rows */
	struct mla_panels wk;
	struct mla_panels wv;
	struct prompt_buf buf;
};

static size_t prompt_carve(struct prompt_buf *b, uint8_t *mem, const struct kernel_limits *l)
{
	uint32_t dk = mla_row_values(l->nope, l->rope);
	size_t lanes = ((size_t)l->max_rows / MLA_QUERIES + 2) * MLA_QUERIES;
	uintptr_t at = (uintptr_t)mem;

	b->latent = mla_carve(&at, MLA_CHUNK * kernel_kv_row_bytes(l->kv_lora, l->rope));
	b->x = mla_carve(&at, sizeof(*b->x) * MLA_CHUNK * mla_row_values(l->kv_lora, l->rope));
	b->k = mla_carve(&at, (size_t)4 * PROMPT_KEYS * dk);
	b->v = mla_carve(&at, (size_t)4 * PROMPT_KEYS * (l->v_dim + PROMPT_PAD));
	b->v_rows = mla_carve(&at, sizeof(*b->v_rows) * MLA_CHUNK * l->v_dim);
	b->w = mla_carve(&at, sizeof(*b->w) * (l->nope + l->v_dim) * l->kv_lora);
	b->w_wide = mla_carve(&at, sizeof(*b->w_wide) * (l->nope + l->v_dim) * l->kv_lora);
	b->q = mla_carve(&at, (size_t)4 * MLA_QUERIES * dk);
	b->s = mla_carve(&at, sizeof(*b->s) * MLA_TILE * MLA_QUERIES);
	b->o = mla_carve(&at, sizeof(*b->o) * lanes * l->v_dim);
	b->max = mla_carve(&at, sizeof(*b->max) * lanes);
	b->sum = mla_carve(&at, sizeof(*b->sum) * lanes);
	b->corr = mla_carve(&at, sizeof(*b->corr) * MLA_QUERIES);
	b->limit = mla_carve(&at, sizeof(*b->limit) * MLA_QUERIES);
	return at - (uintptr_t)mem;
}

size_t mla_prompt_thread_bytes(const struct kernel_limits *l)
{
	struct prompt_buf b;

	return prompt_carve(&b, NULL, l);
}

/* True when all scales are powers of two of moderate size, as those of UE8M0 checkpoints. */
static bool prompt_scales_exact(const float *scales, size_t n)
{
	int exponent;

	for (size_t i = 0; i < n; i++)
		if (frexpf(scales[i], &exponent) != 0.5f || exponent < -60 || exponent > 60)
			return false;
	return true;
}

/* A head's rows of kv_b, as BF16 panels; `unpacked` has room for them. Scales that are powers of two go into the values, which
 * loses nothing and leaves one sum over all of k. */
static struct mla_panels prompt_weight(const struct mla_ukernels *uk, const struct weight *all,
	uint32_t head, uint32_t n, uint16_t *unpacked)
{
	struct weight w = weight_rows(all, head * n, n);
	struct mla_panels p = {w.panels, w.panel_bytes, NULL, n, w.k, 0};
	size_t step = (size_t)WEIGHT_SCALE_BLOCK * WEIGHT_PANEL_ROWS; /* values under one scale */
	size_t panel = (size_t)w.k_padded * WEIGHT_PANEL_ROWS;
	bool exact;

	if (w.format != WEIGHT_F8_BLOCK)
		return p;
	exact = prompt_scales_exact(w.scales, (size_t)w.n_panels * w.k_blocks);
	for (uint32_t i = 0; i < w.n_panels; i++)
		for (uint32_t blk = 0; blk < w.k_blocks; blk++) {
			size_t at = blk * step;
			int exponent = 1; /* of 0.5 * 2^1 */

			if (exact)
				frexpf(w.scales[i * w.k_blocks + blk], &exponent);
			uk->unpack_f8(unpacked + i * panel + at, w.panels + i * w.panel_bytes + at,
				panel - at < step ? panel - at : step, exponent - 1);
		}
	p.panels = (const uint8_t *)unpacked;
	p.panel_bytes = panel * sizeof(*unpacked);
	if (!exact) {
		p.scales = w.scales;
		p.k_blocks = w.k_blocks;
	}
	return p;
}

/* A head's rows of kv_b from value `at` of the buffers on, as expand() reads them. */
static struct mla_panels prompt_load_weight(
	const struct prompt_task *t, const struct weight *all, uint32_t n, size_t at)
{
	struct mla_panels p = prompt_weight(t->uk, all, t->head, n, t->buf.w + at);

	if (t->uk->widen_panels) {
		t->uk->widen_panels(t->buf.w_wide + at, &p);
		p.panels = (const uint8_t *)(t->buf.w_wide + at);
	}
	return p;
}

/* `n` cached rows as keys and values `at` .. of the expanded block, all F32. */
static void prompt_expand_f32(const struct prompt_task *t, uint32_t at, uint32_t n, const uint16_t *rows)
{
	const struct mla_prompt_args *a = t->args;
	const struct kv_view *c = &a->cache;
	size_t x_stride = mla_row_values(c->kv_lora, c->rope);
	float *x = t->buf.x, *k = (float *)t->buf.k + (size_t)at * t->dk;
	float *v = (float *)t->buf.v + (size_t)at * t->v_stride;

	t->uk->widen(x, rows, n * x_stride);
	t->uk->expand(k, t->dk, x, x_stride, n, &t->wk);
	for (uint32_t i = 0; i < n; i++) {
		float *row = k + (size_t)i * t->dk + a->nope;

		memcpy(row, x + i * x_stride + c->kv_lora, sizeof(*row) * c->rope);
		memset(row + c->rope, 0, sizeof(*row) * (t->dk - a->nope - c->rope));
	}
	t->uk->expand(v, t->v_stride, x, x_stride, n, &t->wv);
	if (n % 2)
		memset(v + (size_t)n * t->v_stride, 0, sizeof(*v) * a->v_dim);
}

/* Keys and values of positions key0 .. key0 + keys - 1, at most PROMPT_KEYS. */
static void prompt_expand(const struct prompt_task *t, uint32_t key0, uint32_t keys)
{
	const struct mla_prompt_args *a = t->args;
	const struct kv_view *c = &a->cache;
	size_t x_stride = kernel_kv_row_bytes(c->kv_lora, c->rope) / 2;
	uint32_t tail = t->dk - a->nope - c->rope;

	for (uint32_t at = 0; at < keys; at += MLA_CHUNK) {
		uint32_t n = keys - at < MLA_CHUNK ? keys - at : MLA_CHUNK;
		const uint16_t *x = mla_chunk_rows(c, t->seq->blocks, key0 + at, n, t->buf.latent);
		uint16_t *k = (uint16_t *)t->buf.k + (size_t)at * t->dk;

		if (t->uk->widen) {
			prompt_expand_f32(t, at, n, x);
			continue;
		}
		t->uk->expand(k, t->dk, x, x_stride, n, &t->wk);
		for (uint32_t i = 0; i < n; i++) {
			uint16_t *row = k + (size_t)i * t->dk + a->nope;

			memcpy(row, x + i * x_stride + c->kv_lora, sizeof(*row) * c->rope);
			memset(row + c->rope, 0, sizeof(*row) * tail);
		}
		t->uk->expand(t->buf.v_rows, a->v_dim, x, x_stride, n, &t->wv);
		t->uk->pack_v(t->buf.v + (size_t)4 * (at - at % MLA_TILE) * a->v_dim, at % MLA_TILE,
			t->buf.v_rows, a->v_dim, n, a->v_dim);
	}
}

/* Rows [row, row + n) of the chunk, all in one query tile, over the expanded keys. */
static void prompt_tile(const struct prompt_task *t, uint32_t row, uint32_t n, size_t lane0,
	uint32_t key0, uint32_t keys)
{
	const struct mla_prompt_args *a = t->args;
	const struct prompt_buf *b = &t->buf;
	uint32_t blocks = (n + MLA_BLOCK - 1) / MLA_BLOCK;
	uint32_t rope = a->cache.rope;
	uint32_t pos = t->seq->pos0 + row;
	size_t q_stride = a->q_nope->stride_bytes / 2;
	size_t row0 = (size_t)t->seq->row0 + row;
	const uint16_t *qn =
		(const uint16_t *)a->q_nope->data + row0 * q_stride + (size_t)t->head * a->nope;
	const uint16_t *qr = a->q_rope + (row0 * a->heads + t->head) * rope;

	for (uint32_t i = 0; i < blocks * MLA_BLOCK; i++)
		b->limit[i] = i < n ? pos + i + 1 : 0;
	for (uint32_t i = 0; i < n; i += MLA_BLOCK)
		t->uk->pack_q(b->q + (size_t)4 * i * t->dk, qn + i * q_stride, q_stride, a->nope,
			qr + (size_t)i * a->heads * rope, (size_t)a->heads * rope, rope, t->dk,
			n - i < MLA_BLOCK ? n - i : MLA_BLOCK);
	for (uint32_t at = 0; at < keys && key0 + at < pos + n; at += MLA_TILE) {
		uint32_t seen = pos + n - key0 - at; /* by the last row */
		uint32_t nk = keys - at < MLA_TILE ? keys - at : MLA_TILE;

		nk = nk < seen ? nk : seen;
		t->uk->scores(
			b->s, b->q, blocks, b->k + (size_t)at * t->dk * t->k_bytes, t->dk, nk, t->dk, NULL);
		t->uk->softmax(b->s, blocks, nk, key0 + at, b->limit, a->scale * MLA_LOG2E,
			b->max + lane0, b->sum + lane0, b->corr);
		t->uk->values(b->o + lane0 * a->v_dim, b->s, b->corr,
			b->v + (size_t)4 * at * t->v_stride, t->v_stride, blocks, nk, a->v_dim);
	}
}

/* Rows from `row` to the end of its query tile or of the task. */
static uint32_t prompt_tile_rows(const struct prompt_task *t, uint32_t row)
{
	uint32_t n = MLA_QUERIES - (t->seq->pos0 + row) % MLA_QUERIES;

	return n < t->row_end - row ? n : t->row_end - row;
}

/* Rows [row, row + n) divided by their sums. */
static void prompt_store(const struct prompt_task *t, uint32_t row, uint32_t n, size_t lane0)
{
	const struct act *out = t->args->out;
	const float *o = t->buf.o + lane0 * t->args->v_dim, *sum = t->buf.sum + lane0;
	uint8_t *first = out->data + (t->seq->row0 + (size_t)row) * out->stride_bytes;
	size_t col = (size_t)t->head * t->args->v_dim;

	if (out->kind == ACT_BF16) {
		t->uk->finish((uint16_t *)first + col, out->stride_bytes / 2, o, sum, n, t->args->v_dim);
		return;
	}
	for (uint32_t i = 0; i < n; i++)
		t->row_uk->mul((float *)(first + i * out->stride_bytes) + col,
			o + (size_t)i * t->args->v_dim, 1.0f / sum[i], t->args->v_dim);
}

static void prompt_task_run(struct prompt_task *t)
{
	const struct mla_prompt_args *a = t->args;
	const struct prompt_buf *b = &t->buf;
	uint32_t n_keys = t->seq->pos0 + t->row_end;
	size_t lanes = ((t->row_end - t->row_begin) / MLA_QUERIES + 2) * MLA_QUERIES;
	size_t lane0 = 0;

	t->wk = prompt_load_weight(t, &a->kv_b_k, a->nope, 0);
	t->wv = prompt_load_weight(t, &a->kv_b_v, a->v_dim, (size_t)a->nope * a->cache.kv_lora);
	memset(b->o, 0, sizeof(*b->o) * lanes * a->v_dim);
	memset(b->sum, 0, sizeof(*b->sum) * lanes);
	for (size_t i = 0; i < lanes; i++)
		b->max[i] = -INFINITY;

	for (uint32_t key0 = 0; key0 < n_keys; key0 += PROMPT_KEYS) {
		uint32_t keys = n_keys - key0 < PROMPT_KEYS ? n_keys - key0 : PROMPT_KEYS;

		prompt_expand(t, key0, keys);
		lane0 = 0;
		for (uint32_t row = t->row_begin, n; row < t->row_end; row += n) {
			n = prompt_tile_rows(t, row);
			prompt_tile(t, row, n, lane0, key0, keys);
			lane0 += MLA_QUERIES;
		}
	}

	lane0 = 0;
	for (uint32_t row = t->row_begin, n; row < t->row_end; row += n) {
		n = prompt_tile_rows(t, row);
		prompt_store(t, row, n, lane0);
		lane0 += MLA_QUERIES;
	}
}

static void prompt_thread(void *arg, int thread, int n_threads)
{
	struct prompt_job *job = arg;
	const struct mla_prompt_args *a = job->args;
	struct prompt_task t = {
		.args = a, .uk = job->kn->mla, .row_uk = job->kn->row,
		.dk = mla_row_values(a->nope, a->cache.rope),
		.k_bytes = job->kn->mla->widen ? 4 : 2,
		.v_stride = a->v_dim + (job->kn->mla->widen ? PROMPT_PAD : 0)};
	uint32_t i;

	prompt_carve(&t.buf, job->kn->scratch.thread_mem + thread * job->kn->scratch.thread_bytes,
		&job->kn->limits);
	if (job->kn->mla->thread_begin)
		job->kn->mla->thread_begin();
	while ((i = atomic_fetch_add(&job->next, 1)) < job->n_tasks) {
		uint32_t part = i / a->heads % job->parts;
		uint64_t rows;

		t.head = i % a->heads;
		t.seq = &a->seqs[i / a->heads / job->parts];
		rows = t.seq->rows;
		t.row_begin = (uint32_t)(rows * part / job->parts);
		t.row_end = (uint32_t)(rows * (part + 1) / job->parts);
		if (t.row_begin < t.row_end)
			prompt_task_run(&t);
	}
	if (job->kn->mla->thread_end)
		job->kn->mla->thread_end();
}

void kernel_mla_prompt(struct kernel *kn, const struct mla_prompt_args *args)
{
	OP_SCOPE(kn, KERNEL_OP_MLA_PROMPT, args, 1);
	const struct kernel_limits *l = &kn->limits;
	struct prompt_job job = {.args = args, .kn = kn, .parts = 1};
	uint32_t tasks = args->n_seqs * args->heads;

	if (!tasks)
		return;
	BUG_ON(args->out->kind == ACT_I8);
	BUG_ON(args->nope % 32 || args->v_dim % 32 || args->cache.kv_lora % 32);
	BUG_ON(args->kv_b_k.n != args->heads * args->nope || args->kv_b_k.k != args->cache.kv_lora);
	BUG_ON(args->kv_b_v.n != args->heads * args->v_dim ||
		args->kv_b_v.k != args->cache.kv_lora);
	BUG_ON(args->nope > l->nope || args->v_dim > l->v_dim || args->cache.rope > l->rope ||
		args->cache.kv_lora > l->kv_lora);
	for (uint32_t i = 0; i < args->n_seqs; i++)
		BUG_ON(args->seqs[i].rows > l->max_rows);
	if (tasks < (uint32_t)kernel_threads(kn))
		job.parts = ((uint32_t)kernel_threads(kn) + tasks - 1) / tasks;
	job.n_tasks = tasks * job.parts;
	kernel_parallel(kn, prompt_thread, &job);
}
