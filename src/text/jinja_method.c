/* Methods of strings, dicts, lists and loops. One table; a name may occur once per type. */
#include <string.h>

#include "text/jinja_run.h"
#include "text/unicode.h"

typedef enum status method_fn(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out);

static enum status strip(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, bool left, bool right, struct jinja_value *out)
{
	struct jinja_value a[1];
	struct jinja_str chars;
	bool given;

	TRY(jinja_bind(r, "strip", args, "chars", 0, a));
	given = jinja_given(a[0]) && a[0].type != JINJA_NONE;
	if (given)
		TRY(jinja_need_str(r, "strip", a[0], &chars));
	TRY(jinja_charge_bytes(r, self.str->len));
	if (given) /* each character looks through `chars` */
		TRY(jinja_charge(r, self.str->len * (chars.len / 16 + 1)));
	return jinja_str_new(
		r, out, jinja_str_strip(*self.str, given ? &chars : NULL, left, right));
}

static enum status m_strip(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return strip(r, self, args, true, true, out);
}

static enum status m_lstrip(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return strip(r, self, args, true, false, out);
}

static enum status m_rstrip(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return strip(r, self, args, false, true, out);
}

static enum status split(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, bool from_right, struct jinja_value *out)
{
	struct jinja_value a[2];
	struct jinja_str sep;
	int64_t max = -1;
	bool given;

	TRY(jinja_bind(r, "split", args, "sep maxsplit", 0, a));
	given = jinja_given(a[0]) && a[0].type != JINJA_NONE;
	if (given)
		TRY(jinja_need_str(r, "split", a[0], &sep));
	if (jinja_given(a[1]))
		TRY(jinja_need_int(r, "split: maxsplit", a[1], &max));
	if (from_right && given) /* compared at every position */
		TRY(jinja_charge(r, self.str->len / 16 * (sep.len / 16 + 1)));
	return jinja_str_split(r, out, *self.str, given ? &sep : NULL, max, from_right);
}

static enum status m_split(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return split(r, self, args, false, out);
}

static enum status m_rsplit(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return split(r, self, args, true, out);
}

/* Length of the line end at i, or 0. */
static size_t line_end(struct jinja_str s, size_t i)
{
	uint32_t cp;
	size_t n = utf8_decode(s.s + i, &cp);

	if (cp == '\r')
		return i + 1 < s.len && s.s[i + 1] == '\n' ? 2 : 1;
	return (cp >= '\n' && cp <= '\f') || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 ||
			       cp == 0x2028 || cp == 0x2029
		       ? n
		       : 0;
}

static enum status m_splitlines(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_str s = *self.str;
	struct jinja_value keep, v;
	size_t start = 0, i = 0, n;

	TRY(jinja_bind(r, "splitlines", args, "keepends", 0, &keep));
	TRY(jinja_charge_bytes(r, s.len));
	TRY(jinja_list_new(r, out, 0));
	while (i < s.len) {
		n = line_end(s, i);
		if (!n) {
			i += jinja_str_offset(jinja_str_sub(s, i, s.len), 1);
			if (i < s.len)
				continue;
		}
		TRY(jinja_str_new(r, &v, jinja_str_sub(s, start, jinja_truth(keep) ? i + n : i)));
		TRY(jinja_list_push(r, out->list, v));
		start = i += n;
	}
	return OK;
}

/* startswith and endswith: a string or a tuple of them. */
static enum status affix(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, bool end, struct jinja_value *out)
{
	const char *what = end ? "endswith" : "startswith";
	struct jinja_str s = *self.str, x;
	struct jinja_value a;
	const struct jinja_value *list;
	size_t i, n;
	bool yes = false;

	TRY(jinja_bind(r, what, args, "affix", 1, &a));
	list = a.type == JINJA_LIST && a.list->tuple ? a.list->items : &a;
	n = list == &a ? 1 : a.list->n;
	for (i = 0; i < n && !yes; i++) {
		TRY(jinja_need_str(r, what, list[i], &x));
		TRY(jinja_charge_bytes(r, x.len));
		if (x.len <= s.len)
			yes = jinja_str_equal(end ? jinja_str_sub(s, s.len - x.len, s.len)
						  : jinja_str_sub(s, 0, x.len),
				x);
	}
	*out = jinja_bool(yes);
	return OK;
}

static enum status m_startswith(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return affix(r, self, args, false, out);
}

