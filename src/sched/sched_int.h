/* A scheduler's state; internal to sched/. */
#ifndef SCHED_SCHED_INT_H
#define SCHED_SCHED_INT_H

#include <stddef.h>

#include "sched/sched.h"

/* Sequences between the one that is worked on and the one that is fetched. */
#define SCHED_AHEAD 8u

/*
 * Invariants: n_computed < n_known while it lives; it holds blocks only while running, those of
 * min(n_computed + lookahead, cap) positions between steps, at least; drafts lie behind the known tokens in
 * ids and only while everything but the last known token is computed.
 */
struct sched_seq {
	/* What every step touches: one line of the cache. */
	_Alignas(64) int32_t *ids; /* owned, [cap] */
	struct kv_table table; /* owned, reserved for cap */
	uint32_t n_prompt;
	uint32_t n_known;
	uint32_t n_drafts;
	uint32_t n_computed;
	uint32_t cap; /* tokens at which it ends */
	uint32_t n_rows_done; /* prompt rows that were outputs */
	uint32_t n_published; /* blocks, from the start: published or found */
	uint32_t n_names;
	bool prompt_rows;
	bool planned;   /* in the step's slices */
	bool cancelled; /* ends with the step */
	bool ran;       /* was admitted before */

	enum sched_state state;

	enum sched_finish finish;
	int32_t priority;
	uint64_t arrival;
	struct sched_seq *prev, *next; /* while waiting */
	struct kv_prefix_name *names;  /* owned, [n_names], of the prompt's full blocks */
	uint64_t resets;      /* of the index, when its first row was computed */
	uint32_t n_cached;
	uint32_t n_counted; /* of the prompt: computed or found in the cache at least once, and counted as that */
	uint32_t n_preemptions;
	uint32_t n_matched; /* while waiting: blocks that the cache had of it when it was last looked for */
	bool looked;        /* it was, since it waits */
	uint32_t ids_cap, names_cap; /* of the arrays, which stay with the slot */
};

_Static_assert(offsetof(struct sched_seq, finish) == 64, "a step touches one line of a sequence");

struct sched {
	struct sched_config config;
	struct batch_limits limits;
	struct kv_pool *pool;          /* borrowed */
	struct kv_prefix_index *index; /* borrowed or NULL */
	uint32_t block_tokens;
	uint32_t max_prompt_rows;      /* output rows of one step for prompt tokens */
	struct sched_seq *seqs;        /* owned, [max_requests] */
	uint32_t *free;                /* owned, stack of slots */
	uint32_t n_free;
	size_t idle_bytes, max_idle_bytes; /* memory of the free slots */
	struct sched_seq waiting;      /* head of a list in order (seq_before) */
	uint32_t n_waiting;
	uint64_t waiting_tokens;
	struct sched_seq **running;    /* owned, [max_num_seqs], in order */
	uint32_t n_running;
	uint64_t arrivals;
	struct sched_stats stats; /* the counters */

	/* The step. */
	struct sched_slice *slices; /* owned, [max_num_seqs] */
	uint32_t n_slices;          /* not zero: planned, not committed */
	struct batch *batch;
	uint32_t budget;
	uint32_t prompt_rows_left;
};

/* queue.c: the two lists. Which of two sequences goes first: by priority, then by arrival. */
bool seq_before(const struct sched_seq *a, const struct sched_seq *b);
void waiting_add(struct sched *s, struct sched_seq *q);
void waiting_remove(struct sched *s, struct sched_seq *q);
void running_add(struct sched *s, struct sched_seq *q);
void running_remove(struct sched *s, struct sched_seq *q);

/* sched.c: ends a sequence that is in neither list and gives its blocks back. */
void seq_finish(struct sched *s, struct sched_seq *q, enum sched_finish why);

/* Positions that the table must have when the first `computed` are computed. */
static inline uint32_t seq_positions(
	const struct sched *s, const struct sched_seq *q, uint32_t computed)
{
	uint64_t n = (uint64_t)computed + s->config.lookahead_tokens;

	return n < q->cap ? (uint32_t)n : q->cap;
}

static inline uint32_t seq_slot(const struct sched *s, const struct sched_seq *q)
{
	return (uint32_t)(q - s->seqs);
}

#endif
