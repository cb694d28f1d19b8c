/* What is asked of a server without generating: /health, /ping, /version, /load, /v1/models, /metrics;
 * and what an operator asks of it: /reset_prefix_cache. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/json_put.h"
#include "server/serving_int.h"
#include "server/worker.h"

/* A step takes at most a few seconds; one that lasts this long hangs. */
#define HUNG_AFTER_NS 60000000000ull

bool serving_healthy(const struct serving *s)
{
	struct engine_stats stats = engine_get_stats(s->engine);
	uint64_t now = clock_ns();

	return !stats.has_work || now < stats.last_step_ns || now - stats.last_step_ns < HUNG_AFTER_NS;
}

void handle_health(struct call *c)
{
	struct refusal no;

	if (!serving_healthy(c->s)) {
		refuse_status(&no, 503, "ServiceUnavailableError", NULL, "the engine makes no progress");
		call_refuse(c, &no);
	} else {
		call_body(c, 200, NULL, NULL, 0);
	}
}

void handle_reset_prefix_cache(struct call *c)
{
	engine_reset_prefix_cache(c->s->engine);
	log_info("server", "the prefix cache is forgotten: %s asked for it", c->r->peer);
	call_body(c, 200, NULL, NULL, 0);
}

void handle_version(struct call *c)
{
	struct buf out = { 0 };

	buf_puts(&out, "{\"version\":\"" FATHOM_VERSION "\"}");
	call_json(c, &out);
}

void handle_load(struct call *c)
{
	struct buf out = { 0 };

	buf_printf(&out, "{\"server_load\":%u}", c->s->o->load_tracking ? c->s->load : 0);
	call_json(c, &out);
}

static void put_model(struct buf *out, const struct serving *s, const char *name)
{
	long long created = (long long)s->created;

	buf_puts(out, "{\"id\":");
	json_put_text(out, name);
	buf_printf(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"fathom\",\"root\":", created);
	json_put_text(out, s->o->dir);
	buf_printf(out, ",\"parent\":null,\"max_model_len\":%u,\"permission\":[{\"id\":\"modelperm-%016llx\","
		"\"object\":\"model_permission\",\"created\":%lld,\"allow_create_engine\":false,"
		"\"allow_sampling\":true,\"allow_logprobs\":true,\"allow_search_indices\":false,"
		"\"allow_view\":true,\"allow_fine_tuning\":false,\"organization\":\"*\",\"group\":null,"
		"\"is_blocking\":false}]}", s->max_model_len, created, created);
}

void handle_models(struct call *c)
{
	struct buf out = { 0 };

	buf_puts(&out, "{\"object\":\"list\",\"data\":[");
	for (size_t i = 0; i < c->s->o->n_names; i++) {
		buf_puts(&out, i ? "," : "");
		put_model(&out, c->s, c->s->o->names[i]);
	}
	buf_puts(&out, "]}");
	call_json(c, &out);
}

void handle_metrics(struct call *c)
{
	struct serving *s = c->s;
	struct engine_stats stats = engine_get_stats(s->engine);
	struct buf out = { 0 };

	/* Looking at the heap takes long while a body's values come and go: the last figure stands. */
	if (worker_is_idle(s->worker))
		s->metrics.heap_bytes = mem_heap_bytes();
	metrics_put(&out, &s->metrics, &stats, serving_name(s), s->o->engine.runtime.block_tokens,
		s->o->engine.prefix_cache);
	call_body(c, 200, "text/plain; version=0.0.4; charset=utf-8", out.data, out.len);
	buf_deinit(&out);
}
