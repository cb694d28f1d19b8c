/* Where the time of a forward goes (cli/bench_profile.h). */
#include "cli/bench_profile.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Panels of one matrix, and what they are for. */
struct site {
	const uint8_t *begin, *end;
	enum profile_line line;
};

struct bench_profiler {
	struct kernel *kn;
	struct bench_profile *to;
	struct site *sites; /* owned, by address */
	size_t n_sites, cap;
};

static const char *const product_names[PROFILE_OPS] = {
	[PROFILE_Q_KV_A] = "q_a, kv_a",
	[PROFILE_Q_B] = "q_b",
	[PROFILE_K_ABSORBED] = "absorbed keys",
	[PROFILE_V_ABSORBED] = "absorbed values",
	[PROFILE_O] = "o_proj",
	[PROFILE_DENSE_UP] = "dense gate_up",
	[PROFILE_DENSE_DOWN] = "dense down",
	[PROFILE_ROUTER] = "router",
	[PROFILE_EXPERTS_UP] = "experts gate_up",
	[PROFILE_EXPERTS_DOWN] = "experts down",
	[PROFILE_HEAD] = "head",
};

static const char *line_name(int line)
{
	if (line < PROFILE_OPS)
		return product_names[line];
	return kernel_op_name((enum kernel_op)(line - PROFILE_OPS));
}

static void add_site(struct bench_profiler *p, const struct weight *w, enum profile_line line)
{
	if (!w->n)
		return;
	p->sites = mem_grow(p->sites, &p->cap, p->n_sites + 1, sizeof(*p->sites));
	p->sites[p->n_sites++] = (struct site){ w->panels, w->panels + weight_panels_bytes(w), line };
}

static int by_address(const void *a, const void *b)
{
	const struct site *x = a, *y = b;

	return (x->begin > y->begin) - (x->begin < y->begin);
}

static void add_layer(struct bench_profiler *p, const struct layer_weights *l, uint32_t experts)
{
	const struct attention_weights *a = &l->attn;

	add_site(p, &a->q_a_proj, PROFILE_Q_KV_A);
	add_site(p, &a->kv_a_proj, PROFILE_Q_KV_A);
	add_site(p, &a->q_b_proj, a->q_a_proj.n ? PROFILE_Q_B : PROFILE_Q_KV_A);
	add_site(p, &a->kv_b_kt, PROFILE_K_ABSORBED);
	add_site(p, &a->kv_b_v, PROFILE_V_ABSORBED);
	add_site(p, &a->o_proj, PROFILE_O);
	add_site(p, &l->mlp.gate_up, l->is_moe ? PROFILE_EXPERTS_UP : PROFILE_DENSE_UP);
	add_site(p, &l->mlp.down, l->is_moe ? PROFILE_EXPERTS_DOWN : PROFILE_DENSE_DOWN);
	if (!l->is_moe)
		return;
	add_site(p, &l->gate, PROFILE_ROUTER);
	for (uint32_t e = 0; e < experts; e++) {
		add_site(p, &l->experts[e].gate_up, PROFILE_EXPERTS_UP);
		add_site(p, &l->experts[e].down, PROFILE_EXPERTS_DOWN);
	}
}

struct bench_profiler *bench_profiler_create(struct kernel *kn, const struct model_weights *w)
{
	struct bench_profiler *p = mem_alloc(sizeof(*p));

	p->kn = kn;
	for (uint32_t i = 0; i < w->config.num_hidden_layers; i++)
		add_layer(p, &w->layers[i], w->config.n_routed_experts);
	add_site(p, &w->lm_head, PROFILE_HEAD);
	qsort(p->sites, p->n_sites, sizeof(*p->sites), by_address);
	return p;
}

void bench_profiler_destroy(struct bench_profiler *p)
{
	if (!p)
		return;
	bench_profiler_watch(p, NULL);
	free(p->sites);
	free(p);
}

/* What a product reads says what it is for. */
static int line_of(const struct bench_profiler *p, const struct kernel_event *e)
{
	const struct gemm_job *jobs = e->args;
	size_t low = 0, high = p->n_sites;

	if (e->op != KERNEL_OP_GEMM || e->n == 0)
		return PROFILE_OPS + (int)e->op;
	while (low < high) {
		size_t mid = (low + high) / 2;

		if (jobs[0].w.panels >= p->sites[mid].end)
			low = mid + 1;
		else
			high = mid;
	}
	return low < p->n_sites && jobs[0].w.panels >= p->sites[low].begin ? (int)p->sites[low].line
									   : PROFILE_OPS + (int)e->op;
}

/* Pairs of query and key of causal attention, and keys. */
static void count_pairs(const struct mla_seq *seqs, uint32_t n, double *pairs, double *keys)
{
	*pairs = *keys = 0;
	for (uint32_t i = 0; i < n; i++) {
		*pairs += seqs[i].rows * (seqs[i].pos0 + (seqs[i].rows + 1) / 2.0);
		*keys += (double)seqs[i].pos0 + seqs[i].rows;
	}
}

static double cache_bytes(const struct kv_view *cache, double keys)
{
	return keys * (double)kernel_kv_row_bytes(cache->kv_lora, cache->rope);
}

static void gemm_work(struct bench_work *w, const struct gemm_job *jobs, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct weight *m = &jobs[i].w;
		double flops = 2.0 * jobs[i].m * m->n * m->k;

		w->bytes += (double)(weight_panels_bytes(m) + weight_scales_bytes(m));
		if (weight_traits(m->format)->integer)
			w->int8_ops += flops;
		else
			w->bf16_flops += flops;
	}
}

