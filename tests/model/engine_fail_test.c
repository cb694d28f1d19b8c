/*
 * Steps that cannot give a token: logits that are no numbers, rules that leave nothing, a forward that fails. Only
 * the request concerned ends, with the right one to blame, and the engine goes on as before.
 */
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../unit/cm.h"

#include "base/log.h"
#include "engine/engine.h"

#define N_ANSWER 12u

/* The linker sends the engine's forward here. */
static struct {
	enum { NOTHING, ROW, IDS, FAIL } what;
	float value;          /* for the first row of a step of two, or for all of its ids below n_ids */
	uint32_t n_ids;
	uint32_t at;          /* steps of two from now */
} spoil;
static atomic_bool hold; /* until both are submitted */

enum status __real_model_forward(struct model *m, const struct batch *b, struct model_output *out, struct error *err);
enum status __wrap_model_forward(struct model *m, const struct batch *b, struct model_output *out, struct error *err);

enum status __wrap_model_forward(struct model *m, const struct batch *b, struct model_output *out, struct error *err)
{
	float *row;

	while (atomic_load(&hold))
		usleep(100);
	TRY(__real_model_forward(m, b, out, err));
	if (spoil.what == NOTHING || b->n_outputs < 2 || spoil.at-- > 0)
		return OK;
	spoil.at = 0;
	if (spoil.what == FAIL) {
		spoil.what = NOTHING;
		return error_set(err, E_IO, "a peer is gone");
	}
	row = (float *)out->logits;
	for (uint32_t i = 0; i < (spoil.what == ROW ? (uint32_t)out->logits_stride : spoil.n_ids); i++)
		row[i] = spoil.value;
	return OK;
}

static int bell;

static void wake(void *arg)
{
	uint64_t one = 1;

	assert_int_equal(write(bell, &one, sizeof(one)), sizeof(one));
}

static struct engine *open_engine(void)
{
	struct engine_options o = engine_options_default();
	struct engine *e = NULL;
	struct error err;

	o.runtime.max_context_tokens = 128;
	o.runtime.max_seqs = 4;
	o.runtime.max_batch_tokens = 64;
	o.prefix_cache = false;
	o.max_jobs = 8;
	o.n_ids = 2900;
	o.wake = wake;
	if (engine_create(&e, MODEL, &o, &err) != OK)
		fail_msg("%s", err.msg);
	return e;
}

static struct engine_job *submit(struct engine *e, int32_t first, const struct logits_rules *rules)
{
	const int32_t prompt[] = { 0, first, first + 1 };
	struct engine_request r = {
		.prompt = prompt, .n_prompt = 3, .max_tokens = N_ANSWER, .sampling = sampling_params_greedy(),
		.rules = *rules, .n_logprobs = 1, .n_prompt_logprobs = -1,
	};
	struct engine_job *job;
	struct error err;

	assert_int_equal(engine_job_create(&job, &r, &err), OK);
	assert_int_equal(engine_submit(e, job, &err), OK);
	return job;
}

static void finish(struct engine *e, const struct engine_job *job)
{
	uint64_t n;

	while (engine_job_finish(job) == ENGINE_RUNNING) {
		assert_int_equal(read(bell, &n, sizeof(n)), sizeof(n));
		while (engine_next(e))
			;
	}
}

static int32_t want[2][N_ANSWER];

static void alone(struct engine *e, int32_t *ids, int32_t first)
{
	struct logits_rules none = logits_rules_none();
	struct engine_job *job = submit(e, first, &none);

	finish(e, job);
	assert_int_equal(engine_job_finish(job), ENGINE_LENGTH);
	memcpy(ids, engine_job_ids(job), sizeof(*ids) * N_ANSWER);
	engine_job_destroy(job);
}

static void is_free(const struct engine *e)
{
	struct engine_stats s = engine_get_stats(e);

	for (int i = 0; i < 120000 && (s.running || s.blocks_free != s.blocks); i++) {
		usleep(1000);
		s = engine_get_stats(e);
	}
	assert_int_equal(s.running, 0);
	assert_int_equal(s.blocks_free, s.blocks);
}

static void submit_two(struct engine *e, struct engine_job **a, const struct logits_rules *rules, struct engine_job **b)
{
	struct logits_rules none = logits_rules_none();

	atomic_store(&hold, true);
	*a = submit(e, 100, rules);
	*b = submit(e, 200, &none);
	atomic_store(&hold, false);
}

