/*
 * A connection of the server: from the accept through its requests, one after the other, to its
 * end. What it receives is receive.c's, what it answers respond.c's matter.
 *
 * While reading pauses, a timer asks the kernel whether the peer is still there. Memory is freed
 * from the top of the loop alone, so a connection may die under any call.
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

/* --- time
 * -------------------------------------------------------------------------------------------- */

/* When something must have happened; 0: there is no hurry. */
static uint64_t due(const struct http_conn *c)
{
	const struct http_limits *l = &c->server->config.limits;
	uint64_t unsent = c->io.out_bytes ? c->io.progress_ns + l->write_ms * MS : 0, whole;

	switch (c->state) {
	case CONN_IDLE:
		return unsent ? unsent
			      : c->since_ns + (c->fresh ? l->head_ms : l->keep_alive_ms) * MS;
	case CONN_HEAD:
		return c->since_ns + l->head_ms * MS;
	case CONN_BODY:
		whole = c->since_ns + l->body_total_ms * MS;
		return whole < c->body_due_ns ? whole : c->body_due_ns;
	case CONN_LINGER:
		return c->since_ns + LINGER_MS * MS;
	default:
		return unsent;
	}
}

void http_conn_set_timer(struct http_conn *c)
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

void http_conn_enter(struct http_conn *c, enum http_conn_state state)
{
	c->state = state;
	c->since_ns = clock_ns();
	http_conn_set_timer(c);
}

/* --- the end
 * ----------------------------------------------------------------------------------------- */

static void free_conn(void *arg)
{
	struct http_conn *c = arg;

	buf_deinit(&c->in);
	free(c);
}

void http_conn_release_body(struct http_conn *c, const struct http_exchange *e)
{
	c->server->stats.body_bytes -= e->body_len;
	http_peer_release(c->address, e->body_len);
}

/* The exchange no longer counts as this connection's. */
static struct http_exchange *detach(struct http_conn *c)
{
	struct http_exchange *e = c->exchange;

	if (!e)
		return NULL;
	c->exchange = NULL;
	e->conn = NULL;
	http_conn_release_body(c, e);
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
	http_conn_enter(c, CONN_LINGER);
}

static void begin_close(struct http_conn *c)
{
	buf_deinit(&c->in);
	c->in_done = 0;
	if (!c->peer_end)
		http_io_read(&c->io, true);
	if (c->io.out_bytes)
		http_conn_enter(c, CONN_CLOSING);
	else
		end_our_side(c);
}

void http_conn_retire(struct http_conn *c)
{
	c->last = true;
	if (c->state == CONN_HEAD || c->state == CONN_BODY)
		http_conn_refuse(c, 503, "the server shuts down");
	else if (c->state != CONN_IDLE)
		return;
	else if (c->io.out_bytes)
		begin_close(c);
	else
		http_conn_kill(c, HTTP_CLOSE_SERVER);
}

void http_conn_refuse(struct http_conn *c, unsigned status, const char *why)
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
	http_conn_receive(c);
}

static void on_wrote(void *arg)
{
	struct http_conn *c = arg;

	if (c->state == CONN_CLOSING && !c->io.out_bytes) {
		end_our_side(c);
		return;
	}
	if (c->state == CONN_IDLE && !c->io.out_bytes)
		http_conn_enter(c, CONN_IDLE);
	look_at_drain(c);
	http_conn_receive(c);
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
		http_conn_set_timer(c);
	else if ((c->state == CONN_HEAD || c->state == CONN_BODY) && !c->io.handshaking)
		http_conn_refuse(c, 408, "the request did not come in time");
	else
		http_conn_kill(c, c->io.out_bytes ? HTTP_CLOSE_SLOW : HTTP_CLOSE_SERVER);
}

static void on_later(void *arg)
{
	struct http_conn *c = arg;

	look_at_drain(c);
	http_conn_receive(c);
}

void http_conn_wake(struct http_conn *c)
{
	if (c->state != CONN_DEAD)
		http_loop_later(c->server->loop, &c->later);
}

void http_conn_watch_writes(struct http_conn *c)
{
	if (c->io.out_bytes)
		http_conn_set_timer(c);
}

void http_conn_finish(struct http_conn *c, bool close_after)
{
	http_exchange_free(detach(c));
	if (close_after || c->last) {
		begin_close(c);
		return;
	}
	http_conn_enter(c, CONN_IDLE);
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
	http_conn_enter(c, CONN_IDLE);
}
