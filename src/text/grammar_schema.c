/*
 * JSON schemas to rules (docs/structured-output.md says which keywords).
 *
 * Every text that the rules allow is JSON that the schema accepts. The other way round holds but for
 * spelling: objects list their properties in the schema's order, numbers with bounds have no exponent,
 * strings with a pattern escape only what must be.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "text/grammar_schema_int.h"

#define MAX_SCHEMAS 20000u

/* --- rules by address ------------------------------------------------------------------------------------ */

static uint32_t slot_of(const struct schema *s, const json_t *schema)
{
	uint32_t slot = (uint32_t)(((uintptr_t)schema >> 4) * 0x9E3779B1u) & s->mask;

	while (s->slots[slot] && s->todo[s->slots[slot] - 1].schema != schema)
		slot = (slot + 1) & s->mask;
	return slot;
}

static void grow(struct schema *s)
{
	s->mask = s->mask ? 2 * s->mask + 1 : 255;
	s->slots = mem_realloc(s->slots, (s->mask + 1) * sizeof(*s->slots));
	memset(s->slots, 0, (s->mask + 1) * sizeof(*s->slots));
	for (uint32_t i = 0; i < s->n_todo; i++)
		s->slots[slot_of(s, s->todo[i].schema)] = i + 1;
}

uint32_t schema_rule(struct schema *s, const json_t *schema)
{
	uint32_t slot = slot_of(s, schema);

	if (s->slots[slot])
		return s->todo[s->slots[slot] - 1].rule;
	if (s->n_todo == MAX_SCHEMAS) {
		s->ir->over = true;
		return 0;
	}
	s->todo = mem_grow(s->todo, &s->cap_todo, s->n_todo + 1, sizeof(*s->todo));
	s->todo[s->n_todo] = (struct schema_todo){ schema, g_rule_new(s->ir, NULL) };
	s->slots[slot] = (uint32_t)++s->n_todo;
	if (s->n_todo > s->mask / 2)
		grow(s);
	return s->todo[s->n_todo - 1].rule;
}

const json_t *schema_keep(struct schema *s, json_t *value)
{
	json_array_append_new(s->made, value);
	return value;
}

/* --- keywords -------------------------------------------------------------------------------------------- */

/* What a keyword speaks of: without "type", the keywords say which types are meant. */
enum {
	FOR_OBJECT = 1,
	FOR_ARRAY = 2,
	FOR_STRING = 4,
	FOR_NUMBER = 8,
	FOR_ALL = 16, /* and any other type */
};

static const struct keyword {
	const char *name;
	unsigned of;
} keywords[] = {
	{ "type", FOR_ALL }, { "enum", FOR_ALL }, { "const", FOR_ALL }, { "anyOf", FOR_ALL }, { "oneOf", FOR_ALL },
	{ "properties", FOR_OBJECT }, { "required", FOR_OBJECT }, { "additionalProperties", FOR_OBJECT },
	{ "patternProperties", FOR_OBJECT }, { "propertyNames", FOR_OBJECT },
	{ "items", FOR_ARRAY }, { "prefixItems", FOR_ARRAY }, { "minItems", FOR_ARRAY }, { "maxItems", FOR_ARRAY },
	{ "uniqueItems", FOR_ARRAY },
	{ "minLength", FOR_STRING }, { "maxLength", FOR_STRING }, { "pattern", FOR_STRING }, { "format", FOR_STRING },
	{ "minimum", FOR_NUMBER }, { "maximum", FOR_NUMBER }, { "exclusiveMinimum", FOR_NUMBER },
	{ "exclusiveMaximum", FOR_NUMBER }, { "multipleOf", FOR_NUMBER },
};

static const struct keyword *find_keyword(const char *name)
{
	for (size_t i = 0; i < sizeof(keywords) / sizeof(*keywords); i++) {
		if (strcmp(keywords[i].name, name) == 0)
			return &keywords[i];
	}
	return NULL;
}

/* Refuses what is not known; *of: what the keywords speak of. */
static enum status check_keywords(struct schema *s, const json_t *schema, unsigned *of)
{
	json_t *v, *obj = (json_t *)schema;
	const char *key;

	*of = 0;
	json_object_foreach(obj, key, v) {
		const struct keyword *k = find_keyword(key);

		if (k)
			*of |= k->of;
		else if (!schema_is_annotation(key))
			return error_set(s->err, E_UNSUPPORTED, "the schema keyword %.60s is not supported", key);
	}
	return OK;
}

