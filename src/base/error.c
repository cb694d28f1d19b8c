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

enum status error_set(struct error *err, enum status code, const char *fmt, ...)
{
	char *text;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	put(err, n < 0 ? fmt : text);
	if (n >= 0)
		free(text);
	err->code = code;
	return code;
}

enum status error_prefix(struct error *err, const char *fmt, ...)
{
	char *prefix, *text;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&prefix, fmt, ap);
	va_end(ap);
	if (n < 0)
		return err->code;
	if (asprintf(&text, "%s: %s", prefix, err->msg) >= 0) {
		put(err, text);
		free(text);
	}
	free(prefix);
	return err->code;
}

void bug_abort(const char *file, int line, const char *cond)
{
	fprintf(stderr, "fathom: bug: %s:%d: %s\n", file, line, cond);
	abort();
}
