/* Values of templates: making, comparing, searching, and from JSON. Semantics are Python's. */
#include "text/jinja_value.h"

#include <math.h>
#include <string.h>

#include "text/jinja_run.h"

const char *jinja_type_name(struct jinja_value v)
{
	switch ((enum jinja_type)v.type) {
	case JINJA_UNDEFINED:
		return "Undefined";
	case JINJA_NONE:
		return "NoneType";
	case JINJA_BOOL:
		return "bool";
	case JINJA_INT:
		return "int";
	case JINJA_FLOAT:
		return "float";
	case JINJA_STRING:
		return "str";
	case JINJA_LIST:
		return v.list->tuple ? "tuple" : "list";
	case JINJA_DICT:
		return "dict";
	case JINJA_NAMESPACE:
		return "Namespace";
	case JINJA_LOOP:
		return "LoopContext";
	case JINJA_MACRO:
		return "Macro";
	case JINJA_METHOD:
		return "method";
	case JINJA_FUNCTION:
		break;
	}
	return "function";
}

bool jinja_truth(struct jinja_value v)
{
	switch ((enum jinja_type)v.type) {
	case JINJA_UNDEFINED:
	case JINJA_NONE:
		return false;
	case JINJA_BOOL:
		return v.b;
	case JINJA_INT:
		return v.i != 0;
	case JINJA_FLOAT:
		return v.f != 0;
	case JINJA_STRING:
		return v.str->len > 0;
	case JINJA_LIST:
		return v.list->n > 0;
	case JINJA_DICT:
		return v.dict->n > 0;
	case JINJA_LOOP:
		return v.loop->items->n > 0;
	default:
		return true;
	}
}

enum status jinja_str_new(struct jinja_run *r, struct jinja_value *out, struct jinja_str s)
{
	struct jinja_str *p;

	TRY(jinja_alloc(r, &p, 1, sizeof(*p)));
	*p = s;
	*out = (struct jinja_value){.type = JINJA_STRING, .str = p};
	return OK;
}

enum status jinja_list_new(struct jinja_run *r, struct jinja_value *out, size_t cap)
{
	struct jinja_list *l;

	TRY(jinja_alloc(r, &l, 1, sizeof(*l)));
	l->cap = cap;
	if (cap)
		TRY(jinja_alloc(r, &l->items, cap, sizeof(*l->items)));
	*out = (struct jinja_value){.type = JINJA_LIST, .list = l};
	return OK;
}

enum status jinja_list_push(struct jinja_run *r, struct jinja_list *l, struct jinja_value v)
{
	TRY(jinja_charge(r, 1));
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 8;
		struct jinja_value *items;

		TRY(jinja_alloc(r, &items, cap, sizeof(*items)));
		if (l->n)
			memcpy(items, l->items, l->n * sizeof(*items));
		l->items = items;
		l->cap = cap;
	}
	l->items[l->n++] = v;
	return OK;
}

enum status jinja_dict_new(struct jinja_run *r, struct jinja_value *out, enum jinja_type type)
{
	struct jinja_dict *d;

	TRY(jinja_alloc(r, &d, 1, sizeof(*d)));
	*out = (struct jinja_value){.type = (uint8_t)type, .dict = d};
	return OK;
}

static enum status dict_append(
	struct jinja_run *r, struct jinja_dict *d, struct jinja_value key, struct jinja_value value)
{
	TRY(jinja_charge(r, 1));
	if (d->n == d->cap) {
		size_t cap = d->cap ? 2 * d->cap : 8;
		struct jinja_pair *pairs;

		TRY(jinja_alloc(r, &pairs, cap, sizeof(*pairs)));
		if (d->n)
			memcpy(pairs, d->pairs, d->n * sizeof(*pairs));
		d->pairs = pairs;
		d->cap = cap;
	}
	d->pairs[d->n++] = (struct jinja_pair){key, value};
	return OK;
}

bool jinja_is_key(struct jinja_value v)
{
	return v.type != JINJA_DICT && (v.type != JINJA_LIST || v.list->tuple);
}

enum status jinja_dict_find(struct jinja_run *r, struct jinja_value **out,
	const struct jinja_dict *d, struct jinja_value key)
{
	size_t i;

	*out = NULL;
	if (!jinja_is_key(key))
		return jinja_fail(
			r, E_INVAL, "a %s cannot be a key of a dict", jinja_type_name(key));
	TRY(jinja_charge(r, d->n / 8 + 1));
	for (i = 0; i < d->n; i++) {
		bool same;

		TRY(jinja_equal(r, &same, d->pairs[i].key, key));
		if (same) {
			*out = &d->pairs[i].value;
			break;
		}
	}
	return OK;
}

