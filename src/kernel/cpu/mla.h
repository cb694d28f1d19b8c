/*
 * Latent attention on the CPU: what the drivers (mla_prompt.c, mla_decode.c) ask of a tier.
 *
 * Both forms run on one core. A *lane* is one softmax: a query row of one head (prompt) or a head
 * of one row (decode). Lanes go in blocks of 16. Keys go in tiles of 256 at absolute positions 0,
 * 256, 512, ... Of each tile the core computes scores [key][lane], updates each lane's maximum and
 * sum, and adds probabilities times values to each lane's output. A lane sees keys below its limit
 * (position + 1); a masked key adds exactly zero, so the bits of a lane depend neither on its
 * neighbours nor on how many keys of a tile exist. Cached rows are read in chunks of 64 keys, which
 * lie together when a cache block holds at least 64 tokens.
 *
 * Prompt form: keys are rows [nope | rope | zeros] made from the latents by kv_b, values are rows
 * [v_dim]. Decode form: keys are the cache rows themselves, values their first kv_lora columns.
 *
 * Scores live in the base-2 domain: t = dot * scale * log2(e), p = 2^(t - max), rounded to BF16 in
 * every tier before it is summed and multiplied by values.
 *
 * The layouts of packed queries, values and probabilities belong to the tier; the driver only
 * reserves 4 bytes for each element.
 */
#ifndef KERNEL_CPU_MLA_H
#define KERNEL_CPU_MLA_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/kernel.h"

#define MLA_TILE 256u			  /* keys of a tile */
#define MLA_CHUNK 64u			  /* keys read at a time */
#define MLA_BLOCK 16u			  /* lanes of a block */
#define MLA_SCORES (MLA_TILE * MLA_BLOCK) /* of one lane block */
#define MLA_QUERY_BLOCKS 4u		  /* prompt: lane blocks of a query tile */
#define MLA_QUERIES (MLA_BLOCK * MLA_QUERY_BLOCKS)
#define MLA_GROUP_BLOCKS 8u /* decode: lane blocks of a task at most */
#define MLA_SPLIT 512u	    /* decode: keys of a split at least, a multiple of MLA_TILE */
#define MLA_MAX_SPLITS 32u  /* decode: splits of a context at most */
#define MLA_LOG2E 1.4426950408889634f

/* One head's rows of kv_b in BF16 panels, or as widen_panels left them: scales is NULL, or
 * [n / 32][k_blocks] as in struct weight. */
struct mla_panels {
	const uint8_t *panels;
	size_t panel_bytes;
	const float *scales;
	uint32_t n;
	uint32_t k;
	uint32_t k_blocks;
};

struct mla_ukernels {
	/* Around all other calls of a thread in one op; NULL where the tier needs none. */
	void (*thread_begin)(void);
	void (*thread_end)(void);

	/* Packs up to 16 lanes: lane i is a[i * a_stride ..][na], b[i * b_stride ..][nb], zeros to
	 * d. Missing lanes are zero. The next block is 4 * MLA_BLOCK * d bytes further on. */
	void (*pack_q)(void *out, const uint16_t *a, size_t a_stride, uint32_t na,
		const uint16_t *b, size_t b_stride, uint32_t nb, uint32_t d, uint32_t lanes);

	/*
	 * Where widen_panels is NULL, keys and values are BF16 rows: scores() reads them as they lie,
	 * values() what pack_v made of them. Elsewhere they are F32 rows, the same for both products:
	 * cached rows that scores() widened, or what expand() made of cached rows and a weight
	 * [n / 16][k][16] that widen_panels made. pack_v is NULL then.
	 */
	void (*widen_panels)(float *out, const struct mla_panels *w);

	/* Packs a chunk of value rows as keys at .. at + 63 of a tile; rows `keys` and later count
	 * as zero. out: the tile, MLA_TILE * dv elements. */
	void (*pack_v)(void *out, uint32_t at, const uint16_t *rows, size_t stride, uint32_t keys,
		uint32_t dv);

	/* s[block * MLA_SCORES + key * 16 + lane] = dot of key and query over d (a multiple of 32)
	 * in F32. Keys up to a multiple of MLA_CHUNK are readable and their scores unspecified. wide:
	 * NULL, or F32 rows to be made of the BF16 rows k and read in their place; both have k_stride.
	 * `ahead`: as many cached rows that will be read next, to be brought near meanwhile, or NULL. */
	void (*scores)(float *s, const void *q, uint32_t blocks, const void *k, size_t k_stride,
		uint32_t keys, uint32_t d, float *wide, const uint16_t *ahead);

