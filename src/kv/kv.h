/*
 * The paged latent cache: one pool of blocks, shared by all sequences and all layers.
 *
 * Block b of layer l holds `block_tokens` rows of kernel_kv_row_bytes() bytes: normed latents, then
 * the rotated key (spec: model, 3.2). A block id names the same positions in every layer, the MTP
 * layers included, which are the last ones. Blocks are counted by reference; a sequence holds a table.
 *
 * Owned by one thread (the engine's). Nothing here allocates after create.
 */
#ifndef KV_KV_H
#define KV_KV_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernel/kernel.h"

#define KV_MAX_BLOCK_TOKENS 1024u

struct kv_pool_config {
	uint32_t n_layers;     /* main layers and MTP layers */
	uint32_t n_blocks;
	uint32_t block_tokens; /* power of two, 1 .. KV_MAX_BLOCK_TOKENS */
	uint32_t kv_lora;
	uint32_t rope;
};

struct kv_pool;

/* Bytes of one block over all layers. */
size_t kv_block_bytes(const struct kv_pool_config *config);

enum status kv_pool_create(struct kv_pool **out, const struct kv_pool_config *config,
	struct error *err);
void kv_pool_destroy(struct kv_pool *p);
const struct kv_pool_config *kv_pool_get_config(const struct kv_pool *p);
struct kv_view kv_pool_view(const struct kv_pool *p, uint32_t layer);

/* Blocks that kv_block_get() can give, kept ones without references included. */
uint32_t kv_pool_free_blocks(const struct kv_pool *p);
/* A block with one reference, or -1 when none is free. The kept block that lost its last reference
 * first is evicted when there is no other. */
int32_t kv_block_get(struct kv_pool *p);
/* Of a block that has references or is kept. */
void kv_block_ref(struct kv_pool *p, int32_t block);
void kv_block_unref(struct kv_pool *p, int32_t block); /* free at zero */
uint32_t kv_block_refs(const struct kv_pool *p, int32_t block);

/*
 * A kept block's rows may serve another sequence (kv/prefix_index.h): without references it stays as it
 * is until it is needed. `evict` then has to forget it and call kv_block_drop().
 */
typedef void kv_evict_fn(void *arg, int32_t block);
void kv_pool_set_evict(struct kv_pool *p, kv_evict_fn *fn, void *arg);
void kv_block_keep(struct kv_pool *p, int32_t block); /* which has a reference */
void kv_block_drop(struct kv_pool *p, int32_t block); /* an ordinary block again */

/* A sequence's blocks, in order of positions. */
struct kv_table {
	int32_t *blocks; /* owned */
	uint32_t n_blocks;
	uint32_t cap;
};

void kv_table_init(struct kv_table *t);
/* Reserves room for max_blocks ids, so that growing never allocates. */
enum status kv_table_reserve(struct kv_table *t, uint32_t max_blocks, struct error *err);
void kv_table_deinit(struct kv_table *t, struct kv_pool *p); /* gives the blocks back */
/* Blocks that `tokens` positions take. */
uint32_t kv_table_blocks_for(const struct kv_pool *p, uint32_t tokens);

/* Makes room for positions 0 .. tokens - 1; takes all needed blocks or, with E_NOMEM, none. */
enum status kv_table_grow(struct kv_table *t, struct kv_pool *p, uint32_t tokens, struct error *err);
/* Gives back the blocks that no position below `tokens` needs: rollback is a change of length. The last
 * block goes first, so that of kept blocks the beginning of a sequence survives longest. */
void kv_table_shrink(struct kv_table *t, struct kv_pool *p, uint32_t tokens);

#endif
