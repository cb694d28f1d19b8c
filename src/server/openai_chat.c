/* POST /v1/chat/completions (spec: serving, sections 1.5, 1.7, 1.8). */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "server/answer.h"
#include "server/chat_prompt.h"
#include "server/fields.h"
#include "server/json_put.h"
#include "server/openai_logprobs.h"

/* --- the answer ----------------------------------------------------------------------------------------- */

static void put_logprobs(struct buf *out, const struct choice *c, uint32_t from)
{
	const struct answer *a = c->a;

	if (!a->show_reasoning && c->prompt->thinking && from < c->n_reasoning)
		from = c->n_reasoning < c->seen ? c->n_reasoning : c->seen;
	buf_puts(out, ",\"logprobs\":");
	if (a->p.n_logprobs >= 0 && from < c->seen)
		logprobs_put_chat(out, c, from, c->seen);
	else
		buf_puts(out, "null");
}

/* Both names that clients read. */
static void put_reasoning(struct buf *out, const struct buf *text)
{
	buf_puts(out, "\"reasoning_content\":");
	json_put_string(out, text->data, text->len);
	buf_puts(out, ",\"reasoning\":");
	json_put_string(out, text->data, text->len);
}

static void begin_chunk(struct buf *out, const struct choice *c)
{
	buf_reset(out);
	buf_putc(out, '{');
	answer_put_head(out, c->a, c->a->form->chunk_object);
	buf_printf(out, ",\"choices\":[{\"index\":%u,\"delta\":{", c->index);
}

static void end_chunk(struct buf *out, const struct choice *c, bool with_prompt_ids)
{
	struct answer *a = c->a;

	buf_puts(out, "}]");
	if (with_prompt_ids) {
		buf_puts(out, ",\"prompt_token_ids\":");
		json_put_ids(out, c->prompt->ids.data, c->prompt->ids.len);
	}
	if (a->p.continuous_usage) {
		buf_putc(out, ',');
		answer_put_usage(out, a, c);
	}
	buf_putc(out, '}');
	answer_send(a, out);
}

static void first_chunk(struct choice *c)
{
	struct buf *out = &c->a->event;

	begin_chunk(out, c);
	buf_puts(out, "\"role\":");
	json_put_text(out, c->a->role);
	buf_puts(out, ",\"content\":");
	json_put_text(out, c->a->echo_content ? c->a->echo_content : "");
	buf_puts(out, "},\"logprobs\":null,\"finish_reason\":null");
	end_chunk(out, c, c->a->p.return_ids);
}

static void put_delta(struct buf *out, const struct choice *c)
{
	bool reasoning = c->reasoning.len && c->a->show_reasoning;

	if (reasoning)
		put_reasoning(out, &c->reasoning);
	if (c->text.len || (!reasoning && !c->thinking)) {
		buf_puts(out, reasoning ? ",\"content\":" : "\"content\":");
		json_put_string(out, c->text.len ? c->text.data : "", c->text.len);
	}
}

static void chunk(struct choice *c)
{
	struct answer *a = c->a;
	struct buf *out = &a->event;

	if (!c->started)
		first_chunk(c);
	if (!a->show_reasoning && c->thinking && !c->done)
		return;
	begin_chunk(out, c);
	put_delta(out, c);
	buf_putc(out, '}');
	put_logprobs(out, c, c->sent);
	buf_puts(out, ",\"finish_reason\":");
	json_put_text(out, c->finish);
	if (c->done) {
		buf_puts(out, ",\"stop_reason\":");
		answer_put_stop_reason(out, c);
	}
	if (a->p.return_ids) {
		buf_puts(out, ",\"token_ids\":");
		json_put_ids(out, engine_job_ids(c->job) + c->sent, c->seen - c->sent);
	}
	end_chunk(out, c, false);
}

static void put_message(struct buf *out, const struct choice *c)
{
	const struct answer *a = c->a;
	struct buf text = { 0 };

	buf_puts(out, "\"message\":{\"role\":");
	json_put_text(out, a->role);
	buf_puts(out, ",\"content\":");
	if (a->echo_content)
		buf_puts(&text, a->echo_content);
	buf_append(&text, c->text.data, c->text.len);
	if (c->thinking && !text.len) /* the answer ended before its content began */
		buf_puts(out, "null");
	else
		json_put_string(out, text.data ? text.data : "", text.len);
	buf_puts(out, ",\"refusal\":null,\"annotations\":null,\"audio\":null,\"function_call\":null,");
	if (c->prompt->thinking && a->show_reasoning && c->reasoning.len)
		put_reasoning(out, &c->reasoning);
	else
		buf_puts(out, "\"reasoning_content\":null,\"reasoning\":null");
	buf_putc(out, '}');
	buf_deinit(&text);
}

