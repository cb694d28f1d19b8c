/*
 * The feed-forward half of a layer: a dense SwiGLU MLP, or routed experts with the shared one
 * (spec: model, 3.5).
 *
 * The shared experts ride in the same task lists as the routed ones: two joins for all products.
 * Tokens are grouped by expert with a counting sort; an expert's rows keep the tokens' order.
 */
#include "model/model_int.h"

#include <string.h>

static void dense(struct model *m, const struct mlp_weights *w, const struct act *h)
{
	struct workspace *ws = &m->ws;
	struct act mid = model_draft(ws->mid, &w->down, m->rows), down_in;

	kernel_gemm(m->kn,
		&(struct gemm_job){.a = h, .m = m->rows, .w = w->gate_up, .epilogue = GEMM_SILU_MUL,
			.out_act = &mid},
		1);
	down_in = model_finish(m, &mid, ws->mid_in, &w->down);
	kernel_gemm(m->kn,
		&(struct gemm_job){.a = &down_in, .m = m->rows, .w = w->down, .out_f32 = ws->part,
			.out_stride = m->d.hidden},
		1);
}

/* Puts the choices that the caller of model_set_routes() makes into ws.ids. */
static bool give_routes(struct model *m, uint32_t layer)
{
	uint32_t k = m->d.top_k;

	if (!m->routes)
		return false;
	for (uint32_t i = 0; i < m->rows; i++) {
		const int32_t *given = m->routes(m->routes_arg, layer, i);
		int32_t *ids = m->ws.ids + (size_t)i * k;

		if (given)
			memcpy(ids, given, sizeof(*ids) * k);
		else
			ids[0] = -1;
	}
	return true;
}

static void route(struct model *m, const struct layer_weights *w, uint32_t layer)
{
	struct workspace *ws = &m->ws;
	const struct model_config *c = m->c;
	struct act h = act_view(ws->norm, ACT_F32, m->rows, m->d.hidden);

	kernel_gemm(m->kn,
		&(struct gemm_job){.a = &h, .m = m->rows, .w = w->gate, .out_f32 = ws->router,
			.out_stride = m->d.experts},
		1);
	kernel_route(m->kn, &(struct route_args){
		.logits = ws->router,
		.rows = m->rows,
		.experts = m->d.experts,
		.top_k = m->d.top_k,
		.groups = c->n_group,
		.top_groups = c->topk_group,
		.score = c->scoring_func,
		.group = c->group_score,
		.renormalize = c->norm_topk_prob,
		.scaling = c->routed_scaling_factor,
		.bias = w->e_score_correction_bias,
		.ids = ws->ids,
		.gates = ws->gates,
		.margin = ws->margin,
		.given = give_routes(m, layer),
	});
	for (uint32_t i = 0; i < m->rows; i++)
		ws->min_margin[i] = ws->margin[i] < ws->min_margin[i] ? ws->margin[i] : ws->min_margin[i];
}

/*
 * Sorts the choices of tokens row0 .. row0 + rows - 1 by expert: ws.first, ws.gather (row of the batch
 * for each row of expert_y) and ws.slot. Experts that another rank holds get no rows.
 */
static void group_by_expert(
	struct model *m, const struct layer_weights *w, uint32_t row0, uint32_t rows)
{
	struct workspace *ws = &m->ws;
	uint32_t k = m->d.top_k, n = rows * k, experts = m->d.experts, at = 0;
	const int32_t *ids = ws->ids + (size_t)row0 * k;

	memset(ws->first, 0, sizeof(*ws->first) * (experts + 1));
	for (uint32_t i = 0; i < n; i++)
		if (w->experts[ids[i]].down.n)
			ws->first[ids[i]]++;
	for (uint32_t e = 0; e < experts; e++) {
		uint32_t count = ws->first[e];

		m->experts_hit += count > 0;
		ws->first[e] = at;
		at += count;
	}
	for (uint32_t i = 0; i < n; i++) {
		ws->slot[i] = -1;
		if (w->experts[ids[i]].down.n) {
			ws->slot[i] = (int32_t)ws->first[ids[i]]++;
			ws->gather[ws->slot[i]] = (int32_t)(row0 + i / k);
		}
	}
	/* Each entry has advanced to the beginning of the next one. */
	memmove(ws->first + 1, ws->first, sizeof(*ws->first) * experts);
	ws->first[0] = 0;
}

/* What a chunk of rows goes through: the experts' inputs and what is between their products. */
struct expert_chunk {
	const struct layer_weights *w;
	const struct mlp_weights *any;  /* an expert of this rank: all have its formats */
	const struct act *in;           /* of the whole batch */
	struct act shared_in;           /* rows of the chunk */
	uint32_t row0, rows;
	struct act mid, shared_mid;     /* as SiLU writes them */
};

