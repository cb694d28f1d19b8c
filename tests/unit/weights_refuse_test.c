/*
 * Checkpoints that lack a tensor or hold another one than expected: refused with a line that names the
 * tensor, what was found and what was expected. And the ones that differ in form only, and load.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cm.h"
#include "weights/weights.h"
#include "weights_case.h"

/* What happens to one tensor. */
struct change {
	const char *tensor;
	enum { DROP, DTYPE, SWAP_SHAPE, HALVE_TO_F8, DOUBLE_TO_BF16, SET_F32 } how;
	const char *dtype; /* DTYPE: the new name, of the same size */
	size_t index;      /* SET_F32 */
	float value;
	const char *says;
	enum status status;
};

static int apply(struct case_tensor *t, const void *arg)
{
	const struct change *c = arg;
	uint64_t first = t->shape[0];

	if (strcmp(t->name, c->tensor) != 0)
		return 1;
	switch (c->how) {
	case DROP:
		return 0;
	case DTYPE:
		snprintf(t->dtype, sizeof(t->dtype), "%s", c->dtype);
		break;
	case SWAP_SHAPE:
		t->shape[0] = t->shape[1];
		t->shape[1] = first;
		break;
	case HALVE_TO_F8:
		snprintf(t->dtype, sizeof(t->dtype), "F8_E4M3");
		t->bytes /= 2;
		break;
	case DOUBLE_TO_BF16:
		snprintf(t->dtype, sizeof(t->dtype), "BF16");
		free(t->data);
		t->bytes *= 2;
		t->data = calloc(1, t->bytes);
		break;
	case SET_F32:
		memcpy(t->data + 4 * c->index, &c->value, 4);
		break;
	}
	return 1;
}

#define L1 "model.layers.1."

static const struct change changes[] = {
	{L1 "self_attn.kv_b_proj.weight", DROP, .says = L1 "self_attn.kv_b_proj.weight is missing",
		.status = E_FORMAT},
	{"lm_head.weight", DROP, .says = "lm_head.weight is missing", .status = E_FORMAT},
	{"model.norm.weight", DROP, .says = "model.norm.weight is missing", .status = E_FORMAT},
	{L1 "mlp.experts.15.up_proj.weight", DROP, .says = "experts.15.up_proj.weight is missing",
		.status = E_FORMAT},
	{L1 "mlp.gate.e_score_correction_bias", DROP, .says = "e_score_correction_bias is missing",
		.status = E_FORMAT},
	{L1 "self_attn.o_proj.weight_scale_inv", DROP, .says = "o_proj.weight_scale_inv is missing",
		.status = E_FORMAT},
	{"model.layers.2.enorm.weight", DROP, .says = "model.layers.2.enorm.weight is missing",
		.status = E_FORMAT},
	{L1 "self_attn.o_proj.weight", SWAP_SHAPE, .says = "has shape [192, 256], expected [256, 192]",
		.status = E_FORMAT},
	{L1 "self_attn.kv_b_proj.weight_scale_inv", SWAP_SHAPE,
		.says = "has shape [1, 3], expected [3, 1]", .status = E_FORMAT},
	{L1 "self_attn.o_proj.weight", DTYPE, "I8", .says = "o_proj.weight is I8, expected BF16, F32 or",
		.status = E_UNSUPPORTED},
	{L1 "input_layernorm.weight", DTYPE, "F16",
		.says = "input_layernorm.weight is F16, expected F32 or BF16", .status = E_UNSUPPORTED},
	{"model.embed_tokens.weight", DTYPE, "F16", .says = "embed_tokens.weight is F16, expected BF16",
		.status = E_UNSUPPORTED},
	{L1 "self_attn.o_proj.weight_scale_inv", DTYPE, "I32",
		.says = "weight_scale_inv is I32, expected F32, BF16 or F8_E8M0", .status = E_UNSUPPORTED},
	{"lm_head.weight", HALVE_TO_F8, .says = "lm_head.weight is F8_E4M3, expected BF16 or F32",
		.status = E_UNSUPPORTED},
	{L1 "mlp.gate.weight", HALVE_TO_F8, .says = "gate.weight is F8_E4M3, expected BF16 or F32",
		.status = E_UNSUPPORTED},
	{"model.layers.0.mlp.up_proj.weight", DOUBLE_TO_BF16,
		.says = "up_proj.weight is BF16, the one that it is joined with is not",
		.status = E_UNSUPPORTED},
	{L1 "self_attn.o_proj.weight_scale_inv", SET_F32, .index = 3, .value = NAN,
		.says = "o_proj.weight_scale_inv: scale 3 is", .status = E_FORMAT},
	{L1 "self_attn.o_proj.weight_scale_inv", SET_F32, .index = 0, .value = INFINITY,
		.says = "scale 0 is inf, expected a positive number", .status = E_FORMAT},
	{L1 "self_attn.kv_b_proj.weight_scale_inv", SET_F32, .index = 1, .value = 0,
		.says = "kv_b_proj.weight_scale_inv: scale 1 is 0", .status = E_FORMAT},
	{"model.layers.0.mlp.down_proj.weight_scale_inv", SET_F32, .index = 5, .value = -1,
		.says = "down_proj.weight_scale_inv: scale 5 is -1", .status = E_FORMAT},
};

