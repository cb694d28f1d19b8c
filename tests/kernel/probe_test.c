/* Probes: every tier's loop does the work that it reports, reads every word, and gives a finite rate. */
#include "cm.h"

#include <math.h>

#include "emulate.h"
#include "kernel/cpu/device.h"
#include "kernel/cpu/peak.h"
#include "kernel/probe.h"
#include "noise.h"

struct peak_case {
	enum cpu_isa isa;
	const struct peak_ukernels *uk;
	double per_round; /* multiply-adds */
	double per_round_i8;
};

static const struct peak_case cases[] = {
	{CPU_ISA_REF, &peak_ukernels_ref, 32, 32},
	{CPU_ISA_AVX2, &peak_ukernels_avx2, 12 * 8, 12 * 16},
	{CPU_ISA_AVX512, &peak_ukernels_avx512, 16 * 32, 16 * 64},
	{CPU_ISA_AMX, &peak_ukernels_amx, 4 * 16 * 16 * 32, 4 * 16 * 16 * 64},
};
_Static_assert(sizeof(cases) / sizeof(*cases) == CPU_ISA_COUNT, "a tier has no case");

static void test_multiply_add(void **state)
{
	for (int i = 0; i < CPU_ISA_COUNT; i++) {
		const struct peak_case *c = &cases[i];

		if (!tier_present(c->isa))
			continue;
		assert_true(c->uk->multiply_add(0) == 0);
		assert_true(c->uk->multiply_add(1) == c->per_round);
		assert_true(c->uk->multiply_add(37) == 37 * c->per_round);
		assert_true(c->uk->multiply_add_i8(0) == 0);
		assert_true(c->uk->multiply_add_i8(1) == c->per_round_i8);
		assert_true(c->uk->multiply_add_i8(37) == 37 * c->per_round_i8);
	}
}

/* No accumulator loses count in the longest call. The emulation of tiles would take minutes. */
static void test_multiply_add_longest(void **state)
{
	for (int i = 0; i < CPU_ISA_AMX; i++)
		if (tier_present(cases[i].isa)) {
			assert_true(cases[i].uk->multiply_add(PEAK_ROUNDS) ==
				    PEAK_ROUNDS * cases[i].per_round);
			assert_true(cases[i].uk->multiply_add_i8(PEAK_ROUNDS) ==
				    PEAK_ROUNDS * cases[i].per_round_i8);
		}
	/* A tile's sums grow by 32 a round. */
	assert_true(PEAK_ROUNDS * 32.0 <= 0x1p24);
}

/* Each word alone must show in the result. */
static void test_read(void **state)
{
	enum { WORDS = 192 };
	uint64_t *p = guarded_alloc(WORDS * sizeof(*p));

	for (int i = 0; i < CPU_ISA_COUNT; i++) {
		if (!tier_present(cases[i].isa))
			continue;
		assert_int_equal(cases[i].uk->read(p, WORDS), 0);
		for (int j = 0; j < WORDS; j++) {
			p[j] = (uint64_t)j << 32 | 5;
			assert_int_equal(cases[i].uk->read(p, WORDS), p[j]);
			p[j] = 0;
		}
		assert_int_equal(cases[i].uk->read(p, 0), 0);
	}
	guarded_free(p);
}

static void test_probes(void **state)
{
	for (int i = 0; i < CPU_ISA_COUNT; i++) {
		struct kernel_config config = {.isa = cases[i].isa, .threads = 2};
		struct kernel *kn;
		struct error err;
		double rate;

		if (!tier_present(cases[i].isa))
			continue;
		assert_int_equal(kernel_create(&kn, &config, &err), OK);
		rate = kernel_probe_bf16_flops(kn);
		assert_true(isfinite(rate) && rate > 0);
		rate = kernel_probe_int8_ops(kn);
		assert_true(isfinite(rate) && rate > 0);
		rate = kernel_probe_read_bytes_per_s(kn, &err);
		assert_true(isfinite(rate) && rate > 0);
		kernel_destroy(kn);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_multiply_add),
		cmocka_unit_test(test_multiply_add_longest),
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_probes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
