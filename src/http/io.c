/* Sockets: what is readable goes to the owner, what cannot be written now waits in a list of
 * chunks. */
#include "http/io_int.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

/* Reads of one connection before others have their turn. */
#define READS_A_TURN 4

struct http_io_chunk {
	struct http_io_chunk *next;
	size_t len, done;
	char data[];
};

static void io_update(struct http_io *io)
{
	bool busy = io->connecting || io->handshaking;
	bool want_read = io->handshaking ? !io->connecting && !io->read_wants_write
					 : !busy && ((io->reading && !io->read_wants_write) ||
							    io->write_wants_read);
	bool want_write = io->connecting || io->read_wants_write ||
			  (!busy && io->first && !io->write_wants_read);

	if (io->fd < 0)
		return;
	if (io->failed)
		want_read = want_write = false;
	if (want_read)
		event_add(&io->read_event, NULL);
	else
		event_del(&io->read_event);
	if (want_write)
		event_add(&io->write_event, NULL);
	else
		event_del(&io->write_event);
}

static void on_fail(void *arg)
{
	struct http_io *io = arg;

	if (io->fd >= 0)
		io->calls->end(io->arg, io->error.code, io->error.msg);
}

void http_io_fail(struct http_io *io, enum status why, const char *text)
{
	if (io->fd < 0 || io->failed)
		return;
	io->failed = true;
	error_set(&io->error, why, "%s", text);
	http_loop_later(io->loop, &io->fail);
	io_update(io);
}

static enum http_io_result plain_result(ssize_t n, enum http_io_result again)
{
	if (n > 0)
		return HTTP_IO_OK;
	if (n == 0)
		return HTTP_IO_EOF;
	return errno == EAGAIN || errno == EINTR ? again : HTTP_IO_ERROR;
}

static enum http_io_result get_bytes(struct http_io *io, char *data, size_t cap, size_t *got)
{
	ssize_t n;

	if (io->tls)
		return http_tls_read(io->tls, data, cap, got);
	n = recv(io->fd, data, cap, 0);
	*got = n > 0 ? (size_t)n : 0;
	return plain_result(n, HTTP_IO_WANT_READ);
}

static enum http_io_result put_bytes(struct http_io *io, const char *data, size_t len, size_t *put)
{
	ssize_t n;

	if (io->tls)
		return http_tls_write(io->tls, data, len, put);
	n = send(io->fd, data, len, MSG_NOSIGNAL);
	*put = n > 0 ? (size_t)n : 0;
	return plain_result(n, HTTP_IO_WANT_WRITE);
}

/* Sends until the kernel takes no more; *done counts. False when the connection broke. */
static bool put_all(struct http_io *io, const char *data, size_t len, size_t *done)
{
	io->write_wants_read = false;
	while (*done < len) {
		size_t put = 0;
		enum http_io_result r = put_bytes(io, data + *done, len - *done, &put);

		if (r == HTTP_IO_WANT_READ || r == HTTP_IO_WANT_WRITE) {
			io->write_wants_read = r == HTTP_IO_WANT_READ;
			return true;
		}
		if (r != HTTP_IO_OK) {
			http_io_fail(io, E_PEER, "connection lost while writing");
			return false;
		}
		*done += put;
	}
	return true;
}

void http_io_write(struct http_io *io, const void *data, size_t len)
{
	struct http_io_chunk *c;
	size_t done = 0;

	if (io->fd < 0 || io->failed || !len)
		return;
	if (!io->first && !io->connecting && !io->handshaking && !put_all(io, data, len, &done))
		return;
	if (done == len)
		return;
	if (!io->first)
		io->progress_ns = clock_ns();
	c = mem_alloc(sizeof(*c) + len - done);
	memcpy(c->data, (const char *)data + done, len - done);
	c->len = len - done;
	*io->last = c;
	io->last = &c->next;
	io->out_bytes += c->len;
	io_update(io);
}

static void flush(struct http_io *io)
{
	size_t before = io->out_bytes;

	while (io->first) {
		struct http_io_chunk *c = io->first;
		size_t had = c->done;
		bool whole = put_all(io, c->data, c->len, &c->done);

		io->out_bytes -= c->done - had;
		if (c->done > had)
			io->progress_ns = clock_ns();
		if (!whole || c->done < c->len)
			break;
		io->first = c->next;
		if (!io->first)
			io->last = &io->first;
		free(c);
	}
	io_update(io);
	if (io->out_bytes < before && !io->failed)
		io->calls->wrote(io->arg);
}

