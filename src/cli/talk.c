/* Turns of a conversation and how they are printed (cli/talk.h). */
#include "cli/talk.h"

#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

#define DIM "\033[2m"
#define PLAIN "\033[0m"

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
	interrupted = 1;
}

const volatile sig_atomic_t *talk_catch_interrupt(void)
{
	struct sigaction sa = { .sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND };

	interrupted = 0;
	sigemptyset(&sa.sa_mask);
	sigaction(SIGINT, &sa, NULL);
	return &interrupted;
}

void talk_release_interrupt(void)
{
	signal(SIGINT, SIG_DFL);
}

enum status talk_open(struct talk *t, const char *dir, const char *template_path,
	const struct session_values *v, struct error *err)
{
	TRY(prompter_open(&t->s.prompter, dir, template_path, err));
	TRY(prompter_need_chat(&t->s.prompter, err));
	TRY(session_open(&t->s, dir, v, err));
	chat_format_init(&t->format, t->s.prompter.tok,
		chat_dialect_guess(t->s.prompter.tok, t->s.prompter.chat));
	for (size_t i = 0; i < t->format.n_ends; i++)
		session_stop_at(&t->s, t->format.ends[i]);
	t->stats = v->stats;
	return OK;
}

void talk_close(struct talk *t)
{
	json_decref(t->messages);
	t->messages = NULL;
	session_close(&t->s);
}

static enum status add_message(struct talk *t, const char *role, const char *text, size_t len,
	struct error *err)
{
	json_t *content = json_stringn(text, len);

	if (!content)
		return error_set(err, E_FORMAT, "the %s message is not UTF-8", role);
	json_array_append_new(t->messages, json_pack("{s:s, s:o}", "role", role, "content", content));
	return OK;
}

enum status talk_begin(struct talk *t, const char *system, struct error *err)
{
	json_decref(t->messages);
	t->messages = json_array();
	return system ? add_message(t, "system", system, strlen(system), err) : OK;
}

/* One answer on its way to the terminal. */
struct answer {
	struct talk *t;
	struct chat_parse parse;
	bool reasoning; /* is being shown */
	struct buf content;  /* owned: for the history */
	struct buf out;      /* owned */
};

/* On a terminal, what a model writes must not steer it: control characters become U+FFFD. */
static void put_printable(struct buf *out, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		bool c1 = c == 0xC2 && i + 1 < len && (unsigned char)text[i + 1] < 0xA0;

		if ((c >= ' ' && c != 0x7F && !c1) || c == '\n' || c == '\t') {
			buf_putc(out, (char)c);
			continue;
		}
		buf_put_utf8(out, 0xFFFD);
		i += c1;
	}
}

/* Frames the reasoning that is shown; its end stands even where there was none. */
static void show_reasoning(struct answer *a, bool on)
{
	if (a->reasoning == on || !a->t->show_reasoning)
		return;
	a->reasoning = on;
	if (on)
		buf_puts(&a->out, a->t->terminal ? DIM : "<think>");
	else
		buf_puts(&a->out, a->t->terminal ? PLAIN "\n\n" : "</think>\n");
}

static void take_part(void *arg, const struct chat_event *e)
{
	struct answer *a = arg;

	if (e->kind == CHAT_CONTENT)
		buf_append(&a->content, e->text, e->len);
	else if (!a->t->show_reasoning)
		return;
	if (a->t->terminal)
		put_printable(&a->out, e->text, e->len);
	else
		buf_append(&a->out, e->text, e->len);
}

static enum status take_token(void *arg, int32_t id, struct error *err)
{
	struct answer *a = arg;

	chat_parse_push(&a->parse, id);
	show_reasoning(a, a->parse.state == CHAT_IN_REASONING);
	return cli_out(&a->out, err);
}

static enum status render(struct talk *t, struct token_buf *ids, struct error *err)
{
	struct chat_input in = {
		.messages = t->messages,
		.add_generation_prompt = true,
		.thinking = t->thinking,
	};
	struct chat_prompt prompt = { 0 };
	enum status st = prompter_chat(&prompt, ids, &t->s.prompter, &in, err);

	chat_prompt_deinit(&prompt);
	return st;
}

static enum status print_answer(struct answer *a, const struct token_buf *ids,
	const volatile sig_atomic_t *stop, enum session_end *end, struct error *err)
{
	const struct tokenizer *tok = a->t->s.prompter.tok;
	struct chat_parse_options options = { .reasoning = true, .skip_special = true };
	enum status st, flushed;
	struct error ignored;

	options.thinking = chat_prompt_opens_thinking(&a->t->format, tok, ids->data, ids->len, false);
	chat_parse_init(&a->parse, tok, &a->t->format, &options, take_part, a);
	show_reasoning(a, options.thinking);
	st = session_answer(&a->t->s, ids, take_token, a, stop, end, err);
	chat_parse_end(&a->parse, st == OK);
	if (a->reasoning && a->t->terminal)
		buf_puts(&a->out, PLAIN);
	if (st == OK)
		buf_putc(&a->out, '\n');
	flushed = cli_out(&a->out, st == OK ? err : &ignored);
	return st == OK ? flushed : st;
}

enum status talk_turn(struct talk *t, const char *text, size_t len,
	const volatile sig_atomic_t *stop, enum session_end *end, struct error *err)
{
	struct token_buf ids = { 0 };
	struct answer a = { .t = t };
	size_t before = json_array_size(t->messages);
	enum status st;

	TRY_GOTO(out, add_message(t, "user", text, len, err));
	TRY_GOTO(out, render(t, &ids, err));
	TRY_GOTO(out, print_answer(&a, &ids, stop, end, err));
	TRY_GOTO(out, add_message(t, "assistant", a.content.data ? a.content.data : "", a.content.len, err));
	if (t->stats)
		session_print_stats(&t->s);
out:
	while (st != OK && json_array_size(t->messages) > before)
		json_array_remove(t->messages, json_array_size(t->messages) - 1);
	token_buf_deinit(&ids);
	chat_parse_deinit(&a.parse);
	buf_deinit(&a.content);
	buf_deinit(&a.out);
	return st;
}
