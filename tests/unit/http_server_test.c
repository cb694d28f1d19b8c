/* The server over loopback sockets: requests of every shape, refusals, limits, timeouts, listeners. */
#include "cm.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "http_case.h"

#define H "Host: a\r\n"

static void assert_has(const struct buf *in, const char *text)
{
	if (!in->data || !strstr(in->data, text))
		fail_msg("'%s' is not in: %s", text, in->data ? in->data : "");
}

static int count(const struct buf *in, const char *text)
{
	int n = 0;

	for (const char *at = in->data; at && (at = strstr(at, text)); at += strlen(text))
		n++;
	return n;
}

static void test_answers(void **state)
{
	struct http_case c;
	struct buf in = {0};

	http_case_init(&c);
	http_case_open(&c);
	http_case_ask(&c, "GET /a%62c?x=1 HTTP/1.1\r\n" H "Connection: close\r\n\r\n", &in);
	assert_has(&in, "HTTP/1.1 200 OK\r\n");
	assert_has(&in, "\r\nDate: ");
	assert_has(&in, "\r\nX-Test: a??b\r\n");
	assert_has(&in, "\r\nContent-Length: 15\r\nConnection: close\r\n\r\nGET /abc [x=1] ");
	assert_int_equal(strncmp(c.last_peer, "127.0.0.1:", 10), 0);
	http_case_ask(&c, "HEAD /abc HTTP/1.1\r\n" H "Connection: close\r\n\r\n", &in);
	assert_has(&in, "\r\nContent-Length: 13\r\n");
	assert_int_equal(strcmp(in.data + in.len - 4, "\r\n\r\n"), 0);
	http_case_ask(&c, "OPTIONS * HTTP/1.1\r\n" H "Connection: close\r\n\r\n", &in);
	assert_has(&in, "OPTIONS * [] ");
	http_case_ask(&c, "HEAD /events?3 HTTP/1.1\r\n" H "Connection: close\r\n\r\n", &in);
	assert_int_equal(strcmp(in.data + in.len - 4, "\r\n\r\n"), 0);
	http_case_ask(&c, "GET /big?300000 HTTP/1.1\r\n" H "Connection: close\r\n\r\n", &in);
	assert_has(&in, "\r\nContent-Length: 300000\r\n");
	assert_int_equal(strlen(strstr(in.data, "\r\n\r\n") + 4), 300000);
	http_case_wait_empty(&c);
	buf_deinit(&in);
	http_case_close(&c);
}

static void test_keep_alive(void **state)
{
	struct http_case c;
	struct buf in = {0};
	int fd;

	http_case_init(&c);
	http_case_open(&c);
	fd = http_case_connect(&c);
	for (int i = 0; i < 50; i++) {
		http_case_send(fd, "POST /e HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\nbody");
		http_case_expect(fd, &in, "POST /e [] body");
		assert_int_equal(count(&in, "HTTP/1.1 200"), 1);
		assert_int_equal(count(&in, "Connection: close"), 0);
	}
	/* All that was one connection; a refusal ends it. */
	assert_int_equal(http_case_stats(&c).connections, 1);
	assert_int_equal(http_case_stats(&c).accepted, 1);
	http_case_send(fd, "BAD\r\n");
	assert_true(http_case_read_all(fd, &in));
	assert_has(&in, "HTTP/1.1 400 ");
	close(fd);
	http_case_wait_empty(&c);
	buf_deinit(&in);
	http_case_close(&c);
}

static void test_byte_by_byte(void **state)
{
	static const char request[] = "POST /e HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
				      "3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: x\r\n\r\n"
				      "GET /n HTTP/1.1\r\n" H "Connection: close\r\n\r\n";
	struct http_case c;
	struct buf in = {0};
	int fd;

	http_case_init(&c);
	http_case_open(&c);
	fd = http_case_connect(&c);
	for (const char *at = request; *at; at++) {
		assert_int_equal(send(fd, at, 1, MSG_NOSIGNAL), 1);
		usleep(200);
	}
	assert_true(http_case_read_all(fd, &in));
	assert_has(&in, "POST /e [] abcde");
	assert_has(&in, "GET /n [] ");
	close(fd);
	buf_deinit(&in);
	http_case_close(&c);
}

