/*
 * Multi-head latent attention of one layer (spec: model, 3.2 to 3.4), tensor names as there.
 *
 * Prompt tokens take the expanded form, generated ones the absorbed form, whatever else the batch
 * holds. Every form reads the cache that this layer has just extended.
 */
#include "model/model_int.h"

/* x + pending -> norm -> q (F32, before rotation) and the latent row kv. */
static void project(struct model *m, const struct layer_weights *w)
{
	struct workspace *ws = &m->ws;
	const struct attention_weights *a = &w->attn;
	const struct model_dims *d = &m->d;
	struct act qa;
	struct model_inputs in;
	uint32_t q_cols = d->heads * (d->nope + d->rope);
	const struct weight *q = d->q_lora ? &a->q_a_proj : &a->q_b_proj;
	struct gemm_job jobs[2] = {
		{.m = m->rows, .w = a->kv_a_proj, .out_f32 = ws->kv, .out_stride = a->kv_a_proj.n},
		{.m = m->rows, .w = *q, .out_f32 = d->q_lora ? ws->q_a : ws->q,
			.out_stride = d->q_lora ? d->q_lora : q_cols},
	};

	model_norm(m, &in, &w->input_layernorm, &a->kv_a_proj);
	jobs[0].a = model_input(m, &in, &a->kv_a_proj);
	jobs[1].a = model_input(m, &in, q);
	kernel_gemm(m->kn, jobs, 2);
	if (!d->q_lora)
		return;
	qa = act_for(ws->q_a_in, &a->q_b_proj, m->rows);
	kernel_rmsnorm(m->kn, &(struct rmsnorm_args){
		.x = ws->q_a,
		.x_stride = d->q_lora,
		.weight = a->q_a_layernorm.weight,
		.bias = a->q_a_layernorm.bias,
		.eps = CONFIG_LORA_NORM_EPS,
		.rows = m->rows,
		.n = d->q_lora,
		.out_act = &qa,
	});
	kernel_gemm(m->kn,
		&(struct gemm_job){
			.a = &qa, .m = m->rows, .w = a->q_b_proj, .out_f32 = ws->q, .out_stride = q_cols},
		1);
}

/* Rows row0 .. of a matrix [rows][heads][width] as the input of head h. */
static struct act head_view(
	uint16_t *base, uint32_t rows, uint32_t heads, uint32_t width, uint32_t row0, uint32_t h)
{
	size_t stride = (size_t)heads * width;

	return (struct act){
		.kind = ACT_BF16,
		.rows = rows,
		.k = width,
		.stride_bytes = stride * sizeof(*base),
		.data = (uint8_t *)(base + row0 * stride + (size_t)h * width),
	};
}

/*
 * One matrix product per head, all heads in one join: out[row][h] = w_h in[row][h]. w holds the heads'
 * matrices [n_out, n_in] one after the other. out: rows of heads * n_out, BF16 or F32.
 */
static void head_products(struct model *m, const struct weight *w, uint32_t rows, uint16_t *in,
	uint32_t n_in, void *out, uint32_t n_out, enum act_kind kind)
{
	struct workspace *ws = &m->ws;
	uint32_t heads = m->d.heads;

	for (uint32_t h = 0; h < heads; h++) {
		ws->views[h] = head_view(in, rows, heads, n_in, 0, h);
		ws->jobs[h] = (struct gemm_job){
			.a = &ws->views[h],
			.m = rows,
			.w = weight_rows(w, h * n_out, n_out),
			.epilogue = kind == ACT_F32 ? GEMM_STORE_F32 : GEMM_STORE_BF16,
			.out_bf16 = (uint16_t *)out + (size_t)h * n_out,
			.out_f32 = (float *)out + (size_t)h * n_out,
			.out_stride = (size_t)heads * n_out,
		};
	}
	kernel_gemm(m->kn, ws->jobs, heads);
}

/* Absorbed attention of consecutive batch rows row0 .. row0 + rows - 1, which ws.run describes with
 * rows counted from row0. */
