/*
 * Attention of generated tokens, absorbed form (kernel/kernel.h, kernel_mla_decode).
 *
 * Lanes are (row, head) pairs of one sequence; up to 8 blocks of them form a group that passes over
 * the cache rows together. A row's keys are cut into splits whose size follows from its position
 * alone: 512 keys, doubled until 32 splits reach the position. A split is computed from nothing,
 * then the splits are merged in ascending order. Two schedules give the same bits: one task per
 * group that merges as it goes, and, when groups are few, one task per split with the states kept
 * apart and merged by a second pass.
 */
#include "kernel/cpu/mla.h"

#include <stdatomic.h>

#include "kernel/cpu/device.h"

/* Softmax state of a group's lanes. */
struct decode_state {
	float *o;   /* [lanes, kv_lora] */
	float *max; /* [lanes] */
	float *sum; /* [lanes] */
};

struct decode_buf {
	uint8_t *latent; /* [MLA_CHUNK][cache row bytes] */
	uint8_t *tile;	 /* packed values [MLA_TILE, kv_lora], or F32 rows [MLA_TILE, d] */
	uint8_t *q;	 /* packed lanes of a group */
	float *s;	 /* [MLA_GROUP_BLOCKS, MLA_TILE, MLA_BLOCK] */
	float *corr;	 /* [lanes] */
	uint32_t *limit; /* [lanes] */
	struct decode_state cur;
	struct decode_state acc;
};

/* Consecutive lane blocks of one sequence. Block u of a sequence is block u % row_blocks of row
 * u / row_blocks. */
struct decode_group {
	const struct mla_seq *seq;
	uint32_t block0;
	uint32_t blocks;
	uint32_t split_keys;
	uint32_t n_keys; /* seen by its last row */
};

struct decode_job {
	const struct mla_decode_args *args;
	struct kernel *kn;
	uint32_t group_blocks; /* at most */
	uint32_t row_blocks;   /* lane blocks of a row */
	uint32_t splits;       /* tasks of a group; 1: merge as it goes */
	uint32_t n_tasks;
	atomic_uint next;
};

/* Walks the groups of a call in order. */
struct decode_cursor {
	uint32_t index; /* of `group`, once started */
	uint32_t seq;
	uint32_t block; /* next block of seq */
	bool started;
	struct decode_group group;
};

static uint32_t decode_split_keys(uint32_t pos)
{
	uint32_t keys = MLA_SPLIT;

	while ((uint64_t)keys * MLA_MAX_SPLITS <= pos)
		keys *= 2;
	return keys;
}

static bool decode_next(const struct decode_job *job, struct decode_cursor *c)
{
	const struct mla_decode_args *a = job->args;
	struct decode_group *g = &c->group;
	uint32_t row, last, units;

	while (c->seq < a->n_seqs && c->block == a->seqs[c->seq].rows * job->row_blocks) {
		c->seq++;
		c->block = 0;
	}
	if (c->seq == a->n_seqs)
		return false;
	g->seq = &a->seqs[c->seq];
	g->block0 = c->block;
	units = g->seq->rows * job->row_blocks - c->block;
	g->blocks = units < job->group_blocks ? units : job->group_blocks;
	row = c->block / job->row_blocks;
	last = (c->block + g->blocks - 1) / job->row_blocks;
	g->split_keys = decode_split_keys(g->seq->pos0 + row);
	while (decode_split_keys(g->seq->pos0 + last) != g->split_keys) {
		g->blocks = last * job->row_blocks - c->block;
		last--;
	}
	g->n_keys = g->seq->pos0 + last + 1;
	c->block += g->blocks;
	c->index = c->started ? c->index + 1 : 0;
	c->started = true;
	return true;
}

static size_t decode_carve_state(struct decode_state *s, uint8_t *mem, uint32_t lanes, uint32_t dv)
{
	uintptr_t at = (uintptr_t)mem;

	s->o = mla_carve(&at, sizeof(*s->o) * lanes * dv);
	s->max = mla_carve(&at, sizeof(*s->max) * lanes);
	s->sum = mla_carve(&at, sizeof(*s->sum) * lanes);
	return at - (uintptr_t)mem;
}

