/* Streamed answers, peers that vanish at any moment or do not read, and the end of the server. */
#include "cm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/sse.h"
#include "http_case.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

static void assert_has(const struct buf *in, const char *text)
{
	if (!in->data || !strstr(in->data, text))
		fail_msg("'%s' is not in: %s", text, in->data ? in->data : "");
}

static void begin_held(void *arg)
{
	struct http_case *c = arg;

	sse_begin(c->held, &(struct http_header){"X-A", "b"}, 1);
}

static void send_held(void *arg)
{
	struct http_case *c = arg;

	sse_send(c->held, NULL, "{\"a\":1}", 7);
}

static void end_held(void *arg)
{
	struct http_case *c = arg;

	http_stream_end(c->held);
	c->held = NULL;
}

static void abort_held(void *arg)
{
	struct http_case *c = arg;

	http_request_abort(c->held);
	c->held = NULL;
}

/* Head, each event and the end arrive when they are sent, alone. */
static void test_stream(void **state)
{
	struct http_case c;
	struct buf in = {0};
	int fd;

	http_case_init(&c);
	http_case_open(&c);
	fd = http_case_connect(&c);
	http_case_send(fd, GET("/hold"));
	http_case_wait(&c.handled, 1);
	http_case_call(&c, begin_held, &c);
	http_case_expect(fd, &in, "\r\n\r\n");
	assert_has(&in, "Content-Type: text/event-stream; charset=utf-8\r\n");
	assert_has(&in, "X-A: b\r\n");
	assert_has(&in, "Transfer-Encoding: chunked\r\n");
	for (int i = 0; i < 5; i++) {
		http_case_call(&c, send_held, &c);
		http_case_expect(fd, &in, "\n\n");
		assert_string_equal(in.data, "f\r\ndata: {\"a\":1}\n\n\r\n");
	}
	http_case_call(&c, end_held, &c);
	http_case_expect(fd, &in, "0\r\n\r\n");
	assert_int_equal(in.len, 5);
	/* The connection goes on. */
	http_case_send(fd, GET("/events?2"));
	http_case_expect(fd, &in, "0\r\n\r\n");
	assert_has(&in, "data: {\"i\":0}\n\n\r\nf\r\ndata: {\"i\":1}\n\n\r\n0\r\n\r\n");
	assert_int_equal(http_case_stats(&c).connections, 1);
	/* A broken stream has no end. */
	http_case_send(fd, GET("/hold"));
	http_case_wait(&c.handled, 3);
	http_case_call(&c, begin_held, &c);
	http_case_call(&c, send_held, &c);
	http_case_call(&c, abort_held, &c);
	http_case_read_all(fd, &in);
	assert_has(&in, "data: {\"a\":1}\n\n\r\n");
	assert_null(strstr(in.data, "0\r\n\r\n"));
	close(fd);
	http_case_wait_empty(&c);
	assert_int_equal(atomic_load(&c.closed), 0);
	buf_deinit(&in);
	http_case_close(&c);
}

/* Whoever leaves while nothing is being written is noticed: closing, half closing, resetting. */
static void test_silent_disconnect(void **state)
{
	struct http_case c;
	struct buf ahead = {0};

	http_case_init(&c);
	http_case_open(&c);
	for (int i = 0; i < 300; i++)
		buf_puts(&ahead, GET("/0123456789012345678901234567890123456789012345678901234567890123456789"
				     "012345678901234567890123456789012345678901234567890123456789"
				     "012345678901234567890123456789012345678901234567890123456789"
				     "012345678901234567890123456789012345678901234567890123456789"
				     "012345678901234567890123456789012345678901234567890123456789"));
	for (unsigned way = 0; way < 8; way++) {
		const struct linger reset = {.l_onoff = 1};
		int fd = http_case_connect(&c);

		http_case_send(fd, GET("/hold"));
		http_case_wait(&c.handled, way + 1);
		/* Odd ways: the event stream has begun; from 4 on reading pauses behind a heap of requests. */
		if (way & 1)
			http_case_call(&c, begin_held, &c);
		if (way >= 4)
			http_case_send(fd, ahead.data);
		if (way == 2)
			shutdown(fd, SHUT_WR);
		if (way == 3 || way >= 6)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		if (way != 2)
			close(fd);
		http_case_wait(&c.closed, way + 1);
		if (way == 2)
			close(fd);
		assert_int_equal(atomic_load(&c.reason), HTTP_CLOSE_PEER);
		assert_int_equal(atomic_load(&c.handled), way + 1);
		http_case_wait_empty(&c);
		/* The handle is still good for everything. */
		if (!(way & 1))
			http_case_call(&c, begin_held, &c);
		http_case_call(&c, send_held, &c);
		http_case_call(&c, end_held, &c);
	}
	buf_deinit(&ahead);
	http_case_close(&c);
}

