/*
 * Blocks of the latent cache (kv/kv.h): one mapping, [layer][block][row], a stack of free block ids
 * and a reference count for each.
 *
 * Invariant: a block is on the free stack exactly when its count is zero.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "kv/kv.h"

struct kv_pool {
	struct kv_pool_config config;
	size_t layer_block_bytes; /* one block of one layer */
	size_t layer_bytes;
	size_t map_bytes;
	void *map;      /* owned */
	uint32_t *refs; /* owned, [n_blocks] */
	int32_t *free;  /* owned, stack */
	uint32_t n_free;
};

static size_t layer_block_bytes(const struct kv_pool_config *c)
{
	return kernel_kv_row_bytes(c->kv_lora, c->rope) * c->block_tokens;
}

size_t kv_block_bytes(const struct kv_pool_config *config)
{
	return layer_block_bytes(config) * config->n_layers;
}

static enum status check_config(const struct kv_pool_config *c, struct error *err)
{
	if (c->block_tokens == 0 || c->block_tokens > KV_MAX_BLOCK_TOKENS ||
		(c->block_tokens & (c->block_tokens - 1)))
		return error_set(err, E_INVAL,
			"block size of the cache is %u tokens, expected a power of two from 1 to %u",
			c->block_tokens, KV_MAX_BLOCK_TOKENS);
	if (c->n_blocks == 0 || c->n_blocks > INT32_MAX)
		return error_set(err, E_INVAL, "cache of %u blocks, expected 1 to %d", c->n_blocks,
			INT32_MAX);
	BUG_ON(c->n_layers == 0 || c->kv_lora == 0);
	return OK;
}

enum status kv_pool_create(
	struct kv_pool **out, const struct kv_pool_config *config, struct error *err)
{
	struct kv_pool *p;
	enum status st;

	TRY(check_config(config, err));
	p = mem_alloc(sizeof(*p));
	p->config = *config;
	p->layer_block_bytes = layer_block_bytes(config);
	st = error_set(err, E_NOMEM, "no memory for a cache of %u blocks of %u tokens",
		config->n_blocks, config->block_tokens);
	if (__builtin_mul_overflow(p->layer_block_bytes, config->n_blocks, &p->layer_bytes) ||
		__builtin_mul_overflow(p->layer_bytes, config->n_layers, &p->map_bytes))
		goto out_free;
	p->refs = mem_try_alloc(config->n_blocks, sizeof(*p->refs));
	p->free = mem_try_alloc(config->n_blocks, sizeof(*p->free));
	if (!p->refs || !p->free)
		goto out_free;
	TRY_GOTO(out_free, mem_map(&p->map, p->map_bytes, "latent cache", err));
	for (uint32_t i = 0; i < config->n_blocks; i++)
		p->free[i] = (int32_t)(config->n_blocks - 1 - i);
	p->n_free = config->n_blocks;
	*out = p;
	return OK;

out_free:
	free(p->refs);
	free(p->free);
	free(p);
	return st;
}

void kv_pool_destroy(struct kv_pool *p)
{
	if (!p)
		return;
	mem_unmap(p->map, p->map_bytes);
	free(p->refs);
	free(p->free);
	free(p);
}

const struct kv_pool_config *kv_pool_get_config(const struct kv_pool *p)
{
	return &p->config;
}

struct kv_view kv_pool_view(const struct kv_pool *p, uint32_t layer)
{
	BUG_ON(layer >= p->config.n_layers);
	return (struct kv_view){
		.base = (uint8_t *)p->map + layer * p->layer_bytes,
		.block_stride_bytes = p->layer_block_bytes,
		.block_tokens = p->config.block_tokens,
		.kv_lora = p->config.kv_lora,
		.rope = p->config.rope,
	};
}

uint32_t kv_pool_free_blocks(const struct kv_pool *p)
{
	return p->n_free;
}

int32_t kv_block_get(struct kv_pool *p)
{
	int32_t b;

	if (p->n_free == 0)
		return -1;
	b = p->free[--p->n_free];
	BUG_ON(p->refs[b] != 0);
	p->refs[b] = 1;
	return b;
}

void kv_block_ref(struct kv_pool *p, int32_t block)
{
	BUG_ON(block < 0 || (uint32_t)block >= p->config.n_blocks || p->refs[block] == 0);
	p->refs[block]++;
}

void kv_block_unref(struct kv_pool *p, int32_t block)
{
	BUG_ON(block < 0 || (uint32_t)block >= p->config.n_blocks || p->refs[block] == 0);
	if (--p->refs[block] == 0)
		p->free[p->n_free++] = block;
}
