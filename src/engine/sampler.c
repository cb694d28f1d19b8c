/*
 * One token from one row of logits (engine/sampler.h).
 *
 * The candidates are found without sorting the vocabulary: a histogram over the distance from the
 * best logit tells which buckets top-k or top-p can reach, and only those are gathered and sorted.
 * Sums are doubles added in a fixed order, so a seed gives the same token on every run.
 *
 * Called by engine/generate.c, once per generated token. Nothing is allocated after create.
 */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/random.h"

#define GREEDY_BELOW 1e-5    /* vLLM: a temperature under this is greedy */
#define LOWEST_TEMPERATURE 0.01 /* vLLM: raises what lies between */
#define N_BUCKETS 512
#define BUCKETS_PER_NAT 8.0

struct candidate {
	double mass; /* exp((logit - best) / temperature) */
	int32_t id;
};

struct sampler {
	uint32_t vocab;
	struct candidate *list; /* [vocab] */
	double mass[N_BUCKETS];
	uint32_t count[N_BUCKETS];
};

struct sampling_params sampling_params_greedy(void)
{
	return (struct sampling_params){ .temperature = 0, .top_p = 1 };
}

enum status sampling_params_check(const struct sampling_params *p, struct error *err)
{
	if (!(p->temperature >= 0 && p->temperature <= 2))
		return error_set(err, E_INVAL, "temperature: found %g, expected 0 to 2", p->temperature);
	if (!(p->top_p > 0 && p->top_p <= 1))
		return error_set(err, E_INVAL, "top_p: found %g, expected above 0 and at most 1",
			p->top_p);
	if (!(p->min_p >= 0 && p->min_p <= 1))
		return error_set(err, E_INVAL, "min_p: found %g, expected 0 to 1", p->min_p);
	if (p->top_k < -1)
		return error_set(err, E_INVAL, "top_k: found %d, expected 0 or -1 (off) or at least 1",
			p->top_k);
	return OK;
}

enum status sampler_create(struct sampler **out, uint32_t vocab, struct error *err)
{
	struct sampler *s = mem_alloc(sizeof(*s));

	s->vocab = vocab;
	s->list = mem_try_alloc(vocab, sizeof(*s->list));
	if (!s->list) {
		free(s);
		return error_set(err, E_NOMEM, "sampler: no memory for a vocabulary of %u", vocab);
	}
	*out = s;
	return OK;
}

void sampler_destroy(struct sampler *s)
{
	if (!s)
		return;
	free(s->list);
	free(s);
}

int32_t sampler_argmax(const float *logits, uint32_t n)
{
	int32_t best = -1;

	for (uint32_t i = 0; i < n; i++) {
		if (!isnan(logits[i]) && (best < 0 || logits[i] > logits[best]))
			best = (int32_t)i;
	}
	return best;
}

/* Largest finite logit's index, or -1. */
static int32_t best_finite(const float *logits, uint32_t n)
{
	int32_t best = -1;

	for (uint32_t i = 0; i < n; i++) {
		if (isfinite(logits[i]) && (best < 0 || logits[i] > logits[best]))
			best = (int32_t)i;
	}
	return best;
}

static uint32_t bucket_of(double distance)
{
	double b = distance * BUCKETS_PER_NAT;

	return b < N_BUCKETS - 1 ? (uint32_t)b : N_BUCKETS - 1;
}

/* Heaviest first; the lower id among equals. */
static int candidate_cmp(const void *pa, const void *pb)
{
	const struct candidate *a = pa, *b = pb;

	if (a->mass != b->mass)
		return a->mass > b->mass ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

/* Draws from list[0 .. n) with the given total: the first whose running sum exceeds u * total. */
static int32_t draw(const struct candidate *list, uint32_t n, double total, double u)
{
	double at = u * total, sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		sum += list[i].mass;
		if (sum > at)
			return list[i].id;
	}
	return list[n - 1].id;
}

/* Fills the list with every finite logit in id order and the histogram; returns how many. */
static uint32_t fill(struct sampler *s, const float *logits, uint32_t n, double best,
	double inverse_temperature)
{
	uint32_t len = 0;

	for (uint32_t b = 0; b < N_BUCKETS; b++) {
		s->mass[b] = 0;
		s->count[b] = 0;
	}
	for (uint32_t i = 0; i < n; i++) {
		double distance, mass;
		uint32_t b;

		if (!isfinite(logits[i]))
			continue;
		distance = (best - (double)logits[i]) * inverse_temperature;
		mass = exp(-distance);
		b = bucket_of(distance);
		s->mass[b] += mass;
		s->count[b]++;
		s->list[len++] = (struct candidate){ mass, (int32_t)i };
	}
	return len;
}

/*
 * Keeps the candidates that top-k, top-p and min-p leave, heaviest first; returns how many (>= 1).
 * top-p is measured on what top-k left, min-p against the heaviest.
 */
static uint32_t filter(struct sampler *s, const struct sampling_params *p, uint32_t len,
	double all_mass)
{
	uint32_t k = p->top_k > 0 && (uint32_t)p->top_k < len ? (uint32_t)p->top_k : len;
	uint32_t last = 0, count = 0, kept = 0;
	double mass = 0, total = 0, sum = 0;

	/* The first bucket at which the limit that applies is surely reached. */
	for (; last < N_BUCKETS - 1; last++) {
		count += s->count[last];
		mass += s->mass[last];
		if (k < len ? count >= k : mass > p->top_p * all_mass * (1 + 1e-9))
			break;
		if (p->min_p > 0 && exp(-((double)last + 1) / BUCKETS_PER_NAT) < p->min_p * (1 - 1e-9))
			break;
	}
	for (uint32_t i = 0; i < len; i++) {
		double distance = -log(s->list[i].mass);

		/* A rounding at the edge may only add a candidate, never lose one. */
		if (last == N_BUCKETS - 1 || distance * BUCKETS_PER_NAT <= (double)last + 1.001)
			s->list[kept++] = s->list[i];
	}
	qsort(s->list, kept, sizeof(*s->list), candidate_cmp);
	if (kept > k)
		kept = k;
	if (k < len) {
		for (uint32_t i = 0; i < kept; i++)
			total += s->list[i].mass;
	} else {
		total = all_mass;
	}
	for (uint32_t i = 0; i < kept; i++) {
		if (i && (sum >= p->top_p * total || s->list[i].mass < p->min_p * s->list[0].mass))
			return i;
		sum += s->list[i].mass;
	}
	return kept;
}

int32_t sampler_choose(struct sampler *s, const struct sampling_params *p, const float *logits,
	uint32_t n, uint64_t position)
{
	int32_t best = best_finite(logits, n);
	double temperature = p->temperature, total = 0, u;
	uint32_t len;

	BUG_ON(n > s->vocab);
	if (best < 0 || temperature < GREEDY_BELOW)
		return best;
	if (temperature < LOWEST_TEMPERATURE)
		temperature = LOWEST_TEMPERATURE;
	len = fill(s, logits, n, (double)logits[best], 1 / temperature);
	for (uint32_t i = 0; i < len; i++)
		total += s->list[i].mass;
	if (p->top_k > 0 || p->top_p < 1 || p->min_p > 0) {
		len = filter(s, p, len, total);
		total = 0;
		for (uint32_t i = 0; i < len; i++)
			total += s->list[i].mass;
	}
	u = random_unit(p->seed, position);
	return draw(s->list, len, total, u);
}
