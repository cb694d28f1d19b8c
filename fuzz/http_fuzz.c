/*
 * Any bytes as a connection's requests, and as a server's answers: what the parser sees is the same
 * wherever the bytes are cut, and what it lets through holds what message.h promises.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http/field.h"
#include "http/message.h"
#include "http/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http_message_limits limits = {.head_bytes = 2000, .head_fields = 20};

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void require_text(const char *s)
{
	require(http_is_field_value(s, strlen(s)));
}

static void check_head(const struct http_message *m, struct buf *seen)
{
	size_t hosts = 0, lengths = 0, encodings = 0;

	require(m->n_headers <= limits.head_fields);
	for (size_t i = 0; i < m->n_headers; i++) {
		const char *name = m->headers[i].name, *value = m->headers[i].value;

		require(http_is_token(name, strlen(name)));
		require_text(value);
		require(!strchr(" \t", value[0]) || !value[0]);
		hosts += strcasecmp(name, "host") == 0;
		lengths += strcasecmp(name, "content-length") == 0;
		encodings += strcasecmp(name, "transfer-encoding") == 0;
		buf_printf(seen, "%s:%s\n", name, value);
	}
	require(lengths + encodings <= 1);
	require(m->has_length == (lengths == 1) && m->chunked == (encodings == 1));
	if (m->kind == HTTP_REQUEST) {
		require(hosts == 1 || (hosts == 0 && m->http10));
		require(!m->http10 || !(m->chunked || m->expect_continue));
		require(m->path[0] == '/' || strcmp(m->path, "*") == 0);
		require_text(m->method);
		require_text(m->target);
		require_text(m->path);
		require_text(m->query);
		buf_printf(seen, "%s %s %s %s\n", m->method, m->target, m->path, m->query);
	} else {
		require(m->status >= 100 && m->status <= 999);
		buf_printf(seen, "%u\n", m->status);
	}
}

/* What the parser saw of it all, cut into pieces of `step` bytes, as one text. */
static void parse(const uint8_t *data, size_t size, size_t step, enum http_message_kind kind,
	struct buf *seen)
{
	struct http_message m;
	size_t at = 0, end = step < size ? step : size;

	http_message_init(&m, kind, &limits);
	for (;;) {
		size_t used, len = end - at;
		enum http_parse r = http_message_step(&m, (const char *)data + at, len, &used);

		require(used <= len);
		require(m.head.len <= limits.head_bytes && m.line.len <= limits.head_bytes);
		at += used;
		if (r == HTTP_PARSE_HEAD) {
			check_head(&m, seen);
		} else if (r == HTTP_PARSE_BODY) {
			require(m.piece_bytes && m.piece_bytes <= used);
			buf_append(seen, m.piece, m.piece_bytes);
		} else if (r == HTTP_PARSE_DONE) {
			buf_puts(seen, "\ndone\n");
			http_message_deinit(&m);
			http_message_init(&m, kind, &limits);
			if (at == size)
				break;
		} else if (r == HTTP_PARSE_ERROR) {
			require(m.error >= 400 && m.error <= 505 && m.why);
			buf_printf(seen, "\nerror %u %s\n", m.error, m.why);
			break;
		} else {
			require(used == len);
			if (end == size)
				break;
			end = size - end > step ? end + step : size;
		}
	}
	http_message_deinit(&m);
}

static void put_event(void *arg, const char *event, const char *data, size_t len)
{
	buf_printf(arg, "%s=", event);
	buf_append(arg, data, len);
	buf_putc(arg, '\n');
}

static void parse_events(const uint8_t *data, size_t size, size_t step, struct buf *seen)
{
	struct sse_parser p;
	struct error err;

	sse_parser_init(&p, 1u << 20);
	for (size_t at = 0; at < size; at += step)
		require(sse_parser_feed(&p, (const char *)data + at, size - at < step ? size - at : step,
				put_event, seen, &err) == OK);
	sse_parser_deinit(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t steps[] = {1, 3, 64};

	if (!size)
		return 0;
	for (int what = 0; what < 3; what++) {
		struct buf whole = {0}, cut = {0};

		for (size_t i = 0; i < 4; i++) {
			size_t step = i ? steps[i - 1] : size;
			struct buf *seen = i ? &cut : &whole;

			buf_reset(seen);
			if (what < 2)
				parse(data, size, step, what ? HTTP_RESPONSE : HTTP_REQUEST, seen);
			else if (size < 1u << 20)
				parse_events(data, size, step, seen);
			require(seen == &whole || (cut.len == whole.len &&
							  (!cut.len || !memcmp(cut.data, whole.data, cut.len))));
		}
		buf_deinit(&whole);
		buf_deinit(&cut);
	}
	return 0;
}
