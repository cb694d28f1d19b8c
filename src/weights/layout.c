/*
 * Lists every destination of a model and the tensor that fills it (weights_int.h). Tensor names are
 * those of the checkpoint (spec: model, section 2).
 *
 * All shapes and dtypes are checked here and in source.c, before any memory for weights is taken.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "weights/weights_int.h"

#define NAME_BYTES 128

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
	if (!it->src || (it != l->items && it[-1].src == it->src))
		return;
	l->file_bytes += it->src->bytes;
	for (int i = 0; i < WEIGHT_PARTS; i++)
		if (it->part[i] && it->scheme->parts[i].role != PART_IGNORED)
			l->file_bytes += it->part[i]->bytes;
}

/* A tensor of n F32 values. */
static enum status add_vector(const struct scope *s, const char *name, uint32_t n, float **out)
{
	uint64_t shape[1] = {n};
	const struct st_tensor *t = NULL;
	char full[NAME_BYTES];
	struct item *it;

	snprintf(full, sizeof(full), "%s%s", s->prefix, name);
	if (s->l->files) {
		TRY(source_check_float(s, full));
		TRY(source_find(s, full, 1, shape, &t));
		if (t->dtype != DT_F32 && t->dtype != DT_BF16)
			return source_wrong_dtype(s, t, "F32 or BF16");
	}
	it = add_item(s->l, ITEM_VECTOR);
	it->src = t;
	it->vector = out;
	it->n = n;
	place(s->l, it, sizeof(float) * (size_t)n);
	return OK;
}

static enum status add_norm(const struct scope *s, const char *name, uint32_t n, struct norm_weights *out)
{
	struct scope in = scope_in(s, "%s.", name);
	char bias[NAME_BYTES];

	TRY(add_vector(&in, "weight", n, &out->weight));
	snprintf(bias, sizeof(bias), "%sbias", in.prefix);
	if (!s->l->files || !safetensors_find(s->l->files, bias))
		return OK;
	return add_vector(&in, "bias", n, &out->bias);
}

/* The formats of a synthetic model (weights.h). */
static enum weight_format random_format(const struct layout *l, const struct source *src)
{
	if (!weight_traits(l->format)->integer)
		return src->role == SOURCE_PLAIN ? WEIGHT_BF16 : l->format;
	if (src->role == SOURCE_PLAIN || src->role == SOURCE_FLOAT)
		return WEIGHT_BF16;
	return src->role == SOURCE_EXPERT ? l->format : WEIGHT_I8;
}

/* The members of what checkpoints treat as one layer have one scheme, so that they share an input. */
static enum status check_joined(const struct scope *s, size_t first, size_t second)
{
	const struct item *a = &s->l->items[first], *b = &s->l->items[second];
	const char *short_name;

	if (!s->l->description || a->scheme == b->scheme ||
		(a->scheme->packed == b->scheme->packed && !a->scheme->described && !b->scheme->described))
		return OK;
	short_name = strstr(a->src->name, ".mlp.");
	short_name = short_name ? short_name : strstr(a->src->name, ".self_attn.");
	return error_set(s->err, E_UNSUPPORTED, "%s: tensor %.60s has the scheme %s, %.40s with it %s",
		description_path(s->l->description), b->src->name, b->scheme->name,
		short_name ? short_name + 1 : a->src->name, a->scheme->name);
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

/* The second half of an interleaved pair: `it` joins what the item before it laid out. */
static enum status check_second(const struct scope *s, const struct item *it, enum weight_format format)
{
	const struct item *first = &s->l->items[s->l->n_items - 1];

	if (format != it->w->format)
		return error_set(s->err, E_UNSUPPORTED,
			"%s: tensor %.60s is %s, the one that it is joined with is not",
			safetensors_path(s->l->files, it->src), it->src->name, it->scheme->name);
	if (first->input_scale != it->input_scale || first->input_offset != it->input_offset)
		return error_set(s->err, E_UNSUPPORTED,
			"%s: tensor %.60s has another input_scale or input_offset than the one that it is joined with",
			safetensors_path(s->l->files, it->src), it->src->name);
	return OK;
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
	enum weight_format format = random_format(s->l, src);
	bool second = panel0 > 0;

