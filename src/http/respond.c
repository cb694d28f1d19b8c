/* Answers: heads, whole bodies, pieces. A request whose peer is gone takes everything and sends
 * nothing. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http/field.h"
#include "http/server_int.h"

/* Up to here the body goes out together with the head. */
#define TOGETHER_BYTES 65536u
/* In front of a chunk: its length in up to 16 digits, and the end of the line. */
#define CHUNK_HEAD_BYTES 18

static struct http_exchange *exchange_of(struct http_request *r)
{
	return (struct http_exchange *)r;
}

static const struct http_exchange *const_exchange_of(const struct http_request *r)
{
	return (const struct http_exchange *)r;
}

void http_exchange_free(struct http_exchange *e)
{
	http_message_deinit(&e->message);
	free(e->body);
	free(e);
}

/* Nothing in a header may begin another one. */
static void put_clean(struct buf *out, const char *s)
{
	size_t from = out->len;

	buf_puts(out, s);
	for (; from < out->len; from++)
		if (!http_is_field_value(out->data + from, 1))
			out->data[from] = '?';
}

static const char *date_now(struct http_server *s)
{
	time_t now = time(NULL);
	struct tm tm;

	if (now != s->date_at) {
		gmtime_r(&now, &tm);
		strftime(s->date, sizeof(s->date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
		s->date_at = now;
	}
	return s->date;
}

void http_head_put(struct http_server *s, struct buf *out, unsigned status,
	const struct http_header *headers, size_t n_headers)
{
	buf_printf(out, "HTTP/1.1 %u %s\r\nDate: %s\r\n", status, http_status_text(status),
		date_now(s));
	for (size_t i = 0; i < n_headers; i++) {
		put_clean(out, headers[i].name);
		buf_puts(out, ": ");
		put_clean(out, headers[i].value);
		buf_puts(out, "\r\n");
	}
}

/* The last line of a head, and the empty one behind it. HTTP/1.0 wants to be told that it may go on. */
static void put_connection(struct buf *out, const struct http_exchange *e)
{
	if (e->conn->last)
		buf_puts(out, "Connection: close\r\n");
	else if (e->public.http10)
		buf_puts(out, "Connection: keep-alive\r\n");
	buf_puts(out, "\r\n");
}

static void finish(struct http_exchange *e)
{
	if (e->conn)
		http_conn_finish(e->conn, false);
	else
		http_exchange_free(e);
}

void http_respond(struct http_request *r, unsigned status, const struct http_header *headers,
	size_t n_headers, const void *body, size_t body_bytes)
{
	struct http_exchange *e = exchange_of(r);
	struct http_conn *c = e->conn;
	struct buf *out;

	BUG_ON(e->streaming || status < 200 || status > 999);
	if (c) {
		c->last |= !e->dispatched; /* its body is still to come */
		out = http_loop_scratch(c->server->loop);
		http_head_put(c->server, out, status, headers, n_headers);
		if (status != 204 && status != 304)
			buf_printf(out, "Content-Length: %zu\r\n", body_bytes);
		else
			body_bytes = 0;
		put_connection(out, e);
		if (e->head_method)
			body_bytes = 0;
		if (body_bytes <= TOGETHER_BYTES) {
			buf_append(out, body, body_bytes);
			body_bytes = 0;
		}
		http_io_write(&c->io, out->data, out->len);
		http_io_write(&c->io, body, body_bytes);
		http_conn_watch_writes(c);
	}
	finish(e);
}

void http_stream_begin(struct http_request *r, unsigned status, const struct http_header *headers,
	size_t n_headers)
{
	struct http_exchange *e = exchange_of(r);
	struct http_conn *c = e->conn;
	struct buf *out;

	BUG_ON(e->streaming || status < 200 || status > 999);
	e->streaming = true;
	e->no_body = e->head_method || status == 204 || status == 304;
	if (!c)
		return;
	out = http_loop_scratch(c->server->loop);
	http_head_put(c->server, out, status, headers, n_headers);
	if (e->public.http10)
		c->last = true;
	else if (status != 204 && status != 304)
		buf_puts(out, "Transfer-Encoding: chunked\r\n");
	put_connection(out, e);
	http_io_write(&c->io, out->data, out->len);
	http_conn_watch_writes(c);
}

struct buf *http_stream_chunk(struct http_request *r)
{
	static const char room[CHUNK_HEAD_BYTES];
	struct http_exchange *e = exchange_of(r);
	struct buf *out;

	BUG_ON(!e->streaming);
	if (!e->conn || e->no_body)
		return NULL;
	out = http_loop_scratch(e->conn->server->loop);
	buf_append(out, room, sizeof(room));
	return out;
}

/* Writes the length of a chunk in front of it; returns where it begins. */
static size_t put_chunk_head(char *data, size_t len)
{
	size_t at = CHUNK_HEAD_BYTES;

	data[--at] = '\n';
	data[--at] = '\r';
	do
		data[--at] = "0123456789abcdef"[len & 15];
	while (len >>= 4);
	return at;
}

void http_stream_send(struct http_request *r, struct buf *chunk)
{
	struct http_conn *c = exchange_of(r)->conn;
	size_t len = chunk->len - CHUNK_HEAD_BYTES, at;

	/* A chunk of no bytes would end the answer. */
	if (!len)
		return;
	if (c->io.out_bytes > c->server->config.limits.out_bytes) {
		c->reason = HTTP_CLOSE_SLOW;
		http_io_fail(&c->io, E_LIMIT, "the peer does not read");
		return;
	}
	if (r->http10) { /* ends with the connection, without chunks */
		http_io_write(&c->io, chunk->data + CHUNK_HEAD_BYTES, len);
	} else {
		at = put_chunk_head(chunk->data, len);
		buf_append(chunk, "\r\n", 2);
		http_io_write(&c->io, chunk->data + at, chunk->len - at);
	}
	http_conn_watch_writes(c);
}

void http_stream_write(struct http_request *r, const void *data, size_t len)
{
	struct buf *chunk = http_stream_chunk(r);

	if (!chunk)
		return;
	buf_append(chunk, data, len);
	http_stream_send(r, chunk);
}

void http_stream_end(struct http_request *r)
{
	struct http_exchange *e = exchange_of(r);

	BUG_ON(!e->streaming);
	if (e->conn && !e->no_body && !r->http10) {
		http_io_write(&e->conn->io, "0\r\n\r\n", 5);
		http_conn_watch_writes(e->conn);
	}
	finish(e);
}

void http_request_abort(struct http_request *r)
{
	struct http_exchange *e = exchange_of(r);

	if (e->conn) {
		e->on_close = NULL;
		http_conn_kill(e->conn, HTTP_CLOSE_SERVER);
	}
	http_exchange_free(e);
}

const char *http_request_header(const struct http_request *r, const char *name)
{
	return http_header_find(r->headers, r->n_headers, name);
}

void http_request_on_close(struct http_request *r, http_close_fn *fn, void *arg)
{
	exchange_of(r)->on_close = fn;
	exchange_of(r)->close_arg = arg;
}

bool http_request_is_closed(const struct http_request *r)
{
	return !const_exchange_of(r)->conn;
}

void http_request_drop_body(struct http_request *r)
{
	struct http_exchange *e = exchange_of(r);

	if (e->conn)
		http_conn_release_body(e->conn, e);
	free(e->body);
	e->body = NULL;
	e->body_len = e->body_cap = 0;
	r->body = "";
}

size_t http_request_unsent(const struct http_request *r)
{
	const struct http_exchange *e = const_exchange_of(r);

	return e->conn ? e->conn->io.out_bytes : 0;
}

void http_request_on_drain(struct http_request *r, size_t low, http_loop_fn *fn, void *arg)
{
	struct http_exchange *e = exchange_of(r);

	e->on_drain = fn;
	e->drain_arg = arg;
	e->drain_low = low;
	if (e->conn)
		http_conn_wake(e->conn);
}
