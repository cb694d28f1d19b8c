/* Typed access to a request's fields (server/fields.h). */
#include "server/fields.h"

#include <math.h>

#include "base/json.h"

/* What is outside strings; the parser proper finds what is wrong. n_values counts brackets and commas: no text holds
 * more values. */
struct shape {
	int depth, deepest;
	size_t n_values;
};

static struct shape shape_of(const char *s, size_t len)
{
	struct shape shape = { .n_values = 1 };
	bool in_string = false;

	for (size_t i = 0; i < len && shape.deepest <= FIELDS_MAX_DEPTH; i++) {
		if (in_string) {
			if (s[i] == '\\')
				i++;
			else if (s[i] == '"')
				in_string = false;
		} else if (s[i] == '"') {
			in_string = true;
		} else if (s[i] == '{' || s[i] == '[') {
			shape.n_values++;
			shape.depth++;
			shape.deepest = shape.depth > shape.deepest ? shape.depth : shape.deepest;
		} else if (s[i] == '}' || s[i] == ']') {
			shape.depth--;
		} else if (s[i] == ',') {
			shape.n_values++;
		}
	}
	return shape;
}

enum status fields_parse(json_t **out, size_t *n_values, const char *body, size_t len, struct refusal *no)
{
	struct shape shape = shape_of(body, len);
	struct error err;
	json_t *v;

	if (shape.deepest > FIELDS_MAX_DEPTH)
		return refuse_shape(no, NULL, "JSON is nested deeper than %d levels", FIELDS_MAX_DEPTH);
	if (shape.n_values > FIELDS_MAX_VALUES)
		return refuse_shape(no, NULL, "request body: more than %zu values", FIELDS_MAX_VALUES);
	if (json_load_text(&v, body, len, "request body", &err) != OK)
		return refuse_shape(no, NULL, "%s", err.msg);
	if (!json_is_object(v)) {
		refuse_shape(no, NULL, "request body: found %s, expected an object", json_type_name(v));
		json_decref(v);
		return E_INVAL;
	}
	*out = v;
	if (n_values)
		*n_values = shape.n_values;
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

		if (d != floor(d) || fabs(d) > 9007199254740992.0)
			return wrong_type(v, name, "a whole number", no);
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
