/* Options of bench serve: names and defaults are those of `vllm bench serve`, with a few of our own. */
#include <math.h>
#include <stddef.h>

#include "cli/bench_serve.h"
#include "cli/commands.h"

#define AT(field) offsetof(struct bench_serve_values, field)
#define TEXT(n, field, val, text) { .name = n, .type = OPT_STRING, .offset = AT(field), .value = val, .help = text }
#define FLAG(n, field, text) { .name = n, .type = OPT_SWITCH, .offset = AT(field), .help = text }
#define WORDS(n, field, val, text) { .name = n, .type = OPT_STRINGS, .offset = AT(field), .value = val, .help = text }
#define WHOLE(n, field, low, high, text) \
	{ .name = n, .type = OPT_INT, .offset = AT(field), .min = low, .max = high, .value = "N", .help = text }
#define REAL(n, field, low, high, val, text) \
	{ .name = n, .type = OPT_DOUBLE, .offset = AT(field), .min = low, .max = high, .value = val, .help = text }

const struct bench_serve_values bench_serve_preset = {
	.backend = "openai", .host = "127.0.0.1", .port = 8000,
	.dataset_name = "random", .num_prompts = 1000, .input_len = -1, .output_len = -1,
	.random_input_len = 1024, .random_output_len = 128, .random_range_ratio = "0.0",
	.custom_output_len = 256, .prefix_len = 256, .suffix_len = 256, .num_prefixes = 10, .prefix_output_len = 128,
	.request_rate = "inf", .burstiness = "1.0", .ramp_up_start_rps = -1, .ramp_up_end_rps = -1,
	.ignore_eos = -1, .logprobs = -1, .top_k = INT64_MIN, .temperature = NAN, .top_p = NAN, .min_p = NAN,
	.frequency_penalty = NAN, .presence_penalty = NAN, .repetition_penalty = NAN,
	.percentile_metrics = "ttft,tpot,itl", .metric_percentiles = "99", .progress = true,
};

static const struct opt server_opts[] = {
	{ .name = "backend", .type = OPT_CHOICE, .offset = AT(backend), .choices = "openai|vllm|openai-chat",
		.help = "openai and vllm: completions; openai-chat: chat completions (default openai)." },
	TEXT("base-url", base_url, "URL", "http[s]://HOST[:PORT][/PATH] of the server, instead of --host and --port."),
	TEXT("host", host, "HOST", "The server's host (default 127.0.0.1)."),
	{ .name = "port", .type = OPT_INT, .offset = AT(port), .min = 1, .max = 65535, .value = "PORT",
		.help = "The server's port (default 8000)." },
	TEXT("endpoint", endpoint, "PATH",
		"Route of the requests (default /v1/completions, with openai-chat /v1/chat/completions)."),
	TEXT("model", model, "NAME", "The model's name (default: the first of /v1/models)."),
	TEXT("served-model-name", served_model_name, "NAME", "Name to send instead of --model."),
	TEXT("tokenizer", tokenizer, "DIR",
		"Directory with tokenizer.json (default: --model where it is one, else the server's /tokenize and "
		"/detokenize)."),
	WORDS("header", header, "NAME=VALUE ...",
		"Headers of every request. OPENAI_API_KEY in the environment adds a Bearer token."),
	FLAG("insecure", insecure, "Take any TLS certificate (default: no)."),
	WHOLE("ready-check-timeout-sec", ready_s, 0, 86400,
		"Seconds to wait for a server that is not up yet (default 0: the first request decides)."),
	{ 0 },
};

static const struct opt dataset_opts[] = {
	{ .name = "dataset-name", .type = OPT_CHOICE, .offset = AT(dataset_name), .choices = LOAD_DATASETS,
		.help = "Where prompts come from (default random)." },
	TEXT("dataset-path", dataset_path, "FILE",
		"sharegpt: a JSON array of conversations; custom: JSON lines with \"prompt\"."),
	WHOLE("num-prompts", num_prompts, 1, LOAD_MAX_PROMPTS, "Requests (default 1000)."),
	WHOLE("seed", seed, 0, 9007199254740992.0, "Seed of prompts and arrivals (default 0)."),
	WHOLE("input-len", input_len, 0, LOAD_MAX_TOKENS,
		"Tokens of a prompt, whatever dataset makes it up (of prefix_repetition: of its suffix)."),
	WHOLE("output-len", output_len, 1, LOAD_MAX_TOKENS, "Tokens of an answer, whatever the dataset."),
	WHOLE("random-input-len", random_input_len, 0, LOAD_MAX_TOKENS,
		"random: tokens of a prompt, the server's BOS included (default 1024)."),
	WHOLE("random-output-len", random_output_len, 1, LOAD_MAX_TOKENS, "random: tokens of an answer (default 128)."),
	TEXT("random-range-ratio", random_range_ratio, "R",
		"random: lengths vary uniformly by this part, as 0.2 or {\"input\": 0.2, \"output\": 0} (default 0)."),
	WHOLE("random-prefix-len", random_prefix_len, 0, LOAD_MAX_TOKENS,
		"random: tokens in front that all prompts share (default 0)."),
	WHOLE("sharegpt-output-len", sharegpt_output_len, 1, LOAD_MAX_TOKENS,
		"sharegpt: tokens of an answer (default: as in the file)."),
	WHOLE("custom-output-len", custom_output_len, -1, LOAD_MAX_TOKENS,
		"custom: tokens of an answer (default 256); -1: \"output_tokens\" of the line."),
	WHOLE("prefix-repetition-prefix-len", prefix_len, 0, LOAD_MAX_TOKENS,
		"prefix_repetition: tokens of a prefix (default 256)."),
	WHOLE("prefix-repetition-suffix-len", suffix_len, 1, LOAD_MAX_TOKENS,
		"prefix_repetition: tokens after it (default 256)."),
	WHOLE("prefix-repetition-num-prefixes", num_prefixes, 1, LOAD_MAX_PROMPTS,
		"prefix_repetition: different prefixes (default 10)."),
	WHOLE("prefix-repetition-output-len", prefix_output_len, 1, LOAD_MAX_TOKENS,
		"prefix_repetition: tokens of an answer (default 128)."),
	FLAG("disable-shuffle", disable_shuffle, "Take the prompts of a file in their order (default: no)."),
	FLAG("no-oversample", no_oversample,
		"Send fewer requests where a file has fewer prompts (default: repeat some)."),
	{ 0 },
};

