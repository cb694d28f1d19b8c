/*
 * A connection of the server: from the accept through its requests, one after the other, to its
 * end.
 *
 * What a client sends ahead of its turn is kept up to HTTP_AHEAD_BYTES; then reading pauses, and a
 * timer asks the kernel whether the peer is still there. Memory is freed from the top of the loop
 * alone, so a connection may die under any call.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/field.h"
#include "http/server_int.h"

#define LINGER_MS 2000
#define PAUSED_LOOK_MS 250
#define MS 1000000ull

static const char continue_line[] = "HTTP/1.1 100 Continue\r\n\r\n";

/* --- time
 * -------------------------------------------------------------------------------------------- */

/* Of a body: the next byte must come, and all so far must not have come too slowly. */
static uint64_t body_due(const struct http_conn *c)
{
	const struct http_limits *l = &c->server->config.limits;
	uint64_t silent = c->since_ns + l->body_ms * MS, slow = silent;

	if (l->body_rate)
		slow = c->body_ns + l->body_ms * MS + c->exchange->body_len * 1000 / l->body_rate * MS;
	return slow < silent ? slow : silent;
}

/* When something must have happened; 0: there is no hurry. */
static uint64_t due(const struct http_conn *c)
{
	const struct http_limits *l = &c->server->config.limits;
	uint64_t unsent = c->io.out_bytes ? c->io.progress_ns + l->write_ms * MS : 0;

	switch (c->state) {
	case CONN_IDLE:
		return unsent ? unsent
			      : c->since_ns + (c->fresh ? l->head_ms : l->keep_alive_ms) * MS;
	case CONN_HEAD:
		return c->since_ns + l->head_ms * MS;
	case CONN_BODY:
		return body_due(c);
	case CONN_LINGER:
		return c->since_ns + LINGER_MS * MS;
	default:
		return unsent;
	}
}

static void set_timer(struct http_conn *c)
{
	uint64_t now = clock_ns(), at = due(c);

	/* The peer's end is not seen while reading pauses. */
	if (c->state == CONN_BUSY && !c->io.reading && (!at || at > now + PAUSED_LOOK_MS * MS))
		at = now + PAUSED_LOOK_MS * MS;
	/* A timer that comes too early looks again; most deadlines only move away. */
	if (!at || (c->timer_ns && c->timer_ns <= at))
		return;
	c->timer_ns = at;
	http_event_set_ms(&c->timer, at > now ? (at - now) / MS + 1 : 0);
}

static void enter(struct http_conn *c, enum http_conn_state state)
{
	c->state = state;
	c->since_ns = clock_ns();
	set_timer(c);
}

/* --- the end
 * ----------------------------------------------------------------------------------------- */

static void free_conn(void *arg)
{
	struct http_conn *c = arg;

	buf_deinit(&c->in);
	free(c);
}

/* The exchange no longer counts as this connection's. */
static struct http_exchange *detach(struct http_conn *c)
{
	struct http_exchange *e = c->exchange;

	if (!e)
		return NULL;
	c->exchange = NULL;
	e->conn = NULL;
	c->server->stats.body_bytes -= e->body_len;
	c->server->stats.requests -= e->dispatched;
	return e;
}

void http_conn_kill(struct http_conn *c, enum http_close_reason reason)
{
	struct http_server *s = c->server;
	struct http_exchange *e;

	if (c->state == CONN_DEAD)
		return;
	e = detach(c);
	c->state = CONN_DEAD;
	c->server = NULL;
	http_io_close(&c->io);
	event_del(&c->timer);
	http_loop_forget(s->loop, &c->later);
	*c->link = c->next;
	if (c->next)
		c->next->link = c->link;
	s->stats.connections--;
	http_peers_put(s->peers, c->address);
	http_loop_forget(s->loop, &c->io.fail);
	http_loop_later(s->loop, &c->free_later);
	http_server_conn_gone(s);
	if (!e)
		return;
	if (!e->dispatched)
		http_exchange_free(e);
	else if (e->on_close)
		e->on_close(e->close_arg, reason);
}

/* Everything is sent: our side ends, and what still comes is read away for a moment, because a
 * socket closed with unread bytes resets the connection and takes the answer with it. */
static void end_our_side(struct http_conn *c)
{
	if (c->peer_end) {
		http_conn_kill(c, HTTP_CLOSE_SERVER);
		return;
	}
	http_io_shutdown(&c->io);
	enter(c, CONN_LINGER);
}