/* Old clients and load balancers: closed after an answer, unless they ask for more. */
static void test_http10(void **state)
{
	struct http_case c;
	struct buf in = {0};
	int fd;

	http_case_init(&c);
	http_case_open(&c);
	http_case_ask(&c, "GET /n HTTP/1.0\r\n\r\n", &in);
	assert_has(&in, "HTTP/1.1 200 ");
	assert_has(&in, "\r\nConnection: close\r\n");
	assert_has(&in, "GET /n [] ");
	http_case_ask(&c, "POST /n HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab", &in);
	assert_int_equal(count(&in, "HTTP/1.1 "), 1);
	assert_has(&in, "[] ab");
	fd = http_case_connect(&c);
	for (int i = 0; i < 3; i++) {
		http_case_send(fd, "POST /e HTTP/1.0\r\nConnection: Keep-Alive\r\nContent-Length: 4\r\n\r\nbody");
		http_case_expect(fd, &in, "POST /e [] body");
		assert_int_equal(count(&in, "\r\nConnection: keep-alive\r\n"), 1);
	}
	/* A stream has no chunks and ends with the connection. */
	http_case_send(fd, "GET /events?2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	assert_true(http_case_read_all(fd, &in));
	assert_int_equal(count(&in, "Transfer-Encoding"), 0);
	assert_has(&in, "\r\nConnection: close\r\n\r\ndata: {\"i\":0}\n\ndata: {\"i\":1}\n\n");
	assert_string_equal(in.data + in.len - strlen("data: {\"i\":1}\n\n"), "data: {\"i\":1}\n\n");
	close(fd);
	http_case_wait_empty(&c);
	buf_deinit(&in);
	http_case_close(&c);
}

static void answer_held(void *arg)
{
	struct http_case *c = arg;

	http_respond(c->held, 200, NULL, 0, "held", 4);
	c->held = NULL;
}

static void test_pipelining(void **state)
{
	struct http_case c;
	struct buf in = {0}, many = {0};
	const char *at;
	int fd;

	http_case_init(&c);
	http_case_open(&c);
	fd = http_case_connect(&c);
	/* The held one blocks those behind it, whose bytes are far more than are kept ahead. */
	buf_puts(&many, "GET /hold HTTP/1.1\r\n" H "\r\n");
	for (int i = 0; i < 300; i++) {
		buf_printf(&many, "POST /n%d HTTP/1.1\r\n" H "Content-Length: 1000\r\n\r\n", i);
		for (int k = 0; k < 1000; k++)
			buf_putc(&many, 'b');
	}
	buf_puts(&many, "GET /last HTTP/1.1\r\n" H "Connection: close\r\n\r\nGET /never HTTP/1.1\r\n" H "\r\n");
	http_case_send(fd, many.data);
	http_case_wait(&c.handled, 1);
	usleep(50000);
	assert_int_equal(atomic_load(&c.handled), 1);
	http_case_call(&c, answer_held, &c);
	assert_true(http_case_read_all(fd, &in));
	at = strstr(in.data, "held");
	for (int i = 0; i < 300; i++) {
		char want[32];

		snprintf(want, sizeof(want), "POST /n%d []", i);
		assert_non_null(at);
		at = strstr(at, want);
	}
	assert_non_null(at);
	assert_non_null(strstr(at, "GET /last"));
	assert_int_equal(count(&in, "/never"), 0);
	close(fd);
	http_case_wait_empty(&c);
	buf_deinit(&in);
	buf_deinit(&many);
	http_case_close(&c);
}

static void test_expect(void **state)
{
	struct http_case c;
	struct buf in = {0};
	int fd;

	http_case_init(&c);
	c.limits.body_bytes = 10;
	http_case_open(&c);
	fd = http_case_connect(&c);
	http_case_send(fd, "POST /e HTTP/1.1\r\n" H "Content-Length: 4\r\nExpect: 100-continue\r\n\r\n");
	http_case_expect(fd, &in, "HTTP/1.1 100 Continue\r\n\r\n");
	assert_int_equal(in.len, 25);
	http_case_send(fd, "body");
	http_case_expect(fd, &in, "[] body");
	close(fd);
	/* No body: nothing to wait for. Too long: refused instead. */
	http_case_ask(&c, "GET /e HTTP/1.1\r\n" H "Expect: 100-continue\r\nConnection: close\r\n\r\n", &in);
	assert_int_equal(count(&in, "100 Continue"), 0);
	http_case_ask(&c, "POST /e HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 11\r\n\r\n", &in);
	assert_int_equal(strncmp(in.data, "HTTP/1.1 413 ", 13), 0);
	http_case_wait_empty(&c);
	buf_deinit(&in);
	http_case_close(&c);
}

/* Each is answered with its status, says that it closes, closes, and reaches no handler. */
static void test_refusals(void **state)
{
	static const struct {
		const char *text, *status;
	} rows[] = {
		{"GET / HTTP/2.0\r\n\r\n", "505"},
		{"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "400"},
		{"GET / HTTP/9.9\r\n\r\n", "505"},
		{"hello\r\n", "400"},
		{"GET / HTTP/1.1\n", "400"},
		{"GET / HTTP/1.1\r\n\r\n", "400"},
		{"GET / HTTP/1.1\r\nHost: a/b?c\r\n\r\n", "400"},
		{"GET / HTTP/1.1\r\n" H "A: b\r\n c\r\n\r\n", "400"},
		{"GET / HTTP/1.1\r\n" H "Expect: x\r\n\r\n", "417"},
		{"GET / HTTP/1.1\r\n" H "A: 1\r\nA: 2\r\nA: 3\r\nA: 4\r\n\r\n", "431"},
		{"POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", "400"},
		{"POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx", "400"},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\n\r\n", "501"},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nx\r\n", "400"},
		{"POST / HTTP/1.1\r\n" H "Content-Length: 11\r\n\r\n", "413"},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n", "413"},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n6\r\n012345\r\n", "413"},
		/* By its size alone, before a byte of it. */
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n6\r\n", "413"},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nfffffffffff\r\n", "413"},
	};
	struct http_case c;
	struct buf in = {0};

	http_case_init(&c);
	c.limits.body_bytes = 10;
	c.limits.head.head_fields = 4;
	http_case_open(&c);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		http_case_ask(&c, rows[i].text, &in);
		if (strncmp(in.data, "HTTP/1.1 ", 9) != 0 || strncmp(in.data + 9, rows[i].status, 3) != 0)
			fail_msg("%s expected for '%s', got '%s'", rows[i].status, rows[i].text, in.data);
		assert_has(&in, "\r\nConnection: close\r\n");
		assert_int_equal(count(&in, "Content-Length: "), 1);
	}
	assert_int_equal(atomic_load(&c.handled), 0);
	http_case_ask(&c, "POST / HTTP/1.1\r\n" H "Connection: close\r\nContent-Length: 10\r\n\r\n0123456789", &in);
	assert_has(&in, "[] 0123456789");
	http_case_wait_empty(&c);
	buf_deinit(&in);
	http_case_close(&c);
}

