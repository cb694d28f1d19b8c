/* Named shapes for benchmarks (weights/config.h): the published dimensions of real models. */
#include <string.h>

#include "weights/config.h"

static struct model_config v31(void)
{
	return (struct model_config){
		.model_type = "deepseek_v3",
		.vocab_size = 129280,
		.hidden_size = 7168,
		.num_hidden_layers = 61,
		.first_k_dense_replace = 3,
		.intermediate_size = 18432,
		.moe_intermediate_size = 2048,
		.num_attention_heads = 128,
		.q_lora_rank = 1536,
		.kv_lora_rank = 512,
		.qk_nope_head_dim = 128,
		.qk_rope_head_dim = 64,
		.v_head_dim = 128,
		.n_routed_experts = 256,
		.n_shared_experts = 1,
		.num_experts_per_tok = 8,
		.n_group = 8,
		.topk_group = 4,
		.scoring_func = ROUTE_SIGMOID,
		.group_score = ROUTE_GROUP_TOP2_SUM,
		.norm_topk_prob = true,
		.router_bias = true,
		.routed_scaling_factor = 2.5f,
		.rms_norm_eps = 1e-6f,
		.rope_theta = 10000,
		.yarn = {true, 40, 4096, 32, 1, 1, 1},
		.max_position_embeddings = 163840,
		.num_nextn_predict_layers = 1,
		.eos_token_id = {1},
		.n_eos = 1,
	};
}

static struct model_config kimi_k2(void)
{
	struct model_config c = v31();

	strcpy(c.model_type, "kimi_k2");
	c.vocab_size = 163840;
	c.first_k_dense_replace = 1;
	c.num_attention_heads = 64;
	c.n_routed_experts = 384;
	c.n_group = c.topk_group = 1;
	c.group_score = ROUTE_GROUP_NONE;
	c.routed_scaling_factor = 2.827f;
	c.rope_theta = 50000;
	c.yarn = (struct config_yarn){true, 32, 4096, 1, 1, 1, 1};
	c.max_position_embeddings = 131072;
	c.num_nextn_predict_layers = 0;
	return c;
}

/* What Moonlight and V2-Lite have in common. */
static struct model_config small(void)
{
	struct model_config c = v31();

	c.hidden_size = 2048;
	c.num_hidden_layers = 27;
	c.first_k_dense_replace = 1;
	c.moe_intermediate_size = 1408;
	c.num_attention_heads = 16;
	c.q_lora_rank = 0;
	c.n_routed_experts = 64;
	c.n_shared_experts = 2;
	c.num_experts_per_tok = 6;
	c.n_group = c.topk_group = 1;
	c.group_score = ROUTE_GROUP_NONE;
	c.num_nextn_predict_layers = 0;
	return c;
}

static struct model_config moonlight(void)
{
	struct model_config c = small();

	c.vocab_size = 163840;
	c.intermediate_size = 11264;
	c.routed_scaling_factor = 2.446f;
	c.rms_norm_eps = 1e-5f;
	c.rope_theta = 50000;
	c.yarn = (struct config_yarn){0};
	c.max_position_embeddings = 8192;
	c.eos_token_id[0] = 163586;
	return c;
}

static struct model_config v2_lite(void)
{
	struct model_config c = small();

	strcpy(c.model_type, "deepseek_v2");
	c.vocab_size = 102400;
	c.intermediate_size = 10944;
	c.scoring_func = ROUTE_SOFTMAX;
	c.norm_topk_prob = false;
	c.router_bias = false;
	c.routed_scaling_factor = 1;
	c.yarn = (struct config_yarn){true, 40, 4096, 32, 1, 0.707, 0.707};
	return c;
}

enum status config_shape(struct model_config *out, const char *name, struct error *err)
{
	static const struct {
		const char *name;
		struct model_config (*make)(void);
	} shapes[] = {
		{"v3.1", v31},
		{"kimi-k2", kimi_k2},
		{"moonlight", moonlight},
		{"v2-lite", v2_lite},
	};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
		if (strcmp(name, shapes[i].name) == 0) {
			*out = shapes[i].make();
			return config_finish(out, name, err);
		}
	return error_set(err, E_INVAL, "unknown shape '%.40s': expected v3.1, kimi-k2, moonlight or v2-lite",
		name);
}