static size_t decode_carve(struct decode_buf *b, uint8_t *mem, const struct kernel_limits *l)
{
	uint32_t d = mla_row_values(l->kv_lora, l->rope);
	uint32_t lanes = MLA_GROUP_BLOCKS * MLA_BLOCK;
	uintptr_t at = (uintptr_t)mem;

	b->latent = mla_carve(&at, MLA_CHUNK * kernel_kv_row_bytes(l->kv_lora, l->rope));
	b->tile = mla_carve(&at, (size_t)4 * MLA_TILE * d);
	b->q = mla_carve(&at, (size_t)4 * lanes * d);
	b->s = mla_carve(&at, sizeof(*b->s) * MLA_GROUP_BLOCKS * MLA_SCORES);
	b->corr = mla_carve(&at, sizeof(*b->corr) * lanes);
	b->limit = mla_carve(&at, sizeof(*b->limit) * lanes);
	at += decode_carve_state(&b->cur, (uint8_t *)at, lanes, l->kv_lora);
	at += decode_carve_state(&b->acc, (uint8_t *)at, lanes, l->kv_lora);
	return at - (uintptr_t)mem;
}

size_t mla_decode_thread_bytes(const struct kernel_limits *l)
{
	struct decode_buf b;

	return decode_carve(&b, NULL, l);
}

/* States that the split schedule may keep: full groups for every thread four times over. */
static uint32_t decode_slots(int threads)
{
	return 4 * (uint32_t)threads + MLA_MAX_SPLITS;
}

static size_t decode_slot_bytes(uint32_t kv_lora, uint32_t group_blocks)
{
	struct decode_state s;

	return decode_carve_state(&s, NULL, group_blocks * MLA_BLOCK, kv_lora);
}

size_t mla_decode_shared_bytes(const struct kernel_limits *l, int threads)
{
	return decode_slots(threads) * decode_slot_bytes(l->kv_lora, MLA_GROUP_BLOCKS);
}

static void decode_slot(
	const struct decode_job *job, struct decode_state *s, uint32_t group, uint32_t split)
{
	size_t bytes = decode_slot_bytes(job->args->cache.kv_lora, job->group_blocks);

	decode_carve_state(s,
		job->kn->scratch.shared + (size_t)(group * job->splits + split) * bytes,
		job->group_blocks * MLA_BLOCK, job->args->cache.kv_lora);
}

/* Lanes of block u of the sequence: first head and their number. */
static uint32_t decode_block_lanes(const struct decode_job *job, uint32_t u, uint32_t *head0)
{
	uint32_t left;

	*head0 = u % job->row_blocks * MLA_BLOCK;
	left = job->args->heads - *head0;
	return left < MLA_BLOCK ? left : MLA_BLOCK;
}

static void decode_pack(
	const struct decode_job *job, const struct decode_group *g, const struct decode_buf *b)
{
	const struct mla_decode_args *a = job->args;
	uint32_t kv_lora = a->cache.kv_lora, rope = a->cache.rope;
	uint32_t d = mla_row_values(kv_lora, rope);

	for (uint32_t i = 0; i < g->blocks; i++) {
		uint32_t row = (g->block0 + i) / job->row_blocks, head0;
		uint32_t lanes = decode_block_lanes(job, g->block0 + i, &head0);
		size_t at = (size_t)(g->seq->row0 + row) * a->heads + head0;

		job->kn->mla->pack_q(b->q + (size_t)4 * i * MLA_BLOCK * d, a->q_lat + at * kv_lora,
			kv_lora, kv_lora, a->q_rope + at * rope, rope, rope, d, lanes);
		for (uint32_t j = 0; j < MLA_BLOCK; j++)
			b->limit[i * MLA_BLOCK + j] = j < lanes ? g->seq->pos0 + row + 1 : 0;
	}
}

/* Scores of the group's lanes and keys key0 .. key0 + keys - 1, a tile of them at most; their values
 * stay in b->tile. Keys before `end` will be read next. */
