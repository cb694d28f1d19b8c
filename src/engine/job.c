/*
 * A request and its answer (engine/engine.h): the copy of what was asked, the arrays that the engine fills.
 *
 * Invariant: everything that the client may read was written before n_tokens or the state that lets it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/engine_int.h"

/* Room for arrays that are copied one after the other, each at a multiple of 8. */
static size_t padded(size_t bytes)
{
	return (bytes + 7) & ~(size_t)7;
}

/* Copies an array to *at and advances it; NULL stays NULL. */
static const void *keep(char **at, const void *from, size_t bytes)
{
	char *to = *at;

	if (!from)
		return NULL;
	memcpy(to, from, bytes);
	*at += padded(bytes);
	return to;
}

static size_t bad_tokens(const struct logits_rules *r)
{
	size_t n = 0;

	for (uint32_t i = 0; i < r->n_bad; i++)
		n += r->bad_lengths[i];
	return n;
}

static enum status check(const struct engine_request *r, struct error *err)
{
	if (r->n_prompt == 0)
		return error_set(err, E_INVAL, "the prompt is empty");
	if (r->max_tokens == 0)
		return error_set(err, E_INVAL, "max_tokens is 0, expected at least 1");
	if (r->n_logprobs > (int)LOGPROBS_MAX || r->n_prompt_logprobs > (int)LOGPROBS_MAX)
		return error_set(err, E_INVAL, "logprobs: found %d, expected at most %u",
			r->n_logprobs > r->n_prompt_logprobs ? r->n_logprobs : r->n_prompt_logprobs, LOGPROBS_MAX);
	if (r->cache_salt && strlen(r->cache_salt) > ENGINE_MAX_SALT_BYTES)
		return error_set(err, E_INVAL, "cache_salt: found %zu bytes, expected at most %u",
			strlen(r->cache_salt), ENGINE_MAX_SALT_BYTES);
	return sampling_params_check(&r->sampling, err);
}

enum status engine_job_create(struct engine_job **out, const struct engine_request *request, struct error *err)
{
	const struct logits_rules *r = &request->rules;
	size_t prompt = sizeof(*request->prompt) * (size_t)request->n_prompt;
	size_t stop = sizeof(*r->stop_ids) * r->n_stop_ids, bias = sizeof(*r->bias) * r->n_bias;
	size_t allowed = sizeof(*r->allowed) * r->n_allowed, bad = sizeof(*r->bad_ids) * bad_tokens(r);
	size_t lengths = sizeof(*r->bad_lengths) * r->n_bad;
	size_t salt = request->cache_salt ? strlen(request->cache_salt) + 1 : 0;
	struct engine_job *job;
	char *at;

	TRY(check(request, err));
	job = mem_alloc(sizeof(*job));
	*job = (struct engine_job){ .r = *request };
	job->constrained = request->constraint && request->constraint_after < 0;
	job->memory = at = mem_try_alloc(1, padded(prompt) + padded(stop) + padded(bias) + padded(allowed) +
		padded(bad) + padded(lengths) + padded(salt) + 8);
	if (!at) {
		free(job);
		return error_set(err, E_NOMEM, "no memory for a prompt of %u tokens", request->n_prompt);
	}
	job->r.prompt = keep(&at, request->prompt, prompt);
	job->r.rules.stop_ids = keep(&at, r->stop_ids, stop);
	job->r.rules.bias = keep(&at, r->bias, bias);
	job->r.rules.allowed = keep(&at, r->allowed, allowed);
	job->r.rules.bad_ids = keep(&at, r->bad_ids, bad);
	job->r.rules.bad_lengths = keep(&at, r->bad_lengths, lengths);
	job->r.cache_salt = keep(&at, request->cache_salt, salt);
	*out = job;
	return OK;
}

void engine_job_destroy(struct engine_job *job)
{
	if (!job)
		return;
	free(job->ids);
	free(job->own);
	free(job->top);
	free(job->prompt_own);
	free(job->prompt_top);
	free(job->memory);
	constraint_destroy(job->r.constraint);
	free(job);
}

enum status job_make_room(struct engine_job *job, uint32_t max_model_len, struct error *err)
{
	const struct engine_request *r = &job->r;
	uint32_t left = r->n_prompt < max_model_len ? max_model_len - r->n_prompt : 1;
	bool ok;

	job->room = r->max_tokens < left ? r->max_tokens : left;
	job->ids = mem_try_alloc(job->room, sizeof(*job->ids));
	ok = job->ids != NULL;
	if (r->n_logprobs >= 0) {
		job->own = mem_try_alloc(job->room, sizeof(*job->own));
		job->top = mem_try_alloc(job->room, sizeof(*job->top) * ((size_t)r->n_logprobs + 1));
		ok = ok && job->own && job->top;
	}
	if (r->n_prompt_logprobs >= 0) {
		job->prompt_own = mem_try_alloc(r->n_prompt, sizeof(*job->prompt_own));
		job->prompt_top = mem_try_alloc(r->n_prompt,
			sizeof(*job->prompt_top) * ((size_t)r->n_prompt_logprobs + 1));
		ok = ok && job->prompt_own && job->prompt_top;
	}
	return ok ? OK : error_set(err, E_NOMEM, "no memory for an answer of %u tokens", job->room);
}

void job_append(struct engine_job *job, int32_t id)
{
	uint32_t n = atomic_load_explicit(&job->n_tokens, memory_order_relaxed);
	double now = clock_s();

	BUG_ON(n == job->room);
	job->ids[n] = id;
	if (n == 0)
		job->times.first_token = now;
	atomic_store_explicit(&job->n_tokens, n + 1, memory_order_release);
}

void *engine_job_user(const struct engine_job *job)
{
	return job->r.user;
}

uint32_t engine_job_tokens(const struct engine_job *job)
{
	return atomic_load_explicit(&job->n_tokens, memory_order_acquire);
}

const int32_t *engine_job_ids(const struct engine_job *job)
{
	return job->ids;
}

enum engine_finish engine_job_finish(const struct engine_job *job)
{
	return job->final_seen ? job->finish : ENGINE_RUNNING;
}

uint32_t engine_job_cached(const struct engine_job *job)
{
	return atomic_load_explicit(&job->n_cached, memory_order_relaxed);
}

uint32_t engine_job_preemptions(const struct engine_job *job)
{
	return job->n_preemptions;
}

struct engine_job_times engine_job_get_times(const struct engine_job *job)
{
	struct engine_job_times t = { .submitted = job->times.submitted };

	if (engine_job_tokens(job) || job->final_seen) {
		t.scheduled = job->times.scheduled;
		t.first_token = job->times.first_token;
	}
	if (job->final_seen) {
		t.last_token = job->times.last_token;
		t.finished = job->times.finished;
	}
	return t;
}

const struct error *engine_job_error(const struct engine_job *job)
{
	return &job->error;
}

static struct engine_logprobs row(const struct logprob *own, const struct logprob *top, int n, uint32_t i)
{
	return (struct engine_logprobs){ own + i, top + (size_t)i * (size_t)n, (uint32_t)n };
}

struct engine_logprobs engine_job_logprobs(const struct engine_job *job, uint32_t i)
{
	BUG_ON(!job->own || i >= engine_job_tokens(job));
	return row(job->own, job->top, job->r.n_logprobs, i);
}

struct engine_logprobs engine_job_prompt_logprobs(const struct engine_job *job, uint32_t i)
{
	BUG_ON(!job->prompt_own || i == 0 || i >= job->r.n_prompt);
	return row(job->prompt_own, job->prompt_top, job->r.n_prompt_logprobs, i);
}