static const struct opt traffic_opts[] = {
	TEXT("request-rate", request_rate, "R,...",
		"Requests per second, or inf: all at once (default inf). Several: a run for each."),
	TEXT("burstiness", burstiness, "B",
		"Shape of the gamma distribution of gaps: 1 Poisson, less is burstier, inf constant (default 1)."),
	{ .name = "max-concurrency", .type = OPT_SIZES, .offset = AT(max_concurrency), .min = 1, .max = 1e6,
		.value = "N,...",
		.help = "Requests open at once at most (default: no limit). Several: a run for each." },
	{ .name = "ramp-up-strategy", .type = OPT_CHOICE, .offset = AT(ramp_up_strategy),
		.choices = "linear|exponential", .help = "Let the rate grow over the run, instead of --request-rate." },
	WHOLE("ramp-up-start-rps", ramp_up_start_rps, 1, 1e6, "Requests per second at the beginning."),
	WHOLE("ramp-up-end-rps", ramp_up_end_rps, 1, 1e6, "Requests per second at the end."),
	WHOLE("num-warmups", num_warmups, 0, LOAD_MAX_PROMPTS,
		"Requests of the first prompt before each run, not counted (default 0)."),
	TEXT("request-id-prefix", request_id_prefix, "TEXT",
		"Beginning of the x-request-id header (default bench- and eight random digits)."),
	FLAG("profile", profile, "Call the server's /start_profile and /stop_profile around each run (default: no)."),
	{ 0 },
};

static const struct opt request_opts[] = {
	{ .name = "ignore-eos", .type = OPT_TRISTATE, .offset = AT(ignore_eos),
		.help = "Ask for answers of full length (default: with datasets that are made up)." },
	WHOLE("logprobs", logprobs, 0, 1000, "Ask for this many log probabilities a token (default: none)."),
	REAL("temperature", temperature, 0, 1e6, "T", "This and the following are sent only when they are given."),
	REAL("top-p", top_p, 0, 1, "P", "Nucleus sampling."),
	WHOLE("top-k", top_k, -1, 1e9, "Sample among the N likeliest tokens."),
	REAL("min-p", min_p, 0, 1, "P", "Least probability, relative to the likeliest token's."),
	REAL("frequency-penalty", frequency_penalty, -1e6, 1e6, "F", "Penalty by count."),
	REAL("presence-penalty", presence_penalty, -1e6, 1e6, "F", "Penalty by presence."),
	REAL("repetition-penalty", repetition_penalty, 0, 1e6, "R", "Divisor of the logits of what was there."),
	TEXT("extra-body", extra_body, "JSON", "An object laid over every request."),
	{ 0 },
};

static const struct opt result_opts[] = {
	TEXT("percentile-metrics", percentile_metrics, "NAME,...",
		"Metrics to report: ttft, tpot, itl, e2el (default ttft,tpot,itl)."),
	TEXT("metric-percentiles", metric_percentiles, "P,...", "Their percentiles (default 99)."),
	WORDS("goodput", goodput, "NAME:MS ...",
		"Count requests that keep these limits in milliseconds: ttft, tpot, e2el."),
	FLAG("json", json, "Print JSON, one object a run, instead of tables."),
	FLAG("save-result", save_result, "Write the result of each run to a file."),
	FLAG("save-detailed", save_detailed, "The same, with times, texts and errors of every request."),
	FLAG("append-result", append_result, "Append to the file, a line each."),
	TEXT("result-dir", result_dir, "DIR", "Folder of the file, made if need be (default: here)."),
	TEXT("result-filename", result_filename, "NAME",
		"Name of the file (default: LABEL-RATEqps[-concurrencyN]-MODEL-DATE.json)."),
	WORDS("metadata", metadata, "KEY=VALUE ...", "Further keys of the result."),
	TEXT("label", label, "TEXT", "Label of the result, and beginning of its file's name (default: the backend)."),
	TEXT("plot", plot, "FILE.svg", "Draw latency against load, one point a run."),
	FLAG("disable-tqdm", disable_tqdm, "No progress bar, as --no-progress (default: no)."),
	FLAG("progress", progress, "A progress bar on a terminal (default: yes)."),
	{ 0 },
};

static const struct opt no_opts[] = { { 0 } };

static const struct opt_list lists[] = {
	{ "server", server_opts },
	{ "dataset", dataset_opts },
	{ "traffic", traffic_opts },
	{ "request", request_opts },
	{ "result", result_opts },
	{ 0 },
};

const struct opt_table bench_serve_table = {
	.command = "bench serve",
	.arguments = "",
	.summary = "Load a server with requests and measure throughput and latencies",
	.details = "Options, request, arrivals, table and result are those of vllm bench serve; the beginning of an\n"
		   "option's name will do. The first prompt is sent alone at first; where it fails, nothing follows.\n"
		   "With several values of --max-concurrency or --request-rate each makes a run, in turn.\n",
	.opts = no_opts,
	.common = lists,
	.prefixes = true,
};