/* A client that sends a huge head or body still gets the answer, not a reset. */
static void test_floods(void **state)
{
	struct http_case c;
	struct buf in = {0}, big = {0};

	http_case_init(&c);
	c.limits.body_bytes = 1000;
	http_case_open(&c);
	buf_puts(&big, "POST / HTTP/1.1\r\n" H "Content-Length: 3000000\r\n\r\n");
	for (int i = 0; i < 3000000; i++)
		buf_putc(&big, 'x');
	http_case_ask(&c, big.data, &in);
	assert_int_equal(strncmp(in.data, "HTTP/1.1 413 ", 13), 0);
	memcpy(big.data, "GET / HTTP/1.1\r\nX: ", 19);
	memset(big.data + 19, 'y', 100);
	http_case_ask(&c, big.data, &in);
	assert_int_equal(strncmp(in.data, "HTTP/1.1 431 ", 13), 0);
	http_case_wait_empty(&c);
	buf_deinit(&in);
	buf_deinit(&big);
	http_case_close(&c);
}

/* A server with room for 16 bytes of bodies, and the connection of a request that holds 8. */
static int open_with_held_body(struct http_case *c)
{
	int fd;

	http_case_init(c);
	c->limits.all_body_bytes = 16;
	http_case_open(c);
	fd = http_case_connect(c);
	http_case_send(fd, "POST /hold HTTP/1.1\r\n" H "Content-Length: 8\r\n\r\n01234567");
	http_case_wait(&c->handled, 1);
	assert_int_equal(http_case_stats(c).body_bytes, 8);
	return fd;
}

