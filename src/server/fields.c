/* Typed access to a request's fields (server/fields.h). */
#include "server/fields.h"

#include <math.h>
#include <string.h>

#include "base/json.h"

/* What jansson takes for a value in a list, a string, a pair, a list and an object. */
#define VALUE_BYTES 40u
#define STRING_BYTES 64u
#define PAIR_BYTES 40u
#define LIST_BYTES 136u
#define OBJECT_BYTES 232u

/* Of a text, by what is outside its strings; the parser proper finds what is wrong. */
struct shape {
	int depth, deepest;
	size_t bytes;
};

static void add_sign(struct shape *shape, char c)
{
	switch (c) {
	case '"':
		shape->bytes += STRING_BYTES;
		break;
	case ',':
		shape->bytes += VALUE_BYTES;
		break;
	case ':':
		shape->bytes += PAIR_BYTES;
		break;
	case '{':
	case '[':
		shape->bytes += c == '{' ? OBJECT_BYTES : LIST_BYTES;
		shape->depth++;
		shape->deepest = shape->depth > shape->deepest ? shape->depth : shape->deepest;
		break;
	case '}':
	case ']':
		shape->depth--;
		break;
	default:
		break;
	}
}

static struct shape shape_of(const char *s, size_t len)
{
	struct shape shape = { .bytes = VALUE_BYTES };
	bool in_string = false;

	for (size_t i = 0; i < len && shape.deepest <= FIELDS_MAX_DEPTH && shape.bytes <= FIELDS_MAX_BYTES; i++) {
		if (in_string) {
			if (s[i] == '\\')
				i++;
			else if (s[i] == '"')
				in_string = false;
		} else {
			add_sign(&shape, s[i]);
			in_string = s[i] == '"';
		}
	}
	return shape;
}

/* What the model reads: a NUL is a character like another there, and lengths are kept. Any other string would end. */
static bool is_one_of(const char *key, const char *const *names)
{
	while (*names && strcmp(*names, key) != 0)
		names++;
	return *names;
}

/* Where a value may have NULs: in no string of it; in fields of its objects; in itself or its list's strings; anywhere. */
enum nul { NUL_NOWHERE, NUL_IN_FIELDS, NUL_HERE, NUL_ANYWHERE };

static enum nul nul_in_field(const char *key, enum nul allowed)
{
	static const char *const arguments[] = { "arguments", "input", NULL };
	static const char *const texts[] = { "content", "text", "reasoning_content", "reasoning", "thinking", "output", NULL };

	if (allowed == NUL_NOWHERE || allowed == NUL_ANYWHERE)
		return allowed;
	return is_one_of(key, arguments) ? NUL_ANYWHERE : is_one_of(key, texts) ? NUL_HERE : NUL_IN_FIELDS;
}

/* *path: where below v the first stray one is, as "[3].name". */
static bool find_stray_nul(struct buf *path, json_t *v, enum nul allowed)
{
	struct buf front = { 0 };
	const char *key;
	json_t *item;
	size_t i;

	if (json_is_string(v))
		return allowed < NUL_HERE && strlen(json_string_value(v)) != json_string_length(v);
	json_array_foreach(v, i, item)
	{
		if (front.len == 0 && find_stray_nul(path, item, allowed))
			buf_printf(&front, "[%zu]", i);
	}
	json_object_foreach(v, key, item)
	{
		if (front.len == 0 && find_stray_nul(path, item, nul_in_field(key, allowed)))
			buf_printf(&front, ".%s", key);
	}
	if (front.len == 0)
		return false;
	buf_append(&front, path->data, path->len);
	buf_deinit(path);
	*path = front;
	return true;
}

static enum status check_nul(json_t *body, struct refusal *no)
{
	static const char *const texts[] = { "prompt", "messages", "system", "input", "instructions", NULL };
	struct buf path = { 0 };
	const char *key;
	json_t *v;

	json_object_foreach(body, key, v)
	{
		if (!find_stray_nul(&path, v, is_one_of(key, texts) ? NUL_HERE : NUL_NOWHERE))
			continue;
		refuse_shape(no, key, "%s%s: \\u0000 is only allowed in text for the model", key, path.len ? path.data : "");
		buf_deinit(&path);
		return E_INVAL;
	}
	return OK;
}

enum status fields_parse(json_t **out, size_t *bytes, const char *body, size_t len, struct refusal *no)
{
	struct shape shape = shape_of(body, len);
	struct error err;
	json_t *v;

