/* Limits of the ref tier: products and sums as the compiler's baseline makes them. */
#include "kernel/cpu/peak.h"

#define LANES 32

static double multiply_add(uint32_t rounds)
{
	volatile float one = 1; /* unknown to the compiler */
	float a[LANES], acc[LANES] = {0};
	float b = one;
	double sum = 0;

	for (int i = 0; i < LANES; i++)
		a[i] = one;
	for (uint32_t r = 0; r < rounds; r++)
		for (int i = 0; i < LANES; i++)
			acc[i] += a[i] * b;
	for (int i = 0; i < LANES; i++)
		sum += (double)acc[i];
	return sum;
}

static double multiply_add_i8(uint32_t rounds)
{
	volatile int8_t one = 1;
	int32_t acc[LANES] = {0};
	uint8_t a[LANES];
	int8_t b = one;
	double sum = 0;

	for (int i = 0; i < LANES; i++)
		a[i] = (uint8_t)one;
	for (uint32_t r = 0; r < rounds; r++) {
		for (int i = 0; i < LANES; i++)
			acc[i] += a[i] * b;
		/* The products are the same each time: not to be known. */
		__asm__ volatile("" : : "r"(acc), "r"(a) : "memory");
	}
	for (int i = 0; i < LANES; i++)
		sum += acc[i];
	return sum;
}

static uint64_t read_words(const uint64_t *p, size_t n)
{
	uint64_t x[8] = {0};

	for (size_t i = 0; i < n; i += 8)
		for (int j = 0; j < 8; j++)
			x[j] ^= p[i + (size_t)j];
	return x[0] ^ x[1] ^ x[2] ^ x[3] ^ x[4] ^ x[5] ^ x[6] ^ x[7];
}

const struct peak_ukernels peak_ukernels_ref = {{multiply_add}, multiply_add_i8, read_words};
