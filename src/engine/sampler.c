/*
 * One token from one row of logits (engine/sampler.h).
 *
 * A row is long (129 280 logits in DeepSeek-V3.1) and the passes over it are all that a token costs here. Those that
 * every draw needs have no branches, so that the compiler makes vectors of them. Without a filter the draw looks for the
 * block of ids that it falls in, then for the id. With one the candidates are found without sorting the vocabulary: a
 * histogram over the distance from the best logit tells which buckets top-k or top-p can reach, and only those are
 * gathered and sorted.
 *
 * Sums are added in a fixed order, so a seed gives the same token on every run. Nothing is allocated after create.
 */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/random.h"

#define GREEDY_BELOW 1e-5    /* vLLM: a temperature under this is greedy */
#define LOWEST_TEMPERATURE 0.01 /* vLLM: raises what lies between */
#define N_BUCKETS 512
#define BUCKETS_PER_NAT 8.0f
#define EXPONENT 0x7f800000 /* of a float; all ones: not finite */
#define LANES 8    /* independent partial results of a pass */
#define BLOCK 256u /* ids whose masses have one sum */

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
	s->block_mass = mem_try_alloc(vocab / BLOCK + 1, sizeof(*s->block_mass));
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

/* An integer in the order of the finite floats; the lowest of all where x is not finite. */
static int32_t order_of(float x)
{
	int32_t bits, wild;

	memcpy(&bits, &x, sizeof(bits));
	wild = -((bits & EXPONENT) == EXPONENT);
	return ((bits ^ (bits >> 31 & INT32_MAX)) & ~wild) | (INT32_MIN & wild);
}

static int32_t largest_order(const float *logits, uint32_t n)
{
	int32_t best = INT32_MIN;

	for (uint32_t i = 0; i < n; i++) {
		int32_t order = order_of(logits[i]);

		best = order > best ? order : best;
	}
	return best;
}

static uint32_t block_len(uint32_t at, uint32_t n)
{
	return n - at < BLOCK ? n - at : BLOCK;
}

/* Largest finite logit's lowest index, or -1. */
static int32_t best_finite(const float *logits, uint32_t n)
{
	int32_t best = INT32_MIN;
	uint32_t i = 0;

	for (uint32_t at = 0; at < n; at += BLOCK) {
		int32_t order = largest_order(logits + at, block_len(at, n));

		if (order > best) {
			best = order;
			i = at;
		}
	}
	if (best == INT32_MIN)
		return -1;
	while (order_of(logits[i]) != best)
		i++;
	return (int32_t)i;
}

/* 2^x for x from -126 to 0, with a relative error under 3e-7; 0 for all others and for what is not a number. The fraction
 * goes to a polynomial, whose terms are those of the exponential series, ln(2)^k / k!; the integer into the exponent. */
static float exp2_fast(float x)
{
	const float to_int = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded to an integer */
	float shifted = x + to_int, f = x - (shifted - to_int), scale, p;
	uint32_t bits, inside = -(uint32_t)((x >= -126) & (x <= 0));

	memcpy(&bits, &shifted, sizeof(bits));
	bits = (bits + 127) << 23;
	memcpy(&scale, &bits, sizeof(scale));
	p = 1.5403530e-4f;
	p = p * f + 1.3333558e-3f;
	p = p * f + 9.6181291e-3f;
	p = p * f + 5.5504109e-2f;
	p = p * f + 2.4022651e-1f;
	p = p * f + 6.9314718e-1f;
	p = (p * f + 1.0f) * scale;
	memcpy(&bits, &p, sizeof(bits));
	bits &= inside;
	memcpy(&p, &bits, sizeof(p));
	return p;
}

static void masses(float *restrict mass, const float *restrict logits, uint32_t n, float best, float scale)
{
	for (uint32_t i = 0; i < n; i++)
		mass[i] = exp2_fast((logits[i] - best) * scale);
}

static double sum_of(const float *mass, uint32_t n)
{
	float lane[LANES] = { 0 };
	double sum = 0;
	uint32_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		for (uint32_t j = 0; j < LANES; j++)
			lane[j] += mass[i + j];
	}
	for (; i < n; i++)
		lane[0] += mass[i];
	for (uint32_t j = 0; j < LANES; j++)
		sum += (double)lane[j];
	return sum;
}

/* Fills mass[], and their sums by blocks; returns the sum of all. */
static double fill(struct sampler *s, const float *logits, uint32_t n, float best, double temperature)
{
	float scale = (float)(1.4426950408889634 / temperature);
	double total = 0;

	for (uint32_t at = 0; at < n; at += BLOCK) {
		uint32_t len = block_len(at, n);

		masses(s->mass + at, logits + at, len, best, scale);
		s->block_mass[at / BLOCK] = sum_of(s->mass + at, len);
		total += s->block_mass[at / BLOCK];
	}
	return total;
}

/* The first id whose running sum of masses exceeds `at`; the last that has one, where rounding leaves none. */
static int32_t draw_all(const struct sampler *s, uint32_t n, double at)
{
	uint32_t first = 0, end;
	int32_t id = -1;

	for (uint32_t i = 0; i < n; i += BLOCK) {
		if (s->block_mass[i / BLOCK] == 0)
			continue;
		first = i;
		if (at < s->block_mass[i / BLOCK])
			break;
		at -= s->block_mass[i / BLOCK];
	}
	end = first + block_len(first, n);
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

/* The first bucket at which the limit that applies is surely reached. */
static uint32_t last_bucket(const struct sampler *s, const struct sampling_params *p, uint32_t k, uint32_t len, double all)
{
	uint32_t count = 0;
	double mass = 0;

	for (uint32_t b = 0; b < N_BUCKETS - 1; b++) {
		count += s->bucket_count[b];
		mass += s->bucket_mass[b];
		if (k < len ? count >= k : mass > p->top_p * all * (1 + 1e-9))
			return b;
		if (p->min_p > 0 && exp(-(b + 1.0) / (double)BUCKETS_PER_NAT) < p->min_p * (1 - 1e-6))
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
	int32_t best = best_finite(logits, n);
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
