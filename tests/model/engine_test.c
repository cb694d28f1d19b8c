/*
 * The engine's thread with a real model: every request gets the tokens that it gets alone, whatever runs
 * beside it, with and without a prefix cache, in a cache so small that sequences are preempted; and when all
 * is over every block is free.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "../unit/cm.h"

#include "base/log.h"
#include "engine/engine.h"
#include "engine/generate.h"

#define N_JOBS 200u
#define MAX_PROMPT 300u
#define MAX_ANSWER 40u
#define CONTEXT 512u

struct plan {
	int32_t prompt[MAX_PROMPT];
	uint32_t n_prompt;
	struct engine_request request;
	uint32_t cancel_after; /* tokens; 0: never */
	int32_t stop[2];
	int32_t want[MAX_ANSWER]; /* alone */
	struct logprob want_own[MAX_ANSWER];
	uint32_t n_want;
	enum engine_finish want_finish;
};

static struct plan plans[N_JOBS];
static int bell = -1;

static void wake(void *arg)
{
	uint64_t one = 1;

	assert_int_equal(write(bell, &one, sizeof(one)), sizeof(one));
}

static void wait_bell(void)
{
	uint64_t n;

	assert_int_equal(read(bell, &n, sizeof(n)), sizeof(n));
}

static struct engine *open_engine(bool prefix_cache, uint32_t n_blocks_of_16)
{
	struct engine_options o = engine_options_default();
	struct engine *e = NULL;
	struct error err;

	o.runtime.block_tokens = 16;
	o.runtime.max_context_tokens = CONTEXT;
	o.runtime.max_seqs = 48;
	o.runtime.max_batch_tokens = 256;
	o.runtime.cache_bytes = 0;
	o.prefix_cache = prefix_cache;
	o.max_jobs = 256;
	o.n_ids = 2900;
	o.wake = wake;
	if (n_blocks_of_16) {
		struct model_config c;

		assert_int_equal(config_load(&c, MODEL, &err), OK);
		o.runtime.cache_bytes = kv_block_bytes(&(struct kv_pool_config){ .n_layers = c.num_hidden_layers,
			.n_blocks = 1, .block_tokens = 16, .kv_lora = c.kv_lora_rank,
			.rope = c.qk_rope_head_dim }) * n_blocks_of_16;
	}
	if (engine_create(&e, MODEL, &o, &err) != OK)
		fail_msg("%s", err.msg);
	return e;
}

/* Requests of all kinds; half of the prompts begin alike, so that there is something to share. */
static void make_plans(void)
{
	srand(11);
	for (uint32_t i = 0; i < N_JOBS; i++) {
		struct plan *p = &plans[i];

		p->n_prompt = 1 + (uint32_t)rand() % (MAX_PROMPT - 1);
		for (uint32_t t = 0; t < p->n_prompt; t++)
			p->prompt[t] = (i & 1 && t < 150) ? (int32_t)(100 + t % 50 + (i / 2 % 3) * 100) : rand() % 3000;
		p->request = (struct engine_request){
			.prompt = p->prompt,
			.n_prompt = p->n_prompt,
			.max_tokens = 1 + (uint32_t)rand() % MAX_ANSWER,
			.sampling = { .temperature = i % 3 ? 1.0 : 0, .top_p = i % 5 ? 1 : 0.9,
				.top_k = i % 7 ? 0 : 20, .seed = (uint64_t)i * 77 },
			.rules = logits_rules_none(),
			.n_logprobs = i % 4 == 0 ? 2 : -1,
			.n_prompt_logprobs = i % 16 == 5 ? 1 : -1, /* of ids that may not be sampled too */
			.user = p,
		};
		p->stop[0] = rand() % 3000;
		p->stop[1] = 1;
		p->request.rules.stop_ids = p->stop;
		p->request.rules.n_stop_ids = 2;
		if (i % 6 == 0)
			p->request.rules.repetition_penalty = 1.2;
		if (i % 11 == 0)
			p->cancel_after = 1 + (uint32_t)rand() % 10;
	}
}

static struct engine_job *submit(struct engine *e, struct plan *p)
{
	struct engine_job *job;
	struct error err;

	assert_int_equal(engine_job_create(&job, &p->request, &err), OK);
	assert_int_equal(engine_submit(e, job, &err), OK);
	return job;
}

