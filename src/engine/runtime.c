/*
 * Opens what one process computes with (engine/runtime.h), in order: device, weights, cache pool,
 * group, model. runtime_close() undoes it in reverse, from wherever opening stopped.
 */
#include "engine/runtime.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "sched/sched.h"

#define DEFAULT_CONTEXT 8192u
#define FEW_THREADS 16

struct runtime_options runtime_options_default(void)
{
	return (struct runtime_options){
		.isa = CPU_ISA_COUNT,
		.max_context_name = "--max-model-len",
		.memory_limit_name = "free memory",
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
			"%s %u: the model has max_position_embeddings %u", o->max_context_name,
			o->max_context_tokens, possible);
	rt->max_context_tokens = o->max_context_tokens ? o->max_context_tokens : most;
	return OK;
}

static struct kv_pool_config pool_config(
	const struct runtime *rt, const struct model_config *c, const struct runtime_options *o)
{
	return (struct kv_pool_config){
		.n_layers = c->num_hidden_layers + (o->mtp ? c->num_nextn_predict_layers : 0),
		.n_blocks = rt->n_blocks,
		.block_tokens = o->block_tokens,
		.kv_lora = c->kv_lora_rank,
		.rope = c->qk_rope_head_dim,
	};
}

/* Blocks of one sequence as long as the context. */
static uint32_t seq_blocks(const struct runtime *rt, const struct runtime_options *o)
{
	return (rt->max_context_tokens + o->block_tokens - 1) / o->block_tokens;
}

/* Sequences may share blocks, so a batch may name more than there are. */
static struct batch_limits batch_limits(const struct runtime *rt, const struct runtime_options *o)
{
	return (struct batch_limits){
		.max_seqs = o->max_seqs,
		.max_tokens = o->max_batch_tokens,
		.max_blocks = seq_blocks(rt, o) * o->max_seqs,
		.max_outputs = o->max_outputs,
	};
}

/*
 * The pool's size: what was asked for, cut to what the memory leaves if it may be. `taken`: bytes of
 * everything else.
 */
static enum status choose_blocks(struct runtime *rt, const struct model_config *c,
	const struct runtime_options *o, size_t taken, size_t limit, struct error *err)
{
	uint64_t one = seq_blocks(rt, o), blocks = one * o->max_seqs;
	struct kv_pool_config pool = pool_config(rt, c, o);
	size_t each = kv_block_bytes(&pool);

	if (blocks > UINT32_MAX >> 5)
		return error_set(err, E_LIMIT, "--max-num-seqs %u with %s %u: more cache blocks than "
			"a batch can name", o->max_seqs, o->max_context_name, rt->max_context_tokens);
	if (o->cache_bytes)
		blocks = o->cache_bytes / each;
	else if (o->cache_may_shrink && blocks > (taken < limit ? limit - taken : 0) / each)
		blocks = (taken < limit ? limit - taken : 0) / each;
	if (blocks > INT32_MAX / 2)
		blocks = INT32_MAX / 2;
	if (blocks < one && o->cache_bytes)
		return error_set(err, E_LIMIT, "a cache of %.3g GB holds %llu tokens, %s %u needs %.3g GB",
			(double)o->cache_bytes * 1e-9, (unsigned long long)blocks * o->block_tokens,
			o->max_context_name, rt->max_context_tokens, (double)(one * each) * 1e-9);
	rt->n_blocks = (uint32_t)(blocks < one ? one : blocks);
	return OK;
}

/* What a process holds besides its weights. */
static struct runtime_budget budget_of_rest(const struct runtime *rt, const struct model_config *c,
	const struct runtime_options *o)
{
	struct kv_pool_config pool = pool_config(rt, c, o);
	struct batch_limits limits = batch_limits(rt, o);
	struct shard_plan whole = shard_plan_whole();

	return (struct runtime_budget){
		.cache_bytes = kv_block_bytes(&pool) * pool.n_blocks,
		.cache_tokens = (uint64_t)pool.n_blocks * pool.block_tokens,
		/* Of sequences, as many may run as are kept for the next ones. */
		.workspace_bytes = model_workspace_bytes(
			c, &whole, &limits, o->mtp && c->num_nextn_predict_layers) +
			2 * o->max_seqs * sched_seq_bytes(rt->max_context_tokens, o->block_tokens),
	};
}

