/* The scheduler's rules one by one: what is refused, who gets how many tokens of a step, who waits, who is
 * preempted and how it comes back, what is shared, drafts. */
#include <stdlib.h>
#include <string.h>

#include "cm.h"
#include "sched/sched.h"

#define BT 4u
#define TOKEN 7 /* what the model always says */

struct fixture {
	struct kv_pool *pool;
	struct kv_prefix_index *index;
	struct sched *s;
	void *mem;
	uint32_t n; /* slices of the last plan */
};

static const struct sched_config plain = {
	.max_model_len = 32,
	.max_num_seqs = 4,
	.max_num_batched_tokens = 16,
	.max_outputs = 16,
	.chunked_prefill = true,
	.max_requests = 8,
};

static struct kv_pool *open_pool(uint32_t blocks)
{
	struct kv_pool_config c = {
		.n_layers = 1, .n_blocks = blocks, .block_tokens = BT, .kv_lora = 32, .rope = 32};
	struct kv_pool *p;
	struct error err;

	assert_int_equal(kv_pool_create(&p, &c, &err), OK);
	return p;
}

static struct fixture open_with(const struct sched_config *config, uint32_t blocks, bool cache)
{
	struct fixture f = {.pool = open_pool(blocks)};
	struct batch_limits limits;
	struct error err;

	if (cache)
		assert_int_equal(kv_prefix_create(&f.index, f.pool, NULL, 0, &err), OK);
	if (sched_create(&f.s, config, f.pool, f.index, &err) != OK)
		fail_msg("%s", err.msg);
	limits = sched_batch_limits(f.s);
	f.mem = malloc(batch_bytes(&limits));
	return f;
}

static void close_it(struct fixture *f)
{
	sched_destroy(f->s);
	assert_int_equal(
		kv_pool_free_blocks(f->pool), kv_pool_get_config(f->pool)->n_blocks);
	kv_prefix_destroy(f->index);
	kv_pool_destroy(f->pool);
	free(f->mem);
}

/* A prompt of n tokens first, first + 1, ... */
static struct sched_request prompt(int32_t *ids, int32_t first, uint32_t n, uint32_t max_tokens)
{
	for (uint32_t i = 0; i < n; i++)
		ids[i] = first + (int32_t)i;
	return (struct sched_request){.prompt = ids, .n_prompt = n, .max_tokens = max_tokens};
}

static uint32_t add(struct fixture *f, int32_t first, uint32_t n, uint32_t max_tokens)
{
	int32_t ids[64];
	struct sched_request r = prompt(ids, first, n, max_tokens);
	uint32_t slot;
	struct error err;

	if (sched_submit(f->s, &r, &slot, &err) != OK)
		fail_msg("%s", err.msg);
	return slot;
}

static void commit(struct fixture *f)
{
	static const int32_t token = TOKEN;
	struct sched_result results[8] = {0};

	for (uint32_t i = 0; i < f->n; i++)
		if (sched_slices(f->s)[i].n_samples)
			results[i] = (struct sched_result){.tokens = &token, .n_tokens = 1};
	sched_commit(f->s, results);
}

static void plan(struct fixture *f)
{
	f->n = sched_plan(f->s, f->mem);
}

/* The last plan gave `slot` so many tokens; 0: none. */
static void gave(struct fixture *f, uint32_t slot, uint32_t n_prompt, uint32_t n_generated)
{
	const struct batch *b = f->mem;

	for (uint32_t i = 0; i < f->n; i++)
		if (sched_slices(f->s)[i].slot == slot) {
			assert_int_equal(batch_seqs(b)[i].n_prompt, n_prompt);
			assert_int_equal(batch_seqs(b)[i].n_generated, n_generated);
			return;
		}
	assert_int_equal(n_prompt + n_generated, 0);
}

static void plan_commit(struct fixture *f)
{
	plan(f);
	commit(f);
}

static struct sched_seq_info info(struct fixture *f, uint32_t slot)
{
	return sched_seq_get(f->s, slot);
}

static void refused_config(const struct sched_config *c, const char *why)
{
	struct kv_pool *p = open_pool(8);
	struct sched *s;
	struct error err;

	assert_int_equal(sched_create(&s, c, p, NULL, &err), E_INVAL);
	assert_non_null(strstr(err.msg, why));
	kv_pool_destroy(p);
}

