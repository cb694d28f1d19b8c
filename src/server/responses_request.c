/* From items and flat tools to messages and functions (server/responses_request.h). Values are shared; the body
 * stays as it is. */
#include "server/responses_request.h"

#include <stdio.h>
#include <string.h>

#include "server/convert.h"
#include "server/fields.h"

/* --- input ------------------------------------------------------------------------------------------------- */

/* Text or a list of text parts, as a chat message takes it. Owned. */
static enum status take_content(json_t **out, json_t *content, size_t i, struct refusal *no)
{
	json_t *parts;

	if (json_is_string(content)) {
		*out = json_incref(content);
		return OK;
	}
	if (!json_is_array(content))
		return refuse_shape(no, "input", "input[%zu]: expected text or a list of parts", i);
	parts = json_array();
	for (size_t k = 0; k < json_array_size(content); k++) {
		const json_t *part = json_array_get(content, k);
		json_t *text = json_object_get(part, "text");

		if (!json_is_string(text) || !(convert_is_type(part, "input_text") || convert_is_type(part, "output_text") ||
			convert_is_type(part, "text"))) {
			json_decref(parts);
			return refuse(no, "input", "input[%zu].content[%zu]: only parts of text are supported", i, k);
		}
		json_array_append_new(parts, json_pack("{s:s, s:O}", "type", "text", "text", text));
	}
	*out = parts;
	return OK;
}

static enum status add_message(json_t *messages, const json_t *item, size_t i, struct refusal *no)
{
	static const char *const roles[] = { "user", "assistant", "system", "developer" };
	const char *role = json_string_value(json_object_get(item, "role"));
	bool known = false;
	json_t *content;

	for (size_t k = 0; role && k < sizeof(roles) / sizeof(*roles); k++)
		known |= strcmp(roles[k], role) == 0;
	if (!known)
		return refuse(no, "input", "input[%zu].role: expected user, assistant, system or developer", i);
	TRY(take_content(&content, json_object_get(item, "content"), i, no));
	json_array_append_new(messages, json_pack("{s:s, s:o}", "role", role, "content", content));
	return OK;
}

static enum status add_call(json_t *messages, const json_t *item, size_t i, struct refusal *no)
{
	json_t *last = json_array_get(messages, json_array_size(messages) - 1), *calls;
	const json_t *id = json_object_get(item, "call_id"), *name = json_object_get(item, "name");
	const json_t *arguments = json_object_get(item, "arguments");
	const char *role = json_string_value(json_object_get(last, "role"));

	if (!json_is_string(id) || !json_is_string(name) || !json_is_string(arguments))
		return refuse_shape(no, "input", "input[%zu]: expected call_id, name and arguments as strings", i);
	if (!role || strcmp(role, "assistant") != 0) {
		last = json_pack("{s:s, s:n}", "role", "assistant", "content");
		json_array_append_new(messages, last);
	}
	calls = json_object_get(last, "tool_calls");
	if (!calls) {
		calls = json_array();
		json_object_set_new(last, "tool_calls", calls);
	}
	json_array_append_new(calls, json_pack("{s:O, s:s, s:{s:O, s:O}}", "id", id, "type", "function", "function",
		"name", name, "arguments", arguments));
	return OK;
}

static enum status add_result(json_t *messages, const json_t *item, size_t i, struct refusal *no)
{
	const json_t *id = json_object_get(item, "call_id");
	json_t *content;

	if (!json_is_string(id))
		return refuse_shape(no, "input", "input[%zu].call_id: expected a string", i);
	TRY(take_content(&content, json_object_get(item, "output"), i, no));
	json_array_append_new(messages, json_pack("{s:s, s:O, s:o}", "role", "tool", "tool_call_id", id, "content", content));
	return OK;
}

static enum status add_item(json_t *messages, const json_t *item, size_t i, struct refusal *no)
{
	const json_t *type = field_get(item, "type");

	if (convert_is_type(item, "message") || (json_is_object(item) && !type))
		return add_message(messages, item, i, no);
	if (convert_is_type(item, "function_call"))
		return add_call(messages, item, i, no);
	if (convert_is_type(item, "function_call_output"))
		return add_result(messages, item, i, no);
	if (convert_is_type(item, "reasoning")) /* of earlier turns: the model does not see it again */
		return OK;
	return refuse(no, "input", "input[%zu].type: expected message, function_call, function_call_output or reasoning", i);
}

