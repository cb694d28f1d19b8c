/* From options to settings of bench serve (cli/bench_serve.h): what one option's table row cannot check. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/random.h"
#include "cli/bench_serve.h"
#include "cli/cli.h"
#include "load/load_request.h"

/* A number above 0, or inf; *end: the first byte after it. */
static enum status parse_positive(double *out, const char *flag, const char *text, const char **end, struct error *err)
{
	char *after;
	double v = strtod(text, &after);

	if (after == text || isnan(v) || v < 1e-6 || (*after && *after != ','))
		return error_set(err, E_INVAL, "%s: found '%.40s', expected a number of at least 1e-6, or inf", flag, text);
	*out = v;
	*end = after;
	return OK;
}

static enum status parse_rates(struct bench_serve_settings *s, const char *text, struct error *err)
{
	for (;;) {
		if (s->n_rates == BENCH_SERVE_MAX_POINTS)
			return error_set(err, E_INVAL, "--request-rate: more than %d values", BENCH_SERVE_MAX_POINTS);
		TRY(parse_positive(&s->rates[s->n_rates++], "--request-rate", text, &text, err));
		if (!*text++)
			return OK;
	}
}

static enum status settle_traffic(struct bench_serve_settings *s, const struct bench_serve_values *v, struct error *err)
{
	const char *end = "";

	TRY(parse_rates(s, v->request_rate, err));
	TRY(parse_positive(&s->arrival.burstiness, "--burstiness", v->burstiness, &end, err));
	if (*end)
		return error_set(err, E_INVAL, "--burstiness: found '%.40s', expected one number", v->burstiness);
	s->arrival.seed = (uint64_t)v->seed;
	for (int i = 0; i < v->max_concurrency.n; i++)
		s->concurrency[s->n_concurrency++] = (uint32_t)v->max_concurrency.v[i];
	if (!s->n_concurrency)
		s->n_concurrency = 1;
	if (!v->ramp_up_strategy) {
		if (v->ramp_up_start_rps >= 0 || v->ramp_up_end_rps >= 0)
			return error_set(err, E_INVAL, "--ramp-up-start-rps and --ramp-up-end-rps: expected --ramp-up-strategy too");
		return OK;
	}
	if (s->n_rates > 1 || isfinite(s->rates[0]))
		return error_set(err, E_INVAL, "--ramp-up-strategy: found --request-rate too, expected one of them");
	if (v->ramp_up_start_rps < 0 || v->ramp_up_end_rps < v->ramp_up_start_rps)
		return error_set(err, E_INVAL, "--ramp-up-strategy: expected --ramp-up-start-rps and a --ramp-up-end-rps no lower");
	s->arrival.ramp = strcmp(v->ramp_up_strategy, "linear") == 0 ? LOAD_RAMP_LINEAR : LOAD_RAMP_EXPONENTIAL;
	s->arrival.ramp_start = (double)v->ramp_up_start_rps;
	s->arrival.ramp_end = (double)v->ramp_up_end_rps;
	return OK;
}

static enum status parse_ratio(struct load_dataset_config *d, const char *text, struct error *err)
{
	static const char flag[] = "--random-range-ratio";
	double below = nextafter(1, 0);
	json_t *v;
	enum status st = OK;

	TRY(json_load_text(&v, text, strlen(text), flag, err));
	if (json_is_number(v)) {
		d->input_ratio = d->output_ratio = json_number_value(v);
	} else if (json_is_object(v)) {
		st = json_opt_double(&d->input_ratio, v, flag, "input", 0, below, 0, err);
		if (st == OK)
			st = json_opt_double(&d->output_ratio, v, flag, "output", 0, below, 0, err);
	} else {
		st = error_set(err, E_INVAL, "%s: found '%.40s', expected a number or an object", flag, text);
	}
	if (st == OK && (!(d->input_ratio >= 0) || !(d->input_ratio < 1)))
		st = error_set(err, E_INVAL, "%s: found '%.40s', expected at least 0 and below 1", flag, text);
	json_decref(v);
	return st;
}

static enum status settle_dataset(struct bench_serve_settings *s, const struct bench_serve_values *v, struct error *err)
{
	bool sharegpt = strcmp(v->dataset_name, "sharegpt") == 0, custom = strcmp(v->dataset_name, "custom") == 0;
	bool random = strcmp(v->dataset_name, "random") == 0;
	struct load_dataset_config *d = &s->dataset;

