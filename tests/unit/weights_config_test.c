/* config.json: every published file, what follows from it, and what is refused. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cm.h"
#include "base/json.h"
#include "weights/config.h"

static json_t *load(const char *name)
{
	char path[512];
	json_t *root;
	struct error err;

	snprintf(path, sizeof(path), "%s/deepseek-v3.1/%s", TEST_DATA, name);
	if (json_load_path(&root, path, 1 << 20, &err) != OK)
		fail_msg("%s", err.msg);
	return root;
}

static enum status parse(struct model_config *c, json_t *root, struct error *err)
{
	char *text = json_dumps(root, 0);
	enum status st = config_parse(c, text, strlen(text), "config.json", err);

	free(text);
	return st;
}

static struct model_config parsed(const char *name)
{
	json_t *root = load(name);
	struct model_config c;
	struct error err;

	if (parse(&c, root, &err) != OK)
		fail_msg("%s: %s", name, err.msg);
	json_decref(root);
	return c;
}

static void test_v31(void **state)
{
	struct model_config c = parsed("config.json");

	assert_string_equal(c.model_type, "deepseek_v3");
	assert_int_equal(c.hidden_size, 7168);
	assert_int_equal(c.q_lora_rank, 1536);
	assert_int_equal(c.n_routed_experts, 256);
	assert_int_equal(c.first_k_dense_replace, 3);
	assert_int_equal(c.num_nextn_predict_layers, 1);
	assert_int_equal(c.scoring_func, ROUTE_SIGMOID);
	assert_int_equal(c.group_score, ROUTE_GROUP_TOP2_SUM);
	assert_true(c.router_bias && c.norm_topk_prob && c.fp8 && c.fp8_ue8m0);
	assert_int_equal(c.n_eos, 1);
	assert_int_equal(c.eos_token_id[0], 1);
	assert_float_equal(c.softmax_scale, 0.1352338, 1e-6);
	assert_float_equal(c.rope_mscale, 1, 0);
}

/* spec: model, section 14. */
static void test_rope(void **state)
{
	static const struct {
		int j;
		double freq;
	} rows[] = {{0, 1}, {1, 0.7498942}, {5, 0.2371374}, {10, 0.05623413}, {11, 0.03900693},
		{12, 0.02687936}, {16, 0.0055}, {20, 7.905694e-4}, {22, 1.778279e-4}, {23, 3.333804e-5},
		{24, 2.5e-5}, {31, 3.333804e-6}};
	struct model_config c = parsed("config.json");

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_true(fabs(c.rope_freq[rows[i].j] / rows[i].freq - 1) < 1e-6);
}

static void test_relatives(void **state)
{
	struct model_config c = parsed("config.V3.json");

	assert_true(c.fp8 && !c.fp8_ue8m0);
	c = parsed("config.R1.json");
	assert_int_equal(c.num_hidden_layers, 61);
	c = parsed("config.Kimi-K2-Instruct.json");
	assert_string_equal(c.model_type, "kimi_k2");
	assert_int_equal(c.n_routed_experts, 384);
	assert_int_equal(c.group_score, ROUTE_GROUP_NONE);
	assert_int_equal(c.num_nextn_predict_layers, 0);
	assert_float_equal(c.softmax_scale, 0.1308608, 1e-6);
	c = parsed("config.Moonlight-16B-A3B.json");
	assert_int_equal(c.q_lora_rank, 0);
	assert_false(c.yarn.on);
	assert_float_equal(c.softmax_scale, 1 / sqrt(192), 1e-7);
	assert_float_equal(c.rope_freq[1], pow(50000, -2.0 / 64), 1e-6);
	assert_float_equal(c.rope_mscale, 1, 0);
	assert_int_equal(c.eos_token_id[0], 163586);
}

static void test_shapes(void **state)
{
	static const char *const names[] = {"v3.1", "kimi-k2", "moonlight", "v2-lite"};
	struct model_config c, v31 = parsed("config.json");
	struct error err;

	for (size_t i = 0; i < 4; i++)
		assert_int_equal(config_shape(&c, names[i], &err), OK);
	assert_float_equal(c.softmax_scale, 0.1147214, 1e-6); /* v2-lite */
	assert_int_equal(c.scoring_func, ROUTE_SOFTMAX);
	assert_int_equal(config_shape(&c, "v3.1", &err), OK);
	assert_memory_equal(c.rope_freq, v31.rope_freq, sizeof(c.rope_freq));
	assert_int_equal(c.vocab_size, v31.vocab_size);
	assert_int_equal(config_shape(&c, "v4", &err), E_INVAL);
	assert_non_null(strstr(err.msg, "unknown shape 'v4'"));
}

