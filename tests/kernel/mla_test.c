/* Attention in both forms: every tier against the formula, against ref, and against itself. */
#include "cm.h"

#include <stdio.h>
#include <stdlib.h>

#include "emulate.h"
#include "kernel/cpu/device.h"
#include "mla_case.h"
#include "noise.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

/* The largest sizes of any case below, so that one device serves them all. */
static const struct mla_shape largest = {33, 128, 64, 128, 512, WEIGHT_BF16, false, false};

static const struct mla_shape shapes[] = {
	{3, 32, 16, 32, 32, WEIGHT_BF16, false, false},
	{3, 64, 32, 128, 96, WEIGHT_BF16, false, false},
	{5, 128, 64, 64, 128, WEIGHT_F8_BLOCK, false, false},
	{2, 32, 64, 64, 160, WEIGHT_F8_BLOCK, false, true},
	{4, 128, 64, 128, 512, WEIGHT_F8_BLOCK, false, false},
	{33, 64, 16, 96, 64, WEIGHT_BF16, false, false},
};

static const struct mla_chunk chunks[] = {
	{1, 0, 1},
	{2, 0, 64},
	{3, 63, 2},
	{4, 100, 37},
	{5, 17, 130},
	{6, 700, 20},
	{7, 0, 7},
};
static const struct mla_chunk generated[] = {
	{1, 0, 1},
	{2, 63, 2},
	{3, 64, 1},
	{4, 510, 4},
	{5, 200, 3},
	{6, 1500, 1},
	{7, 1030, 2},
};

static const uint32_t block_sizes[] = {1, 16, 64, 128};

static struct kernel *device(enum cpu_isa isa, int threads)
{
	struct kernel_config config = {.isa = isa, .threads = threads};
	struct kernel_limits limits = mla_case_limits(&largest, 2048);
	struct kernel *kn = NULL;
	struct error err;

	assert_int_equal(kernel_create(&kn, &config, &err), OK);
	assert_int_equal(kernel_reserve(kn, &limits, &err), OK);
	return kn;
}

/* rms of the difference over the rms of the first, and the largest difference over that rms. */
struct distance {
	double rms;
	double max;
};

static struct distance compare(const struct mla_case *c, const double *want, const uint16_t *got)
{
	size_t n = (size_t)c->rows * c->shape.heads * mla_case_width(c);
	double num = 0, den = 0, max = 0;

	for (size_t i = 0; i < n; i++) {
		double d = bf16_to_f32(got[i]) - want[i];

		assert_true(isfinite(bf16_to_f32(got[i])));
		num += d * d;
		den += want[i] * want[i];
		max = fabs(d) > max ? fabs(d) : max;
	}
	return (struct distance){sqrt(num / den), max / sqrt(den / (double)n)};
}

/*
 * Bounds. BF16 keys, values, probabilities and outputs each carry a relative error of 2^-9; scores
 * of standard deviation 4 turn key rounding into 1 % of a probability. Two tiers round at the same
 * places, so they differ only where a sum falls on the other side of a rounding boundary.
 */
#define NAIVE_RMS 0.005
#define NAIVE_MAX 0.12
#define REF_RMS 0.0005
#define REF_MAX 0.05

static void check_form(enum mla_form form, const struct mla_chunk *list, uint32_t n)
{
	for (size_t s = 0; s < N(shapes); s++) {
		struct mla_case c;
		uint32_t width;
		double *naive, *ref;

		mla_case_init(&c, form, &shapes[s], block_sizes[s % N(block_sizes)], list, n);
		width = c.shape.heads * mla_case_width(&c);
		naive = malloc(sizeof(*naive) * c.rows * width);
		ref = malloc(sizeof(*ref) * c.rows * width);
		mla_case_naive(&c, naive);
		for (int isa = CPU_ISA_REF; isa < CPU_ISA_COUNT; isa = tier_after(isa)) {
			struct kernel *kn = device((enum cpu_isa)isa, 2);
			struct distance d;

			assert_true(mla_case_run(&c, kn));
			d = compare(&c, naive, c.out);
			if (getenv("V"))
				printf("form %d shape %zu isa %d: naive %.5f %.5f", form, s, isa,
					d.rms, d.max);
			assert_true(d.rms < NAIVE_RMS && d.max < NAIVE_MAX);
			for (size_t i = 0; isa == CPU_ISA_REF && i < (size_t)c.rows * width; i++)
				ref[i] = bf16_to_f32(c.out[i]);
			d = compare(&c, ref, c.out);
			if (getenv("V"))
				printf("  ref %.5f %.5f\n", d.rms, d.max);
			assert_true(d.rms < REF_RMS && d.max < REF_MAX);
			kernel_destroy(kn);
		}
		free(naive);
		free(ref);
		mla_case_deinit(&c);
	}
}

