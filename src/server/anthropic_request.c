/* From Anthropic's fields and blocks to OpenAI's (server/anthropic_request.h). Values are shared, never copied
 * deeply; the body stays as it is. */
#include "server/anthropic_request.h"

#include <string.h>

#include "base/json.h"
#include "server/convert.h"
#include "server/fields.h"

/* An agent's line with a new number in every request: it would keep the prefix cache from ever hitting. */
#define BILLING "x-anthropic-billing-header:"

static bool is_billing(const json_t *text)
{
	const char *s = json_string_value(text);

	return s && strncmp(s, BILLING, strlen(BILLING)) == 0;
}

/* What a message calls a block that is refused. */
static const char *name_of(const json_t *block)
{
	const char *type = json_string_value(json_object_get(block, "type"));

	return !type ? "what has no type" : strcmp(type, "text") == 0 ? "text that is no string" : type;
}

/* Text of a string or of text blocks, as parts that a chat message takes. where: "messages[3].content". */
static enum status text_parts(json_t *parts, const json_t *content, const char *where, struct refusal *no)
{
	const json_t *block;
	size_t i;

	if (json_is_string(content)) {
		if (!is_billing(content))
			json_array_append_new(parts, json_pack("{s:s, s:O}", "type", "text", "text", content));
		return OK;
	}
	if (!json_is_array(content))
		return refuse_shape(no, where, "%s: expected a string or a list of blocks", where);
	json_array_foreach(content, i, block)
	{
		json_t *text = json_object_get(block, "text");

		if (!convert_is_type(block, "text") || !json_is_string(text))
			return refuse(no, where, "%s[%zu]: %.40s is not supported, only blocks of text are", where, i, name_of(block));
		if (!is_billing(text))
			json_array_append_new(parts, json_pack("{s:s, s:O}", "type", "text", "text", text));
	}
	return OK;
}

static enum status add_system(json_t *messages, const json_t *system, struct refusal *no)
{
	json_t *parts;
	enum status st;

	if (!system)
		return OK;
	parts = json_array();
	st = text_parts(parts, system, "system", no);
	if (st == OK && json_array_size(parts))
		json_array_append_new(messages, json_pack("{s:s, s:O}", "role", "system", "content", parts));
	json_decref(parts);
	return st;
}

/* One message on its way: what its blocks add up to. */
struct parts {
	size_t index;
	json_t *text, *calls; /* arrays, owned */
	json_t *reasoning;    /* owned; or NULL */
};

static enum status add_result(json_t *messages, const json_t *block, struct parts *p, size_t i, struct refusal *no)
{
	const json_t *id = json_object_get(block, "tool_use_id"), *content = field_get(block, "content");
	json_t *parts;
	enum status st;
	char where[96];

	if (!json_is_string(id))
		return refuse_shape(no, "messages", "messages[%zu].content[%zu].tool_use_id: expected a string", p->index, i);
	snprintf(where, sizeof(where), "messages[%zu].content[%zu].content", p->index, i);
	parts = json_array();
	st = content ? text_parts(parts, content, where, no) : OK;
	if (st == OK)
		json_array_append_new(messages,
			json_pack("{s:s, s:O, s:O}", "role", "tool", "tool_call_id", id, "content", parts));
	json_decref(parts);
	return st;
}

static enum status add_call(const json_t *block, struct parts *p, size_t i, struct refusal *no)
{
	const json_t *id = json_object_get(block, "id"), *name = json_object_get(block, "name");
	json_t *input = json_object_get(block, "input");

	if (!json_is_string(id) || !json_is_string(name) || !json_is_object(input))
		return refuse_shape(no, "messages", "messages[%zu].content[%zu]: expected id, name and an object as input",
			p->index, i);
	json_array_append_new(p->calls, json_pack("{s:O, s:s, s:{s:O, s:O}}", "id", id, "type", "function", "function",
		"name", name, "arguments", input));
	return OK;
}

/* Results go into messages of their own at once: they come before what the user says to them. */
static enum status add_block(json_t *messages, const json_t *block, bool assistant, struct parts *p, size_t i,
	struct refusal *no)
{
	json_t *text = json_object_get(block, "text"), *thinking = json_object_get(block, "thinking");

	if (convert_is_type(block, "text") && json_is_string(text)) {
		json_array_append_new(p->text, json_pack("{s:s, s:O}", "type", "text", "text", text));
		return OK;
	}
	if (!assistant && convert_is_type(block, "tool_result"))
		return add_result(messages, block, p, i, no);
	if (assistant && convert_is_type(block, "tool_use"))
		return add_call(block, p, i, no);
	if (assistant && convert_is_type(block, "thinking") && json_is_string(thinking)) {
		json_decref(p->reasoning);
		p->reasoning = json_incref(thinking);
		return OK;
	}
	if (assistant && convert_is_type(block, "redacted_thinking"))
		return OK;
	return refuse(no, "messages", "messages[%zu].content[%zu]: %.40s is not supported here: expected %s", p->index, i,
		name_of(block), assistant ? "text, tool_use or thinking" : "text or tool_result");
}

