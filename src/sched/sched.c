/*
 * A scheduler's life and its requests' (sched/sched.h). What a request may need is there when it is submitted, so
 * that steps allocate nothing. The memory belongs to the slot: the next request in it allocates only what it needs
 * beyond the largest before it, and the slot that became free last is the next one. What free slots hold is bounded;
 * those that have been free for longest lose theirs, in sched_submit(), which may call the allocator.
 */
#include "sched/sched.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sched/sched_int.h"

static enum status check_steps(const struct sched_config *c, struct error *err)
{
	if (!c->max_model_len || !c->max_num_seqs || c->max_num_seqs > SCHED_MAX_REQUESTS)
		return error_set(err, E_INVAL, "--max-model-len %u, --max-num-seqs %u: expected at least 1 "
			"and no more than %u sequences", c->max_model_len, c->max_num_seqs, SCHED_MAX_REQUESTS);
	if (c->max_num_batched_tokens < c->max_num_seqs)
		return error_set(err, E_INVAL, "--max-num-batched-tokens %u: expected at least --max-num-seqs, "
			"which is %u", c->max_num_batched_tokens, c->max_num_seqs);
	if (!c->chunked_prefill && c->max_num_batched_tokens < c->max_model_len)
		return error_set(err, E_INVAL, "--no-enable-chunked-prefill: --max-num-batched-tokens is %u, "
			"expected at least --max-model-len, which is %u", c->max_num_batched_tokens,
			c->max_model_len);
	if (!c->chunked_prefill && c->long_prefill_threshold)
		return error_set(err, E_INVAL,
			"--long-prefill-token-threshold %u: needs --enable-chunked-prefill",
			c->long_prefill_threshold);
	if (c->max_drafts > SCHED_MAX_DRAFTS)
		return error_set(err, E_INVAL, "%u speculative tokens, expected at most %u", c->max_drafts,
			SCHED_MAX_DRAFTS);
	if (c->max_requests < c->max_num_seqs || c->max_requests > SCHED_MAX_REQUESTS)
		return error_set(err, E_INVAL, "room for %u requests, expected %u (--max-num-seqs) to %u",
			c->max_requests, c->max_num_seqs, SCHED_MAX_REQUESTS);
	return OK;
}

/* Output rows that a step needs when no prompt wants its own. */
static uint32_t sample_rows(const struct sched_config *c)
{
	uint64_t rows = (uint64_t)c->max_num_seqs * (1 + c->max_drafts);

	return rows < c->max_num_batched_tokens ? (uint32_t)rows : c->max_num_batched_tokens;
}

static enum status check_sizes(const struct sched *s, struct error *err)
{
	const struct sched_config *c = &s->config;
	uint32_t have = kv_pool_get_config(s->pool)->n_blocks,
		 need = kv_table_blocks_for(s->pool, c->max_model_len);
	uint64_t blocks = (uint64_t)need * c->max_num_seqs;

	if (need > have)
		return error_set(err, E_INVAL, "--max-model-len %u: one such sequence needs %u cache blocks of "
			"%u tokens, the cache has %u", c->max_model_len, need, s->block_tokens, have);
	if (c->max_outputs < sample_rows(c))
		return error_set(err, E_INVAL, "%u output rows in a step, expected at least %u",
			c->max_outputs, sample_rows(c));
	if (blocks + c->max_num_batched_tokens + c->max_outputs > (UINT32_MAX >> 4))
		return error_set(err, E_INVAL, "--max-num-seqs %u with --max-model-len %u: a step's batch "
			"would list %llu cache blocks, expected at most %u", c->max_num_seqs, c->max_model_len,
			(unsigned long long)blocks, UINT32_MAX >> 4);
	return OK;
}

/* The arrays of a slot by their elements: ids, blocks of the table, names. */
static size_t array_bytes(size_t n_ids, size_t n_blocks, size_t n_names)
{
	return n_ids * sizeof(int32_t) + n_blocks * sizeof(int32_t) + n_names * sizeof(struct kv_prefix_name);
}