static void test_config(void **state)
{
	struct sched_config c = plain;

	c.max_model_len = 33;
	refused_config(&c, "--max-model-len 33: one such sequence needs 9 cache blocks");
	c = plain;
	c.max_num_batched_tokens = 3;
	refused_config(&c, "--max-num-batched-tokens 3");
	c = plain;
	c.chunked_prefill = false;
	refused_config(&c, "--no-enable-chunked-prefill");
	c.max_num_batched_tokens = 32;
	c.long_prefill_threshold = 4;
	refused_config(&c, "--long-prefill-token-threshold 4");
	c = plain;
	c.max_outputs = 3;
	refused_config(&c, "3 output rows in a step, expected at least 4");
	c = plain;
	c.max_requests = 3;
	refused_config(&c, "room for 3 requests");
	c = plain;
	c.max_num_seqs = 0;
	refused_config(&c, "--max-num-seqs 0");
	c = plain;
	c.max_drafts = SCHED_MAX_DRAFTS + 1;
	refused_config(&c, "speculative");
}

static void refused(
	struct fixture *f, const struct sched_request *r, enum status st, const char *why)
{
	uint32_t slot = 77;
	struct error err;

	assert_int_equal(sched_submit(f->s, r, &slot, &err), st);
	assert_non_null(strstr(err.msg, why));
	assert_int_equal(slot, 77);
}

static void test_refused_requests(void **state)
{
	struct sched_config c = plain;
	struct fixture f;
	struct sched_request r;
	int32_t ids[64];

	c.max_num_batched_tokens = 32;
	f = open_with(&c, 8, true);
	r = prompt(ids, 1, 32, 1);
	refused(&f, &r, E_LIMIT, "the prompt has 32 tokens, the context holds 32");
	r = prompt(ids, 1, 0, 1);
	refused(&f, &r, E_INVAL, "empty");
	r = prompt(ids, 1, 5, 0);
	refused(&f, &r, E_INVAL, "max_tokens");
	r.max_tokens = 1;
	r.priority = 1;
	refused(&f, &r, E_INVAL, "--scheduling-policy priority");
	r.priority = 0;
	r.cache_salt = ids;
	r.cache_salt_bytes = KV_PREFIX_MAX_SALT_BYTES + 1;
	refused(&f, &r, E_LIMIT, "cache_salt");
	close_it(&f);

	/* 4 rows are for samples, none is left. */
	c.max_outputs = 4;
	f = open_with(&c, 8, true);
	r = prompt(ids, 1, 5, 1);
	r.prompt_rows = true;
	refused(&f, &r, E_LIMIT, "prompt_logprobs");
	close_it(&f);
}

static void test_queue_caps(void **state)
{
	struct sched_config c = plain;
	struct sched_request r;
	struct fixture f;
	int32_t ids[64];

	c.max_num_seqs = 2;
	c.max_queued_reqs = 1;
	f = open_with(&c, 8, false);
	r = prompt(ids, 1, 4, 9);
	for (int i = 0; i < 3; i++)
		add(&f, 1, 4, 9);
	refused(&f, &r, E_LIMIT, "queue is full: 3 requests wait, 1 may (--max-num-queued-reqs)");
	plan_commit(&f);
	refused(&f, &r, E_LIMIT, "queue is full: 1 requests wait");
	close_it(&f);

	c.max_queued_reqs = 0;
	c.max_queued_tokens = 10;
	f = open_with(&c, 8, false);
	add(&f, 1, 12, 9);
	refused(&f, &r, E_LIMIT, "queue is full: 12 tokens wait, 10 may (--max-num-queued-tokens)");
	plan_commit(&f);
	add(&f, 1, 4, 9);
	close_it(&f);

	f = open_with(&plain, 8, false);
	for (uint32_t i = 0; i < plain.max_requests; i++)
		add(&f, 1, 4, 9);
	refused(&f, &r, E_LIMIT, "queue is full: 8 requests");
	close_it(&f);
}

/* Chunks; the running first; what is left goes to those that wait. */
static void test_chunks(void **state)
{
	struct fixture f = open_with(&plain, 24, false);
	uint32_t a = add(&f, 1, 20, 9), b = add(&f, 40, 10, 9), c = add(&f, 60, 3, 9);

	plan(&f);
	gave(&f, a, 16, 0);
	gave(&f, b, 0, 0);
	assert_int_equal(sched_slices(f.s)[0].n_samples, 0);
	assert_true(sched_slices(f.s)[0].first);
	commit(&f);
	plan(&f);
	gave(&f, a, 4, 0);
	gave(&f, b, 10, 0);
	gave(&f, c, 2, 0);
	assert_false(sched_slices(f.s)[0].first);
	commit(&f);
	plan(&f);
	gave(&f, a, 0, 1);
	gave(&f, b, 0, 1);
	gave(&f, c, 1, 0);
	commit(&f);
	assert_int_equal(info(&f, a).n_known, 22);
	close_it(&f);
}