/* --- strings and numbers --------------------------------------------------------------------------------- */

static enum status text_of(struct schema *s, const char **out, const json_t *schema, const char *key)
{
	const json_t *v = json_object_get(schema, key);

	*out = json_string_value(v);
	if (v && !*out)
		return error_set(s->err, E_INVAL, "%s: found %s, expected a string", key, json_type_name(v));
	return OK;
}

static enum status quoted_regex(struct schema *s, struct g_node **out, const char *regex, size_t len, bool search)
{
	struct grammar_ir *ir = s->ir;

	TRY(grammar_read_regex(out, ir, regex, len, (struct regex_mode){ .json = true, .search = search }, s->err));
	*out = g_seq(ir, g_seq(ir, g_text(ir, "\""), *out), g_text(ir, "\""));
	return OK;
}

static enum status string_of_type(struct schema *s, struct g_node **out, const json_t *schema)
{
	const char *pattern, *format, *regex;
	uint32_t min = 0, max = G_NO_MAX;
	struct grammar_ir *ir = s->ir;

	TRY(text_of(s, &pattern, schema, "pattern"));
	TRY(text_of(s, &format, schema, "format"));
	TRY(schema_count(s, &min, schema, "minLength"));
	TRY(schema_count(s, &max, schema, "maxLength"));
	if ((pattern || format) && (min || max != G_NO_MAX))
		return error_set(s->err, E_UNSUPPORTED, "%s together with minLength or maxLength is not supported",
			pattern ? "pattern" : "format");
	if (pattern && format)
		return error_set(s->err, E_UNSUPPORTED, "pattern together with format is not supported");
	if (max < min)
		return error_set(s->err, E_INVAL, "maxLength %u is below minLength %u", max, min);
	if (pattern)
		return quoted_regex(s, out, pattern, json_string_length(json_object_get(schema, "pattern")), true);
	if (format) {
		regex = grammar_format_regex(format);
		if (!regex)
			return error_set(s->err, E_UNSUPPORTED, "format %.60s is not supported", format);
		return quoted_regex(s, out, regex, strlen(regex), false);
	}
	*out = value_string(s);
	if (min || max != G_NO_MAX)
		*out = g_seq(ir, g_seq(ir, g_text(ir, "\""), value_chars(s, min, max)), g_text(ir, "\""));
	return OK;
}

static enum status bound(struct schema *s, const json_t *schema, const char *key, bool *is, long double *out)
{
	const json_t *v = json_object_get(schema, key);

	*is = v != NULL;
	if (v && !json_is_number(v))
		return error_set(s->err, E_INVAL, "%s: found %s, expected a number", key, json_type_name(v));
	*out = schema_number(v);
	return OK;
}

static enum status number_of_type(struct schema *s, struct g_node **out, const json_t *schema, bool integer)
{
	struct number_bounds b = { 0 };
	bool is;
	long double v = 0, by = 0;

	TRY(bound(s, schema, "minimum", &b.has_min, &b.min));
	TRY(bound(s, schema, "maximum", &b.has_max, &b.max));
	TRY(bound(s, schema, "exclusiveMinimum", &is, &v));
	if (is && (!b.has_min || v >= b.min))
		b.has_min = b.min_open = true, b.min = v;
	TRY(bound(s, schema, "exclusiveMaximum", &is, &v));
	if (is && (!b.has_max || v <= b.max))
		b.has_max = b.max_open = true, b.max = v;
	TRY(bound(s, schema, "multipleOf", &is, &by));
	if (is && (by != 1 || !integer))
		return grammar_multiple_node(out, s->ir, &b, (double)by, s->err);
	if (b.has_min || b.has_max)
		return grammar_number_node(out, s->ir, &b, integer, s->err);
	*out = integer ? value_integer(s) : value_number(s);
	return OK;
}

/* --- types ----------------------------------------------------------------------------------------------- */