/* Gate and up of all experts with tokens, and of the shared one for the same rows. */
static void experts_up(struct model *m, struct expert_chunk *c)
{
	struct workspace *ws = &m->ws;
	uint32_t n = 0;

	c->mid = model_draft(ws->expert_mid, &c->any->down, ws->first[m->d.experts]);
	if (c->w->mlp.down.n) {
		c->shared_mid = model_draft(ws->mid, &c->w->mlp.down, c->rows);
		ws->jobs[n++] = (struct gemm_job){.a = &c->shared_in, .m = c->rows, .w = c->w->mlp.gate_up,
			.epilogue = GEMM_SILU_MUL, .out_act = &c->shared_mid};
	}
	for (uint32_t e = 0; e < m->d.experts; e++) {
		uint32_t first = ws->first[e], count = ws->first[e + 1] - first;

		if (count)
			ws->jobs[n++] = (struct gemm_job){.a = c->in, .rows = ws->gather + first, .m = count,
				.w = c->w->experts[e].gate_up, .epilogue = GEMM_SILU_MUL, .out_act = &c->mid,
				.out_row0 = first};
	}
	kernel_gemm(m->kn, ws->jobs, n);
}

/* Their down projections: expert_y, and the shared expert's output in ws.part. */
static void experts_down(struct model *m, const struct expert_chunk *c)
{
	struct workspace *ws = &m->ws;
	uint32_t hidden = m->d.hidden, n = 0;
	struct act mid = model_finish(m, &c->mid, ws->expert_mid_in, &c->any->down), shared_mid;

	if (c->w->mlp.down.n) {
		shared_mid = model_finish(m, &c->shared_mid, ws->mid_in, &c->w->mlp.down);
		ws->jobs[n++] = (struct gemm_job){.a = &shared_mid, .m = c->rows, .w = c->w->mlp.down,
			.out_f32 = ws->part + (size_t)c->row0 * hidden, .out_stride = hidden};
	}
	for (uint32_t e = 0; e < m->d.experts; e++) {
		uint32_t first = ws->first[e], count = ws->first[e + 1] - first;

		if (!count)
			continue;
		ws->views[n] = mid;
		ws->views[n].rows = count;
		ws->views[n].data += first * mid.stride_bytes;
		ws->jobs[n] = (struct gemm_job){.a = &ws->views[n], .m = count, .w = c->w->experts[e].down,
			.out_f32 = ws->expert_y + (size_t)first * hidden, .out_stride = hidden};
		n++;
	}
	kernel_gemm(m->kn, ws->jobs, n);
}

/* An expert that this rank holds; every rank holds some (weights/layout.c). */
static const struct mlp_weights *any_expert(const struct model *m, const struct layer_weights *w)
{
	uint32_t e = 0;

	while (e + 1 < m->d.experts && !w->experts[e].down.n)
		e++;
	return &w->experts[e];
}

static void experts(struct model *m, struct expert_chunk *c)
{
	struct workspace *ws = &m->ws;
	size_t at = (size_t)c->row0 * m->d.top_k;
	float *out = ws->part + (size_t)c->row0 * m->d.hidden;

	group_by_expert(m, c->w, c->row0, c->rows);
	experts_up(m, c);
	experts_down(m, c);
	kernel_moe_combine(m->kn, &(struct moe_combine_args){
		.out = out,
		.shared = c->w->mlp.down.n ? out : NULL,
		.y = ws->expert_y,
		.slot = ws->slot,
		.ids = ws->ids + at,
		.gates = ws->gates + at,
		.rows = c->rows,
		.top_k = m->d.top_k,
		.experts = m->d.experts,
		.hidden = m->d.hidden,
	});
}

void mlp_forward(struct model *m, const struct layer_weights *w, uint32_t layer)
{
	struct expert_chunk c = {.w = w};
	struct model_inputs in;
	const struct act *shared = NULL;

	if (!w->is_moe) {
		model_norm(m, &in, &w->post_attention_layernorm, &w->mlp.gate_up);
		dense(m, &w->mlp, model_input(m, &in, &w->mlp.gate_up));
		return;
	}
	c.any = any_expert(m, w);
	model_norm(m, &in, &w->post_attention_layernorm, &c.any->gate_up);
	c.in = model_input(m, &in, &c.any->gate_up);
	if (w->mlp.down.n)
		shared = model_input(m, &in, &w->mlp.gate_up);
	route(m, w, layer);
	for (; c.row0 < m->rows; c.row0 += c.rows) {
		c.rows = m->rows - c.row0 < MODEL_MOE_ROWS ? m->rows - c.row0 : MODEL_MOE_ROWS;
		if (shared) {
			c.shared_in = *shared;
			c.shared_in.data += c.row0 * shared->stride_bytes;
			c.shared_in.rows = c.rows;
		}
		experts(m, &c);
	}
}
