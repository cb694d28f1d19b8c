/* JSON output (server/json_put.h). */
#include "server/json_put.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define LOGPROB_OF_NOTHING (-9999.0)

static void put_escape(struct buf *out, unsigned char c)
{
	static const char short_forms[] = "\bb\ff\nn\rr\tt\"\"\\\\";

	for (const char *p = short_forms; *p; p += 2) {
		if ((unsigned char)*p == c) {
			buf_putc(out, '\\');
			buf_putc(out, p[1]);
			return;
		}
	}
	buf_printf(out, "\\u%04x", c);
}

void json_put_string(struct buf *out, const char *s, size_t len)
{
	size_t from = 0;

	buf_putc(out, '"');
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
			continue;
		buf_append(out, s + from, i - from);
		put_escape(out, c);
		from = i + 1;
	}
	if (len > from)
		buf_append(out, s + from, len - from);
	buf_putc(out, '"');
}

void json_put_text(struct buf *out, const char *s)
{
	if (s)
		json_put_string(out, s, strlen(s));
	else
		buf_puts(out, "null");
}

void json_put_real(struct buf *out, double v)
{
	char text[40];

	snprintf(text, sizeof(text), "%.17g", v);
	buf_puts(out, text);
	if (!strpbrk(text, ".e"))
		buf_puts(out, ".0");
}

void json_put_logprob(struct buf *out, double v)
{
	json_put_real(out, isfinite(v) && v > LOGPROB_OF_NOTHING ? v : LOGPROB_OF_NOTHING);
}

void json_put_ids(struct buf *out, const int32_t *ids, size_t n)
{
	buf_putc(out, '[');
	for (size_t i = 0; i < n; i++)
		buf_printf(out, "%s%d", i ? "," : "", ids[i]);
	buf_putc(out, ']');
}