static void decode_scores(const struct decode_job *job, const struct decode_group *g,
	const struct decode_buf *b, uint32_t key0, uint32_t keys, uint32_t end)
{
	const struct kv_view *c = &job->args->cache;
	const struct mla_ukernels *uk = job->kn->mla;
	uint32_t d = mla_row_values(c->kv_lora, c->rope);
	float *wide = (float *)b->tile;

	for (uint32_t i = 0; i < keys; i += MLA_CHUNK) {
		uint32_t n = keys - i < MLA_CHUNK ? keys - i : MLA_CHUNK;
		const uint16_t *rows = mla_chunk_rows(c, g->seq->blocks, key0 + i, n, b->latent);
		const uint16_t *ahead =
			mla_chunk_ahead(c, g->seq->blocks, key0 + i + MLA_CHUNK, end);
		const void *k = rows;

		if (uk->widen) {
			uk->widen(wide + (size_t)i * d, rows, (size_t)n * d);
			k = wide + (size_t)i * d;
		}
		uk->scores(b->s + (size_t)i * MLA_BLOCK, b->q, g->blocks, k, d, n, d, ahead);
		if (!uk->widen)
			uk->pack_v(b->tile, i, rows, d, n, c->kv_lora);
	}
	if (uk->widen && keys % 2)
		memset(wide + (size_t)keys * d, 0, sizeof(*wide) * d);
}

/* State of the group's lanes after keys key0 .. key1 - 1. */
static void decode_split(const struct decode_job *job, const struct decode_group *g,
	const struct decode_buf *b, const struct decode_state *st, uint32_t key0, uint32_t key1)
{
	const struct mla_decode_args *a = job->args;
	const struct mla_ukernels *uk = job->kn->mla;
	uint32_t dv = a->cache.kv_lora;
	uint32_t d = mla_row_values(dv, a->cache.rope);
	uint32_t lanes = g->blocks * MLA_BLOCK;

	memset(st->o, 0, sizeof(*st->o) * lanes * dv);
	memset(st->sum, 0, sizeof(*st->sum) * lanes);
	for (uint32_t i = 0; i < lanes; i++)
		st->max[i] = -INFINITY;
	for (uint32_t at = key0; at < key1; at += MLA_TILE) {
		uint32_t keys = key1 - at < MLA_TILE ? key1 - at : MLA_TILE;

		decode_scores(job, g, b, at, keys, key1);
		uk->softmax(b->s, g->blocks, keys, at, b->limit, a->scale * MLA_LOG2E, st->max,
			st->sum, b->corr);
		uk->values(st->o, b->s, b->corr, b->tile, d, g->blocks, keys, dv);
	}
}

/* Writes block i of the group from its state. */
static void decode_finish(const struct decode_job *job, const struct decode_group *g,
	const struct decode_state *st, uint32_t i)
{
	const struct mla_decode_args *a = job->args;
	uint32_t dv = a->cache.kv_lora;
	uint32_t row = (g->block0 + i) / job->row_blocks, head0;
	uint32_t lanes = decode_block_lanes(job, g->block0 + i, &head0);
	size_t at = (size_t)(g->seq->row0 + row) * a->heads + head0;

	job->kn->mla->finish(a->out_lat + at * dv, dv, st->o + (size_t)i * MLA_BLOCK * dv,
		st->sum + i * MLA_BLOCK, lanes, dv);
}

/* Adds the state of a later split, for `blocks` lane blocks from block i. */
static void decode_merge(const struct decode_job *job, const struct decode_state *acc,
	const struct decode_state *add, uint32_t i, uint32_t blocks)
{
	uint32_t dv = job->args->cache.kv_lora;
	size_t lane = (size_t)i * MLA_BLOCK;

	job->kn->mla->merge(acc->o + lane * dv, acc->max + lane, acc->sum + lane,
		add->o + lane * dv, add->max + lane, add->sum + lane, blocks * MLA_BLOCK, dv);
}

static void decode_task(const struct decode_job *job, const struct decode_cursor *c,
	const struct decode_buf *b, uint32_t split)
{
	const struct decode_group *g = &c->group;
	struct decode_state st;

	if (job->splits == 1) {
		decode_pack(job, g, b);
		for (uint32_t at = 0; at < g->n_keys; at += g->split_keys) {
			uint32_t end =
				g->n_keys - at < g->split_keys ? g->n_keys : at + g->split_keys;

			decode_split(job, g, b, at ? &b->cur : &b->acc, at, end);
			if (at)
				decode_merge(job, &b->acc, &b->cur, 0, g->blocks);
		}
		for (uint32_t i = 0; i < g->blocks; i++)
			decode_finish(job, g, &b->acc, i);
	} else if ((uint64_t)split * g->split_keys < g->n_keys) {
		uint32_t at = split * g->split_keys;
		uint32_t end = g->n_keys - at < g->split_keys ? g->n_keys : at + g->split_keys;

		decode_pack(job, g, b);
		decode_slot(job, &st, c->index, split);
		decode_split(job, g, b, &st, at, end);
	}
}

