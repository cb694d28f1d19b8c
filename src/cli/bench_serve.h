/*
 * Settings of `fathom bench serve`: what the command line says (bench_serve_opt.c), checked and turned into
 * what load/ takes. bench_serve.c runs it.
 */
#ifndef CLI_BENCH_SERVE_H
#define CLI_BENCH_SERVE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/opt.h"
#include "load/dataset.h"
#include "load/load_report.h"

#define BENCH_SERVE_MAX_POINTS OPT_MAX_SIZES

struct bench_serve_values {
	/* server */
	const char *backend, *base_url, *host, *endpoint;
	int64_t port;
	const char *model, *served_model_name, *tokenizer;
	struct opt_strings header;
	bool insecure;
	int64_t ready_s;
	/* dataset */
	const char *dataset_name, *dataset_path;
	int64_t num_prompts, seed;
	int64_t input_len, output_len; /* -1: not given */
	int64_t random_input_len, random_output_len, random_prefix_len;
	const char *random_range_ratio;
	int64_t sharegpt_output_len, custom_output_len;
	int64_t prefix_len, suffix_len, num_prefixes, prefix_output_len;
	bool disable_shuffle, no_oversample;
	/* traffic */
	const char *request_rate, *burstiness;
	struct opt_sizes max_concurrency;
	const char *ramp_up_strategy;
	int64_t ramp_up_start_rps, ramp_up_end_rps; /* -1: not given */
	int64_t num_warmups;
	const char *request_id_prefix;
	bool profile;
	/* request; NAN and INT64_MIN: not given */
	int ignore_eos; /* -1: not given */
	int64_t logprobs;
	int64_t top_k;
	double temperature, top_p, min_p, frequency_penalty, presence_penalty, repetition_penalty;
	const char *extra_body;
	/* result */
	const char *percentile_metrics, *metric_percentiles;
	struct opt_strings goodput, metadata;
	bool json, save_result, save_detailed, append_result;
	const char *result_dir, *result_filename, *label, *plot;
	bool disable_tqdm, progress;
};

extern const struct bench_serve_values bench_serve_preset;

/* The values after checks that one option alone cannot do. */
struct bench_serve_settings {
	enum load_backend backend;
	const char *route;
	char url[300];
	char id_prefix[80];
	double rates[BENCH_SERVE_MAX_POINTS];
	int n_rates;
	uint32_t concurrency[BENCH_SERVE_MAX_POINTS]; /* 0: no limit */
	int n_concurrency;
	struct load_arrival arrival; /* but its rate */
	struct load_dataset_config dataset; /* but its tokens */
	struct http_header headers[OPT_MAX_STRINGS + 1];
	size_t n_headers;
	char *header_text[OPT_MAX_STRINGS + 1]; /* owned: what headers point into */
	bool ignore_eos;
	json_t *fields;   /* owned */
	json_t *metadata; /* owned, or NULL */
	bool shown[LOAD_METRICS];
	double percentiles[LOAD_MAX_PERCENTILES];
	int n_percentiles;
	struct load_slo slo;
	bool has_slo;
};

enum status bench_serve_settle(struct bench_serve_settings *out, const struct bench_serve_values *v,
	struct error *err);
void bench_serve_settings_deinit(struct bench_serve_settings *s);

#endif
