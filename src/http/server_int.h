/* What the files of the server share: the server, a connection, a request. */
#ifndef HTTP_SERVER_INT_H
#define HTTP_SERVER_INT_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>

#include "http/io_int.h"
#include "http/peers_int.h"
#include "http/server.h"

/* Bytes of later requests that a connection may send ahead. */
#define HTTP_AHEAD_BYTES 65536u
#define HTTP_PEER_TEXT 64

struct http_listener {
	struct http_listener *next;
	struct http_server *server;
	struct event event, retry;
	struct http_tls *tls;
	int tag;
	char *unix_path; /* owned; removed at close if it is still ours */
	uint64_t unix_device, unix_inode;
	int fd;
};

struct http_server {
	struct http_loop *loop;
	struct http_server_config config;
	struct http_listener *listeners;
	struct http_conn *conns; /* all that are open */
	struct http_peers *peers;
	struct http_server_stats stats;
	int spare_fd; /* given up to accept, and close, when descriptors are out */
	bool stopping, done_called;
	struct event stop_timer;
	http_loop_fn *done;
	void *done_arg;
	struct http_later done_later;
	time_t date_at;
	char date[40];
};

enum http_conn_state {
	CONN_IDLE, /* no byte of the next request yet */
	CONN_HEAD,
	CONN_BODY,
	CONN_BUSY,    /* a request is with the handler */
	CONN_CLOSING, /* sending the rest */
	CONN_LINGER,  /* our side ended; waiting for the peer's end */
	CONN_DEAD,    /* closed; freed from the top of the loop */
};

/* A request while it is read, and while the handler has it. */
struct http_exchange {
	struct http_request public; /* first */
	struct http_message message;
	struct http_conn *conn; /* NULL: the peer is gone */
	char *body;
	size_t body_len, body_cap;
	char peer[HTTP_PEER_TEXT];
	bool streaming, head_method, no_body, dispatched;
	http_close_fn *on_close;
	void *close_arg;
	http_loop_fn *on_drain;
	void *drain_arg;
	size_t drain_low;
};

struct http_conn {
	struct http_conn *next, **link; /* of the server's list */
	struct http_server *server;	/* NULL once dead */
	struct http_io io;
	enum http_conn_state state;
	struct http_exchange *exchange;
	struct buf in; /* received, not yet parsed; from in_done on */
	size_t in_done;
	struct event timer;
	uint64_t since_ns;    /* of the state */
	uint64_t body_due_ns; /* when more of the body must have come */
	uint64_t timer_ns;    /* when the timer fires; 0: not set */
	struct http_later later, free_later;
	struct http_peer *address;
	char peer[HTTP_PEER_TEXT];
	enum http_close_reason reason;
	int tag;
	bool processing;
	bool fresh;    /* no request yet */
	bool last;     /* close after the request in progress */
	bool peer_end; /* it ended its side */
};

/* conn.c */
void http_conn_open(struct http_listener *n, int fd, const struct sockaddr_storage *from,
	struct http_peer *address);
void http_conn_kill(struct http_conn *c, enum http_close_reason reason);
/* The server begins to stop: closed now if nothing is in progress, a request that is not complete refused; after
 * the answer otherwise. */
void http_conn_retire(struct http_conn *c);
/* The exchange's body no longer counts. */
void http_conn_release_body(struct http_conn *c, const struct http_exchange *e);
/* The exchange is answered: freed, and the connection goes on or closes. */
void http_conn_finish(struct http_conn *c, bool close_after);
/* Looks again, from the top of the loop, at what can go on. */
void http_conn_wake(struct http_conn *c);
/* Unsent bytes appeared: from now on the peer must read. */
void http_conn_watch_writes(struct http_conn *c);
void http_conn_enter(struct http_conn *c, enum http_conn_state state);
/* After what is due may have changed. */
void http_conn_set_timer(struct http_conn *c);
/* The transport's own answer to what is being read, and the end of the connection. */
void http_conn_refuse(struct http_conn *c, unsigned status, const char *why);

/* receive.c: parses what came, as far as it may. */
void http_conn_receive(struct http_conn *c);

/* respond.c */
void http_head_put(struct http_server *s, struct buf *out, unsigned status,
	const struct http_header *headers, size_t n_headers);
void http_exchange_free(struct http_exchange *e);

/* server.c */
void http_server_conn_gone(struct http_server *s);

/* listen.c */
enum status http_listener_open(
	struct http_server *s, const struct http_listen *at, uint16_t *port, struct error *err);
void http_listeners_close(struct http_server *s);

#endif
