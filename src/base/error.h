/*
 * Status codes and the error that goes with them.
 *
 * A function that can fail for a reason somebody will read returns `enum status` and takes a
 * `struct error *err` as its last argument. The first detector writes the message with error_set();
 * every caller forwards it with TRY. Outputs are set on success only. `err` is never NULL.
 *
 * A message is one line without a trailing newline or full stop. It names the file, tensor, field
 * or flag, what was found and what was expected.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

enum status {
	OK = 0,
	E_INVAL = -1,       /* the caller or user asked for something that makes no sense */
	E_FORMAT = -2,      /* the content of a file or message is wrong */
	E_UNSUPPORTED = -3, /* valid, but not something fathom does */
	E_IO = -4,          /* the operating system refused: open, read, map */
	E_NOMEM = -5,       /* memory, or a budget computed from it, is exhausted */
	E_LIMIT = -6,       /* a stated limit (context, depth, size, steps) was reached */
	E_PEER = -7,        /* another process or host failed */
	E_INTERNAL = -8,    /* a bug in fathom */
};

struct error {
	enum status code;
	char msg[400];
};

/* Writes code and message, which loses its middle where it does not fit; returns code, so that
 * `return error_set(...)` works. */
enum status error_set(struct error *err, enum status code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "PREFIX: " in front of the message, for callers that know the file when the callee did not. */
enum status error_prefix(struct error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Forwards a failure to the caller. */
#define TRY(expr)                                                                                  \
	do {                                                                                       \
		enum status try_status_ = (expr);                                                  \
		if (try_status_ != OK)                                                             \
			return try_status_;                                                        \
	} while (0)

/* Forwards a failure through a cleanup ladder: needs `enum status st` and a label in scope. */
#define TRY_GOTO(label, expr)                                                                      \
	do {                                                                                       \
		st = (expr);                                                                       \
		if (st != OK)                                                                      \
			goto label;                                                                \
	} while (0)

/* A broken promise between modules; stays on in release builds. Aborts with file, line and text. */
#define BUG_ON(cond)                                                                               \
	do {                                                                                       \
		if (__builtin_expect(!!(cond), 0))                                                 \
			bug_abort(__FILE__, __LINE__, #cond);                                      \
	} while (0)

void bug_abort(const char *file, int line, const char *cond) __attribute__((noreturn, cold));

#endif
