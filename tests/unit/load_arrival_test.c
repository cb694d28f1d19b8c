/* Arrival times: gaps of the right distribution, the last at its place, ramps, same seed same times. */
#include "cm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "load/arrival.h"

#define N 20000u

/* Mean and variance of the gamma distribution are both its shape. */
static void test_gamma(void **state)
{
	static const double shapes[] = { 0.25, 0.5, 1, 2.5, 40 };

	for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
		double sum = 0, squares = 0, shape = shapes[s], mean, variance;

		for (uint32_t i = 0; i < N; i++) {
			double x = load_gamma(shape, 7, i);

			assert_true(x >= 0 && isfinite(x));
			sum += x;
			squares += x * x;
		}
		mean = sum / N;
		variance = squares / N - mean * mean;
		/* Five standard errors of the mean; the variance's is larger for small shapes. */
		assert_true(fabs(mean - shape) < 5 * sqrt(shape / N));
		assert_true(fabs(variance - shape) < 0.15 * shape);
	}
}

/* Shape 1 is exponential: half of the draws lie below ln 2. */
static void test_exponential(void **state)
{
	uint32_t below = 0;

	for (uint32_t i = 0; i < N; i++)
		below += load_gamma(1, 3, i) < M_LN2;
	assert_true(abs((int)below - (int)N / 2) < 5 * sqrt(N / 4.0));
}

static void test_rescaled(void **state)
{
	struct load_arrival a = { .rate = 8, .burstiness = 0.5, .seed = 1 };
	double t[100], again[100], other[100];

	load_arrival_times(t, 100, &a);
	load_arrival_times(again, 100, &a);
	a.seed = 2;
	load_arrival_times(other, 100, &a);
	assert_memory_equal(t, again, sizeof(t));
	assert_true(memcmp(t, other, sizeof(t)) != 0);
	for (int i = 1; i < 100; i++)
		assert_true(t[i] >= t[i - 1]);
	assert_true(fabs(t[99] - 100 / 8.0) < 1e-9);
	assert_true(fabs(other[99] - 100 / 8.0) < 1e-9);
}

static void test_ends(void **state)
{
	struct load_arrival a = { .rate = INFINITY, .burstiness = 1 };
	double t[10];

	load_arrival_times(t, 10, &a);
	for (int i = 0; i < 10; i++)
		assert_true(t[i] == 0);
	a = (struct load_arrival){ .rate = 4, .burstiness = INFINITY };
	load_arrival_times(t, 10, &a);
	for (int i = 0; i < 10; i++)
		assert_true(fabs(t[i] - (i + 1) * 0.25) < 1e-12);
	load_arrival_times(t, 1, &a);
	assert_true(t[0] == 0.25);
}

static void test_ramps(void **state)
{
	struct load_arrival a = { .rate = INFINITY, .burstiness = INFINITY, .ramp = LOAD_RAMP_LINEAR, .ramp_start = 1,
		.ramp_end = 9 };
	double t[5];

	assert_true(load_arrival_rate(&a, 0, 5) == 1 && load_arrival_rate(&a, 4, 5) == 9);
	assert_true(load_arrival_rate(&a, 2, 5) == 5);
	load_arrival_times(t, 5, &a); /* not stretched */
	assert_true(fabs(t[4] - (1 + 1 / 3.0 + 1 / 5.0 + 1 / 7.0 + 1 / 9.0)) < 1e-12);
	a.ramp = LOAD_RAMP_EXPONENTIAL;
	assert_true(fabs(load_arrival_rate(&a, 2, 5) - 3) < 1e-12);
	assert_true(load_arrival_rate(&a, 0, 1) == 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gamma),
		cmocka_unit_test(test_exponential),
		cmocka_unit_test(test_rescaled),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_ramps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
