/* The client: against the server on the same loop, and against answers that no server should give. */
#include "cm.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/client.h"
#include "http/url_int.h"
#include "http_case.h"

struct result {
	struct http_case *c;
	struct http_client *client;
	struct http_call *call;
	struct http_call_config config;
	unsigned status, events, heads;
	unsigned cancel_at; /* event that cancels; 0: none */
	uint32_t kept;      /* connections when it was done */
	struct buf body;
	enum status st;
	struct error err;
	atomic_uint *done;
};

static void on_head(void *arg, unsigned status, const struct http_header *headers, size_t n)
{
	struct result *r = arg;

	r->status = status;
	r->heads++;
}

static void on_data(void *arg, const char *data, size_t len)
{
	struct result *r = arg;

	buf_append(&r->body, data, len);
}

static void on_event(void *arg, const char *event, const char *data, size_t len)
{
	struct result *r = arg;
	char want[32];

	snprintf(want, sizeof(want), "{\"i\":%u}", r->events);
	assert_string_equal(data, want);
	if (++r->events == r->cancel_at) {
		http_call_cancel(r->call);
		atomic_fetch_add(r->done, 1);
	}
}

static void on_done(void *arg, enum status st, const struct error *err)
{
	struct result *r = arg;

	r->st = st;
	r->err = *err;
	r->kept = http_client_get_stats(r->client).connections;
	atomic_fetch_add(r->done, 1);
}

static const struct http_call_handlers handlers = {
	.head = on_head,
	.event = on_event,
	.data = on_data,
	.done = on_done,
};

static void start(void *arg)
{
	struct result *r = arg;

	r->status = r->events = r->heads = 0;
	buf_reset(&r->body);
	r->call = http_call_start(r->client, &r->config, &handlers, r);
	assert_int_equal(r->heads, 0);
}

struct open_call {
	struct http_case *c;
	struct http_client_config config;
	struct http_client *client;
	enum status st;
	struct error err;
};

static void open_client(void *arg)
{
	struct open_call *o = arg;

	o->st = http_client_create(&o->client, o->c->loop, &o->config, &o->err);
}

static void close_client(void *arg)
{
	http_client_destroy(arg);
}

static struct http_client *make_client(struct http_case *c, uint16_t port,
	struct http_client_config config)
{
	struct open_call o = {.c = c, .config = config};
	char url[64];

	snprintf(url, sizeof(url), "http://127.0.0.1:%u", port);
	o.config.url = url;
	o.config.idle_ms = 3600000;
	http_case_call(c, open_client, &o);
	assert_int_equal(o.st, OK);
	return o.client;
}

/* One call from start to done. */
static void ask(struct result *r)
{
	atomic_uint done = 0;

	r->done = &done;
	http_case_call(r->c, start, r);
	http_case_wait(&done, 1);
	buf_append(&r->body, "", 0);
}

struct stats_call {
	struct http_client *client;
	struct http_client_stats stats;
};

static void get_stats(void *arg)
{
	struct stats_call *s = arg;

	s->stats = http_client_get_stats(s->client);
}

static struct http_client_stats client_stats(struct http_case *c, struct http_client *client)
{
	struct stats_call s = {.client = client};

	http_case_call(c, get_stats, &s);
	return s.stats;
}

static void test_calls(void **state)
{
	struct http_case c;
	struct result r = {.c = &c};
	const struct http_header header = {"X-A", "b"};

	http_case_init(&c);
	http_case_open(&c);
	r.client = make_client(&c, c.port, (struct http_client_config){0});
	r.config = (struct http_call_config){.method = "POST", .target = "/e?q", .headers = &header,
		.n_headers = 1, .body = "hello", .body_bytes = 5};
	for (int i = 0; i < 10; i++) {
		ask(&r);
		assert_int_equal(r.st, OK);
		assert_int_equal(r.status, 200);
		assert_string_equal(r.body.data, "POST /e [q] hello");
	}
	r.config = (struct http_call_config){.method = "HEAD", .target = "/big?70000"};
	ask(&r);
	assert_int_equal(r.st, OK);
	assert_int_equal(r.body.len, 0);
	r.config.method = "GET";
	ask(&r);
	assert_int_equal(r.body.len, 70000);
	r.config.target = "/events?100";
	ask(&r);
	assert_int_equal(r.events, 100);
	assert_int_equal(r.st, OK);
	/* All that on one connection. */
	assert_int_equal(client_stats(&c, r.client).opened, 1);
	assert_int_equal(client_stats(&c, r.client).idle, 1);
	/* The server closes it; the next call opens another one. */
	r.config.target = "/e";
	r.config.headers = &(struct http_header){"Connection", "close"};
	r.config.n_headers = 1;
	ask(&r);
	assert_int_equal(r.st, OK);
	assert_int_equal(client_stats(&c, r.client).connections, 0);
	ask(&r);
	assert_int_equal(client_stats(&c, r.client).opened, 2);
	/* What cannot be sent is an error of the call, told later. */
	r.config.target = "/a b";
	ask(&r);
	assert_int_equal(r.st, E_INVAL);
	r.config.target = "/";
	r.config.headers = &(struct http_header){"X", "a\r\nY: b"};
	ask(&r);
	assert_int_equal(r.st, E_INVAL);
	http_case_call(&c, close_client, r.client);
	buf_deinit(&r.body);
	http_case_close(&c);
}

