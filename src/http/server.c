/* The server: its limits, its count of connections, its end. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "http/server_int.h"

const struct http_limits http_limits_default = {
	.head = {.head_bytes = 64u << 10, .head_fields = 100},
	.body_bytes = 64u << 20,
	.all_body_bytes = 1u << 30,
	.out_bytes = 1u << 20,
	.head_ms = 10000,
	.body_ms = 30000,
	.body_rate = 512,
	.body_total_ms = 600000,
	.keep_alive_ms = 5000,
	.write_ms = 30000,
	.connections = 16384,
};

static enum status check_limits(const struct http_limits *l, struct error *err)
{
	if (l->head.head_bytes < 64 || l->head.head_bytes > 1u << 30)
		return error_set(err, E_INVAL, "limit of header bytes %zu, expected 64 to %u",
			l->head.head_bytes, 1u << 30);
	if (!l->head.head_fields || l->head.head_fields > 1u << 20)
		return error_set(err, E_INVAL, "limit of header lines %u, expected 1 to %u",
			l->head.head_fields, 1u << 20);
	if (l->body_bytes > SIZE_MAX / 4 || l->all_body_bytes > SIZE_MAX / 4)
		return error_set(err, E_INVAL, "limit of body bytes is absurd");
	if (!l->connections || l->connections > HTTP_MAX_CONNECTIONS)
		return error_set(err, E_INVAL, "limit of connections %u, expected 1 to %u",
			l->connections, HTTP_MAX_CONNECTIONS);
	if (!l->head_ms || !l->body_ms || !l->body_total_ms || !l->keep_alive_ms || !l->write_ms)
		return error_set(err, E_INVAL, "a time limit of 0 ms");
	return OK;
}

static void call_done(void *arg)
{
	struct http_server *s = arg;

	if (s->done_called)
		return;
	s->done_called = true;
	/* Last: it may destroy the server. */
	if (s->done)
		s->done(s->done_arg);
}

static void kill_all(struct http_server *s)
{
	while (s->conns)
		http_conn_kill(s->conns, HTTP_CLOSE_SERVER);
}

static void on_stop_deadline(evutil_socket_t fd, short what, void *arg)
{
	kill_all(arg);
}

enum status http_server_create(struct http_server **out, struct http_loop *l,
	const struct http_server_config *config, struct error *err)
{
	struct http_server *s;

	TRY(check_limits(&config->limits, err));
	BUG_ON(!config->handler);
	s = mem_alloc(sizeof(*s));
	s->loop = l;
	s->config = *config;
	s->peers = http_peers_create();
	s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	s->done_later = (struct http_later){.fn = call_done, .arg = s};
	event_assign(&s->stop_timer, http_loop_base(l), -1, 0, on_stop_deadline, s);
	*out = s;
	return OK;
}

void http_server_destroy(struct http_server *s)
{
	if (!s)
		return;
	s->done = NULL;
	http_listeners_close(s);
	kill_all(s);
	event_del(&s->stop_timer);
	http_loop_forget(s->loop, &s->done_later);
	http_peers_destroy(s->peers);
	if (s->spare_fd >= 0)
		close(s->spare_fd);
	free(s);
}

enum status http_server_listen(
	struct http_server *s, const struct http_listen *at, uint16_t *port, struct error *err)
{
	BUG_ON(s->stopping);
	return http_listener_open(s, at, port, err);
}

void http_server_conn_gone(struct http_server *s)
{
	if (s->stopping && !s->conns)
		http_loop_later(s->loop, &s->done_later);
}

void http_server_stop(struct http_server *s, uint32_t deadline_ms, http_loop_fn *done, void *arg)
{
	if (s->stopping) {
		kill_all(s);
		return;
	}
	s->stopping = true;
	s->done = done;
	s->done_arg = arg;
	http_listeners_close(s);
	for (struct http_conn *c = s->conns, *next; c; c = next) {
		next = c->next;
		http_conn_retire(c);
	}
	http_event_set_ms(&s->stop_timer, deadline_ms);
	http_server_conn_gone(s);
}

struct http_server_stats http_server_get_stats(const struct http_server *s)
{
	return s->stats;
}
