/* Synthetic models (cli/shape.h). */
#include "cli/shape.h"

#include <stdio.h>
#include <string.h>

struct shape_values shape_defaults(void)
{
	return (struct shape_values){
		.format = "bf16",
		.dense_layers = 1,
		.moe_layers = 1,
		.vocab = 16384,
		.seed = 1,
	};
}

enum weight_format shape_format(const struct shape_values *v)
{
	static const struct {
		const char *name;
		enum weight_format format;
	} formats[] = {
		{ "fp8", WEIGHT_F8_BLOCK },
		{ "w8a8", WEIGHT_I8 },
		{ "w4a8", WEIGHT_I4 },
	};

	for (size_t i = 0; i < sizeof(formats) / sizeof(*formats); i++) {
		if (strcmp(v->format, formats[i].name) == 0)
			return formats[i].format;
	}
	return WEIGHT_BF16;
}

enum status shape_config(struct model_config *out, const struct shape_values *v, struct error *err)
{
	struct model_config c;

	TRY(config_shape(&c, v->shape, err));
	if (v->dense_layers + v->moe_layers == 0)
		return error_set(err, E_INVAL, "--dense-layers 0 --moe-layers 0: expected at least one layer");
	c.num_hidden_layers = (uint32_t)(v->dense_layers + v->moe_layers);
	c.first_k_dense_replace = (uint32_t)v->dense_layers;
	c.vocab_size = (uint32_t)v->vocab;
	c.num_nextn_predict_layers = 0;
	c.bos_token_id = -1;
	c.n_eos = 0;
	if (v->experts) {
		if ((uint32_t)v->experts < c.num_experts_per_tok)
			return error_set(err, E_INVAL, "--experts %lld: expected at least %u, as many as a token chooses",
				(long long)v->experts, c.num_experts_per_tok);
		if (v->experts % c.n_group)
			return error_set(err, E_INVAL, "--experts %lld: expected a multiple of %u",
				(long long)v->experts, c.n_group);
		c.n_routed_experts = (uint32_t)v->experts;
	}
	TRY(config_finish(&c, "--shape", err));
	*out = c;
	return OK;
}

bool shape_halve_experts(struct model_config *c, const struct shape_values *v)
{
	uint32_t half = c->n_routed_experts / 2;
	struct error err;

	if (v->experts || v->moe_layers == 0 || half < 2 * c->num_experts_per_tok || half % c->n_group)
		return false;
	c->n_routed_experts = half;
	return config_finish(c, "--shape", &err) == OK;
}

void shape_report_experts(const struct model_config *c, const struct shape_values *v)
{
	struct model_config whole;
	struct error err;

	if (!v->experts && config_shape(&whole, v->shape, &err) == OK &&
		whole.n_routed_experts != c->n_routed_experts)
		fprintf(stderr, "fathom: %u of %u experts, as many as memory holds (--experts N chooses)\n",
			c->n_routed_experts, whole.n_routed_experts);
}
