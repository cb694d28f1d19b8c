/*
 * Log lines (base/log.h). A line is built on the stack and written at once: no lock, no heap, no
 * stdio stream, whose buffer a signal or a fork could catch half full.
 *
 * Time is counted from the start of the program, by the monotonic clock.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

static const char *const level_names[LOG_LEVEL_COUNT] = {"error", "warn", "info", "debug", "trace"};

atomic_int log_level_now = LOG_LEVEL_INFO;
static uint64_t begin_ns;

__attribute__((constructor)) static void log_begin(void)
{
	begin_ns = clock_ns();
}

const char *log_level_name(enum log_level level)
{
	return level_names[level];
}

enum log_level log_level_parse(const char *name)
{
	int i;

	for (i = 0; i < LOG_LEVEL_COUNT; i++)
		if (!strcmp(name, level_names[i]))
			break;
	return (enum log_level)i;
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&log_level_now, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
	return (enum log_level)atomic_load_explicit(&log_level_now, memory_order_relaxed);
}

struct line {
	char text[LOG_LINE_BYTES];
	size_t len; /* below LOG_LINE_BYTES: room for the newline */
};

static void line_puts(struct line *l, const char *s)
{
	while (*s && l->len < LOG_LINE_BYTES - 1)
		l->text[l->len++] = *s++;
}

/* Decimal digits, padded on the left to `width`. By hand, because printf may not run in a signal
 * handler. */
static void line_number(struct line *l, uint64_t n, int width, char pad)
{
	char digits[24];
	int i = (int)sizeof(digits) - 1;

	digits[i] = 0;
	do {
		digits[--i] = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	while ((int)sizeof(digits) - 1 - i < width && i > 0)
		digits[--i] = pad;
	line_puts(l, digits + i);
}

/* "[    1.204] info engine: " */
static void line_begin(struct line *l, enum log_level level, const char *category)
{
	uint64_t ms = (clock_ns() - begin_ns) / 1000000;

	l->len = 0;
	line_puts(l, "[");
	line_number(l, ms / 1000, 5, ' ');
	line_puts(l, ".");
	line_number(l, ms % 1000, 3, '0');
	line_puts(l, "] ");
	line_puts(l, level_names[level]);
	line_puts(l, " ");
	line_puts(l, category);
	line_puts(l, ": ");
}

static void line_write(struct line *l)
{
	ssize_t n;

	for (size_t i = 0; i < l->len; i++)
		if ((unsigned char)l->text[i] < 0x20 || l->text[i] == 0x7F)
			l->text[i] = '?';
	l->text[l->len++] = '\n';
	do
		n = write(STDERR_FILENO, l->text, l->len);
	while (n < 0 && errno == EINTR);
}

void log_text(enum log_level level, const char *category, const char *text)
{
	int saved = errno;
	struct line l;

	if (!log_on(level))
		return;
	line_begin(&l, level, category);
	line_puts(&l, text);
	line_write(&l);
	errno = saved;
}

void log_write(enum log_level level, const char *category, const char *fmt, ...)
{
	int saved = errno, n;
	struct line l;
	size_t room;
	va_list ap;

	line_begin(&l, level, category);
	room = LOG_LINE_BYTES - 1 - l.len;
	errno = saved; /* for %m */
	va_start(ap, fmt);
	n = vsnprintf(l.text + l.len, room + 1, fmt, ap);
	va_end(ap);
	if (n < 0) {
		line_puts(&l, fmt);
	} else if ((size_t)n <= room) {
		l.len += (size_t)n;
	} else {
		l.len += room;
		memcpy(l.text + l.len - 3, "...", 3);
	}
	line_write(&l);
	errno = saved;
}
