/*
 * The server's life (server/serving.h): engine, listener, loop; then SIGTERM, the drain, and the end in the
 * order that lets nobody use what is gone: HTTP first, then the worker, then the engine, then the answers.
 */
#include "server/serving.h"

#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "server/answer.h"
#include "server/serving_int.h"
#include "server/structured.h"
#include "server/worker.h"

#define TICK_US 1000000u
#define STATS_US 10000000u

struct serving_options serving_options_default(void)
{
	return (struct serving_options){
		.engine = engine_options_default(),
		.listen = { .port = 8000 },
		.max_body_bytes = http_limits_default.body_bytes,
		.keep_alive_ms = http_limits_default.keep_alive_ms,
		.shutdown_ms = 30000,
		.max_logprobs = 20,
		.stream_interval = 1,
		.response_role = "assistant",
		.dialect = -1,
		.log_stats = true,
		.access_log = true,
	};
}

/* --- events of the loop ------------------------------------------------------------------------------- */

static void wake_from_engine(void *arg)
{
	struct serving *s = arg;

	http_bell_ring(s->bell);
}

static void take_news(void *arg)
{
	answer_take_news(arg);
}

static void tick(void *arg)
{
	struct serving *s = arg;

	answer_tick(s);
	http_timer_set(s->tick, TICK_US);
}

static void write_stats(void *arg)
{
	struct serving *s = arg;

	stats_line_write(s);
	http_timer_set(s->stats, STATS_US);
}

static void stopped(void *arg)
{
	struct serving *s = arg;

	http_loop_stop(s->loop);
}

static void on_signal(void *arg)
{
	struct serving *s = arg;

	if (!s->stopping)
		log_info("server", "Shutting down: %u requests in flight, at most %.0f s; a second signal ends them",
			s->load, s->o->shutdown_ms / 1e3);
	else
		log_info("server", "second signal: %u requests are aborted", s->load);
	s->stopping = true;
	http_server_stop(s->http, s->o->shutdown_ms, stopped, s);
}

/* --- opening ------------------------------------------------------------------------------------------- */

static enum status choose_format(struct serving *s, struct error *err)
{
	bool given = s->o->dialect >= 0;
	enum chat_dialect dialect = given ? (enum chat_dialect)s->o->dialect :
					    chat_dialect_guess(s->tok, s->o->chat);

	chat_format_init(&s->format, s->tok, dialect);
	if (given && !chat_format_has_calls(&s->format))
		return error_set(err, E_UNSUPPORTED,
			"--tool-call-parser %s: the model's tokenizer has no tokens for such calls",
			chat_dialect_names[dialect]);
	return OK;
}

static enum status choose_eos(struct serving *s, struct error *err)
{
	const struct model_config *c = engine_config(s->engine);
	struct generation_config g;

	if (s->o->generation_dir) {
		TRY(generation_config_load(&g, s->o->generation_dir, err));
		for (uint32_t i = 0; i < g.n_eos; i++)
			TRY(sampling_defaults_add_eos(&s->defaults, g.eos_token_id[i], c->vocab_size,
				"generation_config.json", err));
	}
	for (uint32_t i = 0; i < c->n_eos; i++)
		TRY(sampling_defaults_add_eos(&s->defaults, c->eos_token_id[i], c->vocab_size, "config.json", err));
	return sampling_defaults_add_eos(&s->defaults, tokenizer_config_of(s->tok)->eos_id, c->vocab_size,
		"tokenizer_config.json", err);
}

static size_t longest_token(const struct tokenizer *tok)
{
	size_t longest = 1, len;

	for (int32_t id = 0; id < tokenizer_n_ids(tok); id++) {
		if (tokenizer_token_bytes(tok, id, &len) && len > longest)
			longest = len;
	}
	return longest;
}

static enum status open_engine(struct serving *s, struct error *err)
{
	struct engine_options options = s->o->engine;

	TRY(sampling_defaults_init(&s->defaults, s->o->sampling, s->o->overrides, err));
	options.n_ids = (uint32_t)tokenizer_n_ids(s->tok);
	options.wake = wake_from_engine;
	options.wake_arg = s;
	TRY(engine_create(&s->engine, s->o->dir, &options, err));
	s->vocab = engine_config(s->engine)->vocab_size;
	s->n_ids = options.n_ids < s->vocab ? options.n_ids : s->vocab;
	s->max_model_len = engine_max_model_len(s->engine);
	s->max_token_bytes = longest_token(s->tok);
	TRY(choose_eos(s, err));
	return structured_create(&s->structured, s->tok, s->n_ids, s->defaults.eos, s->defaults.n_eos, err);
}

