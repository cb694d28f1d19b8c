/*
 * engine/engine.h without a model: answers come from MODEL/script.json. Linked in front of the real engine, it
 * makes the whole program a server whose tokens, times and failures a test chooses.
 *
 *   {"max_model_len": 4096, "max_jobs": 64, "rules": [
 *      {"has": [5, 6], "answer": [7, 8], "delay_ms": 1, "burst": 1, "error": "text", "code": "limit", "hung": true,
 *       "hold": 3, "together": true, "eager": true}],
 *    "trace": {"path": "file", "rows": 256, "tokens": 1000}}
 *
 * The first rule whose `has` is part of the prompt holds; one without `has` always does. `answer` is followed by
 * the first stop id of the request, or by `answer` again when there is none or min_tokens asks for more. Log
 * probability of token i: -(i + 1) / 8; of the k-th likeliest besides, one less for each k.
 *
 * Nothing need be timed: until the file MODEL/gate is there, an answer has at most `hold` tokens, and whoever
 * tokenizes a text that begins with "hold" makes MODEL/held and waits.
 *
 * For benchmarks: `together` moves tokens to multiples of delay_ms, so that all jobs get theirs at once, as from a
 * step; `eager` gives a job its next token as soon as the server took the one before. The trace gets the time of each
 * publication, [rows][tokens] of CLOCK_REALTIME in nanoseconds; a job's row is its seed.
 */
#include "engine/engine.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/ring.h"
#include "text/tokenizer.h"

#define MAX_JOBS 16384
#define MAX_TOP 32
#define TICK_NS 1000000
#define EAGER_TICK_NS 50000

/* Of a job: its news are in the ring; they are its last ones. */
#define NEWS 1
#define FINAL 2

struct rule {
	int32_t *has, *answer;
	size_t n_has, n_answer;
	int64_t delay_ms, burst, hold; /* hold < 0: no bound */
	const char *error, *code;
	bool hung, together, eager;
};

struct engine_job {
	struct engine_request r;
	int32_t *prompt, *stop_ids, *ids;
	struct rule rule;
	uint32_t room;
	atomic_uint n;
	atomic_int state;
	enum engine_finish finish;
	bool final_seen; /* the client's */
	atomic_bool cancelled;
	uint64_t due_ns;
	struct engine_job_times times;
	struct error error;
};

struct engine {
	struct model_config config;
	struct engine_options options;
	json_t *script;
	struct rule *rules;
	size_t n_rules;
	int64_t max_model_len, max_jobs;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stopping, hung;
	struct engine_job *live[MAX_JOBS];
	size_t n_live;
	size_t n_jobs; /* the client's count */
	struct ring *news;
	bool any_news, any_eager;
	uint64_t *trace;
	int64_t trace_rows, trace_tokens;
	struct engine_stats stats;
};

/* --- script -------------------------------------------------------------------------------------------- */

static int32_t *read_ids(size_t *n, const json_t *list)
{
	int32_t *ids = mem_alloc((json_array_size(list) + 1) * sizeof(*ids));

	*n = json_array_size(list);
	for (size_t i = 0; i < *n; i++)
		ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
	return ids;
}

static int64_t number(const json_t *obj, const char *key, int64_t def)
{
	const json_t *v = json_object_get(obj, key);

	return v ? json_integer_value(v) : def;
}

static char gate[4096], held[4096];

static bool gate_is_open(void)
{
	return access(gate, F_OK) == 0;
}

static enum status open_trace(struct engine *e, struct error *err)
{
	const json_t *v = json_object_get(e->script, "trace");
	const char *path = json_string_value(json_object_get(v, "path"));
	size_t bytes;
	int fd;

	if (!path)
		return OK;
	e->trace_rows = number(v, "rows", 1);
	e->trace_tokens = number(v, "tokens", 1);
	bytes = (size_t)e->trace_rows * (size_t)e->trace_tokens * sizeof(*e->trace);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0)
		return error_set(err, E_IO, "%s: cannot make a trace of %zu bytes", path, bytes);
	e->trace = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (e->trace == MAP_FAILED)
		return error_set(err, E_IO, "%s: cannot map a trace of %zu bytes", path, bytes);
	return OK;
}

static enum status read_script(struct engine *e, const char *dir, struct error *err)
{
	const json_t *rules;
	char path[4096];

