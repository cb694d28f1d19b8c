/* POST /v1/chat/completions (spec: serving, sections 1.5, 1.7, 1.8). */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "server/answer.h"
#include "server/chat_prompt.h"
#include "server/choice.h"
#include "server/fields.h"
#include "server/json_put.h"
#include "server/openai_logprobs.h"

/* --- the answer ----------------------------------------------------------------------------------------- */

/* The first token from here on that the client may see. */
static uint32_t shown_from(const struct choice *c, uint32_t from)
{
	return !c->a->show_reasoning && from < c->reasoning_end ? c->reasoning_end : from;
}

static void put_logprobs(struct buf *out, const struct choice *c, uint32_t from)
{
	const struct answer *a = c->a;

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
	answer_put_head(out, c->a);
	buf_puts(out, ",\"choices\":[{\"index\":");
	buf_put_u64(out, c->index);
	buf_puts(out, ",\"delta\":{");
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
	json_put_string(out, c->a->echo_text.len ? c->a->echo_text.data : "", c->a->echo_text.len);
	buf_puts(out, "},\"logprobs\":null,\"finish_reason\":null");
	end_chunk(out, c, c->a->p.return_ids);
}

static void put_call(struct buf *out, const struct choice_call *call, size_t from)
{
	buf_puts(out, "\"function\":{");
	if (from == 0 && !call->announced) {
		buf_puts(out, "\"name\":");
		json_put_string(out, call->name.len ? call->name.data : "", call->name.len);
		buf_putc(out, ',');
	}
	buf_puts(out, "\"arguments\":");
	json_put_string(out, call->arguments.data + from, call->arguments.len - from);
	buf_putc(out, '}');
}

static void put_call_head(struct buf *out, const struct choice_call *call)
{
	buf_puts(out, "\"id\":");
	json_put_text(out, call->id);
	buf_puts(out, ",\"type\":\"function\",");
}

static void put_call_deltas(struct buf *out, struct choice *c)
{
	buf_puts(out, "\"tool_calls\":[");
	for (size_t i = choice_calls_from(c), first = i; i < c->n_calls; i++) {
		struct choice_call *call = &c->calls[i];

		buf_printf(out, "%s{\"index\":%zu,", i > first ? "," : "", i);
		if (!call->announced)
			put_call_head(out, call);
		put_call(out, call, call->arguments_sent);
		buf_putc(out, '}');
		call->announced = true;
		call->arguments_sent = call->arguments.len;
	}
	buf_putc(out, ']');
}

/* Whether content has not begun. */
static bool is_reasoning(const struct choice *c)
{
	return c->parse.state == CHAT_IN_REASONING || c->parse.reasoning_cut;
}

static void put_delta(struct buf *out, struct choice *c)
{
	bool reasoning = c->reasoning.len && c->a->show_reasoning, calls = choice_calls_from(c) < c->n_calls;
	bool content = c->text.len || (!reasoning && !is_reasoning(c) && c->n_calls == 0);

	if (reasoning)
		put_reasoning(out, &c->reasoning);
	if (content) {
		buf_puts(out, reasoning ? ",\"content\":" : "\"content\":");
		json_put_string(out, c->text.len ? c->text.data : "", c->text.len);
	}
	if (calls) {
		buf_puts(out, reasoning || content ? "," : "");
		put_call_deltas(out, c);
	}
}

/* Whether what is new of a choice shows: names, markers and hidden reasoning alone do not. */
static bool is_silent(const struct choice *c)
{
	bool reasoning = c->parse.state == CHAT_IN_REASONING;

	if (c->done || c->text.len || (c->reasoning.len && c->a->show_reasoning) || choice_calls_from(c) < c->n_calls)
		return false;
	return (reasoning && !c->a->show_reasoning) || (!reasoning && c->parse.state != CHAT_IN_CONTENT);
}

static bool chunk(struct choice *c)
{
	struct answer *a = c->a;
	struct buf *out = &a->event;
	uint32_t from = shown_from(c, c->sent);

	if (!c->started)
		first_chunk(c);
	c->started = true;
	if (is_silent(c))
		return false;
	begin_chunk(out, c);
	put_delta(out, c);
	buf_putc(out, '}');
	put_logprobs(out, c, from);
	buf_puts(out, ",\"finish_reason\":");
	json_put_text(out, c->finish);
	if (c->done) {
		buf_puts(out, ",\"stop_reason\":");
		answer_put_stop_reason(out, c);
	}
	if (a->p.return_ids) {
		buf_puts(out, ",\"token_ids\":");
		json_put_ids(out, engine_job_ids(c->job) + from, c->seen - from);
	}
	end_chunk(out, c, false);
	return true;
}

static void put_calls(struct buf *out, const struct choice *c)
{
	if (c->n_calls == 0)
		return;
	buf_puts(out, "\"tool_calls\":[");
	for (size_t i = 0; i < c->n_calls; i++) {
		buf_puts(out, i ? ",{" : "{");
		put_call_head(out, &c->calls[i]);
		put_call(out, &c->calls[i], 0);
		buf_putc(out, '}');
	}
	buf_puts(out, "],");
}

