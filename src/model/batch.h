/*
 * One step's work: chunks of prompt and generated tokens of several sequences.
 *
 * Plain data in one flat buffer: header, then sequences, tokens, cache blocks and output rows at the
 * offsets that the header gives, so a batch can be sent to another process as it is. batch_check()
 * validates every count and offset of a batch that came from outside.
 *
 * A sequence's chunk holds n_prompt tokens, then n_generated tokens, at consecutive positions from
 * pos0. Prompt tokens are computed in expanded form, generated ones in absorbed form, always, so that
 * a token's bits do not depend on the batch it was in (DESIGN.md section 4). After preemption,
 * generated tokens are given as generated again. Speculation gives k + 1 generated tokens.
 */
#ifndef MODEL_BATCH_H
#define MODEL_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct batch_seq {
	uint32_t pos0;        /* tokens already in the cache */
	uint32_t n_prompt;
	uint32_t n_generated;
	uint32_t token0;      /* first index into tokens */
	uint32_t block0;      /* first index into blocks */
	uint32_t n_blocks;    /* >= ceil((pos0 + n_prompt + n_generated) / block_tokens) */
};

struct batch {
	uint32_t magic; /* BATCH_MAGIC */
	uint32_t bytes; /* of the whole buffer in use */
	uint32_t n_seqs;
	uint32_t n_tokens;
	uint32_t n_blocks;
	uint32_t n_outputs;
	uint32_t seqs_at; /* byte offsets from the start of this struct, multiples of 8 */
	uint32_t tokens_at;
	uint32_t blocks_at;
	uint32_t outputs_at;
};

#define BATCH_MAGIC 0x31485446u

/* Upper bounds of one batch, from which buffers are sized at start. */
struct batch_limits {
	uint32_t max_seqs;
	uint32_t max_tokens;
	uint32_t max_blocks;  /* over all sequences */
	uint32_t max_outputs;
};

size_t batch_bytes(const struct batch_limits *limits);

/* Prepares an empty batch in a buffer of batch_bytes(limits) bytes, aligned to 8. */
struct batch *batch_init(void *mem, const struct batch_limits *limits);

/*
 * Appends one sequence's chunk. Output rows are the last `n_outputs` tokens of the chunk. Fails with
 * E_LIMIT, adding nothing, when the chunk does not fit.
 */
enum status batch_add(struct batch *b, const struct batch_limits *limits, uint32_t pos0,
	const int32_t *tokens, uint32_t n_prompt, uint32_t n_generated, const int32_t *blocks,
	uint32_t n_blocks, uint32_t n_outputs, struct error *err);

enum status batch_check(const struct batch *b, size_t buffer_bytes, uint32_t vocab,
	uint32_t pool_blocks, uint32_t block_tokens, struct error *err);

static inline const struct batch_seq *batch_seqs(const struct batch *b)
{
	return (const struct batch_seq *)((const char *)b + b->seqs_at);
}

static inline const int32_t *batch_tokens(const struct batch *b) /* [n_tokens] */
{
	return (const int32_t *)((const char *)b + b->tokens_at);
}

static inline const int32_t *batch_blocks(const struct batch *b) /* [n_blocks] */
{
	return (const int32_t *)((const char *)b + b->blocks_at);
}

static inline const uint32_t *batch_outputs(const struct batch *b) /* [n_outputs], rows of tokens */
{
	return (const uint32_t *)((const char *)b + b->outputs_at);
}

#endif
