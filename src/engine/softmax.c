/* The largest logit and the masses of softmax (engine/softmax.h). The kernels have an exponential of their own, for SiLU. */
#include "engine/softmax.h"

#include <string.h>

#define EXPONENT 0x7f800000 /* of a float; all ones: not finite */
#define LANES 8u            /* partial sums that do not wait for each other */
#define LOG2_E 1.4426950408889634

/* An integer in the order of the finite floats; the lowest of all where x is not finite. */
static int32_t order_of(float x)
{
	int32_t bits, wild;

	x += 0.0f; /* -0 is equal to 0 */
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

int32_t softmax_best(const float *logits, uint32_t n)
{
	int32_t best = INT32_MIN;
	uint32_t i = 0;

	for (uint32_t at = 0; at < n; at += SOFTMAX_BLOCK) {
		int32_t order = largest_order(logits + at, softmax_block(at, n));

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

static double sum_of(const float *mass, uint32_t n)
{
	double lane[LANES] = { 0 };
	double sum = 0;
	uint32_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		for (uint32_t j = 0; j < LANES; j++)
			lane[j] += (double)mass[i + j];
	}
	for (; i < n; i++)
		lane[0] += (double)mass[i];
	for (uint32_t j = 0; j < LANES; j++)
		sum += lane[j];
	return sum;
}

double softmax_masses(float *restrict mass, const float *restrict logits, uint32_t n, float best, double temperature)
{
	const float scale = (float)(LOG2_E / temperature);

	for (uint32_t i = 0; i < n; i++)
		mass[i] = exp2_fast((logits[i] - best) * scale);
	return sum_of(mass, n);
}
