/*
 * A connected socket on the loop, plain or TLS: reads into the loop's buffer, queues what the
 * kernel does not take, and keeps the borders of what was written: what was handed over in one call
 * is sent in one call, never together with its neighbours, as far as the kernel takes it whole.
 *
 * Callbacks come from the top of the loop only, never from inside a call of these functions.
 */
#ifndef HTTP_IO_INT_H
#define HTTP_IO_INT_H

#include "http/loop_int.h"
#include "http/tls_int.h"

struct http_io_calls {
	void (*ready)(void *arg); /* connected, handshake done; or NULL */
	void (*data)(void *arg, const char *data, size_t len);
	void (*wrote)(void *arg);				   /* the queue became shorter */
	void (*end)(void *arg, enum status why, const char *text); /* OK: the peer ended its side */
};

struct http_io {
	struct http_loop *loop;
	struct http_tls_session *tls; /* owned; NULL: plain */
	const struct http_io_calls *calls;
	void *arg;
	int fd; /* owned; -1: closed */
	bool connecting, handshaking;
	bool reading;
	bool read_wants_write, write_wants_read; /* TLS alone */
	bool failed;				 /* end is still to be called */
	struct event read_event, write_event;
	struct http_io_chunk *first, **last;
	size_t out_bytes;     /* queued here, not yet taken by the kernel */
	uint64_t progress_ns; /* when the kernel last took bytes, or the queue began */
	struct http_later fail;
	struct error error;
};

/* Takes fd and session over. connecting: the socket's connect() is in progress. Starts reading. */
void http_io_init(struct http_io *io, struct http_loop *l, int fd, struct http_tls_session *tls,
	bool connecting, const struct http_io_calls *calls, void *arg);
/* Closes at once and drops the queue; no callback after it. Twice is allowed. */
void http_io_close(struct http_io *io);
void http_io_write(struct http_io *io, const void *data, size_t len);
/* Reading off: the end of the peer's side is not seen either; ask http_io_peer_gone(). */
void http_io_read(struct http_io *io, bool on);
bool http_io_peer_gone(const struct http_io *io);
/* Ends our side; the queue must be empty. */
void http_io_shutdown(struct http_io *io);
/* end(why, text) is called from the top of the loop, once. */
void http_io_fail(struct http_io *io, enum status why, const char *text);

#endif