/* Two at once, of which the first has these rules: it fails so, the other answers as alone. */
static void fails(struct engine *e, const struct logits_rules *rules, enum status code, const char *says)
{
	struct engine_job *bad, *good;
	uint32_t n;

	submit_two(e, &bad, rules, &good);
	finish(e, bad);
	finish(e, good);
	assert_int_equal(engine_job_finish(bad), ENGINE_ERROR);
	assert_int_equal(engine_job_error(bad)->code, code);
	if (!strstr(engine_job_error(bad)->msg, says))
		fail_msg("%s: expected %s", engine_job_error(bad)->msg, says);
	n = engine_job_tokens(bad);
	assert_true(n < N_ANSWER);
	if (!rules->n_allowed)
		assert_memory_equal(engine_job_ids(bad), want[0], sizeof(int32_t) * n);
	assert_int_equal(engine_job_finish(good), ENGINE_LENGTH);
	assert_memory_equal(engine_job_ids(good), want[1], sizeof(want[1]));
	engine_job_destroy(bad);
	engine_job_destroy(good);
	spoil.what = NOTHING;
	is_free(e);
	alone(e, want[0], 100);
}

static void test_rows_without_numbers(void **state)
{
	static const float values[] = { NAN, INFINITY, -INFINITY };
	struct engine *e = open_engine();
	struct logits_rules none = logits_rules_none(), some = none;
	int32_t allowed[] = { 5, 6, 7 };

	alone(e, want[0], 100);
	alone(e, want[1], 200);
	some.allowed = allowed;
	some.n_allowed = 3;
	for (size_t i = 0; i < 3; i++) {
		for (uint32_t at = 0; at < 4; at += 3) {
			spoil.what = ROW;
			spoil.value = values[i];
			spoil.at = at;
			fails(e, &none, E_INTERNAL, "no finite logit after");
			spoil.what = ROW;
			spoil.at = at;
			fails(e, &some, E_INTERNAL, "the weights hold NaN or infinity"); /* not its rules */
		}
	}
	engine_destroy(e);
}

/* Numbers are there, but none that the request allows. */
static void test_rules_that_leave_nothing(void **state)
{
	struct engine *e = open_engine();
	struct logits_rules rules = logits_rules_none();
	int32_t allowed[] = { 5, 6 };

	alone(e, want[0], 100);
	alone(e, want[1], 200);
	rules.allowed = rules.stop_ids = allowed;
	rules.n_allowed = 2;
	rules.n_stop_ids = 2;
	rules.min_tokens = 4;
	fails(e, &rules, E_INVAL, "after 0 tokens the rules of the request leave no token to choose");
	rules.n_stop_ids = 0;
	spoil.what = IDS;
	spoil.n_ids = 8;
	spoil.value = NAN;
	spoil.at = 0;
	fails(e, &rules, E_INVAL, "the rules of the request leave no token");
	engine_destroy(e);
}

/* Some ids without numbers are only not chosen. */
static void test_a_few_bad_ids(void **state)
{
	struct engine *e = open_engine();
	struct logits_rules none = logits_rules_none();
	struct engine_job *a, *b;

	alone(e, want[1], 200);
	spoil.what = IDS;
	spoil.n_ids = 2000;
	spoil.value = NAN;
	spoil.at = 0;
	submit_two(e, &a, &none, &b);
	finish(e, a);
	finish(e, b);
	spoil.what = NOTHING;
	assert_int_equal(engine_job_finish(a), ENGINE_LENGTH);
	assert_int_equal(engine_job_tokens(a), N_ANSWER);
	assert_true(engine_job_ids(a)[N_ANSWER / 2] >= 2000);
	assert_memory_equal(engine_job_ids(b), want[1], sizeof(want[1]));
	engine_job_destroy(a);
	engine_job_destroy(b);
	engine_destroy(e);
}

/* All of the step end, the next one is computed. */
static void test_forward_that_fails(void **state)
{
	struct engine *e = open_engine();
	struct logits_rules none = logits_rules_none();
	struct engine_job *jobs[2];
	int32_t again[N_ANSWER];

	alone(e, want[0], 100);
	spoil.what = FAIL;
	spoil.at = 2;
	submit_two(e, &jobs[0], &none, &jobs[1]);
	for (int i = 0; i < 2; i++) {
		finish(e, jobs[i]);
		assert_int_equal(engine_job_finish(jobs[i]), ENGINE_ERROR);
		assert_int_equal(engine_job_error(jobs[i])->code, E_IO);
		assert_non_null(strstr(engine_job_error(jobs[i])->msg, "a peer is gone"));
		engine_job_destroy(jobs[i]);
	}
	is_free(e);
	alone(e, again, 100);
	assert_memory_equal(again, want[0], sizeof(again));
	engine_destroy(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows_without_numbers),
		cmocka_unit_test(test_rules_that_leave_nothing),
		cmocka_unit_test(test_a_few_bad_ids),
		cmocka_unit_test(test_forward_that_fails),
	};

	log_set_level(LOG_LEVEL_ERROR);
	bell = eventfd(0, EFD_CLOEXEC);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
