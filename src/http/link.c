/*
 * Connections of the client: opened, used for one call at a time, kept while the server keeps them.
 * The memory is freed from the top of the loop alone, so a link may close under any callback.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "http/client_int.h"

#define MS 1000000ull

static const struct http_io_calls link_calls;

static void free_link(void *arg)
{
	struct http_link *k = arg;

	http_message_deinit(&k->message);
	free(k);
}

static void leave_idle(struct http_link *k)
{
	if (k->stage != LINK_IDLE)
		return;
	*k->idle_at = k->idle_next;
	if (k->idle_next)
		k->idle_next->idle_at = k->idle_at;
	k->client->stats.idle--;
}

void http_link_close(struct http_link *k)
{
	if (k->stage == LINK_DEAD)
		return;
	leave_idle(k);
	k->stage = LINK_DEAD;
	k->call = NULL;
	http_io_close(&k->io);
	http_loop_forget(k->client->loop, &k->io.fail);
	event_del(&k->timer);
	*k->at = k->next;
	if (k->next)
		k->next->at = k->at;
	k->client->stats.connections--;
	http_loop_later(k->client->loop, &k->free_later);
}

/* The link closes, its call ends with this. */
static void fail(struct http_link *k, enum status st, const char *text)
{
	struct http_call *call = k->call;

	http_link_close(k);
	if (call)
		http_call_end(call, st, text);
}

/* --- time
 * -------------------------------------------------------------------------------------------- */

static uint64_t due(const struct http_link *k)
{
	const struct http_client_config *c = &k->client->config;
	const uint32_t limits[] = {
		[LINK_CONNECT] = c->connect_ms,
		[LINK_WAIT] = c->head_ms,
		[LINK_BODY] = c->silence_ms,
		[LINK_IDLE] = c->idle_ms,
	};

	return limits[k->stage] ? k->since_ns + limits[k->stage] * MS : 0;
}

static void set_timer(struct http_link *k)
{
	uint64_t now = clock_ns(), at = due(k);

	if (!at || (k->timer_ns && k->timer_ns <= at))
		return;
	k->timer_ns = at;
	http_event_set_ms(&k->timer, at > now ? (at - now) / MS + 1 : 0);
}

static void enter(struct http_link *k, enum http_link_stage stage)
{
	k->stage = stage;
	k->since_ns = clock_ns();
	set_timer(k);
}

static void on_time(evutil_socket_t fd, short what, void *arg)
{
	static const char *const texts[] = {
		[LINK_CONNECT] = "not connected in time",
		[LINK_WAIT] = "no answer in time",
		[LINK_BODY] = "the answer stopped",
		[LINK_IDLE] = "idle",
	};
	struct http_link *k = arg;
	uint64_t at = due(k);

	k->timer_ns = 0;
	if (!at || clock_ns() < at)
		set_timer(k);
	else
		fail(k, E_PEER, texts[k->stage]);
}

/* --- opening
 * ----------------------------------------------------------------------------------------- */

static int open_socket(struct http_client *c, const struct addrinfo *a)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	const struct sockaddr *name = a ? a->ai_addr : (const struct sockaddr *)&sun;
	socklen_t size = a ? a->ai_addrlen : sizeof(sun);
	const int one = 1;
	int fd = socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), code;

	if (fd < 0)
		return -1;
	if (a)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	else
		strcpy(sun.sun_path, c->unix_path); /* its length was checked at create */
	if (connect(fd, name, size) < 0 && errno != EINPROGRESS) {
		code = errno;
		close(fd);
		errno = code;
		return -1;
	}
	return fd;
}

/* Tries addresses from k->address on until one does not fail at once. */
static bool connect_link(struct http_link *k, struct error *err)
{
	struct http_client *c = k->client;

	do {
		struct http_tls_session *session = NULL;
		int fd = open_socket(c, k->address);

		if (fd >= 0 && c->origin.tls) {
			session = http_tls_session_create(c->config.tls, fd, c->origin.host);
			if (!session) {
				close(fd);
				errno = ENOMEM;
				fd = -1;
			}
		}
		if (fd >= 0) {
			http_io_init(&k->io, c->loop, fd, session, true, &link_calls, k);
			return true;
		}
		error_set(err, E_PEER, "%s: %s", c->unix_path ? c->unix_path : c->origin.authority,
			strerror(errno));
		k->address = k->address ? k->address->ai_next : NULL;
	} while (k->address);
	return false;
}

