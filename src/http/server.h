/*
 * HTTP/1 server on one loop: listeners, limits, requests, whole and streamed answers.
 *
 *   static void handle(struct http_request *r, void *arg)
 *   {
 *           if (strcmp(r->path, "/health") == 0)
 *                   http_respond(r, 200, NULL, 0, NULL, 0);
 *           else ...                                     now, or later from the loop
 *   }
 *   config = (struct http_server_config){.limits = http_limits_default, .handler = handle};
 *   TRY(http_server_create(&server, loop, &config, err));
 *   TRY(http_server_listen(server, &(struct http_listen){.host = "::1", .port = 8000}, NULL, err));
 *
 * The handler gets complete requests. A request stays valid until it is finished, and must be
 * finished exactly once, by http_respond, http_stream_end or http_request_abort, even when its peer
 * is gone: then on_close has been called, and everything written goes nowhere. Bodies and paths are
 * bytes from outside; the path is percent-decoded but not normalized, so routes are compared as a
 * whole.
 *
 * A peer that closes, or only ends its sending side, before the answer is finished is gone:
 * on_close is called whether anything is being written or not. Answers that were finished before
 * are still sent. Requests of one connection are answered in their order, one at a time.
 *
 * Malformed requests, limits and timeouts are answered here (400, 408, 413, 417, 431, 501, 503,
 * 505), and the connection closed. Everything runs on the loop's thread.
 */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "http/loop.h"
#include "http/message.h"
#include "http/tls.h"

struct http_server;

struct http_limits {
	struct http_message_limits head; /* 431 */
	size_t body_bytes;		 /* of one request: 413 */
	size_t all_body_bytes;		 /* held by all requests together: 503. One address gets no more of
			     it than is left for the others then: half if it is alone */
	size_t out_bytes; /* a stream whose peer leaves more than this unread is closed at the next
			     write */
	uint32_t head_ms; /* from the first byte (or the accept) to the end of the head: 408 */
	uint32_t body_ms; /* without a byte of the body: 408 */
	uint32_t body_rate; /* bytes of the body that must come in each second: less is made up for within body_ms, or
			     408; more is not saved up. 0: any */
	uint32_t body_total_ms; /* from the end of the head to that of the body: 408 */
	uint32_t keep_alive_ms; /* between requests */
	uint32_t write_ms;	/* unsent bytes and no progress: closed */
	uint32_t connections;	/* more get 503 and are closed; at most HTTP_MAX_CONNECTIONS */
	uint32_t connections_per_address; /* the same; 0: no limit. Unix sockets are one address. */
};

#define HTTP_MAX_CONNECTIONS 1000000u

/* 64 KiB and 100 lines of head, 64 MiB body, 1 GiB of bodies, 1 MiB out; 10 s, 30 s and 512
 * bytes a second and 10 min, 5 s, 30 s; 16384. */
extern const struct http_limits http_limits_default;

enum http_close_reason {
	HTTP_CLOSE_PEER,   /* the peer closed, half closed or reset */
	HTTP_CLOSE_SLOW,   /* it did not read: limits.out_bytes or limits.write_ms */
	HTTP_CLOSE_SERVER, /* the server stops */
};

typedef void http_close_fn(void *arg, enum http_close_reason reason);

struct http_request {
	const char *method, *target, *path, *query; /* as in message.h */
	const struct http_header *headers;
	size_t n_headers;
	const char *body; /* body_bytes and a NUL; http_request_drop_body() */
	size_t body_bytes;
	const char *peer; /* "127.0.0.1:4711", "[::1]:4711" or "unix" */
	bool tls;
	bool http10; /* the peer speaks HTTP/1.0: streams end with the connection */
	int listener; /* the tag of http_listen */
	void *user;   /* the handler's */
};

typedef void http_handler_fn(struct http_request *r, void *arg);
/* Writes the body of an answer that the transport gives by itself; `why` is one line, not the
 * peer's. path: NULL where the head has not been read. */
typedef void http_refusal_fn(void *arg, const char *path, unsigned status, const char *why, struct buf *body);

