/*
 * What a connection receives, cut into requests: head, body, dispatch to the handler, one at a time.
 *
 * What a client sends ahead of its turn is kept up to HTTP_AHEAD_BYTES; then reading pauses.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "http/server_int.h"

#define NS_PER_MS 1000000ull

static const char continue_line[] = "HTTP/1.1 100 Continue\r\n\r\n";

/* A length that was announced is a promise, so small bodies get what they need. */
static size_t first_body_bytes(const struct http_message *m)
{
	return m->has_length && m->length < 4096 ? (size_t)m->length + 1 : 4096;
}

static bool keep_body(struct http_exchange *e, const char *data, size_t len)
{
	if (e->body_len + len + 1 > e->body_cap) {
		size_t cap = e->body_cap ? e->body_cap : first_body_bytes(&e->message);
		char *grown;

		while (cap < e->body_len + len + 1)
			cap *= 2;
		grown = realloc(e->body, cap);
		if (!grown)
			return false;
		e->body = grown;
		e->body_cap = cap;
	}
	memcpy(e->body + e->body_len, data, len);
	e->body_len += len;
	e->body[e->body_len] = '\0';
	return true;
}

static void refuse_long_body(struct http_conn *c)
{
	char why[100];

	snprintf(why, sizeof(why), "the body is too long: at most %zu bytes (--max-body-size)",
		c->server->config.limits.body_bytes);
	http_conn_refuse(c, 413, why);
}

/* Bytes of a body give the time that they take at the least rate, but never more than the time without any. */
static void set_body_due(struct http_conn *c, size_t n)
{
	const struct http_limits *l = &c->server->config.limits;
	uint64_t most = clock_ns() + l->body_ms * NS_PER_MS;

	if (l->body_rate)
		c->body_due_ns += n * 1000 * NS_PER_MS / l->body_rate;
	if (!l->body_rate || c->body_due_ns > most)
		c->body_due_ns = most;
}

/* What the head tells, from now on. */
static void publish(struct http_conn *c)
{
	struct http_exchange *e = c->exchange;
	const struct http_message *m = &e->message;

	e->public.method = m->method;
	e->public.target = m->target;
	e->public.path = m->path;
	e->public.query = m->query;
	e->public.headers = m->headers;
	e->public.n_headers = m->n_headers;
	e->public.body = "";
	e->public.peer = e->peer;
	e->public.tls = c->io.tls != NULL;
	e->public.http10 = m->http10;
	e->public.listener = c->tag;
	e->head_method = strcmp(m->method, "HEAD") == 0;
}

static void on_head(struct http_conn *c)
{
	const struct http_server_config *config = &c->server->config;
	struct http_exchange *e = c->exchange;
	const struct http_message *m = &e->message;
	bool body = m->chunked || m->length;

	if (m->length > config->limits.body_bytes) {
		refuse_long_body(c);
		return;
	}
	publish(c);
	if (body && config->head) {
		config->head(&e->public, config->arg);
		if (c->exchange != e) /* answered */
			return;
	}
	c->body_due_ns = UINT64_MAX; /* that is, as far away as it may be */
	set_body_due(c, 0);
	http_conn_enter(c, CONN_BODY);
	if (m->expect_continue && body && c->in_done == c->in.len)
		http_io_write(&c->io, continue_line, sizeof(continue_line) - 1);
}

/* False: there is no room. */
static bool hold_body(struct http_conn *c, const char *data, size_t n)
{
	struct http_server *s = c->server;

	if (!http_peer_hold(c->address, n, s->stats.body_bytes, s->config.limits.all_body_bytes))
		return false;
	if (!keep_body(c->exchange, data, n)) {
		http_peer_release(c->address, n);
		return false;
	}
	s->stats.body_bytes += n;
	return true;
}

static void on_body(struct http_conn *c)
{
	struct http_exchange *e = c->exchange;
	size_t n = e->message.piece_bytes;

	set_body_due(c, n);
	if (n > c->server->config.limits.body_bytes - e->body_len) {
		refuse_long_body(c);
	} else if (!hold_body(c, e->message.piece, n)) {
		http_conn_refuse(c, 503, "too many request bodies at once");
	}
}

static void dispatch(struct http_conn *c)
{
	struct http_exchange *e = c->exchange;

	if (e->body)
		e->public.body = e->body;
	e->public.body_bytes = e->body_len;
	e->dispatched = true;
	c->last |= e->message.close;
	c->server->stats.requests++;
	http_conn_enter(c, CONN_BUSY);
	c->server->config.handler(&e->public, c->server->config.arg);
}

static struct http_exchange *new_exchange(struct http_conn *c)
{
	struct http_exchange *e = mem_alloc(sizeof(*e));

	e->conn = c;
	memcpy(e->peer, c->peer, sizeof(e->peer));
	http_message_init(&e->message, HTTP_REQUEST, &c->server->config.limits.head);
	e->message.max_body_bytes = c->server->config.limits.body_bytes;
	return e;
}

/* One step of the parser; false when it needs more bytes. */
static bool parse_step(struct http_conn *c)
{
	size_t used;
	enum http_parse r;

	if (!c->exchange) {
		c->exchange = new_exchange(c);
		c->fresh = false;
		http_conn_enter(c, CONN_HEAD);
	}
	r = http_message_step(
		&c->exchange->message, c->in.data + c->in_done, c->in.len - c->in_done, &used);
	c->in_done += used;
	switch (r) {
	case HTTP_PARSE_MORE:
		return false;
	case HTTP_PARSE_HEAD:
		on_head(c);
		break;
	case HTTP_PARSE_BODY:
		on_body(c);
		break;
	case HTTP_PARSE_DONE:
		dispatch(c);
		break;
	case HTTP_PARSE_ERROR:
		if (c->exchange->message.error == 413)
			refuse_long_body(c);
		else
			http_conn_refuse(c, c->exchange->message.error, c->exchange->message.why);
		break;
	}
	return true;
}

static bool may_parse(const struct http_conn *c)
{
	/* Who sends requests and reads no answers waits. */
	if (c->state == CONN_IDLE)
		return c->in_done < c->in.len &&
		       c->io.out_bytes <= c->server->config.limits.out_bytes;
	return c->state == CONN_HEAD || c->state == CONN_BODY;
}

static void drop_parsed(struct http_conn *c)
{
	if (c->in_done == c->in.len) {
		/* Idle connections hold no buffer. */
		buf_deinit(&c->in);
		c->in_done = 0;
	} else if (c->in_done > c->in.len / 2) {
		/* Not for every request of a long pipeline. */
		memmove(c->in.data, c->in.data + c->in_done, c->in.len - c->in_done);
		c->in.len -= c->in_done;
		c->in_done = 0;
	}
}

void http_conn_receive(struct http_conn *c)
{
	if (c->processing || c->state == CONN_DEAD)
		return;
	c->processing = true;
	while (may_parse(c) && parse_step(c))
		;
	c->processing = false;
	if (c->state == CONN_DEAD)
		return;
	drop_parsed(c);
	if (!c->peer_end)
		http_io_read(&c->io, c->in.len - c->in_done < HTTP_AHEAD_BYTES);
	http_conn_set_timer(c);
}