static enum status convert_input(json_t *out, const json_t *body, struct refusal *no)
{
	json_t *messages = json_array(), *input = field_get(body, "input"), *instructions = field_get(body, "instructions");

	json_object_set_new(out, "messages", messages);
	if (instructions && !json_is_string(instructions))
		return refuse_shape(no, "instructions", "instructions: expected a string");
	if (instructions)
		json_array_append_new(messages, json_pack("{s:s, s:O}", "role", "system", "content", instructions));
	if (json_is_string(input)) {
		json_array_append_new(messages, json_pack("{s:s, s:O}", "role", "user", "content", input));
		return OK;
	}
	if (!json_is_array(input) || json_array_size(input) == 0)
		return refuse_shape(no, "input", "input: expected text or a list of items");
	for (size_t i = 0; i < json_array_size(input); i++)
		TRY(add_item(messages, json_array_get(input, i), i, no));
	if (json_array_size(messages) == 0)
		return refuse(no, "input", "input: expected at least one message, function_call or function_call_output");
	return OK;
}

/* --- the other fields -------------------------------------------------------------------------------------- */

static enum status convert_tools(json_t *out, const json_t *body, struct refusal *no)
{
	json_t *list = NULL, *tools = json_array();

	json_object_set_new(out, "tools", tools);
	TRY(field_array(&list, body, "tools", no));
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *t = json_array_get(list, i);
		json_t *function;

		if (!json_is_object(t) || !json_is_string(json_object_get(t, "type")))
			return refuse_shape(no, "tools", "tools[%zu]: expected an object with a type", i);
		if (!convert_is_type(t, "function"))
			continue;
		function = json_copy((json_t *)t);
		json_object_del(function, "type");
		json_array_append_new(tools, json_pack("{s:s, s:o}", "type", "function", "function", function));
	}
	if (json_array_size(tools) == 0)
		json_object_del(out, "tools");
	return OK;
}

/* The functions among the tools that are allowed; without any, nothing can be called. */
static enum status convert_allowed(json_t *out, const json_t *choice, struct refusal *no)
{
	json_t *list = NULL, *functions;

	TRY(field_array(&list, choice, "tools", no));
	if (json_array_size(list) == 0)
		return refuse(no, "tool_choice", "tool_choice.tools: expected a list of tools");
	functions = json_array();
	for (size_t i = 0; i < json_array_size(list); i++) {
		json_t *tool = json_array_get(list, i), *name = field_get(tool, "name");

		if (convert_is_type(tool, "function") && json_is_string(name))
			json_array_append_new(functions, convert_named(name));
	}
	if (json_array_size(functions) == 0) {
		json_decref(functions);
		return refuse(no, "tool_choice", "tool_choice.tools: expected a function with a name among them");
	}
	json_object_set_new(out, "tool_choice", json_pack("{s:s, s:{s:o, s:o*}}", "type", "allowed_tools", "allowed_tools",
		"tools", functions, "mode", json_incref(field_get(choice, "mode"))));
	return OK;
}

static enum status convert_choice(json_t *out, const json_t *body, struct refusal *no)
{
	static const char *const same[] = { "parallel_tool_calls" };
	json_t *choice = field_get(body, "tool_choice"), *name = json_object_get(choice, "name");

	convert_same(out, body, same, 1);
	if (!choice)
		return OK;
	if (!json_object_get(out, "tools")) {
		const char *word = json_string_value(choice);

		if (word && (strcmp(word, "auto") == 0 || strcmp(word, "none") == 0))
			return OK;
		return refuse(no, "tool_choice", "tool_choice: only auto and none make sense without functions among the tools");
	}
	if (json_is_string(choice)) {
		json_object_set(out, "tool_choice", choice);
		return OK;
	}
	if (convert_is_type(choice, "allowed_tools"))
		return convert_allowed(out, choice, no);
	if (!convert_is_type(choice, "function") || !json_is_string(name))
		return refuse(no, "tool_choice", "tool_choice: expected none, auto, required, or type function with a name, or "
			"type allowed_tools");
	json_object_set_new(out, "tool_choice", convert_named(name));
	return OK;
}

