/*
 * One HTTP/1 message, parsed as its bytes come: requests for the server, responses for the
 * client.
 *
 *   http_message_init(&m, HTTP_REQUEST, &limits);
 *   switch (http_message_step(&m, data, len, &used)) ...     again with data + used
 *
 * Strict, because every leniency is somebody's way to smuggle a request: lines end with CRLF, no
 * bare CR or LF, no NUL or other control character, no folded lines, no space before a colon,
 * exactly one valid Host, at most one Content-Length (digits alone), never beside
 * Transfer-Encoding, which is "chunked" and nothing else. A request of HTTP/1.0 may come without a
 * Host, and not in chunks. What a parser has seen does not depend on how its bytes were cut.
 */
#ifndef HTTP_MESSAGE_H
#define HTTP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct http_header {
	const char *name, *value;
};

/* The first field of that name, whatever its case; NULL when there is none. */
const char *http_header_find(const struct http_header *headers, size_t n, const char *name);

enum http_message_kind {
	HTTP_REQUEST,
	HTTP_RESPONSE,
};

struct http_message_limits {
	size_t head_bytes; /* start line and fields, line ends included; trailers again as much */
	uint32_t head_fields; /* trailers again as many */
};

enum http_parse {
	HTTP_PARSE_MORE,  /* all bytes used */
	HTTP_PARSE_HEAD,  /* the head is complete; once */
	HTTP_PARSE_BODY,  /* piece, piece_bytes: body bytes, inside data */
	HTTP_PARSE_DONE,  /* complete; the bytes after `used` are the next message's */
	HTTP_PARSE_ERROR, /* error, why; the connection cannot go on */
};

struct http_message {
	/* From HTTP_PARSE_HEAD on, until deinit. Strings hold no control characters but tabs. */
	const char *method;
	const char *target; /* as sent */
	const char *path;   /* percent-decoded, begins with '/' or is "*"; not normalized */
	const char *query;  /* as sent, without the '?'; "" when there is none */
	unsigned status;    /* of a response */
	const struct http_header *headers; /* values without space around them */
	size_t n_headers;
	bool chunked;
	bool until_close; /* response: the body ends with the connection */
	bool has_length;
	uint64_t length;
	bool http10; /* request: of HTTP/1.0, so the answer must not be chunked */
	bool close; /* the peer wants the connection closed after this message */
	bool expect_continue;

	const char *piece;
	size_t piece_bytes;

	unsigned error; /* HTTP status that says what is wrong */
	const char *why;

	/* Set before the head comes: this response answers HEAD and has no body. */
	bool no_body;
	/* Set before the head comes: a chunk that makes the body longer is refused by its size. 0: no limit. */
	uint64_t max_body_bytes;

	/* The parser's own. */
	enum http_message_kind kind;
	struct http_message_limits limits;
	unsigned state;
	struct buf head, line, decoded;
	struct http_field_at *fields;
	struct http_header *list;
	size_t fields_cap, n_fields;
	size_t line_begin, query_begin, trailer_bytes, n_trailers;
	uint64_t left, chunked_bytes;
	bool keep;
	bool has_host, has_encoding, started;
};

void http_message_init(struct http_message *m, enum http_message_kind kind,
	const struct http_message_limits *limits);
void http_message_deinit(struct http_message *m);
enum http_parse http_message_step(
	struct http_message *m, const char *data, size_t len, size_t *used);
/* The connection ended: whether the message is complete by that (until_close). */
bool http_message_ends_with_connection(const struct http_message *m);
bool http_message_begun(const struct http_message *m);

#endif
