/*
 * Promise 3 of DESIGN.md on the tiny checkpoints: a token's logits are the same bits alone, in a batch
 * with other sequences, at any chunk boundary, thread count and cache block size, in both forms of
 * attention, in the main layers and in the MTP layer, within each ISA tier.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/cm.h"
#include "base/random.h"
#include "engine/runtime.h"

#define LONG 150u   /* tokens of the sequence under test */
#define OTHERS 7u
#define MAX_ROWS 640u

/* How the sequence under test is computed. */
struct way {
	const char *name;
	int threads;
	uint32_t block_tokens;
	uint32_t chunk;     /* tokens of it in one forward */
	uint32_t n_prompt;  /* the first ones, in expanded form */
	bool others;        /* seven unequal sequences in every forward */
};

static const struct way expanded[] = {
	{"alone", 2, 64, LONG, LONG, false},
	{"one thread", 1, 64, LONG, LONG, false},
	{"with others", 2, 64, LONG, LONG, true},
	{"with others, one thread", 1, 64, LONG, LONG, true},
	{"token by token", 2, 64, 1, LONG, false},
	{"chunks of 7 with others", 2, 64, 7, LONG, true},
	{"chunks of 64", 1, 16, 64, LONG, false},
	{"chunks of 97, blocks of 1", 2, 1, 97, LONG, false},
	{"blocks of 16 with others", 2, 16, LONG, LONG, true},
	{"blocks of 1024", 2, 1024, LONG, LONG, false},
	{NULL, 0, 0, 0, 0, false},
};

static const struct way absorbed[] = {
	{"token by token", 2, 64, 1, 90, false},
	{"at once", 2, 64, LONG, 90, false},
	{"at once, one thread", 1, 64, LONG, 90, false},
	{"two at a time with others", 2, 64, 2, 90, true},
	{"five at a time, blocks of 1", 2, 1, 5, 90, false},
	{"with others, blocks of 16", 2, 16, LONG, 90, true},
	{"blocks of 1024, one thread", 1, 1024, 3, 90, false},
	{NULL, 0, 0, 0, 0, false},
};

static const char *const checkpoints[] = {
	"v31-bf16", "v31-fp8", "v3-fp8", "moonlight-bf16", "v31-w8a8", "v2lite-bf16",
	"v31-w4a8-g256"};

static int32_t token(const struct runtime *rt, uint32_t seq, uint32_t i)
{
	uint32_t vocab = rt->weights->config.vocab_size;

	return (int32_t)(random_u64(17 + seq, i) % vocab);
}

static void check(enum status st, const struct error *err)
{
	if (st != OK)
		fail_msg("%s", err->msg);
}

/* Adds a chunk [from, to) of sequence `seq`, of which the first n_prompt tokens are prompt. */
static void add(struct runtime *rt, struct kv_table *t, uint32_t seq, uint32_t from, uint32_t to,
	uint32_t n_prompt, uint32_t n_outputs)
{
	int32_t ids[MAX_ROWS];
	uint32_t split = n_prompt < from ? from : n_prompt > to ? to : n_prompt;
	struct error err;

	for (uint32_t i = from; i < to; i++)
		ids[i - from] = token(rt, seq, i);
	check(kv_table_grow(t, rt->pool, to, &err), &err);
	check(batch_add(rt->batch, &rt->limits, from, ids, split - from, to - split, t->blocks,
		      t->n_blocks, n_outputs, &err),
		&err);
	check(batch_check(rt->batch, batch_bytes(&rt->limits), rt->weights->config.vocab_size,
		      kv_pool_get_config(rt->pool)->n_blocks,
		      kv_pool_get_config(rt->pool)->block_tokens, &err),
		&err);
}

static struct runtime open_runtime(const char *name, enum cpu_isa isa, const struct way *w)
{
	struct runtime_options o = runtime_options_default();
	struct runtime rt;
	struct error err;
	char dir[512];

	snprintf(dir, sizeof(dir), "%s/golden/%s", TEST_DATA, name);
	o.isa = isa;
	o.threads = w->threads;
	o.pin = false;
	o.mtp = true;
	o.block_tokens = w->block_tokens;
	o.max_context_tokens = 256;
	o.max_seqs = OTHERS + 1;
	o.max_batch_tokens = MAX_ROWS;
	o.max_outputs = MAX_ROWS;
	check(runtime_open(&rt, dir, &o, &err), &err);
	return rt;
}

/*
 * Computes the sequence under test as `w` says. logits, mtp: [LONG][vocab], filled row by row. The
 * other sequences grow by uneven numbers of prompt and generated tokens, and stand on both sides of
 * the one under test.
 */