static void begin(struct http_link *k, struct http_call *call)
{
	k->call = call;
	http_message_deinit(&k->message);
	http_message_init(&k->message, HTTP_RESPONSE, &k->client->config.head);
	k->message.no_body = call->head_method;
}

static void send_request(struct http_link *k)
{
	struct buf *request = &k->call->request;

	enter(k, LINK_WAIT);
	http_io_write(&k->io, request->data, request->len);
	buf_deinit(request);
}

struct http_link *http_link_take(struct http_client *c, struct http_call *call, struct error *err)
{
	struct http_link *k = c->idle;

	/* A connection that the server has closed meanwhile is not given to a call. */
	while (k && http_io_peer_gone(&k->io)) {
		http_link_close(k);
		k = c->idle;
	}
	if (k) {
		leave_idle(k);
		begin(k, call);
		send_request(k);
		return k;
	}
	k = mem_alloc(sizeof(*k));
	k->client = c;
	k->address = c->addresses;
	k->free_later = (struct http_later){.fn = free_link, .arg = k};
	if (!connect_link(k, err)) {
		free(k);
		return NULL;
	}
	event_assign(&k->timer, http_loop_base(c->loop), -1, 0, on_time, k);
	k->next = c->links;
	k->at = &c->links;
	if (k->next)
		k->next->at = &k->next;
	c->links = k;
	c->stats.connections++;
	c->stats.opened++;
	begin(k, call);
	enter(k, LINK_CONNECT);
	return k;
}

/* --- events
 * ------------------------------------------------------------------------------------------ */

static void on_ready(void *arg)
{
	send_request(arg);
}

/* The answer is complete: the connection first, so that the call's end may use it again. */
static void complete(struct http_link *k, size_t rest)
{
	struct http_client *c = k->client;
	struct http_call *call = k->call;
	uint32_t most = c->config.idle_connections;

	k->call = NULL;
	if (rest || k->message.close || k->io.out_bytes || (most && c->stats.idle >= most)) {
		http_link_close(k);
	} else {
		k->idle_next = c->idle;
		k->idle_at = &c->idle;
		if (k->idle_next)
			k->idle_next->idle_at = &k->idle_next;
		c->idle = k;
		c->stats.idle++;
		enter(k, LINK_IDLE);
	}
	http_call_end(call, OK, "");
}

/* After an interim answer (1xx) the real one comes. */
static bool is_interim(const struct http_link *k)
{
	return k->message.status < 200;
}

/* One step; false: nothing more to do with these bytes. */
static bool parse_step(struct http_link *k, const char *data, size_t len, size_t *used)
{
	struct http_call *call = k->call;

	switch (http_message_step(&k->message, data, len, used)) {
	case HTTP_PARSE_MORE:
		return false;
	case HTTP_PARSE_HEAD:
		if (is_interim(k))
			return true;
		enter(k, LINK_BODY);
		http_call_head(call, &k->message);
		return k->call == call;
	case HTTP_PARSE_BODY:
		k->since_ns = clock_ns();
		return http_call_body(call, k->message.piece, k->message.piece_bytes);
	case HTTP_PARSE_DONE:
		if (is_interim(k)) {
			begin(k, call);
			return true;
		}
		complete(k, len - *used);
		return false;
	default:
		fail(k, E_FORMAT, k->message.why);
		return false;
	}
}

static void on_data(void *arg, const char *data, size_t len)
{
	struct http_link *k = arg;
	size_t used = 0;

	if (!k->call) {
		/* Nobody asked. */
		http_link_close(k);
		return;
	}
	while (parse_step(k, data, len, &used)) {
		data += used;
		len -= used;
	}
}

static void on_wrote(void *arg)
{
}

static void on_end(void *arg, enum status why, const char *text)
{
	struct http_link *k = arg;
	struct error err = {0};

	if (k->stage == LINK_CONNECT && k->address && k->address->ai_next) {
		http_io_close(&k->io);
		k->address = k->address->ai_next;
		if (connect_link(k, &err))
			return;
		fail(k, E_PEER, err.msg);
		return;
	}
	if (why == OK && k->call && http_message_ends_with_connection(&k->message)) {
		struct http_call *call = k->call;

		http_link_close(k);
		http_call_end(call, OK, "");
		return;
	}
	fail(k, E_PEER,
		why == OK ? "the server closed the connection before the answer was complete"
			  : text);
}

static const struct http_io_calls link_calls = {
	.ready = on_ready,
	.data = on_data,
	.wrote = on_wrote,
	.end = on_end,
};
