/*
 * Checkpoints of msmodelslim: elements of packed matrices against the files, and what is refused with a
 * line that names tensor, file and scheme.
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
#define DESCRIPTION "quant_model_description.json"
#define SAMPLES 300

/* --- elements ----------------------------------------------------------------------------------- */

struct files {
	struct safetensors *set;
	struct model_weights *w;
};

static double value(const struct files *f, const char *name, uint64_t at)
{
	const struct st_tensor *t = safetensors_find(f->set, name);
	uint8_t raw[8];
	struct error err;

	if (!t)
		fail_msg("no tensor %s", name);
	assert_int_equal(safetensors_read(f->set, t, raw, at * dtype_bytes(t->dtype), dtype_bytes(t->dtype), &err),
		OK);
	if (t->dtype == DT_I32) {
		int32_t x;

		memcpy(&x, raw, sizeof(x));
		return x;
	}
	return (double)dtype_to_f32(t->dtype, raw, 0);
}

static double part(const struct files *f, const char *name, const char *suffix, uint64_t at)
{
	char full[160];

	snprintf(full, sizeof(full), "%s.%s", name, suffix);
	return value(f, full, at);
}

/* Element (row, col) by the arithmetic of the schemes (spec: ascend, 2d), from the files. */
static double stored(const struct files *f, const char *name, uint32_t row, uint32_t col, uint32_t cols,
	bool int4, uint32_t group)
{
	double x;

	if (!int4)
		return part(f, name, "weight", (uint64_t)row * cols + col) *
		       part(f, name, "weight_scale", row);
	x = part(f, name, "weight", (uint64_t)(row / 2) * cols + col);
	/* Two's complement of the low nibble, or of the high one, which brings the byte's sign along. */
	x = row % 2 ? floor(x / 16) : fmod(x + 256 + 8, 16) - 8;
	if (group)
		x *= part(f, name, "weight_scale_second", (uint64_t)row * (cols / group) + col / group);
	return x * part(f, name, "weight_scale", row);
}

/* Interleaved halves of gate_up: half 0 or 1; others: half -1. */
static void check_matrix(const struct files *f, const struct weight *w, const char *name, bool int4,
	uint32_t group, int half)
{
	uint32_t rows = half < 0 ? w->n : w->n / 2;

	assert_int_equal(w->format, int4 ? WEIGHT_I4 : WEIGHT_I8);
	assert_int_equal(w->k_block, group ? group : w->k_padded);
	for (uint32_t i = 0; i < SAMPLES; i++) {
		uint32_t row = (uint32_t)(random_u64(1, i) % rows), col = (uint32_t)(random_u64(2, i) % w->k);
		uint32_t at = half < 0 ? row : row / 32 * 64 + (uint32_t)half * 32 + row % 32;
		double want = stored(f, name, row, col, w->k, int4, group), got = weight_get(w, at, col);

		if (fabs(got - want) > fabs(want) * 1e-6)
			fail_msg("%s [%u, %u]: %g, stored %g", name, row, col, got, want);
	}
}

static void check_static(const struct files *f, const struct weight *w, const char *name)
{
	assert_int_equal(w->format, WEIGHT_I8);
	assert_true((double)w->input_scale == part(f, name, "input_scale", 0));
	assert_true((double)w->input_offset == part(f, name, "input_offset", 0));
	for (uint32_t row = 0; row < w->n; row += 7) {
		size_t at = weight_scale_index(w, row, 0);
		double sum = 0;

		assert_true((double)w->scales[at] == part(f, name, "deq_scale", row));
		for (uint32_t k = 0; k < w->k; k++)
			sum += part(f, name, "weight", (uint64_t)row * w->k + k);
		assert_true(w->bias[at] == part(f, name, "quant_bias", row) - 128 * sum);
	}
}

static void check_norm(const struct files *f, const struct norm_weights *norm, const char *name, uint32_t n)
{
	assert_non_null(norm->bias);
	for (uint32_t i = 0; i < n; i += 5) {
		assert_true((double)norm->weight[i] == part(f, name, "weight", i));
		assert_true((double)norm->bias[i] == part(f, name, "bias", i));
	}
}

