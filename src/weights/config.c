/*
 * config.json of DeepSeek-V3 and its relatives (weights/config.h): reading, then checking.
 *
 * What would change the arithmetic and is not implemented is refused here by name, so that the rest of
 * the program never meets it.
 */
#include "weights/config.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "weights/weights_int.h"

#define MAX_CONFIG_BYTES ((size_t)16 << 20)
#define MAX_LAYERS 1024
#define MAX_HIDDEN 65536
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

/* The class that the file asks for: a relative may keep model_type and change the arithmetic. */
static enum status read_architecture(const struct reader *r)
{
	static const char *const known[] = {"DeepseekV3ForCausalLM", "DeepseekV2ForCausalLM"};
	json_t *list = json_object_get(r->root, "architectures");
	const char *name;

	if (!list || json_is_null(list))
		return OK;
	TRY(json_get_array(&list, r->root, r->what, "architectures", r->err));
	name = json_string_value(json_array_get(list, 0));
	if (!name)
		return error_set(r->err, E_FORMAT, "%s: architectures[0]: found %s, expected a string",
			r->what, json_type_name(json_array_get(list, 0)));
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strcmp(name, known[i]) == 0)
			return OK;
	return refuse(r, "architectures", name, "expected DeepseekV3ForCausalLM or DeepseekV2ForCausalLM");
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
	uint32_t kv_heads;

	TRY(size_field(r, "vocab_size", 1, MAX_VOCAB, &c->vocab_size));
	TRY(size_field(r, "hidden_size", 32, MAX_HIDDEN, &c->hidden_size));
	TRY(size_field(r, "num_hidden_layers", 1, MAX_LAYERS, &c->num_hidden_layers));
	TRY(size_field(r, "intermediate_size", 32, 1 << 20, &c->intermediate_size));
	TRY(size_field(r, "num_attention_heads", 1, 4096, &c->num_attention_heads));
	/* Latent attention has no groups of heads. */
	TRY(opt_size_field(r, "num_key_value_heads", c->num_attention_heads, c->num_attention_heads,
		c->num_attention_heads, &kv_heads));
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

	TRY(opt_size_field(r, "n_routed_experts", 0, CONFIG_MAX_EXPERTS, 0, &c->n_routed_experts));
	if (!c->n_routed_experts) {
		c->first_k_dense_replace = c->num_hidden_layers;
		return OK;
	}
	TRY(opt_size_field(
		r, "first_k_dense_replace", 0, c->num_hidden_layers, 0, &c->first_k_dense_replace));
	TRY(json_opt_int(&freq, r->root, r->what, "moe_layer_freq", 1, 1, 1, r->err));
	TRY(size_field(r, "moe_intermediate_size", 32, 1 << 20, &c->moe_intermediate_size));
	TRY(opt_size_field(r, "n_shared_experts", 0, 64, 0, &c->n_shared_experts));
	TRY(size_field(r, "num_experts_per_tok", 1, CONFIG_MAX_TOP_K, &c->num_experts_per_tok));
	/* V2-Lite's code takes null for one group. */
	TRY(opt_size_field(r, "n_group", 1, CONFIG_MAX_GROUPS, 1, &c->n_group));
	return opt_size_field(r, "topk_group", 1, CONFIG_MAX_GROUPS, 1, &c->topk_group);
}

/* What DeepSeek-V3's own code would fill in differently from V2's: never guessed. */
static enum status require(const struct reader *r, const char *key)
{
	json_t *v = json_object_get(r->root, key);

	if (v && !json_is_null(v))
		return OK;
	return error_set(r->err, E_FORMAT, "%s: %s is missing: its value changes the results", r->what, key);
}

static enum status read_routing(const struct reader *r, struct model_config *c)
{
	bool v2 = strcmp(c->model_type, "deepseek_v2") == 0;
	const char *score, *method;
	double scaling;

	if (c->n_routed_experts && !v2) {
		TRY(require(r, "n_group"));
		TRY(require(r, "topk_group"));
		TRY(require(r, "routed_scaling_factor"));
	}
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

/* Where RoPE is described: rope_scaling, or rope_parameters, which newer files have in its place and
 * which holds rope_theta too. NULL: nowhere. */
static enum status find_rope(const struct reader *r, json_t **out, const char **key)
{
	json_t *scaling = json_object_get(r->root, "rope_scaling");
	json_t *parameters = json_object_get(r->root, "rope_parameters");

