/* Command line of fathom serve: values, option table, and the words of vLLM that it refuses. */
#ifndef CLI_SERVE_OPTIONS_H
#define CLI_SERVE_OPTIONS_H

#include "base/opt.h"
#include "cli/machine.h"

#define SERVE_MAX_ACCEPTED 32

struct serve_values {
	struct machine_values machine; /* first: see cli/machine.h */

	const char *model, *config;
	const char *host, *uds;
	int64_t port;
	struct opt_strings api_keys;
	const char *api_key_scope;
	const char *ssl_certfile, *ssl_keyfile, *ssl_ca_certs, *ssl_ciphers;
	int64_t ssl_cert_reqs;
	const char *allowed_origins, *allowed_methods, *allowed_headers; /* JSON lists */
	bool allow_credentials;
	int64_t max_body_bytes;
	double keep_alive_s, shutdown_timeout_s;

	struct opt_strings names;
	const char *chat_template;
	const char *chat_kwargs; /* JSON */
	bool trust_request_chat_template;
	bool literal_content;
	const char *response_role;
	const char *tool_parser, *reasoning_parser; /* NULL: the model's */
	const char *generation_config;
	const char *overrides; /* JSON */
	int64_t max_logprobs;

	int64_t max_num_seqs;
	bool chunked_prefill, prefix_caching;
	int64_t long_prefill;
	const char *policy;
	int64_t max_queued_reqs, max_queued_tokens;
	int64_t stream_interval;
	double memory_utilization; /* 0: not given */
	int64_t cache_bytes;

	bool tokens_as_ids, force_include_usage, prompt_tokens_details;
	bool request_id_headers, load_tracking, tokenizer_info, admin;
	bool log_requests, disable_log_stats, disable_access_log;
	const char *quiet_endpoints;

	/* Rows of serve_accepted[]: what was given, by index. */
	const char *accepted_text[SERVE_MAX_ACCEPTED];
	int accepted_switch[SERVE_MAX_ACCEPTED]; /* -1: not given */
};

struct serve_values serve_defaults(void);

extern const struct opt_table serve_table;

/* Flags of vLLM that change nothing here: `help` says why. */
extern const struct opt serve_accepted[];

#endif