/* One field changed, and what the message must name. A value of "-" removes the field. */
static const struct {
	const char *key, *value, *says;
	enum status status;
} refusals[] = {
	{"model_type", "\"deepseek_v32\"", "sparse attention", E_UNSUPPORTED},
	{"model_type", "\"llama\"", "model_type llama", E_UNSUPPORTED},
	{"model_type", "-", "model_type", E_FORMAT},
	{"hidden_size", "-", "hidden_size", E_FORMAT},
	{"hidden_size", "7168.5", "hidden_size", E_FORMAT},
	{"hidden_size", "7169", "hidden_size 7169 is not a multiple of 32", E_UNSUPPORTED},
	{"hidden_size", "9223372036854775807", "hidden_size", E_FORMAT},
	{"hidden_size", "-32", "hidden_size", E_FORMAT},
	{"num_hidden_layers", "0", "num_hidden_layers", E_FORMAT},
	{"vocab_size", "\"129280\"", "vocab_size", E_FORMAT},
	{"kv_lora_rank", "null", "kv_lora_rank", E_FORMAT},
	{"qk_rope_head_dim", "512", "qk_rope_head_dim", E_FORMAT},
	{"architectures", "[\"DeepseekV32ForCausalLM\"]", "architectures DeepseekV32ForCausalLM",
		E_UNSUPPORTED},
	{"architectures", "[1]", "architectures[0]", E_FORMAT},
	{"architectures", "-", "", OK},
	{"index_topk", "2048", "index_topk", E_UNSUPPORTED},
	{"num_key_value_heads", "8", "num_key_value_heads", E_FORMAT},
	{"n_routed_experts", "2048", "n_routed_experts", E_FORMAT},
	{"n_group", "-", "n_group is missing", E_FORMAT},
	{"routed_scaling_factor", "-", "routed_scaling_factor is missing", E_FORMAT},
	{"rope_interleave", "false", "rope_interleave", E_UNSUPPORTED},
	{"rope_scaling", "{\"type\": \"yarn\", \"factor\": 40}", "original_max_position_embeddings",
		E_FORMAT},
	{"rope_scaling", "{\"factor\": 40}", "neither type nor rope_type", E_FORMAT},
	{"rope_scaling", "{\"type\": \"yarn\", \"rope_type\": \"linear\"}", "rope_type linear", E_FORMAT},
	{"rope_scaling",
		"{\"type\": \"yarn\", \"factor\": 40, \"original_max_position_embeddings\": 4096, "
		"\"beta_fast\": 1, \"beta_slow\": 32}",
		"beta_fast 1 is below beta_slow 32", E_FORMAT},
	{"rope_scaling",
		"{\"type\": \"yarn\", \"factor\": 40, \"original_max_position_embeddings\": 4096, "
		"\"attention_factor\": 2}",
		"attention_factor", E_UNSUPPORTED},
	{"quantization_config",
		"{\"quant_method\": \"modelopt\", \"quant_algo\": \"NVFP4\"}", "quant_method modelopt",
		E_UNSUPPORTED},
	{"quantization_config",
		"{\"quant_method\": \"fp8\", \"weight_block_size\": [128, 128], \"scale_fmt\": \"e5\"}",
		"scale_fmt e5", E_UNSUPPORTED},
	{"moe_layer_freq", "2", "moe_layer_freq", E_FORMAT},
	{"num_experts_per_tok", "0", "num_experts_per_tok", E_FORMAT},
	{"num_experts_per_tok", "64", "", OK},
	{"n_group", "7", "n_group 7", E_FORMAT},
	{"topk_group", "9", "topk_group 9", E_FORMAT},
	{"scoring_func", "\"relu\"", "scoring_func relu", E_UNSUPPORTED},
	{"topk_method", "\"best\"", "topk_method best", E_UNSUPPORTED},
	{"attention_bias", "true", "attention_bias", E_UNSUPPORTED},
	{"tie_word_embeddings", "true", "tie_word_embeddings", E_UNSUPPORTED},
	{"hidden_act", "\"gelu\"", "hidden_act gelu", E_UNSUPPORTED},
	{"num_nextn_predict_layers", "2", "num_nextn_predict_layers", E_FORMAT},
	{"rms_norm_eps", "-1", "rms_norm_eps", E_FORMAT},
	{"rope_theta", "1", "rope_theta", E_FORMAT},
	{"rope_scaling", "{\"type\": \"longrope\"}", "rope_scaling type longrope", E_UNSUPPORTED},
	{"rope_scaling", "[]", "rope_scaling", E_FORMAT},
	{"rope_scaling", "{\"type\": \"yarn\", \"factor\": 0}", "factor", E_FORMAT},
	{"eos_token_id", "[1, 129280]", "eos_token_id[1]", E_FORMAT},
	{"eos_token_id", "[0,1,2,3,4,5,6,7,8]", "eos_token_id", E_FORMAT},
	{"quantization_config", "{\"quant_method\": \"gptq\"}", "quant_method gptq", E_UNSUPPORTED},
	{"quantization_config", "{\"quant_method\": \"fp8\", \"weight_block_size\": [64, 64]}",
		"weight_block_size", E_UNSUPPORTED},
	{"quantization_config", "{\"quant_method\": \"fp8\", \"fmt\": \"e5m2\"}", "fmt e5m2",
		E_UNSUPPORTED},
};

