/* Reads a golden file whole, checking it against the model (cli/verify.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/verify.h"
#include "weights/safetensors.h"

/* More tokens than this are no golden prompt, whatever the file says. */
#define MAX_PROMPT_TOKENS 65536u

struct reader {
	const struct safetensors *file;
	const struct model_config *config;
	struct error *err;
};

static enum status load(void **out, const struct st_tensor **info, const struct reader *r,
	enum dtype dtype, uint32_t rank, const uint64_t *shape, const char *name)
{
	return safetensors_load(out, info, r->file, name, dtype, rank, shape, r->err);
}

/* A tensor that may be absent: *out stays NULL then. */
static enum status load_optional(void **out, const struct reader *r, uint32_t rank,
	const uint64_t *shape, const char *name)
{
	const struct st_tensor *info;

	if (!safetensors_find(r->file, name))
		return OK;
	return load(out, &info, r, DT_F32, rank, shape, name);
}

/* I32 [any], all of them token ids. */
static enum status load_ids(int32_t **out, uint32_t *n, const struct reader *r, const char *name)
{
	const struct st_tensor *info = safetensors_find(r->file, name);
	uint64_t shape[1] = { 0 };

	if (info && info->rank == 1 && info->shape[0] > MAX_PROMPT_TOKENS)
		return error_set(r->err, E_LIMIT, "%s: %llu tokens, expected at most %u", name,
			(unsigned long long)info->shape[0], MAX_PROMPT_TOKENS);
	TRY(load((void **)out, &info, r, DT_I32, 1, shape, name));
	*n = (uint32_t)info->shape[0];
	for (uint32_t i = 0; i < *n; i++) {
		if ((*out)[i] < 0 || (uint32_t)(*out)[i] >= r->config->vocab_size)
			return error_set(r->err, E_FORMAT, "%s: element %u is %d, expected 0 to %u", name, i,
				(*out)[i], r->config->vocab_size - 1);
	}
	return OK;
}

static enum status load_prompt(struct golden *g, uint32_t i, const struct reader *r)
{
	struct golden_prompt *p = &g->prompts[i];
	const struct st_tensor *info;
	uint64_t shape[2];
	char name[64];

	snprintf(name, sizeof(name), "prompt.%u.ids", i);
	TRY(load_ids(&p->ids, &p->n, r, name));
	if (p->n == 0)
		return error_set(r->err, E_FORMAT, "%s: no tokens, expected at least one", name);
	shape[0] = p->n;
	shape[1] = r->config->vocab_size;
	snprintf(name, sizeof(name), "prompt.%u.logits", i);
	TRY(load((void **)&p->logits, &info, r, DT_F32, 2, shape, name));
	snprintf(name, sizeof(name), "prompt.%u.margin", i);
	TRY(load_optional((void **)&p->margin, r, 1, shape, name));
	if (p->n == 1) /* no slot has a next token */
		return OK;
	shape[0] = p->n - 1;
	snprintf(name, sizeof(name), "prompt.%u.mtp_logits", i);
	TRY(load_optional((void **)&p->mtp_logits, r, 2, shape, name));
	snprintf(name, sizeof(name), "prompt.%u.mtp_margin", i);
	TRY(load_optional((void **)&p->mtp_margin, r, 1, shape, name));
	g->mtp |= p->mtp_logits != NULL;
	return OK;
}

/* What follows the prompt VERIFY_TRACED. */
static enum status load_continuation(struct golden *g, const struct reader *r)
{
	const struct golden_prompt *p = &g->prompts[VERIFY_TRACED];
	uint64_t shape[3] = { r->config->num_hidden_layers, p->n, r->config->hidden_size };

	TRY(load_optional((void **)&g->residual, r, 3, shape, "prompt.1.residual"));
	if (safetensors_find(r->file, "greedy.ids"))
		TRY(load_ids(&g->greedy, &g->n_greedy, r, "greedy.ids"));
	shape[0] = g->n_greedy;
	if (g->n_greedy)
		TRY(load_optional((void **)&g->greedy_margin, r, 1, shape, "greedy.margin"));
	if (g->n_greedy && safetensors_find(r->file, "draft.ids"))
		TRY(load_ids(&g->draft, &g->n_draft, r, "draft.ids"));
	return OK;
}

static enum status check_mtp(const struct golden *g, const struct model_config *c, struct error *err)
{
	if ((g->mtp || g->n_draft) && c->num_nextn_predict_layers == 0)
		return error_set(err, E_FORMAT, "it has MTP logits or drafts, but the model has no MTP layer "
			"(num_nextn_predict_layers 0)");
	return OK;
}

static enum status load_all(struct golden *g, const struct reader *r)
{
	char name[64];
	uint32_t i;

	for (i = 0;; i++) {
		snprintf(name, sizeof(name), "prompt.%u.ids", i);
		if (i > 0 && !safetensors_find(r->file, name))
			break;
		if (i == VERIFY_MAX_PROMPTS)
			return error_set(r->err, E_LIMIT, "more than %u prompts", VERIFY_MAX_PROMPTS);
		TRY(load_prompt(g, i, r));
		g->n_prompts = i + 1;
	}
	if (g->n_prompts > VERIFY_TRACED)
		TRY(load_continuation(g, r));
	TRY(check_mtp(g, r->config, r->err));
	for (i = 0; i < g->n_prompts; i++) {
		uint32_t more = i == VERIFY_TRACED ? g->n_greedy + g->n_draft : 0;

		if (g->prompts[i].n + more > g->max_tokens)
			g->max_tokens = g->prompts[i].n + more;
	}
	return OK;
}

enum status golden_load(struct golden *g, const char *path, const struct model_config *config,
	struct error *err)
{
	struct reader r = { .config = config, .err = err };
	struct safetensors *file = NULL;
	enum status st;

	*g = (struct golden){ 0 };
	TRY(safetensors_open_file(&file, path, err));
	r.file = file;
	st = load_all(g, &r);
	if (st != OK && !strstr(err->msg, path))
		error_prefix(err, "%s", path);
	safetensors_close(file);
	return st;
}

void golden_deinit(struct golden *g)
{
	/* A prompt whose load failed halfway is not counted in n_prompts. */
	for (uint32_t i = 0; i < VERIFY_MAX_PROMPTS; i++) {
		struct golden_prompt *p = &g->prompts[i];

		free(p->ids);
		free(p->logits);
		free(p->margin);
		free(p->mtp_logits);
		free(p->mtp_margin);
		free(p->experts);
		free(p->mtp_experts);
	}
	free(g->residual);
	free(g->greedy);
	free(g->greedy_margin);
	free(g->draft);
	*g = (struct golden){ 0 };
}