size_t sched_seq_bytes(uint32_t max_model_len, uint32_t block_tokens)
{
	uint32_t blocks = (max_model_len + block_tokens - 1) / block_tokens;

	/* Arrays grow by powers of two. */
	return 2 * array_bytes(max_model_len, blocks, blocks);
}

static void free_arrays(struct sched *s, struct sched_seq *q)
{
	kv_table_deinit(&q->table, s->pool);
	free(q->ids);
	free(q->names);
	*q = (struct sched_seq){ .state = SCHED_FREE };
}

static void set_limits(struct sched *s)
{
	const struct sched_config *c = &s->config;

	s->limits = (struct batch_limits){
		.max_seqs = c->max_num_seqs,
		.max_tokens = c->max_num_batched_tokens,
		.max_blocks = kv_table_blocks_for(s->pool, c->max_model_len) * c->max_num_seqs,
		.max_outputs = c->max_outputs,
	};
	/* A step that may output all its rows needs no reserve for samples. */
	s->max_prompt_rows = c->max_outputs >= c->max_num_batched_tokens
		? c->max_outputs : c->max_outputs - sample_rows(c);
}

enum status sched_create(struct sched **out, const struct sched_config *config, struct kv_pool *pool,
	struct kv_prefix_index *index, struct error *err)
{
	struct sched *s;
	enum status st;

	TRY(check_steps(config, err));
	s = mem_alloc(sizeof(*s));
	s->config = *config;
	s->pool = pool;
	s->index = index;
	s->block_tokens = kv_pool_get_config(pool)->block_tokens;
	s->waiting.prev = s->waiting.next = &s->waiting;
	TRY_GOTO(out_free, check_sizes(s, err));
	set_limits(s);
	s->max_idle_bytes = sched_seq_bytes(config->max_model_len, s->block_tokens) * config->max_num_seqs;
	s->seqs = aligned_alloc(_Alignof(struct sched_seq), sizeof(*s->seqs) * config->max_requests);
	s->free = mem_try_alloc(config->max_requests, sizeof(*s->free));
	s->running = mem_try_alloc(config->max_num_seqs, sizeof(*s->running));
	s->slices = mem_try_alloc(config->max_num_seqs, sizeof(*s->slices));
	if (!s->seqs || !s->free || !s->running || !s->slices) {
		st = error_set(err, E_NOMEM, "no memory for %u requests", config->max_requests);
		goto out_free;
	}
	memset(s->seqs, 0, sizeof(*s->seqs) * config->max_requests);
	while (s->n_free < config->max_requests) {
		s->free[s->n_free] = config->max_requests - 1 - s->n_free;
		s->n_free++;
	}
	*out = s;
	return OK;

out_free:
	sched_destroy(s);
	return st;
}

void sched_destroy(struct sched *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; s->slices && i < s->config.max_requests; i++)
		free_arrays(s, &s->seqs[i]);
	free(s->seqs);
	free(s->free);
	free(s->running);
	free(s->slices);
	free(s);
}

struct batch_limits sched_batch_limits(const struct sched *s)
{
	return s->limits;
}

static enum status check_request(
	const struct sched *s, const struct sched_request *r, struct error *err)
{
	const struct sched_config *c = &s->config;

	if (r->n_prompt == 0)
		return error_set(err, E_INVAL, "the prompt is empty");
	if (r->n_prompt >= c->max_model_len)
		return error_set(err, E_LIMIT, "the prompt has %u tokens, the context holds %u including the "
			"answer (--max-model-len)", r->n_prompt, c->max_model_len);
	if (r->max_tokens == 0)
		return error_set(err, E_INVAL, "max_tokens is 0, expected at least 1");
	if (r->priority && c->policy != SCHED_PRIORITY)
		return error_set(err, E_INVAL, "priority is %d, which needs --scheduling-policy priority",
			r->priority);
	if (r->cache_salt_bytes > KV_PREFIX_MAX_SALT_BYTES)
		return error_set(err, E_LIMIT, "cache_salt has %zu bytes, expected at most %u",
			r->cache_salt_bytes, KV_PREFIX_MAX_SALT_BYTES);
	if (r->prompt_rows && s->max_prompt_rows < (c->chunked_prefill ? 1 : r->n_prompt))
		return error_set(err, E_LIMIT, "prompt_logprobs of %u tokens: a step gives %u rows of prompts",
			r->n_prompt, s->max_prompt_rows);
	return OK;
}

