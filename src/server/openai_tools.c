/* Fields about tools (server/openai_tools.h). */
#include "server/openai_tools.h"

#include <string.h>

#include "base/json.h"
#include "server/fields.h"

static const char *tool_name(const json_t *tool)
{
	return json_string_value(json_object_get(json_object_get(tool, "function"), "name"));
}

/* Names go into the prompt and into grammars as they are. */
static bool is_name(const char *s)
{
	size_t n = strlen(s);

	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)s[i] < ' ' || s[i] == 0x7F)
			return false;
	}
	return n && s[0] != ' ' && s[n - 1] != ' ';
}

/* Before anything is looked up in it: a list of the body, by its path there. */
static enum status check_size(const json_t *list, const char *field, const char *path, struct refusal *no)
{
	if (json_array_size(list) > OPENAI_MAX_TOOLS)
		return refuse(no, field, "%s: found %zu, at most %d are taken", path, json_array_size(list),
			OPENAI_MAX_TOOLS);
	return OK;
}

static enum status check_twins(const json_t *list, struct refusal *no)
{
	json_t *seen = json_object();
	enum status st = OK;

	for (size_t i = 0; i < json_array_size(list) && st == OK; i++) {
		const char *name = tool_name(json_array_get(list, i));

		if (json_object_get(seen, name))
			st = refuse(no, "tools", "tools[%zu].function.name: another tool has the name %.80s", i, name);
		json_object_set_new(seen, name, json_true());
	}
	json_decref(seen);
	return st;
}

static enum status check_tool(const json_t *tool, size_t i, struct refusal *no)
{
	const json_t *type = field_get(tool, "type"), *function = field_get(tool, "function");
	const json_t *parameters = field_get(function, "parameters"), *description = field_get(function, "description");

	if (!json_is_object(tool) || !json_is_object(function))
		return refuse_shape(no, "tools", "tools[%zu]: expected an object with a function", i);
	if (type && (!json_is_string(type) || strcmp(json_string_value(type), "function") != 0))
		return refuse(no, "tools", "tools[%zu].type: only function is supported", i);
	if (!tool_name(tool) || !*tool_name(tool))
		return refuse_shape(no, "tools", "tools[%zu].function.name: expected a string", i);
	if (!is_name(tool_name(tool)))
		return refuse(no, "tools", "tools[%zu].function.name: expected a name without control characters "
			"and without space around it", i);
	if (description && !json_is_string(description))
		return refuse_shape(no, "tools", "tools[%zu].function.description: found %s, expected a string", i,
			json_type_name(description));
	if (parameters && !json_is_object(parameters))
		return refuse_shape(no, "tools", "tools[%zu].function.parameters: expected an object", i);
	type = field_get(parameters, "type");
	if (type && !(json_is_string(type) && strcmp(json_string_value(type), "object") == 0))
		return refuse(no, "tools", "tools[%zu].function.parameters.type: expected object", i);
	return OK;
}

/* The tools of a list by their names, a new object; what has no name is left out. */
static json_t *by_name(const json_t *list)
{
	json_t *tools = json_object();

	for (size_t i = 0; i < json_array_size(list); i++) {
		json_t *tool = json_array_get(list, i);

		if (tool_name(tool))
			json_object_set(tools, tool_name(tool), tool);
	}
	return tools;
}

/* The tool of an object by names that has the name of this one, or NULL. */
static json_t *find_tool(const json_t *tools, const json_t *tool)
{
	return tool_name(tool) ? json_object_get(tools, tool_name(tool)) : NULL;
}

static bool is_mode(const json_t *mode, const char *name)
{
	return json_is_string(mode) && strcmp(json_string_value(mode), name) == 0;
}

static enum status parse_named(struct openai_tools *t, const json_t *choice, struct refusal *no)
{
	const json_t *type = field_get(choice, "type");
	const char *name = tool_name(choice);
	json_t *tools;

	if (type && !is_mode(type, "function") && !is_mode(type, "allowed_tools"))
		return refuse(no, "tool_choice", "tool_choice.type: found %.40s, expected function or allowed_tools",
			json_is_string(type) ? json_string_value(type) : json_type_name(type));
	if (!name || is_mode(type, "allowed_tools"))
		return refuse(no, "tool_choice", "tool_choice: expected none, auto, required, "
			"{\"type\": \"function\", \"function\": {\"name\": ...}} or "
			"{\"type\": \"allowed_tools\", \"allowed_tools\": {\"mode\": ..., \"tools\": [...]}}");
	t->choice = TOOLS_NAMED;
	tools = by_name(t->list);
	t->named = find_tool(tools, choice); /* the list holds it */
	json_decref(tools);
	return t->named ? OK : refuse(no, "tool_choice", "tool_choice: %.80s is not in tools.", name);
}

