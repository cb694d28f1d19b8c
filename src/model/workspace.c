/*
 * The model's workspace: every buffer of a forward in one mapping (model_int.h).
 */
#include "model/model_int.h"

static void *carve(uintptr_t *at, size_t bytes)
{
	void *p = (void *)*at;

	*at += (bytes + 63) / 64 * 64;
	return p;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* Rows of BF16 inputs are read in steps of 32 values. */
static void *carve_act(uintptr_t *at, enum act_kind kind, size_t rows, uint32_t k)
{
	return carve(at, rows * act_stride_bytes(kind, k));
}

/* Rows that a product may read as BF16 or as integers. */
static void *carve_input(uintptr_t *at, const struct model_dims *d, size_t rows, uint32_t k)
{
	size_t bf16 = act_stride_bytes(ACT_BF16, k), i8 = d->integer ? act_stride_bytes(ACT_I8, k) : 0;

	return carve(at, rows * (bf16 > i8 ? bf16 : i8));
}

/* Rows written as BF16, or as F32 with a place to quantize them to. */
static void *carve_draft(
	uintptr_t *at, const struct model_dims *d, size_t rows, uint32_t k, void **quantized)
{
	*quantized = carve(at, d->integer ? rows * act_stride_bytes(ACT_I8, k) : 0);
	return carve_act(at, d->integer ? ACT_F32 : ACT_BF16, rows, k);
}

static void carve_tables(
	struct workspace *ws, uintptr_t *at, const struct model_dims *d, const struct batch_limits *l)
{
	size_t lists = sizeof(struct mla_seq) * l->max_seqs;

	ws->pos = carve(at, sizeof(*ws->pos) * (size_t)l->max_tokens);
	ws->out_rows = carve(at, sizeof(*ws->out_rows) * (size_t)l->max_outputs);
	ws->all = carve(at, lists);
	ws->prompt = carve(at, lists);
	ws->gen = carve(at, lists);
	ws->run = carve(at, lists);
	ws->jobs = carve(at, sizeof(*ws->jobs) * ((size_t)larger(d->heads, d->experts) + 2));
	ws->views = carve(at, sizeof(*ws->views) * ((size_t)larger(d->heads, d->experts) + 2));
}

void workspace_carve(struct workspace *ws, uintptr_t *at, const struct model_dims *d,
	const struct batch_limits *l, bool mtp)
{
	size_t t = l->max_tokens;
	size_t e = (size_t)smaller(l->max_tokens, MODEL_MOE_ROWS) * d->top_k;
	size_t a = smaller(l->max_tokens, MODEL_ABSORB_ROWS);
	size_t f = sizeof(float), h = sizeof(uint16_t);

	ws->x = carve(at, f * t * d->hidden);
	ws->part = carve(at, f * t * d->hidden);
	ws->norm = carve_act(at, ACT_F32, t, d->hidden);
	ws->input[0] = carve_input(at, d, t, d->hidden);
	ws->input[1] = carve(at, d->integer ? t * act_stride_bytes(ACT_I8, d->hidden) : 0);
	ws->q_a = carve(at, f * t * d->q_lora);
	ws->q_a_in = carve_input(at, d, t, d->q_lora);
	ws->q = carve(at, f * t * d->heads * (d->nope + d->rope));
	ws->kv = carve(at, f * t * (d->kv_lora + d->rope));
	ws->q_nope = carve_act(at, ACT_BF16, t, d->heads * d->nope);
	ws->q_rope = carve(at, h * t * d->heads * d->rope);
	ws->q_lat = carve(at, h * a * d->heads * d->kv_lora);
	ws->o_lat = carve(at, h * a * d->heads * d->kv_lora);
	ws->attn = carve_draft(at, d, t, d->heads * d->v_dim, &ws->attn_in);
	ws->mid = carve_draft(at, d, t, d->mlp_width, &ws->mid_in);
	ws->router = carve(at, f * t * d->experts);
	ws->gates = carve(at, f * t * d->top_k);
	ws->ids = carve(at, sizeof(*ws->ids) * t * d->top_k);
	ws->margin = carve(at, f * t);
	ws->min_margin = carve(at, f * t);
	ws->slot = carve(at, sizeof(*ws->slot) * e);
	ws->gather = carve(at, sizeof(*ws->gather) * e);
	ws->first = carve(at, sizeof(*ws->first) * ((size_t)d->experts + 1));
	ws->expert_mid = carve_draft(at, d, e, d->expert_width, &ws->expert_mid_in);
	ws->expert_y = carve(at, f * e * d->hidden);
	ws->logits = carve(at, f * l->max_outputs * d->vocab);
	ws->eh16 = carve_act(at, ACT_BF16, mtp ? t : 0, 2 * d->hidden);
	carve_tables(ws, at, d, l);
}
