/*
 * The forward pass of DeepSeek-V3 and its relatives over one batch (spec: model, sections 3 and 4).
 *
 * A model borrows its weights, kernel, cache pool and communication group; it owns a workspace that is
 * sized at creation from the batch limits. model_forward() writes the cache of every layer for the
 * batch's tokens and gives the logits of its output rows. Nothing is allocated in a forward.
 *
 * Promise: the results of a token depend on that token and its own sequence alone, bit for bit, for
 * one build, ISA tier and weight format (DESIGN.md section 4).
 *
 * forward.c walks the layers; mla.c and moe.c are its two halves; mtp.c drafts.
 */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "comm/comm.h"
#include "kernel/kernel.h"
#include "kv/kv.h"
#include "model/batch.h"
#include "weights/weights.h"

struct model;

/* The pool must have num_hidden_layers + num_nextn_predict_layers layers (MTP only if loaded). */
enum status model_create(struct model **out, const struct model_weights *weights, struct kernel *kn,
	struct comm_group *tp, struct kv_pool *pool, const struct batch_limits *limits,
	uint32_t max_context_tokens, struct error *err);
void model_destroy(struct model *m);

/* Bytes of the workspace that model_create will take. */
size_t model_workspace_bytes(const struct model_config *config, const struct shard_plan *plan,
	const struct batch_limits *limits, bool mtp);

/* Results live in the model's workspace until its next forward. */
struct model_output {
	const float *logits; /* F32 [n_outputs, vocab_size], stride logits_stride */
	size_t logits_stride;
	const float *hidden; /* F32 [n_tokens, hidden_size], after model.norm: the MTP layer's input */
	const float *margin; /* F32 [n_tokens]: smallest routing margin over the MoE layers; negative where
	                      * a router would have chosen other experts than model_set_routes() gave */
	uint32_t experts_hit; /* distinct routed experts computed, summed over the MoE layers */
};

/* `batch` must pass batch_check(). Fails only when a peer does. */
enum status model_forward(struct model *m, const struct batch *batch, struct model_output *out,
	struct error *err);

/* Called after each main layer with the residual stream F32 [n_tokens, hidden_size]; for tests. */
typedef void model_trace_fn(void *arg, uint32_t layer, const float *residual, uint32_t n_tokens);
void model_set_trace(struct model *m, model_trace_fn *fn, void *arg);

/*
 * Takes the choice of experts away from the routers: called before the choice in each MoE layer for each
 * token of the batch (its row), with the layer's index, num_hidden_layers for the MTP layer. Returns
 * num_experts_per_tok ids in ascending order, or NULL where the router chooses. Gates still come from
 * the model's own scores. To compare with another implementation: a near tie, which any rounding
 * breaks either way, then makes no difference. NULL ends it.
 */
typedef const int32_t *model_routes_fn(void *arg, uint32_t layer, uint32_t token);
void model_set_routes(struct model *m, model_routes_fn *fn, void *arg);

/*
 * One pass of the MTP layer. Slot i of a sequence takes the main model's normed state of token i and
 * token i + 1, and predicts token i + 2. The batch's tokens are therefore the next tokens, while pos0
 * counts slots and the RoPE position of slot i is i. hidden: F32 [n_tokens, hidden_size], model_output's
 * or copied from it. out->hidden is shared_head.norm's output, to be recycled by a chained draft.
 * out->margin is this layer's.
 */
enum status model_mtp_forward(struct model *m, const struct batch *batch, const float *hidden,
	struct model_output *out, struct error *err);

#endif