/* A request cut off after any byte reaches no handler and leaves nothing. */
static void test_disconnect_at_any_byte(void **state)
{
	static const char request[] = "POST /hold HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
				      "3\r\nabc\r\n1;x\r\nd\r\n0\r\nA: b\r\n\r\n";
	struct http_case c;

	http_case_init(&c);
	http_case_open(&c);
	for (size_t n = 0; n <= sizeof(request) - 1; n++) {
		int fd = http_case_connect(&c);

		assert_int_equal(send(fd, request, n, MSG_NOSIGNAL), n);
		if (n == sizeof(request) - 1)
			http_case_wait(&c.handled, 1);
		close(fd);
	}
	http_case_wait_empty(&c);
	assert_int_equal(atomic_load(&c.handled), 1);
	assert_int_equal(atomic_load(&c.closed), 1);
	http_case_close(&c);
}

struct flood {
	struct http_case *c;
	size_t bytes, writes, unsent;
};

static void flood_held(void *arg)
{
	struct flood *f = arg;
	char *data = calloc(1, f->bytes);

	for (size_t i = 0; i < f->writes; i++)
		http_stream_write(f->c->held, data, f->bytes);
	f->unsent = http_request_unsent(f->c->held);
	free(data);
}

static void on_drained(void *arg)
{
	struct http_case *c = arg;

	atomic_fetch_add(&c->drained, 1);
}

static void ask_drain(void *arg)
{
	struct http_case *c = arg;

	http_request_on_drain(c->held, 1000, on_drained, c);
	assert_int_equal(atomic_load(&c->drained), 0);
}

/* Who does not read makes bytes wait here, visibly; reading drains them and tells. */
static void test_back_pressure(void **state)
{
	struct http_case c;
	struct flood f = {.c = &c, .bytes = 65536, .writes = 320};
	struct buf in = {0};
	int fd;

	http_case_init(&c);
	c.limits.out_bytes = 64u << 20;
	http_case_open(&c);
	fd = http_case_connect(&c);
	http_case_send(fd, GET("/hold"));
	http_case_wait(&c.handled, 1);
	http_case_call(&c, begin_held, &c);
	http_case_call(&c, flood_held, &f);
	assert_true(f.unsent > 4u << 20);
	http_case_call(&c, ask_drain, &c);
	usleep(20000);
	assert_int_equal(atomic_load(&c.drained), 0);
	f.writes = 0;
	for (int idle = 0; idle < 5000 && (atomic_load(&c.drained) == 0 || f.unsent);) {
		char data[65536];
		ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);

		assert_int_not_equal(n, 0);
		if (n > 0)
			continue;
		idle++;
		usleep(1000);
		http_case_call(&c, flood_held, &f);
	}
	assert_int_equal(f.unsent, 0);
	assert_int_equal(atomic_load(&c.drained), 1);
	/* With nothing unsent it is told at once, but not from inside the call. */
	atomic_store(&c.drained, 0);
	http_case_call(&c, ask_drain, &c);
	http_case_wait(&c.drained, 1);
	http_case_call(&c, end_held, &c);
	close(fd);
	buf_deinit(&in);
	http_case_close(&c);
}

/* Above the cap, or without progress, the connection is closed and the handler told so. */
static void test_slow_reader(void **state)
{
	for (int by_time = 0; by_time < 2; by_time++) {
		struct http_case c;
		struct flood f = {.c = &c, .bytes = 65536, .writes = 1000};
		int fd;

		http_case_init(&c);
		c.limits.out_bytes = by_time ? 256u << 20 : 1u << 20;
		c.limits.write_ms = by_time ? 200 : 30000;
		http_case_open(&c);
		fd = http_case_connect(&c);
		http_case_send(fd, GET("/hold"));
		http_case_wait(&c.handled, 1);
		http_case_call(&c, begin_held, &c);
		http_case_call(&c, flood_held, &f);
		if (!by_time)
			assert_true(f.unsent > 1u << 20 && f.unsent < (1u << 20) + 70000);
		http_case_wait(&c.closed, 1);
		assert_int_equal(atomic_load(&c.reason), HTTP_CLOSE_SLOW);
		http_case_wait_empty(&c);
		close(fd);
		http_case_close(&c);
	}
}

/* Pipelining without reading the answers: the server stops taking requests, then gives up. */
static void test_unread_answers(void **state)
{
	struct http_case c;
	struct buf ask = {0};
	int fd;

	http_case_init(&c);
	c.limits.write_ms = 300;
	http_case_open(&c);
	fd = http_case_connect(&c);
	for (int i = 0; i < 1000; i++)
		buf_puts(&ask, GET("/big?1000000"));
	http_case_send(fd, ask.data);
	http_case_wait_empty(&c);
	assert_true(atomic_load(&c.handled) < 30);
	close(fd);
	buf_deinit(&ask);
	http_case_close(&c);
}

