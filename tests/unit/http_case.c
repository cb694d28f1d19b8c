/* Threads and sockets of the http tests. Everything waits, but never for ever. */
#include "cm.h"

#include "http_case.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "http/sse.h"

#define WAIT_S 120
#define LINGER_MS 2000u /* how long the server reads away what comes after its last answer */

void http_case_init(struct http_case *c)
{
	*c = (struct http_case){.limits = http_limits_default};
	c->limits.keep_alive_ms = c->limits.head_ms = c->limits.body_ms = c->limits.write_ms = 10 * WAIT_S * 1000;
	c->limits.body_rate = 0;
}

static void *run_loop(void *arg)
{
	http_loop_run(arg);
	return NULL;
}

void http_case_open(struct http_case *c)
{
	struct http_server_config config = {
		.limits = c->limits,
		.handler = c->handler ? c->handler : http_case_handle,
		.arg = c,
	};
	struct error err;

	assert_int_equal(http_loop_create(&c->loop, &err), OK);
	assert_int_equal(http_server_create(&c->server, c->loop, &config, &err), OK);
	assert_int_equal(http_server_listen(c->server,
				 &(struct http_listen){
					 .host = c->host ? c->host : "127.0.0.1", .tls = c->tls},
				 &c->port, &err),
		OK);
	assert_int_not_equal(c->port, 0);
	assert_int_equal(pthread_create(&c->thread, NULL, run_loop, c->loop), 0);
}

static void release_held(struct http_case *c)
{
	if (c->held)
		http_request_abort(c->held);
	c->held = NULL;
}

void http_case_close(struct http_case *c)
{
	http_loop_stop(c->loop);
	pthread_join(c->thread, NULL);
	http_server_destroy(c->server);
	release_held(c);
	http_loop_destroy(c->loop);
}

static void on_close(void *arg, enum http_close_reason reason)
{
	struct http_case *c = arg;

	atomic_store(&c->reason, (int)reason);
	atomic_fetch_add(&c->closed, 1);
}

static void answer_events(struct http_request *r)
{
	int n = atoi(r->query);

	sse_begin(r, NULL, 0);
	for (int i = 0; i < n; i++) {
		char text[32];
		int len = snprintf(text, sizeof(text), "{\"i\":%d}", i);

		sse_send(r, NULL, text, (size_t)len);
	}
	http_stream_end(r);
}

void http_case_handle(struct http_request *r, void *arg)
{
	struct http_case *c = arg;
	struct buf out = {0};

	atomic_fetch_add(&c->handled, 1);
	snprintf(c->last_peer, sizeof(c->last_peer), "%s", r->peer);
	c->last_listener = r->listener;
	if (strcmp(r->path, "/hold") == 0) {
		release_held(c);
		c->held = r;
		http_request_on_close(r, on_close, c);
	} else if (strcmp(r->path, "/events") == 0) {
		answer_events(r);
	} else if (strcmp(r->path, "/big") == 0) {
		size_t n = strtoul(r->query, NULL, 10);
		char *body = calloc(1, n);

		memset(body, 'x', n);
		http_respond(r, 200, NULL, 0, body, n);
		free(body);
	} else {
		buf_printf(&out, "%s %s [%s] ", r->method, r->path, r->query);
		buf_append(&out, r->body, r->body_bytes);
		http_respond(r, 200, &(struct http_header){"X-Test", "a\r\nb"}, 1, out.data, out.len);
		buf_deinit(&out);
	}
}

struct call {
	http_loop_fn *fn;
	void *arg;
	sem_t done;
};

static void run_call(void *arg)
{
	struct call *call = arg;

	call->fn(call->arg);
	sem_post(&call->done);
}

void http_case_call(struct http_case *c, http_loop_fn *fn, void *arg)
{
	struct call call = {.fn = fn, .arg = arg};

	sem_init(&call.done, 0, 0);
	http_loop_post(c->loop, run_call, &call);
	while (sem_wait(&call.done) < 0 && errno == EINTR)
		;
	sem_destroy(&call.done);
}

void http_case_wait(atomic_uint *value, unsigned want)
{
	for (int i = 0; i < WAIT_S * 1000 && atomic_load(value) != want; i++)
		usleep(1000);
	assert_int_equal(atomic_load(value), want);
}