static enum status check_unsupported(const json_t *body, struct refusal *no)
{
	static const char *const stored[] = { "previous_response_id", "conversation" };
	const char *truncation = "disabled";
	json_t *metadata = NULL, *include = NULL;
	int64_t top_logprobs = 0;
	bool background = false, store = false;

	for (size_t i = 0; i < sizeof(stored) / sizeof(*stored); i++) {
		if (field_get(body, stored[i]))
			return refuse(no, stored[i], "%s: responses are not stored; send the whole conversation as input", stored[i]);
	}
	if (field_get(body, "prompt"))
		return refuse(no, "prompt", "prompt: there are no stored prompts; use input and instructions");
	TRY(field_object(&metadata, body, "metadata", no));
	TRY(field_array(&include, body, "include", no));
	TRY(field_bool(&store, body, "store", no)); /* the answer says that it is not */
	TRY(field_bool(&background, body, "background", no));
	if (background)
		return refuse(no, "background", "background: responses are not stored");
	TRY(field_string(&truncation, body, "truncation", no));
	if (strcmp(truncation, "disabled") != 0)
		return refuse(no, "truncation", "truncation: only disabled is supported: nothing is cut in silence");
	TRY(field_int(&top_logprobs, body, "top_logprobs", 0, INT32_MAX, no));
	if (top_logprobs)
		return refuse(no, "top_logprobs", "top_logprobs: not supported in responses; use /v1/chat/completions");
	return OK;
}

static enum status convert_fields(json_t *out, const json_t *body, struct refusal *no)
{
	/* OpenAI's that mean the same, then vLLM's that have no other name there. */
	static const char *const same[] = { "model", "stream", "temperature", "top_p", "top_k", "min_p", "seed", "stop",
		"repetition_penalty", "ignore_eos", "priority", "cache_salt", "request_id", "chat_template_kwargs",
		"thinking_token_budget" };
	json_t *reasoning = NULL;

	convert_same(out, body, same, sizeof(same) / sizeof(*same));
	if (field_get(body, "max_output_tokens"))
		json_object_set(out, "max_completion_tokens", field_get(body, "max_output_tokens"));
	TRY(field_object(&reasoning, body, "reasoning", no));
	if (reasoning && field_get(reasoning, "effort"))
		json_object_set(out, "reasoning_effort", field_get(reasoning, "effort"));
	return OK;
}

static enum status convert_text(json_t *out, const json_t *body, struct refusal *no)
{
	json_t *text = NULL;

	TRY(field_object(&text, body, "text", no));
	return convert_format(out, field_get(text, "format"), "text.format", no);
}

/* Answers repeat these as they came, streams three times: what is long would hold up the loop. */
static enum status check_repeated(const json_t *body, struct refusal *no)
{
	static const char *const names[] = { "instructions", "metadata", "reasoning", "text", "tool_choice", "tools", "user" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		const json_t *v = field_get(body, names[i]);
		size_t bytes = v ? json_dumpb(v, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY) : 0;

		if (bytes > RESPONSES_MAX_REPEATED)
			return refuse(no, names[i], "%s: %zu bytes of JSON, at most %u are taken, since answers repeat them", names[i],
				bytes, RESPONSES_MAX_REPEATED);
	}
	return OK;
}

enum status responses_convert(json_t **out, const json_t *body, struct refusal *no)
{
	json_t *made = json_object();
	enum status st;

	TRY_GOTO(fail, check_unsupported(body, no));
	TRY_GOTO(fail, check_repeated(body, no));
	TRY_GOTO(fail, convert_fields(made, body, no));
	TRY_GOTO(fail, convert_input(made, body, no));
	TRY_GOTO(fail, convert_tools(made, body, no));
	TRY_GOTO(fail, convert_choice(made, body, no));
	TRY_GOTO(fail, convert_text(made, body, no));
	*out = made;
	return OK;
fail:
	json_decref(made);
	return st;
}
