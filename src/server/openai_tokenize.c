/* POST /tokenize and /detokenize, GET /tokenizer_info (spec: serving, section 1.1). */
#include <string.h>

#include "base/json.h"
#include "server/chat_prompt.h"
#include "server/fields.h"
#include "server/json_put.h"
#include "server/openai_sampling.h"
#include "text/detok.h"

static enum status tokenize_text(struct token_buf *ids, struct serving *s, const json_t *body, struct refusal *no)
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
	if (tokenizer_encode(s->tok, s->scratch, text, strlen(text), TOKENIZER_PARSE_ADDED, ids, &err) != OK)
		return refuse_error(no, "prompt", &err);
	return OK;
}

static enum status tokenize(struct token_buf *ids, bool *strings, struct serving *s, const json_t *body,
	struct refusal *no)
{
	TRY(openai_check_model(s, body, no));
	TRY(field_bool(strings, body, "return_token_strs", no));
	if (field_get(body, "messages"))
		return chat_prompt_make(ids, s, body, no);
	return tokenize_text(ids, s, body, no);
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

void handle_tokenize(struct call *c)
{
	struct token_buf ids = { 0 };
	struct buf out = { 0 };
	struct refusal no;
	bool strings = false;
	json_t *body = NULL;
	enum status st = fields_parse(&body, c->r->body, c->r->body_bytes, &no);

	if (st == OK)
		st = tokenize(&ids, &strings, c->s, body, &no);
	if (st == OK) {
		buf_printf(&out, "{\"count\":%zu,\"max_model_len\":%u,\"tokens\":", ids.len, c->s->max_model_len);
		json_put_ids(&out, ids.data, ids.len);
		buf_puts(&out, ",\"token_strs\":");
		if (strings)
			put_strings(&out, c->s, &ids);
		else
			buf_puts(&out, "null");
		buf_putc(&out, '}');
		call_json(c, &out);
	} else {
		call_refuse(c, &no);
	}
	token_buf_deinit(&ids);
	json_decref(body);
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
