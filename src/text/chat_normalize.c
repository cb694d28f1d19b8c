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
#include "text/jinja.h"

static enum status check_role(json_t *m, size_t i, struct error *err)
{
	static const char *const roles[] = {"system", "user", "assistant", "tool"};
	json_t *role;

	if (!json_is_object(m))
		return error_set(err, E_INVAL, "messages[%zu]: found %s, expected an object", i,
			json_type_name(m));
	role = json_object_get(m, "role");
	if (!json_is_string(role))
		return error_set(err, E_INVAL, "messages[%zu].role: found %s, expected a string", i,
			json_type_name(role));
	if (strlen(json_string_value(role)) != json_string_length(role))
		return error_set(err, E_INVAL, "messages[%zu].role: found a NUL, expected a string without", i);
	if (strcmp(json_string_value(role), "developer") == 0)
		json_object_set_new(m, "role", json_string("system"));
	for (size_t r = 0; r < sizeof(roles) / sizeof(*roles); r++) {
		if (strcmp(json_string_value(json_object_get(m, "role")), roles[r]) == 0)
			return OK;
	}
	/* Templates pass over a role that they do not know, and the message would be lost. */
	return error_set(err, E_INVAL,
		"messages[%zu].role: found %.40s, expected system, developer, user, assistant or tool", i,
		json_string_value(role));
}

static bool is_role(const json_t *m, const char *role)
{
	const char *r = json_string_value(json_object_get(m, "role"));

	return r && strcmp(r, role) == 0;
}

/* The text of content[j], a string or {"type": "text", "text": ...}. */
static enum status part_text(
	const json_t *part, size_t i, size_t j, const json_t **text, struct error *err)
{
	const char *type = json_string_value(json_object_get(part, "type"));

	*text = json_is_string(part) ? part : json_object_get(part, "text");
	if (type && strcmp(type, "text") != 0)
		return error_set(err, E_UNSUPPORTED,
			"messages[%zu].content[%zu].type: %.40s is not supported, expected text", i,
			j, type);
	if (!json_is_string(*text))
		return error_set(err, E_INVAL,
			"messages[%zu].content[%zu]: found no text, expected {\"type\": \"text\", "
			"\"text\": ...}",
			i, j);
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
				"messages[%zu].content: found %s, expected a string or an array of "
				"parts",
				i, json_type_name(content));
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

/* JSON as templates write it: jansson's own text has 0.1 as 0.10000000000000001. */
static enum status json_text(json_t **out, json_t *value, struct error *err)
{
	static const char source[] = "{{ value | tojson }}";
	struct jinja_limits limits = jinja_limits_for(json_dumpb(value, NULL, 0, JSON_ENCODE_ANY));
	struct jinja_var var = {"value", value, false};
	struct jinja_output made = {0};
	struct jinja_template *t;
	enum status st;

	TRY(jinja_compile(&t, source, sizeof(source) - 1, "arguments", err));
	st = jinja_render(&made, t, &var, 1, &limits, err);
	if (st == OK)
		*out = json_stringn(made.text.data, made.text.len);
	jinja_output_deinit(&made);
	jinja_destroy(t);
	return st;
}

/* Arguments given as an object become the JSON text that templates expect. */
static enum status fix_tool_call(json_t *call, size_t i, size_t j, struct error *err)
{
	json_t *function = json_object_get(call, "function"), *arguments, *text;

	if (!json_is_object(function))
		return error_set(err, E_INVAL,
			"messages[%zu].tool_calls[%zu].function: found %s, expected an object", i,
			j, json_type_name(function));
	if (!json_is_string(json_object_get(function, "name")))
		return error_set(err, E_INVAL,
			"messages[%zu].tool_calls[%zu].function.name: found %s, expected a string",
			i, j, json_type_name(json_object_get(function, "name")));
	if (!json_object_get(call, "type"))
		json_object_set_new(call, "type", json_string("function"));
	arguments = json_object_get(function, "arguments");
	if (!arguments || json_is_null(arguments)) {
		json_object_set_new(function, "arguments", json_string("{}"));
	} else if (!json_is_string(arguments)) {
		if (json_text(&text, arguments, err) != OK)
			return error_prefix(err, "messages[%zu].tool_calls[%zu].function", i, j);
		json_object_set_new(function, "arguments", text);
	}
	return OK;
}

/* [] counts as absent. */
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
		return error_set(err, E_INVAL,
			"messages[%zu].tool_calls: found %s, expected an array", i,
			json_type_name(calls));
	for (size_t j = 0; j < json_array_size(calls); j++)
		TRY(fix_tool_call(json_array_get(calls, j), i, j, err));
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

static json_t *reasoning_of(const json_t *m)
{
	json_t *v = json_object_get(m, "reasoning_content");

	return json_is_string(v) ? v : json_object_get(m, "reasoning");
}

/*
 * The message that the answer continues. DeepSeek's templates open <think> in front of it when it has
 * `prefix`: right where it is reasoning, wrong where that has ended, because they drop ended reasoning.
 */
static void open_reasoning(json_t *m)
{
	json_t *reasoning = reasoning_of(m), *content = json_object_get(m, "content");
	const char *text = json_string_value(content);

	if (json_string_length(content) == 0 && json_string_length(reasoning) > 0) {
		json_object_set(m, "content", reasoning);
		json_object_set_new(m, "prefix", json_true());
	} else if (text && memmem(text, json_string_length(content), "</think>", 8)) {
		json_object_del(m, "prefix");
	}
}