static enum status of_type(struct schema *s, struct g_node **out, const json_t *schema, const char *type)
{
	if (strcmp(type, "object") == 0)
		return schema_object(s, out, schema);
	if (strcmp(type, "array") == 0)
		return schema_array(s, out, schema);
	if (strcmp(type, "string") == 0)
		return string_of_type(s, out, schema);
	if (strcmp(type, "number") == 0 || strcmp(type, "integer") == 0)
		return number_of_type(s, out, schema, *type == 'i');
	if (strcmp(type, "boolean") == 0)
		*out = g_alt(s->ir, g_text(s->ir, "true"), g_text(s->ir, "false"));
	else if (strcmp(type, "null") == 0)
		*out = g_text(s->ir, "null");
	else
		return error_set(s->err, E_INVAL, "type: found %.40s, expected object, array, string, number, integer, "
			"boolean or null", type);
	return OK;
}

/* Without "type": the types that the keywords speak of. */
static enum status of_keywords(struct schema *s, struct g_node **out, const json_t *schema, unsigned of)
{
	static const struct { unsigned of; const char *type; } types[] = { { FOR_OBJECT, "object" }, { FOR_ARRAY, "array" },
		{ FOR_STRING, "string" }, { FOR_NUMBER, "number" } };
	struct g_node *node;

	*out = NULL;
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		if (!(of & types[i].of))
			continue;
		TRY(of_type(s, &node, schema, types[i].type));
		*out = g_alt(s->ir, *out, node);
	}
	if (!*out)
		*out = value_any(s);
	return OK;
}

static enum status typed(struct schema *s, struct g_node **out, const json_t *schema, unsigned of)
{
	const json_t *type = json_object_get(schema, "type");
	struct g_node *node;

	if (!type)
		return of_keywords(s, out, schema, of);
	if (json_is_string(type))
		return of_type(s, out, schema, json_string_value(type));
	if (!json_is_array(type))
		return error_set(s->err, E_INVAL, "type: found %s, expected a name or a list of names", json_type_name(type));
	*out = g_never(s->ir);
	for (size_t i = 0; i < json_array_size(type); i++) {
		const char *name = json_string_value(json_array_get(type, i));

		if (!name)
			return error_set(s->err, E_INVAL, "type[%zu]: found %s, expected a name", i,
				json_type_name(json_array_get(type, i)));
		TRY(of_type(s, &node, schema, name));
		*out = g_alt(s->ir, *out, node);
	}
	return OK;
}

/* --- given values ---------------------------------------------------------------------------------------- */

static bool has_type(const json_t *v, const char *type)
{
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return strcmp(type, "object") == 0;
	case JSON_ARRAY:
		return strcmp(type, "array") == 0;
	case JSON_STRING:
		return strcmp(type, "string") == 0;
	case JSON_INTEGER:
		return strcmp(type, "integer") == 0 || strcmp(type, "number") == 0;
	case JSON_REAL:
		return strcmp(type, "number") == 0 || (strcmp(type, "integer") == 0 &&
			json_real_value(v) == floor(json_real_value(v)));
	case JSON_TRUE:
	case JSON_FALSE:
		return strcmp(type, "boolean") == 0;
	case JSON_NULL:
		return strcmp(type, "null") == 0;
	}
	return false;
}

bool schema_fits_type(const json_t *v, const json_t *type)
{
	if (json_is_string(type))
		return has_type(v, json_string_value(type));
	for (size_t i = 0; i < json_array_size(type); i++) {
		const char *name = json_string_value(json_array_get(type, i));

		if (name && has_type(v, name))
			return true;
	}
	return !type;
}

static enum status given(struct schema *s, struct g_node **out, const json_t *schema, unsigned of)
{
	const json_t *one = json_object_get(schema, "const"), *list = json_object_get(schema, "enum");
	const json_t *type = json_object_get(schema, "type");
	json_t *values;
	enum status st;

	if (of & ~(unsigned)FOR_ALL)
		return error_set(s->err, E_UNSUPPORTED, "enum or const beside keywords other than type is not supported");
	if (list && !json_is_array(list))
		return error_set(s->err, E_INVAL, "enum: found %s, expected a list", json_type_name(list));
	values = json_array();
	for (size_t i = 0; i < (list ? json_array_size(list) : 1); i++) {
		const json_t *v = list ? json_array_get(list, i) : one;

		if (schema_fits_type(v, type) && (!list || !one || json_equal((json_t *)one, (json_t *)v)))
			json_array_append(values, (json_t *)v);
	}
	st = value_enum(s, out, values);
	json_decref(values);
	return st;
}

enum status schema_string(struct schema *s, struct g_node **out, const json_t *schema)
{
	unsigned of;
	json_t *typed_copy;