static void read_some(struct http_io *io)
{
	char *buffer = http_loop_read_buffer(io->loop);

	for (int i = 0; i < READS_A_TURN; i++) {
		size_t got = 0;
		enum http_io_result r = get_bytes(io, buffer, HTTP_READ_BYTES, &got);

		io->read_wants_write = r == HTTP_IO_WANT_WRITE;
		if (r == HTTP_IO_WANT_READ || r == HTTP_IO_WANT_WRITE)
			break;
		if (r != HTTP_IO_OK) {
			io->reading = false;
			io_update(io);
			if (r == HTTP_IO_EOF)
				io->calls->end(io->arg, OK, "the peer ended the connection");
			else
				io->calls->end(io->arg, E_PEER, "connection lost");
			return;
		}
		io->calls->data(io->arg, buffer, got);
		if (io->fd < 0 || io->failed || !io->reading)
			return;
		/* Plain: the kernel has no more now. */
		if (!io->tls && got < HTTP_READ_BYTES)
			break;
	}
	if (io->tls && http_tls_pending(io->tls))
		event_active(&io->read_event, EV_READ, 0);
	io_update(io);
}

/* False while it goes on, and when it failed. */
static bool handshake(struct http_io *io)
{
	struct error err = {0};
	enum http_io_result r;

	if (io->connecting) {
		int code = 0;
		socklen_t size = sizeof(code);

		getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &code, &size);
		if (code) {
			http_io_fail(io, E_PEER, strerror(code));
			return false;
		}
		io->connecting = false;
	}
	if (io->handshaking) {
		r = http_tls_handshake(io->tls, &err);
		io->read_wants_write = r == HTTP_IO_WANT_WRITE;
		if (r == HTTP_IO_EOF || r == HTTP_IO_ERROR)
			http_io_fail(io, E_PEER, err.msg[0] ? err.msg : "TLS handshake broken off");
		io_update(io);
		if (r != HTTP_IO_OK)
			return false;
		io->handshaking = false;
	}
	if (io->calls->ready)
		io->calls->ready(io->arg);
	io_update(io);
	return io->fd >= 0 && !io->failed;
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct http_io *io = arg;

	if ((io->connecting || io->handshaking) && !handshake(io))
		return;
	/* With TLS either direction may have waited for either event. */
	if (io->first && ((what & EV_WRITE) || io->write_wants_read))
		flush(io);
	if (io->fd < 0 || io->failed)
		return;
	if (io->reading && ((what & EV_READ) || io->read_wants_write || io->tls))
		read_some(io);
	if (io->fd >= 0)
		io_update(io);
}

void http_io_init(struct http_io *io, struct http_loop *l, int fd, struct http_tls_session *tls,
	bool connecting, const struct http_io_calls *calls, void *arg)
{
	*io = (struct http_io){
		.loop = l,
		.tls = tls,
		.calls = calls,
		.arg = arg,
		.fd = fd,
		.connecting = connecting,
		.handshaking = tls != NULL,
		.reading = true,
		.progress_ns = clock_ns(),
	};
	io->last = &io->first;
	io->fail.fn = on_fail;
	io->fail.arg = io;
	event_assign(&io->read_event, http_loop_base(l), fd, EV_READ | EV_PERSIST, on_event, io);
	event_assign(&io->write_event, http_loop_base(l), fd, EV_WRITE | EV_PERSIST, on_event, io);
	io_update(io);
}

void http_io_close(struct http_io *io)
{
	if (io->fd < 0)
		return;
	event_del(&io->read_event);
	event_del(&io->write_event);
	http_tls_session_destroy(io->tls);
	io->tls = NULL;
	close(io->fd);
	io->fd = -1;
	while (io->first) {
		struct http_io_chunk *c = io->first;

		io->first = c->next;
		free(c);
	}
	io->last = &io->first;
	io->out_bytes = 0;
}

void http_io_read(struct http_io *io, bool on)
{
	if (io->fd < 0 || io->reading == on)
		return;
	io->reading = on;
	io_update(io);
	if (on && io->tls && !io->handshaking && http_tls_pending(io->tls))
		event_active(&io->read_event, EV_READ, 0);
}

bool http_io_peer_gone(const struct http_io *io)
{
	struct pollfd p = {.fd = io->fd, .events = POLLRDHUP};

	return io->fd < 0 || (poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)));
}

void http_io_shutdown(struct http_io *io)
{
	if (io->fd < 0 || io->failed)
		return;
	if (io->tls && !io->handshaking)
		http_tls_shutdown(io->tls);
	shutdown(io->fd, SHUT_WR);
}
