/*
 * What every subcommand shares: the table row, exit codes, standard output.
 *
 * A command is a function that takes the words after its name and returns the process's exit code.
 * It prints results through struct out only, so nothing reaches stdout before the work succeeded
 * (streaming commands flush on purpose), and reports failure as one line on stderr.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/opt.h"

enum cli_exit {
	CLI_OK = 0,
	CLI_FAIL = 1,  /* the work failed, or verify exceeded its limit */
	CLI_USAGE = 2, /* the command line makes no sense */
};

struct cli_command {
	const char *name; /* "run", "bench model" */
	const struct opt_table *table;
	int (*run)(int argc, char **argv);
};

extern const struct cli_command cli_commands[]; /* ends with a name of NULL */

/* "fathom: MESSAGE" on stderr; returns the exit code. */
int cli_fail(const struct error *err);
int cli_usage_error(const struct error *err);

/*
 * Parses the words of a command. Returns -1 to go on, otherwise the exit code: after printing help
 * (0) or a usage error (2).
 */
int cli_parse(struct opt_result *out, const struct opt_table *table, int argc, char **argv,
	void *values);

/* Writes all of `b` to stdout and empties it. E_IO, without a message for a closed pipe. */
enum status cli_out(struct buf *b, struct error *err);
/* The same, then the exit code. */
int cli_out_exit(struct buf *b);

#define CLI_MAX_INPUT_BYTES ((size_t)64 << 20) /* of a prompt or a line: beyond any context */

/* Reads one line without its newline, CLI_MAX_INPUT_BYTES at most; *got false at the end of the stream. */
enum status cli_read_line(struct buf *line, bool *got, struct error *err);
/* Reads stdin to its end, at most max_bytes. */
enum status cli_read_all(struct buf *text, size_t max_bytes, struct error *err);

/* Checks that text is UTF-8 without NUL; `what` names it in the message. */
enum status cli_utf8_check(const char *text, size_t len, const char *what, struct error *err);

/* 12.3 GB, 4.56 MB, 812 bytes: decimal units, three digits. */
void cli_put_bytes(struct buf *out, double bytes);

#endif
