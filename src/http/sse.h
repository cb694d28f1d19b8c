/*
 * Server-sent events: answers as a stream of events, and the parser of such a stream.
 *
 *   sse_begin(request, headers, n);
 *   sse_send(request, NULL, json, len);          data: {...}\n\n      one send for each event
 *   sse_comment(request, "working");             : working\n\n        keeps idle connections open
 *   http_stream_end(request);
 */
#ifndef HTTP_SSE_H
#define HTTP_SSE_H

#include "base/buf.h"
#include "http/server.h"

#define SSE_CONTENT_TYPE "text/event-stream; charset=utf-8"

/* Status 200 with the content type of events and Cache-Control: no-cache in front of these headers.
 */
void sse_begin(struct http_request *r, const struct http_header *headers, size_t n_headers);
/* event: name without line ends, or NULL. Lines of the data become lines of the event. */
void sse_send(struct http_request *r, const char *event, const char *data, size_t len);
void sse_comment(struct http_request *r, const char *text);

/* The frames themselves, appended. */
void sse_put(struct buf *out, const char *event, const char *data, size_t len);
void sse_put_comment(struct buf *out, const char *text);

/* An event as it came: name ("" when it had none), data (lines joined with \n), both
 * NUL-terminated. */
typedef void sse_event_fn(void *arg, const char *event, const char *data, size_t len);

struct sse_parser {
	struct buf line, event, data;
	size_t max_bytes; /* of one event */
	bool has_data, after_cr, begun;
};

void sse_parser_init(struct sse_parser *p, size_t max_bytes);
void sse_parser_deinit(struct sse_parser *p);
/* Calls fn for each event that ends in these bytes; E_LIMIT when one is too long. */
enum status sse_parser_feed(struct sse_parser *p, const char *data, size_t len, sse_event_fn *fn,
	void *arg, struct error *err);

#endif