enum status jinja_dict_set(
	struct jinja_run *r, struct jinja_dict *d, struct jinja_value key, struct jinja_value value)
{
	struct jinja_value *old;

	TRY(jinja_dict_find(r, &old, d, key));
	if (!old)
		return dict_append(r, d, key, value);
	*old = value;
	return OK;
}

static enum status lists_equal(
	struct jinja_run *r, bool *out, const struct jinja_list *a, const struct jinja_list *b)
{
	size_t i;

	*out = a->n == b->n && a->tuple == b->tuple;
	for (i = 0; i < a->n && *out; i++)
		TRY(jinja_equal(r, out, a->items[i], b->items[i]));
	return OK;
}

static enum status dicts_equal(
	struct jinja_run *r, bool *out, const struct jinja_dict *a, const struct jinja_dict *b)
{
	size_t i;

	*out = a->n == b->n;
	for (i = 0; i < a->n && *out; i++) {
		struct jinja_value *other;

		TRY(jinja_dict_find(r, &other, b, a->pairs[i].key));
		*out = other != NULL;
		if (other)
			TRY(jinja_equal(r, out, a->pairs[i].value, *other));
	}
	return OK;
}

enum status jinja_equal(struct jinja_run *r, bool *out, struct jinja_value a, struct jinja_value b)
{
	enum status st;

	if (jinja_is_number(a) && jinja_is_number(b)) {
		*out = jinja_is_integral(a) && jinja_is_integral(b)
			       ? jinja_as_int(a) == jinja_as_int(b)
			       : jinja_as_float(a) == jinja_as_float(b);
		return OK;
	}
	*out = false;
	if (a.type != b.type)
		return OK;
	switch ((enum jinja_type)a.type) {
	case JINJA_UNDEFINED:
	case JINJA_NONE:
		*out = true;
		return OK;
	case JINJA_STRING:
		if (a.str->len != b.str->len)
			return OK;
		TRY(jinja_charge_bytes(r, a.str->len));
		*out = jinja_str_equal(*a.str, *b.str);
		return OK;
	case JINJA_LIST:
	case JINJA_DICT:
		TRY(jinja_enter(r));
		TRY(jinja_charge(r, 1));
		st = a.type == JINJA_LIST ? lists_equal(r, out, a.list, b.list)
					  : dicts_equal(r, out, a.dict, b.dict);
		jinja_leave(r);
		return st;
	case JINJA_FUNCTION:
		*out = a.function == b.function;
		return OK;
	case JINJA_METHOD:
		return OK;
	default: /* the others are what they are by identity */
		*out = a.dict == b.dict;
		return OK;
	}
}

static int sign_of(double x)
{
	return x < 0 ? -1 : x > 0 ? 1 : x == 0 ? 0 : 2;
}

enum status jinja_order(struct jinja_run *r, int *out, struct jinja_value a, struct jinja_value b)
{
	size_t i, n;

	if (jinja_is_number(a) && jinja_is_number(b)) {
		if (jinja_is_integral(a) && jinja_is_integral(b)) {
			int64_t x = jinja_as_int(a), y = jinja_as_int(b);

			*out = x < y ? -1 : x > y;
		} else {
			double x = jinja_as_float(a), y = jinja_as_float(b);

			*out = x == y ? 0 : sign_of(x - y);
			if (isinf(x) && isinf(y) && x != y)
				*out = x < y ? -1 : 1;
		}
		return OK;
	}
	if (a.type == JINJA_STRING && b.type == JINJA_STRING) {
		int c;

		n = a.str->len < b.str->len ? a.str->len : b.str->len;
		TRY(jinja_charge_bytes(r, n));
		c = n ? memcmp(a.str->s, b.str->s, n) : 0;
		*out = c ? (c < 0 ? -1 : 1)
			 : (a.str->len < b.str->len ? -1 : a.str->len > b.str->len);
		return OK;
	}
	if (a.type == JINJA_LIST && b.type == JINJA_LIST && a.list->tuple == b.list->tuple) {
		TRY(jinja_enter(r));
		n = a.list->n < b.list->n ? a.list->n : b.list->n;
		*out = a.list->n < b.list->n ? -1 : a.list->n > b.list->n;
		for (i = 0; i < n; i++) {
			bool same;

			TRY(jinja_charge(r, 1));
			TRY(jinja_equal(r, &same, a.list->items[i], b.list->items[i]));
			if (same)
				continue;
			TRY(jinja_order(r, out, a.list->items[i], b.list->items[i]));
			break;
		}
		jinja_leave(r);
		return OK;
	}
	if (a.type == JINJA_UNDEFINED || b.type == JINJA_UNDEFINED)
		return jinja_fail(r, E_INVAL, "an undefined value has no order");
	return jinja_fail(
		r, E_INVAL, "%s and %s have no order", jinja_type_name(a), jinja_type_name(b));
}