static void put_message(struct buf *out, const struct choice *c)
{
	const struct answer *a = c->a;
	struct buf text = { 0 };

	buf_puts(out, "\"message\":{\"role\":");
	json_put_text(out, a->role);
	buf_puts(out, ",\"content\":");
	buf_append(&text, a->echo_text.data, a->echo_text.len);
	buf_append(&text, c->text.data, c->text.len);
	/* beside calls, or when the answer ended before its content began */
	if (!text.len && (c->n_calls || is_reasoning(c)))
		buf_puts(out, "null");
	else
		json_put_string(out, text.data ? text.data : "", text.len);
	buf_puts(out, ",\"refusal\":null,\"annotations\":null,\"audio\":null,\"function_call\":null,");
	put_calls(out, c);
	if (a->show_reasoning && c->reasoning.len)
		put_reasoning(out, &c->reasoning);
	else
		buf_puts(out, "\"reasoning_content\":null,\"reasoning\":null");
	buf_putc(out, '}');
	buf_deinit(&text);
}

static void whole(struct buf *out, struct answer *a)
{
	buf_putc(out, '{');
	answer_put_head(out, a);
	buf_puts(out, ",\"choices\":[");
	for (uint32_t i = 0; i < a->n_choices; i++) {
		const struct choice *c = &a->choices[i];

		buf_printf(out, "%s{\"index\":%u,", i ? "," : "", i);
		put_message(out, c);
		put_logprobs(out, c, shown_from(c, 0));
		buf_puts(out, ",\"finish_reason\":");
		json_put_text(out, c->finish);
		buf_puts(out, ",\"stop_reason\":");
		answer_put_stop_reason(out, c);
		buf_puts(out, ",\"token_ids\":");
		if (a->p.return_ids)
			json_put_ids(out, engine_job_ids(c->job) + shown_from(c, 0), c->seen - shown_from(c, 0));
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

static enum status parse_tools(struct answer *a, struct refusal *no)
{
	const struct serving *s = a->s;
	bool calls;

	TRY(openai_tools_parse(&a->tools, a->body, no));
	calls = a->tools.choice != TOOLS_NONE;
	if (calls && !chat_format_has_calls(&s->format))
		return refuse(no, "tools", "tools: the model's tokenizer has no tokens for tool calls");
	if (calls && s->o->chat && !field_get(a->body, "chat_template") &&
		!chat_template_shows_tools(s->o->chat))
		return refuse(no, "tools", "tools: the model's chat template does not show them to the model: start "
			"the server with another --chat-template");
	/* Also without tools: messages that hold calls lead the model to more of them. */
	if (!calls && chat_format_has_calls(&s->format)) {
		openai_sampling_forbid(&a->p, s, s->format.calls_begin);
		openai_sampling_forbid(&a->p, s, s->format.call_begin);
		openai_sampling_forbid(&a->p, s, s->format.sep);
	}
	return OK;
}

/* echo: the last message's text in front of the answer, when it has the answer's role. */
static void set_echo(struct answer *a)
{
	const json_t *messages = json_object_get(a->body, "messages");
	const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
	const json_t *content = json_object_get(last, "content");
	const char *role = json_string_value(json_object_get(last, "role"));

	if (a->echo && role && strcmp(role, a->role) == 0 && json_is_string(content))
		buf_append(&a->echo_text, json_string_value(content), json_string_length(content));
}

enum status openai_chat_parse(struct answer *a, struct tokenizer_scratch *scratch, struct refusal *no)
{
	TRY(openai_check_model(a->s, a->body, no));
	TRY(openai_sampling_parse(&a->p, a->s, scratch, a->body, a->call->r, no));
	TRY(parse_logprobs(a, no));
	TRY(parse_max_tokens(a, no));
	TRY(parse_tools(a, no));
	for (size_t i = 0; i < a->s->format.n_ends; i++)
		openai_sampling_add_end(&a->p, a->s, a->s->format.ends[i]);
	TRY(field_bool(&a->show_reasoning, a->body, "include_reasoning", no));
	TRY(field_bool(&a->echo, a->body, "echo", no));
	a->role = a->s->o->response_role;
	return OK;
}

enum status openai_chat_prompts(struct answer *a, struct tokenizer_scratch *scratch, struct refusal *no)
{
	answer_set_prompts(a, 1);
	TRY(chat_prompt_make(&a->prompts[0].ids, a->s, scratch, a->body, no));
	set_echo(a);
	a->split = true;
	a->prompts[0].thinking = chat_prompt_opens_thinking(&a->s->format, a->s->tok, a->prompts[0].ids.data,
		a->prompts[0].ids.len, a->s->o->always_thinks);
	openai_sampling_limit_thinking(&a->p, &a->s->format, a->prompts[0].thinking);
	return openai_sampling_budget(&a->prompts[0].max_tokens, &a->prompts[0].ids, &a->p, a->s, no);
}

const struct answer_form openai_chat_form = {
	.id_prefix = "chatcmpl-",
	.call_prefix = "chatcmpl-tool-",
	.object = "chat.completion",
	.chunk_object = "chat.completion.chunk",
	.chunk = chunk,
	.whole = whole,
	.parse = openai_chat_parse,
	.prompts = openai_chat_prompts,
};

void handle_chat(struct call *c)
{
	answer_begin(c, &openai_chat_form);
}
