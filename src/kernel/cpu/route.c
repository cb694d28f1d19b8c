/*
 * Choice of experts (kernel/kernel.h, kernel_route; spec: model, section 3.5). One row is one
 * thread's work; all comparisons break ties towards the lower index.
 */
#include <math.h>

#include "kernel/cpu/device.h"

#define ROUTE_MAX_EXPERTS 1024u
#define ROUTE_MAX_GROUPS 256u

struct route_job {
	struct kernel *kn;
	const struct route_args *a;
};

/* One row's scores on the way. */
struct route_row {
	float score[ROUTE_MAX_EXPERTS];  /* gates come from these */
	float choice[ROUTE_MAX_EXPERTS]; /* with bias: only to choose */
	float group[ROUTE_MAX_GROUPS];
	bool expert_chosen[ROUTE_MAX_EXPERTS];
	bool group_kept[ROUTE_MAX_GROUPS];
};

static void route_scores(const struct route_job *job, const float *logits, struct route_row *r)
{
	const struct route_args *a = job->a;

	if (a->score == ROUTE_SIGMOID) {
		job->kn->row->sigmoid(r->score, logits, a->experts);
	} else {
		float max = logits[0], sum = 0;

		for (uint32_t i = 1; i < a->experts; i++)
			max = logits[i] > max ? logits[i] : max;
		job->kn->row->exp_minus(r->score, logits, max, a->experts);
		for (uint32_t i = 0; i < a->experts; i++)
			sum += r->score[i];
		for (uint32_t i = 0; i < a->experts; i++)
			r->score[i] /= sum;
	}
	for (uint32_t i = 0; i < a->experts; i++)
		r->choice[i] = a->bias ? r->score[i] + a->bias[i] : r->score[i];
}

/* Marks the `keep` largest of n values among those allowed (NULL: all); ties go to the lower index.
 * Returns the smallest kept minus the largest refused, or infinity when nothing is refused. */
static float route_top(bool *kept, const float *v, uint32_t n, uint32_t keep, const bool *allowed,
	uint32_t per_allowed)
{
	float last = INFINITY, refused = -INFINITY;

	memset(kept, 0, n);
	for (uint32_t k = 0; k <= keep; k++) {
		uint32_t best = n;

		for (uint32_t i = 0; i < n; i++)
			if (!kept[i] && (!allowed || allowed[i / per_allowed]) &&
				(best == n || v[i] > v[best]))
				best = i;
		if (best == n)
			return INFINITY;
		if (k == keep) {
			refused = v[best];
		} else {
			kept[best] = true;
			last = v[best];
		}
	}
	return last - refused;
}

static void route_group_scores(const struct route_args *a, struct route_row *r)
{
	uint32_t per = a->experts / a->groups;

	for (uint32_t g = 0; g < a->groups; g++) {
		float first = -INFINITY, second = -INFINITY;

		for (uint32_t i = g * per; i < (g + 1) * per; i++) {
			float c = r->choice[i];

			if (c > first) {
				second = first;
				first = c;
			} else if (c > second) {
				second = c;
			}
		}
		r->group[g] = a->group == ROUTE_GROUP_TOP2_SUM ? first + second : first;
	}
}

/* Puts the caller's choice in place of the row's own; whether they are the same. */
static bool route_give(const struct route_args *a, const int32_t *ids, struct route_row *r)
{
	bool same = true;

	for (uint32_t i = 0; i < a->top_k; i++) {
		BUG_ON(ids[i] < 0 || (uint32_t)ids[i] >= a->experts || (i > 0 && ids[i] <= ids[i - 1]));
		same = same && r->expert_chosen[ids[i]];
	}
	memset(r->expert_chosen, 0, a->experts);
	for (uint32_t i = 0; i < a->top_k; i++)
		r->expert_chosen[ids[i]] = true;
	return same;
}

static void route_one(const struct route_job *job, uint32_t row, struct route_row *r)
{
	const struct route_args *a = job->a;
	int32_t *ids = a->ids + (size_t)row * a->top_k;
	float *gates = a->gates + (size_t)row * a->top_k;
	float margin = INFINITY, sum = 0, m;
	bool limited = a->group != ROUTE_GROUP_NONE && a->top_groups < a->groups;
	uint32_t n = 0;

	route_scores(job, a->logits + (size_t)row * a->experts, r);
	if (limited) {
		route_group_scores(a, r);
		margin = route_top(r->group_kept, r->group, a->groups, a->top_groups, NULL, 1);
	}
	m = route_top(r->expert_chosen, r->choice, a->experts, a->top_k,
		limited ? r->group_kept : NULL, limited ? a->experts / a->groups : 1);
	margin = m < margin ? m : margin;
	if (a->given && ids[0] >= 0 && !route_give(a, ids, r))
		margin = -margin;
	for (uint32_t i = 0; i < a->experts; i++)
		if (r->expert_chosen[i]) {
			ids[n] = (int32_t)i;
			gates[n++] = r->score[i];
			sum += r->score[i];
		}
	for (uint32_t i = 0; i < a->top_k; i++)
		gates[i] = (a->renormalize ? gates[i] / (sum + 1e-20f) : gates[i]) * a->scaling;
	if (a->margin)
		a->margin[row] = margin;
}

static void route_thread(void *arg, int thread, int n_threads)
{
	const struct route_job *job = arg;
	struct route_row r;
	size_t begin, end;

	cpu_split(job->a->rows, thread, n_threads, &begin, &end);
	for (size_t i = begin; i < end; i++)
		route_one(job, (uint32_t)i, &r);
}

void kernel_route(struct kernel *kn, const struct route_args *a)
{
	OP_SCOPE(kn, KERNEL_OP_ROUTE, a, 1);
	struct route_job job = {kn, a};
	uint32_t reachable = a->experts;

	BUG_ON(a->experts == 0 || a->experts > ROUTE_MAX_EXPERTS || a->top_k == 0);
	if (a->group != ROUTE_GROUP_NONE) {
		BUG_ON(a->groups == 0 || a->groups > ROUTE_MAX_GROUPS || a->experts % a->groups);
		BUG_ON(a->top_groups == 0 || a->top_groups > a->groups);
		BUG_ON(a->group == ROUTE_GROUP_TOP2_SUM && a->experts / a->groups < 2);
		reachable = a->experts / a->groups * a->top_groups;
	}
	BUG_ON(a->top_k > reachable);
	kernel_parallel(kn, route_thread, &job);
}
