/* Filters on sequences. What Python makes lazily is a list here. */
#include <string.h>

#include "text/jinja_filter.h"

enum status jinja_filter_length(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	size_t n = 0;

	TRY(jinja_bind(r, "length", args, "", 0, NULL));
	if (v.type == JINJA_STRING) {
		TRY(jinja_charge_bytes(r, v.str->len));
		n = jinja_str_points(*v.str);
	} else if (v.type == JINJA_LIST) {
		n = v.list->n;
	} else if (v.type == JINJA_DICT) {
		n = v.dict->n;
	} else if (v.type == JINJA_LOOP) {
		n = v.loop->items->n;
	} else if (v.type != JINJA_UNDEFINED) {
		return jinja_fail(r, E_INVAL, "length: %s has none", jinja_type_name(v));
	}
	*out = jinja_int((int64_t)n);
	return OK;
}

static enum status pick(struct jinja_run *r, const char *what, struct jinja_value v,
	const struct jinja_args *args, bool last, struct jinja_value *out)
{
	static const struct jinja_str none = {.s = "item of an empty sequence", .len = 25};
	const struct jinja_list *items;

	TRY(jinja_bind(r, what, args, "", 0, NULL));
	TRY(jinja_iterate(r, &items, v));
	*out = items->n ? items->items[last ? items->n - 1 : 0] : jinja_undefined(&none);
	return OK;
}

enum status jinja_filter_first(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	return pick(r, "first", v, args, false, out);
}

enum status jinja_filter_last(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	return pick(r, "last", v, args, true, out);
}

static enum status copy_list(
	struct jinja_run *r, const struct jinja_list *items, bool reversed, struct jinja_value *out)
{
	size_t i;

	TRY(jinja_list_new(r, out, items->n));
	for (i = 0; i < items->n; i++)
		TRY(jinja_list_push(r, out->list, items->items[reversed ? items->n - 1 - i : i]));
	return OK;
}

enum status jinja_filter_list(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	const struct jinja_list *items;

	TRY(jinja_bind(r, "list", args, "", 0, NULL));
	TRY(jinja_iterate(r, &items, v));
	return copy_list(r, items, false, out);
}

enum status jinja_filter_reverse(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	const struct jinja_value at[3] = {jinja_none(), jinja_none(), jinja_int(-1)};
	const struct jinja_list *items;

	TRY(jinja_bind(r, "reverse", args, "", 0, NULL));
	if (v.type == JINJA_STRING)
		return jinja_slice(r, v, at, out);
	TRY(jinja_iterate(r, &items, v));
	return copy_list(r, items, true, out);
}

/* What attribute="a.b.0" selects of v; attribute may be an integer, or not given. */
static enum status by_attribute(struct jinja_run *r, struct jinja_value v,
	struct jinja_value attribute, struct jinja_value *out)
{
	struct jinja_value parts, key;
	struct jinja_str dot = {.s = ".", .len = 1};
	size_t i, k;

	*out = v;
	if (!jinja_given(attribute) || attribute.type == JINJA_NONE)
		return OK;
	if (attribute.type != JINJA_STRING)
		return jinja_getitem(r, out, v, attribute);
	TRY(jinja_str_split(r, &parts, *attribute.str, &dot, -1, false));
	for (i = 0; i < parts.list->n; i++) {
		const struct jinja_str *s = parts.list->items[i].str;
		int64_t n = 0;

		key = parts.list->items[i];
		for (k = 0; k < s->len && k < 9 && s->s[k] >= '0' && s->s[k] <= '9'; k++)
			n = 10 * n + (s->s[k] - '0');
		if (k && k == s->len)
			key = jinja_int(n);
		TRY(jinja_getitem(r, out, *out, key));
	}
	return OK;
}

enum status jinja_filter_join(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_sb sb = {.run = r};
	const struct jinja_list *items;
	struct jinja_value a[2], item;
	size_t i;

	TRY(jinja_bind(r, "join", args, "d attribute", 0, a));
	TRY(jinja_iterate(r, &items, v));
	for (i = 0; i < items->n; i++) {
		if (i && jinja_given(a[0]))
			TRY(jinja_print(&sb, a[0]));
		TRY(by_attribute(r, items->items[i], a[1], &item));
		TRY(jinja_print(&sb, item));
	}
	return jinja_sb_value(&sb, out);
}

enum status jinja_filter_items(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_bound m = {.self = v};

	if (v.type == JINJA_UNDEFINED)
		return jinja_list_new(r, out, 0);
	if (v.type != JINJA_DICT)
		return jinja_fail(
			r, E_INVAL, "items: expected a dict, found %s", jinja_type_name(v));
	m.id = (unsigned)jinja_method_find(JINJA_DICT, (struct jinja_str){.s = "items", .len = 5});
	return jinja_method_run(r, &m, args, out);
}

