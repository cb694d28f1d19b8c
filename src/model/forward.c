/*
 * The forward pass (model/model.h): embedding, layers, head. A layer is mla_forward() and
 * mlp_forward(), each followed by the group's sum, whose result the next norm adds to the residual.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "model/model_int.h"

static uint32_t larger(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static struct model_dims dims_of(const struct model_config *c, const struct shard_plan *plan)
{
	struct model_dims d = {
		.integer = c->integer,
		.hidden = c->hidden_size,
		.heads = shard_split(c->num_attention_heads, 1, plan->tp_rank, plan->tp_size).count,
		.nope = c->qk_nope_head_dim,
		.rope = c->qk_rope_head_dim,
		.v_dim = c->v_head_dim,
		.q_lora = c->q_lora_rank,
		.kv_lora = c->kv_lora_rank,
		.experts = c->n_routed_experts,
		.top_k = c->n_routed_experts ? c->num_experts_per_tok : 0,
		.expert_width = c->n_routed_experts ? c->moe_intermediate_size : 0,
		.vocab = shard_split(c->vocab_size, WEIGHT_PANEL_ROWS, plan->tp_rank, plan->tp_size).count,
	};

	/* Ranks may hold less than these widths, never more. */
	if (!c->n_routed_experts || c->first_k_dense_replace)
		d.mlp_width = c->intermediate_size;
	if (c->n_routed_experts)
		d.mlp_width = larger(d.mlp_width, c->n_shared_experts * c->moe_intermediate_size);
	return d;
}

size_t model_workspace_bytes(const struct model_config *config, const struct shard_plan *plan,
	const struct batch_limits *limits, bool mtp)
{
	struct model_dims d = dims_of(config, plan);
	struct workspace ws;
	uintptr_t at = 0;

	workspace_carve(&ws, &at, &d, limits, mtp);
	return at;
}

enum status model_create(struct model **out, const struct model_weights *weights, struct kernel *kn,
	struct comm_group *tp, struct kv_pool *pool, const struct batch_limits *limits,
	uint32_t max_context_tokens, struct error *err)
{
	const struct model_config *c = &weights->config;
	struct model *m = mem_alloc(sizeof(*m));
	uintptr_t at;
	enum status st;

	BUG_ON((uint32_t)comm_group_size(tp) != weights->plan.tp_size);
	BUG_ON(kv_pool_get_config(pool)->n_layers < c->num_hidden_layers + (weights->mtp ? 1 : 0));
	m->w = weights;
	m->c = c;
	m->kn = kn;
	m->tp = tp;
	m->pool = pool;
	m->limits = *limits;
	m->d = dims_of(c, &weights->plan);
	BUG_ON(m->d.heads * (m->d.nope + m->d.rope) != weights->layers[0].attn.q_b_proj.n);
	BUG_ON(m->d.vocab != weights->lm_head.n);
	m->rope = (struct rope_table){
		.freq = c->rope_freq, .rope = c->qk_rope_head_dim, .mscale = c->rope_mscale};
	m->map_bytes = model_workspace_bytes(c, &weights->plan, limits, weights->mtp != NULL);
	TRY_GOTO(out_free, mem_map(&m->map, m->map_bytes, "workspace of the model", err));
	at = (uintptr_t)m->map;
	workspace_carve(&m->ws, &at, &m->d, limits, weights->mtp != NULL);
	TRY_GOTO(out_map, kernel_reserve(kn,
				  &(struct kernel_limits){
					  .max_rows = limits->max_tokens,
					  .heads = m->d.heads,
					  .kv_lora = m->d.kv_lora,
					  .rope = m->d.rope,
					  .nope = m->d.nope,
					  .v_dim = m->d.v_dim,
					  .max_context = max_context_tokens,
				  },
				  err));
	*out = m;
	return OK;

out_map:
	mem_unmap(m->map, m->map_bytes);
out_free:
	free(m);
	return st;
}

void model_destroy(struct model *m)
{
	if (!m)
		return;
	mem_unmap(m->map, m->map_bytes);
	free(m);
}

void model_set_trace(struct model *m, model_trace_fn *fn, void *arg)
{
	m->trace = fn;
	m->trace_arg = arg;
}