	TRY(check_keywords(s, schema, &of));
	typed_copy = json_copy((json_t *)schema);
	json_object_set_new(typed_copy, "type", json_string("string"));
	schema_keep(s, typed_copy);
	if (json_object_get(schema, "anyOf") || json_object_get(schema, "oneOf"))
		return error_set(s->err, E_UNSUPPORTED, "propertyNames with anyOf or oneOf is not supported");
	if (json_object_get(schema, "enum") || json_object_get(schema, "const"))
		return given(s, out, typed_copy, of);
	return string_of_type(s, out, typed_copy);
}

/* --- one schema ------------------------------------------------------------------------------------------ */

/* anyOf, or oneOf whose schemas exclude each other, with the keywords beside it in each. */
static enum status any_of(struct schema *s, struct g_node **out, const json_t *schema, const char *key)
{
	const json_t *list = json_object_get(schema, key);
	json_t *base = json_copy((json_t *)schema);
	bool one = strcmp(key, "oneOf") == 0;

	schema_keep(s, base);
	json_object_del(base, key);
	if (!json_is_array(list) || json_array_size(list) == 0)
		return error_set(s->err, E_INVAL, "%s: expected a list of schemas", key);
	if (one && json_object_get(base, "anyOf"))
		return error_set(s->err, E_UNSUPPORTED, "oneOf beside anyOf is not supported");
	if (one)
		TRY(schema_disjoint(s, list));
	*out = NULL;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *branch = json_array_get(list, i), *all = branch;
		json_t *v;
		const char *k;

		json_object_foreach(base, k, v) {
			if (!schema_is_annotation(k)) {
				TRY(schema_merge(s, &all, base, branch));
				break;
			}
		}
		*out = g_alt(s->ir, *out, g_call(s->ir, schema_rule(s, all)));
	}
	return OK;
}

static enum status one_schema(struct schema *s, struct g_node **out, const json_t *schema)
{
	uint32_t call;
	bool is_call;
	unsigned of;

	if (json_is_boolean(schema)) {
		*out = json_is_true(schema) ? value_any(s) : g_never(s->ir);
		return OK;
	}
	if (!json_is_object(schema))
		return error_set(s->err, E_INVAL, "found %s, expected a schema", json_type_name(schema));
	TRY(schema_flatten(s, &schema, &is_call, &call, schema));
	if (is_call) {
		*out = g_call(s->ir, call);
		return OK;
	}
	if (json_is_boolean(schema))
		return one_schema(s, out, schema);
	TRY(check_keywords(s, schema, &of));
	if (json_object_get(schema, "anyOf"))
		return any_of(s, out, schema, "anyOf");
	if (json_object_get(schema, "oneOf"))
		return any_of(s, out, schema, "oneOf");
	if (json_object_get(schema, "enum") || json_object_get(schema, "const"))
		return given(s, out, schema, of);
	return typed(s, out, schema, of);
}

static enum status read_all(struct schema *s)
{
	if (s->o->whitespace && !s->o->compact && !s->ir->json_ws) {
		struct g_node *ws;

		TRY(grammar_read_regex(&ws, s->ir, s->o->whitespace, strlen(s->o->whitespace), (struct regex_mode){ false },
			s->err));
		s->ir->json_ws = g_rule_new(s->ir, NULL) + 1;
		g_rule_set(s->ir, s->ir->json_ws - 1, ws);
	}
	for (; s->done < s->n_todo; s->done++) {
		struct g_node *node;

		TRY(one_schema(s, &node, s->todo[s->done].schema));
		TRY(grammar_ir_check(s->ir, s->err));
		g_rule_set(s->ir, s->todo[s->done].rule, node);
	}
	return OK;
}

enum status grammar_read_schema(uint32_t *rule, struct grammar_ir *ir, const json_t *schema,
	const struct grammar_json_options *o, struct error *err)
{
	struct schema s = { .ir = ir, .root = schema, .o = o, .err = err, .made = json_array() };
	enum status st;

	grow(&s);
	if (o->object)
		schema = schema_keep(&s, json_pack("{s:[O,{s:s}]}", "allOf", schema, "type", "object"));
	*rule = schema_rule(&s, schema);
	st = read_all(&s);
	json_decref(s.made);
	free(s.todo);
	free(s.slots);
	return st;
}
