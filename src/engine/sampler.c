/*
 * One token from one row of logits (engine/sampler.h).
 *
 * Without a filter the draw looks for the block of ids that it falls in, then for the id. With one the candidates are
 * found without sorting the vocabulary: a histogram over the distance from the best logit tells which buckets top-k or
 * top-p can reach, and only those are gathered and sorted.
 *
 * Sums are added in a fixed order, so a seed gives the same token on every run. Nothing is allocated after create.
 */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/random.h"
#include "engine/softmax.h"

#define GREEDY_BELOW 1e-5    /* vLLM: a temperature under this is greedy */
#define LOWEST_TEMPERATURE 0.01 /* vLLM: raises what lies between */
#define N_BUCKETS 512
#define BUCKETS_PER_NAT 8.0f

struct candidate {
	float logit;
	int32_t id;
};

struct sampler {
	uint32_t vocab;
	float *mass;            /* owned [vocab]: exp((logit - best) / temperature), 0 where the logit is not finite */
	double *block_mass;     /* owned [blocks of the vocabulary] */
	struct candidate *list; /* owned [vocab] */
	double bucket_mass[N_BUCKETS];
	uint32_t bucket_count[N_BUCKETS];
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
	s->mass = mem_try_alloc(vocab, sizeof(*s->mass));
	s->block_mass = mem_try_alloc(vocab / SOFTMAX_BLOCK + 1, sizeof(*s->block_mass));
	s->list = mem_try_alloc(vocab, sizeof(*s->list));
	if (!s->mass || !s->block_mass || !s->list) {
		sampler_destroy(s);
		return error_set(err, E_NOMEM, "sampler: no memory for a vocabulary of %u", vocab);
	}
	*out = s;
	return OK;
}

