/*
 * The weights of a model, packed for the kernels.
 *
 * weights_load() reads a checkpoint directory: config.json, then every safetensors file, packing
 * tensors into panels (kernel/weight.h) while they are read, so that the peak is the packed size plus
 * a few read buffers. What is read is decided by a shard plan (weights/shard.h). The needed memory is
 * computed from the file headers before anything large is allocated and compared with the limit.
 *
 * A format is one row of the table in weights/format.c, told by a tensor's dtype or by
 * quant_model_description.json. BF16 and F32 matrices become WEIGHT_BF16, FP8 E4M3 128x128 becomes
 * WEIGHT_F8_BLOCK, msmodelslim's W8A8 becomes WEIGHT_I8 and its W4A8 WEIGHT_I4. An option turns floats into
 * WEIGHT_I8 while they are packed.
 *
 * Tensor names are those of the checkpoint (spec: model, section 2). Layer num_hidden_layers is the
 * MTP layer; its copies of the embedding and the head are not loaded.
 */
#ifndef WEIGHTS_WEIGHTS_H
#define WEIGHTS_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernel/kernel.h"
#include "weights/config.h"
#include "weights/shard.h"

/* A norm: F32, the bias NULL where the checkpoint has none. */
struct norm_weights {
	float *weight;
	float *bias;
};

/* One attention block. */
struct attention_weights {
	struct weight q_a_proj;     /* [q_lora, hidden]; absent when q_lora_rank is null */
	struct norm_weights q_a_layernorm;       /* [q_lora] or NULL */
	struct weight q_b_proj;     /* [heads * (nope + rope), q_lora]; q_proj [.., hidden] when null */
	struct weight kv_a_proj;    /* kv_a_proj_with_mqa [kv_lora + rope, hidden] */
	struct norm_weights kv_a_layernorm;      /* [kv_lora] */
	struct weight kv_b_k;       /* K rows of kv_b_proj: [heads * nope, kv_lora] */
	struct weight kv_b_kt;      /* their transposes by head: [heads * kv_lora, nope] */
	struct weight kv_b_v;       /* V rows of kv_b_proj: [heads * v, kv_lora] */
	struct weight o_proj;       /* [hidden, heads * v] */
};

/* SwiGLU MLP: down(SiLU(gate x) * up x). */
struct mlp_weights {
	struct weight gate_up; /* [2 * width, hidden], gate and up interleaved by panel */
	struct weight down;    /* [hidden, width] */
};

struct layer_weights {
	struct norm_weights input_layernorm;          /* [hidden] */
	struct norm_weights post_attention_layernorm; /* [hidden] */
	struct attention_weights attn;
	bool is_moe;
	struct mlp_weights mlp;          /* dense layers: the MLP; MoE layers: the shared experts */
	struct weight gate;              /* router [experts, hidden], BF16 */
	float *e_score_correction_bias;  /* [experts] or NULL */
	struct mlp_weights *experts;     /* [n_routed_experts]; owned by the plan's ranks */
};

/* Multi-token prediction (spec: model, section 4). */
struct mtp_weights {
	struct norm_weights enorm;            /* [hidden] */
	struct norm_weights hnorm;            /* [hidden] */
	struct weight eh_proj;   /* [hidden, 2 * hidden], embedding half first */
	struct norm_weights shared_head_norm; /* [hidden] */
	struct layer_weights layer;
};

struct model_weights {
	struct model_config config;
	struct shard_plan plan;
	uint16_t *embed_tokens;       /* BF16 [vocab, hidden] */
	struct layer_weights *layers; /* [num_hidden_layers] */
	struct norm_weights norm;                  /* [hidden] */
	struct weight lm_head;        /* [vocab, hidden] */
	struct mtp_weights *mtp;      /* one, or NULL */
	size_t bytes;                 /* all memory held */
	void *map;                    /* owned: where everything above lies */
};

/* What a load makes of a checkpoint's matrices. */
enum weights_quantization {
	QUANTIZATION_STORED, /* they keep their format */
	QUANTIZATION_FP8,    /* the same; the checkpoint must be FP8 */
	QUANTIZATION_ASCEND, /* the same; it must have a quant_model_description*.json */
	/*
	 * Float linear layers become WEIGHT_I8 as msmodelslim's W8A8_DYNAMIC: a scale for each row, the
	 * largest value / 127, values rounded to nearest even, inputs quantized by row. kv_b_proj, router,
	 * eh_proj, norms, embedding and head stay as they are, as in its files. A row with a value that is not
	 * finite has a scale that is not.
	 */
	QUANTIZATION_W8A8_DYNAMIC,
	QUANTIZATION_COUNT,
};
/* Names of all but the first, as --quantization has them, between '|'. */
#define WEIGHTS_QUANTIZATIONS "fp8|ascend|w8a8_dynamic"
const char *weights_quantization_name(enum weights_quantization q); /* of the first: "" */
enum weights_quantization weights_quantization_parse(const char *name); /* QUANTIZATION_COUNT: unknown */

struct weights_options {
	struct shard_plan plan;
	enum weights_quantization quantization;
	bool mtp;                 /* load the MTP layer if the checkpoint has one */
	size_t memory_limit_bytes; /* 0: the memory available to the process */
	const char *memory_limit_name; /* in errors: the flag, or "free memory" */
	bool progress;            /* bar on a terminal, for loads over two seconds */
};

/* Everything of this process: one rank, MTP layer, no limit but the machine. */
struct weights_options weights_options_default(void);

/* DIR's configuration as a load with these options has it. E_INVAL when the checkpoint is not what
 * options->quantization asks for. */
enum status weights_config(struct model_config *out, const char *dir, const struct weights_options *options,
	struct error *err);

/*
 * What a load will need, known from file headers alone. E_NOMEM with both figures when it exceeds the
 * limit.
 */
struct weights_budget {
	size_t file_bytes;   /* bytes of the tensors that will be read */
	size_t packed_bytes; /* of the result */
	size_t buffer_bytes; /* read buffers while loading */
	size_t limit_bytes;
	size_t token_bytes;  /* weight bytes that one generated token reads, MTP layer aside */
};
enum status weights_plan(struct weights_budget *out, const char *dir,
	const struct weights_options *options, struct error *err);

/* Memory that a load may take: the option, else what the system has available. */
size_t weights_memory_limit(const struct weights_options *options);

/* `kn` lends its threads: packed memory is first touched by threads of the device that reads it. */
enum status weights_load(struct model_weights **out, const char *dir, struct kernel *kn,
	const struct weights_options *options, struct error *err);

/*
 * Random weights of a shape, scaled so that activations stay finite: for benchmarks and tests. With an
 * integer format inputs are quantized by row, and WEIGHT_I4 is that of routed experts: the other matrices
 * are WEIGHT_I8, as in W4A8 checkpoints. What those leave float is BF16.
 */
enum status weights_random(struct model_weights **out, const struct model_config *config,
	enum weight_format format, uint64_t seed, struct kernel *kn, const struct weights_options *options,
	struct error *err);

void weights_destroy(struct model_weights *w);

/* Bytes that one generated token reads (experts: num_experts_per_tok of them and the shared ones). */
size_t weights_token_bytes(const struct model_weights *w);

#endif
