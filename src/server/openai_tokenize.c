/* POST /tokenize, /v1/messages/count_tokens and /detokenize, GET /tokenizer_info (spec: serving, sections 1.1,
 * 1.11). */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "server/anthropic_request.h"
#include "server/chat_prompt.h"
#include "server/fields.h"
#include "server/json_put.h"
#include "server/openai_sampling.h"
#include "server/worker.h"
#include "text/detok.h"

/* Bytes of a text that is taken or given, and ids of an answer. */
#define MAX_TEXT (16 << 20)
#define MAX_IDS (1 << 20)

static enum status tokenize_text(struct token_buf *ids, const struct serving *s, struct tokenizer_scratch *scratch,
	const json_t *body, struct refusal *no)
{
	const struct tokenizer_config *config = tokenizer_config_of(s->tok);
	const char *text = NULL;
	bool add_special = true;
	struct error err;

	TRY(field_string(&text, body, "prompt", no));
	if (!text) /* llama-server's name */
		TRY(field_string(&text, body, "content", no));
	if (!text)
		return refuse_shape(no, "prompt", "prompt: field required");
	if (strlen(text) > MAX_TEXT)
		return refuse(no, "prompt", "prompt: %zu bytes, at most %d are tokenized", strlen(text), MAX_TEXT);
	TRY(field_bool(&add_special, body, "add_special_tokens", no));
	if (add_special && config->add_bos && config->bos_id >= 0)
		token_buf_push(ids, config->bos_id);
	if (tokenizer_encode(s->tok, scratch, text, strlen(text), TOKENIZER_PARSE_ADDED, ids, &err) != OK)
		return refuse_error(no, "prompt", &err);
	return OK;
}

/* One request: the whole answer is made where its body is read. */
struct tokenizing {
	struct work work; /* first */
	struct buf out;
};

static void answer(struct work *work)
{
	struct tokenizing *t = (struct tokenizing *)work;

	call_json(work->call, &t->out);
	free(t);
}

static void drop(struct work *work)
{
	struct tokenizing *t = (struct tokenizing *)work;

	buf_deinit(&t->out);
	free(t);
}

static void begin(struct call *c,
	enum status (*make)(struct work *work, struct tokenizer_scratch *scratch, struct refusal *no))
{
	struct tokenizing *t = mem_alloc(sizeof(*t));

	*t = (struct tokenizing){ .work = { .call = c, .make = make, .answer = answer, .drop = drop } };
	work_begin(&t->work);
}

static enum status parse(json_t **body, const struct call *c, struct refusal *no)
{
	return fields_parse(body, NULL, c->r->body, c->r->body_bytes, no);
}

/* --- texts to ids --------------------------------------------------------------------------------------- */

static enum status tokenize(struct token_buf *ids, const struct serving *s, struct tokenizer_scratch *scratch,
	const json_t *body, struct refusal *no)
{
	TRY(openai_check_model(s, body, no));
	if (field_get(body, "messages"))
		return chat_prompt_make(ids, s, scratch, body, no);
	return tokenize_text(ids, s, scratch, body, no);
}

static void put_strings(struct buf *out, const struct serving *s, const struct token_buf *ids)
{
	struct buf text = { 0 };
	struct detok d;

	buf_putc(out, '[');
	for (size_t i = 0; i < ids->len; i++) {
		buf_reset(&text);
		detok_init(&d, s->tok, false);
		detok_push(&d, ids->data[i], &text);
		detok_flush(&d, &text);
		buf_puts(out, i ? "," : "");
		json_put_string(out, text.data ? text.data : "", text.len);
	}
	buf_putc(out, ']');
	buf_deinit(&text);
}

static enum status put_tokens(struct buf *out, const struct serving *s, const json_t *body,
	const struct token_buf *ids, struct refusal *no)
{
	bool strings = false;

	TRY(field_bool(&strings, body, "return_token_strs", no));
	if (ids->len > MAX_IDS)
		return refuse(no, "prompt", "prompt: %zu tokens, an answer lists at most %d", ids->len, MAX_IDS);
	buf_printf(out, "{\"count\":%zu,\"max_model_len\":%u,\"tokens\":", ids->len, s->max_model_len);
	json_put_ids(out, ids->data, ids->len);
	buf_puts(out, ",\"token_strs\":");
	if (strings)
		put_strings(out, s, ids);
	else
		buf_puts(out, "null");
	buf_putc(out, '}');
	return OK;
}

