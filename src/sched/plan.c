/*
 * The next step: tokens for the running, then for those that wait, as far as budget, sequences and cache
 * blocks go.
 *
 * Every running sequence advances in every step, since max_num_batched_tokens >= max_num_seqs and whoever
 * comes first leaves one token for each that follows. Blocks that are missing come from the last of the
 * running, which are computed again later (preemption). A step that preempted admits nobody.
 */
#include <string.h>

#include "sched/sched_int.h"

/* Waiting sequences passed over in one step, at most. */
#define MAX_SET_ASIDE 64

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Tokens of a sequence in a step that has `budget` for it. */
static uint32_t wanted(const struct sched *s, const struct sched_seq *q, uint32_t budget)
{
	uint32_t take = min_u32(q->n_known + q->n_drafts - q->n_computed, budget);
	uint32_t threshold = s->config.long_prefill_threshold;

	if (threshold && q->n_computed + 1 < q->n_known)
		take = min_u32(take, threshold);
	if (q->prompt_rows && q->n_rows_done < q->n_prompt)
		take = min_u32(take, q->n_rows_done - min_u32(q->n_rows_done, q->n_computed) +
			s->prompt_rows_left);
	return take;
}

/* Brings near what a step reads of a sequence: its next ids and its blocks. */
static void seq_fetch(const struct sched_seq *q)
{
	__builtin_prefetch(q->ids + q->n_computed, 1);
	for (uint32_t i = 0; i < q->table.n_blocks; i += 64 / sizeof(*q->table.blocks))
		__builtin_prefetch(q->table.blocks + i);
}

/* Appends the next `take` tokens of a sequence, whose blocks are there, to the batch. */
static void add_slice(struct sched *s, struct sched_seq *q, uint32_t take)
{
	struct sched_slice *slice = &s->slices[s->n_slices++];
	uint32_t end = q->n_computed + take, n_outputs;
	uint32_t n_prompt = min_u32(q->n_prompt - min_u32(q->n_prompt, q->n_computed), take);
	uint32_t row0 = q->n_rows_done > q->n_computed ? q->n_rows_done : q->n_computed;
	struct error err;

	*slice = (struct sched_slice){
		.slot = seq_slot(s, q),
		.n_tokens = take,
		.output0 = s->batch->n_outputs,
		.n_samples = end >= q->n_known ? end - q->n_known + 1 : 0,
		.first = !q->ran,
	};
	q->n_drafts = slice->n_samples ? slice->n_samples - 1 : 0;
	n_outputs = slice->n_samples;
	if (q->prompt_rows && row0 < end && row0 < q->n_prompt) {
		/* Generated tokens only follow a prompt whose rows are all done. */
		BUG_ON(end > q->n_prompt);
		slice->prompt_row0 = row0;
		slice->n_prompt_rows = n_outputs = end - row0;
		s->prompt_rows_left -= n_outputs;
	}
	BUG_ON(batch_add(s->batch, &s->limits, q->n_computed, q->ids + q->n_computed, n_prompt,
		take - n_prompt, q->table.blocks, kv_table_blocks_for(s->pool, end), n_outputs, &err));
	q->planned = q->ran = true;
	s->budget -= take;
}

/* What it generated stays known and will be computed again, as generated. */
static void preempt_last(struct sched *s)
{
	struct sched_seq *q = s->running[--s->n_running];

	BUG_ON(q->planned);
	kv_table_shrink(&q->table, s->pool, 0);
	q->n_computed = q->n_published = q->n_drafts = 0;
	q->n_preemptions++;
	s->stats.preemptions++;
	waiting_add(s, q);
}

static bool has_blocks(const struct sched *s, const struct sched_seq *q, uint32_t positions)
{
	return kv_table_blocks_for(s->pool, positions) <=
		(uint64_t)q->table.n_blocks + kv_pool_free_blocks(s->pool);
}

static void grow(struct sched *s, struct sched_seq *q, uint32_t positions)
{
	struct error err;

	BUG_ON(kv_table_grow(&q->table, s->pool, positions, &err));
}

/* Blocks for the next *take tokens. Drafts go before another sequence does; false: this sequence itself,
 * the last of the running, had to go. */
static bool make_room(struct sched *s, struct sched_seq *q, uint32_t *take)
{
	if (q->n_drafts && !has_blocks(s, q, seq_positions(s, q, q->n_computed + *take)))
		*take = min_u32(*take, q->n_known - q->n_computed);
	while (!has_blocks(s, q, seq_positions(s, q, q->n_computed + *take))) {
		bool self = s->running[s->n_running - 1] == q;

		preempt_last(s);
		if (self)
			return false;
	}
	grow(s, q, seq_positions(s, q, q->n_computed + *take));
	return true;
}

/* A forward has emptied the CPU's caches of all this. */
static void fetch_ahead(const struct sched *s, uint32_t i)
{
	if (i + 2 * SCHED_AHEAD < s->n_running)
		__builtin_prefetch(s->running[i + 2 * SCHED_AHEAD], 1);
	if (i + SCHED_AHEAD < s->n_running)
		seq_fetch(s->running[i + SCHED_AHEAD]);
}

static void plan_running(struct sched *s)
{
	for (uint32_t i = 0; i < 2 * SCHED_AHEAD && i < s->n_running; i++)
		__builtin_prefetch(s->running[i], 1);
	for (uint32_t i = 0; i < SCHED_AHEAD && i < s->n_running; i++)
		seq_fetch(s->running[i]);
	for (uint32_t i = 0; i < s->n_running; i++) {
		struct sched_seq *q = s->running[i];
		uint32_t take;

		fetch_ahead(s, i);
		take = wanted(s, q, s->budget - (s->n_running - 1 - i));

		if (take && make_room(s, q, &take))
			add_slice(s, q, take);
	}
}