#define MANY 1000

/* Streams by the thousand, some of them cancelled in the middle of a piece. */
static void test_many(void **state)
{
	static struct result r[MANY];
	atomic_uint done = 0;
	struct http_case c;
	struct http_client *client;

	http_case_init(&c);
	http_case_open(&c);
	client = make_client(&c, c.port, (struct http_client_config){.idle_connections = 10});
	for (int i = 0; i < MANY; i++) {
		r[i] = (struct result){.c = &c, .client = client, .done = &done};
		r[i].config = (struct http_call_config){.method = "GET", .target = "/events?50"};
		r[i].cancel_at = i % 10 == 3 ? (unsigned)i % 50 + 1 : 0;
		http_case_call(&c, start, &r[i]);
	}
	http_case_wait(&done, MANY);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(r[i].st, OK);
		assert_int_equal(r[i].events, r[i].cancel_at ? r[i].cancel_at : 50);
		buf_deinit(&r[i].body);
	}
	assert_true(client_stats(&c, client).connections <= 10);
	http_case_call(&c, close_client, client);
	http_case_wait_empty(&c);
	http_case_close(&c);
}

static void cancel(void *arg)
{
	struct result *r = arg;

	http_call_cancel(r->call);
}

/* Cancelling reaches the server as a disconnect; so does the client's end. */
static void test_cancel(void **state)
{
	atomic_uint done = 0;
	struct http_case c;
	struct result r = {.c = &c, .done = &done};

	http_case_init(&c);
	http_case_open(&c);
	r.client = make_client(&c, c.port, (struct http_client_config){0});
	r.config = (struct http_call_config){.method = "GET", .target = "/hold"};
	http_case_call(&c, start, &r);
	http_case_wait(&c.handled, 1);
	http_case_call(&c, cancel, &r);
	http_case_wait(&c.closed, 1);
	http_case_call(&c, start, &r);
	http_case_wait(&c.handled, 2);
	http_case_call(&c, close_client, r.client);
	http_case_wait(&c.closed, 2);
	assert_int_equal(atomic_load(&done), 0);
	http_case_wait_empty(&c);
	buf_deinit(&r.body);
	http_case_close(&c);
}

/* A server that accepts one connection, says its text once something came, and closes unless told not to. */
struct fake {
	int listener, hold;
	uint16_t port;
	const char *text;
	pthread_t thread;
};

static void *fake_run(void *arg)
{
	struct fake *f = arg;
	char data[4096];
	int fd = accept(f->listener, NULL, NULL);

	(void)!recv(fd, data, sizeof(data), 0);
	http_case_send(fd, f->text);
	if (f->hold)
		while (recv(fd, data, sizeof(data), 0) > 0)
			;
	close(fd);
	return NULL;
}

static void fake_open(struct fake *f, const char *text, int hold)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	socklen_t size = sizeof(sin);

	f->text = text;
	f->hold = hold;
	f->listener = socket(AF_INET, SOCK_STREAM, 0);
	inet_pton(AF_INET, "127.0.0.1", &sin.sin_addr);
	assert_int_equal(bind(f->listener, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(listen(f->listener, 1), 0);
	getsockname(f->listener, (struct sockaddr *)&sin, &size);
	f->port = ntohs(sin.sin_port);
	pthread_create(&f->thread, NULL, fake_run, f);
}

static void fake_close(struct fake *f)
{
	pthread_join(f->thread, NULL);
	close(f->listener);
}

static void test_odd_answers(void **state)
{
	static const struct {
		const char *text;
		int hold;
		enum status st;
		const char *body;
		uint32_t kept;
	} rows[] = {
		{"HTTP/1.1 200 OK\r\n\r\nto the end", 0, OK, "to the end", 0},
		{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 1, OK, "x",
			1},
		{"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 1, OK, "x", 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxyz", 1, OK, "x", 0},
		{"", 0, E_PEER, "", 0},
		{"HTTP/1.1 200 OK\r\nContent-", 0, E_PEER, "", 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", 0, E_PEER, "abc", 0},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 0, E_PEER, "abc", 0},
		{"SSH-2.0-nonsense\r\n", 1, E_FORMAT, "", 0},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 1, E_FORMAT, "", 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 1, E_FORMAT, "", 0},
		/* silence before the head, and within the body */
		{"", 1, E_PEER, "", 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", 1, E_PEER, "abc", 0},
	};
	struct http_case c;
	struct result r = {.c = &c};

	http_case_init(&c);
	http_case_open(&c);
	r.config = (struct http_call_config){.method = "GET", .target = "/"};
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		bool silent = rows[i].hold && rows[i].st == E_PEER, head = rows[i].body[0];
		struct fake f;

		fake_open(&f, rows[i].text, rows[i].hold);
		r.client = make_client(&c, f.port,
			(struct http_client_config){.head_ms = silent && !head ? 200 : 0, .silence_ms = silent ? 200 : 0});
		ask(&r);
		if (r.st != rows[i].st)
			fail_msg("row %zu: %d (%s)", i, r.st, r.err.msg);
		assert_string_equal(r.body.data, rows[i].body);
		assert_int_equal(r.kept, rows[i].kept);
		http_case_call(&c, close_client, r.client);
		fake_close(&f);
	}
	buf_deinit(&r.body);
	http_case_close(&c);
}

/* A port that is taken, and where nobody listens. */
static void test_no_listener(void **state)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	socklen_t size = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct http_case c;
	struct result r = {.c = &c};

	inet_pton(AF_INET, "127.0.0.1", &sin.sin_addr);
	assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	getsockname(fd, (struct sockaddr *)&sin, &size);
	http_case_init(&c);
	http_case_open(&c);
	r.client = make_client(&c, ntohs(sin.sin_port), (struct http_client_config){0});
	r.config = (struct http_call_config){.method = "GET", .target = "/"};
	ask(&r);
	assert_int_equal(r.st, E_PEER);
	http_case_call(&c, close_client, r.client);
	close(fd);
	buf_deinit(&r.body);
	http_case_close(&c);
}

