/* Listening sockets: names to addresses, stale unix sockets, accepting in turns, out of
 * descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "http/server_int.h"
#include "http/url_int.h"

#define BACKLOG 4096
#define ACCEPTS_A_TURN 64
#define RETRY_MS 100

static const char busy_answer[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n"
				  "Retry-After: 1\r\nConnection: close\r\n\r\n";

/* Descriptors are out: the spare one takes the waiting connection off the queue, so that it is
 * refused and not left hanging; then a pause, because the listener stays readable. */
static void out_of_descriptors(struct http_listener *n, int code)
{
	struct http_server *s = n->server;
	int fd;

	if (s->spare_fd >= 0) {
		close(s->spare_fd);
		fd = accept4(n->fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			close(fd);
		s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		s->stats.refused++;
	}
	log_warn("http", "accept: %s", strerror(code));
	event_del(&n->event);
	http_event_set_ms(&n->retry, RETRY_MS);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct http_listener *n = arg;

	if (n->server->spare_fd < 0)
		n->server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	event_add(&n->event, NULL);
}

static void take(struct http_listener *n, int fd, const struct sockaddr_storage *from)
{
	struct http_server *s = n->server;
	const struct http_limits *limits = &s->config.limits;
	struct http_peer *address = NULL;
	const int one = 1;

	s->stats.accepted++;
	if (s->stats.connections < limits->connections)
		address = http_peers_take(s->peers, from, limits->connections_per_address);
	if (!address) {
		s->stats.refused++;
		if (!n->tls)
			(void)!send(fd, busy_answer, sizeof(busy_answer) - 1,
				MSG_NOSIGNAL | MSG_DONTWAIT);
		close(fd);
		return;
	}
	if (from->ss_family != AF_UNIX)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	http_conn_open(n, fd, from, address);
}

static void on_accept(evutil_socket_t listener, short what, void *arg)
{
	struct http_listener *n = arg;

	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		struct sockaddr_storage from = {.ss_family = AF_UNIX};
		socklen_t size = sizeof(from);
		int fd = accept4(
			listener, (struct sockaddr *)&from, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			take(n, fd, &from);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			out_of_descriptors(n, errno);
		return;
	}
}

static void add_listener(
	struct http_server *s, int fd, const struct http_listen *at, const struct stat *file)
{
	struct http_listener *n = mem_alloc(sizeof(*n));

	n->server = s;
	n->fd = fd;
	n->tls = at->tls;
	n->tag = at->tag;
	if (file) {
		n->unix_path = mem_strdup(at->unix_path);
		n->unix_device = file->st_dev;
		n->unix_inode = file->st_ino;
	}
	event_assign(&n->event, http_loop_base(s->loop), fd, EV_READ | EV_PERSIST, on_accept, n);
	event_assign(&n->retry, http_loop_base(s->loop), -1, 0, on_retry, n);
	event_add(&n->event, NULL);
	n->next = s->listeners;
	s->listeners = n;
}

static void close_listener(struct http_listener *n)
{
	struct stat st;

	event_del(&n->event);
	event_del(&n->retry);
	close(n->fd);
	if (n->unix_path && lstat(n->unix_path, &st) == 0 && st.st_dev == n->unix_device &&
		st.st_ino == n->unix_inode)
		unlink(n->unix_path);
	free(n->unix_path);
	free(n);
}

void http_listeners_close(struct http_server *s)
{
	while (s->listeners) {
		struct http_listener *n = s->listeners;

		s->listeners = n->next;
		close_listener(n);
	}
}

/* Whether a socket file is left from a process that is gone. */
static bool is_stale(const struct sockaddr_un *sun)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;
	bool stale = fd >= 0 && lstat(sun->sun_path, &st) == 0 && S_ISSOCK(st.st_mode) &&
		     connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) < 0 &&
		     errno == ECONNREFUSED;

	if (fd >= 0)
		close(fd);
	return stale;
}

