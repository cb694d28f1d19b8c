/* Objects and arrays of a schema (text/grammar_schema_int.h). */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "text/grammar_schema_int.h"

#define MAX_REQUIRED 1024 /* names that one object must have */
#define MAX_SUBSETS 256u  /* of the values of an array that has none twice */

struct member {
	const char *name;
	size_t len;
	uint32_t value; /* rule */
	bool required;
};

struct object {
	struct schema *s;
	struct member *list; /* owned [n] */
	size_t n, cap;
	bool open;           /* further members */
	struct g_node *key;  /* of a further member, quotes included; NULL: any but the listed names */
	struct g_node *value;
};

static struct g_node *seq3(struct grammar_ir *ir, struct g_node *a, struct g_node *b, struct g_node *c)
{
	return g_seq(ir, g_seq(ir, a, b), c);
}

enum status schema_count(struct schema *s, uint32_t *out, const json_t *schema, const char *key)
{
	const json_t *v = json_object_get(schema, key);
	double d = json_number_value(v);

	if (!v)
		return OK;
	if (!json_is_number(v) || d < 0 || d >= 0x1p63 || d != (double)(uint64_t)d)
		return error_set(s->err, E_INVAL, "%s: expected a whole number from 0", key);
	if (d > G_MAX_REPEAT)
		return error_set(s->err, E_LIMIT, "%s: found %.0f, at most %u is supported", key, d, G_MAX_REPEAT);
	*out = (uint32_t)d;
	return OK;
}

/* --- names that are not listed --------------------------------------------------------------------------- */

