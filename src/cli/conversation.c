/*
 * The conversation of `fathom run` on a terminal (cli/talk.h): libedit reads the lines, words that
 * begin with a slash are commands, Ctrl-C stops an answer, Ctrl-D ends.
 */
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <editline/readline.h>

#include "cli/cli.h"
#include "cli/talk.h"

static const char help[] =
	"/clear     forget the conversation\n"
	"/thinking  switch reasoning before answers on or off\n"
	"/exit      end (also Ctrl-D)\n"
	"/help      this text\n"
	"A line that ends with a backslash goes on in the next one. Ctrl-C stops an answer; pressed twice "
	"it ends the program.\n";

/* libedit takes the encoding of its input from the locale. */
static void use_utf8(void)
{
	setlocale(LC_CTYPE, "");
	if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
		setlocale(LC_CTYPE, "C.UTF-8");
}

/* One message of one or several lines; false at the end of input. */
static bool read_message(struct buf *text)
{
	const char *prompt = ">>> ";

	buf_reset(text);
	for (;;) {
		char *line = readline(prompt);
		size_t len = line ? strlen(line) : 0;
		bool more = len && line[len - 1] == '\\';

		if (!line)
			return false;
		buf_append(text, line, len - more);
		free(line);
		if (!more)
			break;
		buf_putc(text, '\n');
		prompt = "... ";
	}
	if (text->len)
		add_history(text->data);
	return true;
}

/* Handles a line such as "/clear"; *done after /exit. */
static enum status command(struct talk *t, const char *line, const char *system, bool *done,
	struct error *err)
{
	struct buf out = { 0 };
	enum status st = OK;

	if (strcmp(line, "/help") == 0 || strcmp(line, "/?") == 0) {
		buf_puts(&out, help);
	} else if (strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0) {
		*done = true;
	} else if (strcmp(line, "/clear") == 0) {
		st = talk_begin(t, system, err);
	} else if (strcmp(line, "/thinking") == 0) {
		t->thinking = !t->thinking;
		buf_printf(&out, "thinking is %s\n", t->thinking ? "on" : "off");
	} else {
		buf_printf(&out, "unknown command %.40s (see /help)\n", line);
	}
	if (st == OK)
		st = cli_out(&out, err);
	buf_deinit(&out);
	return st;
}

static enum status answer(struct talk *t, const struct buf *text, struct error *err)
{
	enum session_end end;
	enum status st;

	st = talk_turn(t, text->data, text->len, talk_catch_interrupt(), &end, err);
	if (st == OK && end == SESSION_CONTEXT)
		fprintf(stderr, "fathom: the context of %u tokens is full (--max-model-len): /clear begins "
			"anew\n", t->s.rt.max_context_tokens);
	talk_release_interrupt();
	/* What was wrong with one message does not end the conversation. */
	if (st == E_LIMIT || st == E_INVAL || st == E_FORMAT) {
		cli_fail(err);
		st = OK;
	}
	return st;
}

enum status conversation(struct talk *t, const char *system, struct error *err)
{
	struct buf text = { 0 };
	bool done = false;
	enum status st = OK;

	use_utf8();
	buf_puts(&text, "/help shows the commands, Ctrl-D ends\n");
	TRY(cli_out(&text, err));
	rl_readline_name = (char *)(uintptr_t) "fathom";
	using_history();
	while (!done && st == OK && read_message(&text)) {
		if (text.len == 0)
			continue;
		st = text.data[0] == '/' ? command(t, text.data, system, &done, err) : answer(t, &text, err);
	}
	if (!done && st == OK) { /* Ctrl-D leaves the prompt's line open */
		buf_reset(&text);
		buf_putc(&text, '\n');
		st = cli_out(&text, err);
	}
	buf_deinit(&text);
	return st;
}