/* A long prompt that came first leaves one token to whoever runs behind it. */
static void test_all_running_advance(void **state)
{
	struct sched_config c = plain;
	struct fixture f;
	uint32_t a, b;

	c.policy = SCHED_PRIORITY;
	f = open_with(&c, 24, false);
	b = add(&f, 40, 3, 9);
	plan_commit(&f);
	{
		int32_t ids[64];
		struct sched_request r = prompt(ids, 1, 31, 1);
		struct error err;

		r.priority = -1;
		assert_int_equal(sched_submit(f.s, &r, &a, &err), OK);
	}
	plan(&f);
	gave(&f, b, 0, 1);
	gave(&f, a, 15, 0);
	commit(&f);
	plan(&f);
	assert_int_equal(sched_slices(f.s)[0].slot, a);
	gave(&f, a, 15, 0);
	gave(&f, b, 0, 1);
	commit(&f);
	close_it(&f);
}

static void test_threshold(void **state)
{
	struct sched_config c = plain;
	struct fixture f;
	uint32_t a, b;

	c.long_prefill_threshold = 5;
	f = open_with(&c, 24, false);
	a = add(&f, 1, 20, 9);
	b = add(&f, 40, 10, 9);
	plan(&f);
	gave(&f, a, 5, 0);
	gave(&f, b, 5, 0);
	commit(&f);
	close_it(&f);
}

/* Without chunks a prompt waits for a step that has room for all of it, and nobody passes it. */
static void test_whole_prompts(void **state)
{
	struct sched_config c = plain;
	struct fixture f;
	uint32_t a, b, d;

	c.chunked_prefill = false;
	c.max_num_batched_tokens = c.max_outputs = 32;
	f = open_with(&c, 24, false);
	a = add(&f, 1, 20, 9);
	b = add(&f, 40, 13, 9);
	d = add(&f, 60, 2, 9);
	plan(&f);
	gave(&f, a, 20, 0);
	gave(&f, b, 0, 0);
	gave(&f, d, 0, 0);
	commit(&f);
	plan(&f);
	gave(&f, a, 0, 1);
	gave(&f, b, 13, 0);
	gave(&f, d, 2, 0);
	commit(&f);
	close_it(&f);
}

/* Who does not fit into the cache blocks those behind, even small ones. */
static void test_head_of_line(void **state)
{
	struct fixture f = open_with(&plain, 8, false);
	uint32_t a = add(&f, 1, 12, 4), b = add(&f, 40, 24, 1), c = add(&f, 60, 2, 1);

	plan(&f);
	gave(&f, a, 12, 0);
	gave(&f, b, 0, 0);
	gave(&f, c, 0, 0);
	commit(&f);
	for (int i = 0; i < 3; i++)
		plan_commit(&f);
	assert_int_equal(info(&f, a).finish, SCHED_LENGTH);
	plan(&f);
	gave(&f, b, 16, 0);
	gave(&f, c, 0, 0); /* the step is full */
	commit(&f);
	plan(&f);
	gave(&f, b, 8, 0);
	gave(&f, c, 2, 0);
	commit(&f);
	assert_int_equal(info(&f, b).state, SCHED_FINISHED);
	close_it(&f);
}

/* The last of the running goes, comes back before all others, and what it had generated is computed as
 * generated, in chunks. */
/* What a blocked one had found in the cache is gone when it starts. */
static void test_blocked_hit_is_evicted(void **state)
{
	struct fixture f = open_with(&plain, 8, true);
	uint32_t first = add(&f, 100, 2 * BT + 1, 1), big, waits;

	plan_commit(&f);
	assert_int_equal(info(&f, first).state, SCHED_FINISHED);
	sched_release(f.s, first);
	big = add(&f, 200, 4 * BT, 4 * BT);
	plan_commit(&f);
	waits = add(&f, 100, 6 * BT, 1);
	while (info(&f, big).state != SCHED_FINISHED) {
		plan(&f);
		gave(&f, waits, 0, 0);
		commit(&f);
	}
	plan(&f);
	gave(&f, waits, 4 * BT, 0);
	assert_int_equal(info(&f, waits).n_cached, 0);
	commit(&f);
	close_it(&f);
}

