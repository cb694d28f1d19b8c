/* Building a batch, and refusing one that came damaged from outside. */
#include <stdlib.h>
#include <string.h>

#include "cm.h"
#include "base/random.h"
#include "model/batch.h"

static const struct batch_limits limits = {
	.max_seqs = 3, .max_tokens = 10, .max_blocks = 6, .max_outputs = 4};
static const int32_t tokens[] = {5, 6, 7, 8, 9, 10, 11, 12};
static const int32_t blocks[] = {3, 1, 2, 0};

static enum status checked(const struct batch *b, struct error *err)
{
	return batch_check(b, batch_bytes(&limits), 16, 4, 4, err);
}

static struct batch *example(void)
{
	struct batch *b = batch_init(calloc(1, batch_bytes(&limits)), &limits);
	struct error err;

	assert_int_equal(batch_add(b, &limits, 2, tokens, 3, 1, blocks, 2, 2, &err), OK);
	assert_int_equal(batch_add(b, &limits, 7, tokens + 4, 0, 2, blocks + 1, 3, 1, &err), OK);
	return b;
}

static void test_build(void **state)
{
	struct batch *b = example();
	struct error err;

	assert_int_equal(checked(b, &err), OK);
	assert_int_equal(b->n_seqs, 2);
	assert_int_equal(b->n_tokens, 6);
	assert_int_equal(b->n_outputs, 3);
	assert_int_equal(batch_outputs(b)[0], 2);
	assert_int_equal(batch_outputs(b)[1], 3);
	assert_int_equal(batch_outputs(b)[2], 5);
	assert_memory_equal(batch_tokens(b), tokens, sizeof(*tokens) * 6);
	assert_int_equal(batch_blocks(b)[2], 1);
	free(b);
}

static void test_limits(void **state)
{
	struct batch *b = example(), before = *b;
	struct error err;

	assert_int_equal(batch_add(b, &limits, 0, tokens, 5, 0, blocks, 1, 0, &err), E_LIMIT);
	assert_string_equal(err.msg, "batch is full: 5 more tokens, 6 of 10 in use");
	assert_int_equal(batch_add(b, &limits, 0, tokens, 1, 0, blocks, 2, 0, &err), E_LIMIT);
	assert_int_equal(batch_add(b, &limits, 0, tokens, 2, 0, blocks, 1, 2, &err), E_LIMIT);
	assert_memory_equal(b, &before, sizeof(before));
	assert_int_equal(batch_add(b, &limits, 0, tokens, 1, 0, blocks, 1, 0, &err), OK);
	assert_int_equal(batch_add(b, &limits, 0, tokens, 1, 0, blocks, 0, 0, &err), E_LIMIT);
	free(b);
}

static void test_damage(void **state)
{
	struct batch *b = example();
	struct batch_seq *seqs = (struct batch_seq *)((char *)b + b->seqs_at);
	int32_t *ids = (int32_t *)((char *)b + b->tokens_at);
	struct error err;

#define DAMAGED(field, value)                                                                      \
	do {                                                                                       \
		__typeof__(field) saved = (field);                                                 \
		(field) = (value);                                                                 \
		assert_int_equal(checked(b, &err), E_FORMAT);                                      \
		(field) = saved;                                                                   \
		assert_int_equal(checked(b, &err), OK);                                            \
	} while (0)

	DAMAGED(b->magic, 1);
	DAMAGED(b->bytes, UINT32_MAX);
	DAMAGED(b->seqs_at, 4);
	DAMAGED(b->tokens_at, b->tokens_at + 1);
	DAMAGED(b->blocks_at, UINT32_MAX & ~7u);
	DAMAGED(b->n_outputs, UINT32_MAX);
	DAMAGED(b->n_tokens, 7);
	DAMAGED(b->n_seqs, 1);
	DAMAGED(seqs[0].n_prompt, 0x80000000u);
	DAMAGED(seqs[1].token0, 0);
	DAMAGED(seqs[1].pos0, UINT32_MAX);
	DAMAGED(seqs[1].n_blocks, 2);
	DAMAGED(seqs[1].block0, 1);
	DAMAGED(ids[0], -1);
	DAMAGED(ids[5], 16);
	DAMAGED(((int32_t *)((char *)b + b->blocks_at))[4], 4);
	DAMAGED(((uint32_t *)((char *)b + b->outputs_at))[0], 6);
	assert_int_equal(batch_check(b, sizeof(*b) - 1, 16, 4, 4, &err), E_FORMAT);
	free(b);
}

/* Any header whatever is refused or harmless: the sanitizers watch. */
static void test_noise(void **state)
{
	struct batch *b = example();
	uint8_t *copy = malloc(batch_bytes(&limits));
	struct error err;

	for (uint64_t i = 0; i < 20000; i++) {
		uint64_t r = random_u64(9, i);

		memcpy(copy, b, batch_bytes(&limits));
		copy[r % batch_bytes(&limits)] = (uint8_t)(r >> 32);
		copy[(r >> 8) % batch_bytes(&limits)] = (uint8_t)(r >> 40);
		if (checked((struct batch *)copy, &err) == OK)
			assert_true(((struct batch *)copy)->n_tokens <= limits.max_tokens);
	}
	free(copy);
	free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_build),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
