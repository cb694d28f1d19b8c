/* Runs statements, and renders a template from start to end. */
#include <string.h>

#include "base/buf.h"
#include "text/jinja_run.h"

#define BASE_STEPS ((size_t)20 << 20)
#define BASE_MEMORY ((size_t)64 << 20)
#define BASE_OUTPUT ((size_t)8 << 20)

struct jinja_limits jinja_limits_for(size_t input_bytes)
{
	return (struct jinja_limits){.steps = BASE_STEPS + 16 * input_bytes,
		.memory_bytes = BASE_MEMORY + 64 * input_bytes,
		.output_bytes = BASE_OUTPUT + 4 * input_bytes};
}

static enum status assign(
	struct jinja_run *r, const struct jinja_node *target, struct jinja_value v)
{
	const struct jinja_list *items;
	struct jinja_value ns, *key;
	size_t i;

	r->line = target->line;
	switch ((enum jinja_kind)target->kind) {
	case JINJA_N_NAME:
		return jinja_scope_set(r, target->name, v);
	case JINJA_N_NSATTR:
		ns = jinja_scope_get(r, target->name);
		if (ns.type != JINJA_NAMESPACE)
			return jinja_fail(r, E_INVAL,
				"attributes can be set on a namespace only, found %s",
				jinja_type_name(ns));
		key = &(struct jinja_value){.type = JINJA_STRING, .str = &target->str};
		return jinja_dict_set(r, ns.dict, *key, v);
	default:
		TRY(jinja_iterate(r, &items, v));
		if (items->n != target->n_kids)
			return jinja_fail(
				r, E_INVAL, "%zu values for %zu names", items->n, target->n_kids);
		for (i = 0; i < items->n; i++)
			TRY(assign(r, target->kids[i], items->items[i]));
		return OK;
	}
}

/* Runs a body whose output becomes a value. */
static enum status capture(
	struct jinja_run *r, const struct jinja_body *body, struct jinja_value *out)
{
	struct jinja_sb sb = {.run = r}, *outer = r->out;
	bool to_page = r->to_page;

	r->out = &sb;
	r->to_page = false;
	TRY(jinja_exec_body(r, body));
	r->out = outer;
	r->to_page = to_page;
	return jinja_sb_value(&sb, out);
}

/* A body in a scope of its own. */
static enum status capture_inner(
	struct jinja_run *r, const struct jinja_body *body, struct jinja_value *out)
{
	struct jinja_scope *outer = r->scope;

	TRY(jinja_scope_push(r));
	TRY(capture(r, body, out));
	r->scope = outer;
	return OK;
}

/* A filter chain on text: its innermost filter has no operand. */
static enum status run_filters(struct jinja_run *r, const struct jinja_node *n,
	struct jinja_value v, struct jinja_value *out)
{
	struct jinja_args args = {.names = n->kid_names, .n = n->n_kids};
	size_t i;

	if (n->a)
		TRY(run_filters(r, n->a, v, &v));
	if (args.n)
		TRY(jinja_alloc(r, &args.values, args.n, sizeof(*args.values)));
	for (i = 0; i < args.n; i++)
		TRY(jinja_eval(r, n->kids[i], &args.values[i]));
	r->line = n->line;
	return jinja_filter_run(r, n->id, v, &args, out);
}

/* The values a loop goes over: those of n->b that pass n->c. */
static enum status loop_items(
	struct jinja_run *r, const struct jinja_node *n, const struct jinja_list **out)
{
	struct jinja_value v, kept, yes;
	const struct jinja_list *items;
	size_t i;

	TRY(jinja_eval(r, n->b, &v));
	r->line = n->line;
	TRY(jinja_iterate(r, &items, v));
	*out = items;
	if (!n->c)
		return OK;
	TRY(jinja_list_new(r, &kept, 0));
	for (i = 0; i < items->n; i++) {
		TRY(assign(r, n->a, items->items[i]));
		TRY(jinja_eval(r, n->c, &yes));
		if (jinja_truth(yes))
			TRY(jinja_list_push(r, kept.list, items->items[i]));
	}
	*out = kept.list;
	return OK;
}

