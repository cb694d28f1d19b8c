/*
 * The scheduler under thousands of random requests, cancels, failed steps and resets, in caches so small
 * that it must preempt, with a model whose cache rows are hashes.
 *
 * Row p of a sequence is a function of row p - 1, read through the batch's block table, of the token, the
 * position and the form (prompt or generated). A row read from the wrong block, overwritten too early,
 * computed in the other form or from other tokens thus changes every later token, and each sequence is
 * compared with the one computed alone. The whole past of a chunk is compared, too.
 */
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cm.h"
#include "base/random.h"
#include "sched/sched.h"

#define VOCAB 40
#define STOP 0
#define MAX_LEN 96u
#define SLOTS 48u
#define ROUNDS 400
#define STEPS 160

/* Calls of the allocator while `armed`; the linker sends them here. */
static bool armed;
static uint64_t n_alloc_calls, n_live_bytes;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

void *__wrap_malloc(size_t n)
{
	void *p = __real_malloc(n);

	n_alloc_calls += armed;
	n_live_bytes += malloc_usable_size(p);
	return p;
}

void *__wrap_calloc(size_t n, size_t size)
{
	void *p = __real_calloc(n, size);

	n_alloc_calls += armed;
	n_live_bytes += malloc_usable_size(p);
	return p;
}

void *__wrap_realloc(void *p, size_t n)
{
	n_alloc_calls += armed;
	n_live_bytes -= malloc_usable_size(p);
	p = __real_realloc(p, n);
	n_live_bytes += malloc_usable_size(p);
	return p;
}

void __wrap_free(void *p)
{
	n_alloc_calls += armed;
	n_live_bytes -= malloc_usable_size(p);
	__real_free(p);
}

/* A sequence as it is alone. */
struct request {
	bool live;
	bool cancelled;
	bool prompt_rows;
	uint32_t n_prompt;
	uint32_t n_ids; /* when it has ended */
	uint32_t n_rows_done;
	uint32_t n_seen;   /* known tokens, which never get fewer */
	uint32_t n_missed; /* steps since it was last in a batch */
	uint64_t arrival;
	int32_t ids[MAX_LEN];
	uint64_t rows[MAX_LEN];
};

struct totals {
	uint64_t requests, preemptions, hits, accepted, rejected, cancels, set_aside, rollbacks, refused,
		prompt_rows;
};

struct world {
	uint64_t seed;
	uint64_t counter;
	struct sched_config config;
	uint32_t block_tokens;
	uint32_t n_blocks;
	struct kv_pool *pool;
	struct kv_prefix_index *index;
	struct sched *s;
	struct batch_limits limits;
	void *mem;
	uint64_t *cache; /* [n_blocks * block_tokens] */
	struct request req[SLOTS];
	uint64_t arrivals;
	uint64_t prompts, prompts_done; /* tokens of all prompts; of those that were not cancelled */
	struct totals *sum;
};

static uint32_t dice(struct world *w, uint32_t n)
{
	return (uint32_t)(random_u64(w->seed, w->counter++) % n);
}

static uint64_t next_row(uint64_t before, int32_t token, uint32_t pos, bool prompt)
{
	return random_u64(before ^ ((uint64_t)pos << 32 | (uint32_t)token), prompt);
}

static int32_t sample(uint64_t row)
{
	return (int32_t)((row >> 20) % VOCAB);
}

/* Its tokens and rows when nobody else is there. */
static void compute_alone(struct request *r, uint32_t cap)
{
	uint64_t row = 0;
	uint32_t n = r->n_prompt;

	for (uint32_t p = 0; p < cap; p++) {
		r->rows[p] = row = next_row(row, r->ids[p], p, p < r->n_prompt);
		if (p + 1 < r->n_prompt)
			continue;
		if (n == cap || (n > r->n_prompt && r->ids[n - 1] == STOP))
			break;
		r->ids[n++] = sample(row);
	}
	r->n_ids = n;
}

