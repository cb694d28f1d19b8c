/* Row ops: against formulas in double, and the same bits in every tier and on every thread count. */
#include "cm.h"

#include <stdlib.h>

#include "emulate.h"
#include "kernel/kernel.h"
#include "noise.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

static struct kernel *device(enum cpu_isa isa, int threads)
{
	struct kernel_config config = {.isa = isa, .threads = threads};
	struct kernel *kn = NULL;
	struct error err;

	assert_int_equal(kernel_create(&kn, &config, &err), OK);
	return kn;
}

static float *values(struct noise *s, size_t n, float scale)
{
	float *x = guarded_alloc(n * sizeof(*x));

	for (size_t i = 0; i < n; i++)
		x[i] = noise_f32(s) * scale;
	return x;
}

struct norm_case {
	uint32_t rows;
	uint32_t n;
	uint32_t x_stride;
	bool add;
	bool bias;
	enum act_kind kind;
};

static const struct norm_case norms[] = {
	{1, 1, 1, false, false, ACT_BF16},
	{3, 63, 70, true, false, ACT_BF16},
	{7, 512, 576, false, true, ACT_F32},
	{5, 1000, 1000, true, true, ACT_BF16},
	{2, 7168, 7168, true, false, ACT_F32},
};

static void check_norm(const struct norm_case *c, struct kernel *kn, float *f32, struct act *act)
{
	struct noise s = {c->n};
	size_t total = (size_t)c->rows * c->x_stride;
	float *x = values(&s, total, 3), *old = values(&s, total, 1);
	float *add = values(&s, (size_t)c->rows * c->n, 1);
	float *weight = values(&s, c->n, 2), *bias = values(&s, c->n, 1);
	struct rmsnorm_args a = {.x = x, .x_stride = c->x_stride, .add = c->add ? add : NULL,
		.weight = weight, .bias = c->bias ? bias : NULL, .eps = 1e-6f, .rows = c->rows,
		.n = c->n, .out_f32 = f32, .out_act = act};

	memcpy(old, x, total * sizeof(*x));
	kernel_rmsnorm(kn, &a);
	for (uint32_t i = 0; i < c->rows; i++) {
		const uint8_t *row = act->data + i * act->stride_bytes;
		double sum = 0;

		for (uint32_t j = 0; j < c->n; j++) {
			float *v = &x[i * c->x_stride + j];
			float want = old[i * c->x_stride + j];

			if (c->add)
				want += add[i * c->n + j];
			assert_true(*v == want);
			sum += (double)want * want;
		}
		for (uint32_t j = c->n; j < c->x_stride; j++)
			assert_true(x[i * c->x_stride + j] == old[i * c->x_stride + j]);
		for (uint32_t j = 0; j < c->n; j++) {
			double r = 1 / sqrt(sum / c->n + 1e-6);
			double main = x[i * c->x_stride + j] * r * weight[j];
			float got = f32[i * c->n + j];

			assert_true(fabs(got - main - (c->bias ? bias[j] : 0)) <=
				    1e-6 * (fabs(main) + 1));
			if (c->kind == ACT_F32)
				assert_true(((const float *)row)[j] == got);
			else
				assert_int_equal(((const uint16_t *)row)[j], f32_to_bf16(got));
		}
	}
	guarded_free(x);
	guarded_free(old);
	guarded_free(add);
	guarded_free(weight);
	guarded_free(bias);
}

/* Every tier gives ref's bits. */
static void test_rmsnorm(void **state)
{
	for (size_t i = 0; i < N(norms); i++) {
		const struct norm_case *c = &norms[i];
		size_t bytes = c->rows * act_stride_bytes(c->kind, c->n);
		float *first = NULL;

		for (int isa = 0; isa < CPU_ISA_COUNT; isa++) {
			struct act act = act_view(guarded_alloc(bytes), c->kind, c->rows, c->n);
			float *f32 = guarded_alloc(c->rows * c->n * sizeof(*f32));
			struct kernel *kn;

			if (tier_present((enum cpu_isa)isa)) {
				kn = device((enum cpu_isa)isa, isa % 3 + 1);
				check_norm(c, kn, f32, &act);
				kernel_destroy(kn);
				if (first)
					assert_memory_equal(
						first, f32, c->rows * c->n * sizeof(*f32));
			}
			guarded_free(act.data);
			if (first)
				guarded_free(f32);
			else
				first = f32;
		}
		guarded_free(first);
	}
}

