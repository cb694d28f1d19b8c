/* Table, JSON and file name of a run (load/load_report.h). */
#include "load/load_report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 50

static const struct {
	const char *name, *title;
} metrics[LOAD_METRICS] = {
	{ "TTFT", "Time to First Token" },
	{ "TPOT", "Time per Output Token (excl. 1st token)" },
	{ "ITL", "Inter-token Latency" },
	{ "E2EL", "End-to-end Latency" },
};

static const char *ramp_name(enum load_ramp ramp)
{
	return ramp == LOAD_RAMP_LINEAR ? "linear" : "exponential";
}

/* A title in the middle of a line of c. */
static void put_rule(struct buf *out, const char *title, char c)
{
	int pad = COLUMNS - (int)strlen(title), left = pad / 2;

	for (int i = 0; i < left; i++)
		buf_putc(out, c);
	buf_puts(out, title);
	for (int i = left; i < pad; i++)
		buf_putc(out, c);
	buf_putc(out, '\n');
}

static void put_count(struct buf *out, const char *label, uint64_t v)
{
	buf_printf(out, "%-40s %-10llu\n", label, (unsigned long long)v);
}

static void put_real(struct buf *out, const char *label, double v)
{
	buf_printf(out, "%-40s %-10.2f\n", label, v);
}

static void put_metric(struct buf *out, const struct load_report *r, enum load_metric m)
{
	const struct load_series *s = &r->summary->of[m];
	char label[48];

	put_rule(out, metrics[m].title, '-');
	snprintf(label, sizeof(label), "Mean %s (ms):", metrics[m].name);
	put_real(out, label, s->mean_ms);
	snprintf(label, sizeof(label), "Median %s (ms):", metrics[m].name);
	put_real(out, label, s->median_ms);
	for (int i = 0; i < r->n_percentiles; i++) {
		snprintf(label, sizeof(label), "P%.6g %s (ms):", r->percentiles[i], metrics[m].name);
		put_real(out, label, load_percentile(s->sorted_ms, s->n, r->percentiles[i]));
	}
}

static void put_drafts(struct buf *out, const struct draft_stats *d)
{
	char label[48];

	put_rule(out, "Speculative Decoding", '-');
	put_real(out, "Acceptance rate (%):", draft_stats_rate(d));
	put_real(out, "Acceptance length:", draft_stats_length(d));
	put_count(out, "Drafts:", (uint64_t)d->drafts);
	put_count(out, "Draft tokens:", (uint64_t)d->draft_tokens);
	put_count(out, "Accepted tokens:", (uint64_t)d->accepted_tokens);
	if (d->n_positions)
		buf_puts(out, "Per-position acceptance (%):\n");
	for (uint32_t i = 0; i < d->n_positions; i++) {
		snprintf(label, sizeof(label), "  Position %u:", i);
		put_real(out, label, 100 * draft_stats_at(d, i));
	}
}

void load_report_put_table(struct buf *out, const struct load_report *r)
{
	const struct load_summary *s = r->summary;

	put_rule(out, " Serving Benchmark Result ", '=');
	put_count(out, "Successful requests:", s->completed);
	put_count(out, "Failed requests:", s->failed);
	if (r->max_concurrency)
		put_count(out, "Maximum request concurrency:", r->max_concurrency);
	if (r->arrival.ramp == LOAD_RAMP_NONE && isfinite(r->arrival.rate))
		put_real(out, "Request rate configured (RPS):", r->arrival.rate);
	put_real(out, "Benchmark duration (s):", s->duration_s);
	put_count(out, "Total input tokens:", s->input_tokens);
	put_count(out, "Total generated tokens:", s->output_tokens);
	put_real(out, "Request throughput (req/s):", s->request_throughput);
	if (r->has_slo)
		put_real(out, "Request goodput (req/s):", s->goodput);
	put_real(out, "Output token throughput (tok/s):", s->output_throughput);
	put_real(out, "Peak output token throughput (tok/s):", s->peak_output_tokens);
	buf_printf(out, "%-40s %-10.2f\n", "Peak concurrent requests:", (double)s->peak_requests);
	put_real(out, "Total token throughput (tok/s):", s->total_throughput);
	for (int m = 0; m < LOAD_METRICS; m++) {
		if (r->shown[m])
			put_metric(out, r, (enum load_metric)m);
	}
	if (r->drafts)
		put_drafts(out, r->drafts);
	put_rule(out, "", '=');
}

