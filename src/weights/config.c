/*
 * config.json of DeepSeek-V3 and its relatives (weights/config.h): reading, then checking.
 *
 * What would change the arithmetic and is not implemented is refused here by name, so that the rest of
 * the program never meets it.
 */
#include "weights/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"

#define MAX_CONFIG_BYTES ((size_t)16 << 20)
#define MAX_LAYERS 1024
#define MAX_HIDDEN 65536
#define MAX_EXPERTS 4096
#define MAX_TOP_K 64
#define MAX_VOCAB (1 << 21)

/* Document under inspection. */
struct reader {
	json_t *root;
	const char *what;
	struct error *err;
};

static enum status size_field(
	const struct reader *r, const char *key, int64_t min, int64_t max, uint32_t *out)
{
	int64_t v;

	TRY(json_get_int(&v, r->root, r->what, key, min, max, r->err));
	*out = (uint32_t)v;
	return OK;
}

static enum status opt_size_field(const struct reader *r, const char *key, int64_t min, int64_t max,
	int64_t def, uint32_t *out)
{
	int64_t v;

	TRY(json_opt_int(&v, r->root, r->what, key, min, max, def, r->err));
	*out = (uint32_t)v;
	return OK;
}

static enum status refuse(const struct reader *r, const char *key, const char *value, const char *why)
{
	return error_set(r->err, E_UNSUPPORTED, "%.100s: %s %.40s is not supported%s%s", r->what, key, value,
		*why ? ": " : "", why);
}

static enum status read_model_type(const struct reader *r, struct model_config *c)
{
	static const char *const known[] = {"deepseek_v3", "deepseek_v2", "kimi_k2"};
	const char *type;

	TRY(json_get_string(&type, r->root, r->what, "model_type", r->err));
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strcmp(type, known[i]) == 0) {
			snprintf(c->model_type, sizeof(c->model_type), "%s", type);
			return OK;
		}
	if (strcmp(type, "deepseek_v32") == 0)
		return refuse(r, "model_type", type,
			"DeepSeek-V3.2's sparse attention (index_topk) is not implemented");
	return refuse(r, "model_type", type, "expected deepseek_v3, deepseek_v2 or kimi_k2");
}

static enum status read_sizes(const struct reader *r, struct model_config *c)
{
	TRY(size_field(r, "vocab_size", 1, MAX_VOCAB, &c->vocab_size));
	TRY(size_field(r, "hidden_size", 32, MAX_HIDDEN, &c->hidden_size));
	TRY(size_field(r, "num_hidden_layers", 1, MAX_LAYERS, &c->num_hidden_layers));
	TRY(size_field(r, "intermediate_size", 32, 1 << 20, &c->intermediate_size));
	TRY(size_field(r, "num_attention_heads", 1, 4096, &c->num_attention_heads));
	TRY(opt_size_field(r, "q_lora_rank", 1, MAX_HIDDEN, 0, &c->q_lora_rank));
	TRY(size_field(r, "kv_lora_rank", 32, 8192, &c->kv_lora_rank));
	TRY(size_field(r, "qk_nope_head_dim", 32, 1024, &c->qk_nope_head_dim));
	TRY(size_field(r, "qk_rope_head_dim", 32, CONFIG_MAX_ROPE, &c->qk_rope_head_dim));
	TRY(size_field(r, "v_head_dim", 32, 1024, &c->v_head_dim));
	TRY(size_field(r, "max_position_embeddings", 2, 1 << 27, &c->max_position_embeddings));
	return opt_size_field(r, "num_nextn_predict_layers", 0, 1, 0, &c->num_nextn_predict_layers);
}

static enum status read_experts(const struct reader *r, struct model_config *c)
{
	int64_t freq;

