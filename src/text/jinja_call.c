/* Calls: sorting arguments into parameters, the functions that every template can use. */
#include <string.h>

#include "text/jinja_run.h"

enum jinja_function_id {
	FN_RANGE,
	FN_NAMESPACE,
	FN_RAISE,
	FN_DICT,
};

static const char *const function_names[] = {
	[FN_RANGE] = "range",
	[FN_NAMESPACE] = "namespace",
	[FN_RAISE] = "raise_exception",
	[FN_DICT] = "dict",
};

int jinja_function_find(struct jinja_str name)
{
	size_t i;

	for (i = 0; i < sizeof(function_names) / sizeof(function_names[0]); i++) {
		if (name.len == strlen(function_names[i]) &&
			memcmp(name.s, function_names[i], name.len) == 0)
			return (int)i;
	}
	return -1;
}

/* Index of the parameter called name, or -1. */
static int param_index(const char *params, const struct jinja_str *name)
{
	int i = 0;

	while (*params) {
		size_t n = strcspn(params, " ");

		if (n == name->len && memcmp(params, name->s, n) == 0)
			return i;
		params += n + (params[n] == ' ');
		i++;
	}
	return -1;
}

enum status jinja_bind(struct jinja_run *r, const char *what, const struct jinja_args *args,
	const char *params, size_t min, struct jinja_value *slots)
{
	size_t n = *params != 0, i;
	const char *p;

	for (p = params; *p; p++)
		n += *p == ' ';
	for (i = 0; i < n; i++)
		slots[i] = jinja_undefined(NULL);
	for (i = 0; i < args->n; i++) {
		const struct jinja_str *name = args->names[i];
		int at = name ? param_index(params, name) : (int)i;

		if (!name && i >= n)
			return jinja_fail(
				r, E_INVAL, "%s: at most %zu arguments expected", what, n);
		if (at < 0 || jinja_given(slots[at]))
			return jinja_fail(r, E_INVAL, "%s: unexpected argument '%.*s'", what,
				name ? (int)name->len : 0, name ? name->s : "");
		slots[at] = args->values[i];
	}
	for (i = 0; i < min; i++) {
		if (!jinja_given(slots[i]))
			return jinja_fail(
				r, E_INVAL, "%s: at least %zu arguments expected", what, min);
	}
	return OK;
}

enum status jinja_need_str(
	struct jinja_run *r, const char *what, struct jinja_value v, struct jinja_str *out)
{
	if (v.type != JINJA_STRING)
		return jinja_fail(
			r, E_INVAL, "%s: expected a str, found %s", what, jinja_type_name(v));
	*out = *v.str;
	return OK;
}

enum status jinja_need_int(
	struct jinja_run *r, const char *what, struct jinja_value v, int64_t *out)
{
	if (!jinja_is_integral(v))
		return jinja_fail(
			r, E_INVAL, "%s: expected an int, found %s", what, jinja_type_name(v));
	*out = jinja_as_int(v);
	return OK;
}

static enum status call_range(
	struct jinja_run *r, const struct jinja_args *args, struct jinja_value *out)
{
	int64_t at[3] = {0, 0, 1}, i;
	struct jinja_value a[3];
	uint64_t n, span, step;

	TRY(jinja_bind(r, "range", args, "start stop step", 1, a));
	for (i = 0; i < 3; i++) {
		if (jinja_given(a[i]))
			TRY(jinja_need_int(r, "range", a[i], &at[i]));
	}
	if (!jinja_given(a[1])) {
		at[1] = at[0];
		at[0] = 0;
	}
	if (!at[2])
		return jinja_fail(r, E_INVAL, "range: step is zero");
	step = at[2] > 0 ? (uint64_t)at[2] : -(uint64_t)at[2];
	span = at[2] > 0 ? (uint64_t)at[1] - (uint64_t)at[0] : (uint64_t)at[0] - (uint64_t)at[1];
	n = (at[2] > 0 ? at[0] < at[1] : at[0] > at[1]) ? (span - 1) / step + 1 : 0;
	if (n > JINJA_MAX_RANGE)
		return jinja_fail(r, E_LIMIT, "range of more than %d numbers", JINJA_MAX_RANGE);
	TRY(jinja_list_new(r, out, n));
	for (i = 0; i < (int64_t)n; i++)
		TRY(jinja_list_push(r, out->list,
			jinja_int((int64_t)((uint64_t)at[0] + (uint64_t)i * (uint64_t)at[2]))));
	return OK;
}

/* dict() and namespace(): a mapping to start from, then keyword arguments. */
static enum status call_dict(struct jinja_run *r, const struct jinja_args *args,
	enum jinja_type type, struct jinja_value *out)
{
	size_t i, k;

	TRY(jinja_dict_new(r, out, type));
	for (i = 0; i < args->n; i++) {
		struct jinja_value v = args->values[i];

		if (args->names[i]) {
			TRY(jinja_dict_set(r, out->dict,
				(struct jinja_value){.type = JINJA_STRING, .str = args->names[i]},
				v));
			continue;
		}
		if (i || v.type != JINJA_DICT)
			return jinja_fail(r, E_INVAL, "dict: expected a dict or named arguments");
		for (k = 0; k < v.dict->n; k++)
			TRY(jinja_dict_set(
				r, out->dict, v.dict->pairs[k].key, v.dict->pairs[k].value));
	}
	return OK;
}

static enum status call_function(
	struct jinja_run *r, unsigned id, const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_value message;
	struct jinja_str s;

	switch ((enum jinja_function_id)id) {
	case FN_RANGE:
		return call_range(r, args, out);
	case FN_NAMESPACE:
		return call_dict(r, args, JINJA_NAMESPACE, out);
	case FN_DICT:
		return call_dict(r, args, JINJA_DICT, out);
	case FN_RAISE:
		break;
	}
	TRY(jinja_bind(r, "raise_exception", args, "message", 1, &message));
	TRY(jinja_to_str(r, message, &s));
	return jinja_fail(r, E_INVAL, "%.*s", s.len > 150 ? 150 : (int)s.len, s.s);
}

enum status jinja_call(struct jinja_run *r, struct jinja_value callee,
	const struct jinja_args *args, struct jinja_value *out)
{
	switch ((enum jinja_type)callee.type) {
	case JINJA_MACRO:
		return jinja_call_macro(r, callee.macro, args, out);
	case JINJA_METHOD:
		return jinja_method_run(r, callee.method, args, out);
	case JINJA_FUNCTION:
		return call_function(r, callee.function, args, out);
	case JINJA_UNDEFINED:
		return jinja_fail(r, E_INVAL, "'%.*s' is undefined and cannot be called",
			callee.name ? (int)callee.name->len : 0, callee.name ? callee.name->s : "");
	default:
		return jinja_fail(r, E_INVAL, "%s is not callable", jinja_type_name(callee));
	}
}