/* The arguments behind the first `skip`. */
static struct jinja_args args_from(const struct jinja_args *args, size_t skip)
{
	if (args->n <= skip)
		return (struct jinja_args){0};
	return (struct jinja_args){
		.values = args->values + skip, .names = args->names + skip, .n = args->n - skip};
}

enum status jinja_filter_map(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	const struct jinja_list *items;
	struct jinja_args rest = args_from(args, 1);
	struct jinja_value a[2], item;
	struct jinja_str name;
	int id = -1;
	size_t i;

	if (args->n && !args->names[0]) {
		TRY(jinja_need_str(r, "map", args->values[0], &name));
		id = jinja_filter_find(name);
		if (id < 0)
			return jinja_fail(r, E_UNSUPPORTED, "map: filter '%.*s' is not supported",
				name.len > 40 ? 40 : (int)name.len, name.s);
	} else {
		TRY(jinja_bind(r, "map", args, "attribute default", 1, a));
	}
	TRY(jinja_iterate(r, &items, v));
	TRY(jinja_list_new(r, out, items->n));
	for (i = 0; i < items->n; i++) {
		if (id >= 0) {
			TRY(jinja_filter_run(r, (unsigned)id, items->items[i], &rest, &item));
		} else {
			TRY(by_attribute(r, items->items[i], a[0], &item));
			if (item.type == JINJA_UNDEFINED && jinja_given(a[1]))
				item = a[1];
		}
		TRY(jinja_list_push(r, out->list, item));
	}
	return OK;
}

/* select and its kin: the items, or attributes of items, that pass a test. */
static enum status filter_by(struct jinja_run *r, const char *what, struct jinja_value v,
	const struct jinja_args *args, bool attribute, bool keep, struct jinja_value *out)
{
	struct jinja_args rest = args_from(args, 1 + attribute);
	struct jinja_value attr = jinja_undefined(NULL), item;
	const struct jinja_list *items;
	struct jinja_str name;
	int id = -1;
	size_t i;

	if (attribute) {
		if (!args->n)
			return jinja_fail(r, E_INVAL, "%s: at least 1 argument expected", what);
		attr = args->values[0];
	}
	if (args->n > attribute) {
		TRY(jinja_need_str(r, what, args->values[attribute], &name));
		id = jinja_test_find(name);
		if (id < 0)
			return jinja_fail(r, E_UNSUPPORTED, "%s: test '%.*s' is not supported",
				what, name.len > 40 ? 40 : (int)name.len, name.s);
	}
	TRY(jinja_iterate(r, &items, v));
	TRY(jinja_list_new(r, out, 0));
	for (i = 0; i < items->n; i++) {
		bool yes;

		TRY(by_attribute(r, items->items[i], attr, &item));
		yes = jinja_truth(item);
		if (id >= 0)
			TRY(jinja_test_run(r, (unsigned)id, item, &rest, &yes));
		if (yes == keep)
			TRY(jinja_list_push(r, out->list, items->items[i]));
	}
	return OK;
}

enum status jinja_filter_select(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	return filter_by(r, "select", v, args, false, true, out);
}

enum status jinja_filter_reject(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	return filter_by(r, "reject", v, args, false, false, out);
}

enum status jinja_filter_selectattr(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	return filter_by(r, "selectattr", v, args, true, true, out);
}

enum status jinja_filter_rejectattr(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	return filter_by(r, "rejectattr", v, args, true, false, out);
}

/* What an item is compared by: an attribute, text in lower case unless case counts. */
static enum status sort_key(struct jinja_run *r, struct jinja_value item,
	struct jinja_value attribute, bool case_sensitive, struct jinja_value *out)
{
	struct jinja_sb sb = {.run = r};

	TRY(by_attribute(r, item, attribute, out));
	if (case_sensitive || out->type != JINJA_STRING)
		return OK;
	TRY(jinja_sb_put_case(&sb, *out->str, JINJA_LOWER));
	return jinja_sb_value(&sb, out);
}

/* Stable merge sort of pairs (sort key, item). */
static enum status merge_sort(
	struct jinja_run *r, struct jinja_pair *a, struct jinja_pair *tmp, size_t n, bool reverse)
{
	size_t half = n / 2, i = 0, j = half, k = 0;
	int c;

	if (n < 2)
		return OK;
	TRY(merge_sort(r, a, tmp, half, reverse));
	TRY(merge_sort(r, a + half, tmp, n - half, reverse));
	while (i < half && j < n) {
		TRY(jinja_charge(r, 1));
		TRY(jinja_order(r, &c, a[j].key, a[i].key));
		tmp[k++] = (reverse ? c == 1 : c < 0) ? a[j++] : a[i++];
	}
	while (i < half)
		tmp[k++] = a[i++];
	memcpy(a, tmp, k * sizeof(*a));
	return OK;
}