	TRY(opt_size_field(r, "n_routed_experts", 0, MAX_EXPERTS, 0, &c->n_routed_experts));
	if (!c->n_routed_experts) {
		c->first_k_dense_replace = c->num_hidden_layers;
		return OK;
	}
	TRY(opt_size_field(
		r, "first_k_dense_replace", 0, c->num_hidden_layers, 0, &c->first_k_dense_replace));
	TRY(json_opt_int(&freq, r->root, r->what, "moe_layer_freq", 1, 1, 1, r->err));
	TRY(size_field(r, "moe_intermediate_size", 32, 1 << 20, &c->moe_intermediate_size));
	TRY(opt_size_field(r, "n_shared_experts", 0, 64, 0, &c->n_shared_experts));
	TRY(size_field(r, "num_experts_per_tok", 1, MAX_TOP_K, &c->num_experts_per_tok));
	TRY(opt_size_field(r, "n_group", 1, MAX_EXPERTS, 1, &c->n_group));
	return opt_size_field(r, "topk_group", 1, MAX_EXPERTS, 1, &c->topk_group);
}

static enum status read_routing(const struct reader *r, struct model_config *c)
{
	bool v2 = strcmp(c->model_type, "deepseek_v2") == 0;
	const char *score, *method;
	double scaling;

	TRY(json_opt_string(&score, r->root, r->what, "scoring_func", v2 ? "softmax" : "sigmoid", r->err));
	if (strcmp(score, "sigmoid") != 0 && strcmp(score, "softmax") != 0)
		return refuse(r, "scoring_func", score, "expected sigmoid or softmax");
	c->scoring_func = strcmp(score, "sigmoid") == 0 ? ROUTE_SIGMOID : ROUTE_SOFTMAX;
	TRY(json_opt_string(&method, r->root, r->what, "topk_method", v2 ? "greedy" : "noaux_tc", r->err));
	c->router_bias = strcmp(method, "noaux_tc") == 0;
	if (c->router_bias)
		c->group_score = c->n_group > 1 ? ROUTE_GROUP_TOP2_SUM : ROUTE_GROUP_NONE;
	else if (strcmp(method, "group_limited_greedy") == 0)
		c->group_score = ROUTE_GROUP_MAX;
	else if (strcmp(method, "greedy") == 0)
		c->group_score = ROUTE_GROUP_NONE;
	else
		return refuse(r, "topk_method", method,
			"expected noaux_tc, group_limited_greedy or greedy");
	TRY(json_opt_bool(&c->norm_topk_prob, r->root, r->what, "norm_topk_prob", !v2, r->err));
	TRY(json_opt_double(
		&scaling, r->root, r->what, "routed_scaling_factor", 1e-6, 1e6, 1.0, r->err));
	c->routed_scaling_factor = (float)scaling;
	return OK;
}

static enum status read_rope(const struct reader *r, struct model_config *c)
{
	json_t *s = json_object_get(r->root, "rope_scaling");
	struct config_yarn *y = &c->yarn;
	const char *type;
	char what[160];

	TRY(json_opt_double(&c->rope_theta, r->root, r->what, "rope_theta", 1, 1e12, 10000, r->err));
	if (!s || json_is_null(s))
		return OK;
	TRY(json_get_object(&s, r->root, r->what, "rope_scaling", r->err));
	snprintf(what, sizeof(what), "%.120s: rope_scaling", r->what);
	TRY(json_opt_string(&type, s, what, "type", NULL, r->err));
	if (!type)
		TRY(json_get_string(&type, s, what, "rope_type", r->err));
	if (strcmp(type, "default") == 0)
		return OK;
	if (strcmp(type, "yarn") != 0)
		return refuse(r, "rope_scaling type", type, "expected yarn");
	y->on = true;
	TRY(json_opt_double(&y->factor, s, what, "factor", 1, 1e4, 1, r->err));
	TRY(json_opt_double(&y->original_max_position_embeddings, s, what,
		"original_max_position_embeddings", 1, 1e9, 4096, r->err));
	TRY(json_opt_double(&y->beta_fast, s, what, "beta_fast", 1e-3, 1e6, 32, r->err));
	TRY(json_opt_double(&y->beta_slow, s, what, "beta_slow", 1e-3, 1e6, 1, r->err));
	TRY(json_opt_double(&y->mscale, s, what, "mscale", 0, 100, 1, r->err));
	return json_opt_double(&y->mscale_all_dim, s, what, "mscale_all_dim", 0, 100, 0, r->err);
}

