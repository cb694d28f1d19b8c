/*
 * References, and schemas that several parts describe together: $ref with neighbours, allOf, anyOf beside
 * other keywords (text/grammar_schema_int.h).
 *
 * Two schemas are joined keyword by keyword; where the joint meaning has no keyword, they are refused.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "text/grammar_schema_int.h"

#define MAX_STEPS 64 /* references and joins before a schema has neither */
#define MAX_JOINED 64    /* schemas of one allOf */
#define MAX_COPIED 200000u /* keys and names, by all joins of a source: merged schemas are kept */
#define MAX_PAIRS 16384u /* of values that are compared with one another */

bool schema_is_annotation(const char *key)
{
	static const char *const names[] = { "title", "description", "default", "examples", "$schema", "$id", "$comment",
		"deprecated", "readOnly", "writeOnly", "nullable", "$defs", "definitions" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (strcmp(names[i], key) == 0)
			return true;
	}
	return strncmp(key, "x-", 2) == 0;
}

/* --- references ------------------------------------------------------------------------------------------ */

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* One step of a JSON pointer, its escapes read. */
static const char *pointer_step(char *out, size_t size, const char *at)
{
	size_t n = 0;

	for (; *at && *at != '/' && n + 1 < size; at++) {
		char c = *at;

		if (c == '%' && hex(at[1]) >= 0 && hex(at[2]) >= 0) {
			c = (char)(hex(at[1]) * 16 + hex(at[2]));
			at += 2;
		}
		if (c == '~' && (at[1] == '0' || at[1] == '1')) {
			c = at[1] == '0' ? '~' : '/';
			at++;
		}
		out[n++] = c;
	}
	out[n] = 0;
	return at;
}

enum status schema_resolve(struct schema *s, const json_t **out, const char *ref)
{
	const json_t *v = s->root;
	const char *at = ref + 1;
	char step[256];

	if (*ref != '#')
		return error_set(s->err, E_UNSUPPORTED, "$ref %.80s: references to other documents are not supported", ref);
	if (*at && *at != '/')
		return error_set(s->err, E_UNSUPPORTED, "$ref %.80s: references to anchors are not supported", ref);
	while (*at == '/' && v) {
		at = pointer_step(step, sizeof(step), at + 1);
		v = json_is_array(v) ? json_array_get(v, strtoul(step, NULL, 10)) : json_object_get(v, step);
	}
	if (!v || *at)
		return error_set(s->err, E_INVAL, "$ref %.80s: there is no such schema", ref);
	*out = v;
	return OK;
}

/* --- joining --------------------------------------------------------------------------------------------- */

static enum status refuse_join(struct schema *s, const char *key)
{
	return error_set(s->err, E_UNSUPPORTED, "schemas that are joined (allOf, or a keyword beside anyOf or $ref) both say "
		"%.40s in a way that is not supported", key);
}

static bool has(const json_t *list, const json_t *v)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		if (json_equal(json_array_get(list, i), (json_t *)v))
			return true;
	}
	return false;
}

/* Values of both lists; of types also what one names as number and the other as integer. */
static json_t *intersect(const json_t *a, const json_t *b, bool types)
{
	json_t *out = json_array(), *x = json_is_array(a) ? json_incref((json_t *)a) : json_pack("[O]", a);
	json_t *y = json_is_array(b) ? json_incref((json_t *)b) : json_pack("[O]", b);
	json_t *number = json_string("number"), *integer = json_string("integer");

	for (size_t i = 0; i < json_array_size(x); i++) {
		if (has(y, json_array_get(x, i)))
			json_array_append(out, json_array_get(x, i));
	}
	if (types && !has(out, integer) && ((has(x, number) && has(y, integer)) || (has(x, integer) && has(y, number))))
		json_array_append(out, integer);
	json_decref(number);
	json_decref(integer);
	json_decref(x);
	json_decref(y);
	return out;
}

/* Lists are compared value by value: their product is bounded, as time is. */
static enum status check_pairs(struct schema *s, const char *key, const json_t *x, const json_t *y)
{
	if (json_array_size(x) * json_array_size(y) > MAX_PAIRS)
		return error_set(s->err, E_LIMIT, "%.40s: lists of %zu and %zu values are too long to be joined", key,
			json_array_size(x), json_array_size(y));
	return OK;
}