static void test_all_bodies(void **state)
{
	struct http_case c;
	struct buf in = {0};
	int fd = open_with_held_body(&c);

	http_case_ask(&c, "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc", &in);
	assert_int_equal(strncmp(in.data, "HTTP/1.1 503 ", 13), 0);
	close(fd);
	http_case_wait_empty(&c);
	http_case_ask(&c, "POST / HTTP/1.1\r\n" H "Connection: close\r\nContent-Length: 3\r\n\r\nabc", &in);
	assert_has(&in, "[] abc");
	buf_deinit(&in);
	http_case_close(&c);
}

static void wait_bodies(struct http_case *c, size_t all)
{
	for (int i = 0; i < 24000 && http_case_stats(c).body_bytes != all; i++)
		usleep(5000);
	assert_int_equal(http_case_stats(c).body_bytes, all);
}

/* A connection whose body is not complete; `all`: the bytes that are held then. */
static int hold_bytes(struct http_case *c, const char *address, const char *data, size_t all)
{
	char request[200];
	int fd = http_case_connect_from(c, address);

	snprintf(request, sizeof(request), "POST / HTTP/1.1\r\n" H "Content-Length: 999\r\n\r\n%s", data);
	http_case_send(fd, request);
	wait_bodies(c, all);
	return fd;
}

/* However slowly they come: bodies from one address leave as much room for others as they take themselves. */
static void test_share_of_all_bodies(void **state)
{
	struct http_case c;
	struct buf in = {0};
	int fds[4];

	http_case_init(&c);
	c.limits.all_body_bytes = 16;
	http_case_open(&c);
	fds[0] = hold_bytes(&c, "127.0.0.1", "0123", 4);
	fds[1] = hold_bytes(&c, "127.0.0.1", "0123", 8);
	http_case_ask(&c, "POST / HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\na", &in);
	assert_int_equal(strncmp(in.data, "HTTP/1.1 503 ", 13), 0);
	fds[2] = hold_bytes(&c, "127.0.0.2", "0123", 12);
	fds[3] = hold_bytes(&c, "127.0.0.3", "01", 14);
	http_case_send(fds[3], "2");
	http_case_read_all(fds[3], &in);
	assert_int_equal(strncmp(in.data, "HTTP/1.1 503 ", 13), 0);
	/* What one gives back is there for all. */
	close(fds[0]);
	wait_bodies(&c, 8);
	http_case_ask(&c, "POST / HTTP/1.1\r\n" H "Connection: close\r\nContent-Length: 2\r\n\r\nab", &in);
	assert_has(&in, "[] ab");
	for (int i = 1; i < 4; i++)
		close(fds[i]);
	http_case_wait_empty(&c);
	buf_deinit(&in);
	http_case_close(&c);
}

static void drop_held(void *arg)
{
	struct http_case *c = arg;

	http_request_drop_body(c->held);
	assert_int_equal(c->held->body_bytes, 8);
	assert_string_equal(c->held->body, "");
}

