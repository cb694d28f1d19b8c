/* Calls: what is asked, what is told. The connections are in link.c. */
#include "http/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "base/mem.h"
#include "http/client_int.h"
#include "http/field.h"

static enum status resolve(struct http_client *c, struct error *err)
{
	int rc = http_resolve(&c->addresses, c->origin.host, c->origin.port, 0);

	if (rc != 0)
		return error_set(err, E_PEER, "host '%s': %s", c->origin.host, gai_strerror(rc));
	return OK;
}

enum status http_client_create(struct http_client **out, struct http_loop *l,
	const struct http_client_config *config, struct error *err)
{
	struct http_origin origin;
	struct http_client *c;
	enum status st;

	TRY(http_origin_parse(&origin, config->url, err));
	if (origin.tls && !config->tls)
		return error_set(err, E_INVAL, "URL '%s': no TLS settings", config->url);
	if (config->unix_path &&
		strlen(config->unix_path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return error_set(err, E_INVAL, "%s: socket path is too long", config->unix_path);
	c = mem_alloc(sizeof(*c));
	c->loop = l;
	c->config = *config;
	c->origin = origin;
	if (!c->config.head.head_bytes)
		c->config.head = (struct http_message_limits){64u << 10, 256};
	if (!c->config.event_bytes)
		c->config.event_bytes = 16u << 20;
	if (!c->config.idle_ms)
		c->config.idle_ms = 4000;
	if (config->unix_path) {
		c->unix_path = mem_strdup(config->unix_path);
	} else {
		st = resolve(c, err);
		if (st != OK) {
			free(c);
			return st;
		}
	}
	*out = c;
	return OK;
}

void http_client_destroy(struct http_client *c)
{
	if (!c)
		return;
	while (c->calls)
		http_call_cancel(c->calls);
	while (c->links)
		http_link_close(c->links);
	if (c->addresses)
		freeaddrinfo(c->addresses);
	free(c->unix_path);
	free(c);
}

struct http_client_stats http_client_get_stats(const struct http_client *c)
{
	return c->stats;
}

static void free_call(struct http_call *call)
{
	http_loop_forget(call->client->loop, &call->later);
	*call->at = call->next;
	if (call->next)
		call->next->at = call->at;
	buf_deinit(&call->request);
	sse_parser_deinit(&call->sse);
	free(call);
}

static void tell_end(void *arg)
{
	struct http_call *call = arg;
	const struct http_call_handlers *h = call->handlers;
	struct error err = call->error;
	void *its_arg = call->arg;

	free_call(call);
	h->done(its_arg, err.code, &err);
}

void http_call_end(struct http_call *call, enum status st, const char *text)
{
	error_set(&call->error, st, "%s", text);
	call->link = NULL;
	tell_end(call);
}

void http_call_head(struct http_call *call, const struct http_message *m)
{
	const char *type = http_header_find(m->headers, m->n_headers, "Content-Type");

	call->events = call->handlers->event && type &&
		       strncasecmp(type, "text/event-stream", strlen("text/event-stream")) == 0;
	if (call->handlers->head)
		call->handlers->head(call->arg, m->status, m->headers, m->n_headers);
}

/* An event handler may cancel the call in the middle of a piece: the rest is then nobody's. */
struct event_guard {
	struct http_call *call;
	struct http_link *link;
};

static void on_event(void *arg, const char *event, const char *data, size_t len)
{
	struct event_guard *g = arg;

	if (g->link->call == g->call)
		g->call->handlers->event(g->call->arg, event, data, len);
}

bool http_call_body(struct http_call *call, const char *data, size_t len)
{
	struct http_link *k = call->link;
	struct event_guard guard = {call, k};
	struct sse_parser sse;
	struct error err;
	enum status st;

	if (!call->events) {
		if (call->handlers->data)
			call->handlers->data(call->arg, data, len);
		return k->call == call;
	}
	/* Ours while it runs: cancelling frees the call's. */
	sse = call->sse;
	sse_parser_init(&call->sse, 0);
	st = sse_parser_feed(&sse, data, len, on_event, &guard, &err);
	if (k->call != call) {
		sse_parser_deinit(&sse);
		return false;
	}
	call->sse = sse;
	if (st != OK) {
		http_link_close(k);
		http_call_end(call, st, err.msg);
		return false;
	}
	return true;
}

static void put_request(struct http_call *call, const struct http_call_config *config)
{
	struct buf *out = &call->request;

	buf_printf(out, "%s %s HTTP/1.1\r\nHost: %s\r\n", config->method, config->target,
		call->client->origin.authority);
	for (size_t i = 0; i < config->n_headers; i++)
		buf_printf(out, "%s: %s\r\n", config->headers[i].name, config->headers[i].value);
	if (config->body_bytes || strcmp(config->method, "POST") == 0)
		buf_printf(out, "Content-Length: %zu\r\n", config->body_bytes);
	buf_puts(out, "\r\n");
	buf_append(out, config->body, config->body_bytes);
}

static bool is_clean(const struct http_call_config *config)
{
	bool ok = http_is_token(config->method, strlen(config->method)) && config->target[0] == '/';

	for (const char *c = config->target; *c; c++)
		ok &= (unsigned char)*c > 0x20 && (unsigned char)*c < 0x7F;
	for (size_t i = 0; i < config->n_headers; i++)
		ok &= http_is_token(config->headers[i].name, strlen(config->headers[i].name)) &&
		      http_is_field_value(
			      config->headers[i].value, strlen(config->headers[i].value));
	return ok;
}

struct http_call *http_call_start(struct http_client *c, const struct http_call_config *config,
	const struct http_call_handlers *handlers, void *arg)
{
	struct http_call *call = mem_alloc(sizeof(*call));

	call->client = c;
	call->handlers = handlers;
	call->arg = arg;
	call->later = (struct http_later){.fn = tell_end, .arg = call};
	call->head_method = strcmp(config->method, "HEAD") == 0;
	sse_parser_init(&call->sse, c->config.event_bytes);
	call->next = c->calls;
	call->at = &c->calls;
	if (call->next)
		call->next->at = &call->next;
	c->calls = call;
	if (!is_clean(config)) {
		error_set(&call->error, E_INVAL, "method, target or a header cannot be sent");
	} else {
		put_request(call, config);
		call->link = http_link_take(c, call, &call->error);
	}
	if (!call->link)
		http_loop_later(c->loop, &call->later);
	return call;
}

void http_call_cancel(struct http_call *call)
{
	struct http_link *k = call->link;

	if (k) {
		k->call = NULL;
		http_link_close(k);
	}
	free_call(call);
}
