/*
 * The engine's thread and its two rings (engine/engine.h): start, commands, news, end.
 *
 * Invariant: a job is in `live` from the command that submits it until engine_finish_job(); after that this
 * thread does not know it any more.
 */
#include "engine/engine.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/engine_int.h"

#define MAX_PROMPT_ROWS 64u /* logits rows of a step for prompt log probabilities */

struct engine_options engine_options_default(void)
{
	struct runtime_options r = runtime_options_default();

	r.max_seqs = 256;
	r.max_batch_tokens = 2048;
	r.cache_may_shrink = true;
	return (struct engine_options){
		.runtime = r,
		.chunked_prefill = true,
		.prefix_cache = true,
		.max_jobs = 16384,
	};
}

/* ---- the client's side ---- */

static void ring_bell(struct engine *e)
{
	uint64_t one = 1;
	ssize_t n;

	do
		n = write(e->wake_fd, &one, sizeof(one));
	while (n < 0 && errno == EINTR); /* EAGAIN: the counter is full, so the thread wakes anyway */
}

static bool command(struct engine *e, enum command_type type, struct engine_job *job)
{
	struct command c = { type, job };

	if (!ring_push(e->commands, &c))
		return false;
	ring_bell(e);
	return true;
}

enum status engine_submit(struct engine *e, struct engine_job *job, struct error *err)
{
	if (e->n_jobs == e->o.max_jobs)
		return error_set(err, E_LIMIT, "%u requests are there, no more fit", e->n_jobs);
	TRY(logits_rules_check(&job->r.rules, e->rt.weights->config.vocab_size, err));
	for (uint32_t i = 0; i < job->r.n_prompt; i++) {
		if (job->r.prompt[i] < 0 || (uint32_t)job->r.prompt[i] >= e->rt.weights->config.vocab_size)
			return error_set(err, E_INVAL, "prompt token %u is %d, expected 0 to %u", i,
				job->r.prompt[i], e->rt.weights->config.vocab_size - 1);
	}
	TRY(job_make_room(job, e->rt.max_context_tokens, err));
	job->times.submitted = clock_s();
	if (!command(e, COMMAND_SUBMIT, job))
		return error_set(err, E_LIMIT, "the engine's queue is full");
	e->n_jobs++;
	return OK;
}

void engine_cancel(struct engine *e, struct engine_job *job)
{
	if (job->final_seen || atomic_exchange_explicit(&job->cancelled, true, memory_order_release))
		return;
	/* A full ring holds a command that makes the thread look at every job's flag, or a submission behind
	 * which the flag is seen. */
	command(e, COMMAND_CANCEL, NULL);
}

void engine_reset_prefix_cache(struct engine *e)
{
	command(e, COMMAND_RESET, NULL);
}

struct engine_job *engine_next(struct engine *e)
{
	struct engine_job *job;

	if (!ring_pop(e->news, &job))
		return NULL;
	if (atomic_fetch_and_explicit(&job->state, ~JOB_NEWS, memory_order_acq_rel) & JOB_FINAL) {
		job->final_seen = true;
		e->n_jobs--;
	}
	return job;
}

const struct model_config *engine_config(const struct engine *e)
{
	return &e->rt.weights->config;
}

uint32_t engine_max_model_len(const struct engine *e)
{
	return e->rt.max_context_tokens;
}

uint64_t engine_cache_tokens(const struct engine *e)
{
	const struct kv_pool_config *c = kv_pool_get_config(e->rt.pool);

	return (uint64_t)c->n_blocks * c->block_tokens;
}

struct engine_stats engine_get_stats(const struct engine *e)
{
	uint64_t v[STAT_COUNT];
	struct engine_stats stats;

