/* Evaluates expressions. Whatever recurses is bounded by jinja_enter and by the tree's height. */
#include <math.h>
#include <string.h>

#include "text/jinja_run.h"

/* The name in messages of what has none; not NULL, which means an argument left out. */
static const struct jinja_str unnamed = {.s = "value", .len = 5};

static enum status undefined_access(struct jinja_run *r, struct jinja_value v)
{
	if (!v.name)
		return jinja_fail(r, E_INVAL, "value is undefined");
	return jinja_fail(r, E_INVAL, "'%.*s' is undefined",
		v.name->len > 60 ? 60 : (int)v.name->len, v.name->s);
}

static bool name_is(const struct jinja_str *s, const char *word)
{
	return s->len == strlen(word) && memcmp(s->s, word, s->len) == 0;
}

static struct jinja_value loop_item(
	const struct jinja_loop *l, size_t i, const struct jinja_str *name)
{
	return i < l->items->n ? l->items->items[i] : jinja_undefined(name);
}

/* Attributes of `loop` that are not methods; undefined when there is none. */
static struct jinja_value loop_attr(const struct jinja_loop *l, const struct jinja_str *name)
{
	int64_t n = (int64_t)l->items->n, i = (int64_t)l->index0;

	if (name_is(name, "index"))
		return jinja_int(i + 1);
	if (name_is(name, "index0"))
		return jinja_int(i);
	if (name_is(name, "revindex"))
		return jinja_int(n - i);
	if (name_is(name, "revindex0"))
		return jinja_int(n - i - 1);
	if (name_is(name, "first"))
		return jinja_bool(i == 0);
	if (name_is(name, "last"))
		return jinja_bool(i == n - 1);
	if (name_is(name, "length"))
		return jinja_int(n);
	if (name_is(name, "depth"))
		return jinja_int(1); /* only a recursive loop has more */
	if (name_is(name, "depth0"))
		return jinja_int(0);
	if (name_is(name, "previtem"))
		return loop_item(l, l->index0 - 1, name);
	if (name_is(name, "nextitem"))
		return loop_item(l, l->index0 + 1, name);
	return jinja_undefined(name);
}

static enum status bind_method(
	struct jinja_run *r, struct jinja_value *out, struct jinja_value self, int id)
{
	struct jinja_bound *m;

	TRY(jinja_alloc(r, &m, 1, sizeof(*m)));
	m->self = self;
	m->id = (unsigned)id;
	*out = (struct jinja_value){.type = JINJA_METHOD, .method = m};
	return OK;
}

static enum status find_key(struct jinja_run *r, struct jinja_value *out,
	const struct jinja_dict *d, const struct jinja_str *name)
{
	struct jinja_value *found;

	TRY(jinja_dict_find(r, &found, d, (struct jinja_value){.type = JINJA_STRING, .str = name}));
	*out = found ? *found : jinja_undefined(name);
	return OK;
}

/* v.name: methods come before keys. */
enum status jinja_getattr(struct jinja_run *r, struct jinja_value *out, struct jinja_value v,
	const struct jinja_str *name)
{
	int id;

	if (v.type == JINJA_UNDEFINED)
		return undefined_access(r, v);
	id = jinja_method_find(v.type, *name);
	if (id >= 0)
		return bind_method(r, out, v, id);
	*out = jinja_undefined(name);
	if (v.type == JINJA_DICT || v.type == JINJA_NAMESPACE)
		return find_key(r, out, v.dict, name);
	if (v.type == JINJA_LOOP)
		*out = loop_attr(v.loop, name);
	else if (v.type == JINJA_MACRO && name_is(name, "name"))
		return jinja_str_new(r, out, v.macro->node->str);
	return OK;
}

/* v[key]: keys come before methods. */
enum status jinja_getitem(
	struct jinja_run *r, struct jinja_value *out, struct jinja_value v, struct jinja_value key)
{
	struct jinja_value *found;
	int64_t i, n;