/* A single id, or a list. */
static enum status read_eos(
	const struct reader *r, const char *key, int32_t *ids, uint32_t *n, int64_t max_id)
{
	json_t *v = json_object_get(r->root, key);

	*n = 0;
	if (!v || json_is_null(v))
		return OK;
	if (!json_is_array(v)) {
		int64_t id;

		TRY(json_get_int(&id, r->root, r->what, key, 0, max_id, r->err));
		ids[(*n)++] = (int32_t)id;
		return OK;
	}
	if (json_array_size(v) > CONFIG_MAX_EOS)
		return error_set(r->err, E_FORMAT, "%s: %s has %zu ids, expected at most %d", r->what, key,
			json_array_size(v), CONFIG_MAX_EOS);
	for (size_t i = 0; i < json_array_size(v); i++) {
		json_t *id = json_array_get(v, i);

		if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > max_id)
			return error_set(r->err, E_FORMAT, "%s: %s[%zu] is not a token id", r->what, key, i);
		ids[(*n)++] = (int32_t)json_integer_value(id);
	}
	return OK;
}

static enum status read_tokens(const struct reader *r, struct model_config *c)
{
	int64_t bos;

	TRY(json_opt_int(&bos, r->root, r->what, "bos_token_id", 0, c->vocab_size - 1, -1, r->err));
	c->bos_token_id = (int32_t)bos;
	return read_eos(r, "eos_token_id", c->eos_token_id, &c->n_eos, c->vocab_size - 1);
}

static enum status read_quantization(const struct reader *r, struct model_config *c)
{
	static const char key[] = "quantization_config";
	json_t *q = json_object_get(r->root, key), *block;
	const char *method, *fmt, *scale;
	char what[160];

	if (!q || json_is_null(q))
		return OK;
	TRY(json_get_object(&q, r->root, r->what, key, r->err));
	snprintf(what, sizeof(what), "%.120s: %s", r->what, key);
	TRY(json_get_string(&method, q, what, "quant_method", r->err));
	if (strcmp(method, "fp8") != 0)
		return refuse(r, "quantization_config quant_method", method, "expected fp8");
	TRY(json_opt_string(&fmt, q, what, "fmt", "e4m3", r->err));
	if (strcmp(fmt, "e4m3") != 0)
		return refuse(r, "quantization_config fmt", fmt, "expected e4m3");
	TRY(json_get_array(&block, q, what, "weight_block_size", r->err));
	if (json_array_size(block) != 2 || json_integer_value(json_array_get(block, 0)) != 128 ||
		json_integer_value(json_array_get(block, 1)) != 128)
		return error_set(r->err, E_UNSUPPORTED, "%s: weight_block_size is not [128, 128]", what);
	TRY(json_opt_string(&scale, q, what, "scale_fmt", "float", r->err));
	c->fp8 = true;
	c->fp8_ue8m0 = strcmp(scale, "ue8m0") == 0;
	return OK;
}

/* Switches that fathom knows in one position only. */
static enum status read_fixed(const struct reader *r, struct model_config *c)
{
	const char *act;
	bool bias, tied;
	double eps;