static enum status listen_unix(
	struct http_server *s, const struct http_listen *at, struct error *err)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	unsigned mode = at->unix_mode ? at->unix_mode : 0600;
	struct stat st;
	int fd, rc;

	if (strlen(at->unix_path) >= sizeof(sun.sun_path) || !at->unix_path[0])
		return error_set(err, E_INVAL, "%s: socket path of %zu bytes, expected 1 to %zu",
			at->unix_path, strlen(at->unix_path), sizeof(sun.sun_path) - 1);
	strcpy(sun.sun_path, at->unix_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_set(err, E_IO, "%s: %s", at->unix_path, strerror(errno));
	/* The mode of the descriptor becomes the file's, less the umask: never wider, not even for
	 * a moment. chmod then gives what the umask took. */
	fchmod(fd, mode);
	rc = bind(fd, (struct sockaddr *)&sun, sizeof(sun));
	if (rc < 0 && errno == EADDRINUSE && is_stale(&sun) && unlink(sun.sun_path) == 0)
		rc = bind(fd, (struct sockaddr *)&sun, sizeof(sun));
	if (rc < 0 || chmod(sun.sun_path, mode) < 0 || lstat(sun.sun_path, &st) < 0 ||
		listen(fd, BACKLOG) < 0) {
		error_set(err, E_IO, "%s: %s", at->unix_path, strerror(errno));
		close(fd);
		return E_IO;
	}
	add_listener(s, fd, at, &st);
	return OK;
}

static int open_address(const struct addrinfo *a, uint16_t *port, bool dual)
{
	struct sockaddr_storage name;
	socklen_t size = sizeof(name);
	const int one = 1;
	const int only_six = !dual;
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	memcpy(&name, a->ai_addr, a->ai_addrlen);
	/* sin_port and sin6_port lie at the same place. */
	((struct sockaddr_in *)&name)->sin_port = htons(*port);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (a->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_six, sizeof(only_six));
	if (bind(fd, (struct sockaddr *)&name, a->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0 ||
		getsockname(fd, (struct sockaddr *)&name, &size) < 0) {
		int code = errno;

		close(fd);
		errno = code;
		return -1;
	}
	*port = ntohs(((struct sockaddr_in *)&name)->sin_port);
	return fd;
}

/* Every address of the name, all on one port; a family that this machine lacks is passed over. */
static enum status listen_tcp(
	struct http_server *s, const struct http_listen *at, uint16_t *port, struct error *err)
{
	const char *host = at->host ? at->host : "0.0.0.0";
	struct addrinfo *list;
	uint16_t now = at->port;
	int opened = 0, code = 0;
	int rc = http_resolve(&list, host, NULL, AI_PASSIVE);

	if (rc != 0)
		return error_set(err, E_INVAL, "host '%s': %s", host, gai_strerror(rc));
	for (const struct addrinfo *a = list; a; a = a->ai_next) {
		int fd = open_address(a, &now, strcmp(host, "::") == 0);

		if (fd >= 0) {
			add_listener(s, fd, at, NULL);
			opened++;
			continue;
		}
		code = errno;
		if (code != EAFNOSUPPORT && code != EADDRNOTAVAIL)
			break;
		if (opened)
			code = 0;
	}
	freeaddrinfo(list);
	if (!opened || (code && code != EAFNOSUPPORT && code != EADDRNOTAVAIL)) {
		while (opened-- > 0) {
			struct http_listener *n = s->listeners;

			s->listeners = n->next;
			close_listener(n);
		}
		return error_set(
			err, E_IO, "listen on %s port %u: %s", host, at->port, strerror(code));
	}
	*port = now;
	return OK;
}

enum status http_listener_open(
	struct http_server *s, const struct http_listen *at, uint16_t *port, struct error *err)
{
	uint16_t now = 0;

	if (at->unix_path)
		TRY(listen_unix(s, at, err));
	else
		TRY(listen_tcp(s, at, &now, err));
	if (port)
		*port = now;
	return OK;
}