	if (v.type == JINJA_UNDEFINED)
		return undefined_access(r, v);
	if (v.type == JINJA_DICT && jinja_is_key(key)) {
		TRY(jinja_dict_find(r, &found, v.dict, key));
		if (found) {
			*out = *found;
			return OK;
		}
	}
	if ((v.type == JINJA_LIST || v.type == JINJA_STRING) && jinja_is_integral(key)) {
		i = jinja_as_int(key);
		if (v.type == JINJA_STRING)
			TRY(jinja_charge_bytes(r, v.str->len));
		n = v.type == JINJA_LIST ? (int64_t)v.list->n : (int64_t)jinja_str_points(*v.str);
		if (i < 0)
			i += n;
		*out = jinja_undefined(&unnamed);
		if (i >= 0 && i < n && v.type == JINJA_LIST) {
			*out = v.list->items[i];
		} else if (i >= 0 && i < n) {
			size_t at = jinja_str_offset(*v.str, (size_t)i);
			struct jinja_str rest = jinja_str_sub(*v.str, at, v.str->len);

			return jinja_str_new(
				r, out, jinja_str_sub(rest, 0, jinja_str_offset(rest, 1)));
		}
		return OK;
	}
	if (key.type == JINJA_STRING && v.type != JINJA_NAMESPACE) {
		int id = jinja_method_find(v.type, *key.str);

		if (id >= 0)
			return bind_method(r, out, v, id);
	}
	if (v.type == JINJA_LOOP && key.type == JINJA_STRING)
		*out = loop_attr(v.loop, key.str);
	else if (v.type == JINJA_NAMESPACE && key.type == JINJA_STRING)
		return find_key(r, out, v.dict, key.str);
	else
		*out = jinja_undefined(key.type == JINJA_STRING ? key.str : &unnamed);
	return OK;
}

static enum status eval_list(
	struct jinja_run *r, const struct jinja_node *n, struct jinja_value *out)
{
	struct jinja_value v;
	size_t i;

	TRY(jinja_list_new(r, out, n->n_kids));
	out->list->tuple = n->kind == JINJA_N_TUPLE;
	for (i = 0; i < n->n_kids; i++) {
		TRY(jinja_eval(r, n->kids[i], &v));
		TRY(jinja_list_push(r, out->list, v));
	}
	return OK;
}

static enum status eval_dict(
	struct jinja_run *r, const struct jinja_node *n, struct jinja_value *out)
{
	struct jinja_value k, v;
	size_t i;

	TRY(jinja_dict_new(r, out, JINJA_DICT));
	for (i = 0; i < n->n_kids; i += 2) {
		TRY(jinja_eval(r, n->kids[i], &k));
		TRY(jinja_eval(r, n->kids[i + 1], &v));
		TRY(jinja_dict_set(r, out->dict, k, v));
	}
	return OK;
}

static enum status eval_args(
	struct jinja_run *r, const struct jinja_node *n, struct jinja_args *args)
{
	size_t i;

	*args = (struct jinja_args){.names = n->kid_names, .n = n->n_kids};
	if (n->n_kids)
		TRY(jinja_alloc(r, &args->values, n->n_kids, sizeof(*args->values)));
	for (i = 0; i < n->n_kids; i++)
		TRY(jinja_eval(r, n->kids[i], &args->values[i]));
	return OK;
}

static enum status eval_slice(struct jinja_run *r, const struct jinja_node *n, struct jinja_value v,
	struct jinja_value *out)
{
	struct jinja_value at[3];
	size_t i;

	for (i = 0; i < 3; i++) {
		at[i] = jinja_none();
		if (n->kids[i])
			TRY(jinja_eval(r, n->kids[i], &at[i]));
	}
	return jinja_slice(r, v, at, out);
}

static enum status eval_compare(struct jinja_run *r, const struct jinja_node *n,
	struct jinja_value left, struct jinja_value *out)
{
	struct jinja_value right;
	bool yes = true;
	size_t i;

	for (i = 0; i < n->n_kids && yes; i++) {
		TRY(jinja_eval(r, n->kids[i]->a, &right));
		r->line = n->line;
		TRY(jinja_compare(r, n->kids[i]->op, left, right, &yes));
		left = right;
	}
	*out = jinja_bool(yes);
	return OK;
}

static enum status eval_concat(
	struct jinja_run *r, const struct jinja_node *n, struct jinja_value *out)
{
	struct jinja_value all = {.type = JINJA_STRING, .str = &(struct jinja_str){.s = ""}}, v;
	struct jinja_str s;
	size_t i;

