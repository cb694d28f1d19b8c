/*
 * POST /v1/responses (spec: serving, section 1.10): requests become chat completions (responses_request.c),
 * answers are written as items: reasoning, a message, calls of functions. Nothing is stored.
 */
#include <stdlib.h>
#include <string.h>

#include "server/answer.h"
#include "server/choice.h"
#include "server/convert.h"
#include "server/fields.h"
#include "server/json_put.h"
#include "server/responses_request.h"

static const char reasoning_kind[] = "reasoning", message_kind[] = "message", call_kind[] = "function_call";

/* --- items ------------------------------------------------------------------------------------------------- */

/* The id of item `index` of the answer. */
static void put_item_id(struct buf *out, const struct choice *c, const char *kind, size_t index)
{
	const char *prefix = kind == reasoning_kind ? "rs" : kind == message_kind ? "msg" : "fc";
	struct buf id = { 0 };

	buf_printf(&id, "%s_%s_%zu", prefix, c->a->id + strlen(c->a->form->id_prefix), index);
	json_put_text(out, id.data);
	buf_deinit(&id);
}

static void put_text(struct buf *out, const struct buf *text)
{
	json_put_string(out, text->len ? text->data : "", text->len);
}

static void put_part(struct buf *out, const char *kind, const char *text, size_t len)
{
	buf_printf(out, "{\"type\":\"%s\",\"text\":", kind == reasoning_kind ? "reasoning_text" : "output_text");
	json_put_string(out, text, len);
	buf_puts(out, kind == reasoning_kind ? "}" : ",\"annotations\":[],\"logprobs\":[]}");
}

static const char in_progress[] = "in_progress", completed[] = "completed", incomplete[] = "incomplete",
	failed[] = "failed";

static const char *end_status(const struct choice *c)
{
	return strcmp(c->finish, "length") == 0 ? incomplete : completed;
}

/* Of an item that is over. last: none follows it, so that it is what the limit of tokens cut. */
static const char *item_status(const struct choice *c, bool last)
{
	return last && c->done ? end_status(c) : completed;
}

static const char *call_status(const struct choice *c, const struct choice_call *call, bool last)
{
	return item_status(c, last && !call->complete);
}

/* text NULL: the item has only begun. */
static void put_text_item(struct buf *out, const struct choice *c, const char *kind, size_t index,
	const char *status, const char *text, size_t len)
{
	buf_puts(out, "{\"id\":");
	put_item_id(out, c, kind, index);
	buf_printf(out, ",\"type\":\"%s\",\"status\":\"%s\",", kind, status);
	buf_puts(out, kind == reasoning_kind ? "\"summary\":[],\"encrypted_content\":null,\"content\":[" :
		"\"role\":\"assistant\",\"content\":[");
	if (text)
		put_part(out, kind, text, len);
	buf_puts(out, "]}");
}

static void put_call_item(struct buf *out, const struct choice *c, const struct choice_call *call, size_t index,
	const char *status)
{
	buf_puts(out, "{\"id\":");
	put_item_id(out, c, call_kind, index);
	buf_printf(out, ",\"type\":\"function_call\",\"status\":\"%s\",\"call_id\":", status);
	json_put_text(out, call->id);
	buf_puts(out, ",\"name\":");
	put_text(out, &call->name);
	buf_puts(out, ",\"arguments\":");
	if (status == in_progress)
		buf_puts(out, "\"\"");
	else
		put_text(out, &call->arguments);
	buf_putc(out, '}');
}

static const char *kind_of(const struct choice_part *part)
{
	return part->kind == CHAT_CALL ? call_kind : part->kind == CHAT_REASONING ? reasoning_kind : message_kind;
}

static void put_output(struct buf *out, const struct choice *c)
{
	for (size_t i = 0; i < c->n_parts; i++) {
		const struct choice_part *part = &c->parts[i];
		bool last = i + 1 == c->n_parts;

		buf_puts(out, i ? "," : "");
		if (part->kind == CHAT_CALL)
			put_call_item(out, c, &c->calls[part->call], i, call_status(c, &c->calls[part->call], last));
		else
			put_text_item(out, c, kind_of(part), i, item_status(c, last), choice_part_text(c, part), part->len);
	}
}

/* --- the response ------------------------------------------------------------------------------------------ */

/* "name": the request's own value, or what stands for none. */
static void put_echo(struct buf *out, const struct answer *a, const char *name, const char *none)
{
	const json_t *v = field_get(a->request, name);
	char *text = v ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	buf_printf(out, "\"%s\":%s,", name, text ? text : none);
	free(text);
}

static void put_usage(struct buf *out, const struct choice *c)
{
	unsigned long long prompt = c->prompt->ids.len;

	buf_printf(out, "{\"input_tokens\":%llu,\"input_tokens_details\":{\"cached_tokens\":%u},\"output_tokens\":%u,"
		"\"output_tokens_details\":{\"reasoning_tokens\":%u},\"total_tokens\":%llu}", prompt,
		c->seen ? engine_job_cached(c->job) : 0, c->seen, c->n_reasoning, prompt + c->seen);
}