static void alone(struct engine *e, struct plan *p)
{
	struct engine_job *job = submit(e, p), *got;

	while (engine_job_finish(job) == ENGINE_RUNNING) {
		wait_bell();
		while ((got = engine_next(e)))
			assert_ptr_equal(got, job);
	}
	p->n_want = engine_job_tokens(job);
	p->want_finish = engine_job_finish(job);
	assert_true(p->want_finish == ENGINE_STOP || p->want_finish == ENGINE_LENGTH);
	assert_true(p->n_want > 0 && (p->n_want == p->request.max_tokens || p->want_finish == ENGINE_STOP));
	memcpy(p->want, engine_job_ids(job), sizeof(int32_t) * p->n_want);
	for (uint32_t i = 0; i < p->n_want && p->request.n_logprobs >= 0; i++)
		p->want_own[i] = *engine_job_logprobs(job, i).own;
	engine_job_destroy(job);
}

static void check(const struct plan *p, const struct engine_job *job)
{
	uint32_t n = engine_job_tokens(job);

	if (engine_job_finish(job) == ENGINE_ABORT) {
		assert_true(p->cancel_after && n >= p->cancel_after && n <= p->n_want);
	} else {
		assert_int_equal(engine_job_finish(job), p->want_finish);
		assert_int_equal(n, p->n_want);
	}
	assert_memory_equal(engine_job_ids(job), p->want, sizeof(int32_t) * n);
	for (uint32_t i = 0; i < n && p->request.n_logprobs >= 0; i++)
		assert_memory_equal(engine_job_logprobs(job, i).own, &p->want_own[i], sizeof(struct logprob));
	if (p->request.n_prompt_logprobs >= 0 && n) {
		for (uint32_t i = 1; i < p->n_prompt; i++) {
			struct engine_logprobs l = engine_job_prompt_logprobs(job, i);

			assert_int_equal(l.own->id, p->prompt[i]);
			assert_true(l.own->value <= l.top[0].value && l.top[0].rank == 1);
		}
	}
}

static void together(bool prefix_cache, uint32_t n_blocks, bool want_preemption)
{
	struct engine *e = open_engine(prefix_cache, n_blocks);
	uint32_t left = N_JOBS, next = 0;
	uint64_t all = 0, whole = 0; /* tokens of prompts; of those that were answered to the end */
	struct engine_stats stats;

	while (left) {
		struct engine_job *job;

		/* In waves, so that prompts meet answers. */
		for (int i = 0; i < 25 && next < N_JOBS; i++)
			submit(e, &plans[next++]);
		wait_bell();
		while ((job = engine_next(e))) {
			struct plan *p = engine_job_user(job);

			if (engine_job_finish(job) == ENGINE_RUNNING) {
				if (p->cancel_after && engine_job_tokens(job) >= p->cancel_after)
					engine_cancel(e, job);
				continue;
			}
			check(p, job);
			all += p->n_prompt;
			whole += engine_job_finish(job) == ENGINE_ABORT ? 0 : p->n_prompt;
			engine_job_destroy(job);
			left--;
		}
	}
	/* The last step's figures come with the next sleep. */
	for (int i = 0; i < 120000 && (stats = engine_get_stats(e)).has_work; i++)
		usleep(1000);
	stats = engine_get_stats(e);
	assert_int_equal(stats.blocks_free, stats.blocks);
	assert_int_equal(stats.running + stats.waiting, 0);
	assert_in_range(stats.prompt_tokens + stats.prefix_hit_tokens, whole, all); /* each once */
	if (want_preemption)
		assert_true(stats.preemptions > 0);
	else
		assert_int_equal(stats.preemptions, 0);
	if (prefix_cache)
		assert_true(stats.prefix_hit_tokens > 0);
	else
		assert_int_equal(stats.prefix_hit_tokens, 0);
	engine_destroy(e);
}

static void test_alone(void **state)
{
	struct engine *e = open_engine(false, 0);

	for (uint32_t i = 0; i < N_JOBS; i++)
		alone(e, &plans[i]);
	assert_true(engine_get_stats(e).generated_tokens > N_JOBS * MAX_ANSWER / 4);
	engine_destroy(e);
}

static void test_together(void **state)
{
	together(false, 0, false);
}

