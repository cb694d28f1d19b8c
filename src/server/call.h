/*
 * One HTTP request on its way through the server: adds the headers that every answer has, writes the access
 * log and counts. Answered exactly once; the call is gone afterwards.
 */
#ifndef SERVER_CALL_H
#define SERVER_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "http/server.h"
#include "server/refusal.h"

#define CALL_MAX_ID 128
#define CALL_RANDOM_ID 33 /* bytes, NUL included */

void call_random_id(char *out);

struct serving;

/* Whose shapes errors and streams have. */
enum call_api {
	CALL_OPENAI,
	CALL_ANTHROPIC,
	CALL_RESPONSES, /* OpenAI's, where events have names */
};

struct call {
	struct serving *s;
	struct http_request *r;
	const char *route, *method; /* for metrics, static: of the table of routes, or "none" and "OTHER" */
	uint64_t began_ns;
	bool streaming;
	enum call_api api;
	uint64_t sent_bytes; /* of the body, framing aside */
	char id[CALL_MAX_ID + 1]; /* X-Request-Id, when it is printable and short enough; otherwise random */
};

struct call *call_create(struct serving *s, struct http_request *r);

/* status 200 and JSON; `body` is emptied. */
void call_json(struct call *c, struct buf *body);
void call_body(struct call *c, unsigned status, const char *content_type, const void *body, size_t len);
/* With the headers of this answer alone, at most eight. */
void call_headers(struct call *c, unsigned status, const struct http_header *headers, size_t n,
	const void *body, size_t len);
void call_refuse(struct call *c, const struct refusal *no);
void call_unauthorized(struct call *c);
/* Whether a browser may have been sent here by a page that the options do not allow. */
bool call_is_foreign(const struct call *c);
/* Answer to a preflight of another origin. */
void call_preflight(struct call *c);

void call_stream_begin(struct call *c);
void call_stream_event(struct call *c, const struct buf *json);
/* With a name of its own. */
void call_stream_named(struct call *c, const char *event, const struct buf *json);
/* As the last event but the end. */
void call_stream_error(struct call *c, const struct refusal *no);
void call_stream_comment(struct call *c);
void call_stream_end(struct call *c); /* where events have no names, with data: [DONE] */
/* The peer is gone. */
void call_drop(struct call *c);

#endif