static size_t char_len(const char *s)
{
	unsigned char c = (unsigned char)*s;

	return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

static uint32_t char_at(const char *s)
{
	size_t n = char_len(s);
	uint32_t c = n == 1 ? (unsigned char)*s : (unsigned char)*s & (0x7Fu >> n);

	for (size_t i = 1; i < n; i++)
		c = c << 6 | ((unsigned char)s[i] & 0x3F);
	return c;
}

static struct g_node *char_node(struct grammar_ir *ir, uint32_t c)
{
	struct g_ranges r = { 0 };

	g_ranges_add(&r, c, c);
	return g_json_class(ir, &r);
}

static int word_cmp(const void *pa, const void *pb)
{
	const struct g_word *a = pa, *b = pb;

	return strcmp(a->text, b->text);
}

/* Texts that begin as the sorted words do up to `from` and are none of them; what follows there. */
static struct g_node *other_than(struct schema *s, const struct g_word *w, size_t n, size_t from, uint32_t rest,
	int depth)
{
	struct grammar_ir *ir = s->ir;
	struct g_ranges taken = { 0 };
	struct g_node *out = NULL;
	bool ends = false;
	size_t i = 0;

	for (; i < n && w[i].len == from; i++)
		ends = true;
	if (depth > G_MAX_DEPTH)
		ir->over = true;
	while (i < n && !ir->over && !grammar_ir_late(ir)) {
		size_t len = char_len(w[i].text + from), end = i + 1;
		uint32_t c = char_at(w[i].text + from);

		while (end < n && w[end].len > from && char_at(w[end].text + from) == c)
			end++;
		g_ranges_add(&taken, c, c);
		out = g_alt(ir, out, g_seq(ir, char_node(ir, c), other_than(s, w + i, end - i, from + len, rest, depth + 1)));
		i = end;
	}
	g_ranges_settle(&taken, true);
	out = g_alt(ir, out, g_seq(ir, g_json_class(ir, &taken), g_call(ir, rest)));
	return ends ? out : g_alt(ir, out, g_empty(ir));
}

static struct g_node *other_names(struct object *o)
{
	struct grammar_ir *ir = o->s->ir;
	struct g_word *words = mem_alloc((o->n + 1) * sizeof(*words));
	struct g_ranges all = { 0 };
	uint32_t rest = g_rule_new(ir, NULL);
	struct g_node *name;

	g_ranges_add(&all, 0, G_MAX_CODE_POINT);
	g_rule_set(ir, rest, g_repeat(ir, g_json_class(ir, &all), 0, G_NO_MAX));
	for (size_t i = 0; i < o->n; i++)
		words[i] = (struct g_word){ o->list[i].name, o->list[i].len };
	qsort(words, o->n, sizeof(*words), word_cmp);
	name = other_than(o->s, words, o->n, 0, rest, 0);
	free(words);
	return seq3(ir, g_text(ir, "\""), name, g_text(ir, "\""));
}

/* --- what a schema says of members ------------------------------------------------------------------------- */

static bool is_listed(const struct object *o, const char *name)
{
	for (size_t i = 0; i < o->n; i++) {
		if (strcmp(o->list[i].name, name) == 0)
			return true;
	}
	return false;
}

static void list_member(struct object *o, const char *name, uint32_t value)
{
	o->list = mem_grow(o->list, &o->cap, o->n + 1, sizeof(*o->list));
	o->list[o->n++] = (struct member){ name, strlen(name), value, false };
}

static enum status read_properties(struct object *o, const json_t *schema)
{
	json_t *props = json_object_get(schema, "properties"), *v;
	const char *key;

	if (props && !json_is_object(props))
		return error_set(o->s->err, E_INVAL, "properties: found %s, expected an object", json_type_name(props));
	json_object_foreach(props, key, v)
		list_member(o, key, schema_rule(o->s, v));
	return OK;
}

static enum status read_pattern(struct object *o, const json_t *schema)
{
	const json_t *pp = json_object_get(schema, "patternProperties"), *ap = json_object_get(schema, "additionalProperties");
	struct grammar_ir *ir = o->s->ir;
	void *it = json_object_iter((json_t *)pp);
	struct g_node *key;

	if (!json_is_object(pp))
		return error_set(o->s->err, E_INVAL, "patternProperties: expected an object");
	if (json_object_size(pp) != 1 || o->n || (ap && !json_is_false(ap)) || json_object_get(schema, "propertyNames"))
		return error_set(o->s->err, E_UNSUPPORTED, "patternProperties is supported with one pattern, without properties, "
			"propertyNames or additionalProperties other than false");
	TRY(grammar_read_regex(&key, ir, json_object_iter_key(it), strlen(json_object_iter_key(it)),
		(struct regex_mode){ .json = true, .search = true }, o->s->err));
	o->open = true;
	o->key = seq3(ir, g_text(ir, "\""), key, g_text(ir, "\""));
	o->value = g_call(ir, schema_rule(o->s, json_object_iter_value(it)));
	return OK;
}

static enum status read_names(struct object *o, const json_t *schema)
{
	const json_t *names = json_object_get(schema, "propertyNames");

	if (json_is_true(names))
		return OK;
	if (!json_is_object(names))
		return error_set(o->s->err, E_INVAL, "propertyNames: expected a schema");
	if (o->n)
		return error_set(o->s->err, E_UNSUPPORTED, "propertyNames together with properties is not supported");
	return schema_string(o->s, &o->key, names);
}

static enum status read_further(struct object *o, const json_t *schema)
{
	const json_t *ap = json_object_get(schema, "additionalProperties");

	if (json_object_get(schema, "patternProperties"))
		return read_pattern(o, schema);
	if (json_object_get(schema, "propertyNames"))
		TRY(read_names(o, schema));
	if (ap && !json_is_object(ap) && !json_is_boolean(ap))
		return error_set(o->s->err, E_INVAL, "additionalProperties: found %s, expected a schema", json_type_name(ap));
	o->open = ap ? !json_is_false(ap) : !json_object_get(schema, "properties") && !o->s->o->closed;
	if (o->open)
		o->value = ap ? g_call(o->s->ir, schema_rule(o->s, ap)) : value_any(o->s);
	return OK;
}

static enum status read_required(struct object *o, const json_t *schema)
{
	const json_t *list = json_object_get(schema, "required"), *ap = json_object_get(schema, "additionalProperties");
	size_t listed = o->n;

	if (list && !json_is_array(list))
		return error_set(o->s->err, E_INVAL, "required: found %s, expected a list of names", json_type_name(list));
	if (json_array_size(list) > MAX_REQUIRED)
		return error_set(o->s->err, E_LIMIT, "required: %zu names, at most %d are supported", json_array_size(list),
			MAX_REQUIRED);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *name = json_string_value(json_array_get(list, i));

		if (!name)
			return error_set(o->s->err, E_INVAL, "required: found %s, expected a name",
				json_type_name(json_array_get(list, i)));
		for (size_t k = 0; k < listed; k++)
			o->list[k].required |= strcmp(o->list[k].name, name) == 0;
		if (is_listed(o, name))
			continue;
		if (o->key)
			return error_set(o->s->err, E_UNSUPPORTED,
				"required with patternProperties or propertyNames is not supported");
		list_member(o, name, schema_rule(o->s, ap ? ap : schema_keep(o->s, json_true())));
		o->list[o->n - 1].required = true;
	}
	return OK;
}

/* --- nodes ----------------------------------------------------------------------------------------------- */

static struct g_node *pair_node(struct object *o, struct g_node *key, struct g_node *value)
{
	struct grammar_ir *ir = o->s->ir;

	return g_seq(ir, seq3(ir, key, g_text(ir, ":"), value_ws(o->s)), value);
}

static struct g_node *member_node(struct object *o, const struct member *m)
{
	return pair_node(o, value_quoted(o->s, m->name, m->len), g_call(o->s->ir, m->value));
}

