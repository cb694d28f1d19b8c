/* Event framing, both ways. The parser takes CR, LF and CRLF, as the standard says. */
#include "http/sse.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static size_t line_length(const char *data, size_t len)
{
	size_t n = 0;

	while (n < len && data[n] != '\n' && data[n] != '\r')
		n++;
	return n;
}

void sse_put(struct buf *out, const char *event, const char *data, size_t len)
{
	if (event) {
		buf_puts(out, "event: ");
		buf_append(out, event, line_length(event, strlen(event)));
		buf_putc(out, '\n');
	}
	for (;;) {
		/* One long line, as a rule. */
		bool one = !memchr(data, '\n', len) && !memchr(data, '\r', len);
		size_t n = one ? len : line_length(data, len);

		buf_puts(out, "data: ");
		buf_append(out, data, n);
		buf_putc(out, '\n');
		if (n == len)
			break;
		n += data[n] == '\r' && n + 1 < len && data[n + 1] == '\n' ? 2 : 1;
		data += n;
		len -= n;
	}
	buf_putc(out, '\n');
}

void sse_put_comment(struct buf *out, const char *text)
{
	buf_puts(out, ": ");
	buf_append(out, text, line_length(text, strlen(text)));
	buf_puts(out, "\n\n");
}

void sse_begin(struct http_request *r, const struct http_header *headers, size_t n_headers)
{
	struct http_header *all = mem_alloc((n_headers + 2) * sizeof(*all));

	all[0] = (struct http_header){"Content-Type", SSE_CONTENT_TYPE};
	all[1] = (struct http_header){"Cache-Control", "no-cache"};
	if (n_headers)
		memcpy(all + 2, headers, n_headers * sizeof(*all));
	http_stream_begin(r, 200, all, n_headers + 2);
	free(all);
}

void sse_send(struct http_request *r, const char *event, const char *data, size_t len)
{
	struct buf *chunk = http_stream_chunk(r);

	if (!chunk)
		return;
	sse_put(chunk, event, data, len);
	http_stream_send(r, chunk);
}

void sse_comment(struct http_request *r, const char *text)
{
	struct buf *chunk = http_stream_chunk(r);

	if (!chunk)
		return;
	sse_put_comment(chunk, text);
	http_stream_send(r, chunk);
}

void sse_parser_init(struct sse_parser *p, size_t max_bytes)
{
	*p = (struct sse_parser){.max_bytes = max_bytes};
}

void sse_parser_deinit(struct sse_parser *p)
{
	buf_deinit(&p->line);
	buf_deinit(&p->event);
	buf_deinit(&p->data);
}

static bool is_field(const struct buf *line, size_t name, const char *want)
{
	return name == strlen(want) && memcmp(line->data, want, name) == 0;
}

static void end_event(struct sse_parser *p, sse_event_fn *fn, void *arg)
{
	if (p->has_data)
		fn(arg, p->event.data ? p->event.data : "", p->data.data ? p->data.data : "",
			p->data.len);
	p->has_data = false;
	buf_reset(&p->event);
	buf_reset(&p->data);
}

static void end_line(struct sse_parser *p, sse_event_fn *fn, void *arg)
{
	struct buf *line = &p->line;
	const char *colon, *value;
	size_t name;

	if (!line->len) {
		end_event(p, fn, arg);
		return;
	}
	colon = memchr(line->data, ':', line->len);
	name = colon ? (size_t)(colon - line->data) : line->len;
	value = line->data + name + (colon != NULL);
	value += colon && *value == ' ';
	if (is_field(line, name, "data")) {
		if (p->has_data)
			buf_putc(&p->data, '\n');
		buf_append(&p->data, value, (size_t)(line->data + line->len - value));
		p->has_data = true;
	} else if (is_field(line, name, "event")) {
		buf_reset(&p->event);
		buf_append(&p->event, value, (size_t)(line->data + line->len - value));
	}
	buf_reset(line);
}

enum status sse_parser_feed(struct sse_parser *p, const char *data, size_t len, sse_event_fn *fn,
	void *arg, struct error *err)
{
	while (len) {
		size_t n;

		if (p->after_cr && *data == '\n') {
			data++;
			len--;
		}
		p->after_cr = false;
		n = line_length(data, len);
		if (n > p->max_bytes || p->line.len + p->data.len + n > p->max_bytes)
			return error_set(
				err, E_LIMIT, "an event of more than %zu bytes", p->max_bytes);
		buf_append(&p->line, data, n);
		if (n == len)
			break;
		p->after_cr = data[n] == '\r';
		/* A byte order mark may stand before the first line. */
		if (!p->begun && p->line.len >= 3 && memcmp(p->line.data, "\xEF\xBB\xBF", 3) == 0) {
			memmove(p->line.data, p->line.data + 3, p->line.len - 3);
			p->line.len -= 3;
			p->line.data[p->line.len] = '\0';
		}
		p->begun = true;
		end_line(p, fn, arg);
		data += n + 1;
		len -= n + 1;
	}
	return OK;
}