static void test_changes(void **state)
{
	for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
		case_copy("v3-fp8", apply, &changes[i], NULL);
		case_refused(changes[i].status, changes[i].says);
	}
}

/* A bias beside a matrix would change the results. */
static void test_biases(void **state)
{
	static const char *const names[] = {
		"model.layers.0.self_attn.q_a_proj.bias", "model.layers.1.mlp.experts.3.up_proj.bias"};
	uint8_t zeros[512] = {0};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		struct case_tensor t = {
			.dtype = "BF16", .rank = 1, .shape = {256}, .data = zeros, .bytes = 512};

		snprintf(t.name, sizeof(t.name), "%s", names[i]);
		case_copy("v3-fp8", NULL, NULL, &t);
		case_refused(E_UNSUPPORTED, names[i]);
	}
}

static void test_nvfp4(void **state)
{
	case_copy("v3-fp8", NULL, NULL, NULL);
	case_write_file("hf_quant_config.json", "{}", 2);
	case_refused(E_UNSUPPORTED, "NVFP4");
}

static int drop_mtp(struct case_tensor *t, const void *arg)
{
	return strncmp(t->name, "model.layers.2.", 15) != 0;
}

/* Conversions often leave the MTP layer out and the configuration as it was. */
static void test_without_mtp(void **state)
{
	struct model_weights *w;

	case_copy("v3-fp8", drop_mtp, NULL, NULL);
	w = case_must_load(case_dir(), QUANTIZATION_STORED, shard_plan_whole());
	assert_null(w->mtp);
	weights_destroy(w);
}

/* F32 scales that are powers of two, written as `arg` says. */
static int convert_scales(struct case_tensor *t, const void *arg)
{
	size_t n = t->bytes / 4;
	int bf16 = strcmp(arg, "BF16") == 0;

	if (!strstr(t->name, "weight_scale_inv"))
		return 1;
	for (size_t i = 0; i < n; i++) {
		uint32_t u;

		memcpy(&u, t->data + 4 * i, 4);
		assert_int_equal(u & 0x7FFFFF, 0);
		if (bf16) {
			uint16_t x = (uint16_t)(u >> 16);

			memcpy(t->data + 2 * i, &x, 2);
		} else {
			t->data[i] = (uint8_t)(u >> 23);
		}
	}
	t->bytes = n * (bf16 ? 2 : 1);
	snprintf(t->dtype, sizeof(t->dtype), "%s", (const char *)arg);
	return 1;
}

static void same_matrix(const struct weight *a, const struct weight *b)
{
	assert_int_equal(a->format, b->format);
	assert_int_equal(a->n, b->n);
	assert_memory_equal(a->panels, b->panels, weight_panels_bytes(a));
	if (a->scales)
		assert_memory_equal(
			a->scales, b->scales, sizeof(float) * a->n_panels * a->k_blocks);
}

static void test_scale_types(void **state)
{
	static const char *const types[] = {"BF16", "F8_E8M0", "U8"};
	struct model_weights *w, *other;

	case_copy("v31-fp8", NULL, NULL, NULL);
	w = case_must_load(case_dir(), QUANTIZATION_STORED, shard_plan_whole());
	for (size_t i = 0; i < 3; i++) {
		case_copy("v31-fp8", convert_scales, types[i], NULL);
		other = case_must_load(case_dir(), QUANTIZATION_STORED, shard_plan_whole());
		for (uint32_t l = 0; l < w->config.num_hidden_layers; l++) {
			same_matrix(&w->layers[l].attn.kv_a_proj, &other->layers[l].attn.kv_a_proj);
			same_matrix(&w->layers[l].attn.kv_b_kt, &other->layers[l].attn.kv_b_kt);
			same_matrix(&w->layers[l].mlp.gate_up, &other->layers[l].mlp.gate_up);
		}
		weights_destroy(other);
	}
	weights_destroy(w);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, case_setup, case_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_changes),
		CASE(test_biases),
		CASE(test_nvfp4),
		CASE(test_without_mtp),
		CASE(test_scale_types),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
