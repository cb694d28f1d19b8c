/*
 * The OpenAI-compatible server: one thread with an event loop, between HTTP clients and an engine.
 *
 *   options = serving_options_default();
 *   options.dir = "models/demo"; ...                    tokenizer and template are the caller's
 *   TRY(serving_run(&options, err));                    until SIGTERM or SIGINT, and the drain after it
 */
#ifndef SERVER_SERVING_H
#define SERVER_SERVING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/error.h"
#include "engine/engine.h"
#include "http/server.h"
#include "text/chat_parse.h"
#include "text/tokenizer.h"

#define SERVING_MAX_NAMES 16
#define SERVING_MAX_LOGPROBS 128

/* Strings and arrays are borrowed and must outlive serving_run(). */
struct serving_options {
	const char *dir; /* the checkpoint */
	const struct tokenizer *tokenizer;
	const struct chat_template *chat; /* NULL: the model has none */

	const char *const *names; /* what the model is called; the first one is echoed */
	size_t n_names;           /* at least 1 */
	struct engine_options engine; /* wake is set here */

	struct http_listen listen;
	struct http_tls_config tls; /* used when cert_file is set */
	const char *const *api_keys;
	size_t n_api_keys;
	bool protect_v1_only; /* as vLLM: keys guard paths below /v1 only; otherwise all but /, /health, /ping */
	const json_t *allowed_origins; /* lists of strings; NULL: no cross-origin headers */
	const json_t *allowed_methods, *allowed_headers;
	bool allow_credentials;
	size_t max_body_bytes;
	uint32_t keep_alive_ms;
	uint32_t shutdown_ms; /* how long requests in flight may finish after SIGTERM */

	json_t *sampling;   /* defaults from generation_config.json; NULL: vLLM's neutral ones */
	json_t *overrides;  /* over them; NULL: none */
	json_t *chat_kwargs; /* default template variables; NULL: none */
	const char *generation_dir; /* its generation_config.json has EOS ids too; NULL: no such file counts */
	uint32_t max_logprobs;
	uint32_t stream_interval;
	const char *response_role;
	int dialect; /* enum chat_dialect of tool calls; -1: the model's */
	bool always_thinks; /* answers begin with reasoning though the prompt has no <think> */
	bool trust_request_chat_template;
	bool literal_content; /* text of messages never becomes a control token */
	bool tokens_as_ids;
	bool force_include_usage;
	bool prompt_tokens_details;
	bool request_id_headers;
	bool load_tracking;
	bool tokenizer_info;
	bool admin; /* routes that change the server: /reset_prefix_cache */

	bool log_stats;
	bool log_requests;
	bool access_log;
	const char *quiet_endpoints; /* paths between commas without access log lines; NULL: none */
};

struct serving_options serving_options_default(void);

enum status serving_run(const struct serving_options *options, struct error *err);

#endif
