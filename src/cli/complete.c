/*
 * fathom complete: goes on after a text, without a chat template. Streams the answer, or prints one
 * JSON object with ids, reason and log probabilities.
 */
#include "cli/complete.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/jsonl.h"
#include "text/detok.h"

#define DEFAULT_MAX_TOKENS 16 /* as in the completions API */
#define MAX_LOGPROBS 20

struct values {
	struct session_values session; /* first */
	bool echo;
	bool json;
	int add_bos; /* -1: not given */
	int64_t logprobs;
};

static const struct opt opts[] = {
	{ .name = "echo", .type = OPT_SWITCH, .offset = offsetof(struct values, echo),
		.help = "Print the prompt in front of the answer (default: no)." },
	{ .name = "json", .type = OPT_SWITCH, .offset = offsetof(struct values, json),
		.help = "Print one JSON object: text, ids, finish_reason, usage, seed." },
	{ .name = "logprobs", .type = OPT_INT, .value = "N", .min = 0, .max = MAX_LOGPROBS,
		.offset = offsetof(struct values, logprobs),
		.help = "With --json: the log probability of each token, and of the N likeliest." },
	{ .name = "add-bos", .type = OPT_TRISTATE, .offset = offsetof(struct values, add_bos),
		.help = "Put the BOS token before the prompt (default: as tokenizer_config.json says)." },
	{ 0 },
};

const struct opt_table complete_table = {
	.command = "complete",
	.arguments = "MODEL [PROMPT]",
	.summary = "Continue a text, without a chat template",
	.details = "MODEL is a checkpoint directory. Without PROMPT, stdin is read to its end, exactly as "
		   "it is.\n",
	.min_args = 1,
	.max_args = 2,
	.opts = opts,
	.common = session_opts,
};

/* What a completion gathers while it runs. */
struct sink {
	struct session *s;
	const struct completion *c;
	struct detok detok;
	struct buf text;  /* owned; a stream empties it token by token */
	json_t *ids;      /* owned, with json */
	json_t *logprobs; /* owned, with logprobs */
};

static json_t *token_text(const struct session *s, int32_t id)
{
	struct buf text = { 0 };
	struct detok d;
	json_t *v;

	detok_init(&d, s->prompter.tok, false);
	detok_push(&d, id, &text);
	detok_flush(&d, &text);
	v = json_stringn(text.data ? text.data : "", text.len);
	buf_deinit(&text);
	return v;
}

static json_t *logprob_json(const struct session *s, int32_t id, double logprob)
{
	json_t *v = json_pack("{s:i, s:o}", "id", id, "token", token_text(s, id));

	json_object_set_new(v, "logprob", isfinite(logprob) ? json_real(logprob) : json_null());
	return v;
}

/* Log probabilities before temperature and truncation. */
static json_t *logprobs_of(const struct session *s, int32_t id, uint32_t n_top)
{
	struct logprob own, top[MAX_LOGPROBS];
	json_t *v, *list = json_array();

	n_top = logits_logprobs(&own, top, n_top, generator_logits(s->gen), s->rt.weights->config.vocab_size, id);
	for (uint32_t i = 0; i < n_top; i++)
		json_array_append_new(list, logprob_json(s, top[i].id, top[i].value));
	v = logprob_json(s, id, own.value);
	json_object_set_new(v, "top", list);
	return v;
}

static enum status take_token(void *arg, int32_t id, struct error *err)
{
	struct sink *k = arg;

	detok_push(&k->detok, id, &k->text);
	if (!k->c->json)
		return cli_out(&k->text, err);
	json_array_append_new(k->ids, json_integer(id));
	if (k->c->logprobs >= 0)
		json_array_append_new(k->logprobs, logprobs_of(k->s, id, (uint32_t)k->c->logprobs));
	return OK;
}

static enum status print_json(struct sink *k, enum session_end end, struct error *err)
{
	const struct session *s = k->s;
	struct buf out = { 0 };
	enum status st;
	json_t *v = json_pack("{s:o, s:O, s:s, s:{s:I, s:I, s:I, s:I}, s:I}", "text",
		json_stringn(k->text.data ? k->text.data : "", k->text.len), "ids", k->ids, "finish_reason",
		session_end_name(end), "usage", "prompt_tokens", (json_int_t)s->n_prompt,
		"completion_tokens", (json_int_t)s->n_answer, "total_tokens",
		(json_int_t)s->n_prompt + s->n_answer, "cached_tokens", (json_int_t)s->n_cached, "seed",
		(json_int_t)s->sampling.seed);