static enum status sort_items(struct jinja_run *r, const struct jinja_list *items,
	struct jinja_value attribute, bool case_sensitive, bool reverse, struct jinja_value *out)
{
	struct jinja_pair *pairs, *tmp;
	size_t i;

	TRY(jinja_alloc(r, &pairs, items->n + 1, sizeof(*pairs)));
	TRY(jinja_alloc(r, &tmp, items->n + 1, sizeof(*tmp)));
	for (i = 0; i < items->n; i++) {
		pairs[i].value = items->items[i];
		TRY(sort_key(r, items->items[i], attribute, case_sensitive, &pairs[i].key));
	}
	TRY(merge_sort(r, pairs, tmp, items->n, reverse));
	TRY(jinja_list_new(r, out, items->n));
	for (i = 0; i < items->n; i++)
		TRY(jinja_list_push(r, out->list, pairs[i].value));
	return OK;
}

enum status jinja_filter_sort(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	const struct jinja_list *items;
	struct jinja_value a[3];

	TRY(jinja_bind(r, "sort", args, "reverse case_sensitive attribute", 0, a));
	TRY(jinja_iterate(r, &items, v));
	return sort_items(r, items, a[2], jinja_truth(a[1]), jinja_truth(a[0]), out);
}

enum status jinja_filter_dictsort(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_args none = {0};
	struct jinja_value a[3], items;
	int64_t at = 0;

	TRY(jinja_bind(r, "dictsort", args, "case_sensitive by reverse", 0, a));
	if (jinja_given(a[1])) {
		struct jinja_str by;

		TRY(jinja_need_str(r, "dictsort: by", a[1], &by));
		at = by.len == 5 && memcmp(by.s, "value", 5) == 0;
		if (!at && (by.len != 3 || memcmp(by.s, "key", 3) != 0))
			return jinja_fail(r, E_INVAL, "dictsort: by must be 'key' or 'value'");
	}
	TRY(jinja_filter_items(r, v, &none, &items));
	return sort_items(r, items.list, jinja_int(at), jinja_truth(a[0]), jinja_truth(a[2]), out);
}

enum status jinja_filter_unique(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_value a[2], seen, key;
	const struct jinja_list *items;
	size_t i;
	bool known;

	TRY(jinja_bind(r, "unique", args, "case_sensitive attribute", 0, a));
	TRY(jinja_iterate(r, &items, v));
	TRY(jinja_list_new(r, out, 0));
	TRY(jinja_list_new(r, &seen, 0));
	for (i = 0; i < items->n; i++) {
		TRY(sort_key(r, items->items[i], a[1], jinja_truth(a[0]), &key));
		TRY(jinja_contains(r, &known, seen, key));
		if (known)
			continue;
		TRY(jinja_list_push(r, seen.list, key));
		TRY(jinja_list_push(r, out->list, items->items[i]));
	}
	return OK;
}

static enum status extreme(struct jinja_run *r, const char *what, struct jinja_value v,
	const struct jinja_args *args, int sign, struct jinja_value *out)
{
	struct jinja_value a[2], key, best = jinja_none();
	const struct jinja_list *items;
	size_t i;
	int c;

	TRY(jinja_bind(r, what, args, "case_sensitive attribute", 0, a));
	TRY(pick(r, what, v, &(struct jinja_args){0}, false, out));
	TRY(jinja_iterate(r, &items, v));
	for (i = 0; i < items->n; i++) {
		TRY(sort_key(r, items->items[i], a[1], jinja_truth(a[0]), &key));
		c = sign;
		if (i)
			TRY(jinja_order(r, &c, key, best));
		if (c != sign)
			continue;
		best = key;
		*out = items->items[i];
	}
	return OK;
}

enum status jinja_filter_min(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	return extreme(r, "min", v, args, -1, out);
}

enum status jinja_filter_max(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	return extreme(r, "max", v, args, 1, out);
}

enum status jinja_filter_sum(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	const struct jinja_list *items;
	struct jinja_value a[2], item;
	size_t i;

	TRY(jinja_bind(r, "sum", args, "attribute start", 0, a));
	TRY(jinja_iterate(r, &items, v));
	*out = jinja_given(a[1]) ? a[1] : jinja_int(0);
	for (i = 0; i < items->n; i++) {
		TRY(by_attribute(r, items->items[i], a[0], &item));
		TRY(jinja_binary(r, '+', *out, item, out));
	}
	return OK;
}
