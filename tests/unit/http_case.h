/* A server on a loop in its own thread, and blocking sockets that talk to it, for the tests of http/. */
#ifndef TESTS_UNIT_HTTP_CASE_H
#define TESTS_UNIT_HTTP_CASE_H

#include <pthread.h>
#include <stdatomic.h>

#include "http/server.h"

struct http_case {
	struct http_loop *loop;
	struct http_server *server;
	pthread_t thread;
	const char *host;     /* NULL: 127.0.0.1 */
	struct http_tls *tls; /* set before http_case_open, or NULL */
	struct http_limits limits;
	http_handler_fn *handler; /* NULL: http_case_handle */
	uint16_t port;
	atomic_uint handled, closed, drained, stopped;
	atomic_int reason;           /* of the last close */
	struct http_request *held;   /* the last request to /hold; the loop's thread alone */
	char last_peer[64];
	int last_listener;
};

/* Default limits with times that a test can wait for: call before changing some of them. */
void http_case_init(struct http_case *c);
void http_case_open(struct http_case *c); /* listens on 127.0.0.1, starts the thread */
void http_case_close(struct http_case *c);
/*
 * /echo   METHOD PATH QUERY BODY
 * /hold   kept in c->held, nothing is sent
 * /big    query: bytes of the answer
 * /events query: events to send at once
 */
void http_case_handle(struct http_request *r, void *arg);
/* Runs fn(c) on the loop's thread and waits for it. */
void http_case_call(struct http_case *c, http_loop_fn *fn, void *arg);
/* Waits until *value == want; as all waits here for two minutes at most. */
void http_case_wait(atomic_uint *value, unsigned want);
struct http_server_stats http_case_stats(struct http_case *c);
/* Waits until no connection, request or body byte is left. */
void http_case_wait_empty(struct http_case *c);

int http_case_connect(struct http_case *c); /* blocking */
int http_case_connect_from(struct http_case *c, const char *address); /* 127.x.x.x */
int http_case_connect_unix(const char *path);
void http_case_send(int fd, const char *text);
/* Receives until the text is in, or fails; buf is cleared first. */
void http_case_expect(int fd, struct buf *in, const char *text);
/* Receives until the end of the connection; false: it was reset, or did not end in time. */
bool http_case_read_all(int fd, struct buf *in);
bool http_case_readable(int fd); /* data, or the end */
/* One connection: sends all, reads until the end. */
void http_case_ask(struct http_case *c, const char *request, struct buf *in);
/* Where a limit in time is so short that a busy machine may exceed it first: again, until the answer begins so; "": is
 * empty. */
void http_case_ask_until(struct http_case *c, const char *request, struct buf *in, const char *answer);
/* Until the server has read what was sent. Handles one request more. */
void http_case_let_read(struct http_case *c, int fd);

#endif
