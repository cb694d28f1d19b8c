/*
 * A model's state and workspace: what forward.c, mla.c, moe.c and mtp.c share. Internal to model/.
 *
 * Rows are the batch's tokens in the batch's order. All buffers are sized for the batch limits at
 * creation and start on 64 bytes.
 */
#ifndef MODEL_MODEL_INT_H
#define MODEL_MODEL_INT_H

#include "model/model.h"

/* Routed experts are computed for this many tokens at a time, generated tokens attend this many at a
 * time: bounds the widest buffers, changes no bit. */
#define MODEL_MOE_ROWS 1024u
#define MODEL_ABSORB_ROWS 256u

/* Sizes of this rank's part, from its weights. */
struct model_dims {
	uint32_t hidden;
	uint32_t heads; /* of this rank */
	uint32_t nope;
	uint32_t rope;
	uint32_t v_dim;
	uint32_t q_lora; /* 0: none */
	uint32_t kv_lora;
	uint32_t mlp_width;    /* widest of dense and shared MLPs */
	uint32_t expert_width; /* 0: no experts */
	uint32_t experts;
	uint32_t top_k;
	uint32_t vocab; /* rows of the head */
	bool integer;   /* some products read 8-bit inputs */
};

/* Device buffers. T: tokens of a batch; E: MODEL_MOE_ROWS or T if smaller; A: likewise with
 * MODEL_ABSORB_ROWS. */
struct workspace {
	float *x;         /* [T, hidden] residual stream */
	float *part;      /* [T, hidden] this rank's partial sum of attention or MLP */
	float *norm;      /* [T, hidden] normed rows, F32: the router's input, the model's hidden output */
	void *input[2];   /* [T, hidden] the same as inputs of products; the second one ACT_I8 only */
	float *q_a;       /* [T, q_lora] */
	void *q_a_in;     /* [T, q_lora] input of q_b_proj */
	float *q;         /* [T, heads, nope + rope] */
	float *kv;        /* [T, kv_lora + rope] */
	uint16_t *q_nope; /* [T, heads, nope] */
	uint16_t *q_rope; /* [T, heads, rope] */
	uint16_t *q_lat;  /* [A, heads, kv_lora] */
	uint16_t *o_lat;  /* [A, heads, kv_lora] */
	/* What the next product reads, as BF16, or as F32 with a second buffer to quantize to. */
	void *attn;       /* [T, heads, v_dim] */
	void *attn_in;
	void *mid;        /* [T, mlp_width] SiLU(gate) * up of a dense or shared MLP */
	void *mid_in;
	float *router;    /* [T, experts] */
	float *gates;     /* [T, top_k] */
	int32_t *ids;     /* [T, top_k] */
	float *margin;    /* [T] of one layer */
	float *min_margin; /* [T] over the layers */
	int32_t *slot;    /* [E, top_k] row of expert_y of each choice */
	int32_t *gather;  /* [E * top_k] token of each row of expert_y */
	uint32_t *first;  /* [experts + 1] first row of each expert */
	void *expert_mid; /* [E * top_k, expert_width], likewise */
	void *expert_mid_in;
	float *expert_y;  /* [E * top_k, hidden] */
	float *logits;    /* [max_outputs, vocab] */
	uint16_t *eh16;   /* MTP: [T, 2 * hidden] */

	int32_t *pos;            /* [T] */
	int32_t *out_rows;       /* [max_outputs] */
	struct mla_seq *all;     /* [max_seqs] whole chunks */
	struct mla_seq *prompt;  /* [max_seqs] prompt tokens of chunks */
	struct mla_seq *gen;     /* [max_seqs] generated tokens of chunks */
	struct mla_seq *run;     /* [max_seqs] those of one pass of absorbed attention */
	struct gemm_job *jobs;   /* [heads or experts + 1] */
	struct act *views;       /* [heads or 2 * experts + 2] inputs of jobs */
};

struct model {
	const struct model_weights *w;
	const struct model_config *c;
	struct kernel *kn;
	struct comm_group *tp;
	struct kv_pool *pool;
	struct batch_limits limits;
	struct model_dims d;
	struct rope_table rope;
	struct workspace ws;
	void *map; /* owned */
	size_t map_bytes;
	model_trace_fn *trace;
	void *trace_arg;
	model_routes_fn *routes;
	void *routes_arg;

	/* Of the running forward. */
	uint32_t rows;
	uint32_t n_all, n_prompt, n_gen; /* entries of ws.all, ws.prompt, ws.gen */
	const float *pending; /* sum not yet added to x, or NULL */
	uint32_t experts_hit;
};

/* workspace.c: carves all buffers from *at; with *at == 0 it only counts. */
void workspace_carve(struct workspace *ws, uintptr_t *at, const struct model_dims *d,
	const struct batch_limits *l, bool mtp);

/*
 * input.c: inputs of products. A norm makes the input of `first` in ws.input; model_input() gives that, or
 * another one from ws.norm, to other products of the same rows: two kinds at most.
 */
struct model_inputs {
	struct act act[2];
	uint32_t n;
};
void model_norm(struct model *m, struct model_inputs *in, const struct norm_weights *norm,
	const struct weight *first);
const struct act *model_input(struct model *m, struct model_inputs *in, const struct weight *w);

/* Where a producer writes rows that `next` will read; then what `next` reads, quantized to `mem` if it has
 * to be. */
struct act model_draft(void *mem, const struct weight *next, uint32_t rows);
struct act model_finish(struct model *m, const struct act *draft, void *mem, const struct weight *next);

/* forward.c: what a forward of the main layers and of the MTP layer share. */
void forward_begin(struct model *m, const struct batch *b);
enum status forward_layer(
	struct model *m, const struct layer_weights *w, uint32_t layer, struct error *err);
/* Norm of the last residual by `norm` and the head's logits of the output rows. */
enum status forward_head(struct model *m, const struct batch *b, const struct norm_weights *norm,
	struct model_output *out);

/* mla.c: attention of all rows. Reads x (adding m->pending first), leaves this rank's partial sum in
 * ws.part. */
void mla_forward(struct model *m, const struct layer_weights *w, uint32_t cache_layer);

/* moe.c: the dense MLP or the experts, likewise. */
void mlp_forward(struct model *m, const struct layer_weights *w, uint32_t layer);

#endif