static enum status m_endswith(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return affix(r, self, args, true, out);
}

static enum status m_replace(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_value a[3];
	struct jinja_str old, new;
	int64_t max = -1;

	TRY(jinja_bind(r, "replace", args, "old new count", 2, a));
	TRY(jinja_need_str(r, "replace", a[0], &old));
	TRY(jinja_need_str(r, "replace", a[1], &new));
	if (jinja_given(a[2]))
		TRY(jinja_need_int(r, "replace: count", a[2], &max));
	return jinja_str_replace(r, out, *self.str, old, new, max);
}

/* The string methods that a filter of the same name also does. */
static enum status by_filter(struct jinja_run *r, const char *name, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	int id = jinja_filter_find((struct jinja_str){.s = name, .len = strlen(name)});

	return jinja_filter_run(r, (unsigned)id, self, args, out);
}

static enum status m_upper(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return by_filter(r, "upper", self, args, out);
}

static enum status m_lower(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return by_filter(r, "lower", self, args, out);
}

static enum status m_capitalize(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return by_filter(r, "capitalize", self, args, out);
}

/* Upper case behind what has no case, lower case behind a letter. */
static enum status m_title(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_sb sb = {.run = r};
	struct jinja_str s = *self.str;
	bool inside = false;
	uint32_t cp;
	size_t i, n;

	TRY(jinja_bind(r, "title", args, "", 0, NULL));
	for (i = 0; i < s.len; i += n) {
		n = utf8_decode(s.s + i, &cp);
		TRY(jinja_sb_put_case(
			&sb, jinja_str_sub(s, i, i + n), inside ? JINJA_LOWER : JINJA_UPPER));
		inside = (unicode_class_of(cp) & UNI_L) != 0;
	}
	return jinja_sb_value(&sb, out);
}

static enum status search(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, bool from_right, struct jinja_value *out)
{
	struct jinja_str s = *self.str, sub;
	struct jinja_value a;
	size_t at;

	TRY(jinja_bind(r, "find", args, "sub", 1, &a));
	TRY(jinja_need_str(r, "find", a, &sub));
	TRY(jinja_charge(r, s.len / 16 * (from_right ? sub.len / 16 + 1 : 1) + 1));
	at = from_right ? jinja_str_rfind(s, sub, s.len) : jinja_str_find(s, sub, 0);
	*out = jinja_int(at == SIZE_MAX ? -1 : (int64_t)jinja_str_points(jinja_str_sub(s, 0, at)));
	return OK;
}

static enum status m_find(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return search(r, self, args, false, out);
}

static enum status m_rfind(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return search(r, self, args, true, out);
}

static enum status m_count(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_str s = *self.str, sub;
	struct jinja_value a;
	int64_t n = 0;
	size_t at = 0;

	TRY(jinja_bind(r, "count", args, "sub", 1, &a));
	TRY(jinja_need_str(r, "count", a, &sub));
	TRY(jinja_charge_bytes(r, s.len));
	if (!sub.len)
		n = (int64_t)jinja_str_points(s) + 1;
	for (; sub.len && (at = jinja_str_find(s, sub, at)) != SIZE_MAX; at += sub.len)
		n++;
	*out = jinja_int(n);
	return OK;
}

static enum status m_join(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_sb sb = {.run = r};
	const struct jinja_list *items;
	struct jinja_value a;
	struct jinja_str s;
	size_t i;

	TRY(jinja_bind(r, "join", args, "iterable", 1, &a));
	TRY(jinja_iterate(r, &items, a));
	for (i = 0; i < items->n; i++) {
		if (i)
			TRY(jinja_sb_put(&sb, *self.str));
		TRY(jinja_need_str(r, "join", items->items[i], &s));
		TRY(jinja_sb_put(&sb, s));
	}
	return jinja_sb_value(&sb, out);
}

static enum status remove_affix(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, bool end, struct jinja_value *out)
{
	struct jinja_str s = *self.str, x;
	struct jinja_value a, yes;

	TRY(affix(r, self, args, end, &yes));
	TRY(jinja_bind(r, "affix", args, "affix", 1, &a));
	TRY(jinja_need_str(r, "affix", a, &x));
	*out = self;
	if (!yes.b)
		return OK;
	return jinja_str_new(
		r, out, end ? jinja_str_sub(s, 0, s.len - x.len) : jinja_str_sub(s, x.len, s.len));
}

