/* Choice of experts against the rule written out over sorted lists, in double. */
#include "cm.h"

#include <stdlib.h>

#include "emulate.h"
#include "kernel/kernel.h"
#include "noise.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))
#define MAX_EXPERTS 256

struct route_case {
	uint32_t experts;
	uint32_t top_k;
	uint32_t groups;
	uint32_t top_groups;
	enum route_score score;
	enum route_group group;
	bool renormalize;
	bool bias;
	float scaling;
};

static const struct route_case cases[] = {
	{256, 8, 8, 4, ROUTE_SIGMOID, ROUTE_GROUP_TOP2_SUM, true, true, 2.5f},
	{64, 6, 1, 1, ROUTE_SIGMOID, ROUTE_GROUP_TOP2_SUM, true, true, 2.446f},
	{64, 6, 1, 1, ROUTE_SOFTMAX, ROUTE_GROUP_NONE, false, false, 1.0f},
	{160, 6, 8, 3, ROUTE_SOFTMAX, ROUTE_GROUP_MAX, false, false, 16.0f},
	{16, 4, 4, 2, ROUTE_SIGMOID, ROUTE_GROUP_TOP2_SUM, true, true, 2.5f},
	{8, 8, 4, 4, ROUTE_SOFTMAX, ROUTE_GROUP_MAX, true, false, 1.0f},
};

struct scored {
	double value;
	int index;
};

/* Descending value, ascending index. */
static int by_value(const void *a, const void *b)
{
	const struct scored *x = a, *y = b;

	if (x->value != y->value)
		return x->value < y->value ? 1 : -1;
	return x->index - y->index;
}

/* The rule of one row. chosen: flags; returns the margin. */
static double route_naive(const struct route_case *c, const float *logits, const float *bias,
	double *score, bool *chosen)
{
	struct scored list[MAX_EXPERTS], groups[MAX_EXPERTS];
	double sum = 0, margin = INFINITY;
	uint32_t per = c->experts / c->groups, n = 0, kept = c->groups;
	bool keep[MAX_EXPERTS];

	for (uint32_t i = 0; i < c->experts; i++) {
		score[i] = c->score == ROUTE_SIGMOID ? 1 / (1 + exp(-logits[i])) : exp(logits[i]);
		sum += score[i];
		chosen[i] = false;
	}
	for (uint32_t i = 0; c->score == ROUTE_SOFTMAX && i < c->experts; i++)
		score[i] /= sum;
	for (uint32_t g = 0; g < c->groups; g++) {
		for (uint32_t i = 0; i < per; i++)
			list[i] = (struct scored){score[g * per + i] + (c->bias ? bias[g * per + i] : 0), (int)i};
		qsort(list, per, sizeof(*list), by_value);
		groups[g].index = (int)g;
		groups[g].value = list[0].value;
		if (c->group == ROUTE_GROUP_TOP2_SUM)
			groups[g].value += list[1].value;
		keep[g] = true;
	}
	if (c->group != ROUTE_GROUP_NONE && c->top_groups < c->groups) {
		kept = c->top_groups;
		qsort(groups, c->groups, sizeof(*groups), by_value);
		for (uint32_t g = kept; g < c->groups; g++)
			keep[groups[g].index] = false;
		margin = groups[kept - 1].value - groups[kept].value;
	}
	for (uint32_t i = 0; i < c->experts; i++)
		if (keep[i / per])
			list[n++] = (struct scored){score[i] + (c->bias ? bias[i] : 0), (int)i};
	qsort(list, n, sizeof(*list), by_value);
	for (uint32_t i = 0; i < c->top_k; i++)
		chosen[list[i].index] = true;
	if (n > c->top_k)
		margin = fmin(margin, list[c->top_k - 1].value - list[c->top_k].value);
	return margin;
}

