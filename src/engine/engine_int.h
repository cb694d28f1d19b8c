/* What the files of the engine's thread share; internal to engine/. */
#ifndef ENGINE_ENGINE_INT_H
#define ENGINE_ENGINE_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/ring.h"
#include "engine/engine.h"
#include "kv/prefix_index.h"
#include "sched/sched.h"

/* State of a job between the threads. NEWS: it is in the ring. FINAL: the engine never touches it again;
 * set together with NEWS, so that whoever sees FINAL holds the last record of this job. */
#define JOB_NEWS 1u
#define JOB_FINAL 2u

struct engine_job {
	struct engine_request r; /* its pointers are copies in `memory` */
	void *memory;            /* owned */

	/* Written by the engine; what lies below n_tokens does not change. */
	int32_t *ids;                 /* owned [room] */
	struct logprob *own, *top;    /* owned [room], [room * n_logprobs], or NULL */
	struct logprob *prompt_own, *prompt_top; /* owned [n_prompt], [n_prompt * n_prompt_logprobs], or NULL */
	uint32_t room;
	_Atomic uint32_t n_tokens;
	_Atomic uint32_t state;
	enum engine_finish finish;
	_Atomic uint32_t n_cached; /* read while the job runs */
	uint32_t n_preemptions;
	struct engine_job_times times;
	struct error error;

	/* Written by the client. */
	atomic_bool cancelled;
	bool final_seen;

	/* The engine's own. */
	uint32_t slot;
	uint32_t live_at; /* index in engine.live */
	bool constrained; /* r.constraint holds for the next token */
};

/* Output arrays for an answer in a context of max_model_len. */
enum status job_make_room(struct engine_job *job, uint32_t max_model_len, struct error *err);
/* Appends a token; its log probabilities are in place already. */
void job_append(struct engine_job *job, int32_t id);

enum command_type { COMMAND_SUBMIT, COMMAND_CANCEL, COMMAND_RESET, COMMAND_STOP };

struct command {
	enum command_type type;
	struct engine_job *job; /* of SUBMIT: a job that was cancelled may be gone, so CANCEL names none */
};

/* What one compute thread samples with. */
struct chooser {
	struct sampler *sampler;
	struct logits_work *work;
};

enum {
	STAT_STEPS,
	STAT_RUNNING,
	STAT_WAITING,
	STAT_PREEMPTIONS,
	STAT_PROMPT,
	STAT_GENERATED,
	STAT_QUERY,
	STAT_HIT,
	STAT_BLOCKS,
	STAT_FREE,
	STAT_STEP_NS,
	STAT_FORWARD_NS,
	STAT_LAST_NS,
	STAT_WORK,
	STAT_STEP_TOKENS,
	STAT_STEP_SIZES,
	STAT_COUNT = STAT_STEP_SIZES + ENGINE_STEP_BUCKETS,
};

struct engine {
	struct engine_options o;
	struct ring *commands, *news; /* owned */
	int wake_fd;                  /* owned eventfd: the engine's thread sleeps on it */
	pthread_t thread;
	bool started;
	uint32_t n_jobs;              /* the client's count: submitted, final not seen */
	_Atomic uint64_t stats[STAT_COUNT];

	/* Start: the thread loads, then says so. */
	pthread_mutex_t lock;
	pthread_cond_t opened;
	bool is_open;
	enum status open_status;
	struct error open_error;
	const char *dir;

	/* The thread's own from here on. */
	struct runtime rt;
	struct kv_prefix_index *index; /* owned, or NULL */
	struct sched *sched;           /* owned */
	uint32_t n_ids;
	struct engine_job **live;      /* owned [max_jobs], n_live: with the scheduler */
	uint32_t n_live;
	struct engine_job **job_of;    /* owned [max_jobs]: by slot */
	struct chooser *choosers;      /* owned [threads] */
	int32_t *chosen;               /* owned [max_num_seqs]: of each slice, -1: none */
	struct sched_result *results;  /* owned [max_num_seqs] */
	bool stopping;
};

/* step.c: plans, computes and commits one step; false when there is nothing to do. */
bool engine_step(struct engine *e);
/* engine.c: the job is no longer with the scheduler; nothing touches it afterwards. */
void engine_finish_job(struct engine *e, struct engine_job *job, enum engine_finish finish);
void engine_tell(struct engine *e, struct engine_job *job);

static inline void engine_stat_set(struct engine *e, int stat, uint64_t value)
{
	atomic_store_explicit(&e->stats[stat], value, memory_order_relaxed);
}

#endif
