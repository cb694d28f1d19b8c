/*
 * Blocks of the latent cache (kv/kv.h): one mapping, [layer][block][row], a stack of free block ids,
 * a list of kept ones and a reference count for each.
 *
 * Invariant: a block whose count is zero is in exactly one place, the list when it is kept and the
 * stack when not; one with references is in neither.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "kv/kv.h"

struct links {
	uint32_t prev;
	uint32_t next;
};

struct kv_pool {
	struct kv_pool_config config;
	size_t layer_block_bytes; /* one block of one layer */
	size_t layer_bytes;
	size_t map_bytes;
	void *map;      /* owned */
	uint32_t *refs; /* owned, [n_blocks] */
	int32_t *free;  /* owned, stack */
	uint32_t n_free;
	uint8_t *kept;      /* owned, [n_blocks] whether the rows may serve again */
	struct links *idle; /* owned, [n_blocks + 1] kept and unreferenced, the last entry is the head */
	uint32_t n_idle;
	kv_evict_fn *evict;
	void *evict_arg;
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

static void free_arrays(struct kv_pool *p)
{
	free(p->refs);
	free(p->free);
	free(p->kept);
	free(p->idle);
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
	p->kept = mem_try_alloc(config->n_blocks, sizeof(*p->kept));
	p->idle = mem_try_alloc((size_t)config->n_blocks + 1, sizeof(*p->idle));
	if (!p->refs || !p->free || !p->kept || !p->idle)
		goto out_free;
	TRY_GOTO(out_free, mem_map(&p->map, p->map_bytes, "latent cache", err));
	for (uint32_t i = 0; i < config->n_blocks; i++)
		p->free[i] = (int32_t)(config->n_blocks - 1 - i);
	p->n_free = config->n_blocks;
	p->idle[config->n_blocks] = (struct links){config->n_blocks, config->n_blocks};
	*out = p;
	return OK;

out_free:
	free_arrays(p);
	free(p);
	return st;
}

void kv_pool_destroy(struct kv_pool *p)
{
	if (!p)
		return;
	mem_unmap(p->map, p->map_bytes);
	free_arrays(p);
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
	return p->n_free + p->n_idle;
}

void kv_pool_set_evict(struct kv_pool *p, kv_evict_fn *fn, void *arg)
{
	p->evict = fn;
	p->evict_arg = arg;
}

/* The end of the list is where the youngest goes. */
static void idle_append(struct kv_pool *p, uint32_t b)
{
	uint32_t head = p->config.n_blocks, last = p->idle[head].prev;

	p->idle[b] = (struct links){last, head};
	p->idle[last].next = b;
	p->idle[head].prev = b;
	p->n_idle++;
}

static void idle_remove(struct kv_pool *p, uint32_t b)
{
	p->idle[p->idle[b].prev].next = p->idle[b].next;
	p->idle[p->idle[b].next].prev = p->idle[b].prev;
	p->n_idle--;
}

int32_t kv_block_get(struct kv_pool *p)
{
	int32_t b;

	if (p->n_free == 0) {
		if (p->n_idle == 0)
			return -1;
		b = (int32_t)p->idle[p->config.n_blocks].next;
		p->evict(p->evict_arg, b);
		BUG_ON(p->n_free == 0);
	}
	b = p->free[--p->n_free];
	BUG_ON(p->refs[b] != 0);
	p->refs[b] = 1;
	return b;
}

static void check_block(const struct kv_pool *p, int32_t block)
{
	BUG_ON(block < 0 || (uint32_t)block >= p->config.n_blocks);
}

void kv_block_ref(struct kv_pool *p, int32_t block)
{
	check_block(p, block);
	BUG_ON(p->refs[block] == 0 && !p->kept[block]);
	if (p->refs[block]++ == 0)
		idle_remove(p, (uint32_t)block);
}

void kv_block_unref(struct kv_pool *p, int32_t block)
{
	check_block(p, block);
	BUG_ON(p->refs[block] == 0);
	if (--p->refs[block])
		return;
	if (p->kept[block])
		idle_append(p, (uint32_t)block);
	else
		p->free[p->n_free++] = block;
}

uint32_t kv_block_refs(const struct kv_pool *p, int32_t block)
{
	check_block(p, block);
	return p->refs[block];
}

void kv_block_keep(struct kv_pool *p, int32_t block)
{
	check_block(p, block);
	BUG_ON(p->refs[block] == 0 || p->kept[block] || !p->evict);
	p->kept[block] = 1;
}

void kv_block_drop(struct kv_pool *p, int32_t block)
{
	check_block(p, block);
	BUG_ON(!p->kept[block]);
	p->kept[block] = 0;
	if (p->refs[block])
		return;
	idle_remove(p, (uint32_t)block);
	p->free[p->n_free++] = block;
}
