/*
 * The parser: lines are collected whole, checked as they end, and kept in one buffer; names and
 * values are offsets into it until the head is complete and no longer moves.
 */
#include "http/message.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "http/field.h"

/* Size of a chunk, extensions and line end included. */
#define CHUNK_LINE_BYTES 256
#define METHOD_BYTES 32

enum state {
	START, /* collecting the head */
	HEAD,  /* complete, to be told */
	LENGTH,
	UNTIL_CLOSE,
	CHUNK_SIZE,
	CHUNK_DATA,
	CHUNK_END, /* the CRLF after a chunk */
	TRAILER,
	DONE,
	FAILED,
};

struct http_field_at {
	size_t name, value;
};

const char *http_header_find(const struct http_header *headers, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcasecmp(headers[i].name, name) == 0)
			return headers[i].value;
	return NULL;
}

void http_message_init(struct http_message *m, enum http_message_kind kind,
	const struct http_message_limits *limits)
{
	*m = (struct http_message){.kind = kind, .limits = *limits};
}

void http_message_deinit(struct http_message *m)
{
	buf_deinit(&m->head);
	buf_deinit(&m->line);
	buf_deinit(&m->decoded);
	free(m->fields);
	free(m->list);
	*m = (struct http_message){0};
}

bool http_message_begun(const struct http_message *m)
{
	return m->started;
}

bool http_message_ends_with_connection(const struct http_message *m)
{
	return m->state == UNTIL_CLOSE;
}

static bool refuse(struct http_message *m, unsigned error, const char *why)
{
	m->error = error;
	m->why = why;
	m->state = FAILED;
	return false;
}

/* Collects one line into b; true when complete, then without its CRLF. The line began at `begin`.
 */
static bool take_line(struct http_message *m, struct buf *b, size_t begin, size_t limit,
	const char *data, size_t len, size_t *used)
{
	const char *end = len > *used ? memchr(data + *used, '\n', len - *used) : NULL; /* data may be NULL then */
	size_t n = (end ? (size_t)(end - data) + 1 : len) - *used;
	bool over = n > limit - b->len;

	if (over)
		n = limit - b->len;
	buf_append(b, data + *used, n);
	*used += n;
	if (over && m->state != START && m->state != TRAILER)
		return refuse(m, 400,
			m->state == CHUNK_END ? "no line end after a chunk"
					      : "a chunk size line is too long");
	if (over)
		return refuse(m, 431, "the header is too long");
	if (!end)
		return false;
	if (b->len - begin < 2 || b->data[b->len - 2] != '\r')
		return refuse(m, 400, "a line ends without CR");
	b->len -= 2;
	b->data[b->len] = '\0';
	return true;
}

/* scheme://authority in front of the path; returns the path, or NULL when the form is wrong. */
static char *skip_authority(struct http_message *m, char *target)
{
	char *authority = strncasecmp(target, "http://", 7) == 0    ? target + 7
			  : strncasecmp(target, "https://", 8) == 0 ? target + 8
								    : NULL;
	size_t len;

	if (!authority)
		return NULL;
	len = strcspn(authority, "/?");
	if (!len || !http_is_host(authority, len) || authority[len] != '/')
		return NULL;
	return authority + len;
}

static bool parse_target(struct http_message *m, char *target)
{
	char *path = target;
	size_t len;

	for (const char *c = target; *c; c++)
		if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7F || *c == '#')
			return refuse(m, 400, "the request target holds a forbidden character");
	if (*path != '/' && strcmp(path, "*") != 0) {
		path = skip_authority(m, target);
		if (!path)
			return refuse(m, 400, "the request target is not a path");
	}
	len = strcspn(path, "?");
	if (!http_percent_decode(&m->decoded, path, len))
		return refuse(m, 400, "the path holds a broken or forbidden escape");
	/* The query goes behind it, so that one buffer owns both. */
	m->query_begin = m->decoded.len + 1;
	buf_putc(&m->decoded, '\0');
	buf_puts(&m->decoded, path[len] ? path + len + 1 : "");
	return true;
}