void load_report_put_rate(struct buf *out, double rate)
{
	if (isinf(rate))
		buf_puts(out, "inf");
	else
		buf_printf(out, rate == floor(rate) && rate < 1e15 ? "%.1f" : "%.12g", rate);
}

static json_t *text_or_null(const char *s)
{
	json_t *v = s ? json_string(s) : json_null();

	return v ? v : json_null(); /* not UTF-8 */
}

static json_t *real_or_inf(double v)
{
	return isinf(v) ? json_string("inf") : json_real(v);
}

static void set_settings(json_t *v, const struct load_report *r)
{
	const struct load_arrival *a = &r->arrival;
	char date[32];
	struct tm tm;

	localtime_r(&r->time, &tm);
	strftime(date, sizeof(date), "%Y%m%d-%H%M%S", &tm);
	json_object_set_new(v, "date", json_string(date));
	json_object_set_new(v, "endpoint_type", json_string(r->backend));
	json_object_set_new(v, "backend", json_string(r->backend));
	json_object_set_new(v, "label", text_or_null(r->label));
	json_object_set_new(v, "model_id", text_or_null(r->model));
	json_object_set_new(v, "tokenizer_id", text_or_null(r->tokenizer));
	json_object_set_new(v, "num_prompts", json_integer(r->num_prompts));
	if (r->metadata)
		json_object_update(v, (json_t *)r->metadata);
	json_object_set_new(v, "request_rate", real_or_inf(a->rate));
	json_object_set_new(v, "burstiness", real_or_inf(a->burstiness));
	json_object_set_new(v, "max_concurrency",
		r->max_concurrency ? json_integer(r->max_concurrency) : json_null());
	if (a->ramp != LOAD_RAMP_NONE) {
		json_object_set_new(v, "ramp_up_strategy", json_string(ramp_name(a->ramp)));
		json_object_set_new(v, "ramp_up_start_rps", json_real(a->ramp_start));
		json_object_set_new(v, "ramp_up_end_rps", json_real(a->ramp_end));
	}
}

static void set_figures(json_t *v, const struct load_report *r)
{
	const struct load_summary *s = r->summary;

	json_object_set_new(v, "duration", json_real(s->duration_s));
	json_object_set_new(v, "completed", json_integer(s->completed));
	json_object_set_new(v, "failed", json_integer(s->failed));
	json_object_set_new(v, "total_input_tokens", json_integer((json_int_t)s->input_tokens));
	json_object_set_new(v, "total_output_tokens", json_integer((json_int_t)s->output_tokens));
	json_object_set_new(v, "request_throughput", json_real(s->request_throughput));
	json_object_set_new(v, "request_goodput", r->has_slo ? json_real(s->goodput) : json_null());
	json_object_set_new(v, "output_throughput", json_real(s->output_throughput));
	json_object_set_new(v, "total_token_throughput", json_real(s->total_throughput));
	json_object_set_new(v, "max_output_tokens_per_s", json_real(s->peak_output_tokens));
	json_object_set_new(v, "max_concurrent_requests", json_integer(s->peak_requests));
	json_object_set_new(v, "rtfx", json_real(0)); /* of audio: none here */
}

static void set_lists(json_t *v, const struct load_traffic *t)
{
	json_t *input = json_array(), *output = json_array(), *ttft = json_array(), *itl = json_array();
	json_t *start = json_array(), *text = json_array(), *error = json_array();

	for (uint32_t i = 0; i < t->n; i++) {
		const struct load_record *r = &t->records[i];
		json_t *gaps = json_array(), *said = json_stringn(r->text.data ? r->text.data : "", r->text.len);

		for (size_t k = 0; k < r->n_gaps; k++)
			json_array_append_new(gaps, json_real(r->gap_s[k]));
		json_array_append_new(input, json_integer(r->prompt_tokens));
		json_array_append_new(output, json_integer(r->ok ? r->output_tokens : 0));
		json_array_append_new(ttft, json_real(r->ttft_s));
		json_array_append_new(itl, gaps);
		json_array_append_new(start, json_real(r->start_s));
		json_array_append_new(text, said ? said : json_string(""));
		json_array_append_new(error, r->error ? text_or_null(r->error) : json_string(""));
	}
	json_object_set_new(v, "input_lens", input);
	json_object_set_new(v, "output_lens", output);
	json_object_set_new(v, "ttfts", ttft);
	json_object_set_new(v, "itls", itl);
	json_object_set_new(v, "start_times", start);
	json_object_set_new(v, "generated_texts", text);
	json_object_set_new(v, "errors", error);
}