void sampler_destroy(struct sampler *s)
{
	if (!s)
		return;
	free(s->mass);
	free(s->block_mass);
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

/* Fills mass[], and their sums by blocks; returns the sum of all. */
static double fill(struct sampler *s, const float *logits, uint32_t n, float best, double temperature)
{
	double total = 0;

	for (uint32_t at = 0; at < n; at += SOFTMAX_BLOCK) {
		double sum = softmax_masses(s->mass + at, logits + at, softmax_block(at, n), best, temperature);

		s->block_mass[at / SOFTMAX_BLOCK] = sum;
		total += sum;
	}
	return total;
}

/* The first id whose running sum of masses exceeds `at`; the last that has one, where rounding leaves none. */
static int32_t draw_all(const struct sampler *s, uint32_t n, double at)
{
	uint32_t first = 0, end;
	double rest = at;
	int32_t id = -1;

	for (uint32_t i = 0; i < n && rest >= 0; i += SOFTMAX_BLOCK) {
		if (s->block_mass[i / SOFTMAX_BLOCK] == 0)
			continue;
		first = i;
		at = rest;
		rest -= s->block_mass[i / SOFTMAX_BLOCK];
	}
	end = first + softmax_block(first, n);
	for (uint32_t i = first; i < end && (id < 0 || at >= 0); i++) {
		if (s->mass[i] > 0) {
			id = (int32_t)i;
			at -= (double)s->mass[i];
		}
	}
	return id;
}

static uint32_t bucket_of(float distance)
{
	float b = distance * BUCKETS_PER_NAT;

	return b < N_BUCKETS - 1 ? (uint32_t)b : N_BUCKETS - 1;
}

/* Masses and numbers of the finite logits by their distance from the best; returns how many there are. */
static uint32_t count_buckets(struct sampler *s, const float *logits, uint32_t n, float best, float inverse_temperature)
{
	uint32_t len = 0;

	memset(s->bucket_mass, 0, sizeof(s->bucket_mass));
	memset(s->bucket_count, 0, sizeof(s->bucket_count));
	for (uint32_t i = 0; i < n; i++) {
		uint32_t b;

		if (!isfinite(logits[i]))
			continue;
		b = bucket_of((best - logits[i]) * inverse_temperature);
		s->bucket_mass[b] += (double)s->mass[i];
		s->bucket_count[b]++;
		len++;
	}
	return len;
}

/* The first bucket at which the limit that applies is surely reached. min-p is none where top-p needs the mass of all that
 * top-k leaves. */
static uint32_t last_bucket(const struct sampler *s, const struct sampling_params *p, uint32_t k, uint32_t len, double all)
{
	double min_p = k < len && p->top_p < 1 ? 0 : p->min_p;
	uint32_t count = 0;
	double mass = 0;

	for (uint32_t b = 0; b < N_BUCKETS - 1; b++) {
		count += s->bucket_count[b];
		mass += s->bucket_mass[b];
		if (k < len ? count >= k : mass > p->top_p * all * (1 + 1e-9))
			return b;
		if (min_p > 0 && exp(-(b + 1.0) / (double)BUCKETS_PER_NAT) < min_p * (1 - 1e-6))
			return b;
	}
	return N_BUCKETS - 1;
}

/* Largest first; the lower id among equals. */
static int candidate_cmp(const void *pa, const void *pb)
{
	const struct candidate *a = pa, *b = pb;

	if (a->logit != b->logit)
		return a->logit > b->logit ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

/* Gathers and sorts the candidates of buckets 0 to `last`; returns how many. */
static uint32_t gather(struct sampler *s, const float *logits, uint32_t n, float best, float inverse_temperature,
	uint32_t last)
{
	uint32_t len = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (isfinite(logits[i]) && bucket_of((best - logits[i]) * inverse_temperature) <= last)
			s->list[len++] = (struct candidate){ logits[i], (int32_t)i };
	}
	qsort(s->list, len, sizeof(*s->list), candidate_cmp);
	return len;
}

static double mass_of(const struct sampler *s, uint32_t i)
{
	return (double)s->mass[s->list[i].id];
}

static double list_mass(const struct sampler *s, uint32_t len)
{
	double sum = 0;

	for (uint32_t i = 0; i < len; i++)
		sum += mass_of(s, i);
	return sum;
}

/*
 * Lists the candidates that top-k, top-p and min-p leave, heaviest first; returns how many (>= 1).
 * top-p is measured on what top-k left, min-p against the heaviest.
 */
static uint32_t filter(struct sampler *s, const struct sampling_params *p, const float *logits, uint32_t n, float best,
	double temperature)
{
	float inverse = (float)(1 / temperature);
	uint32_t len = count_buckets(s, logits, n, best, inverse), kept;
	uint32_t k = p->top_k > 0 && (uint32_t)p->top_k < len ? (uint32_t)p->top_k : len;
	double all = 0, sum = 0;

	for (uint32_t b = 0; b < N_BUCKETS; b++)
		all += s->bucket_mass[b];
	kept = gather(s, logits, n, best, inverse, last_bucket(s, p, k, len, all));
	if (kept > k)
		kept = k;
	if (k < len)
		all = list_mass(s, kept);
	for (uint32_t i = 0; i < kept; i++) {
		if (i && (sum >= p->top_p * all || mass_of(s, i) < p->min_p * mass_of(s, 0)))
			return i;
		sum += mass_of(s, i);
	}
	return kept;
}

/* The first of the list whose running sum of masses exceeds `at`; the last, where rounding leaves none. */
static int32_t draw_listed(const struct sampler *s, uint32_t len, double at)
{
	uint32_t i = 0;

	for (; i + 1 < len; i++) {
		at -= mass_of(s, i);
		if (at < 0)
			break;
	}
	return s->list[i].id;
}

int32_t sampler_choose(struct sampler *s, const struct sampling_params *p, const float *logits,
	uint32_t n, uint64_t position)
{
	int32_t best = softmax_best(logits, n);
	double temperature = p->temperature, total, u = random_unit(p->seed, position);
	uint32_t len;

	BUG_ON(n > s->vocab);
	if (best < 0 || temperature < GREEDY_BELOW)
		return best;
	if (temperature < LOWEST_TEMPERATURE)
		temperature = LOWEST_TEMPERATURE;
	total = fill(s, logits, n, logits[best], temperature);
	if (p->top_k <= 0 && p->top_p == 1 && p->min_p == 0)
		return draw_all(s, n, u * total);
	len = filter(s, p, logits, n, logits[best], temperature);
	return draw_listed(s, len, u * list_mass(s, len));
}