static json_t *united(const json_t *a, const json_t *b)
{
	json_t *out = json_copy((json_t *)a);

	for (size_t i = 0; i < json_array_size(b); i++) {
		if (!has(a, json_array_get(b, i)))
			json_array_append(out, json_array_get(b, i));
	}
	return out;
}

static json_t *both(const json_t *a, const json_t *b)
{
	return json_equal((json_t *)a, (json_t *)b) ? json_incref((json_t *)a) : json_pack("{s:[O,O]}", "allOf", a, b);
}

static json_t *join_properties(const json_t *a, const json_t *b)
{
	json_t *out = json_copy((json_t *)a), *v, *obj = (json_t *)b;
	const char *key;

	json_object_foreach(obj, key, v) {
		const json_t *old = json_object_get(a, key);

		json_object_set_new(out, key, old ? both(old, v) : json_incref(v));
	}
	return out;
}

/* Whether b lists a property that a, which is closed to others, does not. */
static bool closes(const json_t *a, const json_t *b)
{
	const json_t *ap = json_object_get(a, "additionalProperties");
	json_t *props = json_object_get(b, "properties"), *v;
	const char *key;

	if (!ap || json_is_true(ap))
		return false;
	json_object_foreach(props, key, v) {
		if (!json_object_get(json_object_get(a, "properties"), key))
			return true;
	}
	return false;
}

static bool one_of(const char *key, const char *list)
{
	size_t n = strlen(key);

	for (const char *at = strstr(list, key); at; at = strstr(at + 1, key)) {
		if ((at == list || at[-1] == ' ') && (at[n] == ' ' || !at[n]))
			return true;
	}
	return false;
}

static enum status join_key(struct schema *s, json_t *out, const char *key, json_t *x, json_t *y)
{
	long double p = schema_number(x), q = schema_number(y);

	if (schema_is_annotation(key) || json_equal(x, y))
		return OK;
	TRY(check_pairs(s, key, x, y));
	if (one_of(key, "type enum"))
		json_object_set_new(out, key, intersect(x, y, strcmp(key, "type") == 0));
	else if (strcmp(key, "required") == 0)
		json_object_set_new(out, key, united(x, y));
	else if (strcmp(key, "properties") == 0 && json_is_object(x) && json_is_object(y))
		json_object_set_new(out, key, join_properties(x, y));
	else if (strcmp(key, "items") == 0)
		json_object_set_new(out, key, both(x, y));
	else if (strcmp(key, "uniqueItems") == 0 && json_is_boolean(x) && json_is_boolean(y))
		json_object_set_new(out, key, json_true());
	else if (one_of(key, "minimum exclusiveMinimum minLength minItems") && json_is_number(x) && json_is_number(y))
		json_object_set(out, key, p > q ? x : y);
	else if (one_of(key, "maximum exclusiveMaximum maxLength maxItems") && json_is_number(x) && json_is_number(y))
		json_object_set(out, key, p < q ? x : y);
	else if (strcmp(key, "allOf") == 0 && json_is_array(x) && json_is_array(y)) {
		json_t *all = json_copy(x);

		json_array_extend(all, y);
		json_object_set_new(out, key, all);
	} else {
		return refuse_join(s, key);
	}
	return OK;
}

/* OpenAPI's nullable beside a type adds null to it; elsewhere it says nothing. */
static enum status add_null(struct schema *s, const json_t **inout)
{
	const json_t *is = json_object_get(*inout, "nullable"), *type = json_object_get(*inout, "type");
	json_t *out, *types, *null;

	if (is && !json_is_boolean(is))
		return error_set(s->err, E_INVAL, "nullable: found %s, expected true or false", json_type_name(is));
	if (!json_is_true(is) || !type)
		return OK;
	null = json_string("null");
	types = json_is_array(type) ? json_copy((json_t *)type) : json_pack("[O]", type);
	if (!has(types, null))
		json_array_append(types, null);
	json_decref(null);
	out = json_copy((json_t *)*inout);
	json_object_set_new(out, "type", types);
	json_object_del(out, "nullable");
	*inout = schema_keep(s, out);
	return OK;
}

static size_t weight(const json_t *v)
{
	return json_object_size(v) + json_object_size(json_object_get(v, "properties")) +
	       json_array_size(json_object_get(v, "required"));
}

enum status schema_merge(struct schema *s, const json_t **result, const json_t *a, const json_t *b)
{
	json_t *out, *v, *obj;
	const char *key;