/* Refuses what would wait too long. An empty queue takes any prompt. */
static enum status check_queue(
	const struct sched *s, const struct sched_request *r, struct error *err)
{
	const struct sched_config *c = &s->config;
	uint32_t may_start = c->max_num_seqs - s->n_running;

	if (s->n_free == 0)
		return error_set(err, E_LIMIT, "queue is full: %u requests", c->max_requests);
	if (c->max_queued_reqs && s->n_waiting >= (uint64_t)c->max_queued_reqs + may_start)
		return error_set(err, E_LIMIT, "queue is full: %u requests wait, %u may "
			"(--max-num-queued-reqs)", s->n_waiting, c->max_queued_reqs);
	if (c->max_queued_tokens && s->n_waiting &&
		s->waiting_tokens + r->n_prompt > c->max_queued_tokens)
		return error_set(err, E_LIMIT, "queue is full: %llu tokens wait, %llu may "
			"(--max-num-queued-tokens)", (unsigned long long)s->waiting_tokens,
			(unsigned long long)c->max_queued_tokens);
	return OK;
}

/* Makes an array of a slot hold `need` elements; what it held is lost. By powers of two, so that requests of many
 * lengths soon find room. */
static bool make_array(void *array, uint32_t *cap, uint32_t need, size_t elem_bytes)
{
	void **at = array;
	uint32_t n = 256;

	if (need <= *cap)
		return true;
	while (n < need)
		n *= 2;
	free(*at);
	*at = mem_try_alloc(n, elem_bytes);
	*cap = *at ? n : 0;
	return *at != NULL;
}

static size_t seq_bytes(const struct sched_seq *q)
{
	return array_bytes(q->ids_cap, q->table.cap, q->names_cap);
}

/* Those at the stack's bottom are free for longest. Half of what may stay is left, so that not every request looks
 * at all of them. */
static void trim_idle(struct sched *s)
{
	if (s->idle_bytes <= s->max_idle_bytes)
		return;
	for (uint32_t i = 0; i < s->n_free && s->idle_bytes > s->max_idle_bytes / 2; i++) {
		struct sched_seq *q = &s->seqs[s->free[i]];

		s->idle_bytes -= seq_bytes(q);
		free_arrays(s, q);
	}
}

/* Memory of the slot for a request of `cap` tokens. Nothing is lost when it fails. */
static enum status make_space(struct sched *s, struct sched_seq *q, uint32_t cap, uint32_t n_names, struct error *err)
{
	if (!make_array(&q->ids, &q->ids_cap, cap, sizeof(*q->ids)) ||
		!make_array(&q->names, &q->names_cap, n_names, sizeof(*q->names)))
		return error_set(err, E_NOMEM, "no memory for a sequence of %u tokens", cap);
	return kv_table_reserve(&q->table, kv_table_blocks_for(s->pool, cap), err);
}

/* Takes a slot from the free ones with memory for a request. */
static enum status take_slot(struct sched *s, struct sched_seq *q, uint32_t cap, uint32_t n_names, struct error *err)
{
	enum status st;

	s->idle_bytes -= seq_bytes(q);
	st = make_space(s, q, cap, n_names, err);
	if (st == OK)
		s->n_free--;
	else
		s->idle_bytes += seq_bytes(q);
	return st;
}

