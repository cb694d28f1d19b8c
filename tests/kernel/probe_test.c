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
	double bf16[2]; /* multiply-adds of a round */
	double i8;
};

static const struct peak_case cases[] = {
	{CPU_ISA_REF, &peak_ukernels_ref, {32}, 32},
	{CPU_ISA_AVX2, &peak_ukernels_avx2, {12 * 8}, 12 * 16},
	{CPU_ISA_AVX512, &peak_ukernels_avx512, {12 * 32, 12 * 16}, 12 * 64},
	{CPU_ISA_AMX, &peak_ukernels_amx, {4 * 16 * 16 * 32}, 4 * 16 * 16 * 64},
};
_Static_assert(sizeof(cases) / sizeof(*cases) == CPU_ISA_COUNT, "a tier has no case");

static void check_rounds(peak_fn *fn, double per_round, uint32_t rounds)
{
	assert_true((fn != NULL) == (per_round > 0));
	if (fn)
		assert_true(fn(rounds) == rounds * per_round);
}

static void check_case(const struct peak_case *c, uint32_t rounds)
{
	check_rounds(c->uk->bf16[0], c->bf16[0], rounds);
	check_rounds(c->uk->bf16[1], c->bf16[1], rounds);
	check_rounds(c->uk->i8, c->i8, rounds);
}

static void test_multiply_add(void **state)
{
	for (int i = 0; i < CPU_ISA_COUNT; i++)
		if (tier_present(cases[i].isa)) {
			check_case(&cases[i], 0);
			check_case(&cases[i], 1);
			check_case(&cases[i], 37);
		}
}

/* No accumulator loses count in the longest call. The emulation of tiles would take minutes. */
static void test_multiply_add_longest(void **state)
{
	for (int i = 0; i < CPU_ISA_AMX; i++)
		if (tier_present(cases[i].isa))
			check_case(&cases[i], PEAK_ROUNDS);
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
		struct kernel_probe *p;
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
		/* Parts that are no multiple of a chunk, each read several times over. */
		assert_int_equal(kernel_probe_create(&p, kn, 5 * 1000 * 1000, &err), OK);
		rate = kernel_probe_read_bytes_per_s(p);
		assert_true(isfinite(rate) && rate > 0);
		kernel_probe_destroy(p);
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