static void absorbed(struct model *m, const struct attention_weights *a, const struct kv_view *cache,
	const struct act *out, uint32_t row0, uint32_t rows, uint32_t n_seqs)
{
	struct workspace *ws = &m->ws;
	const struct model_dims *d = &m->d;

	head_products(m, &a->kv_b_kt, rows, ws->q_nope + (size_t)row0 * d->heads * d->nope, d->nope,
		ws->q_lat, d->kv_lora, ACT_BF16);
	kernel_mla_decode(m->kn, &(struct mla_decode_args){
		.q_lat = ws->q_lat,
		.q_rope = ws->q_rope + (size_t)row0 * d->heads * d->rope,
		.heads = d->heads,
		.scale = m->c->softmax_scale,
		.cache = *cache,
		.seqs = ws->run,
		.n_seqs = n_seqs,
		.out_lat = ws->o_lat,
	});
	head_products(m, &a->kv_b_v, rows, ws->o_lat, d->kv_lora,
		out->data + row0 * out->stride_bytes, d->v_dim, out->kind);
}

/* Generated rows that lie together go through absorbed() together, MODEL_ABSORB_ROWS at most. */
static void absorb_all(
	struct model *m, const struct attention_weights *a, const struct kv_view *cache,
	const struct act *out)
{
	struct workspace *ws = &m->ws;
	uint32_t row0 = 0, rows = 0, n = 0;

	for (uint32_t i = 0; i < m->n_gen; i++) {
		struct mla_seq s = ws->gen[i];

		while (s.rows) {
			uint32_t take;

			if (rows && (s.row0 != row0 + rows || rows == MODEL_ABSORB_ROWS)) {
				absorbed(m, a, cache, out, row0, rows, n);
				rows = n = 0;
			}
			if (!rows)
				row0 = s.row0;
			take = MODEL_ABSORB_ROWS - rows < s.rows ? MODEL_ABSORB_ROWS - rows : s.rows;
			ws->run[n] = s;
			ws->run[n].row0 = rows;
			ws->run[n++].rows = take;
			rows += take;
			s.row0 += take;
			s.pos0 += take;
			s.rows -= take;
		}
	}
	if (rows)
		absorbed(m, a, cache, out, row0, rows, n);
}

void mla_forward(struct model *m, const struct layer_weights *w, uint32_t cache_layer)
{
	struct workspace *ws = &m->ws;
	const struct attention_weights *a = &w->attn;
	const struct model_dims *d = &m->d;
	struct kv_view cache = kv_pool_view(m->pool, cache_layer);
	struct act nope = act_view(ws->q_nope, ACT_BF16, m->rows, d->heads * d->nope);
	struct act attn = model_draft(ws->attn, &a->o_proj, m->rows), o_in;

	project(m, w);
	kernel_kv_write(m->kn, &(struct kv_write_args){
		.kv = ws->kv,
		.kv_stride = a->kv_a_proj.n,
		.norm_weight = a->kv_a_layernorm.weight,
		.norm_bias = a->kv_a_layernorm.bias,
		.eps = CONFIG_LORA_NORM_EPS,
		.rope = m->rope,
		.cache = cache,
		.seqs = ws->all,
		.n_seqs = m->n_all,
	});
	kernel_q_rope(m->kn, &(struct q_rope_args){
		.q = ws->q,
		.rows = m->rows,
		.heads = d->heads,
		.nope = d->nope,
		.rope = m->rope,
		.pos = ws->pos,
		.nope_act = &nope,
		.q_rope = ws->q_rope,
	});
	if (m->n_prompt)
		kernel_mla_prompt(m->kn, &(struct mla_prompt_args){
			.q_nope = &nope,
			.q_rope = ws->q_rope,
			.heads = d->heads,
			.nope = d->nope,
			.v_dim = d->v_dim,
			.scale = m->c->softmax_scale,
			.kv_b_k = a->kv_b_k,
			.kv_b_v = a->kv_b_v,
			.cache = cache,
			.seqs = ws->prompt,
			.n_seqs = m->n_prompt,
			.out = &attn,
		});
	absorb_all(m, a, &cache, &attn);
	o_in = model_finish(m, &attn, ws->attn_in, &a->o_proj);
	kernel_gemm(m->kn,
		&(struct gemm_job){.a = &o_in, .m = m->rows, .w = a->o_proj, .out_f32 = ws->part,
			.out_stride = d->hidden},
		1);
}
