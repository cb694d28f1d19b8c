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
	TRY(field_bool(&add_special, body, "add_special_tokens", no));
	if (add_special && config->add_bos && config->bos_id >= 0)
		token_buf_push(ids, config->bos_id);
	if (tokenizer_encode(s->tok, scratch, text, strlen(text), TOKENIZER_PARSE_ADDED, ids, &err) != OK)
		return refuse_error(no, "prompt", &err);
	return OK;
}

/* One request, by the worker where its body is long. */
struct tokenizing {
	struct worker_job job; /* first */
	struct call *call;
	json_t *body; /* owned */
	struct token_buf ids;
	bool strings, gone;
	enum status st;
	struct refusal no;
};

static enum status tokenize(struct tokenizing *t, struct tokenizer_scratch *scratch, struct refusal *no)
{
	const struct serving *s = t->call->s;
	json_t *body;

	if (t->call->api == CALL_ANTHROPIC) {
		TRY(anthropic_convert(&body, t->body, true, no));
		json_decref(t->body);
		t->body = body;
	}
	TRY(openai_check_model(s, t->body, no));
	TRY(field_bool(&t->strings, t->body, "return_token_strs", no));
	if (field_get(t->body, "messages"))
		return chat_prompt_make(&t->ids, s, scratch, t->body, no);
	return tokenize_text(&t->ids, s, scratch, t->body, no);
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

static void run_tokenize(struct worker_job *job, struct tokenizer_scratch *scratch)
{
	struct tokenizing *t = (struct tokenizing *)job;

	t->st = tokenize(t, scratch, &t->no);
}

static void answer_tokenize(struct tokenizing *t)
{
	struct buf out = { 0 };

	if (t->call->api == CALL_ANTHROPIC) {
		buf_printf(&out, "{\"input_tokens\":%zu}", t->ids.len);
		call_json(t->call, &out);
		return;
	}
	buf_printf(&out, "{\"count\":%zu,\"max_model_len\":%u,\"tokens\":", t->ids.len,
		t->call->s->max_model_len);
	json_put_ids(&out, t->ids.data, t->ids.len);
	buf_puts(&out, ",\"token_strs\":");
	if (t->strings)
		put_strings(&out, t->call->s, &t->ids);
	else
		buf_puts(&out, "null");
	buf_putc(&out, '}');
	call_json(t->call, &out);
}

static void end_tokenize(struct worker_job *job)
{
	struct tokenizing *t = (struct tokenizing *)job;

	if (t->gone)
		call_drop(t->call);
	else if (t->st == OK)
		answer_tokenize(t);
	else
		call_refuse(t->call, &t->no);
	token_buf_deinit(&t->ids);
	json_decref(t->body);
	free(t);
}

static void tokenize_gone(void *arg, enum http_close_reason reason)
{
	struct tokenizing *t = arg;

	t->gone = true;
	worker_cancel(t->call->s->worker, &t->job);
}

void handle_tokenize(struct call *c)
{
	struct tokenizing *t = mem_alloc(sizeof(*t));

	*t = (struct tokenizing){ .job = { .run = run_tokenize, .done = end_tokenize }, .call = c };
	t->st = fields_parse(&t->body, c->r->body, c->r->body_bytes, &t->no);
	if (t->st == OK && c->r->body_bytes >= WORKER_FROM_BYTES) {
		http_request_on_close(c->r, tokenize_gone, t);
		worker_submit(c->s->worker, &t->job);
		return;
	}
	if (t->st == OK)
		run_tokenize(&t->job, c->s->scratch);
	end_tokenize(&t->job);
}

static enum status detokenize(struct buf *text, struct serving *s, const json_t *body, struct refusal *no)
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
	}
	detok_flush(&d, text);
	return OK;
}

void handle_detokenize(struct call *c)
{
	struct buf out = { 0 }, text = { 0 };
	struct refusal no;
	json_t *body = NULL;
	enum status st = fields_parse(&body, c->r->body, c->r->body_bytes, &no);

	if (st == OK)
		st = detokenize(&text, c->s, body, &no);
	if (st == OK) {
		buf_puts(&out, "{\"prompt\":");
		json_put_string(&out, text.data ? text.data : "", text.len);
		buf_putc(&out, '}');
		call_json(c, &out);
	} else {
		call_refuse(c, &no);
	}
	buf_deinit(&text);
	json_decref(body);
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