static void put_error(struct buf *out, const struct refusal *no)
{
	if (!no) {
		buf_puts(out, "null");
		return;
	}
	buf_printf(out, "{\"code\":\"%s\",\"message\":", no->status == 429 ? "rate_limit_exceeded" :
		no->status < 500 ? "invalid_prompt" : "server_error");
	json_put_text(out, no->message);
	buf_putc(out, '}');
}

/* output: the items' JSON. no: why it failed, or NULL. */
static void put_response(struct buf *out, const struct choice *c, const struct buf *output, const char *status,
	const struct refusal *no)
{
	const struct answer *a = c->a;

	buf_puts(out, "{\"id\":");
	json_put_text(out, a->id);
	buf_printf(out, ",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\",\"background\":false,\"error\":",
		(long long)a->created, status);
	put_error(out, no);
	buf_printf(out, ",\"incomplete_details\":%s,\"model\":",
		status == incomplete ? "{\"reason\":\"max_output_tokens\"}" : "null");
	json_put_text(out, serving_name(a->s));
	buf_puts(out, ",\"output\":[");
	buf_append(out, output->data, output->len);
	buf_puts(out, "],");
	put_echo(out, a, "instructions", "null");
	put_echo(out, a, "max_output_tokens", "null");
	put_echo(out, a, "metadata", "{}");
	put_echo(out, a, "reasoning", "{\"effort\":null,\"summary\":null}");
	put_echo(out, a, "text", "{\"format\":{\"type\":\"text\"}}");
	put_echo(out, a, "tool_choice", "\"auto\"");
	put_echo(out, a, "tools", "[]");
	put_echo(out, a, "user", "null");
	buf_printf(out, "\"parallel_tool_calls\":%s,\"temperature\":", a->tools.parallel ? "true" : "false");
	json_put_real(out, a->p.params.temperature);
	buf_puts(out, ",\"top_p\":");
	json_put_real(out, a->p.params.top_p);
	buf_puts(out, ",\"max_tool_calls\":null,\"previous_response_id\":null,\"prompt\":null,\"service_tier\":null,"
		"\"store\":false,\"top_logprobs\":0,\"truncation\":\"disabled\",\"usage\":");
	if (status == completed || status == incomplete)
		put_usage(out, c);
	else
		buf_puts(out, "null");
	buf_putc(out, '}');
}

static void whole(struct buf *out, struct answer *a)
{
	struct buf output = { 0 };

	put_output(&output, &a->choices[0]);
	put_response(out, &a->choices[0], &output, end_status(&a->choices[0]), NULL);
	buf_deinit(&output);
}

/* --- streams ----------------------------------------------------------------------------------------------- */

static struct buf *begin_event(struct choice *c, const char *type)
{
	buf_reset(&c->a->event);
	buf_printf(&c->a->event, "{\"type\":\"%s\",\"sequence_number\":%llu", type, (unsigned long long)c->n_events++);
	return &c->a->event;
}

static void end_event(struct choice *c, const char *type)
{
	buf_putc(&c->a->event, '}');
	answer_send_named(c->a, type, &c->a->event);
}

static void send_response(struct choice *c, const char *type, const char *status, const struct refusal *no)
{
	buf_puts(begin_event(c, type), ",\"response\":");
	put_response(&c->a->event, c, &c->output, status, no);
	end_event(c, type);
}

/* An event about the open item. */
static struct buf *begin_item_event(struct choice *c, const char *type)
{
	struct buf *out = begin_event(c, type);

	buf_puts(out, ",\"item_id\":");
	put_item_id(out, c, c->block, c->n_blocks - 1);
	buf_printf(out, ",\"output_index\":%zu", c->n_blocks - 1);
	if (c->block != call_kind)
		buf_puts(out, ",\"content_index\":0");
	return out;
}

static void send_part(struct choice *c, const char *type, const struct buf *text)
{
	buf_puts(begin_item_event(c, type), ",\"part\":");
	put_part(&c->a->event, c->block, text->len ? text->data : "", text->len);
	end_event(c, type);
}

static void send_item(struct choice *c, const char *type, const struct buf *item)
{
	buf_printf(begin_event(c, type), ",\"output_index\":%zu,\"item\":", c->n_blocks - 1);
	buf_append(&c->a->event, item->data, item->len);
	end_event(c, type);
}

static void close_text(struct choice *c)
{
	const char *type = c->block == reasoning_kind ? "response.reasoning_text.done" : "response.output_text.done";

	buf_puts(begin_item_event(c, type), ",\"text\":");
	put_text(&c->a->event, &c->item);
	buf_puts(&c->a->event, c->block == reasoning_kind ? "" : ",\"logprobs\":[]");
	end_event(c, type);
	send_part(c, "response.content_part.done", &c->item);
}

/* The call that was announced last. */
static struct choice_call *open_call(struct choice *c)
{
	size_t i = c->n_calls;

	while (i > 1 && !c->calls[i - 1].announced)
		i--;
	return &c->calls[i - 1];
}