enum status jinja_contains(
	struct jinja_run *r, bool *out, struct jinja_value container, struct jinja_value v)
{
	struct jinja_value *found;
	struct jinja_str s;
	size_t i;

	*out = false;
	switch ((enum jinja_type)container.type) {
	case JINJA_UNDEFINED:
		return OK;
	case JINJA_STRING:
		TRY(jinja_need_str(r, "in <string>", v, &s));
		TRY(jinja_charge_bytes(r, container.str->len));
		*out = jinja_str_find(*container.str, s, 0) != SIZE_MAX;
		return OK;
	case JINJA_LIST:
		for (i = 0; i < container.list->n && !*out; i++) {
			TRY(jinja_charge(r, 1));
			TRY(jinja_equal(r, out, container.list->items[i], v));
		}
		return OK;
	case JINJA_DICT:
		TRY(jinja_dict_find(r, &found, container.dict, v));
		*out = found != NULL;
		return OK;
	default:
		return jinja_fail(r, E_INVAL,
			"'in' needs a str, list or dict on its right, found %s",
			jinja_type_name(container));
	}
}

enum status jinja_iterate(struct jinja_run *r, const struct jinja_list **out, struct jinja_value v)
{
	struct jinja_value list, item;
	size_t i, n;

	if (v.type == JINJA_LIST) {
		*out = v.list;
		return OK;
	}
	TRY(jinja_list_new(r, &list, 0));
	if (v.type == JINJA_DICT) {
		for (i = 0; i < v.dict->n; i++)
			TRY(jinja_list_push(r, list.list, v.dict->pairs[i].key));
	} else if (v.type == JINJA_STRING) {
		for (i = 0; i < v.str->len; i += n) {
			n = jinja_str_offset(jinja_str_sub(*v.str, i, v.str->len), 1);
			TRY(jinja_str_new(r, &item, jinja_str_sub(*v.str, i, i + n)));
			TRY(jinja_list_push(r, list.list, item));
		}
	} else if (v.type != JINJA_UNDEFINED) {
		return jinja_fail(r, E_INVAL, "%s is not iterable", jinja_type_name(v));
	}
	*out = list.list;
	return OK;
}

static enum status string_from_json(
	struct jinja_run *r, struct jinja_value *out, const char *s, size_t len, bool marked)
{
	struct jinja_str str = {.s = s, .len = len};
	uint8_t *mark;

	/* The JSON document outlives the rendering: its text is used in place. */
	if (marked && len) {
		TRY(jinja_alloc(r, &mark, len, 1));
		memset(mark, 1, len);
		str.mark = mark;
	}
	return jinja_str_new(r, out, str);
}

enum status jinja_from_json(struct jinja_run *r, struct jinja_value *out, json_t *json, bool marked)
{
	struct jinja_value key, value;
	json_t *item;
	const char *name;
	size_t i, name_len;

	TRY(jinja_charge(r, 1));
	switch (json_typeof(json)) {
	case JSON_NULL:
		*out = jinja_none();
		return OK;
	case JSON_TRUE:
	case JSON_FALSE:
		*out = jinja_bool(json_is_true(json));
		return OK;
	case JSON_INTEGER:
		*out = jinja_int(json_integer_value(json));
		return OK;
	case JSON_REAL:
		*out = jinja_float(json_real_value(json));
		return OK;
	case JSON_STRING:
		return string_from_json(
			r, out, json_string_value(json), json_string_length(json), marked);
	case JSON_ARRAY:
		TRY(jinja_enter(r));
		TRY(jinja_list_new(r, out, json_array_size(json)));
		json_array_foreach(json, i, item)
		{
			TRY(jinja_from_json(r, &value, item, marked));
			TRY(jinja_list_push(r, out->list, value));
		}
		break;
	case JSON_OBJECT:
		TRY(jinja_enter(r));
		TRY(jinja_dict_new(r, out, JINJA_DICT));
		json_object_keylen_foreach(json, name, name_len, item)
		{
			TRY(string_from_json(r, &key, name, name_len, marked));
			TRY(jinja_from_json(r, &value, item, marked));
			TRY(dict_append(r, out->dict, key, value));
		}
		break;
	}
	jinja_leave(r);
	return OK;
}