static void whole(struct buf *out, struct answer *a)
{
	buf_putc(out, '{');
	answer_put_head(out, a, a->form->object);
	buf_puts(out, ",\"choices\":[");
	for (uint32_t i = 0; i < a->n_choices; i++) {
		const struct choice *c = &a->choices[i];

		buf_printf(out, "%s{\"index\":%u,", i ? "," : "", i);
		put_message(out, c);
		put_logprobs(out, c, 0);
		buf_puts(out, ",\"finish_reason\":");
		json_put_text(out, c->finish);
		buf_puts(out, ",\"stop_reason\":");
		answer_put_stop_reason(out, c);
		buf_puts(out, ",\"token_ids\":");
		if (a->p.return_ids)
			json_put_ids(out, engine_job_ids(c->job), c->seen);
		else
			buf_puts(out, "null");
		buf_putc(out, '}');
	}
	buf_puts(out, "],\"service_tier\":null,\"system_fingerprint\":null,");
	answer_put_usage(out, a, NULL);
	buf_puts(out, ",\"prompt_logprobs\":");
	logprobs_put_prompt(out, &a->choices[0]);
	buf_puts(out, ",\"prompt_token_ids\":");
	if (a->p.return_ids)
		json_put_ids(out, a->prompts[0].ids.data, a->prompts[0].ids.len);
	else
		buf_puts(out, "null");
	buf_puts(out, ",\"kv_transfer_params\":null}");
}

/* --- the request ---------------------------------------------------------------------------------------- */

static enum status parse_logprobs(struct answer *a, struct refusal *no)
{
	bool logprobs = false;
	int64_t top = 0;

	TRY(field_bool(&logprobs, a->body, "logprobs", no));
	TRY(field_int(&top, a->body, "top_logprobs", -1, INT32_MAX, no));
	if (top != 0 && !logprobs)
		return refuse(no, "top_logprobs", "when using `top_logprobs`, `logprobs` must be set to true.");
	if (top < 0 || top > (int64_t)a->s->o->max_logprobs)
		return refuse(no, "top_logprobs",
			"Requested sample logprobs of %lld, which is greater than max allowed: %u",
			top < 0 ? (long long)a->s->vocab : (long long)top, a->s->o->max_logprobs);
	a->p.n_logprobs = logprobs ? (int)top : -1;
	return OK;
}

static enum status parse_max_tokens(struct answer *a, struct refusal *no)
{
	int64_t v = -1;

	TRY(field_int(&v, a->body, "max_tokens", 1, INT32_MAX, no));
	TRY(field_int(&v, a->body, "max_completion_tokens", 1, INT32_MAX, no));
	a->p.max_tokens = v;
	return OK;
}

static enum status refuse_tools(const json_t *body, struct refusal *no)
{
	const json_t *tools = field_get(body, "tools"), *choice = field_get(body, "tool_choice");
	bool none = json_is_string(choice) && strcmp(json_string_value(choice), "none") == 0;

	if (tools && !json_is_array(tools))
		return refuse_shape(no, "tools", "tools: expected a list");
	if (tools && json_array_size(tools) == 0)
		return refuse(no, "tools", "tools must not be an empty list.");
	if (!tools && choice && !none)
		return refuse(no, "tool_choice", "When using `tool_choice`, `tools` must be set.");
	if (tools && !none)
		return refuse(no, "tools",
			"tools: parsing of tool calls is not supported; with tool_choice \"none\" they are shown to "
			"the model");
	return OK;
}

/* echo: the last message's text in front of the answer, when it has the answer's role. */
static void set_echo(struct answer *a)
{
	const json_t *messages = json_object_get(a->body, "messages");
	const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
	const char *role = json_string_value(json_object_get(last, "role"));

	if (a->echo && role && strcmp(role, a->role) == 0)
		a->echo_content = json_string_value(json_object_get(last, "content"));
}

static enum status parse(struct answer *a, struct refusal *no)
{
	TRY(openai_check_model(a->s, a->body, no));
	TRY(openai_sampling_parse(&a->p, a->s, a->body, a->call->r, no));
	TRY(parse_logprobs(a, no));
	TRY(parse_max_tokens(a, no));
	TRY(refuse_tools(a->body, no));
	TRY(field_bool(&a->show_reasoning, a->body, "include_reasoning", no));
	TRY(field_bool(&a->echo, a->body, "echo", no));
	a->role = a->s->o->response_role;
	return OK;
}

static enum status prompts(struct answer *a, struct tokenizer_scratch *scratch, struct refusal *no)
{
	answer_set_prompts(a, 1);
	TRY(chat_prompt_make(&a->prompts[0].ids, a->s, scratch, a->body, no));
	set_echo(a);
	a->prompts[0].thinking = chat_prompt_thinks(a->s, &a->prompts[0].ids);
	return openai_sampling_budget(&a->prompts[0].max_tokens, &a->prompts[0].ids, &a->p, a->s, no);
}

const struct answer_form openai_chat_form = {
	.id_prefix = "chatcmpl-",
	.object = "chat.completion",
	.chunk_object = "chat.completion.chunk",
	.chunk = chunk,
	.whole = whole,
	.parse = parse,
	.prompts = prompts,
};

void handle_chat(struct call *c)
{
	answer_begin(c, &openai_chat_form);
}