	if (rows == 0 || k == 0)
		return error_set(s->err, E_UNSUPPORTED,
			"%s%s cannot be divided among %u ranks: too few rows or columns", s->prefix, name,
			s->l->w->plan.tp_size);
	if (s->l->files) {
		TRY(source_find_matrix(s, name, src, &it));
		format = it.scheme->packed;
	}
	if (format == WEIGHT_F8_BLOCK && !scales_line_up(map))
		format = WEIGHT_BF16;
	if (it.group && (map->col0 % it.group || k % it.group))
		return error_set(s->err, E_UNSUPPORTED, "%s%s cannot be divided among %u ranks: groups of %u columns",
			s->prefix, name, s->l->w->plan.tp_size, it.group);
	if (second && s->l->files)
		TRY(check_second(s, &it, format));
	if (!second) {
		weight_layout_groups(w, format, rows * panel_step, k, it.group);
		w->input_scale = it.input_scale;
		w->input_offset = it.input_offset;
	}
	*add_item(s->l, ITEM_MATRIX) = it;
	place(s->l, &s->l->items[s->l->n_items - 1],
		second ? 0 : weight_panels_bytes(w) + weight_scales_bytes(w));
	return OK;
}

/* A matrix as it is, or rows [r.first, r.first + r.count) of it. */
static enum status add_rows(const struct scope *s, const char *name, uint32_t rows, uint32_t cols,
	struct shard_range r, enum source_role role, struct weight *w)
{
	struct source src = {rows, cols, role};
	struct row_map map = {.group_rows = r.count, .row0 = r.first};

	return add_matrix(s, name, &src, &map, r.count, cols, w, 0, 1);
}

/* Columns [r.first, r.first + r.count) of a matrix. */
static enum status add_cols(const struct scope *s, const char *name, uint32_t rows, uint32_t cols,
	struct shard_range r, enum source_role role, struct weight *w)
{
	struct source src = {rows, cols, role};
	struct row_map map = {.group_rows = rows, .col0 = r.first};

	return add_matrix(s, name, &src, &map, rows, r.count, w, 0, 1);
}

static struct shard_range all(uint32_t n)
{
	return (struct shard_range){0, n};
}

/* Gate, up and down of `width` in all, this rank's part of it. */
static enum status add_mlp(
	const struct scope *s, uint32_t width, enum source_role role, struct mlp_weights *m)
{
	const struct shard_plan *plan = &s->l->w->plan;
	uint32_t hidden = s->l->w->config.hidden_size;
	bool scaled = s->l->files ? s->l->w->config.fp8 : s->l->format == WEIGHT_F8_BLOCK;
	/* Blocks of scales stay whole where there are enough of them; otherwise even parts count. */
	uint32_t granule = width % (WEIGHT_SCALE_BLOCK * plan->tp_size) == 0 ||
					   (scaled && width / WEIGHT_SCALE_BLOCK >= plan->tp_size)
				   ? WEIGHT_SCALE_BLOCK
				   : WEIGHT_PANEL_ROWS;
	uint32_t group = s->l->description && role == SOURCE_EXPERT ? description_group(s->l->description) : 0;
	struct shard_range r = shard_split(
		width, group > granule ? group : granule, plan->tp_rank, plan->tp_size);
	struct source src = {width, hidden, role};
	struct row_map map = {.group_rows = r.count, .row0 = r.first};

	TRY(add_matrix(s, "gate_proj", &src, &map, r.count, hidden, &m->gate_up, 0, 2));
	TRY(add_matrix(s, "up_proj", &src, &map, r.count, hidden, &m->gate_up, 1, 2));
	return add_cols(s, "down_proj", hidden, width, r, role, &m->down);
}

/* The three parts of kv_b_proj, whose rows are, head by head, keys and values. */
static enum status add_kv_b(
	const struct scope *s, struct shard_range heads, struct attention_weights *a)
{
	const struct model_config *c = &s->l->w->config;
	uint32_t nope = c->qk_nope_head_dim, v = c->v_head_dim, lora = c->kv_lora_rank;
	struct source src = {c->num_attention_heads * (nope + v), lora, SOURCE_FLOAT};
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
	size_t q_item = layer->l->n_items;

	if (c->q_lora_rank) {
		TRY(add_rows(&s, "q_a_proj", c->q_lora_rank, c->hidden_size, all(c->q_lora_rank),
			SOURCE_LINEAR, &a->q_a_proj));
		TRY(add_norm(&s, "q_a_layernorm", c->q_lora_rank, &a->q_a_layernorm));
		TRY(add_rows(&s, "q_b_proj", q_rows, c->q_lora_rank, q, SOURCE_LINEAR, &a->q_b_proj));
	} else {
		TRY(add_rows(&s, "q_proj", q_rows, c->hidden_size, q, SOURCE_LINEAR, &a->q_b_proj));
	}
	TRY(add_rows(&s, "kv_a_proj_with_mqa", latent, c->hidden_size, all(latent), SOURCE_LINEAR,
		&a->kv_a_proj));
	TRY(check_joined(&s, q_item, layer->l->n_items - 1));
	TRY(add_norm(&s, "kv_a_layernorm", c->kv_lora_rank, &a->kv_a_layernorm));
	TRY(add_kv_b(&s, h, a));
	return add_cols(&s, "o_proj", c->hidden_size, c->num_attention_heads * c->v_head_dim, o,
		SOURCE_LINEAR, &a->o_proj);
}

static enum status add_experts(const struct scope *mlp, struct layer_weights *w)
{
	const struct model_config *c = &mlp->l->w->config;
	const struct shard_plan *plan = &mlp->l->w->plan;
	struct shard_range own = shard_split(c->n_routed_experts, 1, plan->ep_rank, plan->ep_size);
	size_t first;