struct stats_call {
	struct http_case *c;
	struct http_server_stats stats;
};

static void get_stats(void *arg)
{
	struct stats_call *s = arg;

	s->stats = http_server_get_stats(s->c->server);
}

struct http_server_stats http_case_stats(struct http_case *c)
{
	struct stats_call s = {.c = c};

	http_case_call(c, get_stats, &s);
	return s.stats;
}

void http_case_wait_empty(struct http_case *c)
{
	struct http_server_stats s = {.connections = 1};

	for (int i = 0; i < WAIT_S * 200 && s.connections; i++) {
		s = http_case_stats(c);
		usleep(5000);
	}
	assert_int_equal(s.connections, 0);
	assert_int_equal(s.requests, 0);
	assert_int_equal(s.body_bytes, 0);
}

static void bound_waits(int fd)
{
	const struct timeval limit = {.tv_sec = WAIT_S};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

int http_case_connect_from(struct http_case *c, const char *address)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(c->port)}, own = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int one = 1;

	inet_pton(AF_INET, "127.0.0.1", &sin.sin_addr);
	inet_pton(AF_INET, address, &own.sin_addr);
	assert_true(fd >= 0);
	bound_waits(fd);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	assert_int_equal(bind(fd, (struct sockaddr *)&own, sizeof(own)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	return fd;
}

int http_case_connect(struct http_case *c)
{
	return http_case_connect_from(c, "127.0.0.1");
}

int http_case_connect_unix(const char *path)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	assert_true(fd >= 0);
	bound_waits(fd);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* A process that was stopped and goes on finds its waits cut short. */
static ssize_t receive(int fd, char *data, size_t size)
{
	ssize_t n;

	do
		n = recv(fd, data, size, 0);
	while (n < 0 && errno == EINTR);
	return n;
}

void http_case_send(int fd, const char *text)
{
	size_t len = strlen(text), done = 0;

	while (done < len) {
		ssize_t n = send(fd, text + done, len - done, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		/* The peer may have refused and closed before it got everything. */
		if (n <= 0)
			return;
		done += (size_t)n;
	}
}

void http_case_expect(int fd, struct buf *in, const char *text)
{
	char data[65536];

	buf_reset(in);
	while (!in->len || !memmem(in->data, in->len, text, strlen(text))) {
		ssize_t n = receive(fd, data, sizeof(data));

		if (n <= 0)
			fail_msg("'%s' expected, got '%s'", text, in->data ? in->data : "");
		buf_append(in, data, (size_t)n);
	}
}

bool http_case_read_all(int fd, struct buf *in)
{
	char data[65536];
	ssize_t n;

	buf_reset(in);
	while ((n = receive(fd, data, sizeof(data))) > 0)
		buf_append(in, data, (size_t)n);
	buf_append(in, "", 0);
	return n == 0;
}

void http_case_ask(struct http_case *c, const char *request, struct buf *in)
{
	uint32_t late_ms = c->limits.head_ms < LINGER_MS ? c->limits.head_ms : LINGER_MS;
	uint64_t begin = clock_ns();
	int fd = http_case_connect(c);

	http_case_send(fd, request);
	/* A reset is for those who are late: they send when the server no longer reads it away. */
	if (!http_case_read_all(fd, in))
		assert_true(clock_ns() - begin > late_ms * 1000000ull);
	close(fd);
}

void http_case_ask_until(struct http_case *c, const char *request, struct buf *in, const char *answer)
{
	for (int i = 0; i < 100; i++) {
		http_case_ask(c, request, in);
		if (strncmp(in->data, answer, strlen(answer)) == 0 && (in->len == 0) == (answer[0] == 0))
			return;
	}
	fail_msg("'%s' expected, got '%s'", answer, in->data);
}

bool http_case_readable(int fd)
{
	char data[1];

	return recv(fd, data, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

void http_case_let_read(struct http_case *c, int fd)
{
	struct buf in = {0};
	int on_its_way = 1;

	for (int i = 0; i < WAIT_S * 1000 && on_its_way; i++) {
		assert_int_equal(ioctl(fd, SIOCOUTQ, &on_its_way), 0);
		usleep(on_its_way ? 1000 : 0);
	}
	assert_int_equal(on_its_way, 0);
	http_case_ask(c, "GET /read HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &in);
	buf_deinit(&in);
}
