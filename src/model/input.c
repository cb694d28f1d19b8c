/*
 * Inputs of products (model_int.h): BF16, or 8-bit integers quantized from F32 as the weight asks. Rounding
 * to BF16 before quantizing would cost accuracy, so what is to be quantized stays F32 until then.
 */
#include "model/model_int.h"

/* BF16 goes to the first buffer, which is wide enough for it; integers to the other one if they can. */
static struct act new_input(struct model *m, const struct model_inputs *in, const struct weight *w)
{
	bool second = act_kind_for(w->format) == ACT_I8 && !(in->n && in->act[0].data == m->ws.input[1]);

	return act_for(m->ws.input[second], w, m->rows);
}

static bool fits(const struct act *a, const struct weight *w)
{
	return a->kind == act_kind_for(w->format) && a->input_scale == w->input_scale &&
	       a->input_offset == w->input_offset;
}

void model_norm(struct model *m, struct model_inputs *in, const struct norm_weights *norm,
	const struct weight *first)
{
	struct workspace *ws = &m->ws;

	in->n = 0;
	in->act[0] = new_input(m, in, first);
	in->n = 1;
	kernel_rmsnorm(m->kn, &(struct rmsnorm_args){
		.x = ws->x,
		.x_stride = m->d.hidden,
		.add = m->pending,
		.weight = norm->weight,
		.bias = norm->bias,
		.eps = m->c->rms_norm_eps,
		.rows = m->rows,
		.n = m->d.hidden,
		.out_f32 = ws->norm,
		.out_act = &in->act[0],
	});
	m->pending = NULL;
}

const struct act *model_input(struct model *m, struct model_inputs *in, const struct weight *w)
{
	for (uint32_t i = 0; i < in->n; i++)
		if (fits(&in->act[i], w))
			return &in->act[i];
	BUG_ON(in->n == 2);
	in->act[in->n] = new_input(m, in, w);
	kernel_act_from_f32(m->kn, &in->act[in->n], m->ws.norm, m->d.hidden);
	return &in->act[in->n++];
}

struct act model_draft(void *mem, const struct weight *next, uint32_t rows)
{
	return act_view(mem, act_kind_for(next->format) == ACT_BF16 ? ACT_BF16 : ACT_F32, rows, next->k);
}

struct act model_finish(struct model *m, const struct act *draft, void *mem, const struct weight *next)
{
	struct act a;

	if (draft->kind == ACT_BF16)
		return *draft;
	a = act_for(mem, next, draft->rows);
	kernel_act_from_f32(
		m->kn, &a, (const float *)draft->data, draft->stride_bytes / sizeof(float));
	return a;
}
