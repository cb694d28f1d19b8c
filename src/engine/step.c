/*
 * One step of the engine: plan, forward, choose a token for each sequence, commit, tell.
 *
 * Rows are shared out to the compute threads; a token depends on its row and its request alone, so not on
 * which thread chose it. Nothing here allocates, locks or calls the system, but a constraint may (base/constraint.h),
 * in its own bounds.
 */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/engine_int.h"

struct choice {
	struct engine *e;
	const struct sched_slice *slices;
	uint32_t n_slices;
	struct model_output out;
	uint32_t n_outputs;
	uint32_t vocab; /* log probabilities are over all of it, padding included */
};

static const float *row_of(const struct choice *c, uint32_t output)
{
	return c->out.logits + (size_t)output * c->out.logits_stride;
}

/* Log probabilities of the prompt tokens that follow the slice's prompt rows. */
static void prompt_logprobs(const struct choice *c, const struct sched_slice *s, struct engine_job *job)
{
	uint32_t n_top = (uint32_t)job->r.n_prompt_logprobs;

	for (uint32_t i = 0; i < s->n_prompt_rows; i++) {
		uint32_t at = s->prompt_row0 + i + 1;

		if (at < job->r.n_prompt)
			logits_logprobs(&job->prompt_own[at], job->prompt_top + (size_t)at * n_top, n_top,
				row_of(c, s->output0 + i), c->vocab, job->r.prompt[at]);
	}
}

/* The row after the last known token: the slice's last. */
static uint32_t sample_output(const struct choice *c, uint32_t i)
{
	uint32_t end = i + 1 < c->n_slices ? c->slices[i + 1].output0 : c->n_outputs;

	return end - 1;
}

/* A token was chosen: the constraint takes it, or begins after it. */
static int32_t follow(struct engine_job *job, int32_t id)
{
	if (job->constrained)
		return constraint_accept(job->r.constraint, id) ? id : -1;
	job->constrained = job->r.constraint && id == job->r.constraint_after;
	return id;
}

static bool is_empty(const uint32_t *mask, uint32_t words)
{
	uint32_t i = 0;

	while (i < words && !mask[i])
		i++;
	return i == words;
}

/* No token can be chosen: the request's own rules are to blame only where the model gave a number. mask: the
 * constraint's, or NULL. */
static void no_token(struct engine_job *job, const float *raw, const uint32_t *mask, uint32_t n_ids)
{
	const struct logits_rules *r = &job->r.rules;
	uint32_t n = engine_job_tokens(job), finite = 0;

	while (finite < n_ids && !isfinite(raw[finite]))
		finite++;
	if (finite < n_ids && (job->constrained || r->allowed || r->n_bad)) {
		if (mask && is_empty(mask, constraint_words(n_ids)))
			error_set(&job->error, E_INVAL, "after %u tokens the rules of the request leave no token to choose: its "
				"constraint (response_format, structured_outputs or tools) has more than the limit of %u ways to go on there",
				n, CONSTRAINT_MAX_WAYS);
		else
			error_set(&job->error, E_INVAL, "after %u tokens the rules of the request leave no token to choose", n);
		return;
	}
	error_set(&job->error, E_INTERNAL, "no finite logit after %u tokens: the weights hold NaN or infinity",
		job->r.n_prompt + n);
	log_error("engine", "%s", job->error.msg);
}

static int32_t choose(const struct choice *c, struct chooser *with, uint32_t i, struct engine_job *job)
{
	struct sched_seq_info info = sched_seq_get(c->e->sched, c->slices[i].slot);
	const float *raw = row_of(c, sample_output(c, i)), *row;
	uint32_t n = c->e->n_ids, n_top = (uint32_t)job->r.n_logprobs, at = info.n_known - info.n_prompt;
	struct logits_rules rules = job->r.rules;
	uint32_t *mask = NULL;
	int32_t id;

	rules.thinking_only = job->r.constraint && !job->constrained;
	if (job->constrained) {
		mask = logits_work_mask(with->work);
		if (constraint_fill(job->r.constraint, mask, n) == CONSTRAINT_END_ONLY)
			rules.min_tokens = 0; /* the text is complete: no more can be asked of it */
	}
	row = logits_apply(with->work, &rules, mask, raw, n, info.ids, info.n_prompt, info.n_known);
	id = sampler_choose(with->sampler, &job->r.sampling, row, n, info.n_known);
	if (id >= 0)
		id = follow(job, id);
	if (id >= 0 && job->own)
		logits_logprobs(&job->own[at], job->top + (size_t)at * n_top, n_top, raw, c->vocab, id);
	if (id < 0)
		no_token(job, raw, mask, n);
	return id;
}

static void choose_some(void *arg, int thread, int n_threads)
{
	const struct choice *c = arg;

	for (uint32_t i = (uint32_t)thread; i < c->n_slices; i += (uint32_t)n_threads) {
		struct engine_job *job = c->e->job_of[c->slices[i].slot];

		if (c->slices[i].n_prompt_rows)
			prompt_logprobs(c, &c->slices[i], job);
		if (c->slices[i].n_samples)
			c->e->chosen[i] = choose(c, &c->e->choosers[thread], i, job);
	}
}