/* What a blocked one had found is still there when it starts. */
static void test_blocked_hit_stays(void **state)
{
	struct fixture f = open_with(&plain, 9, true);
	uint32_t first = add(&f, 100, 2 * BT + 1, 1), big, waits;

	plan_commit(&f);
	sched_release(f.s, first);
	big = add(&f, 200, 4 * BT, 2 * BT);
	plan_commit(&f);
	waits = add(&f, 100, 7 * BT, 1);
	while (info(&f, big).state != SCHED_FINISHED) {
		plan(&f);
		gave(&f, waits, 0, 0);
		commit(&f);
	}
	plan(&f);
	gave(&f, waits, 4 * BT, 0);
	assert_int_equal(info(&f, waits).n_cached, 2 * BT);
	commit(&f);
	close_it(&f);
}

static void test_preemption(void **state)
{
	struct sched_config c = plain;
	struct fixture f;
	uint32_t a, b, d, known;

	c.max_num_seqs = 2;
	c.max_num_batched_tokens = 6;
	f = open_with(&c, 8, false);
	a = add(&f, 1, 6, 20);
	b = add(&f, 40, 6, 20);
	d = add(&f, 60, 2, 1);
	for (int i = 0; info(&f, b).n_preemptions == 0; i++) {
		assert_true(i < 20);
		plan_commit(&f);
	}
	assert_int_equal(info(&f, b).state, SCHED_WAITING);
	assert_int_equal(info(&f, a).state, SCHED_RUNNING);
	assert_int_equal(info(&f, d).n_computed, 0);
	assert_int_equal(sched_get_stats(f.s).preemptions, 1);
	known = info(&f, b).n_known;
	assert_true(known > 12);
	while (info(&f, a).state == SCHED_RUNNING)
		plan_commit(&f);
	assert_int_equal(info(&f, b).n_computed, 0);
	plan(&f);
	gave(&f, b, 6, 0);
	gave(&f, d, 0, 0);
	commit(&f);
	plan(&f);
	gave(&f, b, 0, 6);
	commit(&f);
	assert_int_equal(info(&f, b).n_known, known);
	assert_int_equal(info(&f, b).n_computed, 12);
	while (sched_get_stats(f.s).running + sched_get_stats(f.s).waiting)
		plan_commit(&f);
	assert_int_equal(sched_get_stats(f.s).prompt_tokens, 6 + 6 + 2); /* once each */
	close_it(&f);
}

static void test_priority_victim(void **state)
{
	static const int32_t priorities[] = {5, -1, 5};
	struct sched_config c = plain;
	struct fixture f;
	uint32_t slots[3];

	c.policy = SCHED_PRIORITY;
	f = open_with(&c, 8, false);
	for (int i = 0; i < 3; i++) {
		int32_t ids[64];
		struct sched_request r = prompt(ids, 1 + 20 * i, 4, 12);
		struct error err;

		r.priority = priorities[i];
		assert_int_equal(sched_submit(f.s, &r, &slots[i], &err), OK);
	}
	plan(&f);
	assert_int_equal(sched_slices(f.s)[0].slot, slots[1]);
	commit(&f);
	for (int i = 0; i < 30 && sched_get_stats(f.s).preemptions == 0; i++)
		plan_commit(&f);
	assert_int_equal(info(&f, slots[2]).n_preemptions, 1);
	assert_int_equal(info(&f, slots[1]).n_preemptions, 0);
	assert_int_equal(info(&f, slots[0]).n_preemptions, 0);
	close_it(&f);
}

/* n answers to one prompt: the prompt is computed once. A hit leaves the last token to compute. */
static void test_shared_prompt(void **state)
{
	struct fixture f = open_with(&plain, 24, true);
	uint32_t a = add(&f, 1, 12, 9), b = add(&f, 1, 12, 9), c = add(&f, 1, 12, 9);
	struct sched_stats st;

	plan(&f);
	gave(&f, a, 12, 0);
	gave(&f, b, 0, 0);
	commit(&f);
	plan(&f);
	gave(&f, a, 0, 1);
	gave(&f, b, 4, 0);
	gave(&f, c, 4, 0);
	commit(&f);
	assert_int_equal(info(&f, b).n_cached, 8);
	assert_memory_equal(info(&f, a).table->blocks, info(&f, b).table->blocks, 2 * sizeof(int32_t));
	assert_int_not_equal(info(&f, a).table->blocks[2], info(&f, b).table->blocks[2]);
	st = sched_get_stats(f.s);
	assert_int_equal(st.prefix_query_tokens, 36);
	assert_int_equal(st.prefix_hit_tokens, 16);
	assert_int_equal(st.prompt_tokens, 12 + 4 + 4);
	close_it(&f);
}

