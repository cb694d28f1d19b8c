/* A sequence's table of blocks (kv/kv.h). */
#include <stdlib.h>

#include "base/mem.h"
#include "kv/kv.h"

void kv_table_init(struct kv_table *t)
{
	*t = (struct kv_table){0};
}

enum status kv_table_reserve(struct kv_table *t, uint32_t max_blocks, struct error *err)
{
	int32_t *blocks;

	if (max_blocks <= t->cap)
		return OK;
	blocks = realloc(t->blocks, sizeof(*blocks) * max_blocks);
	if (!blocks)
		return error_set(err, E_NOMEM, "no memory for a table of %u cache blocks", max_blocks);
	t->blocks = blocks;
	t->cap = max_blocks;
	return OK;
}

void kv_table_deinit(struct kv_table *t, struct kv_pool *p)
{
	kv_table_shrink(t, p, 0);
	free(t->blocks);
	*t = (struct kv_table){0};
}

uint32_t kv_table_blocks_for(const struct kv_pool *p, uint32_t tokens)
{
	uint32_t n = kv_pool_get_config(p)->block_tokens;

	return tokens / n + (tokens % n != 0);
}

enum status kv_table_grow(struct kv_table *t, struct kv_pool *p, uint32_t tokens, struct error *err)
{
	uint32_t need = kv_table_blocks_for(p, tokens);

	if (need <= t->n_blocks)
		return OK;
	BUG_ON(need > t->cap);
	if (need - t->n_blocks > kv_pool_free_blocks(p))
		return error_set(err, E_NOMEM, "cache is full: %u more blocks needed, %u free",
			need - t->n_blocks, kv_pool_free_blocks(p));
	while (t->n_blocks < need)
		t->blocks[t->n_blocks++] = kv_block_get(p);
	return OK;
}

void kv_table_shrink(struct kv_table *t, struct kv_pool *p, uint32_t tokens)
{
	uint32_t keep = kv_table_blocks_for(p, tokens);

	while (t->n_blocks > keep)
		kv_block_unref(p, t->blocks[--t->n_blocks]);
}
