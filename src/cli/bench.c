/*
 * Timing of prefill and decode (cli/bench.h).
 *
 * What a step must read or compute is counted from the weights that it used, never assumed: decode
 * counts the distinct experts that the forward reports.
 */
#include "cli/bench.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/progress.h"
#include "base/random.h"
#include "kernel/dtype.h"

#define PREFILL_REPEAT 3u
#define DECODE_REPEAT 16u
#define DECODE_WARM 2u

uint32_t bench_decode_steps(uint32_t repeat)
{
	return DECODE_WARM + (repeat ? repeat : DECODE_REPEAT);
}

static int32_t random_token(const struct bench *b, uint64_t counter)
{
	return (int32_t)(random_u64(b->seed, counter) % b->rt->weights->config.vocab_size);
}

static uint32_t moe_layers(const struct model_config *c)
{
	return c->n_routed_experts ? c->num_hidden_layers - c->first_k_dense_replace : 0;
}

static double mlp_bytes(const struct mlp_weights *w)
{
	return (double)(weight_panels_bytes(&w->gate_up) + weight_scales_bytes(&w->gate_up) +
			weight_panels_bytes(&w->down) + weight_scales_bytes(&w->down));
}

/* One expert; all layers' are alike. */
static double expert_bytes(const struct model_weights *w)
{
	uint32_t first = w->config.first_k_dense_replace;

	return moe_layers(&w->config) ? mlp_bytes(&w->layers[first].experts[0]) : 0;
}

/* Weights that one token multiplies with in one layer or all of them, the head aside. */
static double linear_weights(const struct model_config *c)
{
	double h = c->hidden_size, heads = c->num_attention_heads;
	double qk = c->qk_nope_head_dim + c->qk_rope_head_dim;
	double q = c->q_lora_rank ? h * c->q_lora_rank + c->q_lora_rank * heads * qk : h * heads * qk;
	double attention = q + h * (c->kv_lora_rank + c->qk_rope_head_dim) +
			   c->kv_lora_rank * heads * (c->qk_nope_head_dim + c->v_head_dim) +
			   heads * c->v_head_dim * h;
	double expert = 3 * h * c->moe_intermediate_size, moe = moe_layers(c);

	return c->num_hidden_layers * attention + (c->num_hidden_layers - moe) * 3 * h * c->intermediate_size +
	       moe * (h * c->n_routed_experts + (c->num_experts_per_tok + c->n_shared_experts) * expert);
}

/* FLOPs of n tokens behind `cached` ones, each `pair` FLOPs with every head and key up to its own, and of
 * `outputs` rows of logits (spec: model, section 7). */
static double forward_flops(const struct model_config *c, double n, double cached, double pair, double outputs)
{
	double pairs = n * cached + n * (n + 1) / 2;

	return 2 * linear_weights(c) * n + pairs * pair * c->num_attention_heads * c->num_hidden_layers +
	       2.0 * c->hidden_size * c->vocab_size * outputs;
}

/* FLOPs of a head, query and key: expanded, and absorbed. */
static double prompt_pair(const struct model_config *c)
{
	return 2.0 * (c->qk_nope_head_dim + c->qk_rope_head_dim + c->v_head_dim);
}

static double decode_pair(const struct model_config *c)
{
	return 2.0 * (2.0 * c->kv_lora_rank + c->qk_rope_head_dim);
}

/* All at the rate of the weights' products, although attention and head stay BF16: a limit that a forward
 * can come close to, not reach. */
static void add_flops(struct bench_work *w, const struct model_config *c, double flops)
{
	if (c->integer)
		w->int8_ops += flops;
	else
		w->bf16_flops += flops;
}

/* Bytes that one forward had to read: weights, with the experts hit, and `cached` rows of the cache. */
static double forward_bytes(const struct model_weights *w, double experts_hit, double cached, bool head)
{
	const struct model_config *c = &w->config;
	double row = (double)kernel_kv_row_bytes(c->kv_lora_rank, c->qk_rope_head_dim) * c->num_hidden_layers;
	double assumed = (double)moe_layers(c) * c->num_experts_per_tok; /* in weights_token_bytes() */
	double all = (double)moe_layers(c) * c->n_routed_experts;
	double bytes = (double)weights_token_bytes(w) + row * cached;

	/* Long batches take experts in several passes: reading them once would do. */
	bytes += ((experts_hit < all ? experts_hit : all) - assumed) * expert_bytes(w);
	return head ? bytes
		    : bytes - (double)(weight_panels_bytes(&w->lm_head) + weight_scales_bytes(&w->lm_head));
}

