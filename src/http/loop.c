/*
 * The loop over libevent. Other threads reach it through eventfds alone; deferred work of its own
 * thread is a list that a timer without delay runs.
 */
#include "http/loop_int.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"

struct post {
	struct post *next;
	http_loop_fn *fn;
	void *arg;
};

struct http_loop {
	struct event_base *base;
	struct event later_event;
	struct http_later *later_first, **later_last;
	size_t n_later;
	struct http_bell *bell; /* posts and stop */
	pthread_mutex_t lock;	/* of the posts */
	struct post *post_first, **post_last;
	atomic_bool stop;
	struct buf scratch;
	char read_buffer[HTTP_READ_BYTES];
};

struct http_bell {
	struct event event;
	http_loop_fn *fn;
	void *arg;
	int fd;
	atomic_bool rung;
};

struct http_timer {
	struct event event;
	http_loop_fn *fn;
	void *arg;
};

struct http_signal {
	struct event event;
	http_loop_fn *fn;
	void *arg;
};

struct event_base *http_loop_base(struct http_loop *l)
{
	return l->base;
}

char *http_loop_read_buffer(struct http_loop *l)
{
	return l->read_buffer;
}

struct buf *http_loop_scratch(struct http_loop *l)
{
	/* One large answer does not keep its memory for ever. */
	if (l->scratch.cap > 1u << 20)
		buf_deinit(&l->scratch);
	buf_reset(&l->scratch);
	return &l->scratch;
}

void http_event_set_ms(struct event *ev, uint64_t delay_ms)
{
	struct timeval tv = {
		.tv_sec = (time_t)(delay_ms / 1000),
		.tv_usec = (suseconds_t)(delay_ms % 1000 * 1000),
	};

	event_add(ev, &tv);
}

static void run_later(struct http_loop *l)
{
	/* What these queue waits for the next round, so that sockets get their turn in between. */
	for (size_t n = l->n_later; n && l->later_first; n--) {
		struct http_later *node = l->later_first;

		http_loop_forget(l, node);
		node->fn(node->arg);
	}
	if (l->later_first)
		http_event_set_ms(&l->later_event, 0);
}

static void on_later(evutil_socket_t fd, short what, void *arg)
{
	run_later(arg);
}

void http_loop_later(struct http_loop *l, struct http_later *node)
{
	if (node->queued)
		return;
	/* A timer that is due, and not event_active(), which would run before any socket. */
	if (!l->later_first)
		http_event_set_ms(&l->later_event, 0);
	node->queued = true;
	node->next = NULL;
	*l->later_last = node;
	l->later_last = &node->next;
	l->n_later++;
}

void http_loop_forget(struct http_loop *l, struct http_later *node)
{
	struct http_later **at = &l->later_first;

	if (!node->queued)
		return;
	while (*at != node)
		at = &(*at)->next;
	*at = node->next;
	if (!*at)
		l->later_last = at;
	l->n_later--;
	node->queued = false;
}

static struct post *take_posts(struct http_loop *l)
{
	struct post *first;

	pthread_mutex_lock(&l->lock);
	first = l->post_first;
	l->post_first = NULL;
	l->post_last = &l->post_first;
	pthread_mutex_unlock(&l->lock);
	return first;
}

static void on_loop_bell(void *arg)
{
	struct http_loop *l = arg;
	struct post *p = take_posts(l);

	while (p) {
		struct post *next = p->next;

		p->fn(p->arg);
		free(p);
		p = next;
	}
	if (atomic_load(&l->stop))
		event_base_loopbreak(l->base);
}

/* What the environment says about libevent is nobody's business here. */
static struct event_base *new_base(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base;

	if (!config)
		return NULL;
	event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV);
	base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

enum status http_loop_create(struct http_loop **out, struct error *err)
{
	struct http_loop *l = mem_alloc(sizeof(*l));
	enum status st;

	l->base = new_base();
	if (!l->base) {
		free(l);
		return error_set(err, E_IO, "event loop: %s", strerror(errno));
	}
	pthread_mutex_init(&l->lock, NULL);
	l->later_last = &l->later_first;
	l->post_last = &l->post_first;
	event_assign(&l->later_event, l->base, -1, 0, on_later, l);
	st = http_bell_create(&l->bell, l, on_loop_bell, l, err);
	if (st != OK) {
		event_base_free(l->base);
		free(l);
		return st;
	}
	*out = l;
	return OK;
}