	if (shape.deepest > FIELDS_MAX_DEPTH)
		return refuse_shape(no, NULL, "JSON is nested deeper than %d levels", FIELDS_MAX_DEPTH);
	if (shape.bytes > FIELDS_MAX_BYTES)
		return refuse_shape(no, NULL, "request body: so many values that they take more than %zu bytes",
			FIELDS_MAX_BYTES);
	if (json_load_text_loose(&v, body, len, "request body", &err) != OK)
		return refuse_shape(no, NULL, "%s", err.msg);
	if (!json_is_object(v)) {
		refuse_shape(no, NULL, "request body: found %s, expected an object", json_type_name(v));
		json_decref(v);
		return E_INVAL;
	}
	if (memmem(body, len, "\\u0000", 6) && check_nul(v, no) != OK) {
		json_decref(v);
		return E_INVAL;
	}
	*out = v;
	if (bytes)
		*bytes = shape.bytes;
	return OK;
}

json_t *field_get(const json_t *obj, const char *name)
{
	json_t *v = json_object_get(obj, name);

	return json_is_null(v) ? NULL : v;
}

static enum status wrong_type(const json_t *v, const char *name, const char *expected, struct refusal *no)
{
	return refuse_shape(no, name, "%s: found %s, expected %s", name, json_type_name(v), expected);
}

enum status field_bool(bool *out, const json_t *obj, const char *name, struct refusal *no)
{
	const json_t *v = field_get(obj, name);

	if (!v)
		return OK;
	if (!json_is_boolean(v))
		return wrong_type(v, name, "true or false", no);
	*out = json_is_true(v);
	return OK;
}

enum status field_int(int64_t *out, const json_t *obj, const char *name, int64_t min, int64_t max,
	struct refusal *no)
{
	const json_t *v = field_get(obj, name);
	int64_t i;

	if (!v)
		return OK;
	if (json_is_real(v)) { /* 16.0 is a whole number to clients of loosely typed languages */
		double d = json_real_value(v);

		if (d != floor(d))
			return wrong_type(v, name, "a whole number", no);
		if (d < (double)min || d > (double)max)
			return refuse(no, name, "%s must be from %lld to %lld, got %g", name, (long long)min, (long long)max, d);
		if (fabs(d) > 0x1p53) /* it may have been rounded */
			return refuse(no, name, "%s: expected a whole number of 64 bits, without point and exponent", name);
		i = (int64_t)d;
	} else if (json_is_integer(v)) {
		i = json_integer_value(v);
	} else {
		return wrong_type(v, name, "a whole number", no);
	}
	if (i < min || i > max)
		return refuse(no, name, "%s must be from %lld to %lld, got %lld", name, (long long)min,
			(long long)max, (long long)i);
	*out = i;
	return OK;
}

enum status field_real(double *out, const json_t *obj, const char *name, double min, double max,
	struct refusal *no)
{
	const json_t *v = field_get(obj, name);
	double d;

	if (!v)
		return OK;
	if (!json_is_number(v))
		return wrong_type(v, name, "a number", no);
	d = json_number_value(v);
	if (!(d >= min && d <= max))
		return refuse(no, name, "%s must be in [%g, %g], got %g", name, min, max, d);
	*out = d;
	return OK;
}

enum status field_string(const char **out, const json_t *obj, const char *name, struct refusal *no)
{
	const json_t *v = field_get(obj, name);

	if (!v)
		return OK;
	if (!json_is_string(v))
		return wrong_type(v, name, "a string", no);
	*out = json_string_value(v);
	return OK;
}

enum status field_object(json_t **out, const json_t *obj, const char *name, struct refusal *no)
{
	json_t *v = field_get(obj, name);

	if (!v)
		return OK;
	if (!json_is_object(v))
		return wrong_type(v, name, "an object", no);
	*out = v;
	return OK;
}

enum status field_array(json_t **out, const json_t *obj, const char *name, struct refusal *no)
{
	json_t *v = field_get(obj, name);

	if (!v)
		return OK;
	if (!json_is_array(v))
		return wrong_type(v, name, "a list", no);
	*out = v;
	return OK;
}

enum status field_id(int32_t *out, const json_t *value, const char *name, size_t i, uint32_t vocab,
	struct refusal *no)
{
	json_int_t id;

	if (!json_is_integer(value))
		return refuse_shape(no, name, "%s[%zu]: found %s, expected a token id", name, i,
			json_type_name(value));
	id = json_integer_value(value);
	if (id < 0 || id >= (json_int_t)vocab)
		return refuse(no, name, "%s[%zu]: token id %lld is out of vocabulary (%u)", name, i,
			(long long)id, vocab);
	*out = (int32_t)id;
	return OK;
}
