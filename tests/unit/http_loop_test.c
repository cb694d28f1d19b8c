/* The loop: posts and bells from other threads, timers, signals, stop; borders of writes; events. */
#include "cm.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/ring.h"
#include "http/io_int.h"
#include "http/loop.h"
#include "http/sse.h"

#define RECORDS 200000u
#define POSTS 1000u

struct case_state {
	struct http_loop *loop;
	struct http_bell *bell;
	struct ring *ring;
	uint32_t seen, wakes, posts;
	bool in_order;
};

static void on_bell(void *arg)
{
	struct case_state *c = arg;
	uint32_t record;

	c->wakes++;
	while (ring_pop(c->ring, &record))
		c->in_order &= record == c->seen++;
	if (c->seen == RECORDS)
		http_loop_stop(c->loop);
}

static void *push_all(void *arg)
{
	struct case_state *c = arg;

	for (uint32_t i = 0; i < RECORDS; i++) {
		while (!ring_push(c->ring, &i))
			usleep(10);
		http_bell_ring(c->bell);
	}
	return NULL;
}

/* Every record is seen without another ring: a lost wake would leave the loop asleep. */
static void test_bell(void **state)
{
	struct case_state c = {.in_order = true};
	struct error err;
	pthread_t thread;

	assert_int_equal(http_loop_create(&c.loop, &err), OK);
	assert_int_equal(ring_create(&c.ring, 64, sizeof(uint32_t), &err), OK);
	assert_int_equal(http_bell_create(&c.bell, c.loop, on_bell, &c, &err), OK);
	pthread_create(&thread, NULL, push_all, &c);
	http_loop_run(c.loop);
	pthread_join(thread, NULL);
	assert_int_equal(c.seen, RECORDS);
	assert_true(c.in_order);
	assert_true(c.wakes <= RECORDS);
	http_bell_destroy(c.bell);
	ring_destroy(c.ring);
	http_loop_destroy(c.loop);
}

static void on_post(void *arg)
{
	struct case_state *c = arg;

	if (++c->posts == POSTS)
		http_loop_stop(c->loop);
}

static void *post_all(void *arg)
{
	struct case_state *c = arg;

	for (uint32_t i = 0; i < POSTS; i++)
		http_loop_post(c->loop, on_post, c);
	return NULL;
}

static void test_posts(void **state)
{
	struct case_state c = {0};
	struct error err;
	pthread_t thread;

	assert_int_equal(http_loop_create(&c.loop, &err), OK);
	pthread_create(&thread, NULL, post_all, &c);
	http_loop_run(c.loop);
	pthread_join(thread, NULL);
	assert_int_equal(c.posts, POSTS);
	/* Stop before run ends the next run; a post that nobody runs is dropped. */
	http_loop_stop(c.loop);
	http_loop_run(c.loop);
	http_loop_post(c.loop, on_post, &c);
	http_loop_destroy(c.loop);
	assert_int_equal(c.posts, POSTS);
}

struct ticks {
	struct http_loop *loop;
	struct http_timer *timer, *never;
	int n;
};

static void on_never(void *arg)
{
	fail_msg("a cancelled timer fired");
}

static void on_tick(void *arg)
{
	struct ticks *t = arg;

	http_timer_cancel(t->never);
	if (++t->n < 3)
		http_timer_set(t->timer, 5000);
	else
		raise(SIGUSR1);
}

static void on_signal(void *arg)
{
	struct ticks *t = arg;

	t->n += 10;
	http_loop_stop(t->loop);
}

static void test_timers_and_signals(void **state)
{
	struct ticks t = {0};
	struct http_signal *s;
	struct error err;
	uint64_t begin = clock_ns();

	assert_int_equal(http_loop_create(&t.loop, &err), OK);
	t.timer = http_timer_create(t.loop, on_tick, &t);
	t.never = http_timer_create(t.loop, on_never, &t);
	assert_int_equal(http_signal_create(&s, t.loop, SIGUSR1, on_signal, &t, &err), OK);
	http_timer_set(t.never, 3600000000u);
	http_timer_set(t.timer, 5000);
	http_loop_run(t.loop);
	assert_int_equal(t.n, 13);
	assert_true(clock_ns() - begin >= 15000000);
	http_signal_destroy(s);
	http_timer_destroy(t.timer);
	http_timer_destroy(t.never);
	http_loop_destroy(t.loop);
}

#define WRITES 400

struct borders {
	struct http_loop *loop;
	struct http_io io;
	int peer;
	unsigned got;
};