static void check_small_ops(struct kernel *kn)
{
	enum { rows = 9, n = 77, vocab = 13 };
	struct noise s = {3};
	float *x = values(&s, rows * n, 1), *add = values(&s, rows * n, 1);
	float *sum = guarded_alloc(rows * n * sizeof(*sum));
	uint16_t *table = guarded_alloc(vocab * n * sizeof(*table));
	int32_t ids[rows];
	struct act act;

	x[3] = NAN;
	x[4] = 1e-40f; /* a denormal keeps its bits or becomes zero, never something else */
	memcpy(sum, x, rows * n * sizeof(*x));
	kernel_add(kn, sum, add, rows * n);
	for (int i = 5; i < rows * n; i++)
		assert_true(sum[i] == x[i] + add[i]);
	assert_true(isnan(sum[3]));

	act = act_view(guarded_alloc(rows * act_stride_bytes(ACT_BF16, n)), ACT_BF16, rows, n);
	kernel_act_from_f32(kn, &act, x, n);
	for (int i = 0; i < rows; i++)
		for (int j = 0; j < n; j++)
			assert_int_equal(((uint16_t *)(act.data + i * act.stride_bytes))[j],
				f32_to_bf16(x[i * n + j]));
	guarded_free(act.data);

	for (int i = 0; i < vocab * n; i++)
		table[i] = f32_to_bf16(noise_f32(&s));
	for (int i = 0; i < rows; i++)
		ids[i] = (int32_t)(noise_u32(&s) % vocab);
	kernel_embed(kn, x, table, ids, rows, n);
	for (int i = 0; i < rows; i++)
		for (int j = 0; j < n; j++)
			assert_true(x[i * n + j] == bf16_to_f32(table[ids[i] * n + j]));
	guarded_free(x);
	guarded_free(add);
	guarded_free(sum);
	guarded_free(table);
}

/* The definition in kernel.h: halves to even, held in 8 bits; rows with a scale of their own, or one for all. */
static void check_quant(struct kernel *kn, float input_scale, float input_offset, uint8_t *first, size_t bytes)
{
	enum { rows = 7, n = 203 };
	struct noise s = {21};
	float *x = values(&s, rows * n, 3);
	struct act act;

	assert_int_equal(bytes, rows * act_stride_bytes(ACT_I8, n));
	act = act_view(guarded_alloc(bytes), ACT_I8, rows, n);
	act.input_scale = input_scale;
	act.input_offset = input_offset;
	x[0] = 1e30f;
	x[1] = -1e30f;
	x[2] = 0.5f * input_scale;
	x[3] = 1.5f * input_scale;
	memset(x + 3 * n, 0, n * sizeof(*x));
	x[4 * n] = NAN;
	x[5 * n + 1] = 1e-42f;
	kernel_act_from_f32(kn, &act, x, n);
	for (int i = 0; i < rows; i++) {
		float max = 0, scale = *act_row_scale(&act, (size_t)i), by = input_scale;

		for (int j = 0; j < n; j++)
			max = fabsf(x[i * n + j]) > max ? fabsf(x[i * n + j]) : max;
		if (i == 4) { /* not a number: whatever is made of this row is not one either */
			assert_true(isnan(scale));
			continue;
		}
		if (input_scale > 0)
			assert_true(scale == 1);
		else
			assert_true(scale == max / 127.0f);
		by = input_scale > 0 ? input_scale : scale > 0 ? scale : 1;
		for (int j = 0; j < n; j++) {
			float q = rintf(x[i * n + j] / by + input_offset);
			int want = q > 127 ? 127 : q >= -128 ? (int)q : -128;

			assert_int_equal(act.data[i * act.stride_bytes + j], want + 128);
		}
	}
	if (first[0])
		assert_memory_equal(first, act.data, bytes);
	else
		memcpy(first, act.data, bytes);
	guarded_free(act.data);
	guarded_free(x);
}

static void test_quant(void **state)
{
	size_t bytes = 7 * act_stride_bytes(ACT_I8, 203);
	uint8_t *by_row = calloc(1, bytes), *fixed = calloc(1, bytes);

	for (int isa = 0; isa < CPU_ISA_COUNT; isa++)
		if (tier_present((enum cpu_isa)isa)) {
			struct kernel *kn = device((enum cpu_isa)isa, 2);

			check_quant(kn, 0, 0, by_row, bytes);
			check_quant(kn, 0.0234375f, 5, fixed, bytes);
			kernel_destroy(kn);
		}
	free(by_row);
	free(fixed);
}

/* A norm quantizes what it gives as F32, whether or not that is wanted too. */
static void check_norm_quant(struct kernel *kn, float input_scale)
{
	enum { rows = 3, n = 1300 };
	struct noise s = {22};
	float *x = values(&s, rows * n, 1), *weight = values(&s, n, 1), *bias = values(&s, n, 1);
	float *f32 = guarded_alloc(rows * n * sizeof(*f32));
	size_t bytes = rows * act_stride_bytes(ACT_I8, n);
	struct act act[3];

	for (int i = 0; i < 3; i++) {
		act[i] = act_view(guarded_alloc(bytes), ACT_I8, rows, n);
		act[i].input_scale = input_scale;
		act[i].input_offset = input_scale > 0 ? -7 : 0;
	}
	for (int i = 0; i < 2; i++)
		kernel_rmsnorm(kn, &(struct rmsnorm_args){.x = x, .x_stride = n, .weight = weight, .bias = bias,
			.eps = 1e-6f, .rows = rows, .n = n, .out_f32 = i ? f32 : NULL, .out_act = &act[i]});
	kernel_act_from_f32(kn, &act[2], f32, n);
	assert_memory_equal(act[0].data, act[2].data, bytes);
	assert_memory_equal(act[1].data, act[2].data, bytes);
	for (int i = 0; i < 3; i++)
		guarded_free(act[i].data);
	guarded_free(x);
	guarded_free(weight);
	guarded_free(bias);
	guarded_free(f32);
}

