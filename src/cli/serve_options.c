/*
 * Options of fathom serve (cli/serve_options.h), in vLLM's words. Three kinds: flags that work, flags that are
 * accepted because what they ask for is so anyway, and flags that are refused with the reason.
 */
#include "cli/serve_options.h"

#include <string.h>

#include "base/log.h"
#include "server/serving.h"

#define AT(field) .offset = offsetof(struct serve_values, field)
#define AT_MACHINE(field) .offset = offsetof(struct serve_values, machine.field)
#define TEXT(flag, word) .name = flag, .type = OPT_STRING, .value = word
#define JSON(flag) .name = flag, .type = OPT_JSON, .value = "JSON"
#define SWITCH(flag) .name = flag, .type = OPT_SWITCH

static const struct opt http_opts[] = {
	{ TEXT("model", "DIR"), AT(model), .help = "The model, where it is not an argument: in a --config file." },
	{ .name = "config", .type = OPT_FILE, .value = "FILE", AT(config),
		.help = "Take options from this YAML file, by their names; the command line wins." },
	{ TEXT("host", "ADDRESS"), AT(host),
		.help = "Address to listen on (default: 127.0.0.1; every IPv4 address once there is an --api-key)." },
	{ .name = "port", .type = OPT_INT, .value = "PORT", .min = 0, .max = 65535, AT(port),
		.help = "TCP port (default 8000); 0: any free one, named in the log." },
	{ TEXT("uds", "PATH"), AT(uds), .help = "Listen on a unix socket instead." },
	{ .name = "api-key", .type = OPT_STRINGS, .value = "KEY...", AT(api_keys), .secret = true,
		.help = "Clients must show one of these keys. May be given several times (default: the environment's "
			"VLLM_API_KEY, or no key)." },
	{ .name = "api-key-scope", .type = OPT_CHOICE, .choices = "all|v1", AT(api_key_scope),
		.help = "What needs a key: all but /, /health and /ping (default), or paths below /v1 alone, as in "
			"vLLM." },
	{ TEXT("ssl-certfile", "FILE"), AT(ssl_certfile), .help = "Serve HTTPS with this certificate (PEM)." },
	{ TEXT("ssl-keyfile", "FILE"), AT(ssl_keyfile),
		.help = "Its key (default: in the certificate's file)." },
	{ TEXT("ssl-ca-certs", "FILE"), AT(ssl_ca_certs), .help = "Who may sign certificates of clients." },
	{ .name = "ssl-cert-reqs", .type = OPT_INT, .value = "N", .min = 0, .max = 2, AT(ssl_cert_reqs),
		.help = "Certificates of clients: 0 not asked for (default), 1 checked if shown, 2 needed." },
	{ TEXT("ssl-ciphers", "LIST"), AT(ssl_ciphers), .help = "OpenSSL cipher list for TLS 1.2." },
	{ JSON("allowed-origins"), AT(allowed_origins),
		.help = "Web origins that may call, such as '[\"*\"]' (default: none)." },
	{ JSON("allowed-methods"), AT(allowed_methods),
		.help = "Methods that they may use (default '[\"*\"]')." },
	{ JSON("allowed-headers"), AT(allowed_headers),
		.help = "Headers that they may send (default '[\"*\"]')." },
	{ SWITCH("allow-credentials"), AT(allow_credentials), .help = "They may send cookies (default: no)." },
	{ .name = "max-body-size", .type = OPT_SIZE, .value = "BYTES", .min = 1024, .max = 1 << 30,
		AT(max_body_bytes), .help = "Largest request body (default 64M); more is answered with 413." },
	{ .name = "keep-alive-timeout", .type = OPT_DOUBLE, .value = "SECONDS", .min = 0.1, .max = 3600,
		AT(keep_alive_s), .help = "How long an idle connection stays open (default 5)." },
	{ .name = "shutdown-timeout", .type = OPT_DOUBLE, .value = "SECONDS", .min = 0, .max = 86400,
		AT(shutdown_timeout_s),
		.help = "After SIGTERM or SIGINT, requests in flight may finish for so long (default 30; vLLM's is "
			"0); a second signal ends at once." },
	{ 0 },
};