static void test_prompt_values(void **state)
{
	check_form(MLA_PROMPT, chunks, N(chunks));
}

/* As F32 a prompt's output is what BF16 rounds, at most. */
static void test_prompt_f32(void **state)
{
	for (size_t s = 0; s < N(shapes); s++)
		for (int isa = CPU_ISA_REF; isa < CPU_ISA_COUNT; isa = tier_after(isa)) {
			struct kernel *kn = device((enum cpu_isa)isa, 2);
			struct mla_case c;
			struct act out;
			uint32_t n;

			mla_case_init(&c, MLA_PROMPT, &shapes[s], 16, chunks, N(chunks));
			n = c.shape.heads * mla_case_width(&c);
			out = act_view(guarded_alloc(c.rows * act_stride_bytes(ACT_F32, n)), ACT_F32, c.rows, n);
			assert_true(mla_case_run(&c, kn));
			kernel_mla_prompt(kn, &(struct mla_prompt_args){&c.q_nope, c.q_rope, c.shape.heads,
				c.shape.nope, c.shape.v_dim, c.scale, c.kv_b_k, c.kv_b_v, c.cache, c.seqs,
				c.n_chunks, &out});
			for (uint32_t i = 0; i < c.rows * n; i++) {
				float want = bf16_to_f32(c.out[i]);
				float got = ((float *)(out.data + i / n * out.stride_bytes))[i % n];

				assert_true(fabsf(got - want) <= fabsf(got) * 0x1.02p-8f + 1e-30f);
			}
			guarded_free(out.data);
			mla_case_deinit(&c);
			kernel_destroy(kn);
		}
}

static void test_decode_values(void **state)
{
	check_form(MLA_DECODE, generated, N(generated));
}

/* Runs the chunks and checks each row against `want` [positions of sequence, width]. */
static void check_same(struct kernel *kn, enum mla_form form, const struct mla_shape *shape,
	uint32_t block_tokens, const struct mla_chunk *list, uint32_t n, uint32_t id,
	const uint16_t *want)
{
	struct mla_case c;
	uint32_t checked = 0;
	size_t width;

	mla_case_init(&c, form, shape, block_tokens, list, n);
	width = (size_t)shape->heads * mla_case_width(&c);
	assert_true(mla_case_run(&c, kn));
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t r = 0; list[i].id == id && r < list[i].rows; r++, checked++)
			assert_memory_equal(c.out + (c.seqs[i].row0 + r) * width,
				want + (list[i].pos0 + r) * width, sizeof(*want) * width);
	assert_int_not_equal(checked, 0);
	mla_case_deinit(&c);
}

#define PROMPT 530u

/* Cuts of positions 0 .. PROMPT - 1. */
static const uint32_t cuts[][14] = {
	{1, 2, 3, 64, 65, 127, 130, 255, 256, 257, 511, 512, 513, PROMPT},
	{63, 64, 128, PROMPT},
	{100, 300, PROMPT},
	{17, 34, 51, 68, 85, 102, 119, 236, 253, 270, 387, 404, 421, PROMPT},
};

static void test_prompt_bits(void **state)
{
	static const int shape_of[] = {0, 3, 2};

	for (size_t s = 0; s < N(shape_of); s++) {
		const struct mla_shape *shape = &shapes[shape_of[s]];
		struct mla_chunk whole = {9, 0, PROMPT};

		for (int isa = s > 0 ? tier_after(CPU_ISA_REF) : CPU_ISA_REF; isa < CPU_ISA_COUNT; isa = tier_after(isa)) {
			struct kernel *one = device((enum cpu_isa)isa, 1); /* ref is slow */
			struct kernel *three = device((enum cpu_isa)isa, 3);
			struct mla_case c;

			mla_case_init(&c, MLA_PROMPT, shape, 64, &whole, 1);
			assert_true(mla_case_run(&c, one));
			for (size_t k = 0; k < N(cuts); k++) {
				uint32_t from = 0;

				for (uint32_t i = 0; from < PROMPT; from = cuts[k][i++]) {
					uint32_t rows = cuts[k][i] - from;
					struct mla_chunk mates[] = {
						{3, 5, 9}, {9, from, rows}, {4, 0, 70}, {5, 64, 1}};
					bool alone = (i + k) % 2;

					check_same(i % 2 ? one : three, MLA_PROMPT, shape,
						block_sizes[(i + k) % N(block_sizes)],
						alone ? &mates[1] : mates, alone ? 1 : 4, 9, c.out);
				}
			}
			mla_case_deinit(&c);
			kernel_destroy(one);
			kernel_destroy(three);
		}
	}
}