	*out = NULL;
	*key = scaling && !json_is_null(scaling) ? "rope_scaling" : "rope_parameters";
	if (strcmp(*key, "rope_parameters") == 0 && (!parameters || json_is_null(parameters)))
		return OK;
	return json_get_object(out, r->root, r->what, *key, r->err);
}

static enum status read_yarn(
	const struct reader *r, json_t *s, const char *what, struct config_yarn *y)
{
	static const char *const foreign[] = {"attention_factor", "truncate"};

	for (size_t i = 0; i < sizeof(foreign) / sizeof(*foreign); i++) {
		json_t *v = json_object_get(s, foreign[i]);

		if (v && !json_is_null(v))
			return error_set(r->err, E_UNSUPPORTED, "%s: %s is not supported", what, foreign[i]);
	}
	y->on = true;
	if (!json_object_get(s, "factor") || !json_object_get(s, "original_max_position_embeddings"))
		return error_set(r->err, E_FORMAT,
			"%s: yarn needs factor and original_max_position_embeddings", what);
	TRY(json_opt_double(&y->factor, s, what, "factor", 1, 1e4, 1, r->err));
	TRY(json_opt_double(&y->original_max_position_embeddings, s, what,
		"original_max_position_embeddings", 1, 1e9, 4096, r->err));
	TRY(json_opt_double(&y->beta_fast, s, what, "beta_fast", 1e-3, 1e6, 32, r->err));
	TRY(json_opt_double(&y->beta_slow, s, what, "beta_slow", 1e-3, 1e6, 1, r->err));
	TRY(json_opt_double(&y->mscale, s, what, "mscale", 0, 100, 1, r->err));
	return json_opt_double(&y->mscale_all_dim, s, what, "mscale_all_dim", 0, 100, 0, r->err);
}

static enum status read_rope(const struct reader *r, struct model_config *c)
{
	const char *key, *type, *other;
	bool interleave;
	char what[160];
	json_t *s;

	TRY(json_opt_bool(&interleave, r->root, r->what, "rope_interleave", true, r->err));
	if (!interleave)
		return refuse(r, "rope_interleave", "false", "");
	TRY(json_opt_double(&c->rope_theta, r->root, r->what, "rope_theta", 1, 1e12, 10000, r->err));
	TRY(find_rope(r, &s, &key));
	if (!s)
		return OK;
	snprintf(what, sizeof(what), "%.100s: %s", r->what, key);
	TRY(json_opt_double(&c->rope_theta, s, what, "rope_theta", 1, 1e12, c->rope_theta, r->err));
	TRY(json_opt_string(&other, s, what, "rope_type", NULL, r->err));
	TRY(json_opt_string(&type, s, what, "type", other, r->err));
	if (!type)
		return error_set(r->err, E_FORMAT, "%s: neither type nor rope_type is given", what);
	if (other && strcmp(type, other) != 0)
		return error_set(r->err, E_FORMAT, "%s: type is %.30s and rope_type %.30s", what, type, other);
	if (strcmp(type, "default") == 0)
		return OK;
	if (strcmp(type, "yarn") != 0)
		return error_set(r->err, E_UNSUPPORTED,
			"%s type %.30s is not supported: expected yarn or default", what, type);
	return read_yarn(r, s, what, &c->yarn);
}

static enum status read_tokens(const struct reader *r, struct model_config *c)
{
	int64_t bos;

	TRY(json_opt_int(&bos, r->root, r->what, "bos_token_id", 0, c->vocab_size - 1, -1, r->err));
	c->bos_token_id = (int32_t)bos;
	return config_read_eos(c->eos_token_id, &c->n_eos, r->root, r->what, c->vocab_size - 1, r->err);
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
	if (strcmp(scale, "ue8m0") != 0 && strcmp(scale, "float") != 0)
		return refuse(r, "quantization_config scale_fmt", scale, "expected ue8m0 or none");
	c->fp8 = true;
	c->fp8_ue8m0 = strcmp(scale, "ue8m0") == 0;
	return OK;
}

/* Switches that fathom knows in one position only. */
static enum status read_fixed(const struct reader *r, struct model_config *c)
{
	const char *act;
	bool bias, tied;
	json_t *sparse = json_object_get(r->root, "index_topk");
	double eps;

	if (sparse && !json_is_null(sparse))
		return refuse(r, "index_topk", "", "DeepSeek-V3.2's sparse attention is not implemented");

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
	TRY(read_architecture(r));
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

	if (!*dir)
		return error_set(err, E_INVAL, "the name of the model's directory is empty");
	if ((size_t)snprintf(path, sizeof(path), "%s/config.json", dir) >= sizeof(path))
		return error_set(err, E_INVAL, "%s: path is too long", weights_path_tail(dir));
	TRY(json_load_path(&root, path, MAX_CONFIG_BYTES, err));
	st = read_document(out, root, weights_path_tail(path), err);
	json_decref(root);
	return st;
}

enum status config_parse(
	struct model_config *out, const char *text, size_t len, const char *what, struct error *err)
{
	json_t *root;
	enum status st;

	what = weights_path_tail(what);
	TRY(json_load_text(&root, text, len, what, err));
	st = read_document(out, root, what, err);
	json_decref(root);
	return st;
}