/* Room for a row's repetitions; watched if the benchmark profiles. */
static struct bench_sample *begin_row(struct bench *b, struct bench_row *row, uint32_t repeat)
{
	row->isa = kernel_isa(b->rt->kn);
	row->n_samples = repeat;
	row->samples = mem_alloc(sizeof(*row->samples) * repeat);
	if (b->profiler) {
		row->profile = mem_alloc(sizeof(*row->profile));
		bench_profiler_watch(b->profiler, row->profile);
	}
	bench_meter_probe(&b->meter);
	return row->samples;
}

/* Keeps a row whose samples are complete, or drops it. */
static void end_row(struct bench *b, struct bench_row *row, bool keep)
{
	if (b->profiler)
		bench_profiler_watch(b->profiler, NULL);
	if (!keep) {
		free(row->samples);
		free(row->profile);
		return;
	}
	BUG_ON(b->n_rows == BENCH_MAX_ROWS);
	bench_figures_of(&row->figures, row->samples, row->n_samples);
	row->tokens_per_s = (row->prefill ? row->tokens : row->seqs) / row->figures.seconds;
	if (row->profile) {
		row->profile->repetitions = row->n_samples;
		for (uint32_t i = 0; i < row->n_samples; i++)
			row->profile->seconds += row->samples[i].seconds;
	}
	b->rows[b->n_rows++] = *row;
}

void bench_deinit(struct bench *b)
{
	for (uint32_t i = 0; i < b->n_rows; i++) {
		free(b->rows[i].samples);
		free(b->rows[i].profile);
	}
	bench_profiler_destroy(b->profiler);
	kernel_probe_destroy(b->meter.probe);
}

/* The whole prompt in chunks, in the given blocks. Counts what it took. */
static enum status run_prompt(struct bench *b, const int32_t *ids, uint32_t n, const struct kv_table *t,
	struct bench_work *work, struct error *err)
{
	struct runtime *rt = b->rt;
	struct model_output out;

	*work = (struct bench_work){ 0 };
	add_flops(work, &rt->weights->config,
		forward_flops(&rt->weights->config, n, 0, prompt_pair(&rt->weights->config), 1));
	for (uint32_t at = 0; at < n;) {
		uint32_t c = n - at < rt->limits.max_tokens ? n - at : rt->limits.max_tokens;

		batch_init(rt->batch, &rt->limits);
		TRY(batch_add(rt->batch, &rt->limits, at, ids + at, c, 0, t->blocks, t->n_blocks,
			at + c == n, err));
		TRY(model_forward(rt->model, rt->batch, &out, err));
		at += c;
		work->bytes += forward_bytes(rt->weights, out.experts_hit, at, at == n);
	}
	return OK;
}

static enum status open_table(struct kv_table *t, struct runtime *rt, uint32_t tokens, struct error *err)
{
	kv_table_init(t);
	TRY(kv_table_reserve(t, rt->limits.max_blocks, err));
	return kv_table_grow(t, rt->pool, tokens, err);
}

enum status bench_prefill(struct bench *b, uint32_t tokens, struct error *err)
{
	uint32_t repeat = b->repeat ? b->repeat : PREFILL_REPEAT;
	struct bench_row row = { .prefill = true, .tokens = tokens, .seqs = 1 };
	int32_t *ids = mem_alloc(sizeof(*ids) * tokens);
	struct bench_sample *samples;
	struct bench_work work;
	struct progress bar;
	struct kv_table table;
	enum status st;

	for (uint32_t i = 0; i < tokens; i++)
		ids[i] = random_token(b, i);
	progress_begin(&bar, "prefill", repeat + 1, PROGRESS_COUNT, b->progress);
	TRY_GOTO(out, open_table(&table, b->rt, tokens, err));
	TRY_GOTO(out, run_prompt(b, ids, tokens, &table, &work, err)); /* warm-up */
	samples = begin_row(b, &row, repeat);
	for (uint32_t i = 0; i < repeat && st == OK; i++) {
		bench_meter_begin(&b->meter, &samples[i]);
		st = run_prompt(b, ids, tokens, &table, &samples[i].work, err);
		bench_meter_end(&b->meter, &samples[i]);
		progress_update(&bar, i + 2);
	}
	end_row(b, &row, st == OK);
out:
	progress_end(&bar);
	kv_table_deinit(&table, b->rt->pool);
	free(ids);
	return st;
}