enum status sched_submit(
	struct sched *s, const struct sched_request *r, uint32_t *slot, struct error *err)
{
	uint32_t n_names = s->index ? r->n_prompt / s->block_tokens : 0, max = s->config.max_model_len;
	uint64_t want = (uint64_t)r->n_prompt + r->max_tokens;
	uint32_t cap = want < max ? (uint32_t)want : max;
	struct sched_seq *q;

	TRY(check_request(s, r, err));
	TRY(check_queue(s, r, err));
	trim_idle(s);
	q = &s->seqs[s->free[s->n_free - 1]];
	TRY(take_slot(s, q, cap, n_names, err));
	*q = (struct sched_seq){
		.ids = q->ids,
		.ids_cap = q->ids_cap,
		.names = q->names,
		.names_cap = q->names_cap,
		.table = q->table,
		.prompt_rows = r->prompt_rows,
		.priority = r->priority,
		.arrival = s->arrivals,
		.cap = cap,
		.n_prompt = r->n_prompt,
		.n_known = r->n_prompt,
		.n_names = n_names,
	};
	memcpy(q->ids, r->prompt, sizeof(*q->ids) * r->n_prompt);
	if (s->index)
		kv_prefix_names(
			s->index, q->ids, q->n_names, r->cache_salt, r->cache_salt_bytes, q->names);
	s->arrivals++;
	waiting_add(s, q);
	*slot = seq_slot(s, q);
	return OK;
}

static struct sched_seq *seq_at(const struct sched *s, uint32_t slot)
{
	BUG_ON(slot >= s->config.max_requests || s->seqs[slot].state == SCHED_FREE);
	return &s->seqs[slot];
}

void seq_finish(struct sched *s, struct sched_seq *q, enum sched_finish why)
{
	kv_table_shrink(&q->table, s->pool, 0);
	q->n_computed = q->n_published = q->n_drafts = 0;
	q->state = SCHED_FINISHED;
	q->finish = why;
}

void sched_cancel(struct sched *s, uint32_t slot)
{
	struct sched_seq *q = seq_at(s, slot);

	if (q->state == SCHED_FINISHED)
		return;
	if (q->planned) {
		q->cancelled = true;
		return;
	}
	if (q->state == SCHED_WAITING)
		waiting_remove(s, q);
	else
		running_remove(s, q);
	seq_finish(s, q, SCHED_CANCELLED);
}

void sched_release(struct sched *s, uint32_t slot)
{
	struct sched_seq *q = seq_at(s, slot);

	BUG_ON(q->state != SCHED_FINISHED);
	q->state = SCHED_FREE;
	s->idle_bytes += seq_bytes(q);
	s->free[s->n_free++] = slot;
}

struct sched_seq_info sched_seq_get(const struct sched *s, uint32_t slot)
{
	const struct sched_seq *q = seq_at(s, slot);

	return (struct sched_seq_info){
		.state = q->state,
		.finish = q->finish,
		.n_prompt = q->n_prompt,
		.n_known = q->n_known,
		.n_computed = q->n_computed,
		.n_cached = q->n_cached,
		.n_preemptions = q->n_preemptions,
		.ids = q->ids,
		.table = &q->table,
	};
}

struct sched_stats sched_get_stats(const struct sched *s)
{
	struct sched_stats t = s->stats;
	uint32_t total = kv_pool_get_config(s->pool)->n_blocks;

	t.running = s->n_running;
	t.waiting = s->n_waiting;
	t.waiting_tokens = s->waiting_tokens;
	t.kv_usage = 1.0 - (double)kv_pool_free_blocks(s->pool) / total;
	if (s->index) {
		struct kv_prefix_stats p = kv_prefix_get_stats(s->index);

		t.prefix_query_tokens = p.query_tokens;
		t.prefix_hit_tokens = p.hit_tokens;
	}
	return t;
}