	if (own.count == 0)
		return error_set(mlp->err, E_UNSUPPORTED,
			"%sexperts: %u cannot be divided among %u ranks", mlp->prefix, c->n_routed_experts,
			plan->ep_size);
	w->is_moe = true;
	TRY(add_rows(mlp, "gate", c->n_routed_experts, c->hidden_size, all(c->n_routed_experts),
		SOURCE_PLAIN, &w->gate));
	if (c->router_bias)
		TRY(add_vector(mlp, "gate.e_score_correction_bias", c->n_routed_experts,
			&w->e_score_correction_bias));
	if (c->n_shared_experts) {
		struct scope shared = scope_in(mlp, "shared_experts.");

		TRY(add_mlp(&shared, c->n_shared_experts * c->moe_intermediate_size,
			SOURCE_LINEAR, &w->mlp));
	}
	w->experts = mem_alloc(sizeof(*w->experts) * c->n_routed_experts);
	first = mlp->l->n_items;
	for (uint32_t e = own.first; e < own.first + own.count; e++) {
		struct scope expert = scope_in(mlp, "experts.%u.", e);
		size_t item = mlp->l->n_items;

		TRY(add_mlp(&expert, c->moe_intermediate_size, SOURCE_EXPERT, &w->experts[e]));
		for (size_t i = item; i < mlp->l->n_items; i++)
			TRY(check_joined(&expert, first, i));
	}
	return OK;
}

static enum status add_layer(const struct scope *top, uint32_t index, struct layer_weights *w)
{
	const struct model_config *c = &top->l->w->config;
	struct scope s = scope_in(top, "model.layers.%u.", index), mlp = scope_in(&s, "mlp.");

	TRY(add_norm(&s, "input_layernorm", c->hidden_size, &w->input_layernorm));
	TRY(add_norm(
		&s, "post_attention_layernorm", c->hidden_size, &w->post_attention_layernorm));
	TRY(add_attention(&s, &w->attn));
	if (index < c->first_k_dense_replace || !c->n_routed_experts)
		return add_mlp(&mlp, c->intermediate_size, SOURCE_LINEAR, &w->mlp);
	return add_experts(&mlp, w);
}

static enum status add_mtp(const struct scope *top, struct mtp_weights *w)
{
	const struct model_config *c = &top->l->w->config;
	uint32_t index = c->num_hidden_layers, hidden = c->hidden_size;
	struct scope mtp = *top, s;