	for (int i = 0; i < STAT_COUNT; i++)
		v[i] = atomic_load_explicit(&e->stats[i], memory_order_relaxed);
	stats = (struct engine_stats){
		.steps = v[STAT_STEPS],
		.running = v[STAT_RUNNING],
		.waiting = v[STAT_WAITING],
		.preemptions = v[STAT_PREEMPTIONS],
		.prompt_tokens = v[STAT_PROMPT],
		.generated_tokens = v[STAT_GENERATED],
		.prefix_query_tokens = v[STAT_QUERY],
		.prefix_hit_tokens = v[STAT_HIT],
		.blocks = v[STAT_BLOCKS],
		.blocks_free = v[STAT_FREE],
		.step_tokens = v[STAT_STEP_TOKENS],
		.step_ns = v[STAT_STEP_NS],
		.forward_ns = v[STAT_FORWARD_NS],
		.last_step_ns = v[STAT_LAST_NS],
		.has_work = v[STAT_WORK],
	};
	memcpy(stats.step_sizes, v + STAT_STEP_SIZES, sizeof(stats.step_sizes));
	return stats;
}

/* ---- the engine's thread ---- */

static void put_news(struct engine *e, struct engine_job *job)
{
	bool pushed = ring_push(e->news, &job);

	BUG_ON(!pushed); /* the ring holds every job, and each is in it once */
}

void engine_tell(struct engine *e, struct engine_job *job)
{
	if (!(atomic_fetch_or_explicit(&job->state, JOB_NEWS, memory_order_acq_rel) & JOB_NEWS))
		put_news(e, job);
}

void engine_finish_job(struct engine *e, struct engine_job *job, enum engine_finish finish)
{
	struct engine_job *last = e->live[--e->n_live];

	e->live[job->live_at] = last;
	last->live_at = job->live_at;
	job->finish = finish;
	job->times.finished = clock_s();
	if (!(atomic_fetch_or_explicit(&job->state, JOB_NEWS | JOB_FINAL, memory_order_acq_rel) & JOB_NEWS))
		put_news(e, job);
}

static void submit(struct engine *e, struct engine_job *job)
{
	struct sched_request r = {
		.prompt = job->r.prompt,
		.n_prompt = job->r.n_prompt,
		.max_tokens = job->r.max_tokens,
		.priority = job->r.priority,
		.cache_salt = job->r.cache_salt,
		.cache_salt_bytes = job->r.cache_salt ? strlen(job->r.cache_salt) : 0,
		.prompt_rows = job->r.n_prompt_logprobs >= 0,
	};

	job->live_at = e->n_live;
	e->live[e->n_live++] = job;
	if (sched_submit(e->sched, &r, &job->slot, &job->error) != OK)
		engine_finish_job(e, job, ENGINE_ERROR);
	else
		e->job_of[job->slot] = job;
}

static void cancel_marked(struct engine *e)
{
	for (uint32_t i = e->n_live; i-- > 0;) {
		struct engine_job *job = e->live[i];

		if (!atomic_load_explicit(&job->cancelled, memory_order_acquire))
			continue;
		sched_cancel(e->sched, job->slot);
		sched_release(e->sched, job->slot);
		engine_finish_job(e, job, ENGINE_ABORT);
	}
}

/* Whether there was a command. */
static bool obey(struct engine *e)
{
	struct command c;
	bool any = false, cancel = false;

	while (ring_pop(e->commands, &c)) {
		any = true;
		switch (c.type) {
		case COMMAND_SUBMIT:
			/* Before: one that is refused may be gone after. */
			cancel |= atomic_load_explicit(&c.job->cancelled, memory_order_relaxed);
			submit(e, c.job);
			break;
		case COMMAND_CANCEL:
			cancel = true;
			break;
		case COMMAND_RESET:
			if (e->index)
				kv_prefix_reset(e->index);
			break;
		case COMMAND_STOP:
			e->stopping = true;
			break;
		}
	}
	if (cancel)
		cancel_marked(e);
	if (any)
		e->o.wake(e->o.wake_arg);
	return any;
}