static enum status m_removeprefix(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return remove_affix(r, self, args, false, out);
}

static enum status m_removesuffix(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return remove_affix(r, self, args, true, out);
}

static enum status partition(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, bool from_right, struct jinja_value *out)
{
	struct jinja_str s = *self.str, sep, part[3];
	struct jinja_value a, v;
	size_t at, i;

	TRY(jinja_bind(r, "partition", args, "sep", 1, &a));
	TRY(jinja_need_str(r, "partition", a, &sep));
	if (!sep.len)
		return jinja_fail(r, E_INVAL, "partition: empty separator");
	TRY(jinja_charge(r, s.len / 16 * (from_right ? sep.len / 16 + 1 : 1) + 1));
	at = from_right ? jinja_str_rfind(s, sep, s.len) : jinja_str_find(s, sep, 0);
	part[0] = part[1] = part[2] = jinja_str_sub(s, 0, 0);
	if (at == SIZE_MAX) {
		part[from_right ? 2 : 0] = s;
	} else {
		part[0] = jinja_str_sub(s, 0, at);
		part[1] = jinja_str_sub(s, at, at + sep.len);
		part[2] = jinja_str_sub(s, at + sep.len, s.len);
	}
	TRY(jinja_list_new(r, out, 3));
	out->list->tuple = true;
	for (i = 0; i < 3; i++) {
		TRY(jinja_str_new(r, &v, part[i]));
		TRY(jinja_list_push(r, out->list, v));
	}
	return OK;
}

static enum status m_partition(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return partition(r, self, args, false, out);
}

static enum status m_rpartition(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return partition(r, self, args, true, out);
}

/* Not empty, and every character of one of these kinds. */
static enum status all_of(struct jinja_run *r, const char *what, struct jinja_value self,
	const struct jinja_args *args, uint8_t classes, struct jinja_value *out)
{
	struct jinja_str s = *self.str;
	bool yes = s.len > 0;
	uint32_t cp;
	size_t i;

	TRY(jinja_bind(r, what, args, "", 0, NULL));
	TRY(jinja_charge_bytes(r, s.len));
	for (i = 0; i < s.len && yes;) {
		i += utf8_decode(s.s + i, &cp);
		yes = classes == UNI_SPACE ? jinja_is_space(cp)
					   : (unicode_class_of(cp) & classes) != 0;
	}
	*out = jinja_bool(yes);
	return OK;
}

static enum status m_isspace(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return all_of(r, "isspace", self, args, UNI_SPACE, out);
}

static enum status m_isalpha(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return all_of(r, "isalpha", self, args, UNI_L, out);
}

static enum status m_isdigit(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return all_of(r, "isdigit", self, args, UNI_N, out);
}

static enum status m_isalnum(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return all_of(r, "isalnum", self, args, UNI_L | UNI_N, out);
}

static enum status m_get(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_value a[2], *found;

	TRY(jinja_bind(r, "get", args, "key default", 1, a));
	TRY(jinja_dict_find(r, &found, self.dict, a[0]));
	*out = found ? *found : args->n > 1 ? a[1] : jinja_none();
	return OK;
}

/* The keys, values or pairs of a dict. */
static enum status view(struct jinja_run *r, struct jinja_value self, const struct jinja_args *args,
	bool keys, bool values, struct jinja_value *out)
{
	const struct jinja_dict *d = self.dict;
	struct jinja_value v;
	size_t i;

	TRY(jinja_bind(r, "dict", args, "", 0, NULL));
	TRY(jinja_list_new(r, out, d->n));
	for (i = 0; i < d->n; i++) {
		v = keys ? d->pairs[i].key : d->pairs[i].value;
		if (keys && values) {
			TRY(jinja_list_new(r, &v, 2));
			v.list->tuple = true;
			TRY(jinja_list_push(r, v.list, d->pairs[i].key));
			TRY(jinja_list_push(r, v.list, d->pairs[i].value));
		}
		TRY(jinja_list_push(r, out->list, v));
	}
	return OK;
}

static enum status m_keys(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return view(r, self, args, true, false, out);
}

static enum status m_values(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return view(r, self, args, false, true, out);
}

static enum status m_items(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	return view(r, self, args, true, true, out);
}

static enum status m_copy(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	*out = self; /* nothing can change a dict or list */
	return jinja_bind(r, "copy", args, "", 0, NULL);
}