static size_t write_bytes(unsigned i)
{
	return 1 + i * 37 % 5000;
}

static void on_nothing(void *arg)
{
}

static void on_data(void *arg, const char *data, size_t len)
{
	fail_msg("nothing was sent");
}

static void on_end(void *arg, enum status why, const char *text)
{
	fail_msg("%s", text);
}

static const struct http_io_calls border_calls = {.data = on_data, .wrote = on_nothing, .end = on_end};

/* Each message that comes is exactly one of the writes, in order. */
static void take_messages(void *arg)
{
	struct borders *b = arg;
	char data[8192];
	ssize_t n;

	while ((n = recv(b->peer, data, sizeof(data), MSG_DONTWAIT)) > 0) {
		assert_int_equal(n, write_bytes(b->got));
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(data[i], (char)b->got);
		b->got++;
	}
	if (b->got == WRITES)
		http_loop_stop(b->loop);
	else
		http_loop_post(b->loop, take_messages, b);
}

/* Over a socket that keeps messages apart it shows that neighbours are never sent together, neither at
 * once nor after waiting in the queue. */
static void test_borders(void **state)
{
	struct borders b = {0};
	struct error err;
	int fd[2];

	assert_int_equal(http_loop_create(&b.loop, &err), OK);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fd), 0);
	b.peer = fd[1];
	http_io_init(&b.io, b.loop, fd[0], NULL, false, &border_calls, &b);
	for (unsigned i = 0; i < WRITES; i++) {
		char data[8192];

		memset(data, (int)i, sizeof(data));
		http_io_write(&b.io, data, write_bytes(i));
	}
	assert_true(b.io.out_bytes > 100000);
	http_loop_post(b.loop, take_messages, &b);
	http_loop_run(b.loop);
	assert_int_equal(b.io.out_bytes, 0);
	http_io_close(&b.io);
	close(b.peer);
	http_loop_destroy(b.loop);
}

static void test_frames(void **state)
{
	static const struct {
		const char *event, *data, *frame;
	} rows[] = {
		{NULL, "{}", "data: {}\n\n"},
		{NULL, "", "data: \n\n"},
		{"done", "x", "event: done\ndata: x\n\n"},
		{"a\ndata: evil", "x", "event: a\ndata: x\n\n"},
		{NULL, "a\nb\r\nc\rd\n", "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"},
	};
	struct buf out = {0};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		buf_reset(&out);
		sse_put(&out, rows[i].event, rows[i].data, strlen(rows[i].data));
		assert_string_equal(out.data, rows[i].frame);
	}
	buf_reset(&out);
	sse_put_comment(&out, "hi\nthere");
	assert_string_equal(out.data, ": hi\n\n");
	buf_deinit(&out);
}

static void on_event(void *arg, const char *event, const char *data, size_t len)
{
	assert_int_equal(strlen(data), len);
	buf_printf(arg, "<%s|%s>", event, data);
}

static void test_parser(void **state)
{
	static const char text[] = "\xEF\xBB\xBF: hello\n\ndata: a\n\nevent: e\r\ndata:b\r\ndata\r\n"
				   "data:  c\r\nid: 4\r\n\r\ndata: d\r\rnothing\n\ndata: [DONE]\n\ndata: cut";
	struct buf out = {0};
	struct error err;

	for (size_t step = 1; step < sizeof(text); step++) {
		struct sse_parser p;

		buf_reset(&out);
		sse_parser_init(&p, 1000);
		for (size_t at = 0; at < sizeof(text) - 1; at += step) {
			size_t n = sizeof(text) - 1 - at < step ? sizeof(text) - 1 - at : step;

			assert_int_equal(sse_parser_feed(&p, text + at, n, on_event, &out, &err), OK);
		}
		assert_string_equal(out.data, "<|a><e|b\n\n c><|d><|[DONE]>");
		sse_parser_deinit(&p);
	}
	for (int way = 0; way < 2; way++) {
		struct sse_parser p;
		enum status st = OK;

		sse_parser_init(&p, 100);
		for (int i = 0; i < 200 && st == OK; i++)
			st = sse_parser_feed(&p, way ? "data: x\n" : "x", way ? 8 : 1, on_event, &out, &err);
		assert_int_equal(st, E_LIMIT);
		sse_parser_deinit(&p);
	}
	buf_deinit(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bell),
		cmocka_unit_test(test_posts),
		cmocka_unit_test(test_timers_and_signals),
		cmocka_unit_test(test_borders),
		cmocka_unit_test(test_frames),
		cmocka_unit_test(test_parser),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
