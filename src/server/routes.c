/*
 * Which path is whose: the table of routes, and what is checked before a handler runs: preflight, key,
 * method, media type; all this before a body is received. Paths are compared as a whole, as the transport decoded them; the Host header plays no
 * part.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/auth.h"
#include "server/serving_int.h"

enum access {
	WITH_KEY,
	OPEN,  /* without a key */
	/* With a key, and with --enable-admin-endpoints alone. The body, if any, does not matter, so a page of another
	 * origin could send it without being asked for its own: such ones are refused. */
	ADMIN,
};

static const struct route {
	const char *method, *path;
	void (*handle)(struct call *c);
	enum access access;
} routes[] = {
	{ "GET", "/", handle_page, OPEN },
	{ "GET", "/health", handle_health, OPEN },
	{ "GET", "/ping", handle_health, OPEN },
	{ "POST", "/ping", handle_health, OPEN },
	{ "GET", "/version", handle_version, WITH_KEY },
	{ "GET", "/load", handle_load, WITH_KEY },
	{ "GET", "/metrics", handle_metrics, WITH_KEY },
	{ "GET", "/v1/models", handle_models, WITH_KEY },
	{ "GET", "/models", handle_models, WITH_KEY },
	{ "POST", "/v1/completions", handle_completions, WITH_KEY },
	{ "POST", "/completions", handle_completions, WITH_KEY },
	{ "POST", "/v1/chat/completions", handle_chat, WITH_KEY },
	{ "POST", "/chat/completions", handle_chat, WITH_KEY },
	{ "POST", "/v1/responses", handle_responses, WITH_KEY },
	{ "POST", "/v1/messages", handle_messages, WITH_KEY },
	{ "POST", "/v1/messages/count_tokens", handle_count_tokens, WITH_KEY },
	{ "POST", "/tokenize", handle_tokenize, WITH_KEY },
	{ "POST", "/detokenize", handle_detokenize, WITH_KEY },
	{ "GET", "/tokenizer_info", handle_tokenizer_info, WITH_KEY },
	{ "POST", "/reset_prefix_cache", handle_reset_prefix_cache, ADMIN },
};

static const struct route *find(const char *method, const char *path, bool *known)
{
	*known = false;
	for (size_t i = 0; i < sizeof(routes) / sizeof(*routes); i++) {
		if (strcmp(routes[i].path, path) != 0)
			continue;
		*known = true;
		if (strcmp(routes[i].method, method) == 0 ||
			(strcmp(method, "HEAD") == 0 && strcmp(routes[i].method, "GET") == 0))
			return &routes[i];
	}
	return NULL;
}

static bool may_pass(const struct call *c, const struct route *route)
{
	const struct serving_options *o = c->s->o;
	bool below_v1 = strncmp(c->r->path, "/v1", 3) == 0 || !strncmp(c->r->path, "/chat", 5) ||
		!strncmp(c->r->path, "/completions", 12) || strcmp(c->r->path, "/models") == 0;

	if (o->n_api_keys == 0 || (route && route->access == OPEN) ||
		(o->protect_v1_only && !below_v1 && !(route && route->access == ADMIN)))
		return true;
	return auth_allows(o->api_keys, o->n_api_keys, http_request_header(c->r, "Authorization"),
		http_request_header(c->r, "x-api-key"));
}

static bool is_json(const struct http_request *r)
{
	const char *type = http_request_header(r, "Content-Type");
	size_t n = type ? strcspn(type, "; \t") : 0;

	return n == strlen("application/json") && strncasecmp(type, "application/json", n) == 0;
}

static enum call_api api_of(const char *path)
{
	if (strncmp(path, "/v1/messages", 12) == 0)
		return CALL_ANTHROPIC;
	return strcmp(path, "/v1/responses") == 0 ? CALL_RESPONSES : CALL_OPENAI;
}

static bool is_off(const struct serving *s, const struct route *route)
{
	return (route->handle == handle_tokenizer_info && !s->o->tokenizer_info) || (route->access == ADMIN && !s->o->admin);
}

static void refuse_route(struct call *c, bool known)
{
	struct refusal no;

	if (known)
		refuse_status(&no, 405, "Method Not Allowed", NULL, "Method Not Allowed");
	else
		refuse_status(&no, 404, "Not Found", NULL, "Not Found");
	call_refuse(c, &no);
}

static bool takes_body(const struct route *route)
{
	return strcmp(route->method, "POST") == 0 && route->access == WITH_KEY;
}

/* Whose the call is, where it waits for its body; NULL: it needed none, and is answered. */
static const struct route *admit(struct call *c)
{
	const struct serving *s = c->s;
	struct http_request *r = c->r;
	struct refusal no;
	bool known;
	const struct route *route = find(r->method, r->path, &known);

	if (route) {
		c->route = route->path;
		c->method = strcmp(r->method, "HEAD") == 0 ? "HEAD" : route->method;
	}
	c->api = api_of(r->path);
	if (strcmp(r->method, "OPTIONS") == 0 && s->o->allowed_origins && http_request_header(r, "Origin") &&
		http_request_header(r, "Access-Control-Request-Method")) {
		call_preflight(c);
	} else if (!may_pass(c, route)) {
		call_unauthorized(c);
	} else if (!route || is_off(s, route)) {
		refuse_route(c, known && route == NULL);
	} else if (route->access == ADMIN && call_is_foreign(c)) {
		refuse_status(&no, 403, "Forbidden", NULL, "pages of this origin are not allowed: see --allowed-origins");
		call_refuse(c, &no);
	} else if (!takes_body(route)) {
		route->handle(c);
	} else if (!is_json(r)) {
		refuse_shape(&no, NULL, "Unsupported Media Type: Only 'application/json' is allowed");
		call_refuse(c, &no);
	} else {
		return route;
	}
	return NULL;
}

void routes_head(struct http_request *r, void *arg)
{
	struct call *c = call_create(arg, r);

	if (admit(c))
		free(c); /* until the body is there */
}

void routes_handle(struct http_request *r, void *arg)
{
	struct call *c = call_create(arg, r);
	const struct route *route = admit(c);

	if (route)
		route->handle(c);
}

void routes_refusal(void *arg, const char *path, unsigned status, const char *why, struct buf *body)
{
	struct refusal no;

	refuse_status(&no, status, status < 500 ? "Bad Request" : "ServiceUnavailableError", NULL, "%s", why);
	if (path && api_of(path) == CALL_ANTHROPIC)
		refusal_put_anthropic(body, &no);
	else
		refusal_put(body, &no);
}