static void publish_stats(struct engine *e, bool work)
{
	struct sched_stats s = sched_get_stats(e->sched);
	uint64_t now = clock_ns();

	engine_stat_set(e, STAT_RUNNING, s.running);
	engine_stat_set(e, STAT_WAITING, s.waiting);
	engine_stat_set(e, STAT_PREEMPTIONS, s.preemptions);
	engine_stat_set(e, STAT_PROMPT, s.prompt_tokens);
	engine_stat_set(e, STAT_GENERATED, s.generated_tokens);
	engine_stat_set(e, STAT_QUERY, s.prefix_query_tokens);
	engine_stat_set(e, STAT_HIT, s.prefix_hit_tokens);
	engine_stat_set(e, STAT_BLOCKS, kv_pool_get_config(e->rt.pool)->n_blocks);
	engine_stat_set(e, STAT_FREE, kv_pool_free_blocks(e->rt.pool));
	engine_stat_set(e, STAT_LAST_NS, now);
	engine_stat_set(e, STAT_WORK, work);
}

static void sleep_until_bell(struct engine *e)
{
	uint64_t n;

	while (read(e->wake_fd, &n, sizeof(n)) < 0 && errno == EINTR)
		;
}

static void loop(struct engine *e)
{
	for (;;) {
		obey(e);
		if (e->stopping)
			return;
		publish_stats(e, e->n_live > 0);
		if (engine_step(e))
			e->o.wake(e->o.wake_arg);
		else
			sleep_until_bell(e);
	}
}

static void end_all(struct engine *e)
{
	while (e->n_live) {
		struct engine_job *job = e->live[e->n_live - 1];

		sched_cancel(e->sched, job->slot);
		sched_release(e->sched, job->slot);
		engine_finish_job(e, job, ENGINE_ABORT);
	}
	publish_stats(e, false);
	e->o.wake(e->o.wake_arg);
}

static enum status open_scheduler(struct engine *e, struct error *err)
{
	struct runtime *rt = &e->rt;
	const struct engine_options *o = &e->o;
	struct sched_config c = {
		.policy = o->priority ? SCHED_PRIORITY : SCHED_FCFS,
		.max_model_len = rt->max_context_tokens,
		.max_num_seqs = rt->limits.max_seqs,
		.max_num_batched_tokens = rt->limits.max_tokens,
		.max_outputs = rt->limits.max_outputs,
		.chunked_prefill = o->chunked_prefill,
		.long_prefill_threshold = o->long_prefill_threshold,
		.max_requests = o->max_jobs,
		.max_queued_reqs = o->max_queued_reqs,
		.max_queued_tokens = o->max_queued_tokens,
	};
	struct batch_limits need;

	if (o->prefix_cache)
		TRY(kv_prefix_create(&e->index, rt->pool, "", 0, err));
	TRY(sched_create(&e->sched, &c, rt->pool, e->index, err));
	need = sched_batch_limits(e->sched);
	BUG_ON(need.max_blocks > rt->limits.max_blocks || need.max_tokens > rt->limits.max_tokens ||
		need.max_outputs > rt->limits.max_outputs || need.max_seqs > rt->limits.max_seqs);
	return OK;
}

static enum status open_choosers(struct engine *e, struct error *err)
{
	int n = kernel_threads(e->rt.kn);

	e->choosers = mem_alloc(sizeof(*e->choosers) * (size_t)n);
	memset(e->choosers, 0, sizeof(*e->choosers) * (size_t)n);
	for (int i = 0; i < n; i++) {
		TRY(sampler_create(&e->choosers[i].sampler, e->rt.weights->config.vocab_size, err));
		TRY(logits_work_create(&e->choosers[i].work, e->rt.weights->config.vocab_size, err));
	}
	return OK;
}

/* On the engine's thread: the compute pool takes it for its thread 0. */
static enum status open_all(struct engine *e, struct error *err)
{
	struct runtime_options r = e->o.runtime;
	uint32_t vocab;

