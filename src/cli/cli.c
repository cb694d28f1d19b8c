/*
 * Shared by all subcommands (cli/cli.h): failure lines, buffered output, input lines.
 *
 * SIGPIPE is ignored in main(), so a closed stdout arrives here as EPIPE and ends the program
 * quietly with exit code 1.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "text/unicode.h"

/* One line whatever a message quotes: files and arguments may hold control characters. */
static void print_error(const struct error *err)
{
	struct buf line = { 0 };

	for (const char *p = err->msg; *p; p++) {
		unsigned char c = (unsigned char)*p;

		if (c < 0x20 || c == 0x7F)
			buf_printf(&line, "\\x%02x", c);
		else
			buf_putc(&line, *p);
	}
	fprintf(stderr, "fathom: %s\n", line.data ? line.data : "");
	buf_deinit(&line);
}

int cli_fail(const struct error *err)
{
	if (err->msg[0])
		print_error(err);
	return CLI_FAIL;
}

int cli_usage_error(const struct error *err)
{
	print_error(err);
	return CLI_USAGE;
}

int cli_parse(struct opt_result *out, const struct opt_table *table, int argc, char **argv,
	void *values)
{
	struct error err;

	if (opt_parse(out, table, argc, argv, values, &err) != OK)
		return cli_usage_error(&err);
	if (out->help) {
		struct buf text = { 0 };
		int rc;

		opt_result_deinit(out);
		opt_help(&text, table);
		rc = cli_out_exit(&text);
		buf_deinit(&text);
		return rc;
	}
	return -1;
}

enum status cli_out(struct buf *b, struct error *err)
{
	size_t done = 0;

	while (done < b->len) {
		ssize_t n = write(STDOUT_FILENO, b->data + done, b->len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int e = errno;

			error_set(err, E_IO, "stdout: %s", strerror(e));
			if (e == EPIPE)
				err->msg[0] = 0;
			return E_IO;
		}
		done += (size_t)n;
	}
	buf_reset(b);
	return OK;
}

int cli_out_exit(struct buf *b)
{
	struct error err;

	return cli_out(b, &err) == OK ? CLI_OK : cli_fail(&err);
}

enum status cli_read_line(struct buf *line, bool *got, struct error *err)
{
	int c;

	buf_reset(line);
	errno = 0;
	while ((c = getc_unlocked(stdin)) != EOF && c != '\n') {
		if (line->len == CLI_MAX_INPUT_BYTES)
			return error_set(err, E_LIMIT, "stdin: a line of more than %zu bytes", CLI_MAX_INPUT_BYTES);
		buf_putc(line, (char)c);
	}
	if (ferror(stdin))
		return error_set(err, E_IO, "stdin: %s", strerror(errno));
	*got = c != EOF || line->len > 0;
	return OK;
}

enum status cli_read_all(struct buf *text, size_t max_bytes, struct error *err)
{
	char *chunk = mem_alloc(1 << 16);
	size_t n;

	while ((n = fread(chunk, 1, 1 << 16, stdin)) > 0) {
		if (text->len + n > max_bytes) {
			free(chunk);
			return error_set(err, E_LIMIT, "stdin: more than %zu bytes", max_bytes);
		}
		buf_append(text, chunk, n);
	}
	free(chunk);
	if (ferror(stdin))
		return error_set(err, E_IO, "stdin: %s", strerror(errno));
	buf_append(text, "", 0);
	return OK;
}

enum status cli_utf8_check(const char *text, size_t len, const char *what, struct error *err)
{
	size_t valid = utf8_valid_len(text, len);
	const char *nul = memchr(text, 0, valid);
	size_t at = nul ? (size_t)(nul - text) : valid;

	if (at == len)
		return OK;
	return error_set(err, E_FORMAT, "%s: byte 0x%02x at offset %zu is %s", what, (uint8_t)text[at], at,
		text[at] ? "not UTF-8" : "NUL, expected text");
}

void cli_put_bytes(struct buf *out, double bytes)
{
	static const char *const units[] = { "bytes", "kB", "MB", "GB", "TB" };
	int u = 0;

	while (bytes >= 1000 && u < 4) {
		bytes /= 1000;
		u++;
	}
	buf_printf(out, "%.*f %s", u == 0 || bytes >= 100 ? 0 : bytes >= 10 ? 1 : 2, bytes, units[u]);
}