static void put_message(json_t *messages, const char *role, const struct parts *p, bool only_results)
{
	json_t *m;

	if (only_results)
		return;
	m = json_pack("{s:s, s:O}", "role", role, "content", p->text);
	if (json_array_size(p->calls))
		json_object_set(m, "tool_calls", p->calls);
	if (p->reasoning)
		json_object_set(m, "reasoning_content", p->reasoning);
	json_array_append_new(messages, m);
}

static enum status add_blocks(json_t *messages, const char *role, const json_t *content, size_t index,
	struct refusal *no)
{
	struct parts p = { .index = index, .text = json_array(), .calls = json_array() };
	bool assistant = strcmp(role, "assistant") == 0;
	size_t before = json_array_size(messages), i;
	const json_t *block;
	enum status st = OK;

	json_array_foreach(content, i, block)
	{
		if (st == OK)
			st = add_block(messages, block, assistant, &p, i, no);
	}
	if (st == OK)
		put_message(messages, role, &p, json_array_size(messages) > before && json_array_size(p.text) == 0);
	json_decref(p.text);
	json_decref(p.calls);
	json_decref(p.reasoning);
	return st;
}

static enum status add_message(json_t *messages, const json_t *m, size_t i, struct refusal *no)
{
	/* ctx and msg are what some agents call a user. */
	static const char *const roles[][2] = { { "user", "user" }, { "assistant", "assistant" },
		{ "system", "system" }, { "ctx", "user" }, { "msg", "user" } };
	const char *given = json_string_value(json_object_get(m, "role"));
	const json_t *content = field_get(m, "content");
	const char *role = NULL;

	for (size_t k = 0; given && k < sizeof(roles) / sizeof(*roles); k++)
		role = strcmp(roles[k][0], given) == 0 ? roles[k][1] : role;
	if (!role)
		return refuse(no, "messages", "messages[%zu].role: expected user or assistant", i);
	if (json_is_string(content)) {
		json_array_append_new(messages, json_pack("{s:s, s:O}", "role", role, "content", content));
		return OK;
	}
	if (!json_is_array(content))
		return refuse_shape(no, "messages", "messages[%zu].content: expected a string or a list of blocks", i);
	if (strcmp(role, "system") == 0)
		return add_system(messages, content, no);
	return add_blocks(messages, role, content, i, no);
}

static enum status convert_messages(json_t *out, const json_t *body, struct refusal *no)
{
	json_t *messages = json_array(), *list = NULL, *last;
	const char *role;

	json_object_set_new(out, "messages", messages);
	TRY(add_system(messages, field_get(body, "system"), no));
	TRY(field_array(&list, body, "messages", no));
	if (!list || json_array_size(list) == 0)
		return refuse_shape(no, "messages", "messages: expected at least one");
	for (size_t i = 0; i < json_array_size(list); i++)
		TRY(add_message(messages, json_array_get(list, i), i, no));
	last = json_array_get(messages, json_array_size(messages) - 1);
	role = json_string_value(json_object_get(last, "role"));
	if (!role || strcmp(role, "assistant") != 0)
		return OK;
	if (json_object_get(last, "tool_calls"))
		return refuse(no, "messages", "messages: the last one has calls without results");
	json_object_set_new(out, "continue_final_message", json_true());
	json_object_set_new(out, "add_generation_prompt", json_false());
	return OK;
}

static enum status convert_tools(json_t *out, const json_t *body, struct refusal *no)
{
	json_t *list = NULL, *tools;

	TRY(field_array(&list, body, "tools", no));
	if (json_array_size(list) == 0)
		return OK;
	tools = json_array();
	json_object_set_new(out, "tools", tools);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *t = json_array_get(list, i), *type = field_get(t, "type");
		const json_t *name = json_object_get(t, "name"), *schema = json_object_get(t, "input_schema");
		json_t *description = json_object_get(t, "description"), *function;

		if (type && !convert_is_type(t, "custom"))
			return refuse(no, "tools", "tools[%zu].type: %.40s is not supported: only custom tools are", i,
				json_is_string(type) ? json_string_value(type) : json_type_name(type));
		if (!json_is_string(name) || !json_is_object(schema))
			return refuse_shape(no, "tools", "tools[%zu]: expected a name and an input_schema", i);
		function = json_pack("{s:O}", "name", name);
		if (description)
			json_object_set(function, "description", description);
		json_object_set(function, "parameters", (json_t *)schema);
		json_array_append_new(tools, json_pack("{s:s, s:o}", "type", "function", "function", function));
	}
	return OK;
}