	*d = (struct load_dataset_config){ .name = v->dataset_name, .path = v->dataset_path,
		.n = (uint32_t)v->num_prompts, .seed = (uint64_t)v->seed, .in_order = v->disable_shuffle,
		.no_repeat = v->no_oversample };
	if ((sharegpt || custom) && !v->dataset_path)
		return error_set(err, E_INVAL, "--dataset-name %s: expected --dataset-path", v->dataset_name);
	if (!sharegpt && !custom && v->dataset_path)
		return error_set(err, E_INVAL, "--dataset-path: found --dataset-name %s, expected sharegpt or custom",
			v->dataset_name);
	s->ignore_eos = v->ignore_eos < 0 ? !sharegpt && !custom : v->ignore_eos;
	if (sharegpt)
		d->output_tokens = (uint32_t)v->sharegpt_output_len;
	else if (custom)
		d->output_tokens = v->custom_output_len < 0 ? 0 : (uint32_t)v->custom_output_len;
	else
		d->output_tokens = (uint32_t)(random ? v->random_output_len : v->prefix_output_len);
	if (custom && v->custom_output_len == 0)
		return error_set(err, E_INVAL, "--custom-output-len: found 0, expected -1 or at least 1");
	if (v->output_len >= 0)
		d->output_tokens = (uint32_t)v->output_len;
	d->input_tokens = (uint32_t)(v->input_len >= 0 ? v->input_len : v->random_input_len);
	d->prefix_tokens = (uint32_t)(random ? v->random_prefix_len : v->prefix_len);
	d->suffix_tokens = (uint32_t)(v->input_len > 0 ? v->input_len : v->suffix_len);
	d->prefixes = (uint32_t)v->num_prefixes;
	return parse_ratio(d, v->random_range_ratio, err);
}

static void add_header(struct bench_serve_settings *s, char *text, char *value)
{
	s->header_text[s->n_headers] = text;
	s->headers[s->n_headers++] = (struct http_header){ text, value };
}

static enum status settle_headers(struct bench_serve_settings *s, const struct bench_serve_values *v, struct error *err)
{
	const char *key = env_get("OPENAI_API_KEY");

	for (int i = 0; i < v->header.n; i++) {
		char *text, *eq = strchr(v->header.v[i], '=');

		if (!eq || eq == v->header.v[i])
			return error_set(err, E_INVAL, "--header: found '%.60s', expected NAME=VALUE", v->header.v[i]);
		text = mem_strdup(v->header.v[i]);
		text[eq - v->header.v[i]] = 0;
		add_header(s, text, text + (eq - v->header.v[i]) + 1);
	}
	if (key && !http_header_find(s->headers, s->n_headers, "Authorization")) {
		struct buf b = { 0 };

		buf_puts(&b, "Authorization");
		buf_append(&b, "", 1);
		buf_printf(&b, "Bearer %s", key);
		add_header(s, b.data, b.data + strlen("Authorization") + 1);
	}
	return OK;
}

/* What goes into JSON. */
static enum status check_text(const char *text, const char *flag, struct error *err)
{
	return text ? cli_utf8_check(text, strlen(text), flag, err) : OK;
}

static enum status settle_server(struct bench_serve_settings *s, const struct bench_serve_values *v, struct error *err)
{
	uint32_t digits = (uint32_t)random_u64(clock_ns(), (uint64_t)time(NULL));
	int n;

	TRY(check_text(v->model, "--model", err));
	TRY(check_text(v->served_model_name, "--served-model-name", err));
	TRY(check_text(v->label, "--label", err));
	s->backend = strcmp(v->backend, "openai-chat") == 0 ? LOAD_CHAT : LOAD_COMPLETIONS;
	s->route = v->endpoint ? v->endpoint : load_request_route(s->backend);
	if (*s->route != '/')
		return error_set(err, E_INVAL, "--endpoint: found '%.60s', expected a path that begins with /", s->route);
	if (v->base_url)
		n = snprintf(s->url, sizeof(s->url), "%s", v->base_url);
	else if (strchr(v->host, ':') && *v->host != '[')
		n = snprintf(s->url, sizeof(s->url), "http://[%s]:%u", v->host, (unsigned)v->port);
	else
		n = snprintf(s->url, sizeof(s->url), "http://%s:%u", v->host, (unsigned)v->port);
	if (n >= (int)sizeof(s->url))
		return error_set(err, E_INVAL, "--base-url: longer than %zu bytes", sizeof(s->url) - 1);
	if (v->request_id_prefix)
		n = snprintf(s->id_prefix, sizeof(s->id_prefix), "%s", v->request_id_prefix);
	else
		n = snprintf(s->id_prefix, sizeof(s->id_prefix), "bench-%08x-", digits);
	if (n >= (int)sizeof(s->id_prefix))
		return error_set(err, E_INVAL, "--request-id-prefix: longer than %zu bytes", sizeof(s->id_prefix) - 1);
	return settle_headers(s, v, err);
}

static void set_real(json_t *fields, const char *key, double v)
{
	if (!isnan(v))
		json_object_set_new(fields, key, json_real(v));
}

static enum status settle_fields(struct bench_serve_settings *s, const struct bench_serve_values *v, struct error *err)
{
	json_t *extra;

