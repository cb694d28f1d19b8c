/*
 * The second half of reading a configuration (weights/config.h): dimensions that must fit each other,
 * and what follows from them: RoPE frequencies with YaRN and the softmax scale (spec: model, 3.3).
 */
#include <math.h>

#include "kernel/weight.h"
#include "weights/config.h"

/* The ranges of config.c once more, for configurations that were never a file. */
static enum status check_ranges(const struct model_config *c, const char *what, struct error *err)
{
	const struct {
		const char *name;
		uint32_t value, min, max;
	} ranges[] = {
		{"vocab_size", c->vocab_size, 1, 1 << 21},
		{"hidden_size", c->hidden_size, 1, 65536},
		{"num_hidden_layers", c->num_hidden_layers, 1, 1024},
		{"first_k_dense_replace", c->first_k_dense_replace, 0, c->num_hidden_layers},
		{"intermediate_size", c->intermediate_size, 1, 1 << 20},
		{"moe_intermediate_size", c->moe_intermediate_size, c->n_routed_experts != 0, 1 << 20},
		{"num_attention_heads", c->num_attention_heads, 1, 4096},
		{"q_lora_rank", c->q_lora_rank, 0, 65536},
		{"kv_lora_rank", c->kv_lora_rank, 1, 8192},
		{"qk_nope_head_dim", c->qk_nope_head_dim, 1, 1024},
		{"qk_rope_head_dim", c->qk_rope_head_dim, 1, CONFIG_MAX_ROPE},
		{"v_head_dim", c->v_head_dim, 1, 1024},
		{"n_routed_experts", c->n_routed_experts, 0, CONFIG_MAX_EXPERTS},
		{"n_shared_experts", c->n_shared_experts, 0, 64},
		{"num_experts_per_tok", c->num_experts_per_tok, c->n_routed_experts != 0, CONFIG_MAX_TOP_K},
		{"n_group", c->n_group, c->n_routed_experts != 0, CONFIG_MAX_GROUPS},
		{"topk_group", c->topk_group, c->n_routed_experts != 0, CONFIG_MAX_GROUPS},
		{"num_nextn_predict_layers", c->num_nextn_predict_layers, 0, 1},
	};

	for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
		if (ranges[i].value >= ranges[i].min && ranges[i].value <= ranges[i].max)
			continue;
		if (ranges[i].min == ranges[i].max)
			return error_set(err, E_FORMAT, "%s: %s: found %u, expected %u", what, ranges[i].name,
				ranges[i].value, ranges[i].min);
		return error_set(err, E_FORMAT, "%s: %s: found %u, expected %u to %u", what,
			ranges[i].name, ranges[i].value, ranges[i].min, ranges[i].max);
	}
	return OK;
}

static enum status check_multiple(const char *what, const char *name, uint32_t value, struct error *err)
{
	if (value % WEIGHT_K_STEP)
		return error_set(err, E_UNSUPPORTED, "%s: %s %u is not a multiple of %u", what, name, value,
			WEIGHT_K_STEP);
	return OK;
}

static enum status check_dims(const struct model_config *c, const char *what, struct error *err)
{
	const struct {
		const char *name;
		uint32_t value;
	} dims[] = {
		{"hidden_size", c->hidden_size},
		{"intermediate_size", c->intermediate_size},
		{"moe_intermediate_size", c->moe_intermediate_size},
		{"q_lora_rank", c->q_lora_rank},
		{"kv_lora_rank", c->kv_lora_rank},
		{"qk_nope_head_dim", c->qk_nope_head_dim},
		{"qk_rope_head_dim", c->qk_rope_head_dim},
		{"v_head_dim", c->v_head_dim},
	};

	for (size_t i = 0; i < sizeof(dims) / sizeof(*dims); i++)
		TRY(check_multiple(what, dims[i].name, dims[i].value, err));
	return OK;
}

static enum status check_routing(const struct model_config *c, const char *what, struct error *err)
{
	uint32_t choice;

	if (!c->n_routed_experts)
		return OK;
	if (c->n_routed_experts % c->n_group || c->topk_group > c->n_group)
		return error_set(err, E_FORMAT,
			"%s: %u experts in n_group %u with topk_group %u: groups must be even, and hold those "
			"kept", what, c->n_routed_experts, c->n_group, c->topk_group);
	choice = c->n_routed_experts;
	if (c->group_score != ROUTE_GROUP_NONE)
		choice = c->n_routed_experts / c->n_group * c->topk_group;
	if (c->num_experts_per_tok > choice)
		return error_set(err, E_FORMAT, "%s: num_experts_per_tok %u of %u experts to choose from",
			what, c->num_experts_per_tok, choice);
	if (c->group_score == ROUTE_GROUP_TOP2_SUM && c->n_routed_experts / c->n_group < 2)
		return error_set(err, E_FORMAT, "%s: groups of one expert (n_group %u) have no two best", what,
			c->n_group);
	return OK;
}

static double yarn_get_mscale(double factor, double m)
{
	return factor <= 1 ? 1 : 1 + 0.1 * m * log(factor);
}

/* Dimension index at which a frequency turns n times within the original context. */
static double yarn_dim(const struct model_config *c, double n)
{
	return c->qk_rope_head_dim * log(c->yarn.original_max_position_embeddings / (n * 2 * M_PI)) /
	       (2 * log(c->rope_theta));
}

static void derive_rope(struct model_config *c)
{
	const struct config_yarn *y = &c->yarn;
	uint32_t dim = c->qk_rope_head_dim;
	double low = 0, high = 0;

	if (y->on) {
		low = floor(yarn_dim(c, y->beta_fast));
		high = ceil(yarn_dim(c, y->beta_slow));
		low = low < 0 ? 0 : low;
		high = high > dim - 1 ? dim - 1 : high;
		if (low == high)
			high += 0.001;
	}
	for (uint32_t j = 0; j < dim / 2; j++) {
		double f = pow(c->rope_theta, -2.0 * j / dim), ramp;

		if (y->on) {
			ramp = (j - low) / (high - low);
			ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
			f = f * (1 - ramp) + f / y->factor * ramp;
		}
		c->rope_freq[j] = (float)f;
	}
	c->rope_mscale = 1;
	if (y->on)
		c->rope_mscale = (float)(yarn_get_mscale(y->factor, y->mscale) /
					 yarn_get_mscale(y->factor, y->mscale_all_dim));
}

static void derive_scale(struct model_config *c)
{
	double scale = 1 / sqrt((double)(c->qk_nope_head_dim + c->qk_rope_head_dim));

	if (c->yarn.on && c->yarn.mscale_all_dim != 0) {
		double m = yarn_get_mscale(c->yarn.factor, c->yarn.mscale_all_dim);

		scale *= m * m;
	}
	c->softmax_scale = (float)scale;
}

enum status config_finish(struct model_config *config, const char *what, struct error *err)
{
	TRY(check_ranges(config, what, err));
	TRY(check_dims(config, what, err));
	TRY(check_routing(config, what, err));
	if (config->rope_theta <= 1)
		return error_set(err, E_FORMAT, "%s: rope_theta %g, expected more than 1", what,
			config->rope_theta);
	if (config->yarn.on && config->yarn.beta_fast < config->yarn.beta_slow)
		return error_set(err, E_FORMAT, "%s: rope_scaling: beta_fast %g is below beta_slow %g", what,
			config->yarn.beta_fast, config->yarn.beta_slow);
	derive_rope(config);
	derive_scale(config);
	return OK;
}