	for (i = 0; i < n->n_kids; i++) {
		TRY(jinja_eval(r, n->kids[i], &v));
		TRY(jinja_to_str(r, v, &s));
		if (i)
			TRY(jinja_str_append(r, &all, all.str, s));
		else
			TRY(jinja_str_new(r, &all, s));
	}
	*out = all;
	return OK;
}

static enum status eval_sign(struct jinja_run *r, const struct jinja_node *n, struct jinja_value v,
	struct jinja_value *out)
{
	int64_t i;

	if (v.type == JINJA_UNDEFINED)
		return undefined_access(r, v);
	if (!jinja_is_number(v))
		return jinja_fail(
			r, E_INVAL, "a sign before a value of type %s", jinja_type_name(v));
	if (v.type == JINJA_FLOAT) {
		*out = jinja_float(n->kind == JINJA_N_NEG ? -v.f : v.f);
		return OK;
	}
	i = jinja_as_int(v);
	if (n->kind == JINJA_N_NEG && __builtin_sub_overflow((int64_t)0, i, &i))
		return jinja_fail(r, E_LIMIT, "integer beyond 64 bits");
	*out = jinja_int(i);
	return OK;
}

/* Nodes that evaluate n->a first and then work on its value. */
static enum status eval_on(struct jinja_run *r, const struct jinja_node *n, struct jinja_value v,
	struct jinja_value *out)
{
	struct jinja_value w;
	struct jinja_args args;
	bool yes;

	switch ((enum jinja_kind)n->kind) {
	case JINJA_N_ATTR:
		r->line = n->line;
		return jinja_getattr(r, out, v, &n->str);
	case JINJA_N_ITEM:
		TRY(jinja_eval(r, n->b, &w));
		r->line = n->line;
		return jinja_getitem(r, out, v, w);
	case JINJA_N_SLICE:
		return eval_slice(r, n, v, out);
	case JINJA_N_CALL:
		TRY(eval_args(r, n, &args));
		r->line = n->line;
		return jinja_call(r, v, &args, out);
	case JINJA_N_FILTER:
		TRY(eval_args(r, n, &args));
		r->line = n->line;
		return jinja_filter_run(r, n->id, v, &args, out);
	case JINJA_N_TEST:
		TRY(eval_args(r, n, &args));
		r->line = n->line;
		TRY(jinja_test_run(r, n->id, v, &args, &yes));
		*out = jinja_bool(yes);
		return OK;
	case JINJA_N_NOT:
		*out = jinja_bool(!jinja_truth(v));
		return OK;
	case JINJA_N_BINARY:
		TRY(jinja_eval(r, n->b, &w));
		r->line = n->line;
		return jinja_binary(r, n->op, v, w, out);
	case JINJA_N_AND:
	case JINJA_N_OR:
		if (jinja_truth(v) == (n->kind == JINJA_N_AND))
			return jinja_eval(r, n->b, out);
		*out = v;
		return OK;
	case JINJA_N_COMPARE:
		return eval_compare(r, n, v, out);
	default:
		return eval_sign(r, n, v, out);
	}
}

static enum status eval_cond(
	struct jinja_run *r, const struct jinja_node *n, struct jinja_value *out)
{
	struct jinja_value v;

	TRY(jinja_eval(r, n->b, &v));
	if (jinja_truth(v))
		return jinja_eval(r, n->a, out);
	if (n->c)
		return jinja_eval(r, n->c, out);
	*out = jinja_undefined(&unnamed);
	return OK;
}

enum status jinja_eval(struct jinja_run *r, const struct jinja_node *n, struct jinja_value *out)
{
	struct jinja_value v;

	TRY(jinja_charge(r, 1));
	TRY(jinja_enter(r));
	switch ((enum jinja_kind)n->kind) {
	case JINJA_N_CONST:
		*out = n->value;
		break;
	case JINJA_N_NAME:
		*out = jinja_scope_get(r, n->name);
		break;
	case JINJA_N_LIST:
	case JINJA_N_TUPLE:
		TRY(eval_list(r, n, out));
		break;
	case JINJA_N_DICT:
		TRY(eval_dict(r, n, out));
		break;
	case JINJA_N_CONCAT:
		TRY(eval_concat(r, n, out));
		break;
	case JINJA_N_COND:
		TRY(eval_cond(r, n, out));
		break;
	default:
		TRY(jinja_eval(r, n->a, &v));
		TRY(eval_on(r, n, v, out));
	}
	jinja_leave(r);
	return OK;
}
