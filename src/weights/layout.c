/*
 * Lists every destination of a model and the tensor that fills it (weights_int.h). Tensor names are
 * those of the checkpoint (spec: model, section 2).
 *
 * All shapes and dtypes are checked here, before any memory for weights is taken.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "weights/weights_int.h"

#define NAME_BYTES 128

/* Where the builder is: a prefix of names such as "model.layers.3.mlp". */
struct scope {
	struct layout *l;
	struct error *err;
	char prefix[64];
};

static struct scope scope_in(const struct scope *s, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static struct scope scope_in(const struct scope *s, const char *fmt, ...)
{
	struct scope in = *s;
	size_t at = strlen(in.prefix);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(in.prefix + at, sizeof(in.prefix) - at, fmt, ap);
	va_end(ap);
	return in;
}

/* A shape for messages: "[7168, 16384]". */
static const char *shape_text(char *out, size_t bytes, const uint64_t *shape, uint32_t rank)
{
	size_t at = (size_t)snprintf(out, bytes, "[");

	for (uint32_t i = 0; i < rank && at < bytes; i++)
		at += (size_t)snprintf(
			out + at, bytes - at, "%s%llu", i ? ", " : "", (unsigned long long)shape[i]);
	if (at < bytes)
		snprintf(out + at, bytes - at, "]");
	return out;
}

static enum status find(const struct scope *s, const char *name, uint32_t rank,
	const uint64_t *shape, const struct st_tensor **out)
{
	const struct st_tensor *t = safetensors_find(s->l->files, name);
	char found[64], expected[64];

	if (!t) {
		const struct st_tensor *any =
			safetensors_count(s->l->files) ? safetensors_at(s->l->files, 0) : NULL;

		return error_set(s->err, E_FORMAT, "%s: tensor %.80s is missing",
			any ? safetensors_path(s->l->files, any) : "checkpoint", name);
	}
	if (t->rank != rank || memcmp(t->shape, shape, sizeof(*shape) * rank) != 0)
		return error_set(s->err, E_FORMAT, "%s: tensor %.60s has shape %s, expected %s",
			safetensors_path(s->l->files, t), name,
			shape_text(found, sizeof(found), t->shape, t->rank),
			shape_text(expected, sizeof(expected), shape, rank));
	*out = t;
	return OK;
}

static enum status wrong_dtype(
	const struct scope *s, const struct st_tensor *t, const char *expected)
{
	return error_set(s->err, E_UNSUPPORTED, "%s: tensor %.60s is %s, expected %s",
		safetensors_path(s->l->files, t), t->name, dtype_name(t->dtype), expected);
}

static struct item *add_item(struct layout *l, enum item_kind kind)
{
	l->items = mem_grow(l->items, &l->cap, l->n_items + 1, sizeof(*l->items));
	l->items[l->n_items] = (struct item){.kind = kind};
	return &l->items[l->n_items++];
}

/* Gives an item the next place in memory. */
static void place(struct layout *l, struct item *it, size_t bytes)
{
	it->at = l->bytes;
	it->bytes = bytes;
	l->bytes += (bytes + WEIGHTS_ALIGN - 1) / WEIGHTS_ALIGN * WEIGHTS_ALIGN;
	/* Parts of one tensor (kv_b_proj) follow each other: it counts once. */
	if (it->src && (it == l->items || it[-1].src != it->src))
		l->file_bytes += it->src->bytes + (it->scale ? it->scale->bytes : 0);
}

/* A bias beside `name`: part of the arithmetic of formats and models that are not implemented. */
static enum status refuse_bias(const struct scope *s, const char *name)
{
	char full[NAME_BYTES];
	const struct st_tensor *t;

	snprintf(full, sizeof(full), "%s%s.bias", s->prefix, name);
	t = safetensors_find(s->l->files, full);
	if (t)
		return error_set(s->err, E_UNSUPPORTED, "%s: tensor %.80s: biases are not supported",
			safetensors_path(s->l->files, t), full);
	return OK;
}

static enum status add_vector(
	const struct scope *s, const char *name, uint32_t n, float **out)
{
	/* `name` is a norm's module, or the router's bias, which is a tensor itself. */
	bool norm = !strstr(name, "e_score_correction_bias");
	uint64_t shape[1] = {n};
	const struct st_tensor *t = NULL;
	char full[NAME_BYTES];
	struct item *it;

	snprintf(full, sizeof(full), "%s%s%s", s->prefix, name, norm ? ".weight" : "");
	if (s->l->files) {
		TRY(find(s, full, 1, shape, &t));
		if (norm)
			TRY(refuse_bias(s, name));
		if (t->dtype != DT_F32 && t->dtype != DT_BF16)
			return wrong_dtype(s, t, "F32 or BF16");
	}
	it = add_item(s->l, ITEM_VECTOR);
	it->src = t;
	it->vector = out;
	it->n = n;
	place(s->l, it, sizeof(float) * (size_t)n);
	return OK;
}

/* The whole source matrix of an item: [rows, cols], and its scales. */
struct source {
	uint32_t rows;
	uint32_t cols;
	bool plain; /* never quantized: router, head, eh_proj */
};

static enum status find_matrix(const struct scope *s, const char *name, const struct source *src,
	struct item *it)
{
	uint64_t shape[2] = {src->rows, src->cols};
	char full[NAME_BYTES];

	snprintf(full, sizeof(full), "%s%s.weight", s->prefix, name);
	TRY(find(s, full, 2, shape, &it->src));
	TRY(refuse_bias(s, name));
	it->source = weight_source_find(it->src->dtype);
	if (!it->source || (src->plain && it->source->scaled))
		return wrong_dtype(s, it->src, src->plain ? "BF16 or F32" : "BF16, F32 or F8_E4M3");
	if (!it->source->scaled)
		return OK;
	snprintf(full, sizeof(full), "%s%s.weight_scale_inv", s->prefix, name);
	shape[0] = (src->rows + 127) / 128;
	shape[1] = (src->cols + 127) / 128;
	TRY(find(s, full, 2, shape, &it->scale));
	if (it->scale->dtype != DT_F32 && it->scale->dtype != DT_BF16 && it->scale->dtype != DT_U8)
		return wrong_dtype(s, it->scale, "F32, BF16 or F8_E8M0");
	return OK;
}

/*
 * Whether blocks of 128 x 128 scales fall on the panels of a part of a matrix and on its blocks of K.
 * Rows and columns begin at multiples of 32 everywhere, so a panel's side never straddles two blocks;
 * what is left is where the other side begins.
 */
static bool scales_line_up(const struct row_map *map)
{
	if (map->transposed)
		return map->row0 % WEIGHT_SCALE_BLOCK == 0 && map->group_stride % WEIGHT_SCALE_BLOCK == 0;
	return map->col0 % WEIGHT_SCALE_BLOCK == 0;
}

/*
 * One matrix or a half of an interleaved pair. w gets its layout from the first item that fills it.
 * Blocks of scales stay where they fall on panels and on blocks of K; otherwise values are dequantized.
 */
static enum status add_matrix(const struct scope *s, const char *name, const struct source *src,
	const struct row_map *map, uint32_t rows, uint32_t k, struct weight *w, uint32_t panel0,
	uint32_t panel_step)
{
	struct item it = {.kind = ITEM_MATRIX, .w = w, .map = *map, .rows = rows, .panel0 = panel0,
		.panel_step = panel_step};
	enum weight_format format = s->l->format;
	bool second = panel0 > 0;

	if (rows == 0 || k == 0)
		return error_set(s->err, E_UNSUPPORTED,
			"%s%s cannot be divided among %u ranks: too few rows or columns", s->prefix, name,
			s->l->w->plan.tp_size);
	if (s->l->files) {
		TRY(find_matrix(s, name, src, &it));
		format = it.source->packed;
	}
	if (src->plain || !scales_line_up(map))
		format = WEIGHT_BF16;
	if (second && format != w->format)
		return error_set(s->err, E_UNSUPPORTED,
			"%s: tensor %.60s is %s, the one that it is joined with is not",
			safetensors_path(s->l->files, it.src), it.src->name, dtype_name(it.src->dtype));
	if (!second)
		weight_layout(w, format, rows * panel_step, k);
	*add_item(s->l, ITEM_MATRIX) = it;
	place(s->l, &s->l->items[s->l->n_items - 1],
		second ? 0 : weight_panels_bytes(w) + weight_scales_bytes(w));
	return OK;
}

/* A matrix as it is, or rows [r.first, r.first + r.count) of it. */
static enum status add_rows(const struct scope *s, const char *name, uint32_t rows, uint32_t cols,
	struct shard_range r, bool plain, struct weight *w)
{
	struct source src = {rows, cols, plain};
	struct row_map map = {.group_rows = r.count, .row0 = r.first};

	return add_matrix(s, name, &src, &map, r.count, cols, w, 0, 1);
}

/* Columns [r.first, r.first + r.count) of a matrix. */
static enum status add_cols(const struct scope *s, const char *name, uint32_t rows, uint32_t cols,
	struct shard_range r, struct weight *w)
{
	struct source src = {rows, cols, false};
	struct row_map map = {.group_rows = rows, .col0 = r.first};

	return add_matrix(s, name, &src, &map, rows, r.count, w, 0, 1);
}

static struct shard_range all(uint32_t n)
{
	return (struct shard_range){0, n};
}

/* Gate, up and down of `width` in all, this rank's part of it. */
static enum status add_mlp(const struct scope *s, uint32_t width, struct mlp_weights *m)
{
	const struct shard_plan *plan = &s->l->w->plan;
	uint32_t hidden = s->l->w->config.hidden_size;
	bool scaled = s->l->files ? s->l->w->config.fp8 : s->l->format == WEIGHT_F8_BLOCK;
	/* Blocks of scales stay whole where there are enough of them; otherwise even parts count. */
	uint32_t granule = width % (WEIGHT_SCALE_BLOCK * plan->tp_size) == 0 ||
					   (scaled && width / WEIGHT_SCALE_BLOCK >= plan->tp_size)
				   ? WEIGHT_SCALE_BLOCK
				   : WEIGHT_PANEL_ROWS;
	struct shard_range r = shard_split(width, granule, plan->tp_rank, plan->tp_size);
	struct source src = {width, hidden, false};
	struct row_map map = {.group_rows = r.count, .row0 = r.first};

	TRY(add_matrix(s, "gate_proj", &src, &map, r.count, hidden, &m->gate_up, 0, 2));
	TRY(add_matrix(s, "up_proj", &src, &map, r.count, hidden, &m->gate_up, 1, 2));
	return add_cols(s, "down_proj", hidden, width, r, &m->down);
}

/* The three parts of kv_b_proj, whose rows are, head by head, keys and values. */
static enum status add_kv_b(
	const struct scope *s, struct shard_range heads, struct attention_weights *a)
{
	const struct model_config *c = &s->l->w->config;
	uint32_t nope = c->qk_nope_head_dim, v = c->v_head_dim, lora = c->kv_lora_rank;
	struct source src = {c->num_attention_heads * (nope + v), lora, false};
	struct row_map map = {
		.group_rows = nope, .group_stride = nope + v, .row0 = heads.first * (nope + v)};

	TRY(add_matrix(s, "kv_b_proj", &src, &map, heads.count * nope, lora, &a->kv_b_k, 0, 1));
	map.row0 += nope;
	map.group_rows = v;
	TRY(add_matrix(s, "kv_b_proj", &src, &map, heads.count * v, lora, &a->kv_b_v, 0, 1));
	map.row0 -= nope;
	map.group_rows = lora;
	map.transposed = true;
	return add_matrix(s, "kv_b_proj", &src, &map, heads.count * lora, nope, &a->kv_b_kt, 0, 1);
}

static enum status add_attention(const struct scope *layer, struct attention_weights *a)
{
	const struct model_config *c = &layer->l->w->config;
	const struct shard_plan *plan = &layer->l->w->plan;
	struct scope s = scope_in(layer, "self_attn.");
	struct shard_range h =
		shard_split(c->num_attention_heads, 1, plan->tp_rank, plan->tp_size);
	uint32_t qk = c->qk_nope_head_dim + c->qk_rope_head_dim, q_rows = c->num_attention_heads * qk;
	struct shard_range q = {h.first * qk, h.count * qk};
	struct shard_range o = {h.first * c->v_head_dim, h.count * c->v_head_dim};
	uint32_t latent = c->kv_lora_rank + c->qk_rope_head_dim;

	if (c->q_lora_rank) {
		TRY(add_rows(&s, "q_a_proj", c->q_lora_rank, c->hidden_size, all(c->q_lora_rank), false,
			&a->q_a_proj));
		TRY(add_vector(&s, "q_a_layernorm", c->q_lora_rank, &a->q_a_layernorm));
		TRY(add_rows(&s, "q_b_proj", q_rows, c->q_lora_rank, q, false, &a->q_b_proj));
	} else {
		TRY(add_rows(&s, "q_proj", q_rows, c->hidden_size, q, false, &a->q_b_proj));
	}
	TRY(add_rows(&s, "kv_a_proj_with_mqa", latent, c->hidden_size, all(latent), false,
		&a->kv_a_proj));
	TRY(add_vector(&s, "kv_a_layernorm", c->kv_lora_rank, &a->kv_a_layernorm));
	TRY(add_kv_b(&s, h, a));
	return add_cols(&s, "o_proj", c->hidden_size, c->num_attention_heads * c->v_head_dim, o, &a->o_proj);
}

static enum status add_experts(const struct scope *mlp, struct layer_weights *w)
{
	const struct model_config *c = &mlp->l->w->config;
	const struct shard_plan *plan = &mlp->l->w->plan;
	struct shard_range own = shard_split(c->n_routed_experts, 1, plan->ep_rank, plan->ep_size);

	if (own.count == 0)
		return error_set(mlp->err, E_UNSUPPORTED,
			"%sexperts: %u cannot be divided among %u ranks", mlp->prefix, c->n_routed_experts,
			plan->ep_size);
	w->is_moe = true;
	TRY(add_rows(mlp, "gate", c->n_routed_experts, c->hidden_size, all(c->n_routed_experts), true,
		&w->gate));
	if (c->router_bias)
		TRY(add_vector(mlp, "gate.e_score_correction_bias", c->n_routed_experts,
			&w->e_score_correction_bias));
	if (c->n_shared_experts) {
		struct scope shared = scope_in(mlp, "shared_experts.");

		TRY(add_mlp(&shared, c->n_shared_experts * c->moe_intermediate_size, &w->mlp));
	}
	w->experts = mem_alloc(sizeof(*w->experts) * c->n_routed_experts);
	for (uint32_t e = own.first; e < own.first + own.count; e++) {
		struct scope expert = scope_in(mlp, "experts.%u.", e);

		TRY(add_mlp(&expert, c->moe_intermediate_size, &w->experts[e]));
	}
	return OK;
}

static enum status add_layer(const struct scope *top, uint32_t index, struct layer_weights *w)
{
	const struct model_config *c = &top->l->w->config;
	struct scope s = scope_in(top, "model.layers.%u.", index), mlp = scope_in(&s, "mlp.");

	TRY(add_vector(&s, "input_layernorm", c->hidden_size, &w->input_layernorm));
	TRY(add_vector(
		&s, "post_attention_layernorm", c->hidden_size, &w->post_attention_layernorm));
	TRY(add_attention(&s, &w->attn));
	if (index < c->first_k_dense_replace || !c->n_routed_experts)
		return add_mlp(&mlp, c->intermediate_size, &w->mlp);
	return add_experts(&mlp, w);
}

static enum status add_mtp(const struct scope *top, struct mtp_weights *w)
{
	const struct model_config *c = &top->l->w->config;
	uint32_t index = c->num_hidden_layers, hidden = c->hidden_size;
	struct scope s = scope_in(top, "model.layers.%u.", index);

	TRY(add_vector(&s, "enorm", hidden, &w->enorm));
	TRY(add_vector(&s, "hnorm", hidden, &w->hnorm));
	TRY(add_rows(&s, "eh_proj", hidden, 2 * hidden, all(hidden), true, &w->eh_proj));
	TRY(add_vector(&s, "shared_head.norm", hidden, &w->shared_head_norm));
	return add_layer(top, index, &w->layer);
}

static enum status add_embedding(const struct scope *top)
{
	const struct model_config *c = &top->l->w->config;
	uint64_t shape[2] = {c->vocab_size, c->hidden_size};
	const struct st_tensor *t = NULL;
	struct item *it;

	if (top->l->files) {
		TRY(find(top, "model.embed_tokens.weight", 2, shape, &t));
		if (t->dtype != DT_BF16)
			return wrong_dtype(top, t, "BF16");
	}
	it = add_item(top->l, ITEM_TABLE);
	it->src = t;
	it->table = &top->l->w->embed_tokens;
	it->n = (uint64_t)c->vocab_size * c->hidden_size;
	place(top->l, it, sizeof(uint16_t) * it->n);
	return OK;
}

/* A checkpoint may come without the layer that its configuration names; one that has a part of it must
 * have it all. */
static bool has_mtp(const struct layout *l)
{
	char prefix[NAME_BYTES];
	size_t n;

	if (!l->w->config.num_nextn_predict_layers)
		return false;
	if (!l->files)
		return true;
	n = (size_t)snprintf(
		prefix, sizeof(prefix), "model.layers.%u.", l->w->config.num_hidden_layers);
	for (size_t i = 0; i < safetensors_count(l->files); i++)
		if (strncmp(safetensors_at(l->files, i)->name, prefix, n) == 0)
			return true;
	return false;
}

static enum status add_all(const struct scope *top, const struct weights_options *options)
{
	struct model_weights *w = top->l->w;
	const struct model_config *c = &w->config;
	struct shard_range vocab = shard_split(
		c->vocab_size, WEIGHT_PANEL_ROWS, w->plan.tp_rank, w->plan.tp_size);

	TRY(add_embedding(top));
	for (uint32_t i = 0; i < c->num_hidden_layers; i++)
		TRY(add_layer(top, i, &w->layers[i]));
	TRY(add_vector(top, "model.norm", c->hidden_size, &w->norm));
	TRY(add_rows(top, "lm_head", c->vocab_size, c->hidden_size, vocab, true, &w->lm_head));
	if (options->mtp && has_mtp(top->l)) {
		w->mtp = mem_alloc(sizeof(*w->mtp));
		TRY(add_mtp(top, w->mtp));
	}
	return OK;
}

enum status layout_build(struct layout *l, const struct model_config *config,
	const struct safetensors *files, enum weight_format format, const struct weights_options *options,
	struct error *err)
{
	struct scope top = {l, err, ""};
	const struct shard_plan *p = &options->plan;
	enum status st;

	BUG_ON(p->tp_rank >= p->tp_size || p->ep_rank >= p->ep_size);
	*l = (struct layout){.files = files, .format = format};
	l->w = mem_alloc(sizeof(*l->w));
	l->w->config = *config;
	l->w->plan = options->plan;
	l->w->layers = mem_alloc(sizeof(*l->w->layers) * config->num_hidden_layers);
	st = add_all(&top, options);
	if (st != OK)
		layout_deinit(l);
	else
		l->w->bytes = l->bytes;
	return st;
}

enum status layout_bind(struct layout *l, struct error *err)
{
	uint8_t *map;

	TRY(mem_map(&l->w->map, l->bytes, "weights", err));
	map = l->w->map;
	for (size_t i = 0; i < l->n_items; i++) {
		const struct item *it = &l->items[i];

		if (it->kind == ITEM_VECTOR)
			*it->vector = (float *)(map + it->at);
		else if (it->kind == ITEM_TABLE)
			*it->table = (uint16_t *)(map + it->at);
		else if (it->panel0 == 0)
			weight_bind(it->w, map + it->at);
	}
	return OK;
}

void layout_deinit(struct layout *l)
{
	free(l->items);
	l->items = NULL;
	weights_destroy(l->w);
	l->w = NULL;
}