static void check_route(struct kernel *kn, const struct route_case *c)
{
	enum { rows = 40 };
	struct noise s = {c->experts};
	float *logits = guarded_alloc(rows * c->experts * sizeof(*logits));
	float *bias = guarded_alloc(c->experts * sizeof(*bias));
	int32_t *ids = guarded_alloc(rows * c->top_k * sizeof(*ids));
	float *gates = guarded_alloc(rows * c->top_k * sizeof(*gates));
	float *margin = guarded_alloc(rows * sizeof(*margin));
	struct route_args a = {logits, rows, c->experts, c->top_k, c->groups, c->top_groups,
		c->score, c->group, c->renormalize, c->scaling, c->bias ? bias : NULL, ids, gates,
		margin, false};

	for (uint32_t i = 0; i < rows * c->experts; i++)
		logits[i] = noise_f32(&s) * 4;
	for (uint32_t i = 0; i < c->experts; i++)
		bias[i] = noise_f32(&s) * 0.3f - 0.2f; /* some choices are negative */
	for (uint32_t i = 0; i < c->experts; i++)
		logits[i] = c->bias ? logits[i] : 0; /* row 0: all equal, ties to the lower index */
	kernel_route(kn, &a);
	for (uint32_t i = 0; i < rows; i++) {
		double score[MAX_EXPERTS], sum = 0, want_margin;
		bool chosen[MAX_EXPERTS];
		uint32_t n = 0;

		want_margin = route_naive(c, logits + i * c->experts, bias, score, chosen);
		assert_true(want_margin == (double)margin[i] || fabs(margin[i] - want_margin) < 1e-6);
		if (want_margin < 1e-6 && c->bias)
			continue; /* rounding may choose otherwise */
		for (uint32_t e = 0; e < c->experts; e++)
			sum += chosen[e] ? score[e] : 0;
		for (uint32_t e = 0; e < c->experts; e++) {
			double gate = (c->renormalize ? score[e] / (sum + 1e-20) : score[e]) * c->scaling;

			if (!chosen[e])
				continue;
			assert_int_equal(ids[i * c->top_k + n], e);
			assert_true(fabs(gates[i * c->top_k + n] - gate) <= 1e-6 * gate + 1e-9);
			n++;
		}
		assert_int_equal(n, c->top_k);
	}
	guarded_free(logits);
	guarded_free(bias);
	guarded_free(ids);
	guarded_free(gates);
	guarded_free(margin);
}

/*
 * Rows 0, 3, ... are given their own choice, rows 1, 4, ... one with another expert, rows 2, 5, ... none. Own
 * choices give the same bits; another one turns the margin negative and has gates of its own scores.
 */
static void check_given(struct kernel *kn, const struct route_case *c)
{
	enum { rows = 40 };
	struct noise s = {c->experts + 7};
	uint32_t k = c->top_k;
	float *logits = guarded_alloc(rows * c->experts * sizeof(*logits));
	float own_gates[rows * 8], gates[rows * 8], own_margin[rows], margin[rows];
	int32_t own[rows * 8], ids[rows * 8], given[rows * 8];
	struct route_args a = {logits, rows, c->experts, k, c->groups, c->top_groups, c->score, c->group,
		c->renormalize, c->scaling, NULL, own, own_gates, own_margin, false};

	for (uint32_t i = 0; i < rows * c->experts; i++)
		logits[i] = noise_f32(&s) * 4;
	kernel_route(kn, &a);
	memcpy(given, own, sizeof(given));
	for (uint32_t i = 1; i < rows; i += 3) {
		/* The largest id that the row lacks takes the place of the smallest it has. */
		int32_t *row = given + i * k, id = (int32_t)c->experts - 1;
		uint32_t at = k - 1;

		while (at > 0 && row[at] == id) {
			at--;
			id--;
		}
		memmove(row, row + 1, at * sizeof(*row));
		row[at] = id;
	}
	for (uint32_t i = 2; i < rows; i += 3)
		given[i * k] = -1;
	memcpy(ids, given, sizeof(ids));
	a.ids = ids;
	a.gates = gates;
	a.margin = margin;
	a.given = true;
	kernel_route(kn, &a);
	for (uint32_t i = 0; i < rows; i++) {
		const float *x = logits + i * c->experts;
		const int32_t *want = i % 3 == 1 ? given + i * k : own + i * k;
		double score[8], all = 0, sum = 0;

		assert_memory_equal(ids + i * k, want, k * sizeof(*ids));
		if (i % 3 != 1) {
			assert_memory_equal(gates + i * k, own_gates + i * k, k * sizeof(*gates));
			assert_memory_equal(&margin[i], &own_margin[i], sizeof(*margin));
			continue;
		}
		assert_true(margin[i] == -own_margin[i] && margin[i] < 0);
		for (uint32_t e = 0; e < c->experts; e++)
			all += exp(x[e]);
		for (uint32_t j = 0; j < k; j++) {
			score[j] = c->score == ROUTE_SIGMOID ? 1 / (1 + exp(-x[want[j]])) : exp(x[want[j]]) / all;
			sum += score[j];
		}
		for (uint32_t j = 0; j < k; j++) {
			double gate = (c->renormalize ? score[j] / sum : score[j]) * c->scaling;

			assert_true(fabs(gates[i * k + j] - gate) <= 1e-5 * gate + 1e-9);
		}
	}
	guarded_free(logits);
}

static void test_route(void **state)
{
	for (int isa = 0; isa < CPU_ISA_COUNT; isa++)
		for (int threads = 1; threads <= 3; threads++)
			for (size_t i = 0; i < N(cases); i++)
				if (tier_present((enum cpu_isa)isa)) {
					struct kernel_config config = {(enum cpu_isa)isa, threads, false};
					struct kernel *kn;
					struct error err;

					assert_int_equal(kernel_create(&kn, &config, &err), OK);
					check_route(kn, &cases[i]);
					if (cases[i].top_k < cases[i].experts)
						check_given(kn, &cases[i]);
					kernel_destroy(kn);
				}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_route),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