/* Whether a running sequence is computing the block that q's hit lacks first. */
static bool is_coming(const struct sched *s, const struct sched_seq *q, uint32_t block)
{
	for (uint32_t i = 0; i < s->n_running; i++) {
		const struct sched_seq *r = s->running[i];

		if (r->n_published <= block && block < r->n_names &&
			r->resets == kv_prefix_resets(s->index) &&
			!memcmp(&r->names[block], &q->names[block], sizeof(*q->names)))
			return true;
	}
	return false;
}

/* Blocks at the beginning of q's known tokens that a hit can spare, at most: one token is left to compute. */
static uint32_t most_hits(const struct sched *s, const struct sched_seq *q)
{
	return q->prompt_rows ? 0 : min_u32(q->n_names, (q->n_known - 1) / s->block_tokens);
}

/* Whether q, which was looked for, cannot have a longer prefix now: then the one that it had is a bound. */
static bool same_prefix(const struct sched *s, const struct sched_seq *q, uint32_t most)
{
	uint32_t idle;
	int32_t block;

	return q->looked && (q->n_matched == most ||
		!kv_prefix_match(s->index, &q->names[q->n_matched], 1, &block, &idle));
}

/* Blocks of the cache that q, which waits, may begin with, into its table without references. *n_idle of
 * them count as free. */
static uint32_t find_prefix(
	const struct sched *s, struct sched_seq *q, uint32_t *n_idle, bool *wait)
{
	uint32_t most = most_hits(s, q), n;

	*n_idle = 0;
	*wait = false;
	q->looked = true;
	q->n_matched = 0;
	if (!most)
		return 0;
	n = q->n_matched = kv_prefix_match(s->index, q->names, most, q->table.blocks, n_idle);
	if (n < most)
		*wait = is_coming(s, q, n);
	if (n && s->config.drop_last_hit && kv_block_refs(s->pool, q->table.blocks[--n]) == 0)
		--*n_idle;
	return n;
}

/* Looked for once, with all of its prompt; what another one has computed since then was found too. */
static void record_hit(struct sched *s, struct sched_seq *q)
{
	uint32_t found = q->n_computed - min_u32(q->n_computed, q->n_counted);

	if (!q->prompt_rows)
		kv_prefix_record(s->index, q->ran ? 0 : q->n_prompt, found);
	q->n_counted += found;
}

/* Takes the prefix and makes q running. */
static void start(struct sched *s, struct sched_seq *q, uint32_t hit_blocks)
{
	waiting_remove(s, q);
	for (uint32_t i = 0; i < hit_blocks; i++)
		kv_block_ref(s->pool, q->table.blocks[i]);
	q->table.n_blocks = q->n_published = hit_blocks;
	q->n_computed = hit_blocks * s->block_tokens;
	if (s->index) {
		q->resets = kv_prefix_resets(s->index);
		record_hit(s, q);
	}
	if (!q->ran)
		q->n_cached = q->n_computed;
	running_add(s, q);
}

enum verdict { ADMITTED, SET_ASIDE, BLOCKED };

/*
 * Admits q if all its known tokens have blocks, not only the step's: what begins and cannot end would be
 * preempted at once. A prompt whose beginning is just being computed by another is set aside: computing
 * it twice helps nobody. One that waits still is not looked for again while nothing became better for it.
 */
static enum verdict admit(struct sched *s, struct sched_seq *q)
{
	uint32_t n_idle, take, n_hit, most = most_hits(s, q);
	uint64_t need = kv_table_blocks_for(s->pool, seq_positions(s, q, q->n_known));
	bool wait;

	if (same_prefix(s, q, most)) {
		if (q->n_matched < most && is_coming(s, q, q->n_matched))
			return SET_ASIDE;
		if (need - q->n_matched > kv_pool_free_blocks(s->pool))
			return BLOCKED;
	}
	n_hit = find_prefix(s, q, &n_idle, &wait);
	if (wait)
		return SET_ASIDE;
	q->n_computed = n_hit * s->block_tokens;
	take = wanted(s, q, s->budget);
	if (!take || need - n_hit + n_idle > kv_pool_free_blocks(s->pool) ||
		(!s->config.chunked_prefill && take < q->n_known - q->n_computed)) {
		q->n_computed = 0;
		return BLOCKED;
	}
	start(s, q, n_hit);
	grow(s, q, seq_positions(s, q, q->n_computed + take));
	add_slice(s, q, take);
	return ADMITTED;
}

/* In order, up to the first that does not fit. */
static void plan_waiting(struct sched *s)
{
	struct sched_seq *q = s->waiting.next, *next;
	uint32_t n_aside = 0;

	for (; q != &s->waiting && s->budget && s->n_running < s->config.max_num_seqs; q = next) {
		enum verdict v;

		next = q->next;
		v = admit(s, q);
		if (v == BLOCKED || (v == SET_ASIDE && ++n_aside == MAX_SET_ASIDE))
			break;
	}
}

uint32_t sched_plan(struct sched *s, void *mem)
{
	uint64_t preemptions = s->stats.preemptions;

	BUG_ON(s->n_slices);
	s->batch = batch_init(mem, &s->limits);
	s->budget = s->config.max_num_batched_tokens;
	s->prompt_rows_left = s->max_prompt_rows;
	plan_running(s);
	if (s->stats.preemptions == preemptions)
		plan_waiting(s);
	return s->n_slices;
}

const struct sched_slice *sched_slices(const struct sched *s)
{
	return s->slices;
}
