/*
 * Computes a golden file's prompts, greedy continuation and drafts and measures the differences
 * (cli/verify.h).
 *
 * Invariant: the hashes see rows in the order of tokens, so that the digest does not depend on how
 * prompts were cut into chunks.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/progress.h"
#include "cli/verify.h"
#include "engine/sampler.h"

#define FNV_BASIS 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u

static uint64_t fnv(uint64_t h, const void *data, size_t bytes)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < bytes; i++)
		h = (h ^ p[i]) * FNV_PRIME;
	return h;
}

/* Differences of rows, one entry a position. */
struct rows {
	double *rms;
	double *kl;
	bool *same;
	bool *clear;
	uint32_t n;
	uint32_t cap;
};

struct check {
	struct runtime *rt;
	const struct golden *g;
	const struct verify_options *o;
	struct verify_result *r;
	struct kv_table table; /* of the running prompt */
	struct rows main, mtp; /* of all prompts so far */
	float *hidden;         /* [hidden] normed state of the last prompt's last token */
	int32_t next;          /* likeliest token after the last prompt */
	double *layer_errors;  /* [layers, n of the traced prompt] or NULL */
	const struct golden_prompt *prompt; /* the running one */
	uint32_t chunk_at;     /* position of the running chunk's first token */
	uint64_t hash_main, hash_mtp, hash_greedy;
	struct progress bar;
	uint64_t done; /* tokens */
};

static void rows_alloc(struct rows *r, uint32_t cap)
{
	r->rms = mem_alloc(sizeof(*r->rms) * cap);
	r->kl = mem_alloc(sizeof(*r->kl) * cap);
	r->same = mem_alloc(sizeof(*r->same) * cap);
	r->clear = mem_alloc(sizeof(*r->clear) * cap);
	r->cap = cap;
}

static void rows_free(struct rows *r)
{
	free(r->rms);
	free(r->kl);
	free(r->same);
	free(r->clear);
}

static double log_sum_exp(const float *x, uint32_t n)
{
	double max = -INFINITY, sum = 0;

	for (uint32_t i = 0; i < n; i++)
		max = x[i] > max ? x[i] : max;
	for (uint32_t i = 0; i < n; i++)
		sum += exp(x[i] - max);
	return max + log(sum);
}

/* Whatever is not finite counts as infinitely wrong. */
static double finite_or_inf(double v)
{
	return isfinite(v) ? v : INFINITY;
}