	if (json_is_true(b) || json_is_false(a)) {
		*result = a;
		return OK;
	}
	if (json_is_true(a) || json_is_false(b)) {
		*result = b;
		return OK;
	}
	if (!json_is_object(a) || !json_is_object(b))
		return error_set(s->err, E_INVAL, "found %s, expected a schema", json_type_name(json_is_object(a) ? b : a));
	TRY(add_null(s, &a));
	TRY(add_null(s, &b));
	obj = (json_t *)b;
	if (closes(a, b) || closes(b, a))
		return refuse_join(s, "additionalProperties");
	s->joined += weight(a) + weight(b);
	if (s->joined > MAX_COPIED)
		return error_set(s->err, E_LIMIT, "schemas are joined (allOf, or keywords beside anyOf or $ref) too often for their size");
	out = json_copy((json_t *)a);
	schema_keep(s, out);
	json_object_foreach(obj, key, v) {
		json_t *old = json_object_get(a, key);

		if (!old)
			json_object_set(out, key, v);
		else
			TRY(join_key(s, out, key, old, v));
	}
	*result = out;
	return OK;
}

/* A copy without one key; *rest: whether what is left constrains anything. */
static json_t *without(struct schema *s, const json_t *in, const char *drop, bool *rest)
{
	json_t *out = json_copy((json_t *)in), *v;
	const char *key;

	schema_keep(s, out);
	json_object_del(out, drop);
	*rest = false;
	json_object_foreach(out, key, v)
		*rest |= !schema_is_annotation(key);
	return out;
}

static enum status join_all(struct schema *s, const json_t **out, const json_t *in)
{
	const json_t *list = json_object_get(in, "allOf");
	bool rest;

	if (!json_is_array(list) || json_array_size(list) == 0)
		return error_set(s->err, E_INVAL, "allOf: expected a list of schemas");
	if (json_array_size(list) > MAX_JOINED)
		return error_set(s->err, E_LIMIT, "allOf: %zu schemas, at most %d are joined", json_array_size(list), MAX_JOINED);
	*out = without(s, in, "allOf", &rest);
	for (size_t i = 0; i < json_array_size(list); i++)
		TRY(schema_merge(s, out, *out, json_array_get(list, i)));
	return OK;
}

enum status schema_flatten(struct schema *s, const json_t **out, bool *is_call, uint32_t *call, const json_t *in)
{
	*is_call = false;
	for (int i = 0; i < MAX_STEPS; i++) {
		const json_t *ref = json_object_get(in, "$ref"), *target;
		bool rest;

		TRY(grammar_ir_check(s->ir, s->err));
		TRY(add_null(s, &in));
		if (ref) {
			const json_t *around = without(s, in, "$ref", &rest);

			if (!json_is_string(ref))
				return error_set(s->err, E_INVAL, "$ref: found %s, expected a string", json_type_name(ref));
			TRY(schema_resolve(s, &target, json_string_value(ref)));
			if (!rest) {
				*is_call = true;
				*call = schema_rule(s, target);
				return OK;
			}
			TRY(schema_merge(s, &in, around, target));
		} else if (json_object_get(in, "allOf")) {
			TRY(join_all(s, &in, in));
		} else {
			*out = in;
			return OK;
		}
	}
	return error_set(s->err, E_LIMIT, "a schema refers on more than %d times, or to itself", MAX_STEPS);
}

/* --- oneOf ----------------------------------------------------------------------------------------------- */

const json_t *schema_behind(struct schema *s, const json_t *v)
{
	for (int i = 0; i < 16 && json_is_string(json_object_get(v, "$ref")) && json_object_size(v) == 1; i++) {
		const json_t *target;

		if (schema_resolve(s, &target, json_string_value(json_object_get(v, "$ref"))) != OK)
			break;
		v = target;
	}
	return v;
}

json_t *schema_values(const json_t *v)
{
	const json_t *one = json_object_get(v, "const"), *list = json_object_get(v, "enum");

	return one ? json_pack("[O]", one) : json_is_array(list) ? json_incref((json_t *)list) : NULL;
}

bool schema_same_value(const json_t *a, const json_t *b)
{
	if (json_is_number(a) && json_is_number(b))
		return schema_number(a) == schema_number(b);
	return json_equal((json_t *)a, (json_t *)b);
}

