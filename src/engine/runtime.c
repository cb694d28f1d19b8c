/*
 * Opens what one process computes with (engine/runtime.h), in order: device, weights, cache pool,
 * group, model. runtime_close() undoes it in reverse, from wherever opening stopped.
 */
#include "engine/runtime.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"

#define DEFAULT_CONTEXT 8192u

struct runtime_options runtime_options_default(void)
{
	return (struct runtime_options){
		.isa = CPU_ISA_COUNT,
		.pin = true,
		.block_tokens = 64,
		.max_seqs = 1,
		.max_batch_tokens = 512,
		.max_outputs = 1,
	};
}

/* One sequence may not be longer than the positions that the model was made for. */
static enum status choose_context(
	struct runtime *rt, const struct runtime_options *o, uint32_t possible, struct error *err)
{
	uint32_t most = possible < DEFAULT_CONTEXT ? possible : DEFAULT_CONTEXT;

	if (o->max_context_tokens > possible)
		return error_set(err, E_INVAL,
			"--max-model-len %u: the model has max_position_embeddings %u",
			o->max_context_tokens, possible);
	rt->max_context_tokens = o->max_context_tokens ? o->max_context_tokens : most;
	return OK;
}

static void put_budget(struct buf *out, const struct runtime *rt, const struct weights_budget *w,
	size_t cache, size_t workspace)
{
	buf_printf(out,
		"memory: weights %.2f GB, cache %.2f GB (%u tokens), workspace %.2f GB, "
		"%.2f GB available\n",
		(double)w->packed_bytes * 1e-9, (double)cache * 1e-9,
		kv_pool_get_config(rt->pool)->n_blocks *
			kv_pool_get_config(rt->pool)->block_tokens,
		(double)workspace * 1e-9, (double)w->limit_bytes * 1e-9);
}

/* Everything after the weights. */
static enum status open_model(struct runtime *rt, const struct runtime_options *o, struct error *err)
{
	const struct model_config *c = &rt->weights->config;
	uint32_t per_seq = (rt->max_context_tokens + o->block_tokens - 1) / o->block_tokens;
	uint64_t blocks = (uint64_t)per_seq * o->max_seqs;
	struct kv_pool_config pool = {
		.n_layers = c->num_hidden_layers + (rt->weights->mtp ? 1 : 0),
		.n_blocks = (uint32_t)blocks,
		.block_tokens = o->block_tokens,
		.kv_lora = c->kv_lora_rank,
		.rope = c->qk_rope_head_dim,
	};

	if (blocks > INT32_MAX)
		return error_set(err, E_NOMEM, "cache of %llu blocks of %u tokens, expected at most %d",
			(unsigned long long)blocks, o->block_tokens, INT32_MAX);
	rt->limits = (struct batch_limits){
		.max_seqs = o->max_seqs,
		.max_tokens = o->max_batch_tokens,
		.max_blocks = (uint32_t)blocks,
		.max_outputs = o->max_outputs,
	};
	rt->batch = mem_try_alloc(1, batch_bytes(&rt->limits));
	if (!rt->batch)
		return error_set(err, E_NOMEM, "no memory for a batch of %u tokens", o->max_batch_tokens);
	TRY(kv_pool_create(&rt->pool, &pool, err));
	TRY(comm_group_open_self(&rt->tp, err));
	return model_create(&rt->model, rt->weights, rt->kn, rt->tp, rt->pool, &rt->limits,
		rt->max_context_tokens, err);
}

static enum status check_options(const struct runtime_options *o, struct error *err)
{
	if (o->block_tokens == 0 || o->block_tokens > KV_MAX_BLOCK_TOKENS ||
		(o->block_tokens & (o->block_tokens - 1)))
		return error_set(err, E_INVAL, "--block-size %u: expected a power of two from 1 to %u",
			o->block_tokens, KV_MAX_BLOCK_TOKENS);
	BUG_ON(!o->max_seqs || !o->max_batch_tokens);
	return OK;
}

static enum status open_device(struct runtime *rt, const struct runtime_options *o, struct error *err)
{
	struct kernel_config config = {
		.isa = o->isa == CPU_ISA_COUNT ? cpu_isa_best() : o->isa,
		.threads = o->threads,
		.pin = o->pin,
	};

	TRY(check_options(o, err));
	return kernel_create(&rt->kn, &config, err);
}

enum status runtime_open(struct runtime *rt, const char *dir, const struct runtime_options *options,
	struct buf *budget, struct error *err)
{
	struct weights_options wo = weights_options_default();
	struct weights_budget need;
	struct model_config config;
	enum status st;

	*rt = (struct runtime){0};
	wo.mtp = options->mtp;
	wo.memory_limit_bytes = options->memory_limit_bytes;
	wo.progress = options->progress;
	TRY(config_load(&config, dir, err));
	TRY(choose_context(rt, options, config.max_position_embeddings, err));
	TRY(weights_plan(&need, dir, &wo, err));
	TRY_GOTO(out_close, open_device(rt, options, err));
	TRY_GOTO(out_close, weights_load(&rt->weights, dir, rt->kn, &wo, err));
	TRY_GOTO(out_close, open_model(rt, options, err));
	if (budget)
		put_budget(budget, rt, &need,
			kv_block_bytes(kv_pool_get_config(rt->pool)) *
				kv_pool_get_config(rt->pool)->n_blocks,
			model_workspace_bytes(rt->weights, &rt->limits));
	return OK;

out_close:
	runtime_close(rt);
	return st;
}

enum status runtime_open_random(struct runtime *rt, const struct model_config *config,
	enum weight_format format, uint64_t seed, const struct runtime_options *options,
	struct error *err)
{
	struct weights_options wo = weights_options_default();
	enum status st;

	*rt = (struct runtime){0};
	wo.mtp = options->mtp;
	wo.memory_limit_bytes = options->memory_limit_bytes;
	wo.progress = options->progress;
	TRY(choose_context(rt, options, config->max_position_embeddings, err));
	TRY_GOTO(out_close, open_device(rt, options, err));
	TRY_GOTO(out_close, weights_random(&rt->weights, config, format, seed, rt->kn, &wo, err));
	TRY_GOTO(out_close, open_model(rt, options, err));
	return OK;

out_close:
	runtime_close(rt);
	return st;
}

void runtime_close(struct runtime *rt)
{
	model_destroy(rt->model);
	comm_group_close(rt->tp);
	kv_pool_destroy(rt->pool);
	free(rt->batch);
	weights_destroy(rt->weights);
	kernel_destroy(rt->kn);
	*rt = (struct runtime){0};
}