/* Whoever has another beginning passes one that is set aside. */
static void test_set_aside_does_not_block(void **state)
{
	struct fixture f = open_with(&plain, 24, true);
	uint32_t a = add(&f, 1, 8, 9), b = add(&f, 1, 9, 9), c = add(&f, 50, 5, 9);

	plan(&f);
	gave(&f, a, 8, 0);
	gave(&f, b, 0, 0);
	gave(&f, c, 5, 0);
	commit(&f);
	plan(&f);
	gave(&f, b, 1, 0);
	commit(&f);
	close_it(&f);
}

/* Generated tokens never serve a prompt, even if it is the same text. */
static void test_generated_is_not_shared(void **state)
{
	struct fixture f = open_with(&plain, 24, true);
	int32_t ids[64];
	struct sched_request r;
	uint32_t a = add(&f, 1, 6, 12), b;
	struct error err;

	while (info(&f, a).state != SCHED_FINISHED)
		plan_commit(&f);
	r = prompt(ids, 1, 18, 1);
	memcpy(ids, info(&f, a).ids, sizeof(*ids) * 18);
	assert_int_equal(sched_submit(f.s, &r, &b, &err), OK);
	plan_commit(&f);
	assert_int_equal(info(&f, b).n_cached, 4);
	close_it(&f);
}

static void test_salt_rows_and_last_hit(void **state)
{
	struct sched_config c = plain;
	struct fixture f;
	struct sched_request r;
	uint32_t slot;
	int32_t ids[64];
	struct error err;

	c.drop_last_hit = true;
	f = open_with(&c, 24, true);
	add(&f, 1, 12, 1);
	plan_commit(&f);
	r = prompt(ids, 1, 12, 1);
	assert_int_equal(sched_submit(f.s, &r, &slot, &err), OK);
	plan_commit(&f);
	assert_int_equal(info(&f, slot).n_cached, 4); /* 8 without the last block */
	r.cache_salt = "x";
	r.cache_salt_bytes = 1;
	assert_int_equal(sched_submit(f.s, &r, &slot, &err), OK);
	plan_commit(&f);
	assert_int_equal(info(&f, slot).n_cached, 0);
	r.cache_salt_bytes = 0;
	r.prompt_rows = true;
	assert_int_equal(sched_submit(f.s, &r, &slot, &err), OK);
	plan(&f);
	assert_int_equal(sched_slices(f.s)[0].n_prompt_rows, 12);
	assert_int_equal(sched_slices(f.s)[0].n_samples, 1);
	assert_int_equal(((const struct batch *)f.mem)->n_outputs, 12);
	commit(&f);
	assert_int_equal(sched_get_stats(f.s).prefix_query_tokens, 36);
	close_it(&f);
}

/* Rows of before a reset are not published after it. */
static void test_reset(void **state)
{
	struct fixture f = open_with(&plain, 24, true);
	uint32_t a = add(&f, 1, 20, 2), b;

	plan_commit(&f);
	kv_prefix_reset(f.index);
	plan_commit(&f);
	plan_commit(&f);
	assert_int_equal(info(&f, a).state, SCHED_FINISHED);
	assert_int_equal(kv_prefix_get_stats(f.index).n_blocks, 0);
	b = add(&f, 1, 20, 2);
	plan_commit(&f);
	assert_int_equal(info(&f, b).n_cached, 0);
	close_it(&f);
}

/* 1 + k tokens; the cache goes back over refused ones; none behind the end. */
static void test_drafts(void **state)
{
	static const int32_t drafts[] = {7, 7, 9, 9}, said[] = {7, 7, 5};
	struct sched_config c = plain;
	struct sched_result r = {.tokens = said, .n_tokens = 3};
	struct fixture f;
	uint32_t a;

	c.max_drafts = 4;
	c.lookahead_tokens = 1;
	f = open_with(&c, 24, false);
	a = add(&f, 1, 6, 8);
	assert_int_equal(sched_set_drafts(f.s, a, drafts, 4), 0); /* not sampled yet */
	plan_commit(&f);
	assert_int_equal(sched_set_drafts(f.s, a, drafts, 4), 4);
	plan(&f);
	gave(&f, a, 0, 5);
	assert_int_equal(sched_slices(f.s)[0].n_samples, 5);
	assert_int_equal(info(&f, a).table->n_blocks, 3);
	sched_commit(f.s, &r);
	assert_int_equal(info(&f, a).n_known, 10);
	assert_int_equal(info(&f, a).n_computed, 9);
	assert_int_equal(info(&f, a).ids[9], 5);
	assert_int_equal(sched_get_stats(f.s).drafts, 4);
	assert_int_equal(sched_get_stats(f.s).drafts_accepted, 2);
	/* 14 tokens end it: 4 more, of which drafts can be 3. */
	assert_int_equal(sched_set_drafts(f.s, a, drafts, 4), 3);
	r.n_tokens = 1;
	plan(&f);
	gave(&f, a, 0, 4);
	assert_int_equal(info(&f, a).table->n_blocks, 4);
	sched_commit(f.s, &r);
	assert_int_equal(info(&f, a).n_computed, 10);
	assert_int_equal(info(&f, a).table->n_blocks, 3);
	close_it(&f);
}

