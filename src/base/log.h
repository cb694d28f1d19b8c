/*
 * Log lines on stderr: one level for the process, a category per module.
 *
 *   log_info("engine", "context %u blocks %u", context, blocks);
 *   [    1.204] info engine: context 8192 blocks 128
 *
 * Grammar of a message: lower case, `key value` pairs, the cause and not a guess; no newline, no
 * full stop. Errors that a caller can report go through struct error instead.
 *
 * A line leaves in one write(), so lines of several threads do not mix; control characters become
 * '?' and what exceeds LOG_LINE_BYTES is cut and ends with "...". A message below the level costs
 * one load: its arguments are not evaluated. Any thread may log at any time; a signal handler only
 * through log_text(). errno is kept.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>

#define LOG_LINE_BYTES 1024 /* with prefix and newline; at most PIPE_BUF, which pipes take whole   \
			     */

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO, /* the default */
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_TRACE, /* the only level that the step path may use */
	LOG_LEVEL_COUNT,
};

/* The names for an option's table of choices. */
#define LOG_LEVEL_CHOICES "error|warn|info|debug|trace"

const char *log_level_name(enum log_level level);
/* LOG_LEVEL_COUNT when no level has this name. */
enum log_level log_level_parse(const char *name);

void log_set_level(enum log_level level);
enum log_level log_get_level(void);

extern atomic_int log_level_now; /* read by log_on() alone */

static inline bool log_on(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&log_level_now, memory_order_relaxed);
}

/* Writes whatever the level is; the macros below ask first. */
void log_write(enum log_level level, const char *category, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* A fixed text, if its level is on. Safe in a signal handler. */
void log_text(enum log_level level, const char *category, const char *text);

#define LOG_AT(level, ...)                                                                         \
	do {                                                                                       \
		if (log_on(level))                                                                 \
			log_write(level, __VA_ARGS__);                                             \
	} while (0)

/* (category, format, ...) */
#define log_error(...) LOG_AT(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) LOG_AT(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) LOG_AT(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) LOG_AT(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_trace(...) LOG_AT(LOG_LEVEL_TRACE, __VA_ARGS__)

#endif
