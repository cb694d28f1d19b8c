/*
 * Float checkpoints whose linear layers become integers while they are loaded (QUANTIZATION_W8A8_DYNAMIC):
 * elements against the files, rows of zeros and of what is not finite, divided columns, and what an option of
 * that name refuses.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cm.h"
#include "base/random.h"
#include "weights/weights.h"
#include "weights_case.h"

#define L1 "model.layers.1."
#define EDITED L1 "mlp.experts.3.down_proj.weight"
#define SAMPLES 60

struct files {
	struct safetensors *set;
	struct model_weights *w;
};

static float value(const struct files *f, const char *name, uint64_t row, uint64_t col)
{
	const struct st_tensor *t = safetensors_find(f->set, name);
	char scale[160];
	uint8_t raw[8];
	struct error err;
	float x;

	if (!t)
		fail_msg("no tensor %s", name);
	assert_int_equal(safetensors_read(f->set, t, raw, (row * t->shape[1] + col) * dtype_bytes(t->dtype),
		dtype_bytes(t->dtype), &err), OK);
	x = dtype_to_f32(t->dtype, raw, 0);
	if (t->dtype != DT_F8_E4M3)
		return x;
	snprintf(scale, sizeof(scale), "%s_scale_inv", name);
	return x * value(f, scale, row / 128, col / 128);
}

/* Interleaved halves of gate_up: half 0 or 1; others: half -1. */
static void check_matrix(const struct files *f, const struct weight *w, const char *module, int half)
{
	uint32_t rows = half < 0 ? w->n : w->n / 2;
	char name[128];

	snprintf(name, sizeof(name), "%s.weight", module);
	assert_int_equal(w->format, WEIGHT_I8);
	assert_true(w->input_scale == 0); /* inputs are quantized by row */
	for (uint32_t i = 0; i < SAMPLES; i++) {
		uint32_t row = (uint32_t)(random_u64(1, i) % rows);
		uint32_t at = half < 0 ? row : row / 32 * 64 + (uint32_t)half * 32 + row % 32;
		float max = 0, scale = w->scales[weight_scale_index(w, at, 0)];

		for (uint32_t k = 0; k < w->k; k++)
			max = fmaxf(max, fabsf(value(f, name, row, k)));
		if (scale != max / 127)
			fail_msg("%s, row %u: scale %g, largest value %g", name, row, (double)scale, (double)max);
		for (uint32_t k = 0; k < w->k; k++) {
			float want = nearbyintf(value(f, name, row, k) / scale) * scale;

			if (weight_get(w, at, k) != want)
				fail_msg("%s [%u, %u]: %g, expected %g", name, row, k,
					(double)weight_get(w, at, k), (double)want);
		}
	}
}

static void check_checkpoint(const char *golden, enum weight_format floats)
{
	const struct layer_weights *l;
	struct files f;
	struct error err;
	char dir[256], mtp[64];

	snprintf(dir, sizeof(dir), "%s/golden/%s", TEST_DATA, golden);
	assert_int_equal(safetensors_open_dir(&f.set, dir, &err), OK);
	f.w = case_must_load(dir, QUANTIZATION_W8A8_DYNAMIC, shard_plan_whole());
	assert_true(f.w->config.integer);
	l = &f.w->layers[1];
	check_matrix(&f, &l->attn.q_a_proj, L1 "self_attn.q_a_proj", -1);
	check_matrix(&f, &l->attn.kv_a_proj, L1 "self_attn.kv_a_proj_with_mqa", -1);
	check_matrix(&f, &l->attn.q_b_proj, L1 "self_attn.q_b_proj", -1);
	check_matrix(&f, &l->attn.o_proj, L1 "self_attn.o_proj", -1);
	check_matrix(&f, &l->mlp.gate_up, L1 "mlp.shared_experts.gate_proj", 0);
	check_matrix(&f, &l->experts[5].gate_up, L1 "mlp.experts.5.up_proj", 1);
	check_matrix(&f, &l->experts[7].down, L1 "mlp.experts.7.down_proj", -1);
	check_matrix(&f, &f.w->layers[0].mlp.down, "model.layers.0.mlp.down_proj", -1);
	snprintf(mtp, sizeof(mtp), "model.layers.%u.mlp.experts.0.down_proj", f.w->config.num_hidden_layers);
	check_matrix(&f, &f.w->mtp->layer.experts[0].down, mtp, -1);
	/* What msmodelslim keeps float. */
	assert_int_equal(l->attn.kv_b_k.format, floats);
	assert_int_equal(l->attn.kv_b_kt.format, floats);
	assert_int_equal(l->attn.kv_b_v.format, floats);
	assert_int_equal(l->gate.format, WEIGHT_BF16);
	assert_int_equal(f.w->mtp->eh_proj.format, WEIGHT_BF16);
	assert_int_equal(f.w->lm_head.format, WEIGHT_BF16);
	safetensors_close(f.set);
	weights_destroy(f.w);
}

