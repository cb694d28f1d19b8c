/* Answers of the server (server/call.h). */
#include "server/call.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "http/field.h"
#include "http/sse.h"
#include "server/serving_int.h"

#define JSON_TYPE "application/json"
#define MAX_HEADERS 16

static bool usable_id(const char *id)
{
	size_t len = id ? strlen(id) : 0;

	for (size_t i = 0; i < len; i++) {
		if (id[i] <= ' ' || id[i] > '~' || id[i] == '"' || id[i] == '\\')
			return false;
	}
	return len > 0 && len <= CALL_MAX_ID;
}

void call_random_id(char *out)
{
	uint64_t bits[2];

	if (getrandom(bits, sizeof(bits), 0) != sizeof(bits)) {
		bits[0] = random_u64(clock_ns(), 0);
		bits[1] = random_u64(clock_ns(), 1);
	}
	snprintf(out, CALL_RANDOM_ID, "%016llx%016llx", (unsigned long long)bits[0], (unsigned long long)bits[1]);
}

static void set_id(struct call *c)
{
	const char *id = http_request_header(c->r, "X-Request-Id");

	if (usable_id(id))
		strcpy(c->id, id);
	else
		call_random_id(c->id);
}

struct call *call_create(struct serving *s, struct http_request *r)
{
	struct call *c = mem_alloc(sizeof(*c));

	*c = (struct call){ .s = s, .r = r, .route = "none", .method = "OTHER", .began_ns = clock_ns() };
	set_id(c);
	return c;
}

static bool listed(const json_t *list, const char *value)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *item = json_string_value(json_array_get(list, i));

		if (strcmp(item, "*") == 0 || strcasecmp(item, value) == 0)
			return true;
	}
	return false;
}

bool call_is_foreign(const struct call *c)
{
	const char *origin = http_request_header(c->r, "Origin");

	return origin && !listed(c->s->o->allowed_origins, origin);
}

struct headers {
	struct http_header list[MAX_HEADERS];
	size_t n;
};

static void add_header(struct headers *h, const char *name, const char *value)
{
	BUG_ON(h->n == MAX_HEADERS);
	h->list[h->n++] = (struct http_header){ name, value };
}

/* False: the origin is not allowed. Nothing is added without an origin or a list of allowed ones. */
static bool add_cors(struct headers *h, const struct call *c)
{
	const struct serving_options *o = c->s->o;
	const char *origin = http_request_header(c->r, "Origin");

	if (!origin || !o->allowed_origins)
		return true;
	if (call_is_foreign(c))
		return false;
	if (listed(o->allowed_origins, "*") && !o->allow_credentials) {
		add_header(h, "Access-Control-Allow-Origin", "*");
	} else {
		add_header(h, "Access-Control-Allow-Origin", origin);
		add_header(h, "Vary", "Origin");
	}
	if (o->allow_credentials)
		add_header(h, "Access-Control-Allow-Credentials", "true");
	return true;
}

static void add_common(struct headers *h, const struct call *c)
{
	add_cors(h, c);
	if (c->s->o->request_id_headers)
		add_header(h, "X-Request-Id", c->id);
}

static bool is_quiet(const char *list, const char *path)
{
	size_t len = strlen(path);

	while (list && *list) {
		size_t n = strcspn(list, ",");

		if (n == len && memcmp(list, path, n) == 0)
			return true;
		list += n + (list[n] == ',');
	}
	return false;
}

static void log_access(const struct call *c, unsigned status)
{
	const struct serving_options *o = c->s->o;

	if (o->access_log && !is_quiet(o->quiet_endpoints, c->r->path))
		log_info("access", "%s - \"%s %.200s HTTP/1.%d\" %u %s", c->r->peer, c->r->method, c->r->path,
			c->r->http10 ? 0 : 1, status, http_status_text(status));
}

static void count(struct call *c, unsigned status)
{
	metrics_http(&c->s->metrics, &(struct metrics_answered){
		.route = c->route,
		.method = c->method,
		.status = status,
		.seconds = (double)(clock_ns() - c->began_ns) * 1e-9,
		.request_bytes = c->r->body_bytes,
		.response_bytes = c->sent_bytes,
	});
}

void call_headers(struct call *c, unsigned status, const struct http_header *headers, size_t n,
	const void *body, size_t len)
{
	struct headers h = { .n = 0 };

	for (size_t i = 0; i < n; i++)
		add_header(&h, headers[i].name, headers[i].value);
	if (status == 429)
		add_header(&h, "Retry-After", "1");
	if (status == 401)
		add_header(&h, "WWW-Authenticate", "Bearer");
	add_common(&h, c);
	log_access(c, status);
	c->sent_bytes = len;
	count(c, status);
	http_respond(c->r, status, h.list, h.n, body, len);
	free(c);
}