void http_loop_destroy(struct http_loop *l)
{
	struct post *p;

	if (!l)
		return;
	/* Connections that were closed in the last round are still to be freed. */
	while (l->later_first)
		run_later(l);
	p = take_posts(l);
	while (p) {
		struct post *next = p->next;

		free(p);
		p = next;
	}
	http_bell_destroy(l->bell);
	event_del(&l->later_event);
	event_base_free(l->base);
	pthread_mutex_destroy(&l->lock);
	buf_deinit(&l->scratch);
	free(l);
}

void http_loop_run(struct http_loop *l)
{
	while (!atomic_load(&l->stop))
		event_base_loop(l->base, EVLOOP_NO_EXIT_ON_EMPTY);
	atomic_store(&l->stop, false);
}

void http_loop_stop(struct http_loop *l)
{
	atomic_store(&l->stop, true);
	http_bell_ring(l->bell);
}

void http_loop_post(struct http_loop *l, http_loop_fn *fn, void *arg)
{
	struct post *p = mem_alloc(sizeof(*p));

	p->fn = fn;
	p->arg = arg;
	pthread_mutex_lock(&l->lock);
	*l->post_last = p;
	l->post_last = &p->next;
	pthread_mutex_unlock(&l->lock);
	http_bell_ring(l->bell);
}

static void on_bell(evutil_socket_t fd, short what, void *arg)
{
	struct http_bell *b = arg;
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return;
	/* Before fn: a ring from here on must be heard again. Exchanged, so that fn sees what those
	 * who rang before wrote. */
	atomic_exchange(&b->rung, false);
	b->fn(b->arg);
}

enum status http_bell_create(
	struct http_bell **out, struct http_loop *l, http_loop_fn *fn, void *arg, struct error *err)
{
	struct http_bell *b = mem_alloc(sizeof(*b));

	b->fn = fn;
	b->arg = arg;
	b->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->fd < 0) {
		free(b);
		return error_set(err, E_IO, "eventfd: %s", strerror(errno));
	}
	event_assign(&b->event, l->base, b->fd, EV_READ | EV_PERSIST, on_bell, b);
	event_add(&b->event, NULL);
	*out = b;
	return OK;
}

void http_bell_destroy(struct http_bell *b)
{
	if (!b)
		return;
	event_del(&b->event);
	close(b->fd);
	free(b);
}

void http_bell_ring(struct http_bell *b)
{
	const uint64_t one = 1;
	int saved = errno;

	if (!atomic_exchange(&b->rung, true))
		while (write(b->fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
	errno = saved;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct http_timer *t = arg;

	t->fn(t->arg);
}

struct http_timer *http_timer_create(struct http_loop *l, http_loop_fn *fn, void *arg)
{
	struct http_timer *t = mem_alloc(sizeof(*t));

	t->fn = fn;
	t->arg = arg;
	event_assign(&t->event, l->base, -1, 0, on_timer, t);
	return t;
}

void http_timer_destroy(struct http_timer *t)
{
	if (!t)
		return;
	event_del(&t->event);
	free(t);
}

void http_timer_set(struct http_timer *t, uint64_t delay_us)
{
	struct timeval tv = {
		.tv_sec = (time_t)(delay_us / 1000000),
		.tv_usec = (suseconds_t)(delay_us % 1000000),
	};

	event_add(&t->event, &tv);
}

void http_timer_cancel(struct http_timer *t)
{
	event_del(&t->event);
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
	struct http_signal *s = arg;

	s->fn(s->arg);
}

enum status http_signal_create(struct http_signal **out, struct http_loop *l, int number,
	http_loop_fn *fn, void *arg, struct error *err)
{
	struct http_signal *s = mem_alloc(sizeof(*s));

	s->fn = fn;
	s->arg = arg;
	if (evsignal_assign(&s->event, l->base, number, on_signal, s) < 0 ||
		event_add(&s->event, NULL) < 0) {
		free(s);
		return error_set(err, E_IO, "signal %d: cannot be watched", number);
	}
	*out = s;
	return OK;
}

void http_signal_destroy(struct http_signal *s)
{
	if (!s)
		return;
	event_del(&s->event);
	free(s);
}
