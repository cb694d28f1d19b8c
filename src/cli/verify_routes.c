/* Reads the routes file that belongs to a golden file, checking it against the model (cli/verify.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "cli/verify.h"
#include "weights/safetensors.h"

struct reader {
	const struct safetensors *file;
	const struct model_config *config;
	struct error *err;
};

void routes_path(struct buf *out, const char *golden_path)
{
	const char *slash = strrchr(golden_path, '/');

	buf_printf(out, "%.*sroutes.safetensors", slash ? (int)(slash + 1 - golden_path) : 0, golden_path);
}

/* Ids of experts, each row ascending: what the model takes without a further look. */
static enum status check_ids(const int32_t *ids, uint64_t rows, const struct reader *r, const char *name)
{
	uint32_t k = r->config->num_experts_per_tok, experts = r->config->n_routed_experts;

	for (uint64_t i = 0; i < rows * k; i++) {
		if (ids[i] < 0 || (uint32_t)ids[i] >= experts)
			return error_set(r->err, E_FORMAT, "%s: element %llu is %d, expected 0 to %u", name,
				(unsigned long long)i, ids[i], experts - 1);
		if (i % k && ids[i] <= ids[i - 1])
			return error_set(r->err, E_FORMAT, "%s: element %llu is %d after %d, expected ascending "
				"ids in a row of %u", name, (unsigned long long)i, ids[i], ids[i - 1], k);
	}
	return OK;
}

static enum status load_prompt(struct golden_prompt *p, uint32_t i, const struct reader *r)
{
	const struct model_config *c = r->config;
	uint64_t shape[3] = { c->num_hidden_layers - c->first_k_dense_replace, p->n, c->num_experts_per_tok };
	const struct st_tensor *info;
	char name[64];

	snprintf(name, sizeof(name), "prompt.%u.experts", i);
	TRY(safetensors_load((void **)&p->experts, &info, r->file, name, DT_I32, 3, shape, r->err));
	TRY(check_ids(p->experts, shape[0] * shape[1], r, name));
	if (!p->mtp_logits)
		return OK;
	shape[1] = p->n - 1;
	snprintf(name, sizeof(name), "prompt.%u.mtp_experts", i);
	TRY(safetensors_load((void **)&p->mtp_experts, &info, r->file, name, DT_I32, 2, shape + 1, r->err));
	return check_ids(p->mtp_experts, shape[1], r, name);
}

enum status golden_load_routes(struct golden *g, const char *path, const struct model_config *config,
	struct error *err)
{
	struct reader r = { .config = config, .err = err };
	struct safetensors *file = NULL;
	enum status st = OK;

	if (config->n_routed_experts == 0)
		return error_set(err, E_FORMAT, "%s: the model has no routed experts", path);
	TRY(safetensors_open_file(&file, path, err));
	r.file = file;
	for (uint32_t i = 0; i < g->n_prompts && st == OK; i++)
		st = load_prompt(&g->prompts[i], i, &r);
	if (st != OK && !strstr(err->msg, path))
		error_prefix(err, "%s", path);
	safetensors_close(file);
	g->routes = st == OK;
	return st;
}