static void begin_close(struct http_conn *c)
{
	buf_deinit(&c->in);
	c->in_done = 0;
	if (!c->peer_end)
		http_io_read(&c->io, true);
	if (c->io.out_bytes)
		enter(c, CONN_CLOSING);
	else
		end_our_side(c);
}

void http_conn_retire(struct http_conn *c)
{
	c->last = true;
	if (c->state != CONN_IDLE)
		return;
	if (c->io.out_bytes)
		begin_close(c);
	else
		http_conn_kill(c, HTTP_CLOSE_SERVER);
}

static void refuse(struct http_conn *c, unsigned status, const char *why)
{
	struct http_server *s = c->server;
	struct http_exchange *e = detach(c);
	struct http_header type = {"Content-Type", "text/plain; charset=utf-8"};
	struct buf *out, body = {0};

	log_debug("http", "%s refused %u: %s", c->peer, status, why);
	if (s->config.refusal) {
		s->config.refusal(s->config.arg, e && !e->message.error ? e->message.path : NULL, status, why, &body);
		type.value = s->config.refusal_content_type;
	} else {
		buf_printf(&body, "%s\n", why);
	}
	out = http_loop_scratch(s->loop);
	http_head_put(s, out, status, &type, 1);
	buf_printf(out, "Content-Length: %zu\r\nConnection: close\r\n\r\n", body.len);
	if (!e || !e->message.method || strcmp(e->message.method, "HEAD") != 0)
		buf_append(out, body.data, body.len);
	buf_deinit(&body);
	if (e)
		http_exchange_free(e);
	http_io_write(&c->io, out->data, out->len);
	begin_close(c);
}

/* --- reading
 * ----------------------------------------------------------------------------------------- */

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

static void on_head(struct http_conn *c)
{
	const struct http_limits *l = &c->server->config.limits;
	const struct http_message *m = &c->exchange->message;
	bool body = m->chunked || m->length;

	if (m->length > l->body_bytes) {
		refuse(c, 413, "the body is too long");
		return;
	}
	c->body_ns = clock_ns();
	enter(c, CONN_BODY);
	if (m->expect_continue && body && c->in_done == c->in.len)
		http_io_write(&c->io, continue_line, sizeof(continue_line) - 1);
}

static void on_body(struct http_conn *c)
{
	struct http_server *s = c->server;
	struct http_exchange *e = c->exchange;
	size_t n = e->message.piece_bytes;

	c->since_ns = clock_ns();
	if (n > s->config.limits.body_bytes - e->body_len) {
		refuse(c, 413, "the body is too long");
	} else if (s->stats.body_bytes + n > s->config.limits.all_body_bytes ||
		   !keep_body(e, e->message.piece, n)) {
		refuse(c, 503, "too many request bodies at once");
	} else {
		s->stats.body_bytes += n;
	}
}

static void dispatch(struct http_conn *c)
{
	struct http_exchange *e = c->exchange;
	const struct http_message *m = &e->message;

	e->public.method = m->method;
	e->public.target = m->target;
	e->public.path = m->path;
	e->public.query = m->query;
	e->public.headers = m->headers;
	e->public.n_headers = m->n_headers;
	e->public.body = e->body ? e->body : "";
	e->public.body_bytes = e->body_len;
	e->public.peer = e->peer;
	e->public.tls = c->io.tls != NULL;
	e->public.http10 = m->http10;
	e->public.listener = c->tag;
	e->head_method = strcmp(m->method, "HEAD") == 0;
	e->dispatched = true;
	c->last |= m->close;
	c->server->stats.requests++;
	enter(c, CONN_BUSY);
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
		enter(c, CONN_HEAD);
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
		refuse(c, c->exchange->message.error, c->exchange->message.why);
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

static void process(struct http_conn *c)
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
	set_timer(c);
}

/* --- events
 * ------------------------------------------------------------------------------------------ */

static void look_at_drain(struct http_conn *c)
{
	struct http_exchange *e = c->exchange;

	if (e && e->on_drain && c->io.out_bytes <= e->drain_low) {
		http_loop_fn *fn = e->on_drain;

		e->on_drain = NULL;
		fn(e->drain_arg);
	}
}

static void on_data(void *arg, const char *data, size_t len)
{
	struct http_conn *c = arg;

	if (c->state == CONN_CLOSING || c->state == CONN_LINGER)
		return;
	buf_append(&c->in, data, len);
	process(c);
}