/* Templates add content to text, so it must be there; beside tool calls they ask whether it is
 * none. */
static void fill_content(json_t *m)
{
	json_t *content = json_object_get(m, "content");
	bool calls = json_object_get(m, "tool_calls") != NULL;

	if (content && !json_is_null(content) && !(calls && json_string_length(content) == 0))
		return;
	json_object_set_new(m, "content", calls ? json_null() : json_string(""));
}

/* A tool message of a run and the call that it answers. */
struct answer {
	json_t *message; /* owned */
	size_t call, position;
};

static int compare_answers(const void *a, const void *b)
{
	const struct answer *x = a, *y = b;

	if (x->call != y->call)
		return x->call < y->call ? -1 : 1;
	return x->position < y->position ? -1 : 1;
}

/* Positions of the calls by their ids; the first of equal ids counts. */
static json_t *calls_by_id(const json_t *calls)
{
	json_t *by_id = json_object();

	for (size_t j = json_array_size(calls); j-- > 0;) {
		const char *id = json_string_value(json_object_get(json_array_get(calls, j), "id"));

		if (id)
			json_object_set_new(by_id, id, json_integer((json_int_t)j));
	}
	return by_id;
}

/* Templates match results to calls by order: the n tool messages from `first` take the order of the
 * calls, those that answer none keep theirs at the end. */
static void sort_tool_run(json_t *messages, size_t first, size_t n, const json_t *calls)
{
	struct answer *run = mem_alloc(n * sizeof(*run));
	json_t *by_id = calls_by_id(calls);

	for (size_t i = 0; i < n; i++) {
		json_t *m = json_array_get(messages, first + i);
		const char *id = json_string_value(json_object_get(m, "tool_call_id"));
		json_t *call = id ? json_object_get(by_id, id) : NULL;

		run[i] = (struct answer){
			json_incref(m), call ? (size_t)json_integer_value(call) : SIZE_MAX, i};
	}
	qsort(run, n, sizeof(*run), compare_answers);
	for (size_t i = 0; i < n; i++)
		json_array_set_new(messages, first + i, run[i].message);
	json_decref(by_id);
	free(run);
}

static void sort_tool_messages(json_t *messages)
{
	size_t n = json_array_size(messages), run;

	for (size_t i = 0; i < n; i += 1 + run) {
		const json_t *calls = json_object_get(json_array_get(messages, i), "tool_calls");

		for (run = 0;
			i + 1 + run < n && is_role(json_array_get(messages, i + 1 + run), "tool");)
			run++;
		if (json_is_array(calls) && run > 1)
			sort_tool_run(messages, i + 1, run, calls);
	}
}

/* Members that are text where they are there. */
static enum status check_texts(const json_t *m, size_t i, struct error *err)
{
	static const char *const names[] = {"reasoning", "reasoning_content", "tool_call_id"};

	for (size_t k = 0; k < sizeof(names) / sizeof(*names); k++) {
		const json_t *v = json_object_get(m, names[k]);

		if (v && !json_is_null(v) && !json_is_string(v))
			return error_set(err, E_INVAL, "messages[%zu].%s: found %s, expected a string", i, names[k],
				json_type_name(v));
	}
	return OK;
}

static enum status fix_message(json_t *m, size_t i, bool open, struct error *err)
{
	TRY(check_role(m, i, err));
	TRY(check_texts(m, i, err));
	TRY(flatten_content(m, i, err));
	TRY(fix_tool_calls(m, i, err));
	if (is_role(m, "assistant") && open)
		open_reasoning(m);
	else if (is_role(m, "assistant"))
		drop_reasoning(m);
	fill_content(m);
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
		if (fix_message(json_array_get(copy, i), i, continue_final && i + 1 == n, err) !=
			OK) {
			json_decref(copy);
			return err->code;
		}
	sort_tool_messages(copy);
	*out = copy;
	return OK;
}

enum status chat_normalize_tools(json_t **out, const json_t *tools, struct error *err)
{
	json_t *copy = json_deep_copy(tools);
	enum status st = OK;

	if (!copy)
		return error_set(err, E_NOMEM, "tools: no memory for a copy");
	for (size_t i = 0; i < json_array_size(copy) && st == OK; i++) {
		json_t *function = json_object_get(json_array_get(copy, i), "function");
		json_t *parameters = json_object_get(function, "parameters");
		json_t *description = json_object_get(function, "description");

		if (!json_is_object(function) || !json_is_string(json_object_get(function, "name")))
			st = error_set(err, E_INVAL,
				"tools[%zu].function: found %s, expected an object with a name", i,
				json_type_name(function));
		else if (description && !json_is_null(description) && !json_is_string(description))
			st = error_set(err, E_INVAL,
				"tools[%zu].function.description: found %s, expected a string", i,
				json_type_name(description));
		else if (!parameters || json_is_null(parameters))
			json_object_set_new(function, "parameters",
				json_pack("{s:s,s:{}}", "type", "object", "properties"));
	}
	if (st != OK) {
		json_decref(copy);
		return st;
	}
	*out = copy;
	return OK;
}
