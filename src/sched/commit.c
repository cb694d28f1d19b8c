/*
 * What a step did: computed grows, accepted tokens become known, the cache's length goes back over
 * rejected drafts, full blocks of prompt are published, sequences end.
 */
#include <string.h>

#include "sched/sched_int.h"

/* Blocks of prompt tokens that are now complete may serve others. */
static void publish(struct sched *s, struct sched_seq *q)
{
	if (!s->index || q->resets != kv_prefix_resets(s->index))
		return;
	for (; q->n_published < q->n_names &&
		(q->n_published + 1) * s->block_tokens <= q->n_computed; q->n_published++)
		kv_prefix_publish(
			s->index, &q->names[q->n_published], q->table.blocks[q->n_published]);
}

/* Makes the accepted drafts and the token after them known; returns the drafts refused. */
static uint32_t accept(
	struct sched *s, struct sched_seq *q, const struct sched_slice *slice, const struct sched_result *r)
{
	uint32_t n = r->n_tokens, drafts = slice->n_samples ? slice->n_samples - 1 : 0;

	BUG_ON((n == 0) != (slice->n_samples == 0) || n > slice->n_samples);
	if (n == 0)
		return 0;
	/* The cache has the drafts' rows, so accepted tokens can be no others. */
	BUG_ON(memcmp(q->ids + q->n_known, r->tokens, sizeof(*q->ids) * (n - 1)));
	q->n_known += n;
	BUG_ON(q->n_known > q->cap);
	q->ids[q->n_known - 1] = r->tokens[n - 1];
	s->stats.generated_tokens += n;
	s->stats.drafts += drafts;
	s->stats.drafts_accepted += n - 1;
	return slice->n_samples - n;
}

/* Tokens of the prompt that are computed again after a preemption were counted before. */
static void count_prompt(struct sched *s, struct sched_seq *q)
{
	uint32_t to = q->n_computed < q->n_prompt ? q->n_computed : q->n_prompt;

	if (to <= q->n_counted)
		return;
	s->stats.prompt_tokens += to - q->n_counted;
	q->n_counted = to;
}

static void end(struct sched *s, struct sched_seq *q, enum sched_finish why)
{
	running_remove(s, q);
	seq_finish(s, q, why);
}

static void commit_one(
	struct sched *s, struct sched_seq *q, const struct sched_slice *slice, const struct sched_result *r)
{
	uint32_t before = q->n_computed;

	q->n_computed += slice->n_tokens - accept(s, q, slice, r);
	q->n_drafts = 0;
	if (slice->n_prompt_rows)
		q->n_rows_done = slice->prompt_row0 + slice->n_prompt_rows;
	if (before < q->n_prompt) {
		count_prompt(s, q);
		publish(s, q);
	}
	if (r->stop && r->n_tokens)
		end(s, q, SCHED_STOP);
	else if (q->n_known == q->cap)
		end(s, q, SCHED_LENGTH);
	else
		kv_table_shrink(&q->table, s->pool, seq_positions(s, q, q->n_computed));
}

/* Where the next token goes, and the last block: a forward has emptied the CPU's caches since the plan. */
static void fetch_end(const struct sched_seq *q)
{
	__builtin_prefetch(q->ids + q->n_known, 1);
	__builtin_prefetch(q->table.blocks + q->table.n_blocks - 1);
}

void sched_commit(struct sched *s, const struct sched_result *results)
{
	for (uint32_t i = 0; i < s->n_slices; i++)
		__builtin_prefetch(&s->seqs[s->slices[i].slot], 1);
	for (uint32_t i = 0; i < s->n_slices; i++) {
		struct sched_seq *q = &s->seqs[s->slices[i].slot];

		if (i + SCHED_AHEAD < s->n_slices)
			fetch_end(&s->seqs[s->slices[i + SCHED_AHEAD].slot]);
		q->planned = false;
		if (q->cancelled)
			end(s, q, SCHED_CANCELLED);
		else
			commit_one(s, q, &s->slices[i], &results[i]);
	}
	s->n_slices = 0;
}

void sched_rollback(struct sched *s)
{
	for (uint32_t i = 0; i < s->n_slices; i++) {
		struct sched_seq *q = &s->seqs[s->slices[i].slot];

		q->planned = false;
		q->n_drafts = 0;
		if (q->cancelled)
			end(s, q, SCHED_CANCELLED);
		else
			kv_table_shrink(&q->table, s->pool, seq_positions(s, q, q->n_computed));
	}
	s->n_slices = 0;
}

uint32_t sched_set_drafts(struct sched *s, uint32_t slot, const int32_t *ids, uint32_t n)
{
	struct sched_seq *q = &s->seqs[slot];
	uint32_t room;

	BUG_ON(slot >= s->config.max_requests || q->planned);
	if (q->state != SCHED_RUNNING || q->n_computed + 1 != q->n_known || q->n_known == q->n_prompt)
		return 0;
	room = q->cap - q->n_known - 1;
	n = n < room ? n : room;
	q->n_drafts = n < s->config.max_drafts ? n : s->config.max_drafts;
	memcpy(q->ids + q->n_known, ids, sizeof(*ids) * q->n_drafts);
	return q->n_drafts;
}