	TRY(json_opt_string(&act, r->root, r->what, "hidden_act", "silu", r->err));
	if (strcmp(act, "silu") != 0)
		return refuse(r, "hidden_act", act, "expected silu");
	TRY(json_opt_bool(&bias, r->root, r->what, "attention_bias", false, r->err));
	if (bias)
		return refuse(r, "attention_bias", "true", "");
	TRY(json_opt_bool(&tied, r->root, r->what, "tie_word_embeddings", false, r->err));
	if (tied)
		return refuse(r, "tie_word_embeddings", "true", "");
	TRY(json_opt_double(&eps, r->root, r->what, "rms_norm_eps", 1e-12, 1, 1e-6, r->err));
	c->rms_norm_eps = (float)eps;
	return OK;
}

static enum status read_all(const struct reader *r, struct model_config *c)
{
	if (!json_is_object(r->root))
		return error_set(r->err, E_FORMAT, "%s: %s, expected an object", r->what,
			json_type_name(r->root));
	TRY(read_model_type(r, c));
	TRY(read_sizes(r, c));
	TRY(read_experts(r, c));
	TRY(read_routing(r, c));
	TRY(read_rope(r, c));
	TRY(read_tokens(r, c));
	TRY(read_quantization(r, c));
	TRY(read_fixed(r, c));
	return config_finish(c, r->what, r->err);
}

static enum status read_document(
	struct model_config *out, json_t *root, const char *what, struct error *err)
{
	struct model_config c = {.bos_token_id = -1};
	struct reader r = {root, what, err};

	TRY(read_all(&r, &c));
	*out = c;
	return OK;
}

enum status config_load(struct model_config *out, const char *dir, struct error *err)
{
	char path[4096];
	json_t *root;
	enum status st;

	if ((size_t)snprintf(path, sizeof(path), "%s/config.json", dir) >= sizeof(path))
		return error_set(err, E_INVAL, "%.100s: path is too long", dir);
	TRY(json_load_path(&root, path, MAX_CONFIG_BYTES, err));
	st = read_document(out, root, path, err);
	json_decref(root);
	return st;
}

enum status config_parse(
	struct model_config *out, const char *text, size_t len, const char *what, struct error *err)
{
	json_t *root;
	enum status st;

	TRY(json_load_text(&root, text, len, what, err));
	st = read_document(out, root, what, err);
	json_decref(root);
	return st;
}

enum status generation_config_load(struct generation_config *out, const char *dir, struct error *err)
{
	struct generation_config g = {NAN, NAN, NAN, -1, -1, {0}, 0};
	char path[4096];
	int64_t top_k;
	json_t *root, *sample;
	struct reader r;
	FILE *probe;
	enum status st;

	if ((size_t)snprintf(path, sizeof(path), "%s/generation_config.json", dir) >= sizeof(path))
		return error_set(err, E_INVAL, "%.100s: path is too long", dir);
	probe = fopen(path, "r");
	if (!probe) {
		*out = g;
		return OK;
	}
	fclose(probe);
	TRY(json_load_path(&root, path, MAX_CONFIG_BYTES, err));
	r = (struct reader){root, path, err};
	if (!json_is_object(root)) {
		st = error_set(err, E_FORMAT, "%s: %s, expected an object", path, json_type_name(root));
		goto out;
	}
	TRY_GOTO(out, json_opt_double(&g.temperature, root, path, "temperature", 0, 100, NAN, err));
	TRY_GOTO(out, json_opt_double(&g.top_p, root, path, "top_p", 0, 1, NAN, err));
	TRY_GOTO(out, json_opt_double(&g.min_p, root, path, "min_p", 0, 1, NAN, err));
	TRY_GOTO(out, json_opt_int(&top_k, root, path, "top_k", -1, INT32_MAX, -1, err));
	g.top_k = (int)top_k;
	sample = json_object_get(root, "do_sample");
	if (json_is_boolean(sample))
		g.do_sample = json_is_true(sample);
	TRY_GOTO(out, read_eos(&r, "eos_token_id", g.eos_token_id, &g.n_eos, INT32_MAX));
	*out = g;
	st = OK;
out:
	json_decref(root);
	return st;
}
