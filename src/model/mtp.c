/*
 * The multi-token-prediction layer (spec: model, section 4): eh_proj joins the next token's embedding
 * with the main model's normed state, then comes one decoder layer with its own cache, the last of the
 * pool, and the main head.
 */
#include "model/model_int.h"

enum status model_mtp_forward(struct model *m, const struct batch *batch, const float *hidden,
	struct model_output *out, struct error *err)
{
	const struct mtp_weights *w = m->w->mtp;
	struct workspace *ws = &m->ws;
	uint32_t n = m->d.hidden;
	struct act eh = act_view(ws->eh16, ACT_BF16, batch->n_tokens, 2 * n);
	struct act half = {
		.kind = ACT_BF16,
		.rows = batch->n_tokens,
		.k = n,
		.stride_bytes = eh.stride_bytes,
		.data = eh.data,
	};
	struct rmsnorm_args norm = {
		.x_stride = n,
		.eps = m->c->rms_norm_eps,
		.rows = batch->n_tokens,
		.n = n,
		.out_act = &half,
	};

	BUG_ON(!w);
	forward_begin(m, batch);
	kernel_embed(m->kn, ws->x, m->w->embed_tokens, batch_tokens(batch), m->rows, n);
	norm.x = ws->x;
	norm.weight = w->enorm.weight;
	norm.bias = w->enorm.bias;
	kernel_rmsnorm(m->kn, &norm);
	/* Without `add`, a norm only reads its input. */
	norm.x = (float *)(uintptr_t)hidden;
	norm.weight = w->hnorm.weight;
	norm.bias = w->hnorm.bias;
	half.data += (size_t)n * sizeof(uint16_t);
	kernel_rmsnorm(m->kn, &norm);
	kernel_gemm(m->kn,
		&(struct gemm_job){
			.a = &eh, .m = m->rows, .w = w->eh_proj, .out_f32 = ws->x, .out_stride = n},
		1);
	TRY(forward_layer(m, &w->layer, m->c->num_hidden_layers, err));
	return forward_head(m, batch, &w->shared_head_norm, out);
}
