/*
 * fathom serve: from the command line to the options of the server, which does the rest.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/available.h"
#include "base/env.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/prompter.h"
#include "cli/serve_options.h"
#include "server/serving.h"

#define MAX_GENERATION_CONFIG_BYTES ((size_t)1 << 20)

/* What options refer to and somebody must free. */
struct owned {
	struct prompter prompter;
	json_t *origins, *methods, *headers;
	json_t *kwargs, *overrides, *sampling;
};

static void owned_deinit(struct owned *w)
{
	prompter_close(&w->prompter);
	json_decref(w->origins);
	json_decref(w->methods);
	json_decref(w->headers);
	json_decref(w->kwargs);
	json_decref(w->overrides);
	json_decref(w->sampling);
}

/* A flag's JSON text; *out stays NULL when it was not given. */
static enum status take_json(json_t **out, const char *flag, const char *text, bool list, struct error *err)
{
	json_t *v;

	if (!text)
		return OK;
	TRY(json_load_text(&v, text, strlen(text), flag, err));
	if (list ? !json_is_array(v) : !json_is_object(v)) {
		error_set(err, E_INVAL, "%s: found %s, expected %s", flag, json_type_name(v),
			list ? "a list of strings" : "an object");
		json_decref(v);
		return E_INVAL;
	}
	*out = v;
	for (size_t i = 0; list && i < json_array_size(v); i++) {
		if (!json_is_string(json_array_get(v, i)))
			return error_set(err, E_INVAL, "%s: found %s, expected strings", flag,
				json_type_name(json_array_get(v, i)));
	}
	return OK;
}

static enum status take_all_json(struct owned *w, const struct serve_values *v, struct error *err)
{
	TRY(take_json(&w->origins, "--allowed-origins", v->allowed_origins, true, err));
	TRY(take_json(&w->methods, "--allowed-methods", v->allowed_methods, true, err));
	TRY(take_json(&w->headers, "--allowed-headers", v->allowed_headers, true, err));
	TRY(take_json(&w->kwargs, "--default-chat-template-kwargs", v->chat_kwargs, false, err));
	return take_json(&w->overrides, "--override-generation-config", v->overrides, false, err);
}

/* generation_config.json of the chosen directory; one that the model does not have is no error. */
static enum status load_sampling(struct owned *w, const char *dir, bool must, struct error *err)
{
	struct buf path = { 0 };
	enum status st;

	buf_printf(&path, "%s/generation_config.json", dir);
	st = json_load_path(&w->sampling, path.data, MAX_GENERATION_CONFIG_BYTES, err);
	buf_deinit(&path);
	if (st == E_IO && !must)
		return OK;
	TRY(st);
	if (!json_is_object(w->sampling))
		return error_set(err, E_FORMAT, "generation_config.json: found %s, expected an object",
			json_type_name(w->sampling));
	return OK;
}

static enum status set_sampling(struct serving_options *o, struct owned *w, const struct serve_values *v,
	const char *dir, struct error *err)
{
	bool automatic = strcmp(v->generation_config, "auto") == 0;

	if (!*v->generation_config)
		return error_set(err, E_INVAL, "--generation-config: found an empty name, expected auto, vllm or a "
			"directory");
	if (strcmp(v->generation_config, "vllm") != 0) {
		o->generation_dir = automatic ? dir : v->generation_config;
		TRY(load_sampling(w, o->generation_dir, !automatic, err));
	}
	o->sampling = w->sampling;
	o->overrides = w->overrides;
	return OK;
}

static enum status set_engine(struct engine_options *e, const struct serve_values *v, struct error *err)
{
	bool may_shrink = e->runtime.cache_may_shrink;

