/* What the files of the client share: the client, its connections, its calls. */
#ifndef HTTP_CLIENT_INT_H
#define HTTP_CLIENT_INT_H

#include <netdb.h>

#include "http/client.h"
#include "http/io_int.h"
#include "http/url_int.h"

struct http_client {
	struct http_loop *loop;
	struct http_client_config config; /* its strings are not used after create */
	struct http_origin origin;
	char *unix_path;
	struct addrinfo *addresses;
	struct http_link *links; /* all that are open */
	struct http_link *idle;	 /* the one used last first */
	struct http_call *calls;
	struct http_client_stats stats;
};

enum http_link_stage {
	LINK_CONNECT,
	LINK_WAIT, /* for the head */
	LINK_BODY,
	LINK_IDLE,
	LINK_DEAD, /* closed; freed from the top of the loop */
};

/* A connection. */
struct http_link {
	struct http_link *next, **at; /* of the client's list */
	struct http_link *idle_next, **idle_at;
	struct http_client *client;
	const struct addrinfo *address; /* being tried; NULL: a unix socket */
	struct http_io io;
	struct http_message message;
	struct http_call *call;
	enum http_link_stage stage;
	struct event timer;
	uint64_t since_ns, timer_ns;
	struct http_later free_later;
};

struct http_call {
	struct http_call *next, **at; /* of the client's list */
	struct http_client *client;
	struct http_link *link; /* NULL: failed, to be told */
	const struct http_call_handlers *handlers;
	void *arg;
	struct buf request; /* until it is connected */
	struct sse_parser sse;
	bool head_method, events;
	struct http_later later;
	struct error error;
};

/* link.c. An idle connection, or a new one; NULL: none can be opened. */
struct http_link *http_link_take(struct http_client *c, struct http_call *call, struct error *err);
void http_link_close(struct http_link *k);

/* client.c: the answer's parts, from the link. */
void http_call_head(struct http_call *call, const struct http_message *m);
/* False: the call is over. */
bool http_call_body(struct http_call *call, const char *data, size_t len);
/* The link is no longer the call's. */
void http_call_end(struct http_call *call, enum status st, const char *text);

#endif