static struct sched_config random_config(struct world *w)
{
	struct sched_config c = {
		.policy = dice(w, 2) ? SCHED_FCFS : SCHED_PRIORITY,
		.max_model_len = 8 + dice(w, MAX_LEN - 8),
		.max_num_seqs = 1 + dice(w, 9),
		.chunked_prefill = dice(w, 4) != 0,
		.max_drafts = dice(w, 5),
		.lookahead_tokens = dice(w, 4),
		.drop_last_hit = dice(w, 3) == 0,
		.max_requests = SLOTS,
		.max_queued_reqs = dice(w, 3) ? 0 : 1 + dice(w, 10),
		.max_queued_tokens = dice(w, 3) ? 0 : 50 + dice(w, 200),
	};
	uint32_t rows;

	c.max_num_batched_tokens = c.max_num_seqs + dice(w, 40);
	if (!c.chunked_prefill && c.max_num_batched_tokens < c.max_model_len)
		c.max_num_batched_tokens = c.max_model_len + dice(w, 20);
	if (c.chunked_prefill && dice(w, 3) == 0)
		c.long_prefill_threshold = 1 + dice(w, 12);
	rows = c.max_num_seqs * (1 + c.max_drafts);
	if (rows > c.max_num_batched_tokens)
		rows = c.max_num_batched_tokens;
	c.max_outputs = rows + (dice(w, 2) ? dice(w, 4) : 200);
	return c;
}

static void world_open(struct world *w)
{
	struct kv_pool_config pc = {.n_layers = 1, .kv_lora = 32, .rope = 32};
	struct error err;

	w->config = random_config(w);
	w->block_tokens = 1u << dice(w, 5);
	w->n_blocks = (w->config.max_model_len + w->block_tokens - 1) / w->block_tokens;
	w->n_blocks += dice(w, 2 * w->n_blocks + 1);
	pc.n_blocks = w->n_blocks;
	pc.block_tokens = w->block_tokens;
	assert_int_equal(kv_pool_create(&w->pool, &pc, &err), OK);
	if (dice(w, 5))
		assert_int_equal(kv_prefix_create(&w->index, w->pool, "t", 1, &err), OK);
	if (sched_create(&w->s, &w->config, w->pool, w->index, &err) != OK)
		fail_msg("%s", err.msg);
	w->limits = sched_batch_limits(w->s);
	w->mem = calloc(1, batch_bytes(&w->limits));
	w->cache = calloc((size_t)w->n_blocks * w->block_tokens, sizeof(*w->cache));
}

static void world_close(struct world *w)
{
	assert_int_equal(kv_pool_free_blocks(w->pool), w->n_blocks);
	for (uint32_t b = 0; b < w->n_blocks; b++)
		assert_int_equal(kv_block_refs(w->pool, (int32_t)b), 0);
	sched_destroy(w->s);
	kv_prefix_destroy(w->index);
	kv_pool_destroy(w->pool);
	free(w->mem);
	free(w->cache);
}