static struct g_node *after_comma(struct object *o, struct g_node *node)
{
	return seq3(o->s->ir, g_text(o->s->ir, ","), value_ws(o->s), node);
}

/* The members in their order; any that is not required may be left out. */
static struct g_node *members(struct object *o)
{
	struct grammar_ir *ir = o->s->ir;
	struct g_node *extra = NULL, *out = NULL;
	uint32_t *after = mem_alloc((o->n + 1) * sizeof(*after)); /* rules: what may follow member i - 1 or an earlier one */
	bool required = false;

	if (o->open)
		extra = pair_node(o, o->key ? o->key : other_names(o), o->value);
	for (size_t i = 0; i <= o->n; i++)
		after[i] = g_rule_new(ir, NULL);
	g_rule_set(ir, after[o->n], extra ? g_repeat(ir, after_comma(o, extra), 0, G_NO_MAX) : g_empty(ir));
	for (size_t i = 0; i < o->n; i++) {
		struct g_node *next = after_comma(o, member_node(o, &o->list[i]));

		g_rule_set(ir, after[i], g_seq(ir, o->list[i].required ? next : g_optional(ir, next), g_call(ir, after[i + 1])));
	}
	for (size_t i = 0; i < o->n && !required; i++) {
		out = g_alt(ir, out, g_seq(ir, member_node(o, &o->list[i]), g_call(ir, after[i + 1])));
		required = o->list[i].required;
	}
	if (!required && extra)
		out = g_alt(ir, out, g_seq(ir, extra, g_call(ir, after[o->n])));
	free(after);
	return required ? out : out ? g_optional(ir, out) : g_empty(ir);
}

enum status schema_object(struct schema *s, struct g_node **out, const json_t *schema)
{
	struct grammar_ir *ir = s->ir;
	struct object o = { .s = s };
	enum status st;

	TRY_GOTO(out, read_properties(&o, schema));
	TRY_GOTO(out, read_further(&o, schema));
	TRY_GOTO(out, read_required(&o, schema));
	TRY_GOTO(out, grammar_ir_check(ir, s->err));
	*out = g_seq(ir, seq3(ir, g_text(ir, "{"), value_ws(s), members(&o)), g_seq(ir, value_ws(s), g_text(ir, "}")));
out:
	free(o.list);
	return st;
}

/* --- arrays ---------------------------------------------------------------------------------------------- */

struct array {
	struct schema *s;
	const json_t *prefix;
	struct g_node *item; /* after the prefix; NULL: none */
	uint32_t min, max;
};

static struct g_node *element(struct array *a, size_t i)
{
	return i < json_array_size(a->prefix) ?
		g_call(a->s->ir, schema_rule(a->s, json_array_get(a->prefix, i))) : a->item;
}

static struct g_node *next_element(struct array *a, struct g_node *item)
{
	return seq3(a->s->ir, g_text(a->s->ir, ","), value_ws(a->s), item);
}

/* What may follow i elements, i at least the length of the prefix and 1. */
static struct g_node *tail(struct array *a, uint32_t i)
{
	uint32_t least = a->min > i ? a->min - i : 0;

	if (a->max <= i)
		return g_empty(a->s->ir);
	if (!a->item)
		return least ? g_never(a->s->ir) : g_empty(a->s->ir);
	return g_repeat(a->s->ir, next_element(a, a->item), least, a->max == G_NO_MAX ? G_NO_MAX : a->max - i);
}

static struct g_node *elements(struct array *a)
{
	struct grammar_ir *ir = a->s->ir;
	uint32_t n = (uint32_t)json_array_size(a->prefix);
	struct g_node *rest, *first;

	if (a->max < n)
		n = a->max;
	rest = tail(a, n ? n : 1);
	for (uint32_t i = n; i-- > 1;) { /* a rule for each place, so that nesting does not grow */
		uint32_t rule = g_rule_new(ir, NULL);
		struct g_node *more = g_seq(ir, next_element(a, element(a, i)), rest);

		g_rule_set(ir, rule, i < a->min ? more : g_optional(ir, more));
		rest = g_call(ir, rule);
	}
	first = a->max ? element(a, 0) : NULL;
	if (!first)
		return a->min ? g_never(ir) : g_empty(ir);
	first = g_seq(ir, first, rest);
	return a->min ? first : g_optional(ir, first);
}

/* --- arrays without repetition ----------------------------------------------------------------------------- */

/* What may follow depends on which of the values are there already: a rule for each such set. */
struct unique {
	struct array *a;
	uint32_t values[32]; /* rules [n] */
	uint32_t n;
	struct { uint32_t set, rule; } known[MAX_SUBSETS];
	uint32_t n_known;
	bool over;
};