static enum status exec_for(struct jinja_run *r, const struct jinja_node *n)
{
	struct jinja_scope *outer = r->scope;
	const struct jinja_list *items;
	struct jinja_loop *loop;

	TRY(jinja_scope_push(r));
	TRY(loop_items(r, n, &items));
	if (!items->n) {
		r->scope->n = 0;
		TRY(jinja_exec_body(r, &n->other));
		r->scope = outer;
		return OK;
	}
	TRY(jinja_alloc(r, &loop, 1, sizeof(*loop)));
	loop->items = items;
	for (; loop->index0 < items->n; loop->index0++) {
		TRY(jinja_charge(r, 1));
		r->scope->n = 0; /* what an iteration sets ends with it */
		TRY(jinja_scope_set(r, JINJA_NAME_LOOP,
			(struct jinja_value){.type = JINJA_LOOP, .loop = loop}));
		TRY(assign(r, n->a, items->items[loop->index0]));
		TRY(jinja_exec_body(r, &n->body));
		if (r->flow == JINJA_FLOW_BREAK)
			break;
		r->flow = JINJA_FLOW_NONE;
	}
	r->flow = JINJA_FLOW_NONE;
	r->scope = outer;
	return OK;
}

static enum status exec_if(struct jinja_run *r, const struct jinja_node *n)
{
	struct jinja_value v;

	TRY(jinja_eval(r, n->a, &v));
	return jinja_exec_body(r, jinja_truth(v) ? &n->body : &n->other);
}

static enum status exec_with(struct jinja_run *r, const struct jinja_node *n)
{
	struct jinja_scope *outer = r->scope, *inner;
	struct jinja_value v;
	size_t i;

	TRY(jinja_scope_push(r));
	inner = r->scope;
	for (i = 0; i < n->n_kids; i += 2) { /* values see the scope outside */
		r->scope = outer;
		TRY(jinja_eval(r, n->kids[i + 1], &v));
		r->scope = inner;
		TRY(assign(r, n->kids[i], v));
	}
	TRY(jinja_exec_body(r, &n->body));
	r->scope = outer;
	return OK;
}

static enum status exec_macro(struct jinja_run *r, const struct jinja_node *n)
{
	struct jinja_macro *m;

	TRY(jinja_alloc(r, &m, 1, sizeof(*m)));
	m->node = n;
	m->scope = r->scope;
	return jinja_scope_set(r, n->name, (struct jinja_value){.type = JINJA_MACRO, .macro = m});
}

static enum status exec_node(struct jinja_run *r, const struct jinja_node *n)
{
	struct jinja_value v;

	r->line = n->line;
	switch ((enum jinja_kind)n->kind) {
	case JINJA_N_DATA:
		return jinja_sb_put(r->out, n->str);
	case JINJA_N_OUTPUT:
		TRY(jinja_eval(r, n->a, &v));
		return jinja_print(r->out, v);
	case JINJA_N_IF:
		return exec_if(r, n);
	case JINJA_N_FOR:
		return exec_for(r, n);
	case JINJA_N_SET:
		TRY(jinja_eval(r, n->b, &v));
		return assign(r, n->a, v);
	case JINJA_N_SETBLOCK:
	case JINJA_N_FILTERBLOCK:
		TRY(capture_inner(r, &n->body, &v));
		if (n->b)
			TRY(run_filters(r, n->b, v, &v));
		return n->a ? assign(r, n->a, v) : jinja_print(r->out, v);
	case JINJA_N_MACRO:
		return exec_macro(r, n);
	case JINJA_N_WITH:
		return exec_with(r, n);
	default:
		r->flow = n->kind == JINJA_N_BREAK ? JINJA_FLOW_BREAK : JINJA_FLOW_CONTINUE;
		return OK;
	}
}

enum status jinja_exec_body(struct jinja_run *r, const struct jinja_body *body)
{
	size_t i;