	mtp.mtp = true;
	s = scope_in(&mtp, "model.layers.%u.", index);
	TRY(add_norm(&s, "enorm", hidden, &w->enorm));
	TRY(add_norm(&s, "hnorm", hidden, &w->hnorm));
	TRY(add_rows(&s, "eh_proj", hidden, 2 * hidden, all(hidden), SOURCE_PLAIN, &w->eh_proj));
	TRY(add_norm(&s, "shared_head.norm", hidden, &w->shared_head_norm));
	return add_layer(&mtp, index, &w->layer);
}

static enum status add_embedding(const struct scope *top)
{
	const struct model_config *c = &top->l->w->config;
	uint64_t shape[2] = {c->vocab_size, c->hidden_size};
	const struct st_tensor *t = NULL;
	struct item *it;

	if (top->l->files) {
		TRY(source_check_float(top, "model.embed_tokens.weight"));
		TRY(source_find(top, "model.embed_tokens.weight", 2, shape, &t));
		if (t->dtype != DT_BF16)
			return source_wrong_dtype(top, t, "BF16");
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
	TRY(add_norm(top, "model.norm", c->hidden_size, &w->norm));
	TRY(add_rows(top, "lm_head", c->vocab_size, c->hidden_size, vocab, SOURCE_PLAIN,
		&w->lm_head));
	if (options->mtp && has_mtp(top->l)) {
		w->mtp = mem_alloc(sizeof(*w->mtp));
		TRY(add_mtp(top, w->mtp));
	}
	return OK;
}

/* Tensors of a layer that change no result: old checkpoints store RoPE's frequencies. */
static bool is_known_extra(const char *name)
{
	return strstr(name, ".rotary_emb.inv_freq") != NULL;
}

/* The layer that a tensor belongs to; false when it belongs to none. */
static bool layer_of(const char *name, unsigned long *layer)
{
	static const char prefix[] = "model.layers.";
	char *end;

	if (strncmp(name, prefix, sizeof(prefix) - 1) != 0)
		return false;
	*layer = strtoul(name + sizeof(prefix) - 1, &end, 10);
	return *end == '.';
}

/*
 * A layer's tensor that nothing asked for means that the configuration describes another model: fewer
 * layers, no shared experts. A rank of several leaves tensors to the others.
 */
static enum status check_unused(const struct layout *l, struct error *err)
{
	const struct model_config *c = &l->w->config;
	size_t n = safetensors_count(l->files);
	const struct st_tensor *all = n ? safetensors_at(l->files, 0) : NULL;
	bool *used = mem_alloc(n + 1);
	enum status st = OK;

	for (size_t i = 0; i < l->n_items; i++) {
		used[l->items[i].src - all] = true;
		for (int j = 0; j < WEIGHT_PARTS; j++)
			if (l->items[i].part[j])
				used[l->items[i].part[j] - all] = true;
	}
	for (size_t i = 0; i < n && st == OK && l->w->plan.ep_size == 1; i++) {
		unsigned long layer;

		if (used[i] || is_known_extra(all[i].name) || !layer_of(all[i].name, &layer))
			continue;
		/* The MTP layer may be left out, and its copies of embedding and head always are. */
		if (layer >= c->num_hidden_layers &&
			layer < (unsigned long)c->num_hidden_layers + c->num_nextn_predict_layers)
			continue;
		st = error_set(err, E_FORMAT,
			"%.80s: tensor %.70s has no place in the model that config.json describes",
			safetensors_path(l->files, &all[i]), all[i].name);
	}
	free(used);
	return st;
}

enum status layout_build(struct layout *l, const struct model_config *config,
	const struct safetensors *files, const struct description *description,
	enum weight_format format, const struct weights_options *options, struct error *err)
{
	struct scope top = {.l = l, .err = err};
	const struct shard_plan *p = &options->plan;
	enum status st;

	BUG_ON(p->tp_rank >= p->tp_size || p->ep_rank >= p->ep_size);
	*l = (struct layout){.files = files, .description = description, .format = format,
		.quantize = options->quantization == QUANTIZATION_W8A8_DYNAMIC};
	l->w = mem_alloc(sizeof(*l->w));
	l->w->config = *config;
	l->w->plan = options->plan;
	l->w->layers = mem_alloc(sizeof(*l->w->layers) * config->num_hidden_layers);
	st = add_all(&top, options);
	if (st == OK && files)
		st = check_unused(l, err);
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
