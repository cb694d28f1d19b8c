/*
 * Timing of prefill and decode (cli/bench.h).
 *
 * What a step must read or compute is counted from the weights that it used, never assumed: decode
 * counts the distinct experts that the forward reports.
 */
#include "cli/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/random.h"
#include "cli/cli.h"
#include "cli/jsonl.h"
#include "kernel/dtype.h"
#include "kernel/probe.h"

#define PREFILL_REPEAT 3u
#define DECODE_REPEAT 16u
#define DECODE_WARM 2u

uint32_t bench_decode_steps(uint32_t repeat)
{
	return DECODE_WARM + (repeat ? repeat : DECODE_REPEAT);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, uint32_t n)
{
	qsort(v, n, sizeof(*v), by_value);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
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

/* FLOPs of a prompt of n tokens in expanded form, with one row of logits (spec: model, section 7). */
static double prefill_flops(const struct model_config *c, double n)
{
	double pairs = n * (n + 1) / 2;
	double pair = 2.0 * c->num_attention_heads *
		      (c->qk_nope_head_dim + c->qk_rope_head_dim + c->v_head_dim);

	return 2 * linear_weights(c) * n + pairs * pair * c->num_hidden_layers +
	       2.0 * c->hidden_size * c->vocab_size;
}

static enum status probe(double *rate, const struct bench *b, bool prefill, struct error *err)
{
	struct kernel *kn = b->rt->kn;

	if (!prefill)
		*rate = kernel_probe_read_bytes_per_s(kn, err);
	else
		*rate = b->rt->weights->config.integer ? kernel_probe_int8_ops(kn) : kernel_probe_bf16_flops(kn);
	return *rate > 0 || prefill ? OK : err->code;
}

/* Finishes a row whose seconds and work are known; `before`: the probe's rate before it. */
static enum status add_row(struct bench *b, struct bench_row row, double before, struct error *err)
{
	double after;

	TRY(probe(&after, b, row.prefill, err));
	BUG_ON(b->n_rows == BENCH_MAX_ROWS);
	row.limit = after > before ? after : before;
	row.rate = row.work / row.seconds;
	row.tokens_per_s = (row.prefill ? row.tokens : row.seqs) / row.seconds;
	b->rows[b->n_rows++] = row;
	return OK;
}

/* The whole prompt in chunks, in the given blocks. */
static enum status run_prompt(struct bench *b, const int32_t *ids, uint32_t n, const struct kv_table *t,
	struct error *err)
{
	struct runtime *rt = b->rt;
	struct model_output out;

	for (uint32_t at = 0; at < n;) {
		uint32_t c = n - at < rt->limits.max_tokens ? n - at : rt->limits.max_tokens;

		batch_init(rt->batch, &rt->limits);
		TRY(batch_add(rt->batch, &rt->limits, at, ids + at, c, 0, t->blocks, t->n_blocks,
			at + c == n, err));
		TRY(model_forward(rt->model, rt->batch, &out, err));
		at += c;
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
	struct bench_row row = { .prefill = true, .tokens = tokens, .seqs = 1,
		.work = prefill_flops(&b->rt->weights->config, tokens) };
	int32_t *ids = mem_alloc(sizeof(*ids) * tokens);
	double *seconds = mem_alloc(sizeof(*seconds) * repeat), before = 0;
	struct progress bar;
	struct kv_table table;
	enum status st;

	for (uint32_t i = 0; i < tokens; i++)
		ids[i] = random_token(b, i);
	progress_begin(&bar, "prefill", repeat + 1, PROGRESS_COUNT, b->progress);
	TRY_GOTO(out, open_table(&table, b->rt, tokens, err));
	TRY_GOTO(out, run_prompt(b, ids, tokens, &table, err)); /* warm-up */
	TRY_GOTO(out, probe(&before, b, true, err));
	for (uint32_t i = 0; i < repeat; i++) {
		double begin = clock_s();

		TRY_GOTO(out, run_prompt(b, ids, tokens, &table, err));
		seconds[i] = clock_s() - begin;
		progress_update(&bar, i + 2);
	}
	row.seconds = median(seconds, repeat);
	st = add_row(b, row, before, err);
out:
	progress_end(&bar);
	kv_table_deinit(&table, b->rt->pool);
	free(seconds);
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

/* Bytes that a step at this position had to read. */
static double step_bytes(const struct decode *d, uint32_t step, uint32_t experts_hit)
{
	const struct model_weights *w = d->b->rt->weights;
	const struct model_config *c = &w->config;
	double row = (double)kernel_kv_row_bytes(c->kv_lora_rank, c->qk_rope_head_dim) * c->num_hidden_layers;
	double assumed = (double)moe_layers(c) * c->num_experts_per_tok; /* in weights_token_bytes() */

	return (double)weights_token_bytes(w) + ((double)experts_hit - assumed) * expert_bytes(w) +
	       row * (d->context + step + 1.0) * d->seqs;
}

static enum status time_decode(const struct decode *d, struct bench_row *row, struct error *err)
{
	uint32_t repeat = d->b->repeat ? d->b->repeat : DECODE_REPEAT;
	uint32_t layers = moe_layers(&d->b->rt->weights->config);
	double *seconds = mem_alloc(sizeof(*seconds) * repeat);
	struct progress bar;
	enum status st;

	progress_begin(&bar, "decode", repeat, PROGRESS_COUNT, d->b->progress);
	for (uint32_t i = 0; i < DECODE_WARM + repeat; i++) {
		double begin = clock_s();
		struct model_output out;

		TRY_GOTO(out, decode_step(d, i, &out, err));
		if (i < DECODE_WARM)
			continue;
		seconds[i - DECODE_WARM] = clock_s() - begin;
		row->work += step_bytes(d, i, out.experts_hit) / repeat;
		row->experts_hit += layers ? (double)out.experts_hit / layers / repeat : 0;
		progress_update(&bar, i - DECODE_WARM + 1);
	}
	row->seconds = median(seconds, repeat);
out:
	progress_end(&bar);
	free(seconds);
	return st;
}

enum status bench_decode(struct bench *b, uint32_t context, uint32_t seqs, struct error *err)
{
	struct bench_row row = { .tokens = context, .seqs = seqs };
	struct decode d = { .b = b, .context = context, .seqs = seqs };
	double before;
	enum status st;

	d.tables = mem_alloc(sizeof(*d.tables) * seqs);
	for (uint32_t i = 0; i < seqs; i++) {
		TRY_GOTO(out, open_table(&d.tables[i], b->rt, context + bench_decode_steps(b->repeat), err));
		fill_cache(b, &d.tables[i]);
	}
	TRY_GOTO(out, probe(&before, b, false, err));
	TRY_GOTO(out, time_decode(&d, &row, err));
	st = add_row(b, row, before, err);
out:
	for (uint32_t i = 0; i < seqs; i++)
		kv_table_deinit(&d.tables[i], b->rt->pool);
	free(d.tables);
	return st;
}

void bench_put_table(struct buf *out, const struct bench *b, const char *shape, const char *format)
{
	const struct runtime *rt = b->rt;

	buf_printf(out, "%s, %s, %u layers (%u with %u experts), %d threads, %s, weights ", shape, format,
		rt->weights->config.num_hidden_layers, moe_layers(&rt->weights->config),
		rt->weights->config.n_routed_experts, kernel_threads(rt->kn),
		cpu_isa_name(kernel_isa(rt->kn)));
	cli_put_bytes(out, (double)rt->weights->bytes);
	buf_printf(out, "\n%-8s %8s %5s %10s %11s %8s %22s %14s %9s\n", "phase", "tokens", "seqs", "ms",
		"tokens/s", "experts", "work", "limit", "of limit");
	for (uint32_t i = 0; i < b->n_rows; i++) {
		const struct bench_row *r = &b->rows[i];
		const char *unit = r->prefill ? "GFLOP" : "GB";

		buf_printf(out, "%-8s %8u %5u %10.3f %11.2f ", r->prefill ? "prefill" : "decode", r->tokens,
			r->seqs, r->seconds * 1e3, r->tokens_per_s);
		if (r->prefill)
			buf_printf(out, "%8s", "-");
		else
			buf_printf(out, "%8.1f", r->experts_hit);
		buf_printf(out, " %8.3f %s/%s %*s %8.1f %s/s %7.1f %%\n",
			r->work * 1e-9 / (r->prefill ? r->tokens : 1), unit, r->prefill ? "token" : "step", 0, "",
			r->limit * 1e-9, unit, 100 * r->rate / r->limit);
	}
}

void bench_put_json(struct buf *out, const struct bench *b, const char *shape, const char *format)
{
	const struct runtime *rt = b->rt;
	json_t *rows = json_array();

	for (uint32_t i = 0; i < b->n_rows; i++) {
		const struct bench_row *r = &b->rows[i];
		json_t *v = json_pack("{s:s, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f}", "phase",
			r->prefill ? "prefill" : "decode", r->prefill ? "prompt_tokens" : "context_tokens",
			(json_int_t)r->tokens, "seqs", (json_int_t)r->seqs, "seconds", r->seconds,
			"tokens_per_s", r->tokens_per_s, r->prefill ? "flops" : "bytes", r->work,
			r->prefill ? "flops_per_s" : "bytes_per_s", r->rate,
			r->prefill ? "limit_flops_per_s" : "limit_bytes_per_s", r->limit, "fraction",
			r->rate / r->limit);

		if (!r->prefill)
			json_object_set_new(v, "experts_per_layer", json_real(r->experts_hit));
		json_array_append_new(rows, v);
	}
	json_put_pretty(out, json_pack("{s:s, s:s, s:i, s:i, s:i, s:s, s:i, s:I, s:o}", "shape", shape,
		"format", format, "layers", (int)rt->weights->config.num_hidden_layers, "moe_layers",
		(int)moe_layers(&rt->weights->config), "experts",
		(int)rt->weights->config.n_routed_experts, "isa", cpu_isa_name(kernel_isa(rt->kn)),
		"threads", kernel_threads(rt->kn), "weight_bytes", (json_int_t)rt->weights->bytes, "rows",
		rows));
}