static void test_decode_bits(void **state)
{
	/* Positions around tiles, splits and the doubling of splits; 16384 keys are 32 splits. */
	static const uint32_t at[] = {0, 1, 62, 63, 510, 511, 1020, 1023, 1998, 16382, 16383};
	static const struct mla_shape shape = {3, 32, 16, 32, 64, WEIGHT_BF16, true, false};

	for (int isa = CPU_ISA_REF; isa < CPU_ISA_COUNT; isa = tier_after(isa)) {
		struct kernel *one = device((enum cpu_isa)isa, 1);
		struct kernel *seven = device((enum cpu_isa)isa, 7);

		for (size_t i = 0; i < N(at) - (isa == CPU_ISA_REF ? 2 : 0); i++) {
			size_t width = (size_t)shape.heads * shape.kv_lora;
			uint16_t *want = calloc((at[i] + 4) * width, sizeof(*want));

			/* Each row alone with one thread, then all together. */
			for (uint32_t r = 0; r < 4; r++) {
				struct mla_chunk single = {9, at[i] + r, 1};
				struct mla_case c;

				mla_case_init(&c, MLA_DECODE, &shape, 64, &single, 1);
				assert_true(mla_case_run(&c, one));
				memcpy(want + (at[i] + r) * width, c.out, sizeof(*want) * width);
				mla_case_deinit(&c);
			}
			for (size_t b = 0; b < N(block_sizes); b++) {
				struct mla_chunk list[20] = {{9, at[i], 4}};
				uint32_t n = 1;

				check_same(seven, MLA_DECODE, &shape, block_sizes[b], list, 1, 9,
					want);
				for (; n < 20; n++)
					list[n] = (struct mla_chunk){n + 20, n * 3, n % 3 + 1};
				list[13] = (struct mla_chunk){9, at[i] + 1, 2};
				check_same(seven, MLA_DECODE, &shape, block_sizes[b], list, n, 9,
					want);
				check_same(
					one, MLA_DECODE, &shape, block_sizes[b], list, 3, 9, want);
			}
			free(want);
		}
		kernel_destroy(one);
		kernel_destroy(seven);
	}
}

/* The AVX-512 tier has two bodies, of which a CPU takes the faster one: the same bits. */
static void test_avx512_bodies(void **state)
{
	struct kernel *kn;

	if (!cpu_isa_supported(CPU_ISA_AVX512))
		skip();
	kn = device(CPU_ISA_AVX512, 2);
	for (int form = MLA_PROMPT; form <= MLA_DECODE; form++)
		for (size_t s = 0; s < N(shapes); s++) {
			struct mla_case c;
			size_t bytes;
			uint16_t *want;

			if (form == MLA_PROMPT)
				mla_case_init(&c, form, &shapes[s], 16, chunks, N(chunks));
			else
				mla_case_init(&c, form, &shapes[s], 64, generated, N(generated));
			bytes = sizeof(*want) * c.rows * c.shape.heads * mla_case_width(&c);
			want = malloc(bytes);
			kn->mla = &mla_ukernels_avx512;
			assert_true(mla_case_run(&c, kn));
			memcpy(want, c.out, bytes);
			kn->mla = &mla_ukernels_avx512_wide;
			assert_true(mla_case_run(&c, kn));
			assert_memory_equal(c.out, want, bytes);
			free(want);
			mla_case_deinit(&c);
		}
	kernel_destroy(kn);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prompt_values),
		cmocka_unit_test(test_prompt_f32),
		cmocka_unit_test(test_decode_values),
		cmocka_unit_test(test_prompt_bits),
		cmocka_unit_test(test_decode_bits),
		cmocka_unit_test(test_avx512_bodies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
