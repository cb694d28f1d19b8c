/* Requests of other APIs (server/convert.h). */
#include "server/convert.h"

#include <stdio.h>
#include <string.h>

#include "server/fields.h"

bool convert_is_type(const json_t *v, const char *type)
{
	const char *t = json_string_value(json_object_get(v, "type"));

	return t && strcmp(t, type) == 0;
}

void convert_same(json_t *out, const json_t *body, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (field_get(body, names[i]))
			json_object_set(out, names[i], field_get(body, names[i]));
	}
}

enum status convert_format(json_t *out, json_t *format, const char *field, struct refusal *no)
{
	json_t *schema;

	if (!format || convert_is_type(format, "text"))
		return OK;
	if (convert_is_type(format, "json_object")) {
		json_object_set(out, "response_format", format);
		return OK;
	}
	schema = field_get(format, "schema");
	if (!convert_is_type(format, "json_schema") || !schema)
		return refuse(no, field, "%s: expected type text, json_object or json_schema with a schema", field);
	json_object_set_new(out, "response_format", json_pack("{s:s, s:{s:s, s:O}}", "type", "json_schema",
		"json_schema", "name", "output", "schema", schema));
	return OK;
}

static void rename_tool(struct refusal *no, const char *parameters)
{
	static const char nested[] = ".function.", theirs[] = "parameters";
	char *at = strcmp(no->param, "tools") == 0 ? strstr(no->message, nested) : NULL, *rest;
	char made[sizeof(no->message)];

	if (!at)
		return;
	rest = at + strlen(nested);
	if (strncmp(rest, theirs, strlen(theirs)) == 0)
		rest += strlen(theirs);
	else
		parameters = "";
	snprintf(made, sizeof(made), "%.*s.%s%.400s", (int)(at - no->message), no->message, parameters, rest);
	snprintf(no->message, sizeof(no->message), "%s", made);
}

static void rename_field(struct refusal *no, const char *const (*names)[2], size_t n)
{
	char rest[sizeof(no->message)];

	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(names[i][0]);

		if (strcmp(no->param, names[i][0]) != 0)
			continue;
		snprintf(no->param, sizeof(no->param), "%s", names[i][1]);
		if (strncmp(no->message, names[i][0], len) != 0)
			return;
		snprintf(rest, sizeof(rest), "%s", no->message + len);
		snprintf(no->message, sizeof(no->message), "%s%.400s", names[i][1], rest);
		return;
	}
}

void convert_refusal(struct refusal *no, const char *const (*names)[2], size_t n, const char *parameters)
{
	rename_field(no, names, n);
	rename_tool(no, parameters);
}

json_t *convert_named(json_t *name)
{
	return json_pack("{s:s, s:{s:O}}", "type", "function", "function", "name", name);
}
