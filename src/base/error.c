/* Error messages: formatted once where they are detected, forwarded unchanged. */
#include "base/error.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_inside_char(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80; /* UTF-8 */
}

/* A text that does not fit loses its middle: it begins with what it is about and ends with what is wrong. */
static void put(struct error *err, const char *text)
{
	static const char gap[] = "[...]";
	size_t len = strlen(text), room = sizeof(err->msg) - sizeof(gap), head = room / 2, tail = len - (room - head);

	if (len < sizeof(err->msg)) {
		memcpy(err->msg, text, len + 1);
		return;
	}
	while (head > 0 && is_inside_char(text[head]))
		head--;
	while (is_inside_char(text[tail]))
		tail++;
	snprintf(err->msg, sizeof(err->msg), "%.*s%s%s", (int)head, text, gap, text + tail);
}

/* Memory is asked for only by what is longer than a path with what is said of it. */
static void put_format(struct error *err, const char *fmt, va_list ap)
{
	char text[4608], *whole = NULL;
	va_list again;

	va_copy(again, ap);
	if (vsnprintf(text, sizeof(text), fmt, ap) >= (int)sizeof(text) && vasprintf(&whole, fmt, again) < 0)
		whole = NULL;
	va_end(again);
	put(err, whole ? whole : text);
	free(whole);
}

enum status error_set(struct error *err, enum status code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_format(err, fmt, ap);
	va_end(ap);
	err->code = code;
	return code;
}

enum status error_prefix(struct error *err, const char *fmt, ...)
{
	struct error prefix;
	char text[2 * sizeof(err->msg) + 2];
	va_list ap;

	va_start(ap, fmt);
	put_format(&prefix, fmt, ap);
	va_end(ap);
	snprintf(text, sizeof(text), "%s: %s", prefix.msg, err->msg);
	put(err, text);
	return err->code;
}

void bug_abort(const char *file, int line, const char *cond)
{
	fprintf(stderr, "fathom: bug: %s:%d: %s\n", file, line, cond);
	abort();
}