static enum status make_tokens(struct work *work, struct tokenizer_scratch *scratch, struct refusal *no)
{
	const struct serving *s = work->call->s;
	struct token_buf ids = { 0 };
	enum status st;
	json_t *body;

	TRY(parse(&body, work->call, no));
	st = tokenize(&ids, s, scratch, body, no);
	if (st == OK)
		st = put_tokens(&((struct tokenizing *)work)->out, s, body, &ids, no);
	token_buf_deinit(&ids);
	json_decref(body);
	return st;
}

static enum status make_count(struct work *work, struct tokenizer_scratch *scratch, struct refusal *no)
{
	struct token_buf ids = { 0 };
	json_t *body, *chat = NULL;
	enum status st;

	TRY(parse(&body, work->call, no));
	st = anthropic_convert(&chat, body, true, no);
	if (st == OK)
		st = tokenize(&ids, work->call->s, scratch, chat, no);
	if (st == OK)
		buf_printf(&((struct tokenizing *)work)->out, "{\"input_tokens\":%zu}", ids.len);
	token_buf_deinit(&ids);
	json_decref(chat);
	json_decref(body);
	return st;
}

void handle_tokenize(struct call *c)
{
	begin(c, make_tokens);
}

void handle_count_tokens(struct call *c)
{
	begin(c, make_count);
}

/* --- ids to text ---------------------------------------------------------------------------------------- */

static enum status detokenize(struct buf *text, const struct serving *s, const json_t *body, struct refusal *no)
{
	json_t *list = NULL;
	struct detok d;

	TRY(openai_check_model(s, body, no));
	TRY(field_array(&list, body, "tokens", no));
	if (!list)
		return refuse_shape(no, "tokens", "tokens: field required");
	detok_init(&d, s->tok, false);
	for (size_t i = 0; i < json_array_size(list); i++) {
		int32_t id;

		TRY(field_id(&id, json_array_get(list, i), "tokens", i, s->vocab, no));
		detok_push(&d, id, text);
		if (text->len > MAX_TEXT)
			return refuse(no, "tokens", "tokens: a text of more than %d bytes", MAX_TEXT);
	}
	detok_flush(&d, text);
	return OK;
}

static enum status make_text(struct work *work, struct tokenizer_scratch *scratch, struct refusal *no)
{
	struct buf text = { 0 }, *out = &((struct tokenizing *)work)->out;
	enum status st;
	json_t *body;

	TRY(parse(&body, work->call, no));
	st = detokenize(&text, work->call->s, body, no);
	if (st == OK) {
		buf_puts(out, "{\"prompt\":");
		json_put_string(out, text.data ? text.data : "", text.len);
		buf_putc(out, '}');
	}
	buf_deinit(&text);
	json_decref(body);
	return st;
}

void handle_detokenize(struct call *c)
{
	begin(c, make_text);
}

void handle_tokenizer_info(struct call *c)
{
	const struct tokenizer_config *config = tokenizer_config_of(c->s->tok);
	struct buf out = { 0 };

	buf_puts(&out, "{\"tokenizer_class\":\"PreTrainedTokenizerFast\",\"bos_token\":");
	json_put_text(&out, config->bos_token);
	buf_puts(&out, ",\"eos_token\":");
	json_put_text(&out, config->eos_token);
	buf_puts(&out, ",\"pad_token\":");
	json_put_text(&out, config->pad_token);
	buf_printf(&out, ",\"add_bos_token\":%s,\"model_max_length\":%u,\"chat_template\":",
		config->add_bos ? "true" : "false", c->s->max_model_len);
	json_put_text(&out, config->chat_template);
	buf_putc(&out, '}');
	call_json(c, &out);
}
