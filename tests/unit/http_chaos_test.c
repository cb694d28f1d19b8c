/*
 * Random clients against a handler that answers at random: at once, later, in pieces, too much, never.
 * Whatever happens, every request is finished once, every close is told at most once, and in the end
 * nothing is left. One thread and one loop: the clients are timers on it.
 */
#include "cm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/sse.h"

#define CLIENTS 40
#define LIVES 1000 /* connections in all */
#define PENDING 4096

struct pending {
	struct http_request *r;
	bool streaming, closed;
};

struct chaos {
	struct http_loop *loop;
	struct http_server *server;
	struct http_timer *client_timer, *server_timer;
	struct pending *pending[PENDING];
	unsigned n_pending, lives, stopped;
	unsigned handled, finished, closed;
	unsigned seed;
	uint16_t port;
	int fd[CLIENTS];
};

static const char script[] = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
			     "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
			     "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
			     "Expect: 100-continue\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
			     "HEAD /d HTTP/1.1\r\nHost: a\r\n\r\n";

static unsigned draw(struct chaos *c, unsigned n)
{
	return (unsigned)rand_r(&c->seed) % n;
}

static void on_close(void *arg, enum http_close_reason reason)
{
	struct pending *p = arg;

	assert_false(p->closed);
	assert_true(http_request_is_closed(p->r));
	p->closed = true;
}

static void on_drain(void *arg)
{
	struct pending *p = arg;

	assert_false(p->closed);
}

static void finish(struct chaos *c, unsigned i)
{
	struct pending *p = c->pending[i];

	assert_int_equal(p->closed, http_request_is_closed(p->r));
	if (p->streaming && draw(c, 4))
		http_stream_end(p->r);
	else if (!p->streaming && draw(c, 4))
		http_respond(p->r, draw(c, 5) ? 200 : 204, NULL, 0, script, draw(c, sizeof(script)));
	else
		http_request_abort(p->r);
	c->finished++;
	c->closed += p->closed;
	c->pending[i] = c->pending[--c->n_pending];
	free(p);
}

static void handle(struct http_request *r, void *arg)
{
	struct chaos *c = arg;
	struct pending *p;

	c->handled++;
	if (draw(c, 3) == 0) {
		c->finished++;
		if (draw(c, 10))
			http_respond(r, 200, NULL, 0, "now", 3);
		else
			http_request_abort(r);
		return;
	}
	assert_true(c->n_pending < PENDING);
	p = calloc(1, sizeof(*p));
	p->r = r;
	c->pending[c->n_pending++] = p;
	http_request_on_close(r, on_close, p);
}

/* Something for one request that waits. */
static void serve_one(struct chaos *c)
{
	static char flood[40000];
	unsigned i = draw(c, c->n_pending);
	struct pending *p = c->pending[i];

	switch (draw(c, 4)) {
	case 0:
		finish(c, i);
		return;
	case 1:
		if (!p->streaming)
			sse_begin(p->r, NULL, 0);
		p->streaming = true;
		sse_send(p->r, NULL, "x", 1);
		return;
	case 2:
		for (unsigned k = draw(c, 12); p->streaming && k; k--)
			http_stream_write(p->r, flood, sizeof(flood));
		return;
	default:
		http_request_on_drain(p->r, draw(c, 100000), on_drain, p);
	}
}

static void on_server_timer(void *arg)
{
	struct chaos *c = arg;

	for (unsigned n = draw(c, 30); n && c->n_pending; n--)
		serve_one(c);
	if (c->stopped)
		while (c->n_pending)
			finish(c, 0);
	http_timer_set(c->server_timer, 0);
}

static void on_stopped(void *arg)
{
	struct chaos *c = arg;

	c->stopped++;
	http_loop_stop(c->loop);
}

static int open_one(struct chaos *c)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(c->port)};
	const int small = 4096;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, "127.0.0.1", &sin.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	assert_true(connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0 || errno == EINPROGRESS);
	return fd;
}