/* Everything that a process of this model will hold, against the limit. */
static enum status check_budget(struct runtime *rt, const struct model_config *c,
	const struct weights_budget *need, const struct runtime_options *o, struct error *err)
{
	struct runtime_budget b = budget_of_rest(rt, c, o);
	double total;

	TRY(choose_blocks(rt, c, o, need->packed_bytes + need->buffer_bytes + b.workspace_bytes, need->limit_bytes,
		err));
	b = budget_of_rest(rt, c, o);
	b.weights_bytes = need->packed_bytes;
	b.buffer_bytes = need->buffer_bytes;
	b.limit_bytes = need->limit_bytes;
	total = (double)b.weights_bytes + (double)b.buffer_bytes + (double)b.cache_bytes +
		(double)b.workspace_bytes;

	if (o->report)
		o->report(o->report_arg, &b);
	if (total > (double)b.limit_bytes)
		return error_set(err, E_NOMEM,
			"%.3g GB needed (weights %.3g, loading %.3g, cache of %llu tokens %.3g, workspace "
			"%.3g), %.3g GB available (%s): a smaller %s takes less",
			total * 1e-9, (double)b.weights_bytes * 1e-9, (double)b.buffer_bytes * 1e-9,
			(unsigned long long)b.cache_tokens, (double)b.cache_bytes * 1e-9,
			(double)b.workspace_bytes * 1e-9, (double)b.limit_bytes * 1e-9,
			o->memory_limit_name, o->max_context_name);
	return OK;
}

static void log_opened(const struct runtime *rt, double begin)
{
	const struct kv_pool_config *pool = kv_pool_get_config(rt->pool);

	log_info("engine", "tier %s threads %d context %u cache_blocks %u block_tokens %u seconds %.2f",
		cpu_isa_name(kernel_isa(rt->kn)), kernel_threads(rt->kn), rt->max_context_tokens, pool->n_blocks,
		pool->block_tokens, clock_s() - begin);
}

/* Everything after the weights. */
static enum status open_model(struct runtime *rt, const struct runtime_options *o, struct error *err)
{
	struct kv_pool_config pool = pool_config(rt, &rt->weights->config, o);

	rt->limits = batch_limits(rt, o);
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
	/* More threads than cores only wait for each other's turns; a few are slow, many crawl. */
	if (o->threads > FEW_THREADS && o->threads > cpu_cores_available())
		return error_set(err, E_INVAL, "--threads %d: this process may use %d cores", o->threads,
			cpu_cores_available());
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

	return kernel_create(&rt->kn, &config, err);
}

enum status runtime_open(struct runtime *rt, const char *dir, const struct runtime_options *options,
	struct error *err)
{
	struct weights_options wo = weights_options_default();
	struct weights_budget need;
	struct model_config config;
	double begin = clock_s();
	enum status st;

	*rt = (struct runtime){0};
	wo.mtp = options->mtp;
	wo.memory_limit_bytes = options->memory_limit_bytes;
	wo.memory_limit_name = options->memory_limit_name;
	wo.progress = options->progress;
	wo.quantization = options->quantization;
	TRY(weights_config(&config, dir, &wo, err));
	TRY(choose_context(rt, options, config.max_position_embeddings, err));
	TRY(check_options(options, err));
	TRY(weights_plan(&need, dir, &wo, err));
	TRY(check_budget(rt, &config, &need, options, err));
	TRY_GOTO(out_close, open_device(rt, options, err));
	TRY_GOTO(out_close, weights_load(&rt->weights, dir, rt->kn, &wo, err));
	TRY_GOTO(out_close, open_model(rt, options, err));
	log_opened(rt, begin);
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
	struct model_config shape = *config;
	struct runtime_budget b;
	double begin = clock_s();
	size_t rest;
	enum status st;

	*rt = (struct runtime){0};
	shape.integer = weight_traits(format)->integer; /* its workspace is larger */
	if (options->quantization != QUANTIZATION_STORED)
		return error_set(err, E_INVAL, "--quantization %s: random weights are made in --format",
			weights_quantization_name(options->quantization));
	wo.mtp = options->mtp;
	wo.memory_limit_bytes = options->memory_limit_bytes;
	wo.memory_limit_name = options->memory_limit_name;
	wo.progress = options->progress;
	TRY(check_options(options, err));
	TRY(choose_context(rt, options, config->max_position_embeddings, err));
	TRY(choose_blocks(rt, &shape, options, 0, SIZE_MAX, err));
	b = budget_of_rest(rt, &shape, options);
	rest = b.cache_bytes + b.workspace_bytes;
	wo.memory_limit_bytes = weights_memory_limit(&wo);
	wo.memory_limit_bytes -= rest < wo.memory_limit_bytes ? rest : wo.memory_limit_bytes - 1;
	TRY_GOTO(out_close, open_device(rt, options, err));
	TRY_GOTO(out_close, weights_random(&rt->weights, config, format, seed, rt->kn, &wo, err));
	TRY_GOTO(out_close, open_model(rt, options, err));
	log_opened(rt, begin);
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
