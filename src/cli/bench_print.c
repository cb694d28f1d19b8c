/* Tables and JSON of `fathom bench model` (cli/bench.h). */
#include "cli/bench.h"

#include <jansson.h>

#include "cli/cli.h"
#include "cli/jsonl.h"

static uint32_t moe_layers(const struct model_config *c)
{
	return c->n_routed_experts ? c->num_hidden_layers - c->first_k_dense_replace : 0;
}

static const char *phase(const struct bench_row *r)
{
	return r->prefill ? "prefill" : "decode";
}

static void put_profiles(struct buf *out, const struct bench *b)
{
	for (uint32_t i = 0; i < b->n_rows; i++) {
		const struct bench_row *r = &b->rows[i];

		if (!r->profile)
			continue;
		buf_printf(out, "\n%s, %s, %u tokens, %u sequences: one %s\n", phase(r), cpu_isa_name(r->isa),
			r->tokens, r->seqs, r->prefill ? "prompt" : "step");
		bench_profile_put(out, r->profile, &r->figures.limit);
	}
}

void bench_put_table(struct buf *out, const struct bench *b, const char *shape, const char *format)
{
	const struct model_weights *w = b->rt->weights;

	buf_printf(out, "%s, %s, %u layers (%u with %u experts), %d threads, weights ", shape, format,
		w->config.num_hidden_layers, moe_layers(&w->config), w->config.n_routed_experts,
		kernel_threads(b->rt->kn));
	cli_put_bytes(out, (double)w->bytes);
	buf_printf(out, "\n%-8s %-6s %7s %5s %10s %10s %8s ", "phase", "isa", "tokens", "seqs", "ms", "tokens/s",
		"experts");
	bench_figures_put_head(out);
	buf_puts(out, "\n");
	for (uint32_t i = 0; i < b->n_rows; i++) {
		const struct bench_row *r = &b->rows[i];

		buf_printf(out, "%-8s %-6s %7u %5u %10.3f %10.2f ", phase(r), cpu_isa_name(r->isa), r->tokens, r->seqs,
			r->figures.seconds * 1e3, r->tokens_per_s);
		if (r->prefill)
			buf_printf(out, "%8s ", "-");
		else
			buf_printf(out, "%8.1f ", r->experts_hit);
		bench_figures_put(out, &r->figures);
		buf_puts(out, "\n");
	}
	bench_meter_put(out, &b->meter);
	put_profiles(out, b);
}

static json_t *row_json(const struct bench_row *r)
{
	json_t *v = json_pack("{s:s, s:s, s:I, s:I, s:f}", "phase", phase(r), "isa", cpu_isa_name(r->isa),
		r->prefill ? "prompt_tokens" : "context_tokens", (json_int_t)r->tokens, "seqs",
		(json_int_t)r->seqs, "tokens_per_s", r->tokens_per_s);

	if (!r->prefill)
		json_object_set_new(v, "experts_per_layer", json_real(r->experts_hit));
	bench_figures_json(v, &r->figures, r->samples, r->n_samples);
	if (r->profile)
		json_object_set_new(v, "profile", bench_profile_json(r->profile, &r->figures.limit));
	return v;
}

void bench_put_json(struct buf *out, const struct bench *b, const char *shape, const char *format)
{
	const struct model_weights *w = b->rt->weights;
	json_t *rows = json_array();

	for (uint32_t i = 0; i < b->n_rows; i++)
		json_array_append_new(rows, row_json(&b->rows[i]));
	json_put_pretty(out, json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:I, s:o, s:o}", "shape", shape, "format",
		format, "layers", (int)w->config.num_hidden_layers, "moe_layers", (int)moe_layers(&w->config),
		"experts", (int)w->config.n_routed_experts, "threads", kernel_threads(b->rt->kn),
		"weight_bytes", (json_int_t)w->bytes, "highest", bench_rates_json(&b->meter.highest), "rows",
		rows));
}