static void test_prefix_cache(void **state)
{
	together(true, 0, false);
}

static void test_small_cache(void **state)
{
	together(false, CONTEXT / 16 + 8, true);
	together(true, CONTEXT / 16 + 8, true);
}

/* The engine's thread chooses what one sequence alone chooses. */
static void test_generator(void **state)
{
	struct runtime_options o = runtime_options_default();
	struct runtime rt = { 0 };
	struct generator *g;
	struct error err;

	o.max_context_tokens = CONTEXT;
	assert_int_equal(runtime_open(&rt, MODEL, &o, &err), OK);
	assert_int_equal(generator_create(&g, &rt, 2900, &err), OK);
	for (uint32_t i = 0; i < 20; i++) {
		const struct plan *p = &plans[i];
		int32_t id;
		bool whole;

		assert_int_equal(generator_prompt(g, p->prompt, p->n_prompt, NULL, NULL, &whole, &err), OK);
		for (uint32_t t = 0; t < p->n_want; t++) {
			assert_int_equal(generator_next(g, &p->request.sampling, &p->request.rules, &id, &err), OK);
			assert_int_equal(id, p->want[t]);
		}
	}
	generator_destroy(g);
	runtime_close(&rt);
}

static void refused(struct engine *e, struct engine_request r, const char *says)
{
	struct engine_job *job = NULL;
	struct error err;

	if (engine_job_create(&job, &r, &err) != OK || engine_submit(e, job, &err) != OK) {
		assert_non_null(strstr(err.msg, says));
		engine_job_destroy(job);
		return;
	}
	while (engine_job_finish(job) == ENGINE_RUNNING) {
		wait_bell();
		while (engine_next(e))
			;
	}
	assert_int_equal(engine_job_finish(job), ENGINE_ERROR);
	assert_non_null(strstr(engine_job_error(job)->msg, says));
	engine_job_destroy(job);
}

static void test_refusals(void **state)
{
	struct engine *e = open_engine(true, 0), *none;
	struct engine_request good = plans[1].request, r;
	int32_t big[CONTEXT] = { 0 }, wild[] = { 1, 1 << 30 };
	struct engine_options o = engine_options_default();
	struct error err;

	r = good, r.n_prompt = 0;
	refused(e, r, "empty");
	r = good, r.prompt = big, r.n_prompt = CONTEXT;
	refused(e, r, "--max-model-len");
	r = good, r.prompt = wild, r.n_prompt = 2;
	refused(e, r, "prompt token 1");
	r = good, r.rules.stop_ids = wild;
	refused(e, r, "stop_token_ids[1]");
	r = good, r.priority = 3;
	refused(e, r, "priority");
	r = good, r.sampling.top_p = 0;
	refused(e, r, "top_p");
	engine_destroy(e);
	o.wake = wake;
	assert_int_not_equal(engine_create(&none, "/nonexistent", &o, &err), OK);
	o.runtime.cache_bytes = 1;
	assert_int_equal(engine_create(&none, MODEL, &o, &err), E_LIMIT);
}

/* Destroyed with work in hand: every job comes back, aborted or whole. */
static void test_destroy(void **state)
{
	struct engine *e = open_engine(true, 0);
	struct engine_job *jobs[50];

	for (uint32_t i = 0; i < 50; i++)
		jobs[i] = submit(e, &plans[i]);
	engine_destroy(e);
	for (uint32_t i = 0; i < 50; i++)
		engine_job_destroy(jobs[i]);
}

/* An idle engine uses no CPU. */
static void test_idle(void **state)
{
	struct engine *e = open_engine(true, 0);
	struct timespec a, b;
	double used = 1;

	alone(e, &plans[3]);
	/* Soon, that is: on a busy machine its last step may take its time. */
	for (int i = 0; i < 100 && used >= 0.01; i++) {
		usleep(50000);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
		usleep(300000);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
		used = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
	}
	assert_true(used < 0.01);
	engine_destroy(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_together),
		cmocka_unit_test(test_prefix_cache),
		cmocka_unit_test(test_small_cache),
		cmocka_unit_test(test_generator),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_destroy),
		cmocka_unit_test(test_idle),
	};

	log_set_level(LOG_LEVEL_ERROR);
	bell = eventfd(0, EFD_CLOEXEC);
	make_plans();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