static const struct opt model_opts[] = {
	{ .name = "served-model-name", .type = OPT_STRINGS, .value = "NAME...", AT(names),
		.help = "Names of the model in the API; the first is echoed (default: MODEL)." },
	{ .name = "max-model-len", .type = OPT_SIZE, .value = "TOKENS", .min = 1, .max = 1 << 30,
		AT_MACHINE(max_model_len),
		.help = "Prompt and answer of one request (default: the model's, at most 8192)." },
	MACHINE_QUANTIZATION(offsetof(struct serve_values, machine.quantization)),
	{ TEXT("chat-template", "FILE"), AT(chat_template),
		.help = "A Jinja chat template instead of the model's own." },
	{ JSON("default-chat-template-kwargs"), AT(chat_kwargs),
		.help = "Template variables of every chat, such as '{\"thinking\": true}'." },
	{ SWITCH("trust-request-chat-template"), AT(trust_request_chat_template),
		.help = "Requests may bring their own template (default: no)." },
	{ SWITCH("literal-content"), AT(literal_content),
		.help = "Text of messages that spells a control token stays text (default: no, as in vLLM)." },
	{ TEXT("response-role", "ROLE"), AT(response_role), .help = "Role of answers (default assistant)." },
	{ TEXT("generation-config", "auto|vllm|DIR"), AT(generation_config),
		.help = "Where sampling defaults come from: generation_config.json of the model (auto, the "
			"default) or of a directory; vllm: neutral ones." },
	{ JSON("override-generation-config"), AT(overrides),
		.help = "Over these defaults: temperature, top_p, top_k, min_p, repetition_penalty, "
			"max_new_tokens." },
	{ .name = "tool-call-parser", .type = OPT_CHOICE, .choices = "deepseek_v31|deepseek_v3|kimi_k2", AT(tool_parser),
		.help = "How the model writes tool calls (default: as its tokens and template show)." },
	{ .name = "reasoning-parser", .type = OPT_CHOICE, .choices = "deepseek_r1|deepseek_v3|deepseek_v31|kimi_k2",
		AT(reasoning_parser),
		.help = "deepseek_r1: answers begin with reasoning even where the chat template does not open "
			"<think>. The others: only where it does (the default)." },
	{ .name = "max-logprobs", .type = OPT_INT, .value = "N", .min = 0, .max = SERVING_MAX_LOGPROBS,
		AT(max_logprobs), .help = "Most log probabilities of a token (default 20)." },
	{ 0 },
};

static const struct opt sched_opts[] = {
	{ .name = "max-num-seqs", .type = OPT_INT, .value = "N", .min = 1, .max = 4096, AT(max_num_seqs),
		.help = "Requests computed at a time (default 256)." },
	{ .name = "max-num-batched-tokens", .type = OPT_SIZE, .value = "TOKENS", .min = 1, .max = 1 << 20,
		AT_MACHINE(max_num_batched_tokens),
		.help = "Tokens of one step (default 2048). Changes no result." },
	{ SWITCH("enable-chunked-prefill"), AT(chunked_prefill),
		.help = "Long prompts are computed in parts between other work (default: yes)." },
	{ .name = "long-prefill-token-threshold", .type = OPT_SIZE, .value = "TOKENS", .min = 0, .max = 1 << 30,
		AT(long_prefill), .help = "Most prompt tokens of one request in a step (default 0: no bound)." },
	{ SWITCH("enable-prefix-caching"), AT(prefix_caching),
		.help = "Keep blocks of computed prompts for later ones with the same beginning (default: yes)." },
	{ .name = "scheduling-policy", .type = OPT_CHOICE, .choices = "fcfs|priority", AT(policy),
		.help = "Order of waiting requests (default fcfs)." },
	{ .name = "max-num-queued-reqs", .type = OPT_INT, .value = "N", .min = 0, .max = 1 << 30,
		AT(max_queued_reqs), .help = "More waiting requests are answered with 429 (default 0: no bound)." },
	{ .name = "max-num-queued-tokens", .type = OPT_SIZE, .value = "TOKENS", .min = 0, .max = 1e15,
		AT(max_queued_tokens), .help = "The same for their tokens (default 0: no bound)." },
	{ .name = "stream-interval", .type = OPT_INT, .value = "N", .min = 1, .max = 1 << 20,
		AT(stream_interval), .help = "Tokens in a chunk of a stream (default 1)." },
	{ .name = "block-size", .type = OPT_INT, .value = "TOKENS", .min = 1, .max = KV_MAX_BLOCK_TOKENS,
		AT_MACHINE(block_size),
		.help = "Tokens in one cache block, a power of two (default 64). Changes no result." },
	{ .name = "kv-cache-memory-bytes", .type = OPT_SIZE, .value = "BYTES", .min = 1, .max = 1e15,
		AT(cache_bytes),
		.help = "Size of the cache, such as 8G (default: for --max-num-seqs whole contexts, less where "
			"memory is short)." },
	{ .name = "gpu-memory-utilization", .type = OPT_DOUBLE, .value = "PART", .min = 0, .max = 1, .above = true,
		AT(memory_utilization),
		.help = "Hold at most this part of the memory that is available now (default: all of it)." },
	{ .name = "memory-limit", .type = OPT_SIZE, .value = "BYTES", .min = 1, .max = 1e15,
		AT_MACHINE(memory_limit), .help = "The same as a number, such as 20G." },
	{ 0 },
};