static void compute(struct runtime *rt, const struct way *w, float *logits, float *mtp)
{
	uint32_t vocab = rt->weights->config.vocab_size, done[OTHERS + 1] = {0}, round = 0;
	struct kv_table t[OTHERS + 1];
	struct model_output out;
	struct error err;

	for (uint32_t s = 0; s <= OTHERS; s++) {
		kv_table_init(&t[s]);
		check(kv_table_reserve(&t[s], 256, &err), &err);
	}
	for (uint32_t at = 0; at < LONG; round++) {
		uint32_t end = at + w->chunk < LONG ? at + w->chunk : LONG;

		batch_init(rt->batch, &rt->limits);
		for (uint32_t s = 0; s <= OTHERS; s++) {
			uint32_t n = 1 + (uint32_t)(random_u64(3, round * 8 + s) % 40);

			if (s == OTHERS / 2) {
				add(rt, &t[s], s, at, end, w->n_prompt, end - at);
				continue;
			}
			n = done[s] + n > 250 ? 250 - done[s] : n;
			if (!w->others || n == 0)
				continue;
			add(rt, &t[s], s, done[s], done[s] + n, s % 3 ? 20 * s : 0, 0);
			done[s] += n;
		}
		check(model_forward(rt->model, rt->batch, &out, &err), &err);
		for (uint32_t i = 0; i < end - at; i++)
			memcpy(logits + (size_t)(at + i) * vocab, out.logits + i * out.logits_stride,
				sizeof(*logits) * vocab);
		if (rt->weights->mtp) {
			/* The batch's tokens stand for the next ones; any token serves. */
			check(model_mtp_forward(rt->model, rt->batch, out.hidden, &out, &err), &err);
			for (uint32_t i = 0; i < end - at; i++)
				memcpy(mtp + (size_t)(at + i) * vocab,
					out.logits + i * out.logits_stride, sizeof(*mtp) * vocab);
		}
		at = end;
	}
	for (uint32_t s = 0; s <= OTHERS; s++)
		kv_table_deinit(&t[s], rt->pool);
	assert_int_equal(kv_pool_free_blocks(rt->pool), kv_pool_get_config(rt->pool)->n_blocks);
}

static void compare(const char *what, const char *name, enum cpu_isa isa, const struct way *w,
	const float *want, const float *got, uint32_t vocab)
{
	for (uint32_t i = 0; i < LONG; i++)
		if (memcmp(want + (size_t)i * vocab, got + (size_t)i * vocab, sizeof(*got) * vocab) != 0)
			fail_msg("%s, tier %s, %s: %s logits of position %u differ from those of the "
				 "first way", name, cpu_isa_name(isa), w->name, what, i);
}

static void check_ways(const char *name, enum cpu_isa isa, const struct way *ways)
{
	float *first = NULL, *first_mtp = NULL;

	for (const struct way *w = ways; w->name; w++) {
		struct runtime rt = open_runtime(name, isa, w);
		uint32_t vocab = rt.weights->config.vocab_size;
		size_t n = (size_t)LONG * vocab;
		float *logits = calloc(n, sizeof(*logits)), *mtp = calloc(n, sizeof(*mtp));

		assert_non_null(logits);
		assert_non_null(mtp);
		compute(&rt, w, logits, mtp);
		if (w == ways) {
			first = logits;
			first_mtp = mtp;
		} else {
			compare("main", name, isa, w, first, logits, vocab);
			compare("MTP", name, isa, w, first_mtp, mtp, vocab);
			free(logits);
			free(mtp);
		}
		runtime_close(&rt);
	}
	free(first);
	free(first_mtp);
}

static void check_all(const struct way *ways)
{
	for (int isa = 0; isa < CPU_ISA_COUNT; isa++) {
		if (!cpu_isa_supported((enum cpu_isa)isa)) {
			print_message("this CPU does not have %s: skipped\n", cpu_isa_name((enum cpu_isa)isa));
			continue;
		}
		/* The reference is slow and has no schedule of its own to go wrong: one of a kind is enough. */
		size_t step = isa == CPU_ISA_REF ? 3 : 1;

		for (size_t i = 1 % step; i < sizeof(checkpoints) / sizeof(*checkpoints); i += step)
			check_ways(checkpoints[i], (enum cpu_isa)isa, ways);
	}
}

static void test_expanded(void **state)
{
	check_all(expanded);
}

static void test_absorbed(void **state)
{
	check_all(absorbed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_expanded),
		cmocka_unit_test(test_absorbed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
