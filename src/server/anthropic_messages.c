/*
 * POST /v1/messages, the Anthropic API (spec: serving, section 1.11): requests become chat completions
 * (anthropic_request.c), answers are written as blocks of thinking, text and tool use.
 */
#include <string.h>

#include "base/json.h"
#include "server/anthropic_request.h"
#include "server/answer.h"
#include "server/choice.h"
#include "server/convert.h"
#include "server/fields.h"
#include "server/json_put.h"

/* --- what whole answers and streams share ------------------------------------------------------------------ */

static const char *stop_reason(const struct choice *c)
{
	if (strcmp(c->finish, "length") == 0)
		return "max_tokens";
	if (c->n_calls && c->stop_kind == STOP_NONE)
		return "tool_use";
	return c->stop_kind == STOP_AT_STRING ? "stop_sequence" : "end_turn";
}

static void put_stop(struct buf *out, const struct choice *c)
{
	buf_printf(out, "\"stop_reason\":\"%s\",\"stop_sequence\":", stop_reason(c));
	json_put_text(out, c->stop_kind == STOP_AT_STRING ? c->a->p.stops.strings[c->stop].text : NULL);
}

static void put_usage(struct buf *out, const struct choice *c)
{
	unsigned long long prompt = c->prompt->ids.len, cached = c->seen ? engine_job_cached(c->job) : 0;

	buf_printf(out, "\"usage\":{\"input_tokens\":%llu,\"cache_creation_input_tokens\":0,"
		"\"cache_read_input_tokens\":%llu,\"output_tokens\":%u}", prompt - cached, cached, c->seen);
}