	if (k->c->logprobs >= 0)
		json_object_set(v, "logprobs", k->logprobs);
	json_put_pretty(&out, v);
	st = cli_out(&out, err);
	buf_deinit(&out);
	return st;
}

static enum status generate(struct session *s, const struct buf *text, const struct token_buf *ids,
	const struct completion *c, struct error *err)
{
	struct sink k = { .s = s, .c = c, .ids = json_array(), .logprobs = json_array() };
	enum session_end end;
	enum status st;

	detok_init(&k.detok, s->prompter.tok, true);
	if (c->echo)
		buf_append(&k.text, text->data, text->len);
	TRY_GOTO(out, session_answer(s, ids, take_token, &k, NULL, &end, err));
	detok_flush(&k.detok, &k.text);
	if (c->json) {
		TRY_GOTO(out, print_json(&k, end, err));
	} else {
		buf_putc(&k.text, '\n');
		TRY_GOTO(out, cli_out(&k.text, err));
	}
	if (end == SESSION_CONTEXT)
		fprintf(stderr, "fathom: the context of %u tokens is full (--max-model-len)\n",
			s->rt.max_context_tokens);
	if (c->stats)
		session_print_stats(s);
out:
	json_decref(k.ids);
	json_decref(k.logprobs);
	buf_deinit(&k.text);
	return st;
}

enum status complete_text(struct session *s, const char *dir, const struct session_values *v,
	const struct buf *text, const char *what, const struct completion *c, struct error *err)
{
	struct token_buf ids = { 0 };
	enum status st;

	st = prompter_text(&ids, &s->prompter, text->data ? text->data : "", text->len, c->add_bos, false,
		err);
	if (st != OK) {
		error_prefix(err, "%s", what);
		goto out;
	}
	if (ids.len == 0) {
		st = error_set(err, E_INVAL, "%s: the prompt is empty", what);
		goto out;
	}
	TRY_GOTO(out, session_open(s, dir, v, err));
	st = generate(s, text, &ids, c, err);
out:
	token_buf_deinit(&ids);
	return st;
}

static enum status run(const struct values *v, const char *dir, const char *prompt, struct error *err)
{
	struct completion c = {
		.echo = v->echo,
		.json = v->json,
		.logprobs = (int)v->logprobs,
		.stats = v->session.stats,
	};
	struct session s = { 0 };
	struct buf text = { 0 };
	enum status st;

	if (prompt)
		buf_puts(&text, prompt);
	else
		TRY_GOTO(out, cli_read_all(&text, CLI_MAX_INPUT_BYTES, err));
	TRY_GOTO(out, cli_utf8_check(text.data, text.len, prompt ? "PROMPT" : "stdin", err));
	TRY_GOTO(out, prompter_open(&s.prompter, dir, NULL, err));
	c.add_bos = v->add_bos < 0 ? tokenizer_config_of(s.prompter.tok)->add_bos : v->add_bos;
	st = complete_text(&s, dir, &v->session, &text, prompt ? "PROMPT" : "stdin", &c, err);
out:
	session_close(&s);
	buf_deinit(&text);
	return st;
}

int cmd_complete(int argc, char **argv)
{
	struct values v = { .session = session_defaults(), .add_bos = -1, .logprobs = -1 };
	struct opt_result words;
	struct error err;
	int rc;

	v.session.max_tokens = DEFAULT_MAX_TOKENS;
	rc = cli_parse(&words, &complete_table, argc, argv, &v);
	if (rc >= 0)
		return rc;
	if (v.logprobs >= 0 && !v.json) {
		error_set(&err, E_INVAL, "--logprobs: expected --json beside it");
		rc = cli_usage_error(&err);
	} else {
		rc = run(&v, words.args[0], words.n_args > 1 ? words.args[1] : NULL, &err) == OK ?
			CLI_OK : cli_fail(&err);
	}
	opt_result_deinit(&words);
	return rc;
}