/* The object of tool_choice {"type": "allowed_tools", "allowed_tools": ...}, or NULL. */
static const json_t *allowed_of(const json_t *choice)
{
	return is_mode(json_object_get(choice, "type"), "allowed_tools") ? json_object_get(choice, "allowed_tools") : NULL;
}

static enum status check_allowed(const struct openai_tools *t, const json_t *allowed, struct refusal *no)
{
	json_t *tools = by_name(t->list);
	enum status st = OK;

	for (size_t i = 0; i < json_array_size(allowed) && st == OK; i++) {
		const json_t *tool = json_array_get(allowed, i);

		if (!find_tool(tools, tool))
			st = refuse(no, "tool_choice", "tool_choice.allowed_tools.tools[%zu]: %.80s is not in tools.", i,
				tool_name(tool) ? tool_name(tool) : "what has no function.name");
	}
	json_decref(tools);
	return st;
}

static enum status parse_allowed(struct openai_tools *t, const json_t *allowed, struct refusal *no)
{
	const json_t *mode = json_object_get(allowed, "mode"), *tools = json_object_get(allowed, "tools");

	if (!is_mode(mode, "auto") && !is_mode(mode, "required"))
		return refuse(no, "tool_choice", "tool_choice.allowed_tools.mode: expected auto or required");
	if (json_array_size(tools) == 0)
		return refuse(no, "tool_choice", "tool_choice.allowed_tools.tools: expected a list of functions");
	TRY(check_size(tools, "tool_choice", "tool_choice.allowed_tools.tools", no));
	TRY(check_allowed(t, tools, no));
	t->choice = is_mode(mode, "auto") ? TOOLS_AUTO : TOOLS_REQUIRED;
	t->allowed = tools;
	return OK;
}

/* The tools of a list that are allowed, a new list. */
static json_t *only_allowed(const json_t *list, const json_t *allowed)
{
	json_t *kept = json_array(), *tools = by_name(allowed);

	for (size_t i = 0; i < json_array_size(list); i++) {
		if (find_tool(tools, json_array_get(list, i)))
			json_array_append(kept, json_array_get(list, i));
	}
	json_decref(tools);
	return kept;
}

static enum status parse_choice(struct openai_tools *t, const json_t *choice, struct refusal *no)
{
	static const char *const names[] = { "none", "auto", "required" };
	const char *name = json_string_value(choice);

	if (allowed_of(choice))
		return parse_allowed(t, allowed_of(choice), no);
	if (!name)
		return parse_named(t, choice, no);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (strcmp(name, names[i]) == 0) {
			t->choice = (enum tool_choice)i;
			return OK;
		}
	}
	return refuse(no, "tool_choice", "tool_choice: found %.40s, expected none, auto, required, a function or allowed_tools",
		name);
}

enum status openai_tools_parse(struct openai_tools *t, const json_t *body, struct refusal *no)
{
	const json_t *choice = field_get(body, "tool_choice");

	*t = (struct openai_tools){ .parallel = true };
	TRY(field_bool(&t->parallel, body, "parallel_tool_calls", no));
	TRY(field_array(&t->list, body, "tools", no));
	if (t->list && json_array_size(t->list) == 0)
		return refuse(no, "tools", "tools must not be an empty list.");
	TRY(check_size(t->list, "tools", "tools", no));
	for (size_t i = 0; i < json_array_size(t->list); i++)
		TRY(check_tool(json_array_get(t->list, i), i, no));
	TRY(check_twins(t->list, no));
	if (!t->list && choice && !(json_is_string(choice) && strcmp(json_string_value(choice), "none") == 0))
		return refuse(no, "tool_choice", "When using `tool_choice`, `tools` must be set.");
	t->choice = t->list ? TOOLS_AUTO : TOOLS_NONE;
	return choice ? parse_choice(t, choice, no) : OK;
}

json_t *openai_tools_forced(const struct openai_tools *t)
{
	if (t->choice == TOOLS_REQUIRED)
		return t->allowed ? only_allowed(t->list, t->allowed) : json_copy(t->list);
	return t->choice == TOOLS_NAMED ? json_pack("[O]", t->named) : NULL;
}

enum status openai_tools_shown(json_t **out, const json_t *body, struct refusal *no)
{
	const json_t *allowed = allowed_of(field_get(body, "tool_choice"));
	json_t *list = NULL;

	TRY(field_array(&list, body, "tools", no));
	TRY(check_size(list, "tools", "tools", no));
	if (!allowed || !is_mode(json_object_get(allowed, "mode"), "auto")) {
		*out = json_incref(list);
		return OK;
	}
	allowed = json_object_get(allowed, "tools");
	TRY(check_size(allowed, "tool_choice", "tool_choice.allowed_tools.tools", no));
	*out = only_allowed(list, allowed);
	return OK;
}