	r.max_outputs = r.max_seqs + MAX_PROMPT_ROWS < r.max_batch_tokens ? r.max_seqs + MAX_PROMPT_ROWS :
		r.max_batch_tokens;
	if (e->o.random)
		TRY(runtime_open_random(&e->rt, e->o.random, e->o.random_format, e->o.random_seed, &r, err));
	else
		TRY(runtime_open(&e->rt, e->dir, &r, err));
	vocab = e->rt.weights->config.vocab_size;
	e->n_ids = e->o.n_ids && e->o.n_ids < vocab ? e->o.n_ids : vocab;
	TRY(open_scheduler(e, err));
	e->live = mem_alloc(sizeof(*e->live) * e->o.max_jobs);
	e->job_of = mem_alloc(sizeof(*e->job_of) * e->o.max_jobs);
	e->chosen = mem_alloc(sizeof(*e->chosen) * r.max_seqs);
	e->results = mem_alloc(sizeof(*e->results) * r.max_seqs);
	return open_choosers(e, err);
}

static void close_all(struct engine *e)
{
	for (int i = 0; e->choosers && i < kernel_threads(e->rt.kn); i++) {
		sampler_destroy(e->choosers[i].sampler);
		logits_work_destroy(e->choosers[i].work);
	}
	free(e->choosers);
	free(e->results);
	free(e->chosen);
	free(e->job_of);
	free(e->live);
	if (e->sched)
		sched_destroy(e->sched);
	if (e->index)
		kv_prefix_destroy(e->index);
	runtime_close(&e->rt);
}

static void *engine_main(void *arg)
{
	struct engine *e = arg;
	struct error err;
	enum status st = open_all(e, &err);

	pthread_mutex_lock(&e->lock);
	e->is_open = true;
	e->open_status = st;
	if (st != OK)
		e->open_error = err;
	pthread_cond_signal(&e->opened);
	pthread_mutex_unlock(&e->lock);
	if (st == OK) {
		loop(e);
		obey(e); /* what was submitted beside the stop */
		end_all(e);
	}
	close_all(e);
	return NULL;
}

/* ---- start and end ---- */

static uint32_t power_of_two(uint32_t n)
{
	uint32_t p = 1;

	while (p < n)
		p *= 2;
	return p;
}

static enum status open_rings(struct engine *e, struct error *err)
{
	uint32_t news = power_of_two(e->o.max_jobs);

	/* A submission and a cancellation for each job, and room for the rest. */
	TRY(ring_create(&e->commands, 4 * news, sizeof(struct command), err));
	TRY(ring_create(&e->news, news, sizeof(struct engine_job *), err));
	e->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (e->wake_fd < 0)
		return error_set(err, E_IO, "eventfd: %s", strerror(errno));
	return OK;
}

/* Signals are the client's business. */
static enum status start_thread(struct engine *e, struct error *err)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&e->thread, NULL, engine_main, e);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return error_set(err, E_IO, "cannot start the engine's thread: %s", strerror(rc));
	e->started = true;
	pthread_mutex_lock(&e->lock);
	while (!e->is_open)
		pthread_cond_wait(&e->opened, &e->lock);
	pthread_mutex_unlock(&e->lock);
	if (e->open_status != OK)
		*err = e->open_error;
	return e->open_status;
}

static void free_engine(struct engine *e)
{
	if (e->started)
		pthread_join(e->thread, NULL);
	if (e->wake_fd >= 0)
		close(e->wake_fd);
	ring_destroy(e->news);
	ring_destroy(e->commands);
	pthread_cond_destroy(&e->opened);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

enum status engine_create(struct engine **out, const char *dir, const struct engine_options *options,
	struct error *err)
{
	struct engine *e = mem_alloc(sizeof(*e));
	enum status st;

	memset(e, 0, sizeof(*e));
	e->o = *options;
	e->dir = dir;
	e->wake_fd = -1;
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->opened, NULL);
	TRY_GOTO(fail, open_rings(e, err));
	TRY_GOTO(fail, start_thread(e, err));
	*out = e;
	return OK;
fail:
	free_engine(e);
	return st;
}

void engine_destroy(struct engine *e)
{
	if (!e)
		return;
	while (!command(e, COMMAND_STOP, NULL))
		usleep(1000);
	free_engine(e);
}
