/*
 * HTTP/1.1 client of one origin on a loop: any number of calls at once, connections kept alive,
 * answers in pieces or as events as they come. Made for streams by the thousand.
 *
 *   config = (struct http_client_config){.url = "http://127.0.0.1:8000", .connect_ms = 5000};
 *   TRY(http_client_create(&client, loop, &config, err));
 *   http_call_start(client, &(struct http_call_config){.method = "POST", .target =
 * "/v1/completions", .body = json, .body_bytes = len}, &handlers, arg);
 *
 * Callbacks come from the top of the loop, never from inside a call here. They may start and cancel
 * calls, but not destroy the client. A call is made once: a connection that breaks is an error of
 * the call, even where it was an idle one that the server closed at that moment.
 */
#ifndef HTTP_CLIENT_H
#define HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/loop.h"
#include "http/message.h"
#include "http/sse.h"
#include "http/tls.h"

struct http_client;
struct http_call;

struct http_client_config {
	const char *url; /* http://HOST[:PORT] or https://HOST[:PORT], nothing behind but '/' */
	const char *unix_path;		 /* connect there instead; the url still names the host */
	struct http_tls *tls;		 /* for https, opened for a client; must outlive it */
	struct http_message_limits head; /* of answers; zero: 64 KiB, 256 lines */
	size_t event_bytes;		 /* of one event; 0: 16 MiB */
	uint32_t connect_ms; /* name known to handshake done; this and the next: 0: no limit */
	uint32_t head_ms;    /* from the connection to the head of the answer */
	uint32_t silence_ms; /* between bytes of the answer's body */
	uint32_t idle_ms; /* a connection kept for later calls; 0: 4 s, less than servers keep it */
	uint32_t idle_connections; /* kept at most; 0: all */
};

/* Resolves the host, which may block. */
enum status http_client_create(struct http_client **out, struct http_loop *l,
	const struct http_client_config *config, struct error *err);
/* Cancels every call. */
void http_client_destroy(struct http_client *c);

struct http_call_config {
	const char *method;
	const char *target;		   /* path and query, as it is sent */
	const struct http_header *headers; /* Host, Content-Length are added */
	size_t n_headers;
	const void *body; /* copied */
	size_t body_bytes;
};

struct http_call_handlers {
	/* Each may be NULL but done. */
	void (*head)(
		void *arg, unsigned status, const struct http_header *headers, size_t n_headers);
	/* Events, when given and the answer is text/event-stream; otherwise its body, piece by
	 * piece. */
	sse_event_fn *event;
	void (*data)(void *arg, const char *data, size_t len);
	/* Once, the last. OK: the answer is complete, whatever its status; otherwise err says why
	 * not. */
	void (*done)(void *arg, enum status st, const struct error *err);
};

/* handlers: kept, not copied. The call is valid until done or http_call_cancel. */
struct http_call *http_call_start(struct http_client *c, const struct http_call_config *config,
	const struct http_call_handlers *handlers, void *arg);
/* No callback any more; its connection is closed. */
void http_call_cancel(struct http_call *call);

struct http_client_stats {
	uint32_t connections; /* open or being opened */
	uint32_t idle;	      /* of these */
	uint64_t opened;
};

struct http_client_stats http_client_get_stats(const struct http_client *c);

#endif
