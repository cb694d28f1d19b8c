/*
 * The prefix index (kv/prefix_index.h): an open addressing table from names to blocks, linear probing,
 * at most half full, deletion by moving back.
 *
 * Invariant: block b is in the table exactly when known[b], and then the pool keeps it.
 */
#include "kv/prefix_index.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The calls that hash on the caller's stack; EVP allocates. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include "base/mem.h"

#define EMPTY -1

/* What is hashed begins with its kind, so that no salt can pass for a block. */
enum name_kind { NAME_SEED = 'R', NAME_SALT = 'S', NAME_BLOCK = 'B' };

struct kv_prefix_index {
	struct kv_pool *pool; /* borrowed */
	uint32_t n_blocks;
	uint32_t block_tokens;
	uint32_t mask;                /* slots - 1 */
	int32_t *slots;               /* owned, block or EMPTY */
	struct kv_prefix_name *names; /* owned, [n_blocks], of blocks in the table */
	bool *known;                  /* owned, [n_blocks] */
	struct kv_prefix_name root;
	uint64_t resets;
	struct kv_prefix_stats stats;
};

static struct kv_prefix_name name_of(
	enum name_kind kind, const struct kv_prefix_name *parent, const void *data, size_t bytes)
{
	uint8_t tag = (uint8_t)kind;
	struct kv_prefix_name name;
	SHA256_CTX sha;

	SHA256_Init(&sha);
	SHA256_Update(&sha, &tag, 1);
	if (parent)
		SHA256_Update(&sha, parent->bytes, sizeof(parent->bytes));
	SHA256_Update(&sha, data, bytes);
	SHA256_Final(name.bytes, &sha);
	return name;
}

/* Where a name's probing begins: any bits of it are as good as others. */
static uint32_t home(const struct kv_prefix_index *x, const struct kv_prefix_name *name)
{
	uint32_t h;

	memcpy(&h, name->bytes, sizeof(h));
	return h & x->mask;
}

static bool same(const struct kv_prefix_name *a, const struct kv_prefix_name *b)
{
	return !memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

/* Slot of the name, or the empty one where it would go. */
static uint32_t find(const struct kv_prefix_index *x, const struct kv_prefix_name *name)
{
	uint32_t i = home(x, name);

	while (x->slots[i] != EMPTY && !same(&x->names[x->slots[i]], name))
		i = (i + 1) & x->mask;
	return i;
}

/* Empties a slot. An entry after it that probing would no longer reach moves back into the hole. */
static void remove_slot(struct kv_prefix_index *x, uint32_t hole)
{
	uint32_t i = hole;

	for (;;) {
		uint32_t begin;

		i = (i + 1) & x->mask;
		if (x->slots[i] == EMPTY)
			break;
		begin = home(x, &x->names[x->slots[i]]);
		if (((i - begin) & x->mask) < ((i - hole) & x->mask))
			continue;
		x->slots[hole] = x->slots[i];
		hole = i;
	}
	x->slots[hole] = EMPTY;
}

static void forget(struct kv_prefix_index *x, int32_t block)
{
	uint32_t slot = find(x, &x->names[block]);

	BUG_ON(!x->known[block] || x->slots[slot] != block);
	remove_slot(x, slot);
	x->known[block] = false;
	x->stats.n_blocks--;
	kv_block_drop(x->pool, block);
}

static void evict(void *arg, int32_t block)
{
	struct kv_prefix_index *x = arg;

	forget(x, block);
	x->stats.evictions++;
}

enum status kv_prefix_create(struct kv_prefix_index **out, struct kv_pool *pool, const void *seed,
	size_t seed_bytes, struct error *err)
{
	struct kv_prefix_index *x = mem_alloc(sizeof(*x));
	uint64_t slots = 2;

	x->pool = pool;
	x->n_blocks = kv_pool_get_config(pool)->n_blocks;
	x->block_tokens = kv_pool_get_config(pool)->block_tokens;
	while (slots < 2 * (uint64_t)x->n_blocks)
		slots *= 2;
	x->mask = (uint32_t)(slots - 1);
	x->slots = mem_try_alloc(slots, sizeof(*x->slots));
	x->names = mem_try_alloc(x->n_blocks, sizeof(*x->names));
	x->known = mem_try_alloc(x->n_blocks, sizeof(*x->known));
	if (!x->slots || !x->names || !x->known) {
		uint32_t n = x->n_blocks;

		kv_prefix_destroy(x);
		return error_set(err, E_NOMEM, "no memory for a prefix index of %u cache blocks", n);
	}
	for (uint64_t i = 0; i < slots; i++)
		x->slots[i] = EMPTY;
	x->root = name_of(NAME_SEED, NULL, seed, seed_bytes);
	kv_pool_set_evict(pool, evict, x);
	*out = x;
	return OK;
}

void kv_prefix_destroy(struct kv_prefix_index *x)
{
	if (!x)
		return;
	if (x->stats.n_blocks)
		kv_prefix_reset(x);
	kv_pool_set_evict(x->pool, NULL, NULL);
	free(x->slots);
	free(x->names);
	free(x->known);
	free(x);
}

void kv_prefix_names(const struct kv_prefix_index *x, const int32_t *ids, uint32_t n_blocks,
	const void *salt, size_t salt_bytes, struct kv_prefix_name *out)
{
	struct kv_prefix_name parent = x->root;

	if (salt_bytes)
		parent = name_of(NAME_SALT, &x->root, salt, salt_bytes);
	for (uint32_t i = 0; i < n_blocks; i++) {
		out[i] = name_of(NAME_BLOCK, &parent, ids + (size_t)i * x->block_tokens,
			sizeof(*ids) * x->block_tokens);
		parent = out[i];
	}
}

uint32_t kv_prefix_match(const struct kv_prefix_index *x, const struct kv_prefix_name *names,
	uint32_t n, int32_t *blocks, uint32_t *n_idle)
{
	uint32_t i, idle = 0;

	for (i = 0; i < n; i++) {
		int32_t b = x->slots[find(x, &names[i])];

		if (b == EMPTY)
			break;
		idle += kv_block_refs(x->pool, b) == 0;
		blocks[i] = b;
	}
	*n_idle = idle;
	return i;
}

void kv_prefix_publish(
	struct kv_prefix_index *x, const struct kv_prefix_name *name, int32_t block)
{
	uint32_t slot = find(x, name);

	BUG_ON(block < 0 || (uint32_t)block >= x->n_blocks || x->known[block]);
	if (x->slots[slot] != EMPTY)
		return;
	kv_block_keep(x->pool, block);
	x->slots[slot] = block;
	x->names[block] = *name;
	x->known[block] = true;
	x->stats.n_blocks++;
}

void kv_prefix_reset(struct kv_prefix_index *x)
{
	for (uint32_t b = 0; b < x->n_blocks; b++)
		if (x->known[b])
			forget(x, (int32_t)b);
	x->resets++;
}

uint64_t kv_prefix_resets(const struct kv_prefix_index *x)
{
	return x->resets;
}

void kv_prefix_record(struct kv_prefix_index *x, uint32_t query_tokens, uint32_t hit_tokens)
{
	x->stats.query_tokens += query_tokens;
	x->stats.hit_tokens += hit_tokens;
}

struct kv_prefix_stats kv_prefix_get_stats(const struct kv_prefix_index *x)
{
	return x->stats;
}