static enum status open_listener(struct serving *s, struct error *err)
{
	struct http_server_config config = {
		.limits = http_limits_default,
		.handler = routes_handle,
		.head = routes_head,
		.refusal = routes_refusal,
		.refusal_content_type = "application/json",
		.arg = s,
	};
	struct http_listen at = s->o->listen;
	uint16_t port;

	config.limits.body_bytes = s->o->max_body_bytes;
	/* One address gets half of this: the largest body has room. */
	if (config.limits.all_body_bytes < 2 * s->o->max_body_bytes)
		config.limits.all_body_bytes = 2 * s->o->max_body_bytes;
	config.limits.keep_alive_ms = s->o->keep_alive_ms;
	if (s->o->tls.cert_file)
		TRY(http_tls_open(&s->tls, &s->o->tls, err));
	at.tls = s->tls;
	TRY(http_server_create(&s->http, s->loop, &config, err));
	TRY(http_server_listen(s->http, &at, &port, err));
	if (at.unix_path)
		log_info("server", "Starting fathom server on unix:%s", at.unix_path);
	else
		log_info("server", "Starting fathom server on %s://%s:%u", s->tls ? "https" : "http",
			at.host ? at.host : "0.0.0.0", port);
	return OK;
}

static enum status serve(struct serving *s, struct error *err)
{
	struct http_signal *term, *interrupt;
	enum status st;

	/* What http_signal_destroy() restores: one signal more does not cut off what ends already. */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	TRY(http_signal_create(&term, s->loop, SIGTERM, on_signal, s, err));
	TRY_GOTO(no_interrupt, http_signal_create(&interrupt, s->loop, SIGINT, on_signal, s, err));
	s->tick = http_timer_create(s->loop, tick, s);
	http_timer_set(s->tick, TICK_US);
	s->stats = http_timer_create(s->loop, write_stats, s);
	s->last_stats_at = clock_s();
	if (s->o->log_stats)
		http_timer_set(s->stats, STATS_US);
	log_info("server", "GPU KV cache size: %llu tokens; Maximum concurrency for %u tokens per request: %.2fx",
		(unsigned long long)engine_cache_tokens(s->engine), s->max_model_len,
		(double)engine_cache_tokens(s->engine) / s->max_model_len);
	log_info("server", "Application startup complete.");
	http_loop_run(s->loop);
	log_info("server", "Application shutdown complete.");
	http_timer_destroy(s->stats);
	http_timer_destroy(s->tick);
	http_signal_destroy(interrupt);
no_interrupt:
	http_signal_destroy(term);
	return st;
}

/* Everything but the loop and the bell. */
static enum status run(struct serving *s, struct error *err)
{
	enum status st;

	TRY_GOTO(out, open_engine(s, err));
	TRY_GOTO(out, worker_create(&s->worker, s->loop, err));
	TRY_GOTO(out, open_listener(s, err));
	st = serve(s, err);
out:
	if (s->http)
		http_server_destroy(s->http);
	if (s->worker)
		worker_destroy(s->worker);
	s->worker = NULL;
	if (s->engine)
		engine_destroy(s->engine);
	answer_free_all(s);
	structured_destroy(s->structured);
	if (s->tls)
		http_tls_close(s->tls);
	return st;
}

enum status serving_run(const struct serving_options *o, struct error *err)
{
	struct serving s = { .o = o, .tok = o->tokenizer, .created = time(NULL) };
	enum status st;

	BUG_ON(o->n_names == 0);
	TRY(choose_format(&s, err));
	s.scratch = tokenizer_scratch_create();
	TRY_GOTO(no_loop, http_loop_create(&s.loop, err));
	TRY_GOTO(no_bell, http_bell_create(&s.bell, s.loop, take_news, &s, err));
	st = run(&s, err);
	http_bell_destroy(s.bell);
no_bell:
	http_loop_destroy(s.loop);
no_loop:
	tokenizer_scratch_destroy(s.scratch);
	return st;
}