static void add_row(struct rows *r, const float *got, const float *want, uint32_t vocab, bool clear)
{
	double zg = log_sum_exp(got, vocab), zw = log_sum_exp(want, vocab), sum = 0, kl = 0;

	BUG_ON(r->n == r->cap);
	for (uint32_t i = 0; i < vocab; i++) {
		double d = (double)got[i] - want[i], logp = want[i] - zw;

		sum += d * d;
		kl += exp(logp) * (logp - (got[i] - zg));
	}
	r->rms[r->n] = finite_or_inf(sqrt(sum / vocab));
	r->kl[r->n] = finite_or_inf(kl);
	r->same[r->n] = sampler_argmax(got, vocab) == sampler_argmax(want, vocab);
	r->clear[r->n] = clear;
	r->n++;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Figures of rows [from, n), over the clear ones. */
static struct row_stats summarize(const struct rows *r, uint32_t from)
{
	struct row_stats s = { .rows = r->n - from };
	double *v = mem_alloc(sizeof(*v) * (s.rows + 1));
	uint32_t same = 0;

	for (uint32_t i = from; i < r->n; i++) {
		if (!r->clear[i])
			continue;
		v[s.used++] = r->rms[i];
		s.kl += r->kl[i];
		same += r->same[i];
	}
	if (s.used) {
		qsort(v, s.used, sizeof(*v), by_value);
		s.median = v[s.used / 2];
		s.p90 = v[(uint32_t)((s.used - 1) * 0.9)];
		s.max = v[s.used - 1];
		s.kl /= s.used;
		s.argmax = (double)same / s.used;
	}
	free(v);
	return s;
}

static void trace(void *arg, uint32_t layer, const float *residual, uint32_t n_tokens)
{
	struct check *c = arg;
	uint32_t hidden = c->rt->weights->config.hidden_size, n = c->g->prompts[VERIFY_TRACED].n;

	for (uint32_t t = 0; t < n_tokens; t++) {
		const float *got = residual + (size_t)t * hidden;
		const float *want = c->g->residual + ((size_t)layer * n + c->chunk_at + t) * hidden;
		double diff = 0, size = 0;

		for (uint32_t i = 0; i < hidden; i++) {
			double d = (double)got[i] - want[i];

			diff += d * d;
			size += (double)want[i] * want[i];
		}
		c->layer_errors[(size_t)layer * n + c->chunk_at + t] = finite_or_inf(sqrt(diff / size));
	}
}

/* One chunk of one sequence: `n` tokens at pos0 as prompt or as generated tokens, all rows out. */
static enum status fill_batch(struct check *c, const int32_t *ids, uint32_t pos0, uint32_t n,
	bool generated, struct error *err)
{
	struct runtime *rt = c->rt;

	TRY(kv_table_grow(&c->table, rt->pool, pos0 + n, err));
	batch_init(rt->batch, &rt->limits);
	return batch_add(rt->batch, &rt->limits, pos0, ids, generated ? 0 : n, generated ? n : 0,
		c->table.blocks, c->table.n_blocks, n, err);
}

/* The experts that the routes file gives to a token of the running chunk. */
static const int32_t *given_experts(void *arg, uint32_t layer, uint32_t token)
{
	const struct check *c = arg;
	const struct model_config *config = &c->rt->weights->config;
	size_t k = config->num_experts_per_tok, row = c->chunk_at + token;

	if (layer == config->num_hidden_layers)
		return c->prompt->mtp_experts ? c->prompt->mtp_experts + row * k : NULL;
	row += (size_t)(layer - config->first_k_dense_replace) * c->prompt->n;
	return c->prompt->experts + row * k;
}

static bool is_clear(const struct check *c, const float *margin, uint32_t i)
{
	return c->g->routes || !margin || margin[i] >= VERIFY_MARGIN;
}

/* margin is negative where the row's own choice was another one. */
static void add_routes(struct route_stats *s, float margin)
{
	s->rows++;
	s->differ += margin < 0;
	if (-margin > s->margin)
		s->margin = -margin;
}

/* The MTP slots whose state was just computed and whose next token the prompt has. */
static enum status mtp_chunk(struct check *c, const struct golden_prompt *p, uint32_t pos0, uint32_t n,
	const float *hidden, struct error *err)
{
	uint32_t vocab = c->rt->weights->config.vocab_size;
	struct model_output out;

	if (n == 0)
		return OK;
	c->chunk_at = pos0;
	TRY(fill_batch(c, p->ids + pos0 + 1, pos0, n, c->o->decode, err));
	TRY(model_mtp_forward(c->rt->model, c->rt->batch, hidden, &out, err));
	for (uint32_t i = 0; i < n; i++) {
		const float *got = out.logits + i * out.logits_stride;

		if (p->mtp_logits)
			add_row(&c->mtp, got, p->mtp_logits + (size_t)(pos0 + i) * vocab, vocab,
				is_clear(c, p->mtp_margin, pos0 + i));
		if (p->mtp_experts)
			add_routes(&c->r->mtp_routes, out.margin[i]);
		c->hash_mtp = fnv(c->hash_mtp, got, sizeof(float) * vocab);
	}
	return OK;
}

static enum status main_chunk(struct check *c, const struct golden_prompt *p, uint32_t pos0, uint32_t n,
	struct error *err)
{
	const struct model_config *config = &c->rt->weights->config;
	uint32_t vocab = config->vocab_size;
	struct model_output out;

	c->chunk_at = pos0;
	TRY(fill_batch(c, p->ids + pos0, pos0, n, c->o->decode, err));
	TRY(model_forward(c->rt->model, c->rt->batch, &out, err));
	for (uint32_t i = 0; i < n; i++) {
		const float *got = out.logits + i * out.logits_stride;

		add_row(&c->main, got, p->logits + (size_t)(pos0 + i) * vocab, vocab,
			is_clear(c, p->margin, pos0 + i));
		if (p->experts)
			add_routes(&c->r->routes, out.margin[i]);
		c->hash_main = fnv(c->hash_main, got, sizeof(float) * vocab);
	}
	if (pos0 + n == p->n) {
		c->next = sampler_argmax(out.logits + (n - 1) * out.logits_stride, vocab);
		memcpy(c->hidden, out.hidden + (size_t)(n - 1) * config->hidden_size,
			sizeof(float) * config->hidden_size);
	}
	c->done += n;
	progress_update(&c->bar, c->done);
	if (!c->rt->weights->mtp)
		return OK;
	return mtp_chunk(c, p, pos0, pos0 + n == p->n ? n - 1 : n, out.hidden, err);
}

/*
 * Steps of the greedy continuation of the traced prompt, whose cache c->table holds, each after the
 * golden tokens before it. A step is judged if the golden margin exceeds three times `error` and the
 * routing of the token that led to it was not nearly tied.
 */
static enum status run_greedy(struct check *c, double error, struct error *err)
{
	const struct golden *g = c->g;
	const struct golden_prompt *p = &g->prompts[VERIFY_TRACED];
	struct verify_result *r = c->r;
	uint32_t vocab = c->rt->weights->config.vocab_size;
	bool clear = is_clear(c, p->margin, p->n - 1);
	struct model_output out;
	int32_t id = c->next;

	for (uint32_t i = 0;;) {
		clear = clear && (!g->greedy_margin || g->greedy_margin[i] >= 3 * error);
		r->greedy_prefix += r->greedy_prefix == i && id == g->greedy[i];
		r->greedy_clear += clear;
		r->greedy_same += clear && id == g->greedy[i];
		if (++i == g->n_greedy)
			return OK;
		TRY(fill_batch(c, &g->greedy[i - 1], p->n + i - 1, 1, true, err));
		TRY(model_forward(c->rt->model, c->rt->batch, &out, err));
		id = sampler_argmax(out.logits, vocab);
		clear = out.margin[0] >= VERIFY_MARGIN;
		c->hash_greedy = fnv(c->hash_greedy, out.logits, sizeof(float) * vocab);
		progress_update(&c->bar, ++c->done);
	}
}

/* First minus second largest of a row. */
static double top_margin(const float *x, uint32_t n)
{
	double first = -INFINITY, second = -INFINITY;

	for (uint32_t i = 0; i < n; i++) {
		if (x[i] > first) {
			second = first;
			first = x[i];
		} else if (x[i] > second) {
			second = x[i];
		}
	}
	return first - second;
}

/*
 * Drafts chained from the traced prompt's last state and the first greedy token, each recycling the
 * MTP layer's normed state. The file has no margins of drafts: a step is clear as long as this tier's
 * own margin is.
 */
static enum status run_drafts(struct check *c, double error, struct error *err)
{
	const struct golden *g = c->g;
	uint32_t vocab = c->rt->weights->config.vocab_size, pos = g->prompts[VERIFY_TRACED].n - 1;
	const float *hidden = c->hidden;
	int32_t id = g->greedy[0];

	for (uint32_t i = 0; i < g->n_draft; i++) {
		struct model_output out;

		TRY(fill_batch(c, &id, pos + i, 1, true, err));
		TRY(model_mtp_forward(c->rt->model, c->rt->batch, hidden, &out, err));
		c->hash_mtp = fnv(c->hash_mtp, out.logits, sizeof(float) * vocab);
		id = sampler_argmax(out.logits, vocab);
		hidden = out.hidden;
		if (id != g->draft[i] && top_margin(out.logits, vocab) < 3 * error)
			break;
		c->r->draft_clear++;
		if (id != g->draft[i])
			break;
		c->r->draft_same++;
	}
	return OK;
}

static enum status run_prompt(struct check *c, uint32_t i, struct error *err)
{
	const struct golden_prompt *p = &c->g->prompts[i];
	uint32_t chunk = c->rt->limits.max_tokens, main0 = c->main.n, mtp0 = c->mtp.n;
	bool traced = i == VERIFY_TRACED;

	kv_table_shrink(&c->table, c->rt->pool, 0);
	c->prompt = p;
	if (traced && c->layer_errors)
		model_set_trace(c->rt->model, trace, c);
	if (c->g->routes)
		model_set_routes(c->rt->model, given_experts, c);
	for (uint32_t at = 0; at < p->n; at += chunk)
		TRY(main_chunk(c, p, at, p->n - at < chunk ? p->n - at : chunk, err));
	model_set_trace(c->rt->model, NULL, NULL);
	model_set_routes(c->rt->model, NULL, NULL);
	c->r->main[i] = summarize(&c->main, main0);
	c->r->mtp[i] = summarize(&c->mtp, mtp0);
	if (!traced)
		return OK;
	if (c->g->n_greedy)
		TRY(run_greedy(c, c->r->main[i].p90, err));
	if (c->g->n_draft)
		TRY(run_drafts(c, c->r->mtp[i].p90, err));
	return OK;
}

/* Medians over the clear positions of the traced prompt. */
static void summarize_layers(struct check *c)
{
	const struct golden_prompt *p = &c->g->prompts[VERIFY_TRACED];
	uint32_t n_layers = c->rt->weights->config.num_hidden_layers;
	double *v = mem_alloc(sizeof(*v) * p->n);

	c->r->layers = mem_alloc(sizeof(double) * n_layers);
	c->r->n_layers = n_layers;
	for (uint32_t l = 0; l < n_layers; l++) {
		uint32_t n = 0;

		for (uint32_t t = 0; t < p->n; t++) {
			if (is_clear(c, p->margin, t))
				v[n++] = c->layer_errors[(size_t)l * p->n + t];
		}
		qsort(v, n, sizeof(*v), by_value);
		c->r->layers[l] = n ? v[n / 2] : 0;
	}
	free(v);
}

static uint64_t total_tokens(const struct golden *g)
{
	uint64_t n = g->n_greedy;

	for (uint32_t i = 0; i < g->n_prompts; i++)
		n += g->prompts[i].n;
	return n;
}

enum status verify_run(struct verify_result *out, struct runtime *rt, const struct golden *g,
	const struct verify_options *o, bool progress, struct error *err)
{
	const struct model_config *config = &rt->weights->config;
	struct check c = { .rt = rt, .g = g, .o = o, .r = out, .hash_main = FNV_BASIS,
		.hash_mtp = FNV_BASIS, .hash_greedy = FNV_BASIS };
	uint32_t cap = (uint32_t)total_tokens(g);
	double begin = clock_s();
	enum status st;

	*out = (struct verify_result){ .isa = kernel_isa(rt->kn), .threads = kernel_threads(rt->kn) };
	rows_alloc(&c.main, cap);
	rows_alloc(&c.mtp, cap);
	c.hidden = mem_alloc(sizeof(float) * config->hidden_size);
	if (o->layers && g->residual)
		c.layer_errors = mem_alloc(
			sizeof(double) * config->num_hidden_layers * g->prompts[VERIFY_TRACED].n);
	kv_table_init(&c.table);
	progress_begin(&c.bar, cpu_isa_name(out->isa), cap, PROGRESS_COUNT, progress);
	TRY_GOTO(done, kv_table_reserve(&c.table, rt->limits.max_blocks, err));
	for (uint32_t i = 0; i < g->n_prompts; i++)
		TRY_GOTO(done, run_prompt(&c, i, err));
	out->main_all = summarize(&c.main, 0);
	out->mtp_all = summarize(&c.mtp, 0);
	if (c.layer_errors)
		summarize_layers(&c);
	out->digest = fnv(fnv(c.hash_main, &c.hash_mtp, 8), &c.hash_greedy, 8);
	out->seconds = clock_s() - begin;
done:
	progress_end(&c.bar);
	kv_table_deinit(&c.table, rt->pool);
	rows_free(&c.main);
	rows_free(&c.mtp);
	free(c.hidden);
	free(c.layer_errors);
	return st;
}

void verify_result_deinit(struct verify_result *r)
{
	free(r->layers);
	r->layers = NULL;
}