static void test_refusals(void **state)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
		json_t *root = load("config.json");
		struct model_config c;
		struct error err;
		enum status st;

		if (strcmp(refusals[i].value, "-") == 0)
			json_object_del(root, refusals[i].key);
		else
			json_object_set_new(root, refusals[i].key,
				json_loads(refusals[i].value, JSON_DECODE_ANY, NULL));
		st = parse(&c, root, &err);
		if (st != refusals[i].status || (st != OK && !strstr(err.msg, refusals[i].says)))
			fail_msg("%s = %s: status %d, '%s'", refusals[i].key, refusals[i].value, st,
				st == OK ? "" : err.msg);
		json_decref(root);
	}
}

/* Newer files describe RoPE under another key, rope_theta included. */
static void test_rope_parameters(void **state)
{
	struct model_config c, v31 = parsed("config.json");
	json_t *root = load("config.json"), *rope = json_copy(json_object_get(root, "rope_scaling"));
	struct error err;

	json_object_set(rope, "rope_theta", json_object_get(root, "rope_theta"));
	json_object_set_new(rope, "rope_type", json_string("yarn"));
	json_object_del(rope, "type");
	json_object_del(root, "rope_scaling");
	json_object_del(root, "rope_theta");
	json_object_set_new(root, "rope_parameters", rope);
	if (parse(&c, root, &err) != OK)
		fail_msg("%s", err.msg);
	assert_memory_equal(c.rope_freq, v31.rope_freq, sizeof(c.rope_freq));
	assert_float_equal(c.softmax_scale, v31.softmax_scale, 0);
	json_object_set_new(rope, "rope_theta", json_integer(50000));
	assert_int_equal(parse(&c, root, &err), OK);
	assert_float_equal(c.rope_theta, 50000, 0);
	json_decref(root);
}

/* config_finish() stands alone for configurations that were never a file. */
static void test_hand_made(void **state)
{
	struct model_config c, good;
	struct error err;

	assert_int_equal(config_shape(&good, "v3.1", &err), OK);
	c = good;
	c.qk_rope_head_dim = 4096;
	assert_int_equal(config_finish(&c, "--shape", &err), E_FORMAT);
	assert_non_null(strstr(err.msg, "--shape: qk_rope_head_dim: found 4096, expected 1 to 256"));
	c = good;
	c.n_group = 0;
	assert_int_equal(config_finish(&c, "--shape", &err), E_FORMAT);
	c = good;
	c.n_routed_experts = 1032;
	assert_int_equal(config_finish(&c, "--shape", &err), E_FORMAT);
	c = good;
	c.hidden_size = 0;
	assert_int_equal(config_finish(&c, "--shape", &err), E_FORMAT);
}

/* Whatever the path's length, a message names the key. */
static void test_long_path(void **state)
{
	static const char text[] = "{\"model_type\": \"deepseek_v3\"}";
	struct model_config c;
	struct error err;
	char path[600];

	memset(path, 'd', sizeof(path));
	strcpy(path + 550, "/config.json");
	assert_int_equal(config_parse(&c, text, strlen(text), path, &err), E_FORMAT);
	assert_non_null(strstr(err.msg, "/config.json: vocab_size"));
}

static void test_v32_by_its_own_file(void **state)
{
	json_t *root = load("config.V3.2.json");
	struct model_config c;
	struct error err;

	assert_int_equal(parse(&c, root, &err), E_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "model_type deepseek_v32"));
	json_decref(root);
}

static void test_not_a_config(void **state)
{
	static const char *const texts[] = {"", "[]", "null", "{", "{\"a\":1,\"a\":2}", "\xFF"};
	struct model_config c;
	struct error err;

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		assert_int_not_equal(
			config_parse(&c, texts[i], strlen(texts[i]), "the file", &err), OK);
		assert_non_null(strstr(err.msg, "the file"));
	}
}

static void test_generation_config(void **state)
{
	struct generation_config g;
	struct error err;

	assert_int_equal(generation_config_load(&g, TEST_DATA "/deepseek-v3.1", &err), OK);
	assert_float_equal(g.temperature, 0.6, 1e-9);
	assert_float_equal(g.top_p, 0.95, 1e-9);
	assert_true(isnan(g.min_p));
	assert_int_equal(g.top_k, -1);
	assert_int_equal(g.do_sample, 1);
	assert_int_equal(g.n_eos, 1);
	assert_int_equal(generation_config_load(&g, TEST_DATA "/templates", &err), OK);
	assert_true(isnan(g.temperature));
	assert_int_equal(g.do_sample, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_v31),
		cmocka_unit_test(test_rope),
		cmocka_unit_test(test_relatives),
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_rope_parameters),
		cmocka_unit_test(test_hand_made),
		cmocka_unit_test(test_long_path),
		cmocka_unit_test(test_v32_by_its_own_file),
		cmocka_unit_test(test_not_a_config),
		cmocka_unit_test(test_generation_config),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
