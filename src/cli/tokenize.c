/*
 * fathom tokenize: text or conversations to token ids. Needs a model's tokenizer files only.
 *
 * With --jsonl every line is answered before the next is read, and only whole lines are written, so
 * the lines before a bad one are complete.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/json.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/jsonl.h"
#include "cli/prompter.h"
#include "text/detok.h"

struct values {
	bool jsonl;
	bool add_bos;
	bool literal;
	bool as_is;
	bool count;
	bool show;
	const char *chat_template;
};

static const struct opt opts[] = {
	{ .name = "jsonl", .type = OPT_SWITCH, .offset = offsetof(struct values, jsonl),
		.help = "Read JSON lines from stdin and print one object for each: {\"text\"} gives "
			"{\"ids\"}; {\"messages\", \"tools\", \"add_generation_prompt\" (default true), "
			"\"thinking\" (default false), \"continue_final_message\", \"chat_template_kwargs\"} "
			"gives {\"text\", \"ids\"}." },
	{ .name = "add-bos", .type = OPT_SWITCH, .offset = offsetof(struct values, add_bos),
		.help = "Put the BOS token before plain text (default: no; chat templates write their own)." },
	{ .name = "literal", .type = OPT_SWITCH, .offset = offsetof(struct values, literal),
		.help = "Text that spells a control token stays text; in conversations, the text of the "
			"messages." },
	{ .name = "count", .type = OPT_SWITCH, .offset = offsetof(struct values, count),
		.help = "Print the number of tokens instead of their ids." },
	{ .name = "show", .type = OPT_SWITCH, .offset = offsetof(struct values, show),
		.help = "Print one token a line: its id and its text as a JSON string." },
	{ .name = "chat-template", .type = OPT_STRING, .value = "FILE",
		.offset = offsetof(struct values, chat_template),
		.help = "A Jinja chat template instead of the model's own." },
	{ .name = "as-is", .type = OPT_SWITCH, .offset = offsetof(struct values, as_is),
		.help = "Render conversations without first normalizing them, to compare templates." },
	{ 0 },
};

const struct opt_table tokenize_table = {
	.command = "tokenize",
	.arguments = "MODEL [TEXT]",
	.summary = "Turn text or conversations into token ids",
	.details = "MODEL is a directory with tokenizer.json. Without TEXT, stdin is read to its end.\n",
	.min_args = 1,
	.max_args = 2,
	.opts = opts,
};

static json_t *ids_json(const struct token_buf *ids)
{
	json_t *list = json_array();

	for (size_t i = 0; i < ids->len; i++)
		json_array_append_new(list, json_integer(ids->data[i]));
	return list;
}

static enum status text_line(json_t **out, json_t *line, const char *what, const struct values *v,
	struct prompter *p, struct error *err)
{
	struct token_buf ids = { 0 };
	json_t *text = json_object_get(line, "text");
	enum status st;

	if (!json_is_string(text))
		return error_set(err, E_FORMAT, "%s: text: found %s, expected a string", what,
			json_type_name(text));
	st = prompter_text(&ids, p, json_string_value(text), json_string_length(text), v->add_bos,
		v->literal, err);
	if (st == OK)
		*out = json_pack("{s:o}", "ids", ids_json(&ids));
	else
		error_prefix(err, "%s: text", what);
	token_buf_deinit(&ids);
	return st;
}

static enum status check_keys(json_t *line, const char *what, const char *const *known, struct error *err)
{
	const char *key;
	json_t *value;

	json_object_foreach(line, key, value) {
		size_t i = 0;

		while (known[i] && strcmp(known[i], key) != 0)
			i++;
		if (!known[i])
			return error_set(err, E_FORMAT, "%s: unknown key '%.40s' beside %s", what, key, known[0]);
	}
	return OK;
}

/* A key that may be absent or null. */
static enum status optional(json_t **out, json_t *line, const char *what, const char *key,
	json_type type, struct error *err)
{
	json_t *v = json_object_get(line, key);

	*out = NULL;
	if (!v || json_is_null(v))
		return OK;
	if (json_typeof(v) != type)
		return error_set(err, E_FORMAT, "%s: %s: found %s, expected %s", what, key, json_type_name(v),
			type == JSON_ARRAY ? "an array" : "an object");
	*out = v;
	return OK;
}

static enum status chat_line(json_t **out, json_t *line, const char *what, const struct values *v,
	struct prompter *p, struct error *err)
{
	struct chat_input in = { .literal_content = v->literal, .as_is = v->as_is };
	struct chat_prompt prompt = { 0 };
	struct token_buf ids = { 0 };
	enum status st;