static void decode_thread(void *arg, int thread, int n_threads)
{
	struct decode_job *job = arg;
	struct decode_cursor c = {0};
	struct decode_buf b;
	uint32_t i;

	decode_carve(&b, job->kn->scratch.thread_mem + thread * job->kn->scratch.thread_bytes,
		&job->kn->limits);
	if (job->kn->mla->thread_begin)
		job->kn->mla->thread_begin();
	while ((i = atomic_fetch_add(&job->next, 1)) < job->n_tasks) {
		while (!c.started || c.index < i / job->splits)
			decode_next(job, &c);
		decode_task(job, &c, &b, i % job->splits);
	}
	if (job->kn->mla->thread_end)
		job->kn->mla->thread_end();
}

/* The second pass of the split schedule: a task is one block of a group. */
static void decode_merge_thread(void *arg, int thread, int n_threads)
{
	struct decode_job *job = arg;
	struct decode_cursor c = {0};
	uint32_t i;

	while ((i = atomic_fetch_add(&job->next, 1)) < job->n_tasks) {
		uint32_t block = i % job->group_blocks;
		struct decode_state acc, add;

		while (!c.started || c.index < i / job->group_blocks)
			decode_next(job, &c);
		if (block >= c.group.blocks)
			continue;
		decode_slot(job, &acc, c.index, 0);
		for (uint32_t s = 1; (uint64_t)s * c.group.split_keys < c.group.n_keys; s++) {
			decode_slot(job, &add, c.index, s);
			decode_merge(job, &acc, &add, block, 1);
		}
		decode_finish(job, &c.group, &acc, block);
	}
}

/* Groups of a call and their splits: the sum and the most of one group. */
static uint32_t decode_count(const struct decode_job *job, uint32_t *splits, uint32_t *max_splits)
{
	struct decode_cursor c = {0};
	uint32_t groups = 0;

	*splits = *max_splits = 0;
	while (decode_next(job, &c)) {
		uint32_t n = (c.group.n_keys + c.group.split_keys - 1) / c.group.split_keys;

		groups++;
		*splits += n;
		*max_splits = n > *max_splits ? n : *max_splits;
	}
	return groups;
}

/*
 * Chooses group size and schedule, which only speed depends on: large groups read the cache less
 * often, many tasks keep all threads busy, splits cost a second pass. Returns the number of groups.
 */
static uint32_t decode_plan(struct decode_job *job, const struct kernel *kn, uint32_t threads)
{
	uint32_t groups = 0, splits, max_splits;

	job->splits = 1;
	for (job->group_blocks = MLA_GROUP_BLOCKS; job->group_blocks >= 4; job->group_blocks /= 2) {
		groups = decode_count(job, &splits, &max_splits);
		if (!groups || groups >= 4 * threads || groups % threads == 0)
			return groups;
	}
	for (job->group_blocks = MLA_GROUP_BLOCKS; job->group_blocks; job->group_blocks /= 2) {
		groups = decode_count(job, &splits, &max_splits);
		if (groups >= 4 * threads)
			return groups;
		if (max_splits > 1 && splits >= 2 * threads &&
			(size_t)groups * max_splits *
					decode_slot_bytes(
						job->args->cache.kv_lora, job->group_blocks) <=
				kn->scratch.shared_bytes) {
			job->splits = max_splits;
			return groups;
		}
	}
	job->group_blocks = 1;
	return groups;
}

void kernel_mla_decode(struct kernel *kn, const struct mla_decode_args *args)
{
	OP_SCOPE(kn, KERNEL_OP_MLA_DECODE, args, 1);
	struct decode_job job = {
		.args = args,
		.kn = kn,
		.row_blocks = (args->heads + MLA_BLOCK - 1) / MLA_BLOCK,
	};
	uint32_t groups;

	BUG_ON(args->cache.kv_lora % 32 || args->cache.kv_lora > kn->limits.kv_lora ||
		args->cache.rope > kn->limits.rope);
	groups = decode_plan(&job, kn, (uint32_t)kernel_threads(kn));
	if (!groups)
		return;
	job.n_tasks = groups * job.splits;
	kernel_parallel(kn, decode_thread, &job);
	if (job.splits > 1) {
		job.n_tasks = groups * job.group_blocks;
		atomic_store(&job.next, 0);
		kernel_parallel(kn, decode_merge_thread, &job);
	}
}