static void close_call(struct choice *c)
{
	struct choice_call *call = open_call(c);
	struct buf *out = begin_item_event(c, "response.function_call_arguments.done");

	buf_puts(out, ",\"name\":");
	put_text(out, &call->name);
	buf_puts(out, ",\"arguments\":");
	put_text(out, &call->arguments);
	end_event(c, "response.function_call_arguments.done");
}

static void close_item(struct choice *c, bool last)
{
	struct buf item = { 0 };

	if (!c->block)
		return;
	if (c->block == call_kind) {
		close_call(c);
		put_call_item(&item, c, open_call(c), c->n_blocks - 1, call_status(c, open_call(c), last));
	} else {
		close_text(c);
		put_text_item(&item, c, c->block, c->n_blocks - 1, item_status(c, last), c->item.data, c->item.len);
	}
	send_item(c, "response.output_item.done", &item);
	buf_puts(&c->output, c->output.len ? "," : "");
	buf_append(&c->output, item.data, item.len);
	buf_deinit(&item);
	buf_reset(&c->item);
	c->block = NULL;
}

static void open_text(struct choice *c, const char *kind)
{
	struct buf item = { 0 };

	close_item(c, false);
	c->block = kind;
	put_text_item(&item, c, kind, c->n_blocks++, in_progress, NULL, 0);
	send_item(c, "response.output_item.added", &item);
	send_part(c, "response.content_part.added", &c->item);
	buf_deinit(&item);
}

static void send_text(struct choice *c, const struct choice_part *part)
{
	const char *kind = kind_of(part), *text;
	const char *type = kind == reasoning_kind ? "response.reasoning_text.delta" : "response.output_text.delta";

	if (part->len == 0)
		return;
	if (c->block != kind)
		open_text(c, kind);
	text = choice_part_text(c, part);
	buf_append(&c->item, text, part->len);
	buf_puts(begin_item_event(c, type), ",\"delta\":");
	json_put_string(&c->a->event, text, part->len);
	buf_puts(&c->a->event, kind == reasoning_kind ? "" : ",\"logprobs\":[]");
	end_event(c, type);
}

static void announce(struct choice *c, struct choice_call *call)
{
	struct buf item = { 0 };

	close_item(c, false);
	c->block = call_kind;
	call->announced = true;
	put_call_item(&item, c, call, c->n_blocks++, in_progress);
	send_item(c, "response.output_item.added", &item);
	buf_deinit(&item);
}

static void send_call(struct choice *c, struct choice_call *call)
{
	size_t from = call->arguments_sent;

	if (!call->announced)
		announce(c, call);
	call->arguments_sent = call->arguments.len;
	if (call->arguments.len == from)
		return;
	buf_puts(begin_item_event(c, "response.function_call_arguments.delta"), ",\"delta\":");
	json_put_string(&c->a->event, call->arguments.data + from, call->arguments.len - from);
	end_event(c, "response.function_call_arguments.delta");
}

static void send_begin(struct choice *c)
{
	send_response(c, "response.created", in_progress, NULL);
	send_response(c, "response.in_progress", in_progress, NULL);
}

static bool chunk(struct choice *c)
{
	if (!c->started)
		send_begin(c);
	for (size_t i = 0; i < c->n_parts; i++) {
		if (c->parts[i].kind == CHAT_CALL)
			send_call(c, &c->calls[c->parts[i].call]);
		else
			send_text(c, &c->parts[i]);
	}
	if (c->done) {
		close_item(c, true);
		send_response(c, end_status(c) == incomplete ? "response.incomplete" : "response.completed", end_status(c),
			NULL);
	}
	return true;
}

/* Some clients look for the one, some for the other. */
static void fail(struct answer *a, const struct refusal *no)
{
	struct choice *c = &a->choices[0];
	struct buf *out;

	if (!c->started)
		send_begin(c);
	out = begin_event(c, "error");
	buf_puts(out, ",\"code\":");
	json_put_text(out, no->type);
	buf_puts(out, ",\"message\":");
	json_put_text(out, no->message);
	buf_puts(out, ",\"param\":");
	json_put_text(out, *no->param ? no->param : NULL);
	end_event(c, "error");
	send_response(c, "response.failed", failed, no);
}

/* --- requests ---------------------------------------------------------------------------------------------- */

static void rename_refusal(const json_t *request, struct refusal *no)
{
	static const char *const names[][2] = { { "max_completion_tokens", "max_output_tokens" },
		{ "reasoning_effort", "reasoning.effort" }, { "response_format", "text.format" } };

	convert_refusal(no, names, sizeof(names) / sizeof(*names), "parameters");
}

const struct answer_form openai_responses_form = {
	.id_prefix = "resp_",
	.call_prefix = "call_",
	.repeats = true,
	.chunk = chunk,
	.whole = whole,
	.failed = fail,
	.convert = responses_convert,
	.rename = rename_refusal,
	.parse = openai_chat_parse,
	.prompts = openai_chat_prompts,
};

void handle_responses(struct call *c)
{
	answer_begin(c, &openai_responses_form);
}