static void test_dropped_body(void **state)
{
	struct http_case c;
	struct buf in = {0};
	int fd = open_with_held_body(&c);

	http_case_call(&c, drop_held, &c);
	assert_int_equal(http_case_stats(&c).body_bytes, 0);
	http_case_ask(&c, "POST / HTTP/1.1\r\n" H "Connection: close\r\nContent-Length: 8\r\n\r\n01234567", &in);
	assert_has(&in, "[] 01234567");
	close(fd);
	http_case_wait_empty(&c);
	buf_deinit(&in);
	http_case_close(&c);
}

/* A body that always comes fast enough, and has no end. */
static void test_endless_body(void **state)
{
	struct http_case c;
	struct buf in = {0};
	char data[1];
	int fd;

	http_case_init(&c);
	c.limits.body_total_ms = 200;
	http_case_open(&c);
	fd = http_case_connect(&c);
	http_case_send(fd, "POST / HTTP/1.1\r\n" H "Content-Length: 60000000\r\n\r\n");
	for (int i = 0; i < 24000 && recv(fd, data, 1, MSG_PEEK | MSG_DONTWAIT) < 0; i++) {
		http_case_send(fd, "aaaaaaaaaaaaaaaaaaaa");
		usleep(5000);
	}
	http_case_read_all(fd, &in);
	assert_int_equal(strncmp(in.data, "HTTP/1.1 408 ", 13), 0);
	close(fd);
	http_case_wait_empty(&c);
	buf_deinit(&in);
	http_case_close(&c);
}

/*
 * Sends a head, n bytes at once, then a piece every 20 ms until an answer comes; again, until it begins so: a pause of
 * a busy machine is one of the client. How often it sent.
 */
static int trickle_until(struct http_case *c, const char *head, size_t n, const char *piece, const char *answer)
{
	struct buf in = {0};
	int sent = 0;

	for (int i = 0; i < 100; i++) {
		int fd = http_case_connect(c);

		http_case_send(fd, head);
		for (size_t k = 0; k < n; k++)
			http_case_send(fd, "A");
		for (sent = 0; sent < 10000 && !http_case_readable(fd); sent++) {
			http_case_send(fd, piece);
			usleep(20000);
		}
		http_case_read_all(fd, &in);
		close(fd);
		if (strncmp(in.data, answer, strlen(answer)) == 0)
			break;
	}
	assert_int_equal(strncmp(in.data, answer, strlen(answer)), 0);
	buf_deinit(&in);
	return sent;
}

static void test_timeouts(void **state)
{
	static const struct {
		const char *text;
		const char *answer; /* "": closed without one */
	} rows[] = {
		{"", ""},
		{"GET / HTTP/1.1\r\n", "HTTP/1.1 408 "},
		{"G", "HTTP/1.1 408 "},
		{"POST / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nabc", "HTTP/1.1 408 "},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nab", "HTTP/1.1 408 "},
	};
	struct http_case c;
	struct buf in = {0};
	int sent;

	http_case_init(&c);
	c.limits.head_ms = c.limits.body_ms = c.limits.keep_alive_ms = 250;
	c.limits.body_rate = 200;
	http_case_open(&c);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		http_case_ask_until(&c, rows[i].text, &in, rows[i].answer);
	/* Slowly is too late as well: the clock of a head does not start again with each byte. */
	trickle_until(&c, "", 0, "A", "HTTP/1.1 408 ");
	/* So is a body that never pauses long enough, where the bytes are counted. */
	trickle_until(&c, "POST / HTTP/1.1\r\n" H "Content-Length: 100000\r\n\r\n", 0, "A", "HTTP/1.1 408 ");
	/* And one that came quickly before: what was too much, here fifty seconds of it, does not make up for what is
	 * too little. */
	sent = trickle_until(&c, "POST / HTTP/1.1\r\n" H "Content-Length: 100000\r\n\r\n", 10000, "A", "HTTP/1.1 408 ");
	assert_in_range(sent, 0, 1000);
	/* One that is fast enough may take longer than the silence that is allowed. */
	trickle_until(&c, "POST /e HTTP/1.1\r\n" H "Connection: close\r\nContent-Length: 500\r\n\r\n", 0,
		"AAAAAAAAAAAAAAAAAAAA", "HTTP/1.1 200 ");
	/* Idle after an answer. */
	http_case_ask_until(&c, "GET / HTTP/1.1\r\n" H "\r\n", &in, "HTTP/1.1 200 ");
	assert_int_equal(count(&in, "HTTP/1.1"), 1);
	assert_int_equal(count(&in, "Connection: close"), 0);
	http_case_wait_empty(&c);
	buf_deinit(&in);
	http_case_close(&c);
}