static enum status convert_choice(json_t *out, const json_t *body, struct refusal *no)
{
	static const char *const names[][2] = { { "auto", "auto" }, { "any", "required" }, { "none", "none" } };
	json_t *choice = NULL, *name;
	bool alone = false;

	TRY(field_object(&choice, body, "tool_choice", no));
	if (!choice)
		return OK;
	if (!json_object_get(out, "tools")) {
		if (convert_is_type(choice, "auto") || convert_is_type(choice, "none"))
			return OK;
		return refuse(no, "tool_choice", "tool_choice: only auto and none make sense without tools");
	}
	TRY(field_bool(&alone, choice, "disable_parallel_tool_use", no));
	if (alone)
		json_object_set_new(out, "parallel_tool_calls", json_false());
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (convert_is_type(choice, names[i][0])) {
			json_object_set_new(out, "tool_choice", json_string(names[i][1]));
			return OK;
		}
	}
	name = json_object_get(choice, "name");
	if (!convert_is_type(choice, "tool") || !json_is_string(name))
		return refuse(no, "tool_choice", "tool_choice: expected type auto, any, none, or tool with a name");
	json_object_set_new(out, "tool_choice", convert_named(name));
	return OK;
}

static enum status convert_thinking(json_t *out, const json_t *body, struct refusal *no)
{
	json_t *thinking = NULL;
	int64_t budget = -1;
	bool on;

	TRY(field_object(&thinking, body, "thinking", no));
	if (!thinking)
		return OK;
	on = convert_is_type(thinking, "enabled") || convert_is_type(thinking, "adaptive");
	if (!on && !convert_is_type(thinking, "disabled"))
		return refuse(no, "thinking", "thinking.type: expected enabled, adaptive or disabled");
	TRY(field_int(&budget, thinking, "budget_tokens", 1, INT32_MAX, no));
	json_object_set_new(out, "chat_template_kwargs", json_pack("{s:b}", "thinking", on));
	if (on && budget > 0)
		json_object_set_new(out, "thinking_token_budget", json_integer(budget));
	return OK;
}

static enum status convert_fields(json_t *out, const json_t *body, bool counting, struct refusal *no)
{
	/* Anthropic's that mean the same, then vLLM's that have no other name there. */
	static const char *const same[] = { "model", "max_tokens", "stream", "temperature", "top_p", "top_k", "min_p",
		"seed", "repetition_penalty", "ignore_eos", "priority", "cache_salt", "request_id" };
	static const char *const unsupported[] = { "mcp_servers", "container" };
	json_t *metadata = NULL;
	int64_t max_tokens = 0;

	for (size_t i = 0; i < sizeof(unsupported) / sizeof(*unsupported); i++) {
		const json_t *v = field_get(body, unsupported[i]);

		if (v && !(json_is_array(v) && json_array_size(v) == 0))
			return refuse(no, unsupported[i], "%s: not supported: nothing runs here but the model", unsupported[i]);
	}
	TRY(field_object(&metadata, body, "metadata", no));
	TRY(field_int(&max_tokens, body, "max_tokens", 1, INT32_MAX, no));
	if (max_tokens == 0 && !counting)
		return refuse_shape(no, "max_tokens", "max_tokens: field required");
	convert_same(out, body, same, sizeof(same) / sizeof(*same));
	if (field_get(body, "stop_sequences"))
		json_object_set(out, "stop", field_get(body, "stop_sequences"));
	return OK;
}

/* output_format is the earlier name of output_config.format. */
static enum status convert_output(json_t *out, const json_t *body, struct refusal *no)
{
	json_t *config = NULL, *format, *earlier = field_get(body, "output_format");

	TRY(field_object(&config, body, "output_config", no));
	format = field_get(config, "format");
	if (format && earlier)
		return refuse(no, "output_format", "output_format: the request has output_config.format, its newer name, too");
	return format ? convert_format(out, format, "output_config.format", no) :
		convert_format(out, earlier, "output_format", no);
}

enum status anthropic_convert(json_t **out, const json_t *body, bool counting, struct refusal *no)
{
	json_t *made = json_object();
	enum status st;

	TRY_GOTO(fail, convert_fields(made, body, counting, no));
	TRY_GOTO(fail, convert_messages(made, body, no));
	TRY_GOTO(fail, convert_tools(made, body, no));
	TRY_GOTO(fail, convert_choice(made, body, no));
	TRY_GOTO(fail, convert_thinking(made, body, no));
	TRY_GOTO(fail, convert_output(made, body, no));
	*out = made;
	return OK;
fail:
	json_decref(made);
	return st;
}