void model_set_routes(struct model *m, model_routes_fn *fn, void *arg)
{
	m->routes = fn;
	m->routes_arg = arg;
}

static void add_seq(struct mla_seq *list, uint32_t *n, uint32_t row0, uint32_t rows, uint32_t pos0,
	const int32_t *blocks)
{
	if (rows)
		list[(*n)++] = (struct mla_seq){
			.row0 = row0, .rows = rows, .pos0 = pos0, .blocks = blocks};
}

void forward_begin(struct model *m, const struct batch *b)
{
	struct workspace *ws = &m->ws;

	BUG_ON(b->n_tokens > m->limits.max_tokens || b->n_seqs > m->limits.max_seqs ||
		b->n_outputs > m->limits.max_outputs);
	m->rows = b->n_tokens;
	m->n_all = m->n_prompt = m->n_gen = 0;
	m->pending = NULL;
	m->experts_hit = 0;
	for (uint32_t i = 0; i < b->n_seqs; i++) {
		const struct batch_seq *s = &batch_seqs(b)[i];
		const int32_t *blocks = batch_blocks(b) + s->block0;
		uint32_t n = s->n_prompt + s->n_generated;

		add_seq(ws->all, &m->n_all, s->token0, n, s->pos0, blocks);
		add_seq(ws->prompt, &m->n_prompt, s->token0, s->n_prompt, s->pos0, blocks);
		add_seq(ws->gen, &m->n_gen, s->token0 + s->n_prompt, s->n_generated,
			s->pos0 + s->n_prompt, blocks);
		for (uint32_t j = 0; j < n; j++)
			ws->pos[s->token0 + j] = (int32_t)(s->pos0 + j);
	}
	for (uint32_t i = 0; i < m->rows; i++)
		ws->min_margin[i] = 1e30f;
}

/* Offers ws.part to the group; the sum waits in m->pending for the next norm. */
static enum status reduce(struct model *m, struct error *err)
{
	struct comm_sum sum;

	if (comm_sum_post(m->tp, &sum, m->ws.part, m->rows, m->d.hidden) != OK ||
		comm_sum_wait(m->tp, &sum, &m->pending) != OK)
		return error_set(err, E_PEER, "a rank failed in a sum");
	return OK;
}

enum status forward_layer(
	struct model *m, const struct layer_weights *w, uint32_t layer, struct error *err)
{
	mla_forward(m, w, layer);
	TRY(reduce(m, err));
	mlp_forward(m, w, layer);
	return reduce(m, err);
}

enum status forward_head(
	struct model *m, const struct batch *b, const struct norm_weights *norm,
	struct model_output *out)
{
	struct workspace *ws = &m->ws;
	struct model_inputs in;

	model_norm(m, &in, norm, &m->w->lm_head);
	for (uint32_t i = 0; i < b->n_outputs; i++)
		ws->out_rows[i] = (int32_t)batch_outputs(b)[i];
	if (b->n_outputs)
		kernel_gemm(m->kn,
			&(struct gemm_job){.a = &in.act[0], .rows = ws->out_rows, .m = b->n_outputs,
				.w = m->w->lm_head, .out_f32 = ws->logits, .out_stride = m->d.vocab},
			1);
	*out = (struct model_output){
		.logits = ws->logits,
		.logits_stride = m->d.vocab,
		.hidden = ws->norm,
		.margin = ws->min_margin,
		.experts_hit = m->experts_hit,
	};
	return OK;
}

enum status model_forward(
	struct model *m, const struct batch *batch, struct model_output *out, struct error *err)
{
	struct workspace *ws = &m->ws;

	forward_begin(m, batch);
	kernel_embed(m->kn, ws->x, m->w->embed_tokens, batch_tokens(batch), m->rows, m->d.hidden);
	for (uint32_t l = 0; l < m->c->num_hidden_layers; l++) {
		TRY(forward_layer(m, &m->w->layers[l], l, err));
		if (m->trace) {
			kernel_add(m->kn, ws->x, m->pending, (size_t)m->rows * m->d.hidden);
			m->pending = NULL;
			m->trace(m->trace_arg, l, ws->x, m->rows);
		}
	}
	return forward_head(m, batch, &m->w->norm, out);
}
