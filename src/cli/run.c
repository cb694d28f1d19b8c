/*
 * fathom run: one answer, or a conversation when there is no prompt and stdin is a terminal.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/complete.h"
#include "cli/talk.h"

struct values {
	struct session_values session; /* first */
	bool thinking;
	int show_thinking; /* -1: on a terminal */
	bool raw;
	const char *system;
	const char *chat_template;
};

static const struct opt opts[] = {
	{ .name = "thinking", .type = OPT_SWITCH, .offset = offsetof(struct values, thinking),
		.help = "Let the model reason before it answers (default: no)." },
	{ .name = "show-thinking", .type = OPT_TRISTATE, .offset = offsetof(struct values, show_thinking),
		.help = "Print the reasoning too: dimmed on a terminal, between <think> tags elsewhere "
			"(default: on a terminal only)." },
	{ .name = "system", .type = OPT_STRING, .value = "TEXT", .offset = offsetof(struct values, system),
		.help = "System message at the start of the conversation." },
	{ .name = "chat-template", .type = OPT_STRING, .value = "FILE",
		.offset = offsetof(struct values, chat_template),
		.help = "A Jinja chat template instead of the model's own." },
	{ .name = "raw", .type = OPT_SWITCH, .offset = offsetof(struct values, raw),
		.help = "Continue the prompt as plain text, without a chat template, as complete does." },
	{ 0 },
};

const struct opt_table run_table = {
	.command = "run",
	.arguments = "MODEL [PROMPT]",
	.summary = "Answer one prompt, or hold a conversation on the terminal",
	.details = "MODEL is a checkpoint directory. Without PROMPT: a conversation if stdin is a terminal, "
		   "otherwise\nstdin is read to its end as the prompt.\n",
	.min_args = 1,
	.max_args = 2,
	.opts = opts,
	.common = session_opts,
};

/* The prompt: from the command line, or stdin without its last newline. */
static enum status read_prompt(struct buf *text, const char *arg, struct error *err)
{
	if (arg) {
		buf_puts(text, arg);
		return cli_utf8_check(text->data, text->len, "PROMPT", err);
	}
	TRY(cli_read_all(text, CLI_MAX_INPUT_BYTES, err));
	TRY(cli_utf8_check(text->data, text->len, "stdin", err));
	if (text->len && text->data[text->len - 1] == '\n')
		text->data[--text->len] = 0;
	return OK;
}

static enum status raw(const struct values *v, const char *dir, const struct buf *text,
	const char *what, struct error *err)
{
	struct completion c = { .logprobs = -1, .stats = v->session.stats };
	struct session s = { 0 };
	enum status st;

	TRY_GOTO(out, prompter_open(&s.prompter, dir, NULL, err));
	c.add_bos = tokenizer_config_of(s.prompter.tok)->add_bos;
	st = complete_text(&s, dir, &v->session, text, what, &c, err);
out:
	session_close(&s);
	return st;
}

static enum status one_answer(struct talk *t, const struct buf *text, const char *what,
	struct error *err)
{
	enum session_end end;

	if (text->len == 0)
		return error_set(err, E_INVAL, "%s: the prompt is empty", what);
	TRY(talk_turn(t, text->data, text->len, talk_catch_interrupt(), &end, err));
	talk_release_interrupt();
	if (end == SESSION_INTERRUPTED) /* the line is complete: end as Ctrl-C ends a program */
		raise(SIGINT);
	if (end == SESSION_CONTEXT)
		fprintf(stderr, "fathom: the context of %u tokens is full (--max-model-len)\n",
			t->s.rt.max_context_tokens);
	return OK;
}

static enum status run(const struct values *v, const char *dir, const char *arg, struct error *err)
{
	struct talk t = {
		.thinking = v->thinking,
		.terminal = isatty(STDOUT_FILENO),
	};
	bool lines = !arg && !v->raw && isatty(STDIN_FILENO);
	const char *what = arg ? "PROMPT" : "stdin";
	struct buf text = { 0 };
	enum status st;

	t.show_reasoning = v->show_thinking < 0 ? t.terminal : v->show_thinking;
	if (!lines)
		TRY_GOTO(out, read_prompt(&text, arg, err));
	if (v->raw) {
		st = raw(v, dir, &text, what, err);
		goto out;
	}
	TRY_GOTO(out, talk_begin(&t, v->system, err));
	TRY_GOTO(out, talk_open(&t, dir, v->chat_template, &v->session, err));
	st = lines ? conversation(&t, v->system, err) : one_answer(&t, &text, what, err);
out:
	talk_close(&t);
	buf_deinit(&text);
	return st;
}

int cmd_run(int argc, char **argv)
{
	struct values v = { .session = session_defaults(), .show_thinking = -1 };
	struct opt_result words;
	struct error err;
	int rc = cli_parse(&words, &run_table, argc, argv, &v);

	if (rc >= 0)
		return rc;
	if (v.raw && (v.system || v.chat_template || v.thinking || v.show_thinking >= 0)) {
		opt_result_deinit(&words);
		error_set(&err, E_INVAL, "--raw: expected no --system, --chat-template, --thinking or "
			"--show-thinking beside it");
		return cli_usage_error(&err);
	}
	rc = run(&v, words.args[0], words.n_args > 1 ? words.args[1] : NULL, &err) == OK ? CLI_OK :
		cli_fail(&err);
	opt_result_deinit(&words);
	return rc;
}