static const struct opt machine_list[] = {
	{ .name = "isa", .type = OPT_CHOICE, .choices = "auto|ref|avx2|avx512|amx", AT_MACHINE(isa),
		.help = "Instruction set tier (default auto: the best this machine has)." },
	{ .name = "threads", .type = OPT_INT, .value = "N", .min = 0, .max = 4096, AT_MACHINE(threads),
		.help = "Compute threads (default 0: one per core)." },
	{ SWITCH("pin"), AT_MACHINE(pin), .help = "Keep each thread on its core (default: yes)." },
	{ SWITCH("progress"), AT_MACHINE(progress),
		.help = "A progress bar while loading, on a terminal (default: yes)." },
	{ 0 },
};

static const struct opt answer_opts[] = {
	{ SWITCH("return-tokens-as-token-ids"), AT(tokens_as_ids),
		.help = "Log probabilities name tokens token_id:N (default: no)." },
	{ SWITCH("enable-force-include-usage"), AT(force_include_usage),
		.help = "Every stream ends with usage (default: those that ask)." },
	{ SWITCH("enable-prompt-tokens-details"), AT(prompt_tokens_details),
		.help = "usage tells how many prompt tokens came from the cache (default: no)." },
	{ SWITCH("enable-request-id-headers"), AT(request_id_headers),
		.help = "Answers carry X-Request-Id (default: no)." },
	{ SWITCH("enable-server-load-tracking"), AT(load_tracking),
		.help = "/load counts requests in flight (default: no)." },
	{ SWITCH("enable-tokenizer-info-endpoint"), AT(tokenizer_info), .help = "/tokenizer_info (default: no)." },
	{ SWITCH("enable-admin-endpoints"), AT(admin),
		.help = "POST /reset_prefix_cache, under a key where there are keys (default: no; the environment's "
			"VLLM_SERVER_DEV_MODE=1 turns it on)." },
	{ .name = "log-level", .type = OPT_CHOICE, .choices = LOG_LEVEL_CHOICES, AT_MACHINE(log_level),
		.help = "What to report on stderr (default info)." },
	{ SWITCH("enable-log-requests"), AT(log_requests), .help = "A line for each request (default: no)." },
	{ SWITCH("disable-log-stats"), AT(disable_log_stats),
		.help = "No line of throughput each ten seconds (default: there is one while there is work)." },
	{ SWITCH("disable-uvicorn-access-log"), AT(disable_access_log),
		.help = "No line for each HTTP request (default: there is one)." },
	{ TEXT("disable-access-log-for-endpoints", "PATHS"), AT(quiet_endpoints),
		.help = "None for these paths, between commas, such as /health,/metrics." },
	{ 0 },
};

#define ACCEPT_SWITCH(i, flag, why)                                                                \
	{ .name = flag, .type = OPT_TRISTATE, AT(accepted_switch[i]), .help = why }
#define ACCEPT_CHOICE(i, flag, values, why)                                                        \
	{ .name = flag, .type = OPT_CHOICE, .choices = values, AT(accepted_text[i]), .help = why }
#define ACCEPT_TEXT(i, flag, word, why) { TEXT(flag, word), AT(accepted_text[i]), .help = why }

const struct opt serve_accepted[] = {
	ACCEPT_SWITCH(0, "trust-remote-code", "Nothing in a model directory is ever executed."),
	ACCEPT_SWITCH(1, "enforce-eager", "There are no graphs to capture."),
	{ JSON("compilation-config"), AT(accepted_text[2]), .help = "Nothing is compiled at start." },
	ACCEPT_CHOICE(3, "dtype", "auto|bfloat16", "Products take BF16 inputs; what is stored, the checkpoint says."),
	ACCEPT_CHOICE(4, "load-format", "auto|safetensors", "Weights are read from safetensors."),
	ACCEPT_CHOICE(5, "kv-cache-dtype", "auto|bfloat16", "The cache is BF16."),
	ACCEPT_CHOICE(6, "tensor-parallel-size", "1", "One process computes."),
	ACCEPT_CHOICE(7, "pipeline-parallel-size", "1", "One process computes."),
	ACCEPT_CHOICE(8, "data-parallel-size", "1", "One process computes."),
	ACCEPT_SWITCH(9, "enable-expert-parallel", "One process has all experts."),
	ACCEPT_SWITCH(10, "async-scheduling", "The engine has a thread of its own anyway."),
	ACCEPT_TEXT(11, "seed", "N", "Requests without a seed draw a fresh one; those with one repeat."),
	ACCEPT_TEXT(12, "swap-space", "GIB", "Preempted requests are computed again."),
	ACCEPT_CHOICE(13, "prefix-caching-hash-algo", "sha256", "Blocks are named by SHA-256."),
	ACCEPT_SWITCH(14, "enable-auto-tool-choice", "Requests with tools may always leave the choice to the model."),
	ACCEPT_CHOICE(15, "chat-template-content-format", "auto|string|openai", "Both forms are taken."),
	ACCEPT_CHOICE(16, "api-server-count", "1", "One thread serves HTTP."),
	ACCEPT_SWITCH(17, "disable-log-requests", "Requests are logged with --enable-log-requests alone."),
	ACCEPT_CHOICE(18, "logprobs-mode", "raw_logprobs", "Log probabilities are of the model's own logits."),
	ACCEPT_CHOICE(19, "tokenizer-mode", "auto", "tokenizer.json is read."),
	ACCEPT_CHOICE(20, "max-num-partial-prefills", "1", "Prompts are computed in order."),
	{ 0 },
};