	snprintf(path, sizeof(path), "%s/script.json", dir);
	TRY(json_load_path(&e->script, path, 1 << 20, err));
	snprintf(gate, sizeof(gate), "%s/gate", dir);
	snprintf(held, sizeof(held), "%s/held", dir);
	e->max_model_len = number(e->script, "max_model_len", 4096);
	e->max_jobs = number(e->script, "max_jobs", MAX_JOBS);
	rules = json_object_get(e->script, "rules");
	e->n_rules = json_array_size(rules);
	e->rules = mem_alloc((e->n_rules + 1) * sizeof(*e->rules));
	for (size_t i = 0; i < e->n_rules; i++) {
		const json_t *v = json_array_get(rules, i);
		struct rule *r = &e->rules[i];

		r->has = read_ids(&r->n_has, json_object_get(v, "has"));
		r->answer = read_ids(&r->n_answer, json_object_get(v, "answer"));
		r->delay_ms = number(v, "delay_ms", 0);
		r->burst = number(v, "burst", 1);
		r->hold = number(v, "hold", -1);
		r->error = json_string_value(json_object_get(v, "error"));
		r->code = json_string_value(json_object_get(v, "code"));
		r->hung = json_is_true(json_object_get(v, "hung"));
		r->together = json_is_true(json_object_get(v, "together"));
		r->eager = json_is_true(json_object_get(v, "eager"));
	}
	return open_trace(e, err);
}

static const struct rule *find_rule(const struct engine *e, const struct engine_job *job)
{
	for (size_t i = 0; i < e->n_rules; i++) {
		const struct rule *r = &e->rules[i];

		if (r->n_has == 0 || memmem(job->prompt, job->r.n_prompt * sizeof(*job->prompt), r->has,
			r->n_has * sizeof(*r->has)))
			return r;
	}
	return NULL;
}

/* --- jobs ---------------------------------------------------------------------------------------------- */

static void *copy(const void *src, size_t bytes)
{
	void *p = mem_alloc(bytes + 1);

	if (bytes)
		memcpy(p, src, bytes);
	return p;
}

enum status engine_job_create(struct engine_job **out, const struct engine_request *request, struct error *err)
{
	struct engine_job *job = mem_alloc(sizeof(*job));

	job->r = *request;
	job->prompt = copy(request->prompt, request->n_prompt * sizeof(*job->prompt));
	job->stop_ids = copy(request->rules.stop_ids, request->rules.n_stop_ids * sizeof(*job->stop_ids));
	job->room = request->max_tokens;
	job->ids = mem_alloc((job->room + 1) * sizeof(*job->ids));
	*out = job;
	return OK;
}

void engine_job_destroy(struct engine_job *job)
{
	constraint_destroy(job->r.constraint); /* the script is not held to it */
	free(job->prompt);
	free(job->stop_ids);
	free(job->ids);
	free(job);
}

void *engine_job_user(const struct engine_job *job)
{
	return job->r.user;
}

uint32_t engine_job_tokens(const struct engine_job *job)
{
	return atomic_load(&job->n);
}

const int32_t *engine_job_ids(const struct engine_job *job)
{
	return job->ids;
}

enum engine_finish engine_job_finish(const struct engine_job *job)
{
	return job->final_seen ? job->finish : ENGINE_RUNNING;
}

uint32_t engine_job_preemptions(const struct engine_job *job)
{
	return 0;
}

uint32_t engine_job_cached(const struct engine_job *job)
{
	return job->r.n_prompt / 2;
}

struct engine_job_times engine_job_get_times(const struct engine_job *job)
{
	return job->times;
}

const struct error *engine_job_error(const struct engine_job *job)
{
	return &job->error;
}

/* Holds until the next call for the same kind of token. */
static struct engine_logprobs made_up(int which, int32_t id, uint32_t i, int n)
{
	static struct logprob own[2], top[2][MAX_TOP];
	double value = -(double)(i + 1) / 8;

	own[which] = (struct logprob){ id, 1, value };
	for (int k = 0; k < n && k < MAX_TOP; k++)
		top[which][k] = (struct logprob){ k ? id + k : id, (uint32_t)k + 1, value - k };
	return (struct engine_logprobs){ &own[which], top[which], n > 0 ? (uint32_t)n : 0 };
}

struct engine_logprobs engine_job_logprobs(const struct engine_job *job, uint32_t i)
{
	return made_up(0, job->ids[i], i, job->r.n_logprobs);
}

struct engine_logprobs engine_job_prompt_logprobs(const struct engine_job *job, uint32_t i)
{
	return made_up(1, job->prompt[i], i, job->r.n_prompt_logprobs);
}

/* --- the thread ---------------------------------------------------------------------------------------- */

/* With FINAL the job is the client's from here on. */
static void tell(struct engine *e, struct engine_job *job, int final)
{
	e->any_news = true;
	if (!(atomic_fetch_or(&job->state, NEWS | final) & NEWS))
		BUG_ON(!ring_push(e->news, &job));
}

