/*
 * Continuous batching: which tokens of which sequences the next step computes (spec: serving, 3).
 *
 * One rule, no phases: a sequence has known tokens (prompt, generated, drafts) and computed ones; a step
 * hands out up to max_num_batched_tokens so that computed catches up with known. Chunked prefill, hits in
 * the prefix cache, resuming after preemption and speculation are all this rule.
 *
 *   sched_submit(...)                         any number, between steps
 *   n = sched_plan(s, batch memory)           fills the batch and n slices
 *   ... forward, sample sched_slices(s) ...
 *   sched_commit(s, results)                  or sched_rollback(s) when the forward failed
 *   sched_set_drafts(...)                     optional, before the next plan
 *
 * A sequence is named by its slot, from sched_submit() to sched_release(). Owned by the engine's thread.
 * plan, commit, rollback and cancel neither allocate nor call the system.
 *
 * Tokens of a prompt are always given to the model as prompt, generated ones as generated, after a
 * preemption too, so that a sequence gets the tokens that it would get alone.
 */
#ifndef SCHED_SCHED_H
#define SCHED_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kv/kv.h"
#include "kv/prefix_index.h"
#include "model/batch.h"

#define SCHED_MAX_DRAFTS 32u
#define SCHED_MAX_REQUESTS (1u << 20)

enum sched_policy {
	SCHED_FCFS,
	SCHED_PRIORITY, /* smaller first, ties by arrival */
};

struct sched_config {
	enum sched_policy policy;
	uint32_t max_model_len;          /* tokens of a sequence; the cache must hold one such sequence */
	uint32_t max_num_seqs;           /* of one step */
	uint32_t max_num_batched_tokens; /* of one step, >= max_num_seqs */
	uint32_t max_outputs;            /* output rows of one step */
	bool chunked_prefill;            /* off: a prompt is computed in one step */
	uint32_t long_prefill_threshold; /* a prompt's tokens in one step; 0: no bound */
	uint32_t max_drafts;             /* tokens under test per sequence and step */
	uint32_t lookahead_tokens;       /* positions behind the computed ones that a drafter writes */
	/* Leave the last block of a hit to be computed: the MTP layer's last row in it saw a token of the
	 * next block. */
	bool drop_last_hit;
	uint32_t max_requests;      /* slots: running, waiting and finished but not released */
	uint32_t max_queued_reqs;   /* waiting beyond what may run at once; 0: no bound */
	uint64_t max_queued_tokens; /* of those waiting; 0: no bound */
};

struct sched;

/* index NULL: no prefix cache. Pool and index are borrowed. Names the flag that does not fit. */
enum status sched_create(struct sched **out, const struct sched_config *config, struct kv_pool *pool,
	struct kv_prefix_index *index, struct error *err);
void sched_destroy(struct sched *s);

/* Bounds of every batch that sched_plan() makes. */
struct batch_limits sched_batch_limits(const struct sched *s);

/*
 * What one sequence of max_model_len tokens takes beside its cache blocks. Of the slots that are free, as much stays
 * allocated as max_num_seqs of them take; what is beyond is freed when the next request comes. Requests that wait
 * take what their own lengths ask for: max_queued_reqs and max_queued_tokens bound them.
 */
size_t sched_seq_bytes(uint32_t max_model_len, uint32_t block_tokens);

struct sched_request {
	const int32_t *prompt; /* copied; ids are checked by the caller, who knows the vocabulary */
	uint32_t n_prompt;
	uint32_t max_tokens;   /* to generate, at least 1; cut at max_model_len */
	int32_t priority;      /* 0 under SCHED_FCFS */
	const void *cache_salt;
	size_t cache_salt_bytes; /* 0: none */
	bool prompt_rows;        /* each prompt row is an output once; nothing is read from the prefix cache */
};

/*
 * Adds a sequence to the queue and names its slot. E_INVAL or E_LIMIT when it can never be served,
 * E_LIMIT "queue is full" when it might later. n answers to one prompt are n requests: those that come
 * second wait until the first has computed what they share.
 */
enum status sched_submit(
	struct sched *s, const struct sched_request *request, uint32_t *slot, struct error *err);

/* Ends a sequence wherever it is; within a step, at its end. Does nothing to a finished one. */
void sched_cancel(struct sched *s, uint32_t slot);
/* Gives a finished sequence's slot back; its memory serves the next request there, or is freed by it. */
void sched_release(struct sched *s, uint32_t slot);

/* A sequence's part of a step, in the order of the batch's sequences. */
struct sched_slice {
	uint32_t slot;
	uint32_t n_tokens;
	uint32_t output0;       /* first of its output rows */
	uint32_t n_prompt_rows; /* output rows of prompt tokens, at position prompt_row0 and on */
	uint32_t prompt_row0;
	uint32_t n_samples;     /* 0: not there yet; else 1 + drafts: the last output rows are sampled, row i
				 * after draft i - 1. The last prompt row may be both. */
	bool first;             /* the sequence never ran before */
};

/* Fills `mem` (batch_bytes(sched_batch_limits())) and returns the number of slices; 0: nothing to do,
 * and no commit. */
uint32_t sched_plan(struct sched *s, void *mem);
const struct sched_slice *sched_slices(const struct sched *s);

/* What was sampled: tokens[0 .. n_tokens - 2] are the drafts that were accepted. */
struct sched_result {
	const int32_t *tokens;
	uint32_t n_tokens; /* 1 .. n_samples; 0 when n_samples is 0 */
	bool stop;         /* the last token ends the sequence */
};

void sched_commit(struct sched *s, const struct sched_result *results); /* [slices] */
void sched_rollback(struct sched *s); /* nothing of the step was computed */

/* Drafts to test in the next step, of a running sequence that has just been sampled; returns how many
 * were taken: no more than it may still generate, less one. They are dropped when cache or budget is
 * short. */
uint32_t sched_set_drafts(struct sched *s, uint32_t slot, const int32_t *ids, uint32_t n);

enum sched_state { SCHED_FREE, SCHED_WAITING, SCHED_RUNNING, SCHED_FINISHED };
enum sched_finish { SCHED_NOT_FINISHED, SCHED_STOP, SCHED_LENGTH, SCHED_CANCELLED };

struct sched_seq_info {
	enum sched_state state;
	enum sched_finish finish;
	uint32_t n_prompt;
	uint32_t n_known;    /* prompt and generated */
	uint32_t n_computed;
	uint32_t n_cached;   /* of the prompt, found in the cache when it was first admitted */
	uint32_t n_preemptions;
	const int32_t *ids;  /* [n_known] */
	const struct kv_table *table;
};

struct sched_seq_info sched_seq_get(const struct sched *s, uint32_t slot);

struct sched_stats {
	uint32_t running;
	uint32_t waiting; /* preempted ones included */
	uint64_t waiting_tokens;
	uint64_t preemptions;
	uint64_t prompt_tokens;    /* computed as prompt, each once: not again after a preemption */
	uint64_t generated_tokens; /* sampled */
	uint64_t drafts;           /* tested */
	uint64_t drafts_accepted;
	double kv_usage;           /* 0 to 1; cached blocks that nobody uses count as free */
	uint64_t prefix_query_tokens;
	uint64_t prefix_hit_tokens;
};

struct sched_stats sched_get_stats(const struct sched *s);

#endif