static const struct opt_list lists[] = {
	{ "model", model_opts },
	{ "scheduling and memory", sched_opts },
	{ "machine", machine_list },
	{ "answers and logs", answer_opts },
	{ "accepted, because it is so anyway", serve_accepted },
	{ 0 },
};

/* Words of vLLM that fathom cannot honour, by name and reason. */
static const struct opt_refused refused[] = {
	{ "-tp", "spell it --tensor-parallel-size" },
	{ "-pp", "spell it --pipeline-parallel-size" },
	{ "-dp", "spell it --data-parallel-size" },
	{ "--tokenizer", "the tokenizer is the model's" },
	{ "--speculative-config", "speculative decoding is not served yet" },
	{ "--kv-transfer-config", "prefill and decode on different servers are not supported yet" },
	{ "--headless", "several hosts are not supported yet" },
	{ "--data-parallel-address", "several hosts are not supported yet" },
	{ "--data-parallel-rpc-port", "several hosts are not supported yet" },
	{ "--data-parallel-size-local", "several processes are not supported yet" },
	{ "--data-parallel-start-rank", "several hosts are not supported yet" },
	{ "--data-parallel-rank", "several hosts are not supported yet" },
	{ "--additional-config", "it holds settings of vllm-ascend that have no meaning here" },
	{ "--structured-outputs-config", "there is one backend, and requests choose its options" },
	{ "--guided-decoding-backend", "there is one backend" },
	{ "--enable-lora", "LoRA is not supported" },
	{ "--lora-modules", "LoRA is not supported" },
	{ "--num-gpu-blocks-override", "size the cache with --kv-cache-memory-bytes" },
	{ "--cpu-offload-gb", "weights are in memory already" },
	{ "--root-path", "let the proxy strip its prefix" },
	{ "--middleware", "no code is loaded" },
	{ "--tool-parser-plugin", "no code is loaded" },
	{ "--enable-ssl-refresh", "restart the server to read new certificates" },
	{ "--enable-per-request-metrics", "metrics in answers are not supported yet" },
	{ "--enable-log-outputs", "answers are not logged" },
	{ 0 },
};

const struct opt_table serve_table = {
	.command = "serve",
	.arguments = "MODEL",
	.summary = "Serve a model over the OpenAI HTTP API",
	.details = "MODEL is a checkpoint directory. The log line \"Application startup complete.\" and 200 from\n"
		   "/health say that it is ready. Routes: /v1/completions, /v1/chat/completions, /v1/responses,\n"
		   "/v1/messages, /v1/models, /tokenize, /detokenize, /health, /ping, /version, /load, /metrics, and a\n"
		   "chat page at /.\n",
	.min_args = 0, /* or --model */
	.max_args = 1,
	.opts = http_opts,
	.common = lists,
	.refused = refused,
	.values_bytes = sizeof(struct serve_values),
};

struct serve_values serve_defaults(void)
{
	struct engine_options e = engine_options_default();
	struct serving_options s = serving_options_default();
	struct serve_values v = {
		.machine = machine_defaults(),
		.port = s.listen.port,
		.api_key_scope = "all",
		.max_body_bytes = (int64_t)s.max_body_bytes,
		.keep_alive_s = s.keep_alive_ms / 1e3,
		.shutdown_timeout_s = s.shutdown_ms / 1e3,
		.response_role = s.response_role,
		.generation_config = "auto",
		.max_logprobs = s.max_logprobs,
		.max_num_seqs = e.runtime.max_seqs,
		.chunked_prefill = e.chunked_prefill,
		.prefix_caching = e.prefix_cache,
		.policy = "fcfs",
		.stream_interval = s.stream_interval,
	};

	v.machine.log_level = "info";
	v.machine.max_num_batched_tokens = e.runtime.max_batch_tokens;
	for (int i = 0; i < SERVE_MAX_ACCEPTED; i++)
		v.accepted_switch[i] = -1;
	return v;
}