/* Prompts come from a few families, so that beginnings are shared. */
static void submit(struct world *w)
{
	static const char *const salts[] = {"", "a", "b"};
	struct request r = {.live = true};
	const char *salt = salts[dice(w, 8) ? 0 : dice(w, 3)];
	uint32_t len = w->config.max_model_len, family = dice(w, 3), keep, slot, max_tokens, cap;
	struct sched_request q;
	struct error err;

	r.n_prompt = 1 + dice(w, len - 1);
	keep = dice(w, r.n_prompt + 1);
	for (uint32_t i = 0; i < r.n_prompt; i++)
		r.ids[i] = (int32_t)(i < keep ? random_u64(family, i) % VOCAB : dice(w, VOCAB));
	max_tokens = dice(w, 10) ? 1 + dice(w, len) : UINT32_MAX;
	cap = max_tokens < len - r.n_prompt ? r.n_prompt + max_tokens : len;
	r.prompt_rows = dice(w, 8) == 0;
	q = (struct sched_request){
		.prompt = r.ids,
		.n_prompt = r.n_prompt,
		.max_tokens = max_tokens,
		.priority = w->config.policy == SCHED_PRIORITY ? (int32_t)dice(w, 3) - 1 : 0,
		.cache_salt = salt,
		.cache_salt_bytes = strlen(salt),
		.prompt_rows = r.prompt_rows,
	};
	/* Copies of one prompt, as for n answers. */
	for (uint32_t n = dice(w, 6) ? 1 : 3; n > 0; n--) {
		if (sched_submit(w->s, &q, &slot, &err) != OK) {
			assert_true(err.code == E_LIMIT);
			w->sum->refused++;
			return;
		}
		assert_true(slot < SLOTS && !w->req[slot].live);
		w->req[slot] = r;
		w->req[slot].arrival = w->arrivals++;
		compute_alone(&w->req[slot], cap);
		w->prompts += r.n_prompt;
		w->sum->requests++;
	}
}

/* One chunk through the model. The past in the cache must be what it is alone. */
static void forward(struct world *w, const struct batch *b, uint32_t i)
{
	const struct batch_seq *q = &batch_seqs(b)[i];
	const struct request *r = &w->req[sched_slices(w->s)[i].slot];
	const int32_t *blocks = batch_blocks(b) + q->block0;
	uint32_t n = q->n_prompt + q->n_generated;
	uint64_t row = 0;

	assert_int_equal(sched_slices(w->s)[i].n_tokens, n);
	if (q->n_prompt)
		assert_true(q->pos0 + q->n_prompt <= r->n_prompt);
	if (q->n_generated)
		assert_true(q->pos0 + q->n_prompt >= r->n_prompt);
	for (uint32_t p = 0; p < q->pos0 + n; p++) {
		uint64_t *at = &w->cache[(size_t)blocks[p / w->block_tokens] * w->block_tokens +
			p % w->block_tokens];

		if (p < q->pos0)
			assert_true(*at == r->rows[p]);
		else
			*at = next_row(row, batch_tokens(b)[q->token0 + p - q->pos0], p,
				p - q->pos0 < q->n_prompt);
		row = *at;
	}
}

static uint64_t output_row(struct world *w, const struct batch *b, uint32_t i, uint32_t output)
{
	const struct batch_seq *q = &batch_seqs(b)[i];
	uint32_t p = q->pos0 + batch_outputs(b)[output] - q->token0;

	assert_true(p < q->pos0 + q->n_prompt + q->n_generated);
	return w->cache[(size_t)batch_blocks(b)[q->block0 + p / w->block_tokens] * w->block_tokens +
		p % w->block_tokens];
}

static void check_batch(struct world *w, const struct batch *b, uint32_t n)
{
	bool seen[SLOTS] = {false};
	uint32_t n_outputs = 0;
	struct error err;

	assert_int_equal(b->n_seqs, n);
	assert_true(n <= w->config.max_num_seqs);
	assert_true(b->n_tokens <= w->config.max_num_batched_tokens);
	assert_true(sched_get_stats(w->s).running <= w->config.max_num_seqs);
	assert_int_equal(batch_check(b, batch_bytes(&w->limits), VOCAB, w->n_blocks, w->block_tokens, &err),
		OK);
	for (uint32_t i = 0; i < n; i++) {
		const struct sched_slice *slice = &sched_slices(w->s)[i];
		struct request *r = &w->req[slice->slot];

		assert_true(slice->slot < SLOTS && r->live && !seen[slice->slot]);
		seen[slice->slot] = true;
		assert_int_equal(slice->output0, n_outputs);
		n_outputs += slice->n_prompt_rows > slice->n_samples ? slice->n_prompt_rows
								     : slice->n_samples;
		r->n_missed = 0;
		forward(w, b, i);
	}
	assert_int_equal(n_outputs, b->n_outputs);
}