	s->fields = json_object();
	set_real(s->fields, "temperature", v->temperature);
	set_real(s->fields, "top_p", v->top_p);
	if (v->top_k != INT64_MIN)
		json_object_set_new(s->fields, "top_k", json_integer(v->top_k));
	set_real(s->fields, "min_p", v->min_p);
	set_real(s->fields, "frequency_penalty", v->frequency_penalty);
	set_real(s->fields, "presence_penalty", v->presence_penalty);
	set_real(s->fields, "repetition_penalty", v->repetition_penalty);
	if (!v->extra_body)
		return OK;
	TRY(json_load_text(&extra, v->extra_body, strlen(v->extra_body), "--extra-body", err));
	if (!json_is_object(extra)) {
		error_set(err, E_INVAL, "--extra-body: found %s, expected an object", json_type_name(extra));
		json_decref(extra);
		return E_INVAL;
	}
	json_object_update(s->fields, extra);
	json_decref(extra);
	return OK;
}

/* One of the metrics' names; LOAD_METRICS: none. */
static int metric(const char *name, size_t len)
{
	int m = 0;

	while (m < LOAD_METRICS && (strlen(load_metric_names[m]) != len || memcmp(load_metric_names[m], name, len) != 0))
		m++;
	return m;
}

static enum status settle_metrics(struct bench_serve_settings *s, const struct bench_serve_values *v, struct error *err)
{
	const char *at;

	for (at = v->percentile_metrics; *at;) {
		size_t n = strcspn(at, ",");
		int m = metric(at, n);

		if (m == LOAD_METRICS)
			return error_set(err, E_INVAL, "--percentile-metrics: found '%.40s', expected ttft, tpot, itl or e2el", at);
		s->shown[m] = true;
		at += n + (at[n] == ',');
	}
	for (at = v->metric_percentiles; *at;) {
		char *end;
		double p = strtod(at, &end);

		if (end == at || !(p >= 0 && p <= 100) || (*end && *end != ','))
			return error_set(err, E_INVAL, "--metric-percentiles: found '%.40s', expected numbers from 0 to 100", at);
		if (s->n_percentiles == LOAD_MAX_PERCENTILES)
			return error_set(err, E_INVAL, "--metric-percentiles: more than %d values", LOAD_MAX_PERCENTILES);
		s->percentiles[s->n_percentiles++] = p;
		at = end + (*end == ',');
	}
	return OK;
}

static enum status settle_goodput(struct bench_serve_settings *s, const struct bench_serve_values *v, struct error *err)
{
	s->slo = (struct load_slo){ NAN, NAN, NAN };
	s->has_slo = v->goodput.n > 0;
	for (int i = 0; i < v->goodput.n; i++) {
		const char *word = v->goodput.v[i], *colon = strchr(word, ':');
		int m = colon ? metric(word, (size_t)(colon - word)) : LOAD_METRICS;
		char *end = NULL;
		double ms = colon ? strtod(colon + 1, &end) : NAN;

		if (m == LOAD_METRICS || m == LOAD_ITL || end == colon + 1 || *end || !(ms >= 0))
			return error_set(err, E_INVAL,
				"--goodput: found '%.40s', expected ttft, tpot or e2el, a colon and milliseconds", word);
		*(m == LOAD_TTFT ? &s->slo.ttft_ms : m == LOAD_TPOT ? &s->slo.tpot_ms : &s->slo.e2el_ms) = ms;
	}
	return OK;
}

static enum status settle_metadata(struct bench_serve_settings *s, const struct bench_serve_values *v, struct error *err)
{
	if (v->metadata.n)
		s->metadata = json_object();
	for (int i = 0; i < v->metadata.n; i++) {
		const char *word = v->metadata.v[i], *eq = strchr(word, '=');
		json_t *value = eq ? json_string(eq + 1) : NULL;
		char key[128];

		if (!value || eq == word || (size_t)(eq - word) >= sizeof(key)) {
			json_decref(value);
			return error_set(err, E_INVAL, "--metadata: found '%.60s', expected KEY=VALUE", word);
		}
		snprintf(key, sizeof(key), "%.*s", (int)(eq - word), word);
		if (json_object_set_new(s->metadata, key, value) != 0)
			return error_set(err, E_INVAL, "--metadata: found '%.60s', expected UTF-8", word);
	}
	return OK;
}

enum status bench_serve_settle(struct bench_serve_settings *out, const struct bench_serve_values *v, struct error *err)
{
	struct bench_serve_settings *s = out;
	int runs;

	TRY(settle_server(s, v, err));
	TRY(settle_dataset(s, v, err));
	TRY(settle_traffic(s, v, err));
	TRY(settle_fields(s, v, err));
	TRY(settle_metrics(s, v, err));
	TRY(settle_goodput(s, v, err));
	TRY(settle_metadata(s, v, err));
	runs = s->n_rates * s->n_concurrency;
	if (v->append_result && !v->save_result && !v->save_detailed)
		return error_set(err, E_INVAL, "--append-result: expected --save-result or --save-detailed too");
	if (v->result_filename && runs > 1 && !v->append_result)
		return error_set(err, E_INVAL, "--result-filename: %d runs in one file, expected --append-result too", runs);
	return OK;
}

void bench_serve_settings_deinit(struct bench_serve_settings *s)
{
	for (size_t i = 0; i < s->n_headers; i++)
		free(s->header_text[i]);
	json_decref(s->fields);
	json_decref(s->metadata);
	*s = (struct bench_serve_settings){0};
}