static void test_norm_quant(void **state)
{
	for (int isa = 0; isa < CPU_ISA_COUNT; isa++)
		if (tier_present((enum cpu_isa)isa)) {
			struct kernel *kn = device((enum cpu_isa)isa, 2);

			check_norm_quant(kn, 0);
			check_norm_quant(kn, 0.03f);
			kernel_destroy(kn);
		}
}

static void test_small_ops(void **state)
{
	for (int isa = 0; isa < CPU_ISA_COUNT; isa++)
		for (int threads = 1; threads <= 3; threads += 2)
			if (tier_present((enum cpu_isa)isa)) {
				struct kernel *kn = device((enum cpu_isa)isa, threads);

				check_small_ops(kn);
				kernel_destroy(kn);
			}
}

/* Sum of leaves lo .. hi - 1 as the definition says; false when none is present. */
static bool tree(float *out, const float *leaf, uint32_t lo, uint32_t hi)
{
	float a, b;
	bool has_a, has_b;

	if (hi - lo == 1) {
		*out = leaf[lo];
		return !isnan(leaf[lo]);
	}
	has_a = tree(&a, leaf, lo, lo + (hi - lo) / 2);
	has_b = tree(&b, leaf, lo + (hi - lo) / 2, hi);
	*out = has_a && has_b ? a + b : has_a ? a : b;
	return has_a || has_b;
}

static void check_combine(struct kernel *kn, uint32_t experts, uint32_t top_k, bool shared)
{
	enum { rows = 6, hidden = 300 };
	struct noise s = {experts + top_k};
	uint32_t leaves = 1;
	float *y = values(&s, rows * top_k * hidden, 1), *base = values(&s, rows * hidden, 1);
	float *out = guarded_alloc(rows * hidden * sizeof(*out));
	float *gates = values(&s, rows * top_k, 1);
	float *leaf;
	int32_t *ids = guarded_alloc(rows * top_k * sizeof(*ids));
	int32_t *slot = guarded_alloc(rows * top_k * sizeof(*slot));
	struct moe_combine_args a = {out, shared ? base : NULL, y, slot, ids, gates, rows, top_k,
		experts, hidden};

	while (leaves < experts)
		leaves *= 2;
	leaf = malloc(leaves * sizeof(*leaf));
	for (uint32_t i = 0; i < rows; i++) {
		uint32_t n = 0;

		/* A random ascending choice: take e with chance (needed / left). */
		for (uint32_t e = 0; e < experts; e++)
			if (noise_u32(&s) % (experts - e) < top_k - n)
				ids[i * top_k + n++] = (int32_t)e;
		for (uint32_t j = 0; j < top_k; j++)
			slot[i * top_k + j] = i == 4 && j % 2 ? -1 : (int32_t)(rows * top_k - 1 - (i * top_k + j));
	}
	kernel_moe_combine(kn, &a);
	for (uint32_t i = 0; i < rows; i++)
		for (uint32_t h = 0; h < hidden; h++) {
			float want, sum = 0;

			for (uint32_t e = 0; e < leaves; e++)
				leaf[e] = NAN;
			for (uint32_t j = 0; j < top_k; j++)
				if (slot[i * top_k + j] >= 0)
					leaf[ids[i * top_k + j]] =
						gates[i * top_k + j] *
						y[(size_t)slot[i * top_k + j] * hidden + h];
			want = shared ? base[i * hidden + h] : 0;
			if (tree(&sum, leaf, 0, leaves))
				want += sum;
			assert_true(out[i * hidden + h] == want);
		}
	free(leaf);
	guarded_free(y);
	guarded_free(base);
	guarded_free(out);
	guarded_free(gates);
	guarded_free(ids);
	guarded_free(slot);
}

static void test_combine(void **state)
{
	for (int isa = 0; isa < CPU_ISA_COUNT; isa++)
		if (tier_present((enum cpu_isa)isa)) {
			struct kernel *kn = device((enum cpu_isa)isa, isa % 2 + 2);

			check_combine(kn, 256, 8, true);
			check_combine(kn, 1, 1, false);
			check_combine(kn, 160, 6, true);
			check_combine(kn, 16, 16, false);
			check_combine(kn, 384, 8, true);
			kernel_destroy(kn);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rmsnorm),
		cmocka_unit_test(test_quant),
		cmocka_unit_test(test_norm_quant),
		cmocka_unit_test(test_small_ops),
		cmocka_unit_test(test_combine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
