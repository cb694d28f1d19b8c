/* The sampler against a plain sort-everything definition, and against its own promises. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cm.h"

#include "base/random.h"
#include "engine/sampler.h"

#define VOCAB 4000

static float logits[VOCAB];

static void fill_random(uint32_t n, double spread, unsigned seed)
{
	srand(seed);
	for (uint32_t i = 0; i < n; i++) {
		double u = ((double)rand() + 1) / ((double)RAND_MAX + 2);

		logits[i] = (float)(-spread * log(-log(u)));
	}
}

static struct sampler *make(void)
{
	struct sampler *s;
	struct error err;

	assert_int_equal(sampler_create(&s, VOCAB, &err), OK);
	return s;
}

static int by_logit(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

	if (logits[x] != logits[y])
		return logits[x] > logits[y] ? -1 : 1;
	return x - y;
}

/* The set that may be chosen, by the definition: sort all, cut by k, by p of the rest, by min-p. */
static void allowed_set(const struct sampling_params *p, uint32_t n, uint8_t *allowed)
{
	static int32_t order[VOCAB];
	uint32_t k = p->top_k > 0 && (uint32_t)p->top_k < n ? (uint32_t)p->top_k : n;
	double total = 0, sum = 0, best;

	for (uint32_t i = 0; i < n; i++)
		order[i] = (int32_t)i;
	qsort(order, n, sizeof(*order), by_logit);
	best = logits[order[0]];
	memset(allowed, 0, n);
	for (uint32_t i = 0; i < k; i++)
		total += exp((logits[order[i]] - best) / p->temperature);
	for (uint32_t i = 0; i < k; i++) {
		double mass = exp((logits[order[i]] - best) / p->temperature);

		if (i && (sum >= p->top_p * total || mass < p->min_p))
			break;
		allowed[order[i]] = 1;
		sum += mass;
	}
}

static void test_argmax(void **state)
{
	const float a[] = { 1, 5, 5, 2 }, b[] = { NAN, -INFINITY, -3 }, c[] = { NAN, NAN };

	assert_int_equal(sampler_argmax(a, 4), 1);
	assert_int_equal(sampler_argmax(b, 3), 2);
	assert_int_equal(sampler_argmax(b, 2), 1);
	assert_int_equal(sampler_argmax(c, 2), -1);
}

static void test_greedy_and_bad_rows(void **state)
{
	struct sampler *s = make();
	struct sampling_params p = sampling_params_greedy(), hot = { .temperature = 1, .top_p = 1 };
	float bad[8];

	fill_random(VOCAB, 1, 1);
	assert_int_equal(sampler_choose(s, &p, logits, VOCAB, 0), sampler_argmax(logits, VOCAB));
	assert_int_equal(sampler_choose(s, &p, logits, 10, 0), sampler_argmax(logits, 10));
	for (int i = 0; i < 8; i++)
		bad[i] = i & 1 ? NAN : -INFINITY;
	assert_int_equal(sampler_choose(s, &p, bad, 8, 0), -1);
	assert_int_equal(sampler_choose(s, &hot, bad, 8, 0), -1);
	bad[5] = -1e30f;
	for (int i = 0; i < 20; i++)
		assert_int_equal(sampler_choose(s, &hot, bad, 8, (uint64_t)i), 5);
	sampler_destroy(s);
}