	TRY(json_get_array(&in.messages, line, what, "messages", err));
	TRY(optional(&in.tools, line, what, "tools", JSON_ARRAY, err));
	TRY(optional(&in.kwargs, line, what, "chat_template_kwargs", JSON_OBJECT, err));
	TRY(json_opt_bool(&in.thinking, line, what, "thinking", false, err));
	TRY(json_opt_bool(&in.continue_final, line, what, "continue_final_message", false, err));
	TRY(json_opt_bool(&in.add_generation_prompt, line, what, "add_generation_prompt",
		!in.continue_final, err));
	st = prompter_chat(&prompt, &ids, p, &in, err);
	if (st == OK)
		*out = json_pack("{s:o, s:o}", "text",
			json_stringn(prompt.text.data ? prompt.text.data : "", prompt.text.len), "ids",
			ids_json(&ids));
	else
		error_prefix(err, "%s", what);
	chat_prompt_deinit(&prompt);
	token_buf_deinit(&ids);
	return st;
}

static enum status answer_line(struct buf *out, json_t *line, const char *what, const struct values *v,
	struct prompter *p, struct error *err)
{
	static const char *const text_keys[] = { "text", NULL };
	static const char *const chat_keys[] = { "messages", "tools", "add_generation_prompt", "thinking",
		"continue_final_message", "chat_template_kwargs", NULL };
	bool text = json_object_get(line, "text"), chat = json_object_get(line, "messages");
	json_t *answer = NULL;

	if (text == chat)
		return error_set(err, E_FORMAT, "%s: found %s, expected one of text and messages", what,
			text ? "both" : "neither text nor messages");
	TRY(check_keys(line, what, text ? text_keys : chat_keys, err));
	if (text)
		TRY(text_line(&answer, line, what, v, p, err));
	else
		TRY(chat_line(&answer, line, what, v, p, err));
	if (v->count) {
		json_object_set_new(answer, "count",
			json_integer((json_int_t)json_array_size(json_object_get(answer, "ids"))));
		json_object_del(answer, "ids");
	}
	jsonl_put(out, answer);
	return OK;
}

static enum status all_lines(const struct values *v, struct prompter *p, struct error *err)
{
	struct jsonl in = { 0 };
	struct buf out = { 0 };
	json_t *line;
	enum status st;

	for (;;) {
		TRY_GOTO(done, jsonl_next(&line, &in, err));
		if (!line)
			break;
		TRY_GOTO(done, answer_line(&out, line, in.what, v, p, err));
		TRY_GOTO(done, cli_out(&out, err));
	}
done:
	jsonl_deinit(&in);
	buf_deinit(&out);
	return st;
}

static void put_ids(struct buf *out, const struct token_buf *ids, const struct values *v,
	const struct prompter *p)
{
	if (v->count) {
		buf_printf(out, "%zu\n", ids->len);
		return;
	}
	for (size_t i = 0; i < ids->len; i++) {
		struct buf text = { 0 };
		struct detok d;

		if (!v->show) {
			buf_printf(out, "%s%d", i ? " " : "", ids->data[i]);
			continue;
		}
		detok_init(&d, p->tok, false);
		detok_push(&d, ids->data[i], &text);
		detok_flush(&d, &text);
		buf_printf(out, "%d\t", ids->data[i]);
		jsonl_put(out, json_stringn(text.data ? text.data : "", text.len));
		buf_deinit(&text);
	}
	if (!v->show)
		buf_putc(out, '\n');
}

static enum status one_text(const char *arg, const struct values *v, struct prompter *p,
	struct error *err)
{
	struct buf text = { 0 }, out = { 0 };
	struct token_buf ids = { 0 };
	enum status st;

	if (arg)
		buf_puts(&text, arg);
	else
		TRY_GOTO(done, cli_read_all(&text, TOKENIZER_MAX_TEXT_BYTES, err));
	st = prompter_text(&ids, p, text.data, text.len, v->add_bos, v->literal, err);
	if (st != OK) {
		error_prefix(err, arg ? "TEXT" : "stdin");
		goto done;
	}
	put_ids(&out, &ids, v, p);
	st = cli_out(&out, err);
done:
	token_buf_deinit(&ids);
	buf_deinit(&text);
	buf_deinit(&out);
	return st;
}

int cmd_tokenize(int argc, char **argv)
{
	struct values v = { 0 };
	struct opt_result words;
	struct prompter p = { 0 };
	struct error err;
	enum status st;
	int rc = cli_parse(&words, &tokenize_table, argc, argv, &v);

	if (rc >= 0)
		return rc;
	if (v.jsonl && words.n_args > 1) {
		error_set(&err, E_INVAL, "--jsonl reads stdin: unexpected argument '%.60s'", words.args[1]);
		rc = cli_usage_error(&err);
		goto out;
	}
	TRY_GOTO(fail, prompter_open(&p, words.args[0], v.chat_template, &err));
	if (v.jsonl)
		st = all_lines(&v, &p, &err);
	else
		st = one_text(words.n_args > 1 ? words.args[1] : NULL, &v, &p, &err);
fail:
	rc = st == OK ? CLI_OK : cli_fail(&err);
out:
	prompter_close(&p);
	opt_result_deinit(&words);
	return rc;
}