	TRY(jinja_enter(r));
	for (i = 0; i < body->n && r->flow == JINJA_FLOW_NONE; i++) {
		TRY(jinja_charge(r, 1));
		TRY(exec_node(r, body->nodes[i]));
	}
	jinja_leave(r);
	return OK;
}

/* Puts the arguments into the scope of the call; defaults see the parameters before them. */
static enum status bind_macro(
	struct jinja_run *r, const struct jinja_node *n, const struct jinja_args *args)
{
	struct jinja_value v;
	size_t i, k, positional = 0;

	while (positional < args->n && !args->names[positional])
		positional++;
	if (positional > n->n_kids)
		return jinja_fail(r, E_INVAL, "macro '%.*s' takes %zu arguments, found %zu",
			(int)n->str.len, n->str.s, n->n_kids, positional);
	for (k = positional; k < args->n; k++) {
		for (i = 0; i < n->n_kids && !jinja_str_equal(n->kids[i]->str, *args->names[k]);)
			i++;
		if (i == n->n_kids || i < positional)
			return jinja_fail(r, E_INVAL, "macro '%.*s': unexpected argument '%.*s'",
				(int)n->str.len, n->str.s, (int)args->names[k]->len,
				args->names[k]->s);
	}
	for (i = 0; i < n->n_kids; i++) {
		const struct jinja_node *param = n->kids[i];

		for (k = positional; k < args->n && !jinja_str_equal(param->str, *args->names[k]);)
			k++;
		if (i < positional)
			v = args->values[i];
		else if (k < args->n)
			v = args->values[k];
		else if (n->defaults[i])
			TRY(jinja_eval(r, n->defaults[i], &v));
		else
			v = jinja_undefined(&param->str);
		TRY(jinja_scope_set(r, param->name, v));
	}
	return OK;
}

enum status jinja_call_macro(struct jinja_run *r, const struct jinja_macro *m,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_scope *outer = r->scope;

	TRY(jinja_enter(r));
	r->scope = m->scope;
	TRY(jinja_scope_push(r));
	TRY(bind_macro(r, m->node, args));
	TRY(capture(r, &m->node->body, out));
	r->scope = outer;
	jinja_leave(r);
	return OK;
}

static enum status run_template(
	struct jinja_run *r, const struct jinja_var *vars, size_t n_vars, struct jinja_sb *page)
{
	struct jinja_value v;
	size_t i, k;

	TRY(jinja_scope_push(r));
	for (i = 0; i < n_vars; i++) {
		struct jinja_str name = {.s = vars[i].name, .len = strlen(vars[i].name)};

		for (k = 0; k < r->t->n_names && !jinja_str_equal(r->t->names[k].str, name);)
			k++;
		if (k == r->t->n_names) /* the template does not speak of it */
			continue;
		TRY(jinja_from_json(r, &v, vars[i].value, vars[i].marked));
		TRY(jinja_scope_set(r, (uint32_t)k, v));
	}
	TRY(jinja_scope_push(r));
	r->out = page;
	r->to_page = true;
	return jinja_exec_body(r, &r->t->body);
}

enum status jinja_render(struct jinja_output *out, const struct jinja_template *t,
	const struct jinja_var *vars, size_t n_vars, const struct jinja_limits *limits,
	struct error *err)
{
	struct jinja_run r = {.t = t, .limits = *limits, .line = 1, .err = err};
	struct jinja_sb page = {.run = &r};
	enum status st;

	arena_init(&r.arena, limits->memory_bytes);
	st = run_template(&r, vars, n_vars, &page);
	if (st == OK) {
		*out = (struct jinja_output){0};
		buf_append(&out->text, page.s ? page.s : "", page.len);
		if (page.mark)
			buf_append(&out->marks, page.mark, page.len);
	}
	arena_deinit(&r.arena);
	return st;
}

void jinja_output_deinit(struct jinja_output *out)
{
	buf_deinit(&out->text);
	buf_deinit(&out->marks);
}