/* A listener whose queue is full leaves the connection in the air. */
static void test_connect_limit(void **state)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	socklen_t size = sizeof(sin);
	struct http_case c;
	struct result r = {.c = &c};
	int listener = socket(AF_INET, SOCK_STREAM, 0), fill[3];

	inet_pton(AF_INET, "127.0.0.1", &sin.sin_addr);
	assert_int_equal(bind(listener, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(listen(listener, 0), 0);
	getsockname(listener, (struct sockaddr *)&sin, &size);
	for (int i = 0; i < 3; i++) {
		fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)!connect(fill[i], (struct sockaddr *)&sin, sizeof(sin));
	}
	http_case_init(&c);
	http_case_open(&c);
	r.client = make_client(
		&c, ntohs(sin.sin_port), (struct http_client_config){.connect_ms = 200});
	r.config = (struct http_call_config){.method = "GET", .target = "/"};
	ask(&r);
	assert_int_equal(r.st, E_PEER);
	assert_string_equal(r.err.msg, "not connected in time");
	http_case_call(&c, close_client, r.client);
	for (int i = 0; i < 3; i++)
		close(fill[i]);
	close(listener);
	buf_deinit(&r.body);
	http_case_close(&c);
}

/* Several events in one piece: none comes after the one whose handler cancels. */
static void test_cancel_within_piece(void **state)
{
	atomic_uint done = 0;
	struct http_case c;
	struct result r = {.c = &c, .done = &done, .cancel_at = 2};
	struct fake f;

	http_case_init(&c);
	http_case_open(&c);
	fake_open(&f, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {\"i\":0}\n\n"
		      "data: {\"i\":1}\n\ndata: {\"i\":2}\n\ndata: {\"i\":3}\n\n", 1);
	r.client = make_client(&c, f.port, (struct http_client_config){0});
	r.config = (struct http_call_config){.method = "GET", .target = "/"};
	http_case_call(&c, start, &r);
	http_case_wait(&done, 1);
	assert_int_equal(client_stats(&c, r.client).connections, 0);
	assert_int_equal(r.events, 2);
	http_case_call(&c, close_client, r.client);
	fake_close(&f);
	buf_deinit(&r.body);
	http_case_close(&c);
}

static void test_urls(void **state)
{
	static const struct {
		const char *url, *host, *port; /* NULL: refused */
	} rows[] = {
		{"http://a", "a", "80"},
		{"HTTPS://a.b/", "a.b", "443"},
		{"http://[::1]:8000", "::1", "8000"},
		{"http://127.0.0.1:1", "127.0.0.1", "1"},
		{"a:80", NULL, NULL},
		{"ftp://a", NULL, NULL},
		{"http://", NULL, NULL},
		{"http://:80", NULL, NULL},
		{"http://a:", NULL, NULL},
		{"http://a:0", NULL, NULL},
		{"http://a:65536", NULL, NULL},
		{"http://a:8x", NULL, NULL},
		{"http://a/v1", NULL, NULL},
		{"http://u@a", NULL, NULL},
		{"http://[::1", NULL, NULL},
		{"http://[::1]x", NULL, NULL},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct http_origin o;
		struct error err;
		enum status st = http_origin_parse(&o, rows[i].url, &err);

		if (st != (rows[i].host ? OK : E_INVAL))
			fail_msg("%s: %d", rows[i].url, st);
		if (rows[i].host) {
			assert_string_equal(o.host, rows[i].host);
			assert_string_equal(o.port, rows[i].port);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_odd_answers),
		cmocka_unit_test(test_no_listener),
		cmocka_unit_test(test_connect_limit),
		cmocka_unit_test(test_cancel_within_piece),
		cmocka_unit_test(test_urls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