static void on_wrote(void *arg)
{
	struct http_conn *c = arg;

	if (c->state == CONN_CLOSING && !c->io.out_bytes) {
		end_our_side(c);
		return;
	}
	if (c->state == CONN_IDLE && !c->io.out_bytes)
		enter(c, CONN_IDLE);
	look_at_drain(c);
	process(c);
}

static void on_end(void *arg, enum status why, const char *text)
{
	struct http_conn *c = arg;

	c->peer_end = true;
	log_trace("http", "%s %s", c->peer, text);
	/* Answers that are finished are still for a peer that only ended its side. */
	if (why == OK && c->state != CONN_BUSY && c->io.out_bytes) {
		struct http_exchange *e = detach(c);

		if (e)
			http_exchange_free(e);
		begin_close(c);
		return;
	}
	http_conn_kill(c, c->reason);
}

static const struct http_io_calls conn_calls = {.data = on_data, .wrote = on_wrote, .end = on_end};

static void on_time(evutil_socket_t fd, short what, void *arg)
{
	struct http_conn *c = arg;
	uint64_t at = due(c);

	c->timer_ns = 0;
	if (c->state == CONN_BUSY && !c->io.reading && http_io_peer_gone(&c->io))
		http_conn_kill(c, HTTP_CLOSE_PEER);
	else if (!at || clock_ns() < at)
		set_timer(c);
	else if ((c->state == CONN_HEAD || c->state == CONN_BODY) && !c->io.handshaking)
		refuse(c, 408, "the request did not come in time");
	else
		http_conn_kill(c, c->io.out_bytes ? HTTP_CLOSE_SLOW : HTTP_CLOSE_SERVER);
}

static void on_later(void *arg)
{
	struct http_conn *c = arg;

	look_at_drain(c);
	process(c);
}

void http_conn_wake(struct http_conn *c)
{
	if (c->state != CONN_DEAD)
		http_loop_later(c->server->loop, &c->later);
}

void http_conn_watch_writes(struct http_conn *c)
{
	if (c->io.out_bytes)
		set_timer(c);
}

void http_conn_finish(struct http_conn *c, bool close_after)
{
	http_exchange_free(detach(c));
	if (close_after || c->last) {
		begin_close(c);
		return;
	}
	enter(c, CONN_IDLE);
	if (!c->processing)
		http_conn_wake(c);
}

static void name_peer(char *out, const struct sockaddr_storage *from)
{
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)from;
	const struct sockaddr_in *four = (const struct sockaddr_in *)from;
	char text[INET6_ADDRSTRLEN] = "";

	if (from->ss_family == AF_INET) {
		inet_ntop(AF_INET, &four->sin_addr, text, sizeof(text));
		snprintf(out, HTTP_PEER_TEXT, "%s:%u", text, ntohs(four->sin_port));
	} else if (from->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr)) {
		inet_ntop(AF_INET, six->sin6_addr.s6_addr + 12, text, sizeof(text));
		snprintf(out, HTTP_PEER_TEXT, "%s:%u", text, ntohs(six->sin6_port));
	} else if (from->ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof(text));
		snprintf(out, HTTP_PEER_TEXT, "[%s]:%u", text, ntohs(six->sin6_port));
	} else {
		snprintf(out, HTTP_PEER_TEXT, "unix");
	}
}

void http_conn_open(struct http_listener *n, int fd, const struct sockaddr_storage *from,
	struct http_peer *address)
{
	struct http_server *s = n->server;
	struct http_tls_session *session = NULL;
	struct http_conn *c;

	if (n->tls) {
		session = http_tls_session_create(n->tls, fd, NULL);
		if (!session) {
			close(fd);
			http_peers_put(s->peers, address);
			return;
		}
	}
	c = mem_alloc(sizeof(*c));
	c->server = s;
	c->address = address;
	c->tag = n->tag;
	c->fresh = true;
	c->later = (struct http_later){.fn = on_later, .arg = c};
	c->free_later = (struct http_later){.fn = free_conn, .arg = c};
	name_peer(c->peer, from);
	c->next = s->conns;
	c->link = &s->conns;
	if (c->next)
		c->next->link = &c->next;
	s->conns = c;
	s->stats.connections++;
	event_assign(&c->timer, http_loop_base(s->loop), -1, 0, on_time, c);
	http_io_init(&c->io, s->loop, fd, session, false, &conn_calls, c);
	enter(c, CONN_IDLE);
}