static void test_connection_limits(void **state)
{
	struct http_case c;
	struct buf in = {0};
	int fd[3];

	for (int per_address = 0; per_address < 2; per_address++) {
		http_case_init(&c);
		if (per_address)
			c.limits.connections_per_address = 3;
		else
			c.limits.connections = 3;
		http_case_open(&c);
		for (int i = 0; i < 3; i++) {
			fd[i] = http_case_connect(&c);
			http_case_send(fd[i], "GET / HTTP/1.1\r\n" H "\r\n");
			http_case_expect(fd[i], &in, "GET / []");
		}
		http_case_ask(&c, "", &in);
		assert_int_equal(strncmp(in.data, "HTTP/1.1 503 ", 13), 0);
		assert_int_equal(http_case_stats(&c).refused, 1);
		for (int i = 0; i < 3; i++)
			close(fd[i]);
		http_case_wait_empty(&c);
		http_case_ask(&c, "GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n", &in);
		assert_has(&in, "HTTP/1.1 200 ");
		http_case_close(&c);
	}
	buf_deinit(&in);
}

/* Out of descriptors: connections are refused, the loop lives, and afterwards all is well. */
static void test_no_descriptors(void **state)
{
	struct rlimit old, tight;
	struct http_case c;
	struct buf in = {0};
	int fds[256], n = 0, fd, last;

	http_case_init(&c);
	http_case_open(&c);
	fd = http_case_connect(&c);
	http_case_send(fd, "GET / HTTP/1.1\r\n" H "\r\n");
	http_case_expect(fd, &in, "GET / []");
	getrlimit(RLIMIT_NOFILE, &old);
	tight = old;
	tight.rlim_cur = 200;
	setrlimit(RLIMIT_NOFILE, &tight);
	while ((fds[n] = dup(0)) >= 0)
		n++;
	/* One descriptor for our side, none for the server's. */
	close(fds[--n]);
	last = http_case_connect(&c);
	assert_true(http_case_read_all(last, &in));
	assert_int_equal(in.len, 0);
	http_case_send(fd, "GET / HTTP/1.1\r\n" H "\r\n");
	http_case_expect(fd, &in, "GET / []");
	close(last);
	while (n)
		close(fds[--n]);
	setrlimit(RLIMIT_NOFILE, &old);
	http_case_ask(&c, "GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n", &in);
	assert_has(&in, "HTTP/1.1 200 ");
	close(fd);
	buf_deinit(&in);
	http_case_close(&c);
}

struct listen_call {
	struct http_case *c;
	struct http_listen at;
	uint16_t port;
	enum status st;
	struct error err;
};

static void do_listen(void *arg)
{
	struct listen_call *l = arg;

	l->st = http_server_listen(l->c->server, &l->at, &l->port, &l->err);
}

/* A socket that a dead process left is replaced; one that is not ours is not removed. */
static void check_stale(const char *path)
{
	struct http_case c;
	struct listen_call l = {.c = &c, .at = {.unix_path = path}};
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct stat st;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	close(fd);
	http_case_init(&c);
	http_case_open(&c);
	http_case_call(&c, do_listen, &l);
	assert_int_equal(l.st, OK);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	fd = http_case_connect_unix(path);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(unlink(path), 0);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	http_case_close(&c);
	close(fd);
	assert_int_equal(unlink(path), 0);
}