/* Every draw lies in the defined set, and the draws reach every frequent member of it. */
static void test_filters(void **state)
{
	static const struct sampling_params cases[] = {
		{ 1.0, 1.0, 0, 1, 1 },    { 1.0, 1.0, 0, 7, 2 },     { 0.7, 0.9, 0, 0, 3 },
		{ 1.5, 0.95, 0, -1, 4 },  { 1.0, 1.0, 0.05, 0, 5 },  { 2.0, 0.5, 0.01, 50, 6 },
		{ 0.01, 0.99, 0, 0, 7 },  { 1.0, 1e-9, 0, 0, 8 },    { 1.0, 1.0, 1.0, 0, 9 },
		{ 0.6, 0.95, 0.2, 5, 10 }, { 2.0, 0.9999, 0, 3999, 11 }, { 1.0, 0.3, 0, 4000, 12 },
	};
	static uint8_t allowed[VOCAB], seen[VOCAB];
	struct sampler *s = make();

	for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
		for (unsigned seed = 0; seed < 3; seed++) {
			double total = 0, best;

			fill_random(VOCAB, seed ? 1.5 : 0.2, seed);
			allowed_set(&cases[c], VOCAB, allowed);
			memset(seen, 0, sizeof(seen));
			for (uint64_t i = 0; i < 400; i++) {
				int32_t id = sampler_choose(s, &cases[c], logits, VOCAB, i);

				assert_in_range(id, 0, VOCAB - 1);
				assert_true(allowed[id]);
				seen[id] = 1;
			}
			best = logits[sampler_argmax(logits, VOCAB)];
			for (uint32_t i = 0; i < VOCAB; i++)
				total += allowed[i] ? exp((logits[i] - best) / cases[c].temperature) : 0;
			for (uint32_t i = 0; i < VOCAB; i++) {
				double mass = exp((logits[i] - best) / cases[c].temperature);

				if (allowed[i] && mass / total > 0.1)
					assert_true(seen[i]);
			}
		}
	}
	sampler_destroy(s);
}

/* Of ten ids top-p leaves all, as its share is of what top-k leaves, and not of what min-p would. */
static void test_all_filters(void **state)
{
	struct sampling_params p = { 1.0, 0.5, 0.5, 60, 3 };
	struct sampler *s = make();
	unsigned seen = 0;

	for (uint32_t i = 0; i < 110; i++)
		logits[i] = i < 10 ? 2 : 1;
	for (uint64_t at = 0; at < 400; at++) {
		int32_t id = sampler_choose(s, &p, logits, 110, at);

		assert_in_range(id, 0, 9);
		seen |= 1u << id;
	}
	assert_int_equal(seen, 0x3FF);
	sampler_destroy(s);
}

/* Without a filter: the id in whose share of the running sum of masses the draw falls. Rows of many lengths, with
 * logits that are not numbers or not finite and may not be chosen. */
static void test_inverse_of_sum(void **state)
{
	static const uint32_t lengths[] = { 1, 7, 8, 255, 256, 257, 1000, 3999, VOCAB };
	struct sampler *s = make();
	struct sampling_params p = { 0.9, 1.0, 0, 0, 5 };

	for (size_t l = 0; l < sizeof(lengths) / sizeof(*lengths); l++) {
		uint32_t n = lengths[l];
		double total = 0;

		fill_random(n, 1.5, (unsigned)n);
		for (uint32_t i = 3; i < n; i += 11)
			logits[i] = i % 3 ? -INFINITY : i % 2 ? NAN : INFINITY;
		for (uint32_t i = 0; i < n; i++)
			total += isfinite(logits[i]) ? exp((double)logits[i] / p.temperature) : 0;
		for (uint64_t at = 0; at < 300; at++) {
			int32_t id = sampler_choose(s, &p, logits, n, at);
			double u = random_unit(p.seed, at), sum = 0;

			assert_in_range(id, 0, n - 1);
			assert_true(isfinite(logits[id]));
			for (int32_t i = 0; i < id; i++)
				sum += isfinite(logits[i]) ? exp((double)logits[i] / p.temperature) : 0;
			assert_true(sum / total <= u + 1e-6);
			sum += exp((double)logits[id] / p.temperature);
			assert_true(sum / total >= u - 1e-6);
		}
	}
	sampler_destroy(s);
}