/* Who came first, under FCFS, is in every batch, or computes nothing that another is not computing. */
static void check_starvation(struct world *w)
{
	struct request *first = NULL;

	if (w->config.policy != SCHED_FCFS)
		return;
	for (uint32_t i = 0; i < SLOTS; i++)
		if (w->req[i].live && (!first || w->req[i].arrival < first->arrival))
			first = &w->req[i];
	if (!first)
		return;
	if (first->n_missed)
		assert_non_null(w->index);
	w->sum->set_aside += first->n_missed > 0;
	first->n_missed++;
	assert_true(first->n_missed <= 2 * MAX_LEN);
}

static void check_prompt_rows(
	struct world *w, const struct batch *b, uint32_t i, const struct sched_slice *slice)
{
	struct request *r = &w->req[slice->slot];

	if (!slice->n_prompt_rows)
		return;
	assert_true(r->prompt_rows);
	assert_int_equal(slice->prompt_row0, r->n_rows_done);
	for (uint32_t j = 0; j < slice->n_prompt_rows; j++)
		assert_true(output_row(w, b, i, slice->output0 + j) == r->rows[slice->prompt_row0 + j]);
	r->n_rows_done += slice->n_prompt_rows;
	w->sum->prompt_rows += slice->n_prompt_rows;
}

/* Samples the last rows as long as the drafts were right. tokens: [1 + SCHED_MAX_DRAFTS]. */
static struct sched_result sample_slice(
	struct world *w, const struct batch *b, uint32_t i, int32_t *tokens)
{
	const struct sched_slice *slice = &sched_slices(w->s)[i];
	const struct batch_seq *q = &batch_seqs(b)[i];
	struct sched_result r = {.tokens = tokens};
	uint32_t n = slice->n_samples, end = q->token0 + slice->n_tokens,
		 n_outputs = slice->n_prompt_rows > n ? slice->n_prompt_rows : n;

	for (uint32_t j = 0; j < n; j++) {
		tokens[r.n_tokens++] =
			sample(output_row(w, b, i, slice->output0 + n_outputs - n + j));
		r.stop = tokens[j] == STOP;
		if (r.stop || (j + 1 < n && batch_tokens(b)[end - n + 1 + j] != tokens[j]))
			break;
	}
	w->sum->accepted += r.n_tokens ? r.n_tokens - 1 : 0;
	w->sum->rejected += n - r.n_tokens;
	return r;
}

static void propose(struct world *w, uint32_t slot)
{
	struct sched_seq_info info = sched_seq_get(w->s, slot);
	int32_t drafts[SCHED_MAX_DRAFTS];
	uint32_t n = dice(w, 6), got;

	for (uint32_t i = 0; i < n; i++) {
		bool right = dice(w, 3) && info.n_known + i < w->req[slot].n_ids;

		drafts[i] = right ? w->req[slot].ids[info.n_known + i] : (int32_t)dice(w, VOCAB);
	}
	got = sched_set_drafts(w->s, slot, drafts, n);
	assert_true(got <= n && got <= w->config.max_drafts);
}

static void collect(struct world *w)
{
	for (uint32_t i = 0; i < SLOTS; i++) {
		struct request *r = &w->req[i];
		struct sched_seq_info info;

		if (!r->live)
			continue;
		info = sched_seq_get(w->s, i);
		assert_int_equal(info.n_prompt, r->n_prompt);
		assert_true(info.n_known <= r->n_ids && info.n_known >= r->n_seen);
		r->n_seen = info.n_known;
		assert_memory_equal(info.ids, r->ids, sizeof(*r->ids) * info.n_known);
		if (info.state != SCHED_FINISHED)
			continue;
		if (info.finish == SCHED_CANCELLED) {
			assert_true(r->cancelled);
		} else {
			assert_int_equal(info.n_known, r->n_ids);
			assert_true(info.finish == SCHED_LENGTH || r->ids[r->n_ids - 1] == STOP);
			w->prompts_done += r->n_prompt;
			if (r->prompt_rows)
				assert_int_equal(r->n_rows_done, r->n_prompt);
		}
		sched_release(w->s, i);
		r->live = false;
	}
}