static void finish(struct engine *e, size_t at, enum engine_finish why)
{
	struct engine_job *job = e->live[at];

	job->times.finished = clock_s();
	job->finish = why;
	e->live[at] = e->live[--e->n_live];
	tell(e, job, FINAL);
}

static void trace(const struct engine *e, const struct engine_job *job, uint32_t n)
{
	struct timespec t;

	if (!e->trace || job->r.sampling.seed >= (uint64_t)e->trace_rows || n >= e->trace_tokens)
		return;
	clock_gettime(CLOCK_REALTIME, &t);
	e->trace[job->r.sampling.seed * (uint64_t)e->trace_tokens + n] =
		(uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* The next token, and whether it ends the answer. */
static int32_t next_token(const struct engine_job *job, uint32_t n, bool *stop)
{
	const struct rule *r = &job->rule;

	*stop = n >= r->n_answer && job->r.rules.n_stop_ids > 0 && n >= job->r.rules.min_tokens;
	if (*stop)
		return job->stop_ids[0];
	return r->n_answer ? r->answer[n % r->n_answer] : 2;
}

static bool stops_here(const struct engine_job *job, int32_t id)
{
	for (uint32_t i = 0; i < job->r.rules.n_stop_ids; i++) {
		if (job->stop_ids[i] == id)
			return true;
	}
	return false;
}

static uint64_t next_due(const struct rule *r)
{
	uint64_t now = clock_ns(), delay = (uint64_t)r->delay_ms * 1000000;

	return r->together && delay ? now / delay * delay + delay : now + delay;
}

static bool is_held(const struct engine_job *job)
{
	return job->rule.hold >= 0 && atomic_load(&job->n) >= job->rule.hold && !gate_is_open();
}

static void step_job(struct engine *e, size_t at)
{
	struct engine_job *job = e->live[at];

	if (job->times.scheduled == 0)
		job->times.scheduled = clock_s();
	for (int64_t k = 0; k < job->rule.burst && !is_held(job); k++) {
		uint32_t n = atomic_load(&job->n);
		bool stop;

		job->ids[n] = next_token(job, n, &stop);
		stop |= n >= job->r.rules.min_tokens && stops_here(job, job->ids[n]);
		job->times.last_token = clock_s();
		if (n == 0)
			job->times.first_token = job->times.last_token;
		e->stats.generated_tokens++;
		trace(e, job, n);
		atomic_store(&job->n, n + 1);
		if (stop || n + 1 == job->room || job->r.n_prompt + n + 1 >= (uint64_t)e->max_model_len) {
			finish(e, at, stop ? ENGINE_STOP : ENGINE_LENGTH);
			return;
		}
	}
	job->due_ns = next_due(&job->rule);
	tell(e, job, 0);
}

static void fail_job(struct engine *e, size_t at)
{
	struct engine_job *job = e->live[at];
	const char *code = job->rule.code ? job->rule.code : "";

	error_set(&job->error, strcmp(code, "limit") == 0 ? E_LIMIT : strcmp(code, "inval") == 0 ? E_INVAL :
		E_INTERNAL, "%s", job->rule.error);
	finish(e, at, ENGINE_ERROR);
}

static void step(struct engine *e, uint64_t now)
{
	e->any_news = e->any_eager = false;
	for (size_t i = e->n_live; i-- > 0;) {
		struct engine_job *job = e->live[i];

		e->any_eager |= job->rule.eager;
		if (atomic_load(&job->cancelled))
			finish(e, i, ENGINE_ABORT);
		else if (job->rule.hung)
			e->hung = true;
		else if (job->rule.error && atomic_load(&job->n) >= job->rule.n_answer)
			fail_job(e, i);
		else if (job->due_ns <= now && !(job->rule.eager && atomic_load(&job->state) & NEWS) && !is_held(job))
			step_job(e, i);
	}
	e->stats.steps++;
	e->stats.running = e->n_live;
	e->stats.has_work = e->n_live > 0;
	e->stats.last_step_ns = e->hung ? 1 : now;
}

static void *run(void *arg)
{
	struct engine *e = arg;

	pthread_mutex_lock(&e->lock);
	while (!e->stopping) {
		struct timespec until;

		step(e, clock_ns());
		if (e->any_news) {
			pthread_mutex_unlock(&e->lock);
			e->options.wake(e->options.wake_arg);
			pthread_mutex_lock(&e->lock);
		}
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += e->any_eager ? EAGER_TICK_NS : TICK_NS;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		if (e->n_live)
			pthread_cond_timedwait(&e->changed, &e->lock, &until);
		else if (!e->stopping)
			pthread_cond_wait(&e->changed, &e->lock);
	}
	for (size_t i = e->n_live; i-- > 0;)
		finish(e, i, ENGINE_ABORT);
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

/* --- texts --------------------------------------------------------------------------------------------- */

enum status __real_tokenizer_encode(const struct tokenizer *t, struct tokenizer_scratch *sc, const char *text, size_t len,
	unsigned flags, struct token_buf *out, struct error *err);
enum status __wrap_tokenizer_encode(const struct tokenizer *t, struct tokenizer_scratch *sc, const char *text, size_t len,
	unsigned flags, struct token_buf *out, struct error *err);

/* The linker sends the server's calls here. */
enum status __wrap_tokenizer_encode(const struct tokenizer *t, struct tokenizer_scratch *sc, const char *text, size_t len,
	unsigned flags, struct token_buf *out, struct error *err)
{
	bool holds = len >= 4 && memcmp(text, "hold", 4) == 0;

	if (holds)
		fclose(fopen(held, "w"));
	while (holds && !gate_is_open())
		usleep(1000);
	return __real_tokenizer_encode(t, sc, text, len, flags, out, err);
}

/* --- the engine ---------------------------------------------------------------------------------------- */

struct engine_options engine_options_default(void)
{
	struct runtime_options r = runtime_options_default();

	r.max_seqs = 256;
	r.max_batch_tokens = 2048;
	return (struct engine_options){ .runtime = r, .chunked_prefill = true, .prefix_cache = true };
}

enum status engine_create(struct engine **out, const char *dir, const struct engine_options *options,
	struct error *err)
{
	struct engine *e = mem_alloc(sizeof(*e));
	enum status st;

	e->options = *options;
	TRY_GOTO(fail, config_load(&e->config, dir, err));
	TRY_GOTO(fail, read_script(e, dir, err));
	TRY_GOTO(fail, ring_create(&e->news, MAX_JOBS, sizeof(struct engine_job *), err));
	e->stats.blocks = e->stats.blocks_free = 64;
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->changed, NULL);
	pthread_create(&e->thread, NULL, run, e);
	*out = e;
	return OK;
fail:
	free(e);
	return st;
}

void engine_destroy(struct engine *e)
{
	pthread_mutex_lock(&e->lock);
	e->stopping = true;
	pthread_cond_signal(&e->changed);
	pthread_mutex_unlock(&e->lock);
	pthread_join(e->thread, NULL);
	pthread_mutex_destroy(&e->lock);
	pthread_cond_destroy(&e->changed);
	for (size_t i = 0; i < e->n_rules; i++) {
		free(e->rules[i].has);
		free(e->rules[i].answer);
	}
	free(e->rules);
	json_decref(e->script);
	ring_destroy(e->news);
	if (e->trace)
		munmap(e->trace, (size_t)e->trace_rows * (size_t)e->trace_tokens * sizeof(*e->trace));
	free(e);
}

const struct model_config *engine_config(const struct engine *e)
{
	return &e->config;
}

uint32_t engine_max_model_len(const struct engine *e)
{
	return (uint32_t)e->max_model_len;
}

uint64_t engine_cache_tokens(const struct engine *e)
{
	return 4096;
}

enum status engine_submit(struct engine *e, struct engine_job *job, struct error *err)
{
	static const struct rule nothing = { .burst = 1, .hold = -1 };
	const struct rule *r = find_rule(e, job);
	enum status st = OK;

	pthread_mutex_lock(&e->lock);
	if (e->n_jobs >= (size_t)e->max_jobs || e->n_jobs == MAX_JOBS) {
		st = error_set(err, E_LIMIT, "the engine's queue is full");
	} else {
		job->rule = r ? *r : nothing;
		job->times.submitted = clock_s();
		e->live[e->n_live++] = job;
		e->n_jobs++;
		e->stats.prompt_tokens += job->r.n_prompt;
		e->stats.running = e->n_live;
		pthread_cond_signal(&e->changed);
	}
	pthread_mutex_unlock(&e->lock);
	return st;
}

void engine_cancel(struct engine *e, struct engine_job *job)
{
	atomic_store(&job->cancelled, true);
	pthread_cond_signal(&e->changed);
}

struct engine_job *engine_next(struct engine *e)
{
	struct engine_job *job;

	if (!ring_pop(e->news, &job))
		return NULL;
	job->final_seen = atomic_exchange(&job->state, 0) & FINAL;
	e->n_jobs -= job->final_seen;
	return job;
}

void engine_reset_prefix_cache(struct engine *e)
{
}

struct engine_stats engine_get_stats(const struct engine *e)
{
	struct engine *mutable = (struct engine *)e;
	struct engine_stats stats;

	pthread_mutex_lock(&mutable->lock);
	stats = e->stats;
	pthread_mutex_unlock(&mutable->lock);
	return stats;
}
