/*
 * The engine: one thread that owns scheduler, cache and model, and computes requests in token ids.
 *
 * Between its thread and the client's (a server's loop) there are two rings and two wakes, nothing else:
 *
 *   TRY(engine_create(&e, dir, &options, err));          loads the model, starts the thread
 *   job = engine_job_create(&request, err)               arrays of the request are copied
 *   TRY(engine_submit(e, job, err));
 *   ... options.wake(arg) is called from the engine's thread: while ((job = engine_next(e))) ...
 *   engine_job_destroy(job)                               only after the client has seen it finished
 *
 * One client thread calls everything here but engine_get_stats(), which any thread may.
 *
 * A job is both request and answer. The engine appends tokens to it and puts it into the ring of news, at
 * most once until the client takes it out: so the ring holds every job and nothing grows when the client
 * is slow. The client reads the tokens below engine_job_tokens(), which never change.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/constraint.h"
#include "base/error.h"
#include "engine/logits.h"
#include "engine/runtime.h"
#include "engine/sampler.h"

#define ENGINE_MAX_SALT_BYTES 128u

struct engine_request {
	const int32_t *prompt; /* ids below the vocabulary size */
	uint32_t n_prompt;
	uint32_t max_tokens;   /* at least 1; cut where the context ends */
	struct sampling_params sampling;
	struct logits_rules rules; /* rules.stop_ids end the answer; NULL to ignore the end of a sequence */
	struct constraint *constraint; /* of the answer, or NULL; the job owns it once it is created */
	/* The id after which it holds, as of </think>; -1: from the first token. Until then no stop id comes. */
	int32_t constraint_after;
	int n_logprobs;        /* -1: none; else of the chosen token and of so many likeliest */
	int n_prompt_logprobs; /* the same for each prompt token; nothing is read from the prefix cache */
	int32_t priority;      /* smaller first; 0 under first come, first served */
	const char *cache_salt; /* NULL: none */
	void *user;            /* the client's */
};

enum engine_finish {
	ENGINE_RUNNING,
	ENGINE_STOP,   /* a stop id, which is the last token */
	ENGINE_LENGTH, /* max_tokens or the context */
	ENGINE_ABORT,  /* cancelled */
	ENGINE_ERROR,  /* engine_job_error() says what */
};

/* Of one token: its own log probability, then of the likeliest, n_logprobs of them. */
struct engine_logprobs {
	const struct logprob *own;
	const struct logprob *top;
	uint32_t n_top;
};

struct engine_job_times { /* clock_s(); 0: not yet */
	double submitted, scheduled, first_token, last_token, finished;
};

struct engine;
struct engine_job;

enum status engine_job_create(struct engine_job **out, const struct engine_request *request, struct error *err);
void engine_job_destroy(struct engine_job *job);

/* What the engine has published of a job. */
void *engine_job_user(const struct engine_job *job);
uint32_t engine_job_tokens(const struct engine_job *job);     /* generated so far */
const int32_t *engine_job_ids(const struct engine_job *job);  /* [engine_job_tokens()] */
/* ENGINE_RUNNING until the last token is there too. */
enum engine_finish engine_job_finish(const struct engine_job *job);
/* Of a finished job, or with the first token. */
uint32_t engine_job_cached(const struct engine_job *job);     /* prompt tokens found in the prefix cache */
uint32_t engine_job_preemptions(const struct engine_job *job);
struct engine_job_times engine_job_get_times(const struct engine_job *job);
const struct error *engine_job_error(const struct engine_job *job);
/* Of generated token i, or of prompt token i >= 1 once there is a generated one. */
struct engine_logprobs engine_job_logprobs(const struct engine_job *job, uint32_t i);
struct engine_logprobs engine_job_prompt_logprobs(const struct engine_job *job, uint32_t i);

struct engine_options {
	struct runtime_options runtime; /* max_outputs and MTP are the engine's business */
	bool priority;            /* --scheduling-policy priority */
	bool chunked_prefill;
	bool prefix_cache;
	uint32_t long_prefill_threshold;
	uint32_t max_jobs;          /* submitted and not yet seen finished by the client */
	uint32_t max_queued_reqs;   /* 0: no bound */
	uint64_t max_queued_tokens;
	const struct model_config *random; /* not NULL: random weights of this shape, for benchmarks */
	enum weight_format random_format;
	uint64_t random_seed;
	uint32_t n_ids;             /* that may be sampled: the tokenizer's; 0: the whole vocabulary */
	void (*wake)(void *arg);    /* from the engine's thread; must not block */
	void *wake_arg;
};

struct engine_options engine_options_default(void);

/* Returns when the model is loaded and the thread waits for jobs. `dir` may be NULL with options->random. */
enum status engine_create(struct engine **out, const char *dir, const struct engine_options *options,
	struct error *err);
/* Cancels what is left, ends the thread, frees everything but the jobs. */
void engine_destroy(struct engine *e);

const struct model_config *engine_config(const struct engine *e);
uint32_t engine_max_model_len(const struct engine *e);
uint64_t engine_cache_tokens(const struct engine *e);

/* E_LIMIT when max_jobs are there. What the scheduler refuses comes back as a job with ENGINE_ERROR. */
enum status engine_submit(struct engine *e, struct engine_job *job, struct error *err);
/* The job ends soon with ENGINE_ABORT, unless it ended before. */
void engine_cancel(struct engine *e, struct engine_job *job);
/* A job with news, or NULL. After ENGINE_RUNNING has ended, never again. */
struct engine_job *engine_next(struct engine *e);
/* Forgets the prefix cache at the next step. */
void engine_reset_prefix_cache(struct engine *e);

/* Steps by their tokens: at most 1, 8, 16, 32 and so on to 16384, and more than that. */
#define ENGINE_STEP_BUCKETS 14

/* Counters since the start and gauges of now, as of the last step. */
struct engine_stats {
	uint64_t steps;
	uint64_t running, waiting;
	uint64_t preemptions;
	uint64_t prompt_tokens, generated_tokens;
	uint64_t prefix_query_tokens, prefix_hit_tokens;
	uint64_t blocks, blocks_free;
	uint64_t step_sizes[ENGINE_STEP_BUCKETS]; /* steps in each bucket alone */
	uint64_t step_tokens; /* of all steps: computed for prompts and sampled for answers */
	uint64_t step_ns;    /* spent in steps */
	uint64_t forward_ns; /* of them in the model */
	uint64_t last_step_ns; /* clock_ns() when the last step ended, or the thread woke */
	uint64_t has_work;   /* a step is due or running */
};

struct engine_stats engine_get_stats(const struct engine *e);

#endif