struct http_server_config {
	struct http_limits limits;
	http_handler_fn *handler;
	/* Gets a request that has a body once its head is complete; NULL: none. It may answer it there, with
	 * http_respond alone: no byte of the body is kept then, and the connection closes after the answer. Otherwise
	 * the handler gets the request again, complete. */
	http_handler_fn *head;
	http_refusal_fn *refusal;	  /* NULL: plain text */
	const char *refusal_content_type; /* with refusal; kept, not copied */
	void *arg;			  /* of all */
};

struct http_listen {
	const char *host;      /* name or address; NULL: every IPv4 address; "::" takes IPv4 too */
	uint16_t port;	       /* 0: any free one */
	const char *unix_path; /* instead of host and port; a socket that nobody listens on is
				  replaced */
	unsigned unix_mode;    /* 0: 0600 */
	struct http_tls *tls;  /* NULL: plain; must outlive the server */
	int tag;	       /* requests carry it: which listener they came through */
};

enum status http_server_create(struct http_server **out, struct http_loop *l,
	const struct http_server_config *config, struct error *err);
/* Closes whatever is open; requests that were not finished get on_close and remain to be finished.
 */
void http_server_destroy(struct http_server *s);

/* Any number of times. port: where it listens now (0 for a unix socket); may be NULL. */
enum status http_server_listen(
	struct http_server *s, const struct http_listen *at, uint16_t *port, struct error *err);

/*
 * The first call stops accepting, closes idle connections, refuses requests that are not complete (503),
 * lets those in flight finish for at most deadline_ms; the second closes everything at once. done(arg) is
 * called from the loop once no connection is left, with the arguments of the first call.
 */
void http_server_stop(struct http_server *s, uint32_t deadline_ms, http_loop_fn *done, void *arg);

struct http_server_stats {
	uint32_t connections;
	uint32_t requests; /* dispatched, not finished, peer still there */
	size_t body_bytes; /* held for requests, complete or not */
	uint64_t accepted;
	uint64_t refused; /* over a limit of connections, or out of descriptors */
};

struct http_server_stats http_server_get_stats(const struct http_server *s);

/* --- a request
 * --------------------------------------------------------------------------------------- */

/* First field of that name, or NULL. */
const char *http_request_header(const struct http_request *r, const char *name);
/* Called at most once, from the loop, when the peer is gone before the answer is finished; not at all if
 * it is gone already. */
void http_request_on_close(struct http_request *r, http_close_fn *fn, void *arg);
bool http_request_is_closed(const struct http_request *r);

/* The body is no longer needed: it becomes empty and counts no more among those that are held; body_bytes stays. */
void http_request_drop_body(struct http_request *r);

/* Bytes written but not yet taken by the kernel: what a slow reader keeps here. */
size_t http_request_unsent(const struct http_request *r);
/* fn(arg) once, from the loop, when at most `low` bytes are unsent; a new call replaces the old
 * one. */
void http_request_on_drain(struct http_request *r, size_t low, http_loop_fn *fn, void *arg);

/*
 * The whole answer; finishes the request. Content-Length, Date and Connection are added here and
 * must not be among the headers; control characters in names and values are sent as '?'. Answers to
 * HEAD, and with status 204 or 304, are sent without their body.
 */
void http_respond(struct http_request *r, unsigned status, const struct http_header *headers,
	size_t n_headers, const void *body, size_t body_bytes);

/* An answer in pieces: begin, any number of writes, end. Each write is one chunk and one send. To a peer of
 * HTTP/1.0 the pieces go as they are, and the connection ends with them. */
void http_stream_begin(struct http_request *r, unsigned status, const struct http_header *headers,
	size_t n_headers);
void http_stream_write(struct http_request *r, const void *data, size_t len);
/* The same for data that are put together in place: what is appended to the buffer of http_stream_chunk() becomes a
 * chunk with http_stream_send(). Nothing else may be written in between. NULL: there is nobody to send to. */
struct buf *http_stream_chunk(struct http_request *r);
void http_stream_send(struct http_request *r, struct buf *chunk);
void http_stream_end(struct http_request *r);

/* Finishes without an answer, or without the end of one: the peer sees a broken connection. */
void http_request_abort(struct http_request *r);

#endif
