/* A model's weights once they are there (weights/weights.h), and the memory that there is for them. */
#include "weights/weights.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* "MemAvailable" of /proc/meminfo. */
static size_t memory_available(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	unsigned long long kib = 0;
	char line[256];

	if (!f)
		return SIZE_MAX;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			break;
	fclose(f);
	return kib ? (size_t)kib * 1024 : SIZE_MAX;
}

static size_t read_number(const char *path)
{
	FILE *f = fopen(path, "r");
	unsigned long long n;
	bool got;

	if (!f)
		return SIZE_MAX;
	got = fscanf(f, "%llu", &n) == 1;
	fclose(f);
	return got ? (size_t)n : SIZE_MAX;
}

/* What the control group of the process still allows; containers see it at the mount's root. */
static size_t cgroup_available(void)
{
	size_t max = read_number("/sys/fs/cgroup/memory.max");
	size_t used = read_number("/sys/fs/cgroup/memory.current");

	if (max == SIZE_MAX || used == SIZE_MAX)
		return SIZE_MAX;
	return used < max ? max - used : 0;
}

size_t weights_memory_limit(const struct weights_options *options)
{
	size_t available = memory_available(), group = cgroup_available();

	if (options->memory_limit_bytes)
		return options->memory_limit_bytes;
	return available < group ? available : group;
}