static uint32_t after_set(struct unique *u, uint32_t set, uint32_t count)
{
	struct grammar_ir *ir = u->a->s->ir;
	struct g_node *out = count >= u->a->min ? g_empty(ir) : g_never(ir), *next;
	uint32_t rule;

	for (uint32_t i = 0; i < u->n_known; i++) {
		if (u->known[i].set == set)
			return u->known[i].rule;
	}
	if (u->n_known == MAX_SUBSETS) {
		u->over = true;
		return 0;
	}
	rule = g_rule_new(ir, NULL);
	u->known[u->n_known].set = set;
	u->known[u->n_known++].rule = rule;
	for (uint32_t i = 0; count < u->a->max && i < u->n && !u->over; i++) {
		if (set >> i & 1)
			continue;
		next = g_call(ir, u->values[i]);
		out = g_alt(ir, out, g_seq(ir, count ? next_element(u->a, next) : next,
			g_call(ir, after_set(u, set | 1u << i, count + 1))));
	}
	g_rule_set(ir, rule, out);
	return rule;
}

/* The different values that items may be; false: it does not list them, or too many. */
static enum status unique_values(struct unique *u, const json_t *items, bool *few)
{
	struct schema *s = u->a->s;
	const json_t *is = schema_behind(s, items), *type = json_object_get(is, "type");
	bool both = json_is_string(type) && strcmp(json_string_value(type), "boolean") == 0;
	json_t *list = schema_values(is), *kept = json_array();
	enum status st = OK;

	*few = list || both;
	if (!list)
		list = both ? json_pack("[b,b]", 0, 1) : json_array();
	for (size_t i = 0; st == OK && *few && i < json_array_size(list); i++) {
		const json_t *v = json_array_get(list, i);
		bool known = !schema_fits_type(v, type);
		struct g_node *node;

		for (size_t k = 0; !known && k < json_array_size(kept); k++)
			known = schema_same_value(v, json_array_get(kept, k));
		if (known)
			continue;
		*few = u->n < sizeof(u->values) / sizeof(*u->values);
		if (!*few)
			break;
		json_array_append(kept, (json_t *)v);
		st = value_const(s, &node, v);
		if (st == OK) {
			u->values[u->n] = g_rule_new(s->ir, NULL);
			g_rule_set(s->ir, u->values[u->n++], node);
		}
	}
	json_decref(kept);
	json_decref(list);
	return st;
}

static enum status unique_elements(struct array *a, const json_t *items, struct g_node **out)
{
	struct unique *u = mem_alloc(sizeof(*u));
	enum status st;
	bool few;

	u->a = a;
	TRY_GOTO(out, unique_values(u, items, &few));
	if (few && !a->prefix)
		*out = g_call(a->s->ir, after_set(u, 0, 0));
	if (!few || a->prefix || u->over)
		st = error_set(a->s->err, E_UNSUPPORTED, "uniqueItems is supported where items lists few values (enum: 8 of them, more "
			"with maxItems) and without prefixItems");
out:
	free(u);
	return st;
}

enum status schema_array(struct schema *s, struct g_node **out, const json_t *schema)
{
	const json_t *items = json_object_get(schema, "items"), *unique = json_object_get(schema, "uniqueItems");
	struct g_node *list = NULL;
	struct array a = { .s = s, .prefix = json_object_get(schema, "prefixItems"), .max = G_NO_MAX };
	struct grammar_ir *ir = s->ir;

	if (a.prefix && !json_is_array(a.prefix))
		return error_set(s->err, E_INVAL, "prefixItems: found %s, expected a list", json_type_name(a.prefix));
	if (json_is_array(items))
		return error_set(s->err, E_UNSUPPORTED, "items as a list is not supported: use prefixItems");
	if (items && !json_is_object(items) && !json_is_boolean(items))
		return error_set(s->err, E_INVAL, "items: found %s, expected a schema", json_type_name(items));
	if (unique && !json_is_boolean(unique))
		return error_set(s->err, E_INVAL, "uniqueItems: found %s, expected true or false", json_type_name(unique));
	TRY(schema_count(s, &a.min, schema, "minItems"));
	TRY(schema_count(s, &a.max, schema, "maxItems"));
	if (a.max < a.min)
		return error_set(s->err, E_INVAL, "maxItems %u is below minItems %u", a.max, a.min);
	if (!json_is_false(items))
		a.item = items ? g_call(ir, schema_rule(s, items)) : value_any(s);
	if (json_is_true(unique) && a.max > 1)
		TRY(unique_elements(&a, items, &list));
	else
		list = elements(&a);
	*out = g_seq(ir, seq3(ir, g_text(ir, "["), value_ws(s), list), g_seq(ir, value_ws(s), g_text(ir, "]")));
	return OK;
}