	TRY(machine_runtime_options(&e->runtime, &v->machine, err));
	e->runtime.cache_may_shrink = may_shrink;
	e->runtime.max_seqs = (uint32_t)v->max_num_seqs;
	e->runtime.cache_bytes = (size_t)v->cache_bytes;
	if (v->memory_utilization > 0 && v->machine.memory_limit)
		return error_set(err, E_INVAL, "--gpu-memory-utilization: expected no --memory-limit beside it");
	if (v->memory_utilization > 0) {
		e->runtime.memory_limit_name = "--gpu-memory-utilization";
		e->runtime.memory_limit_bytes =
			(size_t)((double)available_memory_bytes() * v->memory_utilization);
	}
	e->priority = strcmp(v->policy, "priority") == 0;
	e->chunked_prefill = v->chunked_prefill;
	e->prefix_cache = v->prefix_caching;
	e->long_prefill_threshold = (uint32_t)v->long_prefill;
	e->max_queued_reqs = (uint32_t)v->max_queued_reqs;
	e->max_queued_tokens = (uint64_t)v->max_queued_tokens;
	return OK;
}

/* By its spelling; other names than localhost may be anywhere. */
static bool is_loopback(const char *host)
{
	struct in6_addr six;
	struct in_addr four;

	if (inet_aton(host, &four))
		return ntohl(four.s_addr) >> 24 == 127;
	if (inet_pton(AF_INET6, host, &six) == 1)
		return IN6_IS_ADDR_LOOPBACK(&six);
	return strcmp(host, "localhost") == 0;
}

static enum status set_listener(struct serving_options *o, const struct serve_values *v, struct error *err)
{
	if (v->uds && v->host)
		return error_set(err, E_INVAL, "--uds: expected no --host beside it");
	if (!v->ssl_certfile && (v->ssl_keyfile || v->ssl_ca_certs || v->ssl_cert_reqs))
		return error_set(err, E_INVAL, "--ssl-keyfile, --ssl-ca-certs, --ssl-cert-reqs: expected "
			"--ssl-certfile beside them");
	for (int i = 0; i < v->api_keys.n; i++) {
		if (!*v->api_keys.v[i])
			return error_set(err, E_INVAL, "--api-key: found an empty one");
	}
	if (v->host && v->api_keys.n == 0 && v->ssl_cert_reqs < 2 && !is_loopback(v->host))
		log_warn("server", "--host %s without --api-key: whoever reaches this address may use the server",
			v->host);
	o->listen.unix_path = v->uds;
	o->listen.port = (uint16_t)v->port;
	o->listen.host = v->host ? v->host : v->api_keys.n ? "0.0.0.0" : "127.0.0.1";
	o->tls = (struct http_tls_config){
		.cert_file = v->ssl_certfile,
		.key_file = v->ssl_keyfile,
		.ca_file = v->ssl_ca_certs,
		.ciphers = v->ssl_ciphers,
		.verify = (enum http_tls_verify)v->ssl_cert_reqs,
	};
	o->api_keys = v->api_keys.v;
	o->n_api_keys = (size_t)v->api_keys.n;
	o->protect_v1_only = strcmp(v->api_key_scope, "v1") == 0;
	o->allow_credentials = v->allow_credentials;
	o->max_body_bytes = (size_t)v->max_body_bytes;
	o->keep_alive_ms = (uint32_t)(v->keep_alive_s * 1e3);
	o->shutdown_ms = (uint32_t)(v->shutdown_timeout_s * 1e3);
	return OK;
}

static void set_answers(struct serving_options *o, const struct serve_values *v)
{
	o->max_logprobs = (uint32_t)v->max_logprobs;
	o->stream_interval = (uint32_t)v->stream_interval;
	o->response_role = v->response_role;
	for (int i = 0; v->tool_parser && i < CHAT_N_DIALECTS; i++) {
		if (strcmp(v->tool_parser, chat_dialect_names[i]) == 0)
			o->dialect = i;
	}
	o->always_thinks = v->reasoning_parser && strcmp(v->reasoning_parser, "deepseek_r1") == 0;
	o->trust_request_chat_template = v->trust_request_chat_template;
	o->literal_content = v->literal_content;
	o->tokens_as_ids = v->tokens_as_ids;
	o->force_include_usage = v->force_include_usage;
	o->prompt_tokens_details = v->prompt_tokens_details;
	o->request_id_headers = v->request_id_headers;
	o->load_tracking = v->load_tracking;
	o->tokenizer_info = v->tokenizer_info;
	o->admin = v->admin;
	o->log_stats = !v->disable_log_stats;
	o->log_requests = v->log_requests;
	o->access_log = !v->disable_access_log;
	o->quiet_endpoints = v->quiet_endpoints;
}

