/*
 * One sequence from prompt to tokens (engine/generate.h).
 *
 * Invariant: the cache holds positions 0 .. n_cached - 1 of `ids`, of which the first n_prompt were
 * computed as prompt; the sampled token after them has not been computed yet.
 */
#include "engine/generate.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct generator {
	struct runtime *rt;
	struct sampler *sampler; /* owned */
	struct logits_work *work; /* owned */
	uint32_t n_ids;          /* that may be sampled */
	struct kv_table table;   /* owned */
	int32_t *ids;            /* owned, [max_context_tokens] the sequence */
	uint32_t n_prompt;       /* computed in expanded form, from the start */
	uint32_t n_cached;       /* computed in all */
	uint32_t n_tokens;       /* in ids: n_cached, or one more */
	uint32_t n_given;        /* tokens of the last prompt */
	uint32_t n_found;        /* of them in the cache before */
	const float *logits;     /* after the last computed token */
};

enum status generator_create(
	struct generator **out, struct runtime *rt, uint32_t n_ids, struct error *err)
{
	uint32_t vocab = rt->weights->config.vocab_size;
	struct generator *g = mem_alloc(sizeof(*g));
	enum status st;

	BUG_ON(rt->limits.max_outputs == 0);
	g->rt = rt;
	g->n_ids = n_ids < vocab ? n_ids : vocab;
	kv_table_init(&g->table);
	g->ids = mem_try_alloc(rt->max_context_tokens, sizeof(*g->ids));
	if (!g->ids) {
		st = error_set(err, E_NOMEM, "no memory for a sequence of %u tokens",
			rt->max_context_tokens);
		goto out_free;
	}
	TRY_GOTO(out_free, kv_table_reserve(&g->table, rt->limits.max_blocks, err));
	TRY_GOTO(out_table, sampler_create(&g->sampler, vocab, err));
	TRY_GOTO(out_sampler, logits_work_create(&g->work, vocab, err));
	*out = g;
	return OK;

out_sampler:
	sampler_destroy(g->sampler);
out_table:
	kv_table_deinit(&g->table, rt->pool);
out_free:
	free(g->ids);
	free(g);
	return st;
}

void generator_destroy(struct generator *g)
{
	if (!g)
		return;
	logits_work_destroy(g->work);
	sampler_destroy(g->sampler);
	kv_table_deinit(&g->table, g->rt->pool);
	free(g->ids);
	free(g);
}

/* Computes ids[n_cached .. n_cached + n_prompt + n_generated) and keeps the last row's logits. */
static enum status step(
	struct generator *g, uint32_t n_prompt, uint32_t n_generated, struct error *err)
{
	struct runtime *rt = g->rt;
	uint32_t end = g->n_cached + n_prompt + n_generated;
	struct model_output out;

	TRY(kv_table_grow(&g->table, rt->pool, end, err));
	batch_init(rt->batch, &rt->limits);
	TRY(batch_add(rt->batch, &rt->limits, g->n_cached, g->ids + g->n_cached, n_prompt, n_generated,
		g->table.blocks, g->table.n_blocks, 1, err));
	TRY(model_forward(rt->model, rt->batch, &out, err));
	g->n_cached = end;
	g->logits = out.logits;
	return OK;
}

/* How much of a new prompt the cache already holds as prompt; its last token is always computed. */
static uint32_t common_prefix(const struct generator *g, const int32_t *ids, uint32_t n)
{
	uint32_t i = 0, most = g->n_prompt < n - 1 ? g->n_prompt : n - 1;

	while (i < most && g->ids[i] == ids[i])
		i++;
	return i;
}

static enum status check_prompt(
	const struct generator *g, const int32_t *ids, uint32_t n, struct error *err)
{
	uint32_t vocab = g->rt->weights->config.vocab_size;

	if (n == 0)
		return error_set(err, E_INVAL, "the prompt is empty");
	if (n >= g->rt->max_context_tokens)
		return error_set(err, E_LIMIT,
			"the prompt has %u tokens, the context holds %u including the answer "
			"(--max-model-len)", n, g->rt->max_context_tokens);
	for (uint32_t i = 0; i < n; i++)
		if (ids[i] < 0 || (uint32_t)ids[i] >= vocab)
			return error_set(err, E_INVAL, "prompt token %u is %d, expected 0 to %u", i,
				ids[i], vocab - 1);
	return OK;
}

enum status generator_prompt(struct generator *g, const int32_t *ids, uint32_t n,
	generator_progress_fn *progress, void *arg, bool *whole, struct error *err)
{
	uint32_t chunk = g->rt->limits.max_tokens;

	TRY(check_prompt(g, ids, n, err));
	g->n_found = common_prefix(g, ids, n);
	g->n_prompt = g->n_cached = g->n_found;
	g->n_tokens = g->n_given = n;
	g->logits = NULL;
	kv_table_shrink(&g->table, g->rt->pool, g->n_found);
	memmove(g->ids, ids, sizeof(*ids) * n);
	*whole = true;
	while (g->n_cached < n && *whole) {
		TRY(step(g, n - g->n_cached < chunk ? n - g->n_cached : chunk, 0, err));
		g->n_prompt = g->n_cached;
		*whole = !progress || progress(arg, g->n_cached - g->n_found, n - g->n_found);
	}
	*whole |= g->n_cached == n;
	return OK;
}

enum status generator_next(struct generator *g, const struct sampling_params *params,
	const struct logits_rules *rules, int32_t *id, struct error *err)
{
	const float *row;
	int32_t next;

	if (g->n_cached < g->n_tokens)
		TRY(step(g, 0, g->n_tokens - g->n_cached, err));
	BUG_ON(!g->logits);
	if (g->n_tokens == g->rt->max_context_tokens)
		return error_set(err, E_LIMIT, "the context of %u tokens is full (--max-model-len)",
			g->rt->max_context_tokens);
	row = logits_apply(g->work, rules, NULL, g->logits, g->n_ids, g->ids, g->n_given, g->n_tokens);
	next = sampler_choose(g->sampler, params, row, g->n_ids, g->n_tokens);
	if (next < 0)
		return error_set(err, E_INTERNAL, "no finite logit at position %u: the weights hold NaN or "
			"infinity", g->n_tokens);
	g->ids[g->n_tokens++] = next;
	*id = next;
	return OK;
}

uint32_t generator_tokens(const struct generator *g)
{
	return g->n_tokens;
}

uint32_t generator_room(const struct generator *g)
{
	return g->rt->max_context_tokens - g->n_tokens;
}

const float *generator_logits(const struct generator *g)
{
	return g->logits;
}

uint32_t generator_cached(const struct generator *g)
{
	return g->n_found;
}