static bool is_stop(const struct engine_job *job, int32_t id)
{
	for (uint32_t i = 0; i < job->r.rules.n_stop_ids; i++) {
		if (job->r.rules.stop_ids[i] == id)
			return true;
	}
	return false;
}

/* Every sequence's result, for the scheduler. */
static void fill_results(struct choice *c)
{
	struct engine *e = c->e;

	for (uint32_t i = 0; i < c->n_slices; i++) {
		struct engine_job *job = e->job_of[c->slices[i].slot];

		e->results[i] = (struct sched_result){ 0 };
		if (!c->slices[i].n_samples)
			continue;
		e->results[i].tokens = &e->chosen[i];
		e->results[i].n_tokens = 1;
		e->results[i].stop = is_stop(job, e->chosen[i]);
		if (e->chosen[i] >= 0)
			continue;
		e->chosen[i] = 0;
		e->results[i].stop = true;
	}
}

/* What a finished sequence ended with. */
static enum engine_finish finish_of(const struct engine_job *job, enum sched_finish why)
{
	if (job->error.code != OK)
		return ENGINE_ERROR;
	switch (why) {
	case SCHED_STOP:
		return ENGINE_STOP;
	case SCHED_CANCELLED:
		return ENGINE_ABORT;
	case SCHED_LENGTH:
	case SCHED_NOT_FINISHED:
		break;
	}
	return ENGINE_LENGTH;
}

static void tell_all(struct choice *c)
{
	struct engine *e = c->e;

	for (uint32_t i = 0; i < c->n_slices; i++) {
		uint32_t slot = c->slices[i].slot;
		struct engine_job *job = e->job_of[slot];
		struct sched_seq_info info = sched_seq_get(e->sched, slot);

		if (c->slices[i].n_samples && job->error.code == OK) {
			atomic_store_explicit(&job->n_cached, info.n_cached, memory_order_relaxed);
			job->n_preemptions = info.n_preemptions;
			job_append(job, e->chosen[i]);
		}
		if (info.state == SCHED_FINISHED) {
			job->times.last_token = clock_s();
			sched_release(e->sched, slot);
			engine_finish_job(e, job, finish_of(job, info.finish));
		} else if (c->slices[i].n_samples) {
			engine_tell(e, job);
		}
	}
}

/* The forward cannot be computed: nothing of it counts, and its sequences end. */
static void fail_all(struct choice *c, const struct error *err)
{
	struct engine *e = c->e;
	uint32_t slots[64], n;

	log_error("engine", "step failed: %s", err->msg);
	sched_rollback(e->sched);
	/* The slices are the scheduler's: take the slots before sequences are released. */
	for (uint32_t at = 0; at < c->n_slices; at += n) {
		for (n = 0; n < 64 && at + n < c->n_slices; n++)
			slots[n] = c->slices[at + n].slot;
		for (uint32_t i = 0; i < n; i++) {
			struct engine_job *job = e->job_of[slots[i]];

			job->error = *err;
			sched_cancel(e->sched, slots[i]);
			sched_release(e->sched, slots[i]);
			engine_finish_job(e, job, ENGINE_ERROR);
		}
	}
}

static void note_first(struct choice *c, double now)
{
	for (uint32_t i = 0; i < c->n_slices; i++) {
		if (c->slices[i].first)
			c->e->job_of[c->slices[i].slot]->times.scheduled = now;
	}
}

static void add_stat(struct engine *e, int stat, uint64_t n)
{
	engine_stat_set(e, stat, atomic_load_explicit(&e->stats[stat], memory_order_relaxed) + n);
}

static void count_step(const struct choice *c)
{
	uint64_t n = 0;
	int bucket = 0;

	for (uint32_t i = 0; i < c->n_slices; i++)
		n += c->slices[i].n_tokens;
	while (bucket < ENGINE_STEP_BUCKETS - 1 && n > (bucket ? 4ull << bucket : 1))
		bucket++;
	add_stat(c->e, STAT_STEPS, 1);
	add_stat(c->e, STAT_STEP_TOKENS, n);
	add_stat(c->e, STAT_STEP_SIZES + bucket, 1);
}

bool engine_step(struct engine *e)
{
	uint64_t begin = clock_ns(), forward;
	struct choice c = { .e = e, .vocab = e->rt.weights->config.vocab_size };
	struct error err;
	enum status st;

	c.n_slices = sched_plan(e->sched, e->rt.batch);
	if (c.n_slices == 0)
		return false;
	c.slices = sched_slices(e->sched);
	c.n_outputs = e->rt.batch->n_outputs;
	note_first(&c, (double)begin * 1e-9);
	count_step(&c);
	forward = clock_ns();
	st = model_forward(e->rt.model, e->rt.batch, &c.out, &err);
	forward = clock_ns() - forward;
	if (st == OK) {
		kernel_parallel(e->rt.kn, choose_some, &c);
		fill_results(&c);
		sched_commit(e->sched, e->results);
		tell_all(&c);
	} else {
		fail_all(&c, &err);
	}
	add_stat(e, STAT_FORWARD_NS, forward);
	add_stat(e, STAT_STEP_NS, clock_ns() - begin);
	return true;
}