static void act(struct chaos *c, int *fd)
{
	const struct linger reset = {.l_onoff = 1};
	char data[20000];
	unsigned from;

	if (*fd < 0) {
		if (c->lives < LIVES) {
			c->lives++;
			*fd = open_one(c);
		}
		return;
	}
	switch (draw(c, 25)) {
	case 0:
		setsockopt(*fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		/* fall through */
	case 1:
		close(*fd);
		*fd = -1;
		return;
	case 2:
		shutdown(*fd, SHUT_WR);
		return;
	case 3:
		/* Somewhere in the middle: mostly refused. */
		from = draw(c, sizeof(script) - 1);
		(void)!send(*fd, script + from, sizeof(script) - 1 - from, MSG_NOSIGNAL);
		return;
	case 4:
	case 5:
		(void)!recv(*fd, data, sizeof(data), 0);
		return;
	default:
		(void)!send(*fd, script, sizeof(script) - 1, MSG_NOSIGNAL);
	}
}

static void on_client_timer(void *arg)
{
	struct chaos *c = arg;
	unsigned open = 0;

	for (int i = 0; i < CLIENTS; i++) {
		if (draw(c, 2))
			act(c, &c->fd[i]);
		open += c->fd[i] >= 0;
	}
	if (c->lives == LIVES && open < CLIENTS / 2) {
		/* The rest ends with the server. */
		http_server_stop(c->server, 100, on_stopped, c);
		return;
	}
	http_timer_set(c->client_timer, 0);
}

static void handle_head(struct http_request *r, void *arg)
{
	if (!draw(arg, 4))
		http_respond(r, 401, NULL, 0, script, draw(arg, sizeof(script)));
}

/* Adds what there was to *handled and *closed. */
static void check_seed(unsigned seed, unsigned *handled, unsigned *closed)
{
	struct chaos c = {.seed = seed};
	struct http_server_config config = {
		.limits = http_limits_default,
		.handler = handle,
		.head = handle_head,
		.arg = &c,
	};
	struct http_server_stats stats;
	struct error err;

	config.limits.out_bytes = 100000;
	config.limits.head_ms = config.limits.keep_alive_ms = 5;
	config.limits.body_ms = config.limits.write_ms = 5;
	for (int i = 0; i < CLIENTS; i++)
		c.fd[i] = -1;
	assert_int_equal(http_loop_create(&c.loop, &err), OK);
	assert_int_equal(http_server_create(&c.server, c.loop, &config, &err), OK);
	assert_int_equal(
		http_server_listen(c.server, &(struct http_listen){.host = "127.0.0.1"}, &c.port, &err),
		OK);
	c.client_timer = http_timer_create(c.loop, on_client_timer, &c);
	c.server_timer = http_timer_create(c.loop, on_server_timer, &c);
	http_timer_set(c.client_timer, 0);
	http_timer_set(c.server_timer, 0);
	http_loop_run(c.loop);
	assert_int_equal(c.stopped, 1);
	stats = http_server_get_stats(c.server);
	assert_int_equal(stats.connections, 0);
	assert_int_equal(stats.requests, 0);
	assert_int_equal(stats.body_bytes, 0);
	/* Handles outlive their server. */
	http_server_destroy(c.server);
	while (c.n_pending)
		finish(&c, 0);
	assert_int_equal(c.handled, c.finished);
	print_message("seed %u: %u requests, %u told of their peer's end, %lu connections\n", seed,
		c.handled, c.closed, (unsigned long)stats.accepted);
	*handled += c.handled;
	*closed += c.closed;
	http_timer_destroy(c.client_timer);
	http_timer_destroy(c.server_timer);
	http_loop_destroy(c.loop);
	for (int i = 0; i < CLIENTS; i++)
		if (c.fd[i] >= 0)
			close(c.fd[i]);
}

static void test_chaos(void **state)
{
	unsigned handled = 0, closed = 0;

	/* On a slow machine many connections are over before they ask. */
	for (unsigned seed = 1; seed <= 3 || handled < 3 * LIVES || closed < LIVES / 10; seed++) {
		assert_true(seed < 100);
		check_seed(seed, &handled, &closed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chaos),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
