/*
 * The model's description: config.json of DeepSeek-V3 and its relatives (spec: model, sections 1 and
 * 8), checked and completed, and generation_config.json. Field names are those of the file.
 *
 * Accepted model_type: deepseek_v3, deepseek_v2, kimi_k2. Everything else (deepseek_v32 included) is
 * refused by name and reason, as are values that change the arithmetic in a way that fathom does not
 * implement (attention_bias, tied embeddings, another activation, an unknown quantization).
 *
 * Matrix dimensions must be multiples of 32: packed panels rely on it.
 */
#ifndef WEIGHTS_CONFIG_H
#define WEIGHTS_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernel/kernel.h"

#define CONFIG_MAX_ROPE 256
#define CONFIG_MAX_EOS 8
/* What the routing kernel takes (kernel/cpu/route.c, moe_combine.c). */
#define CONFIG_MAX_EXPERTS 1024
#define CONFIG_MAX_GROUPS 256
#define CONFIG_MAX_TOP_K 64

/* DeepSeek's own code gives these two norms the default epsilon of its RMSNorm class, whatever
 * rms_norm_eps says (q_a_layernorm, kv_a_layernorm). */
#define CONFIG_LORA_NORM_EPS 1e-6f

/* YaRN (spec: model, 3.3). */
struct config_yarn {
	bool on;
	double factor;
	double original_max_position_embeddings;
	double beta_fast;
	double beta_slow;
	double mscale;
	double mscale_all_dim;
};

struct model_config {
	char model_type[32];
	uint32_t vocab_size;
	uint32_t hidden_size;
	uint32_t num_hidden_layers;
	uint32_t first_k_dense_replace; /* layers before this one have a dense MLP */
	uint32_t intermediate_size;
	uint32_t moe_intermediate_size;
	uint32_t num_attention_heads;
	uint32_t q_lora_rank; /* 0: null, one direct q_proj */
	uint32_t kv_lora_rank;
	uint32_t qk_nope_head_dim;
	uint32_t qk_rope_head_dim;
	uint32_t v_head_dim;
	uint32_t n_routed_experts; /* 0: every layer is dense */
	uint32_t n_shared_experts; /* one MLP of n_shared_experts * moe_intermediate_size */
	uint32_t num_experts_per_tok;
	uint32_t n_group;
	uint32_t topk_group;
	enum route_score scoring_func;
	enum route_group group_score;
	bool norm_topk_prob;
	bool router_bias; /* topk_method noaux_tc: e_score_correction_bias exists */
	float routed_scaling_factor;
	float rms_norm_eps;
	double rope_theta;
	struct config_yarn yarn;
	uint32_t max_position_embeddings;
	uint32_t num_nextn_predict_layers; /* MTP layers: 0 or 1 */

	int32_t bos_token_id; /* -1: none */
	int32_t eos_token_id[CONFIG_MAX_EOS];
	uint32_t n_eos;

	/* quantization_config fp8 with weight_block_size [128, 128] */
	bool fp8;
	bool fp8_ue8m0; /* scale_fmt ue8m0: scales are powers of two */

	/* Some products read 8-bit inputs: DIR has a quant_model_description*.json. */
	bool integer;

	/* Derived. */
	float rope_freq[CONFIG_MAX_ROPE / 2]; /* YaRN applied */
	float rope_mscale;                    /* factor on cos and sin */
	float softmax_scale;                  /* on attention scores */
};

/* Sampling defaults of generation_config.json; a field that the file does not give is NAN or -1. */
struct generation_config {
	double temperature;
	double top_p;
	double min_p;
	double repetition_penalty;
	int top_k;
	int do_sample; /* 0, 1 or -1 */
	int32_t eos_token_id[CONFIG_MAX_EOS];
	uint32_t n_eos; /* 0: the file gives none */
};

/* Reads DIR/config.json (16 MiB at most). */
enum status config_load(struct model_config *out, const char *dir, struct error *err);
/* The same from text; `what` names the document in messages. */
enum status config_parse(struct model_config *out, const char *text, size_t len, const char *what,
	struct error *err);

/* Recomputes the derived fields and checks the dimensions: for configurations made by hand. */
enum status config_finish(struct model_config *config, const char *what, struct error *err);

/* A named shape for benchmarks: "v3.1", "kimi-k2", "moonlight", "v2-lite". */
enum status config_shape(struct model_config *out, const char *name, struct error *err);

/* Reads DIR/generation_config.json; an absent file leaves every field unset and is no error. */
enum status generation_config_load(struct generation_config *out, const char *dir, struct error *err);

#endif