/* Only the sending side ended, after the answer was finished: it is delivered to the last byte. */
static void test_half_close_after_answer(void **state)
{
	struct http_case c;
	struct buf in = {0};
	int fd;

	http_case_init(&c);
	http_case_open(&c);
	fd = http_case_connect(&c);
	http_case_send(fd, GET("/big?20000000"));
	http_case_wait(&c.handled, 1);
	shutdown(fd, SHUT_WR);
	usleep(50000);
	assert_true(http_case_read_all(fd, &in));
	assert_int_equal(strlen(strstr(in.data, "\r\n\r\n") + 4), 20000000);
	close(fd);
	http_case_wait_empty(&c);
	buf_deinit(&in);
	http_case_close(&c);
}

static void on_stopped(void *arg)
{
	struct http_case *c = arg;

	atomic_fetch_add(&c->stopped, 1);
}

struct stop {
	struct http_case *c;
	uint32_t deadline_ms;
};

static void stop_server(void *arg)
{
	struct stop *s = arg;

	http_server_stop(s->c->server, s->deadline_ms, on_stopped, s->c);
	assert_int_equal(atomic_load(&s->c->stopped), 0);
}

static void answer_held(void *arg)
{
	struct http_case *c = arg;

	http_respond(c->held, 200, NULL, 0, "late", 4);
	c->held = NULL;
}

/* way 0: the request in flight is finished; 1: the deadline comes; 2: a second stop; 3: nothing to wait for. A
 * request that is not complete is refused in all. */
static void check_stop(int way)
{
	struct http_case c;
	struct stop stop = {.c = &c, .deadline_ms = way == 1 ? 200 : 60000};
	struct buf in = {0};
	int fd = -1, idle, half;

	http_case_init(&c);
	http_case_open(&c);
	idle = http_case_connect(&c);
	http_case_send(idle, GET("/echo"));
	http_case_expect(idle, &in, "GET /echo");
	if (way != 3) {
		fd = http_case_connect(&c);
		http_case_send(fd, GET("/hold"));
		http_case_wait(&c.handled, 2);
	}
	half = http_case_connect(&c);
	http_case_send(half, way % 2 ? "GET /ec" : "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab");
	while (http_case_stats(&c).body_bytes != (way % 2 ? 0 : 2))
		usleep(1000);
	http_case_let_read(&c, half);
	http_case_call(&c, stop_server, &stop);
	assert_true(http_case_read_all(idle, &in));
	assert_int_equal(in.len, 0);
	close(idle);
	assert_true(http_case_read_all(half, &in));
	assert_has(&in, "HTTP/1.1 503 ");
	close(half);
	if (way == 0) {
		usleep(50000);
		assert_int_equal(atomic_load(&c.stopped), 0);
		http_case_call(&c, answer_held, &c);
		assert_true(http_case_read_all(fd, &in));
		assert_has(&in, "Connection: close\r\n\r\nlate");
		close(fd);
	} else if (way == 1 || way == 2) {
		if (way == 2)
			http_case_call(&c, stop_server, &stop);
		assert_true(http_case_read_all(fd, &in));
		assert_int_equal(in.len, 0);
		http_case_wait(&c.closed, 1);
		assert_int_equal(atomic_load(&c.reason), HTTP_CLOSE_SERVER);
		close(fd);
	}
	http_case_wait(&c.stopped, 1);
	http_case_wait_empty(&c);
	buf_deinit(&in);
	http_case_close(&c);
	assert_int_equal(atomic_load(&c.stopped), 1);
}

static void test_stop(void **state)
{
	for (int way = 0; way < 4; way++)
		check_stop(way);
}

/* Many connections that come, ask, and leave at once or after an answer. */
static void test_churn(void **state)
{
	struct http_case c;
	struct buf in = {0};
	int fd[64];

	http_case_init(&c);
	http_case_open(&c);
	for (int round = 0; round < 30; round++) {
		for (int i = 0; i < 64; i++) {
			fd[i] = http_case_connect(&c);
			http_case_send(fd[i], i % 3 ? GET("/events?5") : GET("/hold"));
		}
		for (int i = 0; i < 64; i++) {
			if (i % 3 == 1)
				http_case_expect(fd[i], &in, "0\r\n\r\n");
			close(fd[i]);
		}
	}
	http_case_wait_empty(&c);
	buf_deinit(&in);
	http_case_close(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_silent_disconnect),
		cmocka_unit_test(test_disconnect_at_any_byte),
		cmocka_unit_test(test_back_pressure),
		cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_unread_answers),
		cmocka_unit_test(test_half_close_after_answer),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_churn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