static bool is_version(const char *s)
{
	return strncmp(s, "HTTP/", 5) == 0 && s[5] >= '0' && s[5] <= '9' && s[6] == '.' &&
	       s[7] >= '0' && s[7] <= '9' && !s[8];
}

static bool parse_request_line(struct http_message *m, char *line, size_t len)
{
	char *target, *version;

	if (memchr(line, '\0', len) || !http_is_field_value(line, len))
		return refuse(m, 400, "the request line holds a control character");
	target = memchr(line, ' ', len);
	version = target ? memchr(target + 1, ' ', len - (size_t)(target + 1 - line)) : NULL;
	if (!version)
		return refuse(m, 400, "the request line is not METHOD TARGET VERSION");
	*target++ = '\0';
	*version++ = '\0';
	if (strlen(line) > METHOD_BYTES || !http_is_token(line, strlen(line)))
		return refuse(m, 400, "the method is not a token");
	if (!is_version(version))
		return refuse(m, 400, "the request line does not end with an HTTP version");
	m->http10 = strcmp(version, "HTTP/1.0") == 0;
	if (!m->http10 && strcmp(version, "HTTP/1.1") != 0)
		return refuse(m, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
	if (!*target)
		return refuse(m, 400, "the request target is empty");
	if (*target == '*' && strcmp(line, "OPTIONS") != 0)
		return refuse(m, 400, "only OPTIONS may have the target *");
	return parse_target(m, target);
}

static bool parse_status_line(struct http_message *m, const char *line, size_t len)
{
	uint64_t status;

	if (memchr(line, '\0', len) || !http_is_field_value(line, len) || len < 12 ||
		(strncmp(line, "HTTP/1.1 ", 9) != 0 && strncmp(line, "HTTP/1.0 ", 9) != 0) ||
		!http_parse_decimal(line + 9, 3, &status) || status < 100 ||
		(len > 12 && line[12] != ' '))
		return refuse(m, 502, "the status line is not one of HTTP/1");
	m->status = (unsigned)status;
	m->close = line[7] == '0';
	return true;
}

/* NAME ":" OWS value OWS, in place: returns the value, terminates both. */
static char *split_field(struct http_message *m, char *line, size_t len)
{
	char *colon = memchr(line, ':', len), *value, *end = line + len;

	if (*line == ' ' || *line == '\t') {
		refuse(m, 400, "a header line is folded or begins with space");
		return NULL;
	}
	if (!colon || !http_is_token(line, (size_t)(colon - line))) {
		refuse(m, 400, "a header line has no valid name");
		return NULL;
	}
	value = colon + 1;
	while (value < end && (*value == ' ' || *value == '\t'))
		value++;
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	if (!http_is_field_value(value, (size_t)(end - value))) {
		refuse(m, 400, "a header value holds a control character");
		return NULL;
	}
	*colon = '\0';
	*end = '\0';
	return value;
}

static bool note_length(struct http_message *m, const char *value)
{
	if (m->has_length)
		return refuse(m, 400, "more than one Content-Length");
	if (!http_parse_decimal(value, strlen(value), &m->length))
		return refuse(m, 400, "Content-Length is not a number");
	m->has_length = true;
	return true;
}

static bool note_encoding(struct http_message *m, const char *value)
{
	if (m->has_encoding)
		return refuse(m, 400, "more than one Transfer-Encoding");
	if (strcasecmp(value, "chunked") != 0)
		return refuse(m, 501, "a Transfer-Encoding other than chunked");
	m->has_encoding = m->chunked = true;
	return true;
}

/* The fields that the transport itself obeys. */
static bool note_field(struct http_message *m, const char *name, const char *value)
{
	if (strcasecmp(name, "Content-Length") == 0)
		return note_length(m, value);
	if (strcasecmp(name, "Transfer-Encoding") == 0)
		return note_encoding(m, value);
	if (strcasecmp(name, "Connection") == 0) {
		m->close |= http_list_has(value, "close");
		m->keep |= http_list_has(value, "keep-alive");
		return true;
	}
	if (m->kind != HTTP_REQUEST)
		return true;
	if (strcasecmp(name, "Host") == 0) {
		if (m->has_host)
			return refuse(m, 400, "more than one Host");
		if (!http_is_host(value, strlen(value)))
			return refuse(m, 400, "Host is not a host");
		m->has_host = true;
	} else if (strcasecmp(name, "Expect") == 0) {
		if (strcasecmp(value, "100-continue") != 0)
			return refuse(m, 417, "an expectation other than 100-continue");
		m->expect_continue = true;
	}
	return true;
}

static bool parse_field(struct http_message *m, size_t begin)
{
	char *line = m->head.data + begin;
	char *value = split_field(m, line, m->head.len - begin);

	if (!value)
		return false;
	if (m->n_fields == m->limits.head_fields)
		return refuse(m, 431, "too many header lines");
	m->fields = mem_grow(m->fields, &m->fields_cap, m->n_fields + 1, sizeof(*m->fields));
	m->fields[m->n_fields++] = (struct http_field_at){
		.name = begin,
		.value = (size_t)(value - m->head.data),
	};
	return note_field(m, line, value);
}

/* The authority of an absolute target must be the Host, or two readers could see two hosts. */
static bool same_host(const struct http_message *m)
{
	const char *host = http_header_find(m->headers, m->n_headers, "Host");
	const char *authority = strstr(m->target, "://");
	size_t len;

	if (m->target[0] == '/' || m->target[0] == '*' || !authority || !host)
		return true;
	authority += 3;
	len = strcspn(authority, "/");
	return strlen(host) == len && strncasecmp(host, authority, len) == 0;
}

static bool end_head(struct http_message *m)
{
	m->list = mem_alloc((m->n_fields + 1) * sizeof(*m->list));
	for (size_t i = 0; i < m->n_fields; i++)
		m->list[i] = (struct http_header){
			.name = m->head.data + m->fields[i].name,
			.value = m->head.data + m->fields[i].value,
		};
	m->headers = m->list;
	m->n_headers = m->n_fields;
	if (m->has_length && m->chunked)
		return refuse(m, 400, "Content-Length and Transfer-Encoding together");
	if (m->kind == HTTP_REQUEST) {
		m->method = m->head.data;
		m->target = m->method + strlen(m->method) + 1;
		m->path = m->decoded.data;
		m->query = m->decoded.data + m->query_begin;
		if (!m->has_host && !m->http10)
			return refuse(m, 400, "no Host");
		if (m->http10 && m->chunked)
			return refuse(m, 400, "Transfer-Encoding in HTTP/1.0");
		m->close |= m->http10 && !m->keep;
		m->expect_continue &= !m->http10;
		if (!same_host(m))
			return refuse(m, 400, "Host and the request target differ");
	} else {
		m->no_body |= m->status < 200 || m->status == 204 || m->status == 304;
		m->until_close = !m->no_body && !m->chunked && !m->has_length;
		m->close |= m->until_close;
	}
	m->left = m->has_length ? m->length : 0;
	m->state = HEAD;
	return true;
}

/* One line of the head; the first is the start line. */
static bool head_line(struct http_message *m)
{
	size_t begin = m->line_begin, len = m->head.len - begin;
	bool first = begin == 0;

	/* One empty line before a request is some clients' habit after a body. */
	if (first && len == 0) {
		if (m->started || m->kind != HTTP_REQUEST)
			return refuse(m, 400, "an empty line instead of a start line");
		m->started = true;
		return true;
	}
	m->started = true;
	if (first) {
		bool ok = m->kind == HTTP_REQUEST ? parse_request_line(m, m->head.data, len)
						  : parse_status_line(m, m->head.data, len);

		if (!ok)
			return false;
	} else if (len == 0) {
		return end_head(m);
	} else if (!parse_field(m, begin)) {
		return false;
	}
	/* The place of the CRLF keeps the terminator, and so the count of bytes true. */
	buf_append(&m->head, "\0", 2);
	m->line_begin = m->head.len;
	return true;
}

static bool chunk_size_line(struct http_message *m)
{
	size_t len = m->line.len, digits = len;
	const char *semicolon = memchr(m->line.data, ';', len);

	if (semicolon) {
		digits = (size_t)(semicolon - m->line.data);
		while (digits &&
			(m->line.data[digits - 1] == ' ' || m->line.data[digits - 1] == '\t'))
			digits--;
	}
	if (!http_is_field_value(m->line.data, len) ||
		!http_parse_hex(m->line.data, digits, &m->left))
		return refuse(m, 400, "a chunk has no valid size");
	if (m->max_body_bytes && m->left > m->max_body_bytes - m->chunked_bytes)
		return refuse(m, 413, "the body is too long");
	if (m->max_body_bytes)
		m->chunked_bytes += m->left;
	m->state = m->left ? CHUNK_DATA : TRAILER;
	buf_reset(&m->line);
	return true;
}

/* Trailers are checked like headers, then forgotten. */
static bool trailer_line(struct http_message *m)
{
	if (m->line.len == 0) {
		m->state = DONE;
		return true;
	}
	if (m->n_trailers++ == m->limits.head_fields)
		return refuse(m, 431, "too many trailer lines");
	m->trailer_bytes += m->line.len + 2;
	if (!split_field(m, m->line.data, m->line.len))
		return false;
	buf_reset(&m->line);
	return true;
}

static enum http_parse body_piece(
	struct http_message *m, const char *data, size_t len, size_t *used)
{
	size_t n = len - *used;

	if (!n)
		return HTTP_PARSE_MORE;
	if (m->state != UNTIL_CLOSE && n > m->left)
		n = (size_t)m->left;
	m->piece = data + *used;
	m->piece_bytes = n;
	*used += n;
	if (m->state != UNTIL_CLOSE) {
		m->left -= n;
		if (!m->left)
			m->state = m->state == LENGTH ? DONE : CHUNK_END;
	}
	return HTTP_PARSE_BODY;
}

static void after_head(struct http_message *m)
{
	if (m->kind == HTTP_RESPONSE && m->no_body)
		m->state = DONE;
	else if (m->chunked)
		m->state = CHUNK_SIZE;
	else if (m->until_close)
		m->state = UNTIL_CLOSE;
	else
		m->state = m->left ? LENGTH : DONE;
}

enum http_parse http_message_step(
	struct http_message *m, const char *data, size_t len, size_t *used)
{
	size_t limit;

	*used = 0;
	for (;;) {
		switch ((enum state)m->state) {
		case START:
			if (!take_line(m, &m->head, m->line_begin, m->limits.head_bytes, data, len,
				    used))
				goto stopped;
			head_line(m);
			break;
		case HEAD:
			after_head(m);
			return HTTP_PARSE_HEAD;
		case LENGTH:
		case UNTIL_CLOSE:
		case CHUNK_DATA:
			return body_piece(m, data, len, used);
		case CHUNK_SIZE:
			if (!take_line(m, &m->line, 0, CHUNK_LINE_BYTES, data, len, used))
				goto stopped;
			chunk_size_line(m);
			break;
		case CHUNK_END:
			if (!take_line(m, &m->line, 0, 2, data, len, used))
				goto stopped;
			m->state = CHUNK_SIZE;
			break;
		case TRAILER:
			limit = m->limits.head_bytes - m->trailer_bytes;
			if (!take_line(m, &m->line, 0, limit, data, len, used))
				goto stopped;
			trailer_line(m);
			break;
		case DONE:
			return HTTP_PARSE_DONE;
		case FAILED:
			return HTTP_PARSE_ERROR;
		}
	}
stopped:
	return m->state == FAILED ? HTTP_PARSE_ERROR : HTTP_PARSE_MORE;
}