void call_body(struct call *c, unsigned status, const char *content_type, const void *body, size_t len)
{
	const struct http_header header = { "Content-Type", content_type };

	call_headers(c, status, &header, content_type != NULL, body, len);
}

void call_json(struct call *c, struct buf *body)
{
	call_body(c, 200, JSON_TYPE, body->data, body->len);
	buf_deinit(body);
}

static void put_refusal(struct buf *out, const struct call *c, const struct refusal *no)
{
	if (c->api == CALL_ANTHROPIC)
		refusal_put_anthropic(out, no);
	else
		refusal_put(out, no);
}

void call_refuse(struct call *c, const struct refusal *no)
{
	struct buf body = { 0 };

	put_refusal(&body, c, no);
	call_body(c, no->status, JSON_TYPE, body.data, body.len);
	buf_deinit(&body);
}

void call_unauthorized(struct call *c)
{
	static const char body[] = "{\"error\":\"Unauthorized\"}";
	struct refusal no;

	refuse_status(&no, 401, "AuthenticationError", NULL, "Unauthorized");
	if (c->api == CALL_ANTHROPIC)
		call_refuse(c, &no);
	else
		call_body(c, 401, JSON_TYPE, body, sizeof(body) - 1);
}

/* What is allowed, as the value of a header: the list, or "*" as what was asked for. */
static void put_allowed(struct buf *out, const json_t *list, const char *asked)
{
	if (!list || listed(list, "*")) {
		buf_puts(out, asked ? asked : "*");
		return;
	}
	for (size_t i = 0; i < json_array_size(list); i++)
		buf_printf(out, "%s%s", i ? ", " : "", json_string_value(json_array_get(list, i)));
	buf_append(out, "", 0);
}

void call_preflight(struct call *c)
{
	const struct serving_options *o = c->s->o;
	struct buf methods = { 0 }, headers = { 0 };
	struct headers h = { .n = 0 };
	bool allowed = add_cors(&h, c);
	const char *text = allowed ? "OK" : "Disallowed CORS origin";

	put_allowed(&methods, o->allowed_methods, "GET, POST, OPTIONS");
	put_allowed(&headers, o->allowed_headers,
		http_request_header(c->r, "Access-Control-Request-Headers"));
	add_header(&h, "Content-Type", "text/plain; charset=utf-8");
	if (allowed) {
		add_header(&h, "Access-Control-Allow-Methods", methods.data);
		add_header(&h, "Access-Control-Allow-Headers", headers.data);
		add_header(&h, "Access-Control-Max-Age", "600");
	}
	log_access(c, allowed ? 200 : 400);
	count(c, allowed ? 200 : 400);
	http_respond(c->r, allowed ? 200 : 400, h.list, h.n, text, strlen(text));
	free(c);
	buf_deinit(&methods);
	buf_deinit(&headers);
}

void call_stream_begin(struct call *c)
{
	struct headers h = { .n = 0 };

	add_common(&h, c);
	log_access(c, 200);
	sse_begin(c->r, h.list, h.n);
	c->streaming = true;
}

void call_stream_event(struct call *c, const struct buf *json)
{
	sse_send(c->r, NULL, json->data, json->len);
	c->sent_bytes += json->len;
}

void call_stream_named(struct call *c, const char *event, const struct buf *json)
{
	sse_send(c->r, event, json->data, json->len);
	c->sent_bytes += json->len;
}

void call_stream_error(struct call *c, const struct refusal *no)
{
	struct buf body = { 0 };

	if (c->api == CALL_RESPONSES)
		refusal_put_event(&body, no);
	else
		put_refusal(&body, c, no);
	if (c->api == CALL_OPENAI)
		call_stream_event(c, &body);
	else
		call_stream_named(c, "error", &body);
	buf_deinit(&body);
}

void call_stream_comment(struct call *c)
{
	sse_comment(c->r, "working");
}

void call_stream_end(struct call *c)
{
	if (c->api == CALL_OPENAI)
		sse_send(c->r, NULL, "[DONE]", 6);
	count(c, 200);
	http_stream_end(c->r);
	free(c);
}

void call_drop(struct call *c)
{
	if (!c->streaming)
		log_access(c, 499);
	count(c, 499);
	http_request_abort(c->r);
	free(c);
}