static void cancel_one(struct world *w)
{
	uint32_t slot = dice(w, SLOTS);

	if (!w->req[slot].live)
		return;
	w->req[slot].cancelled = true;
	sched_cancel(w->s, slot);
	w->sum->cancels++;
}

static void step(struct world *w)
{
	static int32_t tokens[SLOTS][1 + SCHED_MAX_DRAFTS];
	struct sched_result results[SLOTS];
	uint64_t preemptions = sched_get_stats(w->s).preemptions;
	uint32_t n, live = 0;

	armed = true;
	n = sched_plan(w->s, w->mem);
	armed = false;
	for (uint32_t i = 0; i < SLOTS; i++)
		live += w->req[i].live;
	assert_true(n > 0 || live == 0);
	if (sched_get_stats(w->s).preemptions != preemptions) /* then nobody is admitted */
		for (uint32_t i = 0; i < n; i++)
			assert_false(sched_slices(w->s)[i].first);
	check_batch(w, w->mem, n);
	check_starvation(w);
	if (n && dice(w, 40) == 0) {
		if (dice(w, 2))
			cancel_one(w);
		sched_rollback(w->s);
		w->sum->rollbacks++;
		collect(w);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		check_prompt_rows(w, w->mem, i, &sched_slices(w->s)[i]);
		results[i] = sample_slice(w, w->mem, i, tokens[i]);
	}
	if (dice(w, 20) == 0)
		cancel_one(w);
	armed = true;
	sched_commit(w->s, results);
	armed = false;
	collect(w);
	for (uint32_t i = 0; i < n; i++)
		if (w->req[sched_slices(w->s)[i].slot].live)
			propose(w, sched_slices(w->s)[i].slot);
}

static void run_round(uint64_t seed, struct totals *sum)
{
	struct world *w = calloc(1, sizeof(*w));
	struct sched_stats stats;
	uint32_t more = 0;

	w->seed = seed;
	w->sum = sum;
	world_open(w);
	for (uint32_t i = 0; i < STEPS; i++) {
		if (dice(w, 4) == 0)
			for (uint32_t n = dice(w, 5); n > 0; n--)
				submit(w);
		if (dice(w, 12) == 0)
			cancel_one(w);
		if (w->index && dice(w, 60) == 0)
			kv_prefix_reset(w->index);
		collect(w);
		step(w);
	}
	do {
		step(w);
		assert_true(++more < 100000);
		stats = sched_get_stats(w->s);
	} while (stats.running + stats.waiting > 0);
	collect(w);
	assert_true(stats.waiting_tokens == 0 && stats.kv_usage == 0);
	assert_true(stats.prefix_hit_tokens <= stats.prefix_query_tokens);
	assert_true(stats.prompt_tokens + stats.prefix_hit_tokens >= w->prompts_done);
	assert_true(stats.prompt_tokens + stats.prefix_hit_tokens <= w->prompts);
	sum->preemptions += stats.preemptions;
	sum->hits += stats.prefix_hit_tokens;
	world_close(w);
	free(w);
}

static void test_property(void **state)
{
	struct totals t = {0};

	for (uint64_t seed = 1; seed <= ROUNDS; seed++)
		run_round(seed, &t);
	print_message("requests %llu refused %llu cancelled %llu preempted %llu set aside %llu hits %llu "
		      "accepted %llu rejected %llu rollbacks %llu prompt rows %llu\n",
		(unsigned long long)t.requests, (unsigned long long)t.refused,
		(unsigned long long)t.cancels, (unsigned long long)t.preemptions,
		(unsigned long long)t.set_aside, (unsigned long long)t.hits,
		(unsigned long long)t.accepted, (unsigned long long)t.rejected,
		(unsigned long long)t.rollbacks, (unsigned long long)t.prompt_rows);
	/* The rounds met what they are for. */
	assert_true(t.requests > 5000 && t.preemptions > 1000 && t.hits > 10000 && t.cancels > 1000);
	assert_true(t.accepted > 1000 && t.rejected > 1000 && t.rollbacks > 100 && t.refused > 100);
	assert_true(t.prompt_rows > 1000 && t.set_aside > 10);
	assert_int_equal(n_alloc_calls, 0);
}

