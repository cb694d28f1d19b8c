/*
 * Which full blocks of the cache hold which beginning of a prompt, so that a later prompt with the same
 * beginning need not be computed again.
 *
 * A block is named by SHA-256 over its parent's name and its token ids; the first block's parent is made
 * from the index's seed and the request's salt. Equal names mean equal beginnings, whoever asks, and
 * requests with different salts never meet. Names compare in full.
 *
 * Only blocks whose tokens were all computed as prompt may be published: rows of generated tokens come
 * from the other form of attention and must never serve a prompt.
 *
 * A published block without references stays until the pool needs it (kv_block_keep()). Owned by the
 * pool's thread; one index per pool. Nothing here allocates after create.
 */
#ifndef KV_PREFIX_INDEX_H
#define KV_PREFIX_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kv/kv.h"

#define KV_PREFIX_MAX_SALT_BYTES 4096u

struct kv_prefix_name {
	uint8_t bytes[32];
};

struct kv_prefix_index;

/* `seed`: names of indexes with equal seeds are equal (what else decides about a row: checkpoint,
 * layout of the cache). The pool is borrowed and outlives the index. */
enum status kv_prefix_create(struct kv_prefix_index **out, struct kv_pool *pool, const void *seed,
	size_t seed_bytes, struct error *err);
void kv_prefix_destroy(struct kv_prefix_index *x);

/* Names of the first n_blocks full blocks of `ids`, [n_blocks * block_tokens]. salt_bytes 0: no salt. */
void kv_prefix_names(const struct kv_prefix_index *x, const int32_t *ids, uint32_t n_blocks,
	const void *salt, size_t salt_bytes, struct kv_prefix_name *out);

/*
 * Length of the longest chain that the index has of names[0 .. n), its blocks in `blocks`. Takes no
 * references: the blocks are only safe until the next kv_block_get(). n_idle: how many of them have no
 * reference and hence count as free. So that at least the last of t tokens is left to compute, callers
 * ask for (t - 1) / block_tokens names at most.
 */
uint32_t kv_prefix_match(const struct kv_prefix_index *x, const struct kv_prefix_name *names,
	uint32_t n, int32_t *blocks, uint32_t *n_idle);

/* The rows of `block`, which has a reference, are those of `name`. Another block of this name stays. */
void kv_prefix_publish(
	struct kv_prefix_index *x, const struct kv_prefix_name *name, int32_t block);

/*
 * Forgets every block; those in use stay in use. Rows computed before a reset must not be published after
 * it: who publishes remembers kv_prefix_resets() from when its rows began.
 */
void kv_prefix_reset(struct kv_prefix_index *x);
uint64_t kv_prefix_resets(const struct kv_prefix_index *x);

struct kv_prefix_stats {
	uint32_t n_blocks;     /* published now */
	uint64_t query_tokens; /* prompt tokens that were looked for */
	uint64_t hit_tokens;   /* found */
	uint64_t evictions;
};

/* When a request is admitted, not at every attempt; after a preemption what it finds beyond what it had. */
void kv_prefix_record(struct kv_prefix_index *x, uint32_t query_tokens, uint32_t hit_tokens);
struct kv_prefix_stats kv_prefix_get_stats(const struct kv_prefix_index *x);

#endif
