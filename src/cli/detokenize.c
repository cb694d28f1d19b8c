/*
 * fathom detokenize: token ids to text, as a whole and as a stream would emit it. Needs a model's
 * tokenizer files only.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/json.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/jsonl.h"
#include "text/detok.h"
#include "text/token.h"
#include "text/tokenizer.h"

#define MAX_STDIN_BYTES ((size_t)1 << 30)

struct values {
	bool jsonl;
	bool skip_special;
};

static const struct opt opts[] = {
	{ .name = "jsonl", .type = OPT_SWITCH, .offset = offsetof(struct values, jsonl),
		.help = "Read JSON lines {\"ids\"} from stdin; print {\"text\", \"text_skip_special\", "
			"\"deltas\", \"flush\"} for each: the whole text, the same without special tokens, "
			"what a stream emits after each token, and what it emits at its end." },
	{ .name = "skip-special", .type = OPT_SWITCH, .offset = offsetof(struct values, skip_special),
		.help = "Leave out special tokens such as BOS and EOS (default: no)." },
	{ 0 },
};

const struct opt_table detokenize_table = {
	.command = "detokenize",
	.arguments = "MODEL [ID...]",
	.summary = "Turn token ids into text",
	.details = "MODEL is a directory with tokenizer.json. Without ids, they are read from\n"
		   "stdin, "
		   "separated by spaces.\nThe text is printed with a newline at its end.\n",
	.min_args = 1,
	.max_args = -1,
	.opts = opts,
};

static json_t *text_json(struct buf *text)
{
	json_t *v = json_stringn(text->data ? text->data : "", text->len);

	buf_reset(text);
	return v;
}

static enum status read_ids(struct token_buf *ids, json_t *line, const char *what, struct error *err)
{
	json_t *list, *item;
	size_t i;

	TRY(json_get_array(&list, line, what, "ids", err));
	json_array_foreach(list, i, item) {
		json_int_t id = json_integer_value(item);

		if (!json_is_integer(item))
			return error_set(err, E_FORMAT, "%s: ids[%zu]: found %s, expected an integer", what, i,
				json_type_name(item));
		if (id < 0 || id > INT32_MAX)
			return error_set(err, E_FORMAT, "%s: ids[%zu]: found %" JSON_INTEGER_FORMAT
				", expected a token id", what, i, id);
		token_buf_push(ids, (int32_t)id);
	}
	return OK;
}

static enum status answer_line(struct buf *out, const struct token_buf *ids, const struct tokenizer *tok,
	struct error *err)
{
	struct buf text = { 0 };
	json_t *answer = json_object(), *deltas = json_array();
	struct detok d;
	enum status st;

	TRY_GOTO(fail, detok_decode(tok, ids->data, ids->len, false, &text, err));
	json_object_set_new(answer, "text", text_json(&text));
	TRY_GOTO(fail, detok_decode(tok, ids->data, ids->len, true, &text, err));
	json_object_set_new(answer, "text_skip_special", text_json(&text));
	detok_init(&d, tok, false);
	for (size_t i = 0; i < ids->len; i++) {
		detok_push(&d, ids->data[i], &text);
		json_array_append_new(deltas, text_json(&text));
	}
	detok_flush(&d, &text);
	json_object_set(answer, "deltas", deltas);
	json_object_set_new(answer, "flush", text_json(&text));
	jsonl_put(out, json_incref(answer));
fail:
	json_decref(deltas);
	json_decref(answer);
	buf_deinit(&text);
	return st;
}

static enum status all_lines(const struct tokenizer *tok, struct error *err)
{
	struct jsonl in = { 0 };
	struct token_buf ids = { 0 };
	struct buf out = { 0 };
	json_t *line;
	enum status st;

	for (;;) {
		TRY_GOTO(done, jsonl_next(&line, &in, err));
		if (!line)
			break;
		ids.len = 0;
		TRY_GOTO(done, read_ids(&ids, line, in.what, err));
		st = answer_line(&out, &ids, tok, err);
		if (st != OK) {
			error_prefix(err, "%s", in.what);
			goto done;
		}
		TRY_GOTO(done, cli_out(&out, err));
	}
done:
	jsonl_deinit(&in);
	token_buf_deinit(&ids);
	buf_deinit(&out);
	return st;
}

/* Appends the ids of a text such as "12 345,6". */
static enum status parse_ids(struct token_buf *ids, const char *text, const char *what,
	struct error *err)
{
	for (;;) {
		size_t n;
		char *end;
		long v;

		text += strspn(text, " \t\r\n,");
		if (!*text)
			return OK;
		n = strcspn(text, " \t\r\n,");
		errno = 0;
		v = strtol(text, &end, 10);
		if (end != text + n || errno || v < 0 || v > INT32_MAX)
			return error_set(err, E_INVAL, "%s: found '%.*s', expected a token id", what,
				n > 40 ? 40 : (int)n, text);
		token_buf_push(ids, (int32_t)v);
		text += n;
	}
}

static enum status one_text(const struct opt_result *words, const struct values *v,
	const struct tokenizer *tok, struct error *err)
{
	struct token_buf ids = { 0 };
	struct buf text = { 0 };
	enum status st = OK;

	for (int i = 1; i < words->n_args && st == OK; i++)
		st = parse_ids(&ids, words->args[i], "ID", err);
	if (st == OK && words->n_args == 1) {
		TRY_GOTO(done, cli_read_all(&text, MAX_STDIN_BYTES, err));
		TRY_GOTO(done, cli_utf8_check(text.data, text.len, "stdin", err));
		TRY_GOTO(done, parse_ids(&ids, text.data, "stdin", err));
		buf_reset(&text);
	}
	if (st != OK)
		goto done;
	TRY_GOTO(done, detok_decode(tok, ids.data, ids.len, v->skip_special, &text, err));
	buf_putc(&text, '\n');
	st = cli_out(&text, err);
done:
	token_buf_deinit(&ids);
	buf_deinit(&text);
	return st;
}

int cmd_detokenize(int argc, char **argv)
{
	struct values v = { 0 };
	struct opt_result words;
	struct tokenizer *tok = NULL;
	struct error err;
	enum status st;
	int rc = cli_parse(&words, &detokenize_table, argc, argv, &v);

	if (rc >= 0)
		return rc;
	if (v.jsonl && words.n_args > 1) {
		error_set(&err, E_INVAL, "--jsonl reads stdin: unexpected argument '%.60s'", words.args[1]);
		rc = cli_usage_error(&err);
		goto out;
	}
	TRY_GOTO(fail, tokenizer_open(&tok, words.args[0], &err));
	st = v.jsonl ? all_lines(tok, &err) : one_text(&words, &v, tok, &err);
fail:
	rc = st == OK ? CLI_OK : cli_fail(&err);
out:
	if (tok)
		tokenizer_close(tok);
	opt_result_deinit(&words);
	return rc;
}