static void check_checkpoint(const char *golden, bool int4, uint32_t group)
{
	const struct layer_weights *l;
	struct files f;
	struct error err;
	char dir[256];

	snprintf(dir, sizeof(dir), "%s/golden/%s", TEST_DATA, golden);
	assert_int_equal(safetensors_open_dir(&f.set, dir, &err), OK);
	f.w = case_must_load(dir, QUANTIZATION_STORED, shard_plan_whole());
	assert_true(f.w->config.integer);
	l = &f.w->layers[1];
	check_static(&f, &l->attn.q_a_proj, L1 "self_attn.q_a_proj");
	check_static(&f, &l->attn.kv_a_proj, L1 "self_attn.kv_a_proj_with_mqa");
	check_static(&f, &l->attn.q_b_proj, L1 "self_attn.q_b_proj");
	check_static(&f, &l->attn.o_proj, L1 "self_attn.o_proj");
	assert_int_equal(l->attn.kv_b_k.format, WEIGHT_BF16);
	check_matrix(&f, &l->mlp.gate_up, L1 "mlp.shared_experts.gate_proj", false, 0, 0);
	check_matrix(&f, &l->mlp.down, L1 "mlp.shared_experts.down_proj", false, 0, -1);
	check_matrix(&f, &l->experts[5].gate_up, L1 "mlp.experts.5.gate_proj", int4, group, 0);
	check_matrix(&f, &l->experts[5].gate_up, L1 "mlp.experts.5.up_proj", int4, group, 1);
	check_matrix(&f, &l->experts[7].down, L1 "mlp.experts.7.down_proj", int4, group, -1);
	check_matrix(&f, &f.w->layers[0].mlp.gate_up, "model.layers.0.mlp.up_proj", false, 0, 1);
	check_norm(&f, &l->input_layernorm, L1 "input_layernorm", f.w->config.hidden_size);
	check_norm(&f, &l->attn.q_a_layernorm, L1 "self_attn.q_a_layernorm", 128);
	check_norm(&f, &l->attn.kv_a_layernorm, L1 "self_attn.kv_a_layernorm", 128);
	check_norm(&f, &f.w->norm, "model.norm", f.w->config.hidden_size);
	assert_non_null(f.w->mtp);
	assert_null(f.w->mtp->enorm.bias);
	check_matrix(&f, &f.w->mtp->layer.experts[0].down, "model.layers.2.mlp.experts.0.down_proj", false, 0, -1);
	assert_int_equal(f.w->mtp->eh_proj.format, WEIGHT_BF16);
	safetensors_close(f.set);
	weights_destroy(f.w);
}

static void test_elements(void **state)
{
	check_checkpoint("v31-w8a8", false, 0);
	check_checkpoint("v31-w4a8", true, 0);
	check_checkpoint("v31-w4a8-g256", true, 256);
}

/* Columns of two ranks: each corrects for its own part of a row, the first one adds quant_bias. */
static void test_shards(void **state)
{
	const char *dir = TEST_DATA "/golden/v31-w8a8";
	struct model_weights *whole = case_must_load(dir, QUANTIZATION_STORED, shard_plan_whole()), *r[2];
	const struct weight *w = &whole->layers[0].attn.o_proj, *a, *b;

	for (uint32_t i = 0; i < 2; i++)
		r[i] = case_must_load(
			dir, QUANTIZATION_STORED, (struct shard_plan){.tp_rank = i, .tp_size = 2, .ep_rank = 0, .ep_size = 1});
	a = &r[0]->layers[0].attn.o_proj;
	b = &r[1]->layers[0].attn.o_proj;
	assert_int_equal(a->k + b->k, w->k);
	for (uint32_t row = 0; row < w->n; row++) {
		size_t at = weight_scale_index(w, row, 0);

		assert_int_equal(a->bias[at] + b->bias[at], w->bias[at]);
		assert_true(a->scales[at] == w->scales[at] && b->scales[at] == w->scales[at]);
		assert_true(weight_get(b, row, 3) == weight_get(w, row, a->k + 3));
	}
	for (uint32_t i = 0; i < 2; i++)
		weights_destroy(r[i]);
	weights_destroy(whole);
}