static enum status m_list_count(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_value a;
	int64_t n = 0;
	size_t i;
	bool same;

	TRY(jinja_bind(r, "count", args, "value", 1, &a));
	for (i = 0; i < self.list->n; i++) {
		TRY(jinja_charge(r, 1));
		TRY(jinja_equal(r, &same, self.list->items[i], a));
		n += same;
	}
	*out = jinja_int(n);
	return OK;
}

static enum status m_list_index(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_value a;
	size_t i;
	bool same;

	TRY(jinja_bind(r, "index", args, "value", 1, &a));
	for (i = 0; i < self.list->n; i++) {
		TRY(jinja_charge(r, 1));
		TRY(jinja_equal(r, &same, self.list->items[i], a));
		if (same) {
			*out = jinja_int((int64_t)i);
			return OK;
		}
	}
	return jinja_fail(r, E_INVAL, "index: the value is not in the list");
}

static enum status m_cycle(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	if (!args->n)
		return jinja_fail(r, E_INVAL, "loop.cycle: at least 1 argument expected");
	*out = args->values[self.loop->index0 % args->n];
	return OK;
}

static enum status m_changed(struct jinja_run *r, struct jinja_value self,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_value list;
	bool same = false;
	size_t i;

	TRY(jinja_list_new(r, &list, args->n));
	list.list->tuple = true;
	for (i = 0; i < args->n; i++)
		TRY(jinja_list_push(r, list.list, args->values[i]));
	if (self.loop->changed)
		TRY(jinja_equal(r, &same, *self.loop->changed, list));
	TRY(jinja_alloc(r, &self.loop->changed, 1, sizeof(list)));
	*self.loop->changed = list;
	*out = jinja_bool(!same);
	return OK;
}

static const struct {
	enum jinja_type type;
	const char *name;
	method_fn *run;
} methods[] = {
	{JINJA_STRING, "strip", m_strip},
	{JINJA_STRING, "lstrip", m_lstrip},
	{JINJA_STRING, "rstrip", m_rstrip},
	{JINJA_STRING, "split", m_split},
	{JINJA_STRING, "rsplit", m_rsplit},
	{JINJA_STRING, "splitlines", m_splitlines},
	{JINJA_STRING, "startswith", m_startswith},
	{JINJA_STRING, "endswith", m_endswith},
	{JINJA_STRING, "replace", m_replace},
	{JINJA_STRING, "upper", m_upper},
	{JINJA_STRING, "lower", m_lower},
	{JINJA_STRING, "capitalize", m_capitalize},
	{JINJA_STRING, "title", m_title},
	{JINJA_STRING, "find", m_find},
	{JINJA_STRING, "rfind", m_rfind},
	{JINJA_STRING, "count", m_count},
	{JINJA_STRING, "join", m_join},
	{JINJA_STRING, "removeprefix", m_removeprefix},
	{JINJA_STRING, "removesuffix", m_removesuffix},
	{JINJA_STRING, "partition", m_partition},
	{JINJA_STRING, "rpartition", m_rpartition},
	{JINJA_STRING, "isspace", m_isspace},
	{JINJA_STRING, "isalpha", m_isalpha},
	{JINJA_STRING, "isdigit", m_isdigit},
	{JINJA_STRING, "isnumeric", m_isdigit},
	{JINJA_STRING, "isalnum", m_isalnum},
	{JINJA_DICT, "get", m_get},
	{JINJA_DICT, "keys", m_keys},
	{JINJA_DICT, "values", m_values},
	{JINJA_DICT, "items", m_items},
	{JINJA_DICT, "copy", m_copy},
	{JINJA_LIST, "count", m_list_count},
	{JINJA_LIST, "index", m_list_index},
	{JINJA_LIST, "copy", m_copy},
	{JINJA_LOOP, "cycle", m_cycle},
	{JINJA_LOOP, "changed", m_changed},
};

int jinja_method_find(enum jinja_type type, struct jinja_str name)
{
	size_t i;

	for (i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if ((type == JINJA_UNDEFINED || methods[i].type == type) &&
			name.len == strlen(methods[i].name) &&
			memcmp(name.s, methods[i].name, name.len) == 0)
			return (int)i;
	}
	return -1;
}

enum status jinja_method_run(struct jinja_run *r, const struct jinja_bound *m,
	const struct jinja_args *args, struct jinja_value *out)
{
	return methods[m->id].run(r, m->self, args, out);
}
