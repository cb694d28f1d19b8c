/*
 * The scheduler's own time per step at 256 sequences, plan and commit together, beside a forward of 10 ms:
 * `meson test --benchmark`, or sched_bench.
 *
 * "cold" clears the caches before plan and before commit, as a forward does; "warm" does not. In "serving" sequences end
 * and others begin all the time, with prompts that share their first half. The p99 of a busy machine is that
 * of its other work.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/random.h"
#include "sched/sched.h"

#define SEQS 256u
#define STEPS 400
#define WARM_UP 16
#define FORWARD_US 10000.0
#define CLEAR_BYTES ((size_t)64 << 20)

struct scene {
	const char *name;
	uint32_t n_prompt;
	uint32_t max_tokens;
	uint32_t drafts;
	bool cold;
};

static const struct scene scenes[] = {
	{"decode at 2000, warm", 2000, 6000, 0, false},
	{"decode at 2000, cold", 2000, 6000, 0, true},
	{"decode at 2000, 3 drafts, cold", 2000, 12000, 3, true},
	{"decode at 16000, cold", 16000, 6000, 0, true},
	{"serving 2000 + 200, cold", 2000, 200, 0, true},
	{"serving 2000 + 200, 3 drafts, cold", 2000, 200, 3, true},
};

struct bench {
	struct kv_pool *pool;
	struct kv_prefix_index *index;
	struct sched *s;
	void *mem;
	uint8_t *clear;
	int32_t *ids;
	uint64_t n_submitted;
	double submit_s;
};

static int compare(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;

	return (a > b) - (a < b);
}

static enum status open_scene(struct bench *b, const struct scene *scene, struct error *err)
{
	struct kv_pool_config pc = {.n_layers = 1, .block_tokens = 64, .kv_lora = 32, .rope = 32};
	struct sched_config c = {
		.max_model_len = 32768,
		.max_num_seqs = SEQS,
		.max_num_batched_tokens = 8192,
		.max_outputs = SEQS * (1 + scene->drafts),
		.chunked_prefill = true,
		.max_drafts = scene->drafts,
		.max_requests = 2 * SEQS,
	};
	struct batch_limits limits;

	pc.n_blocks = SEQS * (scene->n_prompt + scene->max_tokens + 63) / 64 + 1024;
	TRY(kv_pool_create(&b->pool, &pc, err));
	TRY(kv_prefix_create(&b->index, b->pool, NULL, 0, err));
	TRY(sched_create(&b->s, &c, b->pool, b->index, err));
	limits = sched_batch_limits(b->s);
	b->mem = mem_alloc(batch_bytes(&limits));
	b->ids = mem_alloc(sizeof(*b->ids) * scene->n_prompt);
	return OK;
}

static void close_scene(struct bench *b)
{
	sched_destroy(b->s);
	kv_prefix_destroy(b->index);
	kv_pool_destroy(b->pool);
	free(b->mem);
	free(b->ids);
}

static enum status submit(struct bench *b, const struct scene *scene, struct error *err)
{
	struct sched_request r = {
		.prompt = b->ids, .n_prompt = scene->n_prompt, .max_tokens = scene->max_tokens};
	uint64_t seed = ++b->n_submitted;
	double begin;
	uint32_t slot;

	/* Lengths differ a little, so that not all end together. */
	r.max_tokens -= (uint32_t)(random_u64(1, seed) % (scene->max_tokens / 2));
	for (uint32_t i = 0; i < r.n_prompt; i++)
		b->ids[i] = (int32_t)(random_u64(i < r.n_prompt / 2 ? 0 : seed, i) % 100000);
	begin = clock_s();
	TRY(sched_submit(b->s, &r, &slot, err));
	b->submit_s += clock_s() - begin;
	return OK;
}

/* Accepts every other draft. */
static void results_of(
	const struct bench *b, uint32_t n, const int32_t *tokens, struct sched_result *results)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t samples = sched_slices(b->s)[i].n_samples;

		results[i] = (struct sched_result){
			.tokens = tokens, .n_tokens = samples ? 1 + (samples - 1) / 2 : 0};
	}
}

/* By reading, as a forward reads its weights: lines that were written would have to be written back first. */
static void clear_caches(const struct bench *b, const struct scene *scene)
{
	const volatile uint8_t *at = b->clear;

	for (size_t i = 0; scene->cold && i < CLEAR_BYTES; i += 64)
		(void)at[i];
}

/* Seconds of plan and commit. Sequences that ended are followed by new ones. */
static enum status step(
	struct bench *b, const struct scene *scene, double *seconds, struct error *err)
{
	static const int32_t tokens[1 + SCHED_MAX_DRAFTS];
	static struct sched_result results[SEQS];
	double begin;
	uint32_t n;

	clear_caches(b, scene);
	begin = clock_s();
	n = sched_plan(b->s, b->mem);
	*seconds = clock_s() - begin;
	results_of(b, n, tokens, results);
	clear_caches(b, scene);
	begin = clock_s();
	sched_commit(b->s, results);
	if (scene->drafts)
		for (uint32_t i = 0; i < n; i++)
			sched_set_drafts(b->s, sched_slices(b->s)[i].slot, tokens, scene->drafts);
	*seconds += clock_s() - begin;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t slot = sched_slices(b->s)[i].slot;

		if (sched_seq_get(b->s, slot).state == SCHED_FINISHED) {
			sched_release(b->s, slot);
			TRY(submit(b, scene, err));
		}
	}
	return OK;
}

static enum status run_scene(struct bench *b, const struct scene *scene, struct error *err)
{
	static double t[STEPS];
	double ignored;

	for (uint32_t i = 0; i < SEQS; i++)
		TRY(submit(b, scene, err));
	/* All prompts computed, and every length present. */
	while (sched_get_stats(b->s).generated_tokens < (uint64_t)SEQS * WARM_UP)
		TRY(step(b, scene, &ignored, err));
	for (int i = 0; i < STEPS; i++)
		TRY(step(b, scene, &t[i], err));
	qsort(t, STEPS, sizeof(*t), compare);
	printf("%-36s %6.1f us median %6.1f us p99  %5.2f %% of a 10 ms step;  submit %6.1f us\n",
		scene->name, t[STEPS / 2] * 1e6, t[STEPS * 99 / 100] * 1e6,
		100 * t[STEPS / 2] * 1e6 / FORWARD_US, b->submit_s / (double)b->n_submitted * 1e6);
	fflush(stdout);
	return OK;
}

int main(void)
{
	uint8_t *clear = mem_alloc(CLEAR_BYTES);

	memset(clear, 1, CLEAR_BYTES); /* pages of its own, not the one of zeros */
	for (size_t i = 0; i < sizeof(scenes) / sizeof(*scenes); i++) {
		struct bench b = {.clear = clear};
		struct error err;

		if (open_scene(&b, &scenes[i], &err) != OK || run_scene(&b, &scenes[i], &err) != OK) {
			fprintf(stderr, "sched_bench: %s\n", err.msg);
			return 1;
		}
		close_scene(&b);
	}
	free(clear);
	return 0;
}
