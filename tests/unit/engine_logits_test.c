/* Rules on logits and log probabilities, against plain definitions. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cm.h"

#include "engine/logits.h"

#define VOCAB 64

static float logits[VOCAB];
static struct logits_work *work;

static int setup(void **state)
{
	struct error err;

	srand(3);
	for (int i = 0; i < VOCAB; i++)
		logits[i] = (float)(rand() % 2000 - 1000) / 100;
	return logits_work_create(&work, VOCAB, &err);
}

static int teardown(void **state)
{
	logits_work_destroy(work);
	return 0;
}

static void test_nothing(void **state)
{
	const int32_t ids[] = { 1, 2, 3 };
	struct logits_rules r = logits_rules_none();

	assert_ptr_equal(logits_apply(work, &r, NULL, logits, VOCAB, ids, 2, 3), logits);
	r.min_tokens = 1; /* reached, and no stop ids */
	assert_ptr_equal(logits_apply(work, &r, NULL, logits, VOCAB, ids, 2, 3), logits);
}

/* One id's logit by the definition. */
static float penalized(const struct logits_rules *r, int32_t id, const int32_t *ids, uint32_t n_prompt,
	uint32_t n)
{
	double x = logits[id];
	uint32_t prompt = 0, generated = 0;

	for (uint32_t i = 0; i < n; i++) {
		prompt += i < n_prompt && ids[i] == id;
		generated += i >= n_prompt && ids[i] == id;
	}
	if (prompt + generated)
		x = (float)(x > 0 ? x / r->repetition_penalty : x * r->repetition_penalty);
	if (generated)
		x = x - r->frequency_penalty * generated - r->presence_penalty;
	return (float)x;
}

static void test_penalties(void **state)
{
	static const double cases[][3] = { { 1.3, 0, 0 }, { 1, 0.5, 0 }, { 1, 0, 0.7 }, { 0.8, -1.5, 2 } };
	int32_t ids[200];

	for (int round = 0; round < 50; round++) {
		const double *c = cases[round % 4];
		struct logits_rules r = { .repetition_penalty = c[0], .frequency_penalty = c[1],
			.presence_penalty = c[2] };
		uint32_t n = (uint32_t)(rand() % 200), n_prompt = n ? (uint32_t)rand() % (n + 1) : 0;
		const float *row;

		for (uint32_t i = 0; i < n; i++)
			ids[i] = rand() % (VOCAB / 2);
		row = logits_apply(work, &r, NULL, logits, VOCAB, ids, n_prompt, n);
		for (int32_t id = 0; id < VOCAB; id++)
			assert_true(row[id] == penalized(&r, id, ids, n_prompt, n));
	}
}

static void test_ids(void **state)
{
	const int32_t ids[] = { 9, 8, 7, 5, 6 }, stop[] = { 3, 4 }, allowed[] = { 3, 5, 6, 8 };
	const struct logit_bias bias[] = { { 8, 50 }, { 6, -50 } };
	struct logits_rules r = logits_rules_none();
	const float *row;

	r.allowed = allowed;
	r.n_allowed = 4;
	r.bias = bias;
	r.n_bias = 2;
	r.stop_ids = stop;
	r.n_stop_ids = 2;
	r.min_tokens = 3;
	row = logits_apply(work, &r, NULL, logits, VOCAB, ids, 3, 5);
	for (int32_t id = 0; id < VOCAB; id++) {
		if (id == 5)
			assert_true(row[id] == logits[id]);
		else if (id == 6 || id == 8)
			assert_true(row[id] == logits[id] + (id == 8 ? 50 : -50));
		else /* 3 is allowed, but ends too early */
			assert_true(isinf(row[id]) && row[id] < 0);
	}
	row = logits_apply(work, &r, NULL, logits, VOCAB, ids, 2, 5);
	assert_true(row[3] == logits[3]);
}

/* Bad words: the tail must be generated, not prompt; one token is forbidden everywhere. */
static void test_bad_words(void **state)
{
	const int32_t ids[] = { 1, 2, 3, 4 }, words[] = { 3, 4, 20, 2, 3, 4, 21, 4, 22, 23, 5, 24 };
	const uint32_t lengths[] = { 3, 4, 2, 1, 2 };
	struct logits_rules r = logits_rules_none();
	const float *row;

	r.bad_ids = words;
	r.bad_lengths = lengths;
	r.n_bad = 5;
	row = logits_apply(work, &r, NULL, logits, VOCAB, ids, 2, 4);
	for (int32_t id = 20; id < 25; id++)
		assert_int_equal(isinf(row[id]) != 0, id == 20 || id == 22 || id == 23);
}

static void test_check(void **state)
{
	const int32_t out[] = { 1, VOCAB };
	const struct logit_bias nan_bias = { 1, NAN };
	const uint32_t none[] = { 0 };
	struct logits_rules bad[] = {
		{ .repetition_penalty = 0 }, { .repetition_penalty = INFINITY },
		{ .repetition_penalty = NAN },
		{ .repetition_penalty = 1, .frequency_penalty = 2.1 },
		{ .repetition_penalty = 1, .presence_penalty = NAN },
		{ .repetition_penalty = 1, .stop_ids = out, .n_stop_ids = 2 },
		{ .repetition_penalty = 1, .allowed = out, .n_allowed = 0 },
		{ .repetition_penalty = 1, .allowed = out, .n_allowed = 2 },
		{ .repetition_penalty = 1, .bias = &nan_bias, .n_bias = 1 },
		{ .repetition_penalty = 1, .bad_ids = out, .bad_lengths = none, .n_bad = 1 },
	};
	struct logits_rules good = logits_rules_none();
	struct error err;

	assert_int_equal(logits_rules_check(&good, VOCAB, &err), OK);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(logits_rules_check(&bad[i], VOCAB, &err), E_INVAL);
}