/* --- forms of the same ------------------------------------------------------------------------- */

/* deq_scale as models in F16 have it, input_offset as an integer, scales as F16. */
static int other_types(struct case_tensor *t, const void *arg)
{
	if (strstr(t->name, ".deq_scale")) {
		uint8_t *wide = calloc(2, t->bytes);

		for (size_t i = 0; i < t->bytes / 4; i++)
			memcpy(wide + 8 * i, t->data + 4 * i, 4);
		free(t->data);
		t->data = wide;
		t->bytes *= 2;
		snprintf(t->dtype, sizeof(t->dtype), "I64");
	} else if (strstr(t->name, ".input_offset")) {
		float x = bf16_to_f32((uint16_t)(t->data[0] | t->data[1] << 8));

		t->data[0] = (uint8_t)(int8_t)x;
		t->bytes = 1;
		snprintf(t->dtype, sizeof(t->dtype), "I8");
	}
	return 1;
}

static void test_types(void **state)
{
	struct model_weights *want = case_must_load(TEST_DATA "/golden/v31-w8a8", QUANTIZATION_STORED, shard_plan_whole()), *got;

	case_copy("v31-w8a8", other_types, NULL, NULL);
	got = case_must_load(case_dir(), QUANTIZATION_STORED, shard_plan_whole());
	for (uint32_t l = 0; l < 2; l++) {
		const struct weight *a = &want->layers[l].attn.o_proj, *b = &got->layers[l].attn.o_proj;

		assert_true(a->input_offset == b->input_offset);
		assert_memory_equal(a->scales, b->scales, weight_scales_bytes(a));
	}
	weights_destroy(want);
	weights_destroy(got);
}