static void test_elements(void **state)
{
	check_checkpoint("v31-bf16", WEIGHT_BF16);
	check_checkpoint("v31-fp8", WEIGHT_F8_BLOCK);
	check_checkpoint("v3-fp8", WEIGHT_F8_BLOCK);
}

/* Ranks that divide columns have the scales of whole rows: what they add up does not depend on the cut. */
static void check_shards(const char *golden, uint32_t size)
{
	struct model_weights *whole, *part;
	const struct weight *w, *p;
	uint32_t first = 0;
	char dir[256];

	snprintf(dir, sizeof(dir), "%s/golden/%s", TEST_DATA, golden);
	whole = case_must_load(dir, QUANTIZATION_W8A8_DYNAMIC, shard_plan_whole());
	w = &whole->layers[0].mlp.down;
	for (uint32_t r = 0; r < size; r++) {
		part = case_must_load(dir, QUANTIZATION_W8A8_DYNAMIC, (struct shard_plan){.tp_rank = r, .tp_size = size, .ep_size = 1});
		p = &part->layers[0].mlp.down;
		for (uint32_t row = 0; row < w->n; row += 3) {
			assert_true(p->scales[weight_scale_index(p, row, 0)] ==
				    w->scales[weight_scale_index(w, row, 0)]);
			for (uint32_t k = 0; k < p->k; k += 5)
				assert_true(weight_get(p, row, k) == weight_get(w, row, first + k));
		}
		first += p->k;
		weights_destroy(part);
	}
	assert_int_equal(first, w->k);
	weights_destroy(whole);
}

static void test_shards(void **state)
{
	check_shards("v31-bf16", 2);
	check_shards("v31-fp8", 2);
	check_shards("v31-fp8", 4); /* cuts inside blocks of scales */
}

/* Rows 0 .. 5 of a BF16 matrix. */
static int edit_rows(struct case_tensor *t, const void *arg)
{
	static const float first[] = {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -126.5f, 126.5f, 0.25f};
	size_t cols = t->shape[1];
	uint16_t *x = (uint16_t *)(void *)t->data;

	if (strcmp(t->name, EDITED) != 0)
		return 1;
	assert_string_equal(t->dtype, "BF16");
	memset(x, 0, 2 * 6 * cols);
	for (size_t i = 0; i < sizeof(first) / sizeof(*first); i++)
		x[i] = f32_to_bf16(first[i]);
	/* Row 1 stays zero. */
	x[2 * cols + 3] = 0x7FC0; /* NaN */
	x[3 * cols + 4] = 0xFF80; /* infinity */
	for (size_t r = 2; r < 4; r++)
		x[r * cols] = 0x3F80;
	x[4 * cols + 1] = 0x0080; /* the smallest normal number: its scale would be none */
	x[5 * cols + 2] = 0x7F7F; /* the largest number */
	x[5 * cols + 3] = 0xFF7F;
	return 1;
}