/* Fills cached rows with plausible values; computing a long context would take minutes, and untouched
 * memory would all be one page of zeros. */
static void fill_cache(const struct bench *b, const struct kv_table *t)
{
	const struct kv_pool_config *c = kv_pool_get_config(b->rt->pool);
	uint64_t x = b->seed * 2654435761u + 1;

	for (uint32_t layer = 0; layer < c->n_layers; layer++) {
		struct kv_view view = kv_pool_view(b->rt->pool, layer);

		for (uint32_t i = 0; i < t->n_blocks; i++) {
			uint16_t *row = (uint16_t *)(void *)(view.base +
				(size_t)t->blocks[i] * view.block_stride_bytes);

			for (size_t j = 0; j < view.block_stride_bytes / sizeof(*row); j++) {
				x = x * 6364136223846793005u + 1442695040888963407u;
				row[j] = f32_to_bf16((float)(int32_t)(x >> 32) * 0x1p-31f);
			}
		}
	}
}

/* A decode row at work. */
struct decode {
	struct bench *b;
	struct kv_table *tables; /* [seqs] */
	uint32_t context;
	uint32_t seqs;
};

static enum status decode_step(const struct decode *d, uint32_t step, struct model_output *out,
	struct error *err)
{
	struct runtime *rt = d->b->rt;

	batch_init(rt->batch, &rt->limits);
	for (uint32_t i = 0; i < d->seqs; i++) {
		int32_t id = random_token(d->b, (uint64_t)step * d->seqs + i + (1u << 20));

		TRY(batch_add(rt->batch, &rt->limits, d->context + step, &id, 0, 1, d->tables[i].blocks,
			d->tables[i].n_blocks, 1, err));
	}
	return model_forward(rt->model, rt->batch, out, err);
}

/* What a step at this position took. */
static struct bench_work step_work(const struct decode *d, uint32_t step, uint32_t experts_hit)
{
	const struct model_weights *w = d->b->rt->weights;
	double cached = d->context + (double)step;
	struct bench_work work = {
		.bytes = forward_bytes(w, experts_hit, (cached + 1) * d->seqs, true) };

	add_flops(&work, &w->config,
		d->seqs * forward_flops(&w->config, 1, cached, decode_pair(&w->config), 1));
	return work;
}

static enum status time_decode(const struct decode *d, struct bench_row *row, struct error *err)
{
	struct bench *b = d->b;
	uint32_t repeat = b->repeat ? b->repeat : DECODE_REPEAT;
	uint32_t layers = moe_layers(&b->rt->weights->config);
	struct bench_sample *samples;
	struct model_output out;
	struct progress bar;
	enum status st = OK;

	for (uint32_t i = 0; i < DECODE_WARM; i++)
		TRY(decode_step(d, i, &out, err));
	progress_begin(&bar, "decode", repeat, PROGRESS_COUNT, b->progress);
	samples = begin_row(b, row, repeat);
	for (uint32_t i = 0; i < repeat && st == OK; i++) {
		bench_meter_begin(&b->meter, &samples[i]);
		st = decode_step(d, DECODE_WARM + i, &out, err);
		bench_meter_end(&b->meter, &samples[i]);
		if (st == OK) {
			samples[i].work = step_work(d, DECODE_WARM + i, out.experts_hit);
			row->experts_hit += layers ? (double)out.experts_hit / layers / repeat : 0;
		}
		progress_update(&bar, i + 1);
	}
	progress_end(&bar);
	end_row(b, row, st == OK);
	return st;
}

enum status bench_decode(struct bench *b, uint32_t context, uint32_t seqs, struct error *err)
{
	struct bench_row row = { .tokens = context, .seqs = seqs };
	struct decode d = { .b = b, .context = context, .seqs = seqs };
	enum status st;

	d.tables = mem_alloc(sizeof(*d.tables) * seqs);
	for (uint32_t i = 0; i < seqs; i++) {
		TRY_GOTO(out, open_table(&d.tables[i], b->rt, context + bench_decode_steps(b->repeat), err));
		fill_cache(b, &d.tables[i]);
	}
	st = time_decode(&d, &row, err);
out:
	for (uint32_t i = 0; i < seqs; i++)
		kv_table_deinit(&d.tables[i], b->rt->pool);
	free(d.tables);
	return st;
}