static void put_head(struct buf *out, const struct answer *a)
{
	buf_puts(out, "{\"id\":");
	json_put_text(out, a->id);
	buf_puts(out, ",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
	json_put_text(out, serving_name(a->s));
}

static void put_text(struct buf *out, const struct buf *text)
{
	json_put_string(out, text->len ? text->data : "", text->len);
}

static void put_call_head(struct buf *out, const struct choice_call *call)
{
	buf_puts(out, "{\"type\":\"tool_use\",\"id\":");
	json_put_text(out, call->id);
	buf_puts(out, ",\"name\":");
	put_text(out, &call->name);
	buf_puts(out, ",\"input\":");
}

/* --- whole answers ----------------------------------------------------------------------------------------- */

/* Input is an object, always: what is none is wrapped as Anthropic tells its own clients to do. */
static void put_wrapped(struct buf *out, const struct buf *arguments)
{
	buf_puts(out, "{\"INVALID_JSON\":");
	put_text(out, arguments);
	buf_putc(out, '}');
}

static void put_input(struct buf *out, const struct buf *arguments)
{
	if (json_is_object_text(arguments->data, arguments->len))
		buf_append(out, arguments->data, arguments->len);
	else if (arguments->len == 0)
		buf_puts(out, "{}");
	else
		put_wrapped(out, arguments);
}

static void put_block(struct buf *out, const struct choice *c, const struct choice_part *part)
{
	if (part->kind == CHAT_CALL) {
		put_call_head(out, &c->calls[part->call]);
		put_input(out, &c->calls[part->call].arguments);
	} else {
		buf_puts(out, part->kind == CHAT_REASONING ? "{\"type\":\"thinking\",\"signature\":\"\",\"thinking\":" :
			"{\"type\":\"text\",\"text\":");
		json_put_string(out, choice_part_text(c, part), part->len);
	}
	buf_putc(out, '}');
}

static void whole(struct buf *out, struct answer *a)
{
	const struct choice *c = &a->choices[0];

	put_head(out, a);
	buf_puts(out, ",\"content\":[");
	for (size_t i = 0; i < c->n_parts; i++) {
		buf_puts(out, i ? "," : "");
		put_block(out, c, &c->parts[i]);
	}
	buf_puts(out, "],");
	put_stop(out, c);
	buf_putc(out, ',');
	put_usage(out, c);
	buf_putc(out, '}');
}

/* --- streams ----------------------------------------------------------------------------------------------- */

static struct buf *begin_event(struct answer *a, const char *type)
{
	buf_reset(&a->event);
	buf_printf(&a->event, "{\"type\":\"%s\"", type);
	return &a->event;
}

static void end_event(struct answer *a, const char *type)
{
	buf_putc(&a->event, '}');
	answer_send_named(a, type, &a->event);
}

static void send_start(struct choice *c)
{
	struct buf *out = begin_event(c->a, "message_start");

	buf_puts(out, ",\"message\":");
	put_head(out, c->a);
	buf_puts(out, ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,");
	put_usage(out, c);
	buf_putc(out, '}');
	end_event(c->a, "message_start");
	begin_event(c->a, "ping");
	end_event(c->a, "ping");
}

static void close_block(struct choice *c)
{
	if (!c->block)
		return;
	buf_printf(begin_event(c->a, "content_block_stop"), ",\"index\":%zu", c->n_blocks - 1);
	end_event(c->a, "content_block_stop");
	c->block = NULL;
}

/* The beginning of an event that opens a block; the block's object follows. */
static struct buf *open_block(struct choice *c, const char *kind)
{
	close_block(c);
	c->block = kind;
	buf_printf(begin_event(c->a, "content_block_start"), ",\"index\":%zu,\"content_block\":", c->n_blocks++);
	return &c->a->event;
}

static void send_delta(struct choice *c, const char *type, const char *key, const char *text, size_t len)
{
	struct buf *out = begin_event(c->a, "content_block_delta");

	buf_printf(out, ",\"index\":%zu,\"delta\":{\"type\":\"%s\",\"%s\":", c->n_blocks - 1, type, key);
	json_put_string(out, text, len);
	buf_putc(out, '}');
	end_event(c->a, "content_block_delta");
}

static void send_text(struct choice *c, const struct choice_part *part)
{
	bool thinking = part->kind == CHAT_REASONING;
	const char *kind = thinking ? "thinking" : "text";

	if (part->len == 0)
		return;
	if (!c->block || strcmp(c->block, kind) != 0) {
		buf_puts(open_block(c, kind), thinking ? "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}" :
			"{\"type\":\"text\",\"text\":\"\"}");
		end_event(c->a, "content_block_start");
	}
	send_delta(c, thinking ? "thinking_delta" : "text_delta", kind, choice_part_text(c, part), part->len);
}

/* Clients read arguments as they come, so what cannot become an object waits for its end, to be wrapped. */
static void send_arguments(struct choice *c, struct choice_call *call)
{
	const struct buf *text = &call->arguments;
	struct buf wrapped = { 0 };

	if (call->arguments_sent == text->len)
		return;
	if (text->data[strspn(text->data, " \t\r\n")] == '{') {
		send_delta(c, "input_json_delta", "partial_json", text->data + call->arguments_sent,
			text->len - call->arguments_sent);
	} else if (call->ended) {
		put_wrapped(&wrapped, text);
		send_delta(c, "input_json_delta", "partial_json", wrapped.data, wrapped.len);
		buf_deinit(&wrapped);
	} else {
		return;
	}
	call->arguments_sent = text->len;
}

static void send_call(struct choice *c, struct choice_call *call)
{
	if (!call->announced) {
		put_call_head(open_block(c, "tool_use"), call);
		buf_puts(&c->a->event, "{}}");
		end_event(c->a, "content_block_start");
	}
	call->announced = true;
	send_arguments(c, call);
}

static void send_stop(struct choice *c)
{
	struct buf *out;

	close_block(c);
	out = begin_event(c->a, "message_delta");
	buf_puts(out, ",\"delta\":{");
	put_stop(out, c);
	buf_puts(out, "},");
	put_usage(out, c);
	end_event(c->a, "message_delta");
	begin_event(c->a, "message_stop");
	end_event(c->a, "message_stop");
}

static bool chunk(struct choice *c)
{
	if (!c->started)
		send_start(c);
	for (size_t i = 0; i < c->n_parts; i++) {
		if (c->parts[i].kind == CHAT_CALL)
			send_call(c, &c->calls[c->parts[i].call]);
		else
			send_text(c, &c->parts[i]);
	}
	if (c->done)
		send_stop(c);
	return true;
}

/* --- requests ---------------------------------------------------------------------------------------------- */

static void rename_refusal(const json_t *request, struct refusal *no)
{
	const char *format = field_get(request, "output_format") ? "output_format" : "output_config.format";
	const char *const names[][2] = { { "stop", "stop_sequences" }, { "response_format", format } };

	convert_refusal(no, names, sizeof(names) / sizeof(*names), "input_schema");
}

static enum status convert(json_t **out, const json_t *request, struct refusal *no)
{
	return anthropic_convert(out, request, false, no);
}

const struct answer_form anthropic_form = {
	.id_prefix = "msg_",
	.call_prefix = "toolu_",
	.chunk = chunk,
	.whole = whole,
	.convert = convert,
	.rename = rename_refusal,
	.parse = openai_chat_parse,
	.prompts = openai_chat_prompts,
};

void handle_messages(struct call *c)
{
	answer_begin(c, &anthropic_form);
}