static void log_accepted(const struct serve_values *v)
{
	for (int i = 0; serve_accepted[i].name; i++) {
		if (v->accepted_text[i] || v->accepted_switch[i] >= 0)
			log_info("server", "--%s changes nothing: %s", serve_accepted[i].name, serve_accepted[i].help);
	}
}

#define LINE_BYTES 800

/* As vLLM does, in as many lines as it takes. */
static void log_changed(const struct serve_values *v, const char *dir)
{
	struct serve_values preset = serve_defaults();
	struct buf line = { 0 }, one = { 0 };
	int next = 0;

	buf_printf(&line, "'model': '%s'", dir);
	preset.model = v->model; /* the line begins with it */
	while (opt_put_changed(&one, &serve_table, &next, &preset, v)) {
		if (line.len + one.len > LINE_BYTES) {
			log_info("server", "non-default args: {%s}", line.data);
			buf_reset(&line);
		}
		buf_printf(&line, "%s%s", line.len ? ", " : "", one.data);
		buf_reset(&one);
	}
	log_info("server", "non-default args: {%s}", line.data);
	buf_deinit(&line);
	buf_deinit(&one);
}

/* A model without a chat template can be served for completions. */
static enum status open_text(struct serving_options *o, struct owned *w, const struct serve_values *v,
	const char *dir, struct error *err)
{
	enum status st;

	TRY(prompter_open(&w->prompter, dir, v->chat_template, err));
	st = prompter_need_chat(&w->prompter, err);
	if (st != OK && (v->chat_template || st != E_UNSUPPORTED ||
		tokenizer_config_of(w->prompter.tok)->chat_template))
		return st;
	o->tokenizer = w->prompter.tok;
	o->chat = w->prompter.chat;
	return OK;
}

static enum status run(const struct serve_values *v, const char *dir, struct error *err)
{
	struct serving_options o = serving_options_default();
	const char *name = dir;
	struct owned w = { 0 };
	enum status st;

	TRY_GOTO(out, set_engine(&o.engine, v, err));
	log_changed(v, dir);
	log_accepted(v);
	TRY_GOTO(out, set_listener(&o, v, err));
	TRY_GOTO(out, take_all_json(&w, v, err));
	TRY_GOTO(out, set_sampling(&o, &w, v, dir, err));
	TRY_GOTO(out, open_text(&o, &w, v, dir, err));
	set_answers(&o, v);
	o.dir = dir;
	o.names = v->names.n ? v->names.v : &name;
	o.n_names = v->names.n ? (size_t)v->names.n : 1;
	o.allowed_origins = w.origins;
	o.allowed_methods = w.methods;
	o.allowed_headers = w.headers;
	o.chat_kwargs = w.kwargs;
	st = serving_run(&o, err);
out:
	owned_deinit(&w);
	return st;
}

static int serve(struct serve_values *v, const char *dir)
{
	struct error err;

	if (!dir) {
		error_set(&err, E_INVAL, "serve: found 0 arguments and no --model, expected MODEL");
		return cli_usage_error(&err);
	}
	/* A key on the command line is seen by everybody who may list processes. */
	if (v->api_keys.n == 0 && env_get("VLLM_API_KEY"))
		v->api_keys.v[v->api_keys.n++] = env_get("VLLM_API_KEY");
	if (env_get("VLLM_SERVER_DEV_MODE") && strcmp(env_get("VLLM_SERVER_DEV_MODE"), "1") == 0)
		v->admin = true;
	return run(v, dir, &err) == OK ? CLI_OK : cli_fail(&err);
}

int cmd_serve(int argc, char **argv)
{
	struct serve_values v = serve_defaults();
	struct opt_result words;
	int rc = cli_parse(&words, &serve_table, argc, argv, &v);

	if (rc >= 0)
		return rc;
	rc = serve(&v, words.n_args ? words.args[0] : v.model);
	opt_result_deinit(&words);
	return rc;
}