/* Drafts give way before another sequence does. */
static void test_drafts_do_not_preempt(void **state)
{
	static const int32_t drafts[] = {9, 9, 9, 9};
	struct sched_config c = plain;
	struct fixture f;
	uint32_t a, b;

	c.max_drafts = 4;
	f = open_with(&c, 8, false);
	a = add(&f, 1, 14, 8);
	plan_commit(&f);
	b = add(&f, 40, 14, 8);
	plan_commit(&f);
	assert_int_equal(info(&f, a).n_computed, 15);
	assert_int_equal(sched_set_drafts(f.s, a, drafts, 4), 4);
	plan(&f);
	gave(&f, a, 0, 1);
	gave(&f, b, 0, 1);
	commit(&f);
	assert_int_equal(sched_get_stats(f.s).preemptions, 0);
	close_it(&f);
}

static void test_ends(void **state)
{
	static const int32_t token = TOKEN;
	struct sched_result r[3] = {{0}, {0}, {0}};
	struct fixture f = open_with(&plain, 24, false);
	uint32_t a = add(&f, 1, 3, 9), b = add(&f, 10, 3, 1), c = add(&f, 20, 3, 9),
		 d = add(&f, 30, 30, 99);

	plan(&f);
	for (int i = 0; i < 3; i++)
		r[i] = (struct sched_result){.tokens = &token, .n_tokens = 1};
	r[0].stop = true;
	sched_cancel(f.s, c);
	assert_int_equal(info(&f, c).state, SCHED_RUNNING);
	{
		struct sched_result all[4] = {r[0], r[1], r[2], {0}};

		sched_commit(f.s, all);
	}
	assert_int_equal(info(&f, a).finish, SCHED_STOP);
	assert_int_equal(info(&f, b).finish, SCHED_LENGTH);
	assert_int_equal(info(&f, c).finish, SCHED_CANCELLED);
	assert_int_equal(info(&f, c).n_known, 3);
	while (info(&f, d).state != SCHED_FINISHED)
		plan_commit(&f);
	assert_int_equal(info(&f, d).n_known, 32); /* max_model_len */
	sched_release(f.s, a);
	assert_int_equal(add(&f, 1, 3, 9), a);
	close_it(&f);
}

/* A step that failed leaves everything as it was. */
static void test_rollback(void **state)
{
	struct fixture f = open_with(&plain, 24, true);
	uint32_t a = add(&f, 1, 12, 9);

	plan(&f);
	sched_rollback(f.s);
	assert_int_equal(info(&f, a).n_computed, 0);
	assert_int_equal(kv_prefix_get_stats(f.index).n_blocks, 0);
	plan(&f);
	gave(&f, a, 12, 0);
	commit(&f);
	assert_int_equal(info(&f, a).n_known, 13);
	close_it(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_refused_requests),
		cmocka_unit_test(test_queue_caps),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_all_running_advance),
		cmocka_unit_test(test_threshold),
		cmocka_unit_test(test_whole_prompts),
		cmocka_unit_test(test_head_of_line),
		cmocka_unit_test(test_blocked_hit_is_evicted),
		cmocka_unit_test(test_blocked_hit_stays),
		cmocka_unit_test(test_preemption),
		cmocka_unit_test(test_priority_victim),
		cmocka_unit_test(test_shared_prompt),
		cmocka_unit_test(test_set_aside_does_not_block),
		cmocka_unit_test(test_generated_is_not_shared),
		cmocka_unit_test(test_salt_rows_and_last_hit),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_drafts),
		cmocka_unit_test(test_drafts_do_not_preempt),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_rollback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