/* IPv6, where this machine has it: alone, and "::" that takes IPv4 too. */
static void check_six(struct http_case *c, struct listen_call *l)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct buf in = {0};
	int fd;

	l->at = (struct http_listen){.host = "::1", .tag = 6};
	http_case_call(c, do_listen, l);
	if (l->st != OK) {
		print_message("no IPv6 here: %s\n", l->err.msg);
		return;
	}
	six.sin6_port = htons(l->port);
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&six, sizeof(six)), 0);
	http_case_send(fd, "GET /6 HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n");
	assert_true(http_case_read_all(fd, &in));
	assert_has(&in, "GET /6 []");
	assert_int_equal(strncmp(c->last_peer, "[::1]:", 6), 0);
	assert_int_equal(c->last_listener, 6);
	close(fd);
	l->at.host = "::";
	http_case_call(c, do_listen, l);
	assert_int_equal(l->st, OK);
	c->port = l->port;
	http_case_ask(c, "GET /4 HTTP/1.1\r\n" H "Connection: close\r\n\r\n", &in);
	assert_has(&in, "GET /4 []");
	assert_int_equal(strncmp(c->last_peer, "127.0.0.1:", 10), 0);
	buf_deinit(&in);
}

static void test_listeners(void **state)
{
	char folder[] = "/tmp/fathom-http-XXXXXX", path[64];
	struct http_case c;
	struct listen_call l = {.c = &c};
	struct buf in = {0};
	struct stat st;
	int fd;

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/s", folder);
	http_case_init(&c);
	http_case_open(&c);
	l.at = (struct http_listen){.unix_path = path, .unix_mode = 0660, .tag = 7};
	http_case_call(&c, do_listen, &l);
	assert_int_equal(l.st, OK);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	fd = http_case_connect_unix(path);
	http_case_send(fd, "GET /u HTTP/1.1\r\n" H "Connection: close\r\n\r\n");
	assert_true(http_case_read_all(fd, &in));
	assert_has(&in, "GET /u []");
	assert_string_equal(c.last_peer, "unix");
	assert_int_equal(c.last_listener, 7);
	close(fd);
	/* In use; not a socket; too long; a name without an address; a port in use. */
	http_case_call(&c, do_listen, &l);
	assert_int_equal(l.st, E_IO);
	l.at.unix_path = folder;
	http_case_call(&c, do_listen, &l);
	assert_int_equal(l.st, E_IO);
	l.at.unix_path = "/tmp/012345678901234567890123456789012345678901234567890123456789012345678901234"
			 "5678901234567890123456789012345678901234567890123456789";
	http_case_call(&c, do_listen, &l);
	assert_int_equal(l.st, E_INVAL);
	l.at = (struct http_listen){.host = "no such host"};
	http_case_call(&c, do_listen, &l);
	assert_int_equal(l.st, E_INVAL);
	l.at = (struct http_listen){.host = "127.0.0.1", .port = c.port};
	http_case_call(&c, do_listen, &l);
	assert_int_equal(l.st, E_IO);
	/* A second port of the same server. */
	l.at = (struct http_listen){.host = "localhost"};
	http_case_call(&c, do_listen, &l);
	assert_int_equal(l.st, OK);
	c.port = l.port;
	http_case_ask(&c, "GET /l HTTP/1.1\r\n" H "Connection: close\r\n\r\n", &in);
	assert_has(&in, "GET /l []");
	check_six(&c, &l);
	http_case_close(&c);
	assert_int_equal(stat(path, &st), -1);
	check_stale(path);
	rmdir(folder);
	buf_deinit(&in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_keep_alive),
		cmocka_unit_test(test_http10),
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_pipelining),
		cmocka_unit_test(test_expect),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_floods),
		cmocka_unit_test(test_all_bodies),
		cmocka_unit_test(test_share_of_all_bodies),
		cmocka_unit_test(test_dropped_body),
		cmocka_unit_test(test_endless_body),
		cmocka_unit_test(test_timeouts),
		cmocka_unit_test(test_connection_limits),
		cmocka_unit_test(test_no_descriptors),
		cmocka_unit_test(test_listeners),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