static bool values_apart(const json_t *a, const json_t *b)
{
	json_t *x = schema_values(a), *y = schema_values(b);
	bool apart = x && y && json_array_size(x) * json_array_size(y) <= MAX_PAIRS;

	for (size_t i = 0; apart && i < json_array_size(x); i++) {
		for (size_t k = 0; apart && k < json_array_size(y); k++)
			apart = !schema_same_value(json_array_get(x, i), json_array_get(y, k));
	}
	json_decref(x);
	json_decref(y);
	return apart;
}

/* One bit for each kind of value. */
static unsigned kinds(const json_t *v)
{
	static const char *const names[] = { "object", "array", "string", "number", "boolean", "null" };
	const json_t *type = json_object_get(v, "type");
	size_t n = json_is_array(type) ? json_array_size(type) : 1;
	unsigned out = 0;

	if (json_is_false(v))
		return 0;
	for (size_t i = 0; i < n; i++) {
		const char *name = json_string_value(json_is_array(type) ? json_array_get(type, i) : type);

		for (unsigned k = 0; name && k < 6; k++) {
			if (strcmp(name, names[k]) == 0 || (k == 3 && strcmp(name, "integer") == 0))
				out |= 1u << k;
		}
	}
	if (out && json_is_true(json_object_get(v, "nullable")))
		out |= 1u << 5;
	return out ? out : ~0u;
}

static bool requires(const json_t *v, const char *name)
{
	json_t *text = json_string(name);
	bool yes = has(json_object_get(v, "required"), text);

	json_decref(text);
	return yes;
}

/* A property that both must have says which of the two an object is, or one that only a may have. */
static bool objects_apart(struct schema *s, const json_t *a, const json_t *b)
{
	json_t *props = json_object_get(a, "properties"), *others = json_object_get(b, "properties"), *v;
	const char *key;

	if (kinds(a) != 1 || kinds(b) != 1)
		return false;
	json_object_foreach(props, key, v) {
		const json_t *other = json_object_get(others, key);

		if (!requires(a, key))
			continue;
		if (!other && json_is_false(json_object_get(b, "additionalProperties")) &&
			!json_object_get(b, "patternProperties"))
			return true;
		if (other && requires(b, key) && (values_apart(schema_behind(s, v), schema_behind(s, other)) ||
			!(kinds(schema_behind(s, v)) & kinds(schema_behind(s, other)))))
			return true;
	}
	return false;
}

/* Whether each schema lists scalars and nothing else, and none of them twice: then there are no pairs to look at. */
static bool scalars_apart(struct schema *s, const json_t *list)
{
	json_t *seen = json_object();
	struct buf text = { 0 };
	bool apart = true;

	for (size_t i = 0; apart && i < json_array_size(list); i++) {
		json_t *values = schema_values(schema_behind(s, json_array_get(list, i)));

		apart = values != NULL;
		for (size_t k = 0; apart && k < json_array_size(values); k++) {
			const json_t *v = json_array_get(values, k), *before;

			buf_reset(&text);
			if (json_is_string(v))
				buf_printf(&text, "s%s", json_string_value(v));
			else if (json_is_number(v))
				buf_printf(&text, "n%.17g", json_number_value(v));
			else
				buf_printf(&text, "t%d", (int)json_typeof(v));
			before = json_object_get(seen, text.data);
			apart = !json_is_object(v) && !json_is_array(v) &&
				(!before || json_integer_value(before) == (json_int_t)i);
			if (apart)
				json_object_set_new(seen, text.data, json_integer((json_int_t)i));
		}
		json_decref(values);
	}
	buf_deinit(&text);
	json_decref(seen);
	return apart;
}

enum status schema_disjoint(struct schema *s, const json_t *list)
{
	for (size_t i = scalars_apart(s, list) ? json_array_size(list) : 0; i < json_array_size(list); i++) {
		const json_t *a = schema_behind(s, json_array_get(list, i));

		for (size_t k = 0; k < i; k++) {
			const json_t *b = schema_behind(s, json_array_get(list, k));

			if (grammar_ir_late(s->ir))
				return grammar_ir_check(s->ir, s->err);
			if ((kinds(a) & kinds(b)) && !values_apart(a, b) && !objects_apart(s, a, b) && !objects_apart(s, b, a))
				return error_set(s->err, E_UNSUPPORTED, "oneOf whose schemas %zu and %zu may both hold is not supported: "
					"use anyOf, or tell them apart by type or by a required property with const", k, i);
		}
	}
	return OK;
}
