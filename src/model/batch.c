/* Building and checking a step's batch (model/batch.h). */
#include "model/batch.h"

#include <string.h>

/* Byte offsets of the four arrays, in the order of the header. */
struct batch_layout {
	size_t seqs_at, tokens_at, blocks_at, outputs_at, bytes;
};

static size_t align8(size_t n)
{
	return (n + 7) / 8 * 8;
}

static struct batch_layout layout_of(const struct batch_limits *l)
{
	struct batch_layout p;

	p.seqs_at = align8(sizeof(struct batch));
	p.tokens_at = p.seqs_at + align8(sizeof(struct batch_seq) * (size_t)l->max_seqs);
	p.blocks_at = p.tokens_at + align8(sizeof(int32_t) * (size_t)l->max_tokens);
	p.outputs_at = p.blocks_at + align8(sizeof(int32_t) * (size_t)l->max_blocks);
	p.bytes = p.outputs_at + align8(sizeof(uint32_t) * (size_t)l->max_outputs);
	return p;
}

size_t batch_bytes(const struct batch_limits *limits)
{
	return layout_of(limits).bytes;
}

struct batch *batch_init(void *mem, const struct batch_limits *limits)
{
	struct batch_layout p = layout_of(limits);
	struct batch *b = mem;

	BUG_ON(p.bytes > UINT32_MAX);
	*b = (struct batch){
		.magic = BATCH_MAGIC,
		.bytes = (uint32_t)p.bytes,
		.seqs_at = (uint32_t)p.seqs_at,
		.tokens_at = (uint32_t)p.tokens_at,
		.blocks_at = (uint32_t)p.blocks_at,
		.outputs_at = (uint32_t)p.outputs_at,
	};
	return b;
}

static enum status over(struct error *err, const char *what, uint32_t add, uint32_t have, uint32_t max)
{
	return error_set(err, E_LIMIT, "batch is full: %u more %s, %u of %u in use", add, what, have, max);
}

enum status batch_add(struct batch *b, const struct batch_limits *limits, uint32_t pos0,
	const int32_t *tokens, uint32_t n_prompt, uint32_t n_generated, const int32_t *blocks,
	uint32_t n_blocks, uint32_t n_outputs, struct error *err)
{
	uint32_t n = n_prompt + n_generated;
	struct batch_seq *seq;

	BUG_ON(n == 0 || n < n_prompt || n_outputs > n);
	if (b->n_seqs == limits->max_seqs)
		return over(err, "sequences", 1, b->n_seqs, limits->max_seqs);
	if (n > limits->max_tokens - b->n_tokens)
		return over(err, "tokens", n, b->n_tokens, limits->max_tokens);
	if (n_blocks > limits->max_blocks - b->n_blocks)
		return over(err, "cache blocks", n_blocks, b->n_blocks, limits->max_blocks);
	if (n_outputs > limits->max_outputs - b->n_outputs)
		return over(err, "output rows", n_outputs, b->n_outputs, limits->max_outputs);

	seq = (struct batch_seq *)((char *)b + b->seqs_at) + b->n_seqs++;
	*seq = (struct batch_seq){
		.pos0 = pos0,
		.n_prompt = n_prompt,
		.n_generated = n_generated,
		.token0 = b->n_tokens,
		.block0 = b->n_blocks,
		.n_blocks = n_blocks,
	};
	memcpy((int32_t *)((char *)b + b->tokens_at) + b->n_tokens, tokens, sizeof(*tokens) * n);
	memcpy((int32_t *)((char *)b + b->blocks_at) + b->n_blocks, blocks, sizeof(*blocks) * n_blocks);
	b->n_tokens += n;
	b->n_blocks += n_blocks;
	for (uint32_t i = n - n_outputs; i < n; i++)
		((uint32_t *)((char *)b + b->outputs_at))[b->n_outputs++] = seq->token0 + i;
	return OK;
}

static int array_ok(const struct batch *b, uint32_t at, uint32_t n, size_t elem)
{
	return at % 8 == 0 && at >= sizeof(*b) && at <= b->bytes && n <= (b->bytes - at) / elem;
}

static enum status check_seq(const struct batch *b, uint32_t i, uint32_t token0, uint32_t block0,
	uint32_t block_tokens, struct error *err)
{
	const struct batch_seq *s = &batch_seqs(b)[i];
	uint64_t n = (uint64_t)s->n_prompt + s->n_generated, end = s->pos0 + n;

	if (s->token0 != token0 || n == 0 || n > b->n_tokens - token0)
		return error_set(err, E_FORMAT, "batch: sequence %u has tokens %u + %u at %u, expected "
			"a positive number that fits at %u", i, s->n_prompt, s->n_generated, s->token0, token0);
	if (s->block0 != block0 || s->n_blocks > b->n_blocks - block0 ||
		(end + block_tokens - 1) / block_tokens > s->n_blocks)
		return error_set(err, E_FORMAT, "batch: sequence %u of %llu tokens has %u cache blocks at %u, "
			"expected one per %u tokens at %u", i, (unsigned long long)end, s->n_blocks, s->block0,
			block_tokens, block0);
	return OK;
}

enum status batch_check(const struct batch *b, size_t buffer_bytes, uint32_t vocab,
	uint32_t pool_blocks, uint32_t block_tokens, struct error *err)
{
	uint32_t token0 = 0, block0 = 0;

	if (buffer_bytes < sizeof(*b) || b->magic != BATCH_MAGIC || b->bytes > buffer_bytes)
		return error_set(err, E_FORMAT, "batch: bad magic or size in %zu bytes", buffer_bytes);
	if (!array_ok(b, b->seqs_at, b->n_seqs, sizeof(struct batch_seq)) ||
		!array_ok(b, b->tokens_at, b->n_tokens, sizeof(int32_t)) ||
		!array_ok(b, b->blocks_at, b->n_blocks, sizeof(int32_t)) ||
		!array_ok(b, b->outputs_at, b->n_outputs, sizeof(uint32_t)))
		return error_set(err, E_FORMAT, "batch: an array lies outside its %u bytes", b->bytes);
	for (uint32_t i = 0; i < b->n_seqs; i++) {
		TRY(check_seq(b, i, token0, block0, block_tokens, err));
		token0 += batch_seqs(b)[i].n_prompt + batch_seqs(b)[i].n_generated;
		block0 += batch_seqs(b)[i].n_blocks;
	}
	if (token0 != b->n_tokens || block0 != b->n_blocks)
		return error_set(err, E_FORMAT, "batch: %u tokens and %u blocks, its sequences have %u and %u",
			b->n_tokens, b->n_blocks, token0, block0);
	for (uint32_t i = 0; i < b->n_tokens; i++)
		if (batch_tokens(b)[i] < 0 || (uint32_t)batch_tokens(b)[i] >= vocab)
			return error_set(err, E_FORMAT, "batch: token %u has id %d, expected 0 to %u", i,
				batch_tokens(b)[i], vocab - 1);
	for (uint32_t i = 0; i < b->n_blocks; i++)
		if (batch_blocks(b)[i] < 0 || (uint32_t)batch_blocks(b)[i] >= pool_blocks)
			return error_set(err, E_FORMAT, "batch: cache block %u has id %d, expected 0 to %u", i,
				batch_blocks(b)[i], pool_blocks - 1);
	for (uint32_t i = 0; i < b->n_outputs; i++)
		if (batch_outputs(b)[i] >= b->n_tokens)
			return error_set(err, E_FORMAT, "batch: output %u is row %u of %u tokens", i,
				batch_outputs(b)[i], b->n_tokens);
	return OK;
}