static void test_f16(void **state)
{
	static const struct {
		uint16_t bits;
		float value;
	} cases[] = {{0x3C00, 1}, {0xC500, -5}, {0x0001, 0x1p-24f}, {0x83FF, -0x3FFp-24f}, {0x7BFF, 65504},
		{0x7C00, INFINITY}, {0, 0}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_true(f16_to_f32(cases[i].bits) == cases[i].value);
	assert_true(isnan(f16_to_f32(0x7E00)));
}

/* Another file name counts when it is the only one. */
static void test_file_name(void **state)
{
	char path[256];

	case_copy("v31-w8a8", NULL, NULL, NULL);
	snprintf(path, sizeof(path), "%s/" DESCRIPTION, case_dir());
	assert_int_equal(remove(path), 0);
	case_refused(E_UNSUPPORTED, "is I8, expected BF16, F32 or F8_E4M3");
	case_write_json("quant_model_description_w8a8_dynamic.json", case_json("v31-w8a8", DESCRIPTION));
	weights_destroy(case_must_load(case_dir(), QUANTIZATION_STORED, shard_plan_whole()));
	case_write_json("quant_model_description_x.json", case_json("v31-w8a8", DESCRIPTION));
	case_refused(E_FORMAT, "2 files quant_model_description*.json");
}

/* Float MTP layers may have no entries. */
static int float_mtp(struct case_tensor *t, const void *arg)
{
	return strncmp(t->name, "model.layers.2.", 15) != 0 || strstr(t->name, "norm") ||
	       strstr(t->name, "eh_proj") || strstr(t->name, "mlp.gate.");
}

static void test_entries(void **state)
{
	json_t *d = case_json("v31-w8a8", DESCRIPTION), *next = json_object();
	const char *key;
	json_t *v;

	json_object_foreach(d, key, v)
		if (strncmp(key, "model.layers.2.", 15) != 0)
			json_object_set(next, key, v);
	json_decref(d);
	case_copy("v31-w8a8", float_mtp, NULL, NULL);
	case_write_json(DESCRIPTION, next);
	/* Taken as float, it lacks what a float layer has, and nobody asks for a scheme. */
	case_refused(E_FORMAT, "model.layers.2.self_attn.q_a_proj.weight is missing");
}

/* --- refusals ----------------------------------------------------------------------------------- */

/* One entry of the description. */
struct entry {
	const char *golden;
	const char *key;
	const char *text; /* NULL: removed; "#": a number */
	int number;
	enum status status;
	const char *says;
};

static const struct entry entries[] = {
	{"v31-w8a8", L1 "self_attn.o_proj.weight", NULL, 0, E_FORMAT,
		DESCRIPTION ": no entry for tensor " L1 "self_attn.o_proj.weight"},
	{"v31-w8a8", L1 "self_attn.o_proj.weight", "W4A4_DYNAMIC", 0, E_UNSUPPORTED,
		L1 "self_attn.o_proj.weight has the scheme W4A4_DYNAMIC, expected FLOAT, W8A8,"},
	{"v31-w8a8", L1 "self_attn.o_proj.weight", "#", 8, E_FORMAT,
		L1 "self_attn.o_proj.weight: expected the name of a scheme: FLOAT, W8A8,"},
	{"v31-w8a8", "model.embed_tokens.weight", "W8A8_DYNAMIC", 0, E_UNSUPPORTED,
		"model.embed_tokens.weight has the scheme W8A8_DYNAMIC, expected FLOAT"},
	{"v31-w8a8", L1 "input_layernorm.weight", "W8A8", 0, E_UNSUPPORTED,
		"input_layernorm.weight has the scheme W8A8, expected FLOAT"},
	{"v31-w8a8", L1 "input_layernorm.bias", "#", 1, E_UNSUPPORTED, "input_layernorm.bias has the scheme , expected"},
	{"v31-w8a8", "kv_quant_type", "C8", 0, E_UNSUPPORTED, "kv_quant_type C8: a quantized cache is not supported"},
	{"v31-w8a8", "fa_quant_type", "FAKQuant", 0, E_UNSUPPORTED, "fa_quant_type FAKQuant: a quantized cache"},
	{"v31-w8a8", L1 "self_attn.o_proj.weight", "FLOAT", 0, E_UNSUPPORTED,
		"o_proj.weight is I8, expected BF16 or F32"},
	{"v31-w8a8", L1 "self_attn.kv_b_proj.weight", "W8A8", 0, E_UNSUPPORTED,
		"kv_b_proj.weight has the scheme W8A8, expected FLOAT"},
	{"v31-w8a8", "lm_head.weight", "W8A8_DYNAMIC", 0, E_UNSUPPORTED,
		"lm_head.weight has the scheme W8A8_DYNAMIC, expected FLOAT"},
	{"v31-w8a8", L1 "self_attn.kv_a_proj_with_mqa.weight", "W8A8_DYNAMIC", 0, E_UNSUPPORTED,
		"kv_a_proj_with_mqa.weight has the scheme W8A8_DYNAMIC, self_attn.q_a_proj.weight with it W8A8"},
	{"v31-w8a8", L1 "mlp.experts.3.gate_proj.weight", "W8A8", 0, E_FORMAT,
		"experts.3.gate_proj.input_scale is missing, scheme W8A8"},
	{"v31-w8a8", L1 "mlp.experts.0.up_proj.weight", "W4A8_DYNAMIC", 0, E_FORMAT,
		"experts.0.up_proj.weight has shape [128, 256], expected [64, 256]"},
	{"v31-w4a8", "version", NULL, 0, E_UNSUPPORTED,
		"W4A8_DYNAMIC with version none, expected 1.0.0 (int4 of the old layout"},
	{"v31-w4a8", "version", "2.0.0", 0, E_UNSUPPORTED, "W4A8_DYNAMIC with version 2.0.0"},
	{"v31-w4a8", "group_size", "#", 256, E_FORMAT, "weight_scale_second is missing, scheme W4A8_DYNAMIC"},
	{"v31-w4a8-g256", "group_size", "#", 0, E_FORMAT, "_second has no place in the model"},
	{"v31-w4a8-g256", "group_size", "#", 96, E_UNSUPPORTED, "group_size 96, expected a multiple of 128"},
	{"v31-w4a8-g256", "group_size", "#", 128, E_FORMAT, "weight_scale_second has shape [256, 2], expected [256, 4]"},
	{"v31-w8a8", "group_size", "x", 0, E_FORMAT, "group_size"},
};

static void test_entry_refusals(void **state)
{
	for (size_t i = 0; i < sizeof(entries) / sizeof(*entries); i++) {
		const struct entry *e = &entries[i];
		json_t *d = case_json(e->golden, DESCRIPTION);

		if (!e->text)
			json_object_del(d, e->key);
		else
			json_object_set_new(d, e->key,
				e->text[0] == '#' ? json_integer(e->number) : json_string(e->text));
		case_copy(e->golden, NULL, NULL, NULL);
		case_write_json(DESCRIPTION, d);
		case_refused(e->status, e->says);
	}
}

/* What users run into most: each line names the file, the tensor and the scheme. */
static void test_refusals_name_all(void **state)
{
	static const struct {
		const char *golden, *key, *text, *file, *tensor, *scheme;
	} cases[] = {
		{"v31-w8a8", L1 "self_attn.o_proj.weight", NULL, DESCRIPTION, L1 "self_attn.o_proj.weight", "scheme"},
		{"v31-w8a8", L1 "self_attn.kv_a_proj_with_mqa.weight", "W8A8_DYNAMIC", DESCRIPTION,
			L1 "self_attn.kv_a_proj_with_mqa.weight", "W8A8_DYNAMIC"},
		{"v31-w8a8", "model.layers.0.mlp.up_proj.weight", "FLOAT", "model.safetensors",
			"model.layers.0.mlp.up_proj.weight", "scheme FLOAT"},
		{"v31-w8a8", L1 "mlp.experts.0.up_proj.weight", "W4A8_DYNAMIC", "model.safetensors",
			L1 "mlp.experts.0.up_proj.weight", "scheme W4A8_DYNAMIC"},
		{"v31-w8a8", L1 "mlp.experts.3.down_proj.weight", "W8A8", "model.safetensors",
			L1 "mlp.experts.3.down_proj.input_scale", "scheme W8A8"},
		{"v31-w4a8", L1 "mlp.experts.2.down_proj.weight", "W8A8_DYNAMIC", "model.safetensors",
			L1 "mlp.experts.2.down_proj.weight", "scheme W8A8_DYNAMIC"},
		{"v31-w4a8", "version", NULL, DESCRIPTION, L1 "mlp.experts.0.gate_proj.weight", "W4A8_DYNAMIC"},
		{"v31-w8a8", L1 "mlp.experts.0.up_proj.weight", "W8A16", DESCRIPTION, L1 "mlp.experts.0.up_proj.weight",
			"scheme W8A16"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		json_t *d = case_json(cases[i].golden, DESCRIPTION);
		struct model_weights *w;
		struct error err;

		if (cases[i].text)
			json_object_set_new(d, cases[i].key, json_string(cases[i].text));
		else
			json_object_del(d, cases[i].key);
		case_copy(cases[i].golden, NULL, NULL, NULL);
		case_write_json(DESCRIPTION, d);
		if (case_load(&w, case_dir(), QUANTIZATION_STORED, shard_plan_whole(), &err) == OK)
			fail_msg("%s as %s loaded", cases[i].key, cases[i].text);
		if (!strstr(err.msg, cases[i].file) || !strstr(err.msg, cases[i].tensor) ||
			!strstr(err.msg, cases[i].scheme))
			fail_msg("'%s'; expected %s, %s and %s in it", err.msg, cases[i].file, cases[i].tensor,
				cases[i].scheme);
	}
}

/* One tensor. */
struct change {
	const char *tensor;
	enum { DROP, RENAME_DTYPE, SET } how;
	const char *dtype;
	uint32_t bits; /* SET: the first four bytes, or two */
	enum status status;
	const char *says;
};

static int apply(struct case_tensor *t, const void *arg)
{
	const struct change *c = arg;

	if (strcmp(t->name, c->tensor) != 0)
		return 1;
	if (c->how == RENAME_DTYPE)
		snprintf(t->dtype, sizeof(t->dtype), "%s", c->dtype);
	if (c->how == SET)
		memcpy(t->data, &c->bits, t->bytes < 4 ? t->bytes : 4);
	return c->how != DROP;
}

static const struct change changes[] = {
	{L1 "self_attn.o_proj.deq_scale", DROP, NULL, 0, E_FORMAT, "o_proj.deq_scale is missing, scheme W8A8"},
	{L1 "self_attn.o_proj.quant_bias", DROP, NULL, 0, E_FORMAT, "o_proj.quant_bias is missing, scheme W8A8"},
	{L1 "mlp.experts.3.up_proj.weight_scale", DROP, NULL, 0, E_FORMAT,
		"experts.3.up_proj.weight_scale is missing, scheme W8A8_DYNAMIC"},
	{L1 "self_attn.o_proj.quant_bias", RENAME_DTYPE, "F32", 0, E_UNSUPPORTED, "quant_bias is F32, expected I32"},
	{L1 "self_attn.o_proj.weight", RENAME_DTYPE, "U8", 0, E_FORMAT,
		"o_proj.weight is U8, expected I8 for its scheme W8A8"},
	{L1 "self_attn.o_proj.quant_bias", SET, NULL, 0x40000000, E_FORMAT, "expected less than 2^30"},
	{L1 "self_attn.o_proj.deq_scale", SET, NULL, 0x7FC00000, E_FORMAT, "deq_scale: scale 0 is"},
	{L1 "mlp.experts.3.up_proj.weight_scale", SET, NULL, 0xBF800000, E_FORMAT,
		"weight_scale: scale 0 is -1, expected a number that is not negative"},
	{L1 "self_attn.q_b_proj.input_scale", SET, NULL, 0, E_FORMAT, "input_scale is 0, expected a positive"},
	{L1 "self_attn.q_b_proj.input_offset", SET, NULL, 0x4400, E_FORMAT, "input_offset is 512, expected"},
	{L1 "input_layernorm.bias", RENAME_DTYPE, "F16", 0, E_UNSUPPORTED,
		"input_layernorm.bias is F16, expected F32 or BF16"},
};

static void test_tensor_refusals(void **state)
{
	for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
		case_copy("v31-w8a8", apply, &changes[i], NULL);
		case_refused(changes[i].status, changes[i].says);
	}
}

/* Bits of an F32 in the low half; anything in the high half is something else. */
static int bad_wide(struct case_tensor *t, const void *arg)
{
	other_types(t, NULL);
	if (strcmp(t->name, L1 "self_attn.o_proj.deq_scale") == 0)
		t->data[8 * 3 + 4] = 1;
	return 1;
}

static void test_wide_scale(void **state)
{
	case_copy("v31-w8a8", bad_wide, NULL, NULL);
	case_refused(E_FORMAT, "o_proj.deq_scale: scale 3 is nan");
}

static int bad_norm(struct case_tensor *t, const void *arg)
{
	if (strcmp(t->name, "model.norm.weight") == 0)
		memset(t->data, 0xFF, 2);
	return 1;
}

static void test_norm_not_finite(void **state)
{
	case_copy("v31-w8a8", bad_norm, NULL, NULL);
	case_refused(E_FORMAT, "model.norm.weight: value 0 is ");
}

/* Groups cannot be divided among more ranks than there are. */
static void test_group_ranks(void **state)
{
	struct model_weights *w;
	struct error err;
	struct shard_plan plan = {.tp_rank = 0, .tp_size = 2, .ep_rank = 0, .ep_size = 1};

	assert_int_not_equal(case_load(&w, TEST_DATA "/golden/v31-w4a8-g256", QUANTIZATION_STORED,
				     (struct shard_plan){.tp_rank = 1, .tp_size = 2, .ep_rank = 0, .ep_size = 1},
				     &err),
		OK);
	assert_non_null(strstr(err.msg, "cannot be divided among 2 ranks"));
	weights_destroy(case_must_load(TEST_DATA "/golden/v31-w4a8", QUANTIZATION_STORED, plan));
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, case_setup, case_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_elements),
		cmocka_unit_test(test_shards),
		cmocka_unit_test(test_f16),
		cmocka_unit_test(test_group_ranks),
		CASE(test_types),
		CASE(test_file_name),
		CASE(test_entries),
		CASE(test_entry_refusals),
		CASE(test_refusals_name_all),
		CASE(test_tensor_refusals),
		CASE(test_wide_scale),
		CASE(test_norm_not_finite),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
