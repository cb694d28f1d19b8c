/*
 * Normalization of OpenAI chat messages (text/chat_normalize.h), one cure per function. Called by
 * chat_render() on a deep copy.
 */
#include "text/chat_normalize.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"

static enum status check_role(json_t *m, size_t i, struct error *err)
{
	json_t *role;

	if (!json_is_object(m))
		return error_set(err, E_INVAL, "messages[%zu]: found %s, expected an object", i,
			json_type_name(m));
	role = json_object_get(m, "role");
	if (!json_is_string(role))
		return error_set(err, E_INVAL, "messages[%zu].role: found %s, expected a string", i,
			json_type_name(role));
	if (strcmp(json_string_value(role), "developer") == 0)
		json_object_set_new(m, "role", json_string("system"));
	return OK;
}

static bool is_role(const json_t *m, const char *role)
{
	const char *r = json_string_value(json_object_get(m, "role"));

	return r && strcmp(r, role) == 0;
}

/* The text of content[j], a string or {"type": "text", "text": ...}. */
static enum status part_text(const json_t *part, size_t i, size_t j, const json_t **text, struct error *err)
{
	const char *type = json_string_value(json_object_get(part, "type"));

	*text = json_is_string(part) ? part : json_object_get(part, "text");
	if (type && strcmp(type, "text") != 0)
		return error_set(err, E_UNSUPPORTED,
			"messages[%zu].content[%zu].type: %.40s is not supported, expected text", i, j, type);
	if (!json_is_string(*text))
		return error_set(err, E_INVAL,
			"messages[%zu].content[%zu]: found no text, expected {\"type\": \"text\", "
			"\"text\": ...}", i, j);
	return OK;
}

/* A list of text parts becomes one string, a line for each part, as vLLM does. */
static enum status flatten_content(json_t *m, size_t i, struct error *err)
{
	json_t *content = json_object_get(m, "content");
	struct buf all = {0};
	enum status st = OK;

	if (!json_is_array(content)) {
		if (content && !json_is_null(content) && !json_is_string(content))
			return error_set(err, E_INVAL,
				"messages[%zu].content: found %s, expected a string or an array of parts", i,
				json_type_name(content));
		return OK;
	}
	for (size_t j = 0; j < json_array_size(content); j++) {
		const json_t *text;

		TRY_GOTO(out, part_text(json_array_get(content, j), i, j, &text, err));
		if (j)
			buf_putc(&all, '\n');
		buf_append(&all, json_string_value(text), json_string_length(text));
	}
	json_object_set_new(m, "content", json_stringn(all.data ? all.data : "", all.len));
out:
	buf_deinit(&all);
	return st;
}

/* [] counts as absent. Arguments given as an object become the JSON text that templates expect. */
static enum status fix_tool_calls(json_t *m, size_t i, struct error *err)
{
	json_t *calls = json_object_get(m, "tool_calls");

	if (!calls)
		return OK;
	if (json_is_null(calls) || (json_is_array(calls) && json_array_size(calls) == 0)) {
		json_object_del(m, "tool_calls");
		return OK;
	}
	if (!json_is_array(calls))
		return error_set(err, E_INVAL, "messages[%zu].tool_calls: found %s, expected an array", i,
			json_type_name(calls));
	for (size_t j = 0; j < json_array_size(calls); j++) {
		json_t *function = json_object_get(json_array_get(calls, j), "function");
		json_t *arguments = json_object_get(function, "arguments");
		char *text;

		if (!json_is_object(function) || !json_is_string(json_object_get(function, "name")))
			return error_set(err, E_INVAL,
				"messages[%zu].tool_calls[%zu].function: expected an object with a name", i, j);
		if (json_is_string(arguments))
			continue;
		text = arguments && !json_is_null(arguments) ? json_dumps(arguments, JSON_ENCODE_ANY)
							     : mem_strdup("{}");
		json_object_set_new(function, "arguments", json_string(text));
		free(text);
	}
	return OK;
}

/* Reasoning of earlier turns is not shown to the model again. */
static void drop_reasoning(json_t *m)
{
	static const char end[] = "</think>";
	json_t *content = json_object_get(m, "content");
	const char *text = json_string_value(content), *at;
	size_t len = json_string_length(content);

	json_object_del(m, "reasoning_content");
	json_object_del(m, "reasoning");
	at = text ? memmem(text, len, end, sizeof(end) - 1) : NULL;
	if (at) {
		at += sizeof(end) - 1;
		json_object_set_new(m, "content", json_stringn(at, len - (size_t)(at - text)));
	}
}

static void fill_null_content(json_t *m)
{
	json_t *content = json_object_get(m, "content");

	if ((!content || json_is_null(content)) && !json_object_get(m, "tool_calls"))
		json_object_set_new(m, "content", json_string(""));
}

/* Position of the call that a tool message answers, or past the end. */
static size_t call_of(const json_t *calls, const json_t *tool)
{
	const char *id = json_string_value(json_object_get(tool, "tool_call_id"));
	size_t n = json_array_size(calls);

	for (size_t j = 0; id && j < n; j++) {
		const char *other = json_string_value(json_object_get(json_array_get(calls, j), "id"));

		if (other && strcmp(other, id) == 0)
			return j;
	}
	return n;
}

/* Templates match results to calls by order: the run of tool messages from `first` takes the order of
 * the calls, those that answer none keep theirs at the end. */
static void sort_tool_run(json_t *messages, size_t first, size_t n, const json_t *calls)
{
	for (size_t i = first + 1; i < first + n; i++)
		for (size_t j = i; j > first; j--) {
			json_t *a = json_array_get(messages, j - 1), *b = json_array_get(messages, j);

			if (call_of(calls, a) <= call_of(calls, b))
				break;
			json_incref(a);
			json_array_set(messages, j - 1, b);
			json_array_set_new(messages, j, a);
		}
}

static void sort_tool_messages(json_t *messages)
{
	size_t n = json_array_size(messages);

	for (size_t i = 0; i < n; i++) {
		const json_t *calls = json_object_get(json_array_get(messages, i), "tool_calls");
		size_t run = 0;

		while (i + 1 + run < n && is_role(json_array_get(messages, i + 1 + run), "tool"))
			run++;
		if (json_is_array(calls) && run > 1)
			sort_tool_run(messages, i + 1, run, calls);
	}
}

static enum status fix_message(json_t *m, size_t i, bool open, struct error *err)
{
	TRY(check_role(m, i, err));
	TRY(flatten_content(m, i, err));
	TRY(fix_tool_calls(m, i, err));
	if (is_role(m, "assistant") && !open)
		drop_reasoning(m);
	fill_null_content(m);
	return OK;
}

enum status chat_normalize(
	json_t **out, const json_t *messages, bool continue_final, struct error *err)
{
	json_t *copy = json_deep_copy(messages);
	size_t n = json_array_size(copy);

	if (!copy)
		return error_set(err, E_NOMEM, "messages: no memory for a copy");
	for (size_t i = 0; i < n; i++)
		if (fix_message(json_array_get(copy, i), i, continue_final && i + 1 == n, err) != OK) {
			json_decref(copy);
			return err->code;
		}
	sort_tool_messages(copy);
	*out = copy;
	return OK;
}