/* Equal logits at the edge of top-k: the lower ids stay. */
static void test_ties(void **state)
{
	struct sampler *s = make();
	struct sampling_params p = { 1.0, 1.0, 0, 3, 1 };
	int seen[8] = { 0 };

	for (int i = 0; i < 8; i++)
		logits[i] = 2.5f;
	for (uint64_t i = 0; i < 300; i++) {
		int32_t id = sampler_choose(s, &p, logits, 8, i);

		assert_in_range(id, 0, 7);
		seen[id]++;
	}
	for (int i = 0; i < 8; i++)
		assert_int_equal(seen[i] > 0, i < 3);
	sampler_destroy(s);
}

/* Frequencies over positions follow the tempered softmax: chi-squared, 7 degrees of freedom. */
static void test_frequencies(void **state)
{
	struct sampler *s = make();
	struct sampling_params p = { 0.8, 1.0, 0, 0, 42 };
	const double draws = 40000;
	double count[8] = { 0 }, total = 0, chi = 0;

	for (int i = 0; i < 8; i++) {
		logits[i] = 0.3f * (float)i;
		total += exp(logits[i] / 0.8);
	}
	for (uint64_t i = 0; i < (uint64_t)draws; i++)
		count[sampler_choose(s, &p, logits, 8, i)]++;
	for (int i = 0; i < 8; i++) {
		double want = draws * exp(logits[i] / 0.8) / total;

		chi += (count[i] - want) * (count[i] - want) / want;
	}
	assert_true(chi < 24.3); /* 0.1 % */
	sampler_destroy(s);
}

/* The same seed and position give the same token; another seed or position usually another. */
static void test_seed(void **state)
{
	struct sampler *a = make(), *b = make();
	struct sampling_params p = { 1.0, 1.0, 0, 0, 7 }, q = p;
	int same_seed = 0, same_position = 0;

	q.seed = 8;
	fill_random(VOCAB, 0.5, 3);
	for (uint64_t i = 0; i < 200; i++) {
		int32_t id = sampler_choose(a, &p, logits, VOCAB, i);

		same_seed += id == sampler_choose(a, &q, logits, VOCAB, i);
		same_position += id == sampler_choose(a, &p, logits, VOCAB, i + 1);
		assert_int_equal(id, sampler_choose(b, &p, logits, VOCAB, i));
	}
	assert_true(same_seed < 20);
	assert_true(same_position < 20);
	sampler_destroy(a);
	sampler_destroy(b);
}

static void test_check(void **state)
{
	struct sampling_params p = { 1.0, 1.0, 0, 0, 0 };
	struct error err;

	assert_int_equal(sampling_params_check(&p, &err), OK);
	p.temperature = NAN;
	assert_int_equal(sampling_params_check(&p, &err), E_INVAL);
	assert_non_null(strstr(err.msg, "temperature"));
	p.temperature = 2.01;
	assert_int_equal(sampling_params_check(&p, &err), E_INVAL);
	p.temperature = 1;
	p.top_p = 0;
	assert_int_equal(sampling_params_check(&p, &err), E_INVAL);
	assert_non_null(strstr(err.msg, "top_p"));
	p.top_p = 1;
	p.min_p = 1.5;
	assert_int_equal(sampling_params_check(&p, &err), E_INVAL);
	assert_non_null(strstr(err.msg, "min_p"));
	p.min_p = 0;
	p.top_k = -2;
	assert_int_equal(sampling_params_check(&p, &err), E_INVAL);
	assert_non_null(strstr(err.msg, "top_k"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_argmax),      cmocka_unit_test(test_greedy_and_bad_rows),
		cmocka_unit_test(test_filters),     cmocka_unit_test(test_ties),
		cmocka_unit_test(test_all_filters),
		cmocka_unit_test(test_inverse_of_sum),
		cmocka_unit_test(test_frequencies), cmocka_unit_test(test_seed),
		cmocka_unit_test(test_check),
	};

	return cmocka_run_group_tests_name("engine_sampler", tests, NULL, NULL);
}