static void prompt_work(struct bench_work *w, const struct mla_prompt_args *a)
{
	double pairs, keys, heads = a->heads;

	count_pairs(a->seqs, a->n_seqs, &pairs, &keys);
	/* Keys and values are made from the latents once per call. */
	w->bf16_flops = 2 * pairs * heads * (a->nope + a->cache.rope + a->v_dim) +
			2 * keys * heads * (a->nope + a->v_dim) * (double)a->cache.kv_lora;
	w->bytes = cache_bytes(&a->cache, keys) +
		   (double)(weight_panels_bytes(&a->kv_b_k) + weight_panels_bytes(&a->kv_b_v));
}

static void decode_work(struct bench_work *w, const struct mla_decode_args *a)
{
	double pairs, keys;

	count_pairs(a->seqs, a->n_seqs, &pairs, &keys);
	w->bf16_flops = 2 * pairs * a->heads * (2.0 * a->cache.kv_lora + a->cache.rope);
	w->bytes = cache_bytes(&a->cache, keys);
}

struct bench_work bench_op_work(const struct kernel_event *e)
{
	struct bench_work w = { 0 };

	if (e->op == KERNEL_OP_GEMM)
		gemm_work(&w, e->args, e->n);
	else if (e->op == KERNEL_OP_MLA_PROMPT)
		prompt_work(&w, e->args);
	else if (e->op == KERNEL_OP_MLA_DECODE)
		decode_work(&w, e->args);
	return w;
}

static void on_event(void *arg, const struct kernel_event *e)
{
	struct bench_profiler *p = arg;
	struct profile_entry *line = &p->to->lines[line_of(p, e)];
	struct bench_work w = bench_op_work(e);

	line->calls++;
	line->seconds += (double)e->ns * 1e-9;
	line->busy_seconds += (double)e->busy_ns * 1e-9;
	line->work.bytes += w.bytes;
	line->work.bf16_flops += w.bf16_flops;
	line->work.int8_ops += w.int8_ops;
}

void bench_profiler_watch(struct bench_profiler *p, struct bench_profile *to)
{
	p->to = to;
	if (to) {
		memset(to, 0, sizeof(*to));
		to->threads = kernel_threads(p->kn);
	}
	kernel_observe(p->kn, to ? on_event : NULL, p);
}

/* Time between ops: the caller's own. */
static double seconds_between(const struct bench_profile *p)
{
	double sum = 0;

	for (int i = 0; i < PROFILE_LINES; i++)
		sum += p->lines[i].seconds;
	return p->seconds - sum;
}

static double idle_of(const struct bench_profile *p, const struct profile_entry *e)
{
	double idle = 1 - e->busy_seconds / (e->seconds * p->threads);

	return idle > 0 ? idle : 0; /* clocks of cores may differ a little */
}

void bench_profile_put(struct buf *out, const struct bench_profile *p, const struct bench_rates *limit)
{
	double n = p->repetitions, between = seconds_between(p);

	buf_printf(out, "  %-16s %8s %10s %7s %9s %9s %10s %9s %10s %8s\n", "op", "calls", "ms", "share",
		"waiting", "GB", "GFLOP", "GB/s", "GFLOP/s", "of limit");
	for (int i = 0; i < PROFILE_LINES; i++) {
		const struct profile_entry *e = &p->lines[i];
		double flops = e->work.bf16_flops + e->work.int8_ops;

		if (!e->calls)
			continue;
		buf_printf(out, "  %-16s %8.1f %10.3f %5.1f %% %7.1f %%", line_name(i), (double)e->calls / n,
			e->seconds / n * 1e3, 100 * e->seconds / p->seconds, 100 * idle_of(p, e));
		if (e->work.bytes > 0)
			buf_printf(out, " %9.4f %10.3f %9.1f %10.1f %6.1f %%\n", e->work.bytes / n * 1e-9,
				flops / n * 1e-9, e->work.bytes / e->seconds * 1e-9, flops / e->seconds * 1e-9,
				100 * bench_limit_seconds(&e->work, limit, NULL) / e->seconds);
		else
			buf_printf(out, " %9s %10s %9s %10s %8s\n", "-", "-", "-", "-", "-");
	}
	buf_printf(out, "  %-16s %8s %10.3f %5.1f %%\n", "between ops", "", between / n * 1e3,
		100 * between / p->seconds);
}

json_t *bench_profile_json(const struct bench_profile *p, const struct bench_rates *limit)
{
	double n = p->repetitions;
	json_t *ops = json_array();

	for (int i = 0; i < PROFILE_LINES; i++) {
		const struct profile_entry *e = &p->lines[i];
		json_t *v;

		if (!e->calls)
			continue;
		v = json_pack("{s:s, s:f, s:f, s:f, s:f}", "op", line_name(i), "calls", (double)e->calls / n,
			"seconds", e->seconds / n, "share", e->seconds / p->seconds, "waiting", idle_of(p, e));
		if (e->work.bytes > 0)
			json_object_update_new(v, json_pack("{s:f, s:f, s:f, s:f}", "bytes", e->work.bytes / n,
							  "bf16_flops", e->work.bf16_flops / n, "int8_ops",
							  e->work.int8_ops / n, "fraction",
							  bench_limit_seconds(&e->work, limit, NULL) / e->seconds));
		json_array_append_new(ops, v);
	}
	return json_pack("{s:f, s:f, s:o}", "seconds", p->seconds / n, "between_ops_seconds",
		seconds_between(p) / n, "ops", ops);
}
