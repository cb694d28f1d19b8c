/* Arrival times (load/arrival.h). */
#include "load/arrival.h"

#include <math.h>

#include "base/random.h"

uint64_t load_seed(uint64_t seed, enum load_draw what)
{
	return random_u64(seed, UINT64_MAX - (uint64_t)what);
}

double load_arrival_rate(const struct load_arrival *a, uint32_t i, uint32_t n)
{
	double part = n > 1 ? (double)i / (double)(n - 1) : 0;

	if (a->ramp == LOAD_RAMP_LINEAR)
		return a->ramp_start + (a->ramp_end - a->ramp_start) * part;
	if (a->ramp == LOAD_RAMP_EXPONENTIAL)
		return a->ramp_start * pow(a->ramp_end / a->ramp_start, part);
	return a->rate;
}

/*
 * Marsaglia and Tsang, "A simple method for generating gamma variables" (2000). One index owns 2^16
 * counters; a try is accepted with more than 95 %, so that they never run out.
 */
double load_gamma(double shape, uint64_t seed, uint64_t index)
{
	uint64_t at = index << 16;
	double boost = 1, d, c;

	if (shape < 1) {
		boost = pow(1 - random_unit(seed, at++), 1 / shape);
		shape += 1;
	}
	d = shape - 1.0 / 3;
	c = 1 / sqrt(9 * d);
	for (;;) {
		double u1 = 1 - random_unit(seed, at++), u2 = random_unit(seed, at++);
		double x = sqrt(-2 * log(u1)) * cos(2 * M_PI * u2);
		double v = 1 + c * x, u = 1 - random_unit(seed, at++);

		if (v <= 0)
			continue;
		v = v * v * v;
		if (log(u) < 0.5 * x * x + d - d * v + d * log(v))
			return boost * d * v;
	}
}

static double gap(const struct load_arrival *a, uint64_t seed, uint32_t i, uint32_t n)
{
	double rate = load_arrival_rate(a, i, n);

	if (isinf(rate))
		return 0;
	if (isinf(a->burstiness))
		return 1 / rate;
	return load_gamma(a->burstiness, seed, i) / (rate * a->burstiness);
}

void load_arrival_times(double *seconds, uint32_t n, const struct load_arrival *a)
{
	uint64_t seed = load_seed(a->seed, LOAD_DRAW_ARRIVAL);
	double at = 0, stretch;

	for (uint32_t i = 0; i < n; i++)
		seconds[i] = at += gap(a, seed, i, n);
	if (a->ramp != LOAD_RAMP_NONE || at == 0)
		return;
	stretch = (double)n / a->rate / at;
	for (uint32_t i = 0; i < n; i++)
		seconds[i] *= stretch;
}