static void test_logprobs(void **state)
{
	struct logprob own, top[VOCAB];
	float row[VOCAB];
	double sum = 0;

	memcpy(row, logits, sizeof(row));
	row[7] = row[9] = row[11]; /* equals: the lower id first */
	row[13] = -INFINITY;
	row[15] = NAN;
	for (int i = 0; i < VOCAB; i++)
		sum += isnan(row[i]) ? 0 : exp(row[i]);
	assert_int_equal(logits_logprobs(&own, top, VOCAB, row, VOCAB, 9), VOCAB - 1);
	for (uint32_t i = 0; i < VOCAB - 1; i++) {
		assert_int_equal(top[i].rank, i + 1);
		if (i)
			assert_true(row[top[i - 1].id] > row[top[i].id] ||
				    (row[top[i - 1].id] == row[top[i].id] && top[i - 1].id < top[i].id));
		if (isfinite(row[top[i].id]))
			assert_true(fabs(top[i].value - (row[top[i].id] - log(sum))) < 1e-6);
		if (top[i].id == 9)
			assert_int_equal(own.rank, i + 1);
	}
	assert_int_equal(logits_logprobs(&own, top, 3, row, VOCAB, top[0].id), 3);
	assert_int_equal(own.rank, 1);
	assert_int_equal(logits_logprobs(&own, NULL, 0, row, VOCAB, 13), 0);
	assert_true(isinf(own.value));
}

/* Rows of several blocks, with equals and with what is no number. */
static void test_long_rows(void **state)
{
	static const uint32_t lengths[] = { 1, 255, 256, 257, 777, 1024 };
	static float row[1024];
	struct logprob own, top[20];

	for (size_t l = 0; l < sizeof(lengths) / sizeof(*lengths); l++) {
		uint32_t n = lengths[l], n_numbers = 0, len;
		double sum = 0;

		for (uint32_t i = 0; i < n; i++) {
			row[i] = i % 17 == 5 ? NAN : i % 19 == 7 ? -INFINITY : (float)(rand() % 300 - 150) / 10;
			n_numbers += !isnan(row[i]);
			sum += isnan(row[i]) ? 0 : exp((double)row[i]);
		}
		for (uint32_t id = 0; id < n; id += 1 + n / 50) {
			uint32_t rank = 1;

			if (isnan(row[id]))
				continue;
			for (uint32_t i = 0; i < n; i++)
				rank += row[i] > row[id] || (row[i] == row[id] && i < id);
			len = logits_logprobs(&own, top, 20, row, n, (int32_t)id);
			assert_int_equal(len, n_numbers < 20 ? n_numbers : 20);
			assert_int_equal(own.rank, rank);
			assert_true(isinf(row[id]) ? own.value == -INFINITY :
				fabs(own.value - ((double)row[id] - log(sum))) < 1e-6);
			if (rank <= len) {
				assert_int_equal(top[rank - 1].id, id);
				assert_true(top[rank - 1].value == own.value);
			}
		}
	}
}

/* Reasoning is closed when its budget is spent, unless it was left before. */
static void test_thinking_budget(void **state)
{
	const int32_t ids[] = { 3, 7, 1, 2, 4, 5 }; /* 7 in the prompt is another turn's */
	const struct {
		uint32_t n_generated, budget;
		int32_t leave;
		bool closes;
	} cases[] = {
		{ 0, 0, -1, true }, { 1, 0, -1, false }, { 2, 3, -1, false }, { 3, 3, -1, true }, { 4, 3, -1, false },
		{ 3, 3, 1, false }, { 3, 3, 4, false }, { 3, 3, 5, true },
	};
	struct logits_work *w;
	struct error err;
	float row[VOCAB];

	assert_int_equal(logits_work_create(&w, VOCAB, &err), OK);
	for (uint32_t i = 0; i < VOCAB; i++)
		row[i] = (float)i;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct logits_rules r = logits_rules_none();
		const float *got;

		r.thinking_limited = true;
		r.thinking_budget = cases[i].budget;
		r.thinking_end = 7;
		r.thinking_leaves[0] = cases[i].leave;
		r.thinking_leaves[1] = -1;
		assert_int_equal(logits_rules_check(&r, VOCAB, &err), OK);
		got = logits_apply(w, &r, NULL, row, VOCAB, ids, 2, 2 + cases[i].n_generated);
		for (int32_t k = 0; k < VOCAB; k++) {
			if (!cases[i].closes)
				assert_true(got[k] == row[k]);
			else
				assert_true(k == 7 ? isfinite(got[k]) : got[k] == -INFINITY);
		}
		r.thinking_limited = false;
		r.thinking_only = true;
		r.stop_ids = (const int32_t[]){ 9 };
		r.n_stop_ids = 1;
		got = logits_apply(w, &r, NULL, row, VOCAB, ids, 2, 2 + cases[i].n_generated);
		for (int32_t k = 0; k < VOCAB; k++)
			assert_true(k == 9 || k == cases[i].leave ? got[k] == -INFINITY : got[k] == row[k]);
		r.thinking_limited = true;
		r.thinking_end = -1;
		assert_int_equal(logits_rules_check(&r, VOCAB, &err), E_INVAL);
	}
	logits_work_destroy(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_thinking_budget),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_penalties),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_bad_words),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_logprobs),
		cmocka_unit_test(test_long_rows),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