	/*
	 * Turns scores into probabilities for values(), in place. Key i of the tile is at position
	 * key0 + i; lane j sees positions below limit[j]. Updates max and sum; corr gets the factor
	 * of the old output.
	 */
	void (*softmax)(float *s, uint32_t blocks, uint32_t keys, uint32_t key0,
		const uint32_t *limit, float scale2, float *max, float *sum, float *corr);

	/* o[lane][dv] = o * corr + sum over keys of p * v. dv: a multiple of 32. v_stride: of F32 rows;
	 * with an odd number of keys the row after the last one is zero. */
	void (*values)(float *o, const void *p, const float *corr, const void *v, size_t v_stride,
		uint32_t blocks, uint32_t keys, uint32_t dv);

	/* Adds state b (later keys) to state a, lane by lane. A lane of b without keys changes
	 * nothing. */
	void (*merge)(float *ao, float *amax, float *asum, const float *bo, const float *bmax,
		const float *bsum, uint32_t lanes, uint32_t dv);

	/* out[j * out_stride ..][dv] = BF16 of o[j] / sum[j]. */
	void (*finish)(uint16_t *out, size_t out_stride, const float *o, const float *sum,
		uint32_t lanes, uint32_t dv);

	/* F8_E4M3 bytes times 2^exponent to BF16, order kept; n is a multiple of 512. |exponent| <=
	 * 64: nothing is rounded. */
	void (*unpack_f8)(uint16_t *out, const uint8_t *in, size_t n, int exponent);

	/* out[key][n] = latents [key][k] times panels, rounded to BF16; n and k multiples of 32; keys <=
	 * MLA_CHUNK. A whole chunk of rows is readable in x and writable in out. wide: as of scores(). */
	void (*expand)(void *out, size_t out_stride, const void *x, size_t x_stride, uint32_t keys,
		const struct mla_panels *w, float *wide);
};

extern const struct mla_ukernels mla_ukernels_ref;
extern const struct mla_ukernels mla_ukernels_avx2;
extern const struct mla_ukernels mla_ukernels_avx512;	 /* BF16 dot products */
extern const struct mla_ukernels mla_ukernels_avx512_wide; /* the same bits */
extern const struct mla_ukernels mla_ukernels_amx;

/* Values of a cached row, padding included: a multiple of 32. */
static inline uint32_t mla_row_values(uint32_t kv_lora, uint32_t rope)
{
	return (kv_lora + rope + 31) / 32 * 32;
}

/* Where a cached row lies. */
static inline uint8_t *mla_row(
	const struct kv_view *c, const int32_t *blocks, uint32_t pos, size_t row_bytes)
{
	return c->base + (size_t)blocks[pos / c->block_tokens] * c->block_stride_bytes +
	       (size_t)(pos % c->block_tokens) * row_bytes;
}

/* `keys` cached rows from position key0 (a multiple of MLA_CHUNK) as consecutive rows: the cache
 * itself where a block holds the whole chunk, else copied to tmp [MLA_CHUNK][row_bytes]. */
const uint16_t *mla_chunk_rows(
	const struct kv_view *c, const int32_t *blocks, uint32_t key0, uint32_t keys, uint8_t *tmp);

/* The chunk at key0 where it lies, for prefetching; NULL when scattered or not before `end`. */
const uint16_t *mla_chunk_ahead(
	const struct kv_view *c, const int32_t *blocks, uint32_t key0, uint32_t end);

/* Carves `bytes`, rounded up to 64, from *at (an address; starting at 0 it only counts). */
static inline void *mla_carve(uintptr_t *at, size_t bytes)
{
	void *p = (void *)*at;

	*at += (bytes + 63) / 64 * 64;
	return p;
}

/* Scratch for one thread, and for the op as a whole, from the model's sizes. */
size_t mla_prompt_thread_bytes(const struct kernel_limits *l);
size_t mla_decode_thread_bytes(const struct kernel_limits *l);
size_t mla_decode_shared_bytes(const struct kernel_limits *l, int threads);

#endif
