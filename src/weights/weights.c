/*
 * A model's weights once they are there (weights/weights.h): what they cost a token, and their end.
 */
#include "weights/weights.h"

#include <stdlib.h>
#include <string.h>

#include "base/available.h"
#include "base/mem.h"
#include "weights/weights_int.h"

void weights_destroy(struct model_weights *w)
{
	if (!w)
		return;
	for (uint32_t i = 0; i < w->config.num_hidden_layers; i++)
		free(w->layers[i].experts);
	if (w->mtp)
		free(w->mtp->layer.experts);
	free(w->mtp);
	free(w->layers);
	if (w->map)
		mem_unmap(w->map, w->bytes);
	free(w);
}

static size_t matrix_bytes(const struct weight *w)
{
	return w->n ? weight_panels_bytes(w) + weight_scales_bytes(w) : 0;
}

static size_t mlp_bytes(const struct mlp_weights *m)
{
	return matrix_bytes(&m->gate_up) + matrix_bytes(&m->down);
}

size_t weights_token_bytes(const struct model_weights *w)
{
	const struct model_config *c = &w->config;
	size_t sum = matrix_bytes(&w->lm_head) + sizeof(uint16_t) * c->hidden_size;

	for (uint32_t i = 0; i < c->num_hidden_layers; i++) {
		const struct layer_weights *l = &w->layers[i];
		const struct attention_weights *a = &l->attn;

		/* Generated tokens use kv_b_kt in place of kv_b_k. */
		sum += matrix_bytes(&a->q_a_proj) + matrix_bytes(&a->q_b_proj) +
		       matrix_bytes(&a->kv_a_proj) + matrix_bytes(&a->kv_b_kt) +
		       matrix_bytes(&a->kv_b_v) + matrix_bytes(&a->o_proj);
		sum += mlp_bytes(&l->mlp) + matrix_bytes(&l->gate);
		if (l->is_moe) {
			size_t all = 0;

			for (uint32_t e = 0; e < c->n_routed_experts; e++)
				all += mlp_bytes(&l->experts[e]);
			sum += all / c->n_routed_experts * c->num_experts_per_tok;
		}
	}
	return sum;
}

#define PATH_TAIL 72u

const char *weights_path_tail(const char *path)
{
	size_t n = strlen(path);

	return n > PATH_TAIL ? path + n - PATH_TAIL : path;
}

size_t weights_memory_limit(const struct weights_options *options)
{
	return options->memory_limit_bytes ? options->memory_limit_bytes : available_memory_bytes();
}