static void set_changes(json_t *v, const struct load_traffic *t)
{
	json_t *list = json_array(), *latency = json_array(), *queue = json_array();

	for (uint32_t i = 0; i < t->n; i++) {
		json_array_append_new(latency, json_real(t->records[i].ok ? t->records[i].latency_s : 0));
		json_array_append_new(queue, json_real(t->records[i].queue_s));
	}
	json_object_set_new(v, "latencies", latency);
	json_object_set_new(v, "queue_times", queue);
	for (uint32_t i = 0; i < t->n_changes; i++) {
		json_t *change = json_object();

		json_object_set_new(change, "rps", json_integer(t->changes[i].rate));
		json_object_set_new(change, "timestamp", json_real(t->changes[i].time_s));
		json_array_append_new(list, change);
	}
	if (t->n_changes)
		json_object_set(v, "rps_change_events", list);
	json_decref(list);
}

static void set_drafts(json_t *v, const struct draft_stats *d)
{
	json_t *at = json_array();

	for (uint32_t i = 0; i < d->n_positions; i++)
		json_array_append_new(at, json_real(draft_stats_at(d, i)));
	json_object_set_new(v, "spec_decode_acceptance_rate", json_real(draft_stats_rate(d)));
	json_object_set_new(v, "spec_decode_acceptance_length", json_real(draft_stats_length(d)));
	json_object_set_new(v, "spec_decode_num_drafts", json_integer((json_int_t)d->drafts));
	json_object_set_new(v, "spec_decode_draft_tokens", json_integer((json_int_t)d->draft_tokens));
	json_object_set_new(v, "spec_decode_accepted_tokens", json_integer((json_int_t)d->accepted_tokens));
	json_object_set_new(v, "spec_decode_per_position_acceptance_rates", at);
}

static void set_metric(json_t *v, const struct load_report *r, enum load_metric m)
{
	const struct load_series *s = &r->summary->of[m];
	const char *name = load_metric_names[m];
	char key[48];

	snprintf(key, sizeof(key), "mean_%s_ms", name);
	json_object_set_new(v, key, json_real(s->mean_ms));
	snprintf(key, sizeof(key), "median_%s_ms", name);
	json_object_set_new(v, key, json_real(s->median_ms));
	snprintf(key, sizeof(key), "std_%s_ms", name);
	json_object_set_new(v, key, json_real(s->std_ms));
	for (int i = 0; i < r->n_percentiles; i++) {
		snprintf(key, sizeof(key), "p%.6g_%s_ms", r->percentiles[i], name);
		json_object_set_new(v, key, json_real(load_percentile(s->sorted_ms, s->n, r->percentiles[i])));
	}
}

json_t *load_report_json(const struct load_report *r, bool detailed)
{
	json_t *v = json_object();

	set_settings(v, r);
	set_figures(v, r);
	if (detailed)
		set_lists(v, r->traffic);
	set_changes(v, r->traffic);
	if (r->drafts)
		set_drafts(v, r->drafts);
	for (int m = 0; m < LOAD_METRICS; m++) {
		if (r->shown[m])
			set_metric(v, r, (enum load_metric)m);
	}
	return v;
}

void load_report_put_file_name(struct buf *out, const struct load_report *r)
{
	const char *model = r->model ? r->model : "model", *slash = strrchr(model, '/');
	const struct load_arrival *a = &r->arrival;
	char date[32];
	struct tm tm;

	localtime_r(&r->time, &tm);
	strftime(date, sizeof(date), "%Y%m%d-%H%M%S", &tm);
	buf_printf(out, "%s-", r->label ? r->label : r->backend);
	if (a->ramp != LOAD_RAMP_NONE) {
		buf_printf(out, "ramp-up-%s-%.12gqps-%.12gqps", ramp_name(a->ramp), a->ramp_start, a->ramp_end);
	} else {
		load_report_put_rate(out, a->rate);
		buf_puts(out, "qps");
	}
	if (r->max_concurrency)
		buf_printf(out, "-concurrency%u", r->max_concurrency);
	buf_printf(out, "-%s-%s.json", slash ? slash + 1 : model, date);
}