static void test_rows(void **state)
{
	static const float want[] = {127, 0, 2, 2, 0, -2, -126, 126, 0};
	struct model_weights *w;
	const struct weight *m;

	case_copy("v31-bf16", edit_rows, NULL, NULL);
	w = case_must_load(case_dir(), QUANTIZATION_W8A8_DYNAMIC, shard_plan_whole());
	m = &w->layers[1].experts[3].down;
	for (uint32_t i = 0; i < sizeof(want) / sizeof(*want); i++)
		assert_true(weight_get(m, 0, i) == want[i]); /* halves go to even */
	assert_true(m->scales[weight_scale_index(m, 1, 0)] == 0);
	assert_true(isnan(m->scales[weight_scale_index(m, 2, 0)]));
	assert_true(isnan(m->scales[weight_scale_index(m, 3, 0)]));
	assert_true(m->scales[weight_scale_index(m, 4, 0)] == 0);
	assert_true(weight_get(m, 5, 2) == -weight_get(m, 5, 3) && isfinite(weight_get(m, 5, 2)));
	assert_true(weight_get(m, 5, 2) > 3.38e38f);
	assert_int_equal(m->bias[weight_scale_index(m, 0, 0)], -128 * (127 + 2 + 2 - 2 - 126 + 126));
	weights_destroy(w);
}

static void refused(const char *golden, enum weights_quantization q, const char *says)
{
	struct model_weights *w;
	struct error err;
	char dir[256];
	enum status st;

	snprintf(dir, sizeof(dir), "%s/golden/%s", TEST_DATA, golden);
	st = case_load(&w, dir, q, shard_plan_whole(), &err);
	if (st == OK)
		fail_msg("%s loaded; expected '%s'", golden, says);
	if (st != E_INVAL || !strstr(err.msg, says))
		fail_msg("status %d, '%s'; expected '%s'", st, err.msg, says);
}

static void test_refusals(void **state)
{
	refused("v31-w8a8", QUANTIZATION_W8A8_DYNAMIC,
		"--quantization w8a8_dynamic: " TEST_DATA "/golden/v31-w8a8 has a quant_model_description*.json");
	refused("v31-bf16", QUANTIZATION_FP8, "config.json has no quantization_config fp8");
	refused("v31-w4a8", QUANTIZATION_FP8, "config.json has no quantization_config fp8");
	refused("v31-fp8", QUANTIZATION_ASCEND, "has no quant_model_description*.json");
}

/* Names that only say what the checkpoint is change nothing. */
static void test_names(void **state)
{
	struct model_weights *a, *b;
	struct error err;

	for (int q = QUANTIZATION_FP8; q < QUANTIZATION_COUNT; q++)
		assert_int_equal(weights_quantization_parse(weights_quantization_name(q)), q);
	assert_int_equal(weights_quantization_parse(""), QUANTIZATION_COUNT);
	assert_int_equal(weights_quantization_parse("awq"), QUANTIZATION_COUNT);
	assert_int_equal(case_load(&a, TEST_DATA "/golden/v3-fp8", QUANTIZATION_STORED, shard_plan_whole(), &err), OK);
	assert_int_equal(case_load(&b, TEST_DATA "/golden/v3-fp8", QUANTIZATION_FP8, shard_plan_whole(), &err), OK);
	assert_int_equal(a->bytes, b->bytes);
	assert_false(b->config.integer);
	assert_memory_equal(a->map, b->map, a->bytes);
	weights_destroy(a);
	weights_destroy(b);
	assert_int_equal(case_load(&a, TEST_DATA "/golden/v31-w8a8", QUANTIZATION_ASCEND, shard_plan_whole(), &err), OK);
	weights_destroy(a);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, case_setup, case_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_elements),
		cmocka_unit_test(test_shards),
		CASE(test_rows),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