/* A slot's memory serves the next request in it; only a larger one allocates. */
static void test_slot_memory(void **state)
{
	struct kv_pool_config pc = {.n_layers = 1, .n_blocks = 4096, .block_tokens = 4, .kv_lora = 32, .rope = 32};
	struct sched_config c = {.max_model_len = 8192, .max_num_seqs = 4, .max_num_batched_tokens = 64,
		.max_outputs = 64, .chunked_prefill = true, .max_requests = 4};
	static const uint32_t lengths[] = {900, 10, 500, 2000, 1500};
	static const bool allocates[] = {true, false, false, true, false};
	static int32_t ids[2000];
	struct kv_prefix_index *index;
	struct kv_pool *pool;
	struct sched *s;
	struct error err;

	assert_int_equal(kv_pool_create(&pool, &pc, &err), OK);
	assert_int_equal(kv_prefix_create(&index, pool, NULL, 0, &err), OK);
	assert_int_equal(sched_create(&s, &c, pool, index, &err), OK);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		struct sched_request r = {.prompt = ids, .n_prompt = lengths[i], .max_tokens = 1};
		uint64_t before = n_alloc_calls;
		uint32_t slot;

		armed = true;
		assert_int_equal(sched_submit(s, &r, &slot, &err), OK);
		sched_cancel(s, slot);
		sched_release(s, slot);
		armed = false;
		assert_int_equal(n_alloc_calls > before, allocates[i]);
	}
	n_alloc_calls = 0;
	sched_destroy(s);
	kv_prefix_destroy(index);
	kv_pool_destroy(pool);
}

/* A crowd of large requests leaves no more behind than the sequences of one step take. */
static void test_idle_memory(void **state)
{
	struct kv_pool_config pc = {.n_layers = 1, .n_blocks = 4096, .block_tokens = 4, .kv_lora = 32, .rope = 32};
	struct sched_config c = {.max_model_len = 8192, .max_num_seqs = 4, .max_num_batched_tokens = 64,
		.max_outputs = 64, .chunked_prefill = true, .max_requests = 256};
	size_t one = sched_seq_bytes(c.max_model_len, pc.block_tokens);
	static int32_t ids[8000];
	struct sched_request r = {.prompt = ids, .n_prompt = 8000, .max_tokens = 1};
	struct kv_prefix_index *index;
	struct kv_pool *pool;
	struct sched *s;
	struct error err;
	uint32_t slots[256];
	uint64_t before;

	assert_int_equal(kv_pool_create(&pool, &pc, &err), OK);
	assert_int_equal(kv_prefix_create(&index, pool, NULL, 0, &err), OK);
	assert_int_equal(sched_create(&s, &c, pool, index, &err), OK);
	before = n_live_bytes;
	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 256; i++)
			assert_int_equal(sched_submit(s, &r, &slots[i], &err), OK);
		assert_true(n_live_bytes - before > 256 * one / 3);
		for (uint32_t i = 0; i < 256; i++) {
			sched_cancel(s, slots[i]);
			sched_release(s, slots[i]);
		}
		assert_int_equal(sched_submit(s, &r, &slots[0], &err), OK);
		assert_true(n_live_bytes - before <= 5 * one);
		sched_cancel(s, slots[0]);
		sched_release(s, slots[0]);
	}
	sched_destroy(s);
	kv_prefix_destroy(index);
	kv_pool_destroy(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_property),
		cmocka_unit_test(test_idle_memory),
		cmocka_unit_test(test_slot_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
