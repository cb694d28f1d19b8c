/*
 * One rendering: its arena, its bounds, where it is. Every file of the evaluator includes this; the
 * functions below are the seams between those files.
 */
#ifndef TEXT_JINJA_RUN_H
#define TEXT_JINJA_RUN_H

#include "base/arena.h"
#include "text/jinja.h"
#include "text/jinja_ast.h"
#include "text/jinja_str.h"
#include "text/jinja_value.h"

#define JINJA_MAX_DEPTH 400
#define JINJA_MAX_RANGE 100000

struct jinja_binding {
	uint32_t name;
	struct jinja_value value;
};

struct jinja_scope {
	struct jinja_scope *parent;
	struct jinja_binding *vars; /* [n] */
	size_t n, cap;
};

enum jinja_flow { JINJA_FLOW_NONE, JINJA_FLOW_BREAK, JINJA_FLOW_CONTINUE };

struct jinja_run {
	const struct jinja_template *t;
	struct arena arena;
	struct jinja_limits limits;
	size_t steps;
	unsigned depth;
	uint32_t line;
	enum jinja_flow flow;
	struct jinja_sb *out; /* where output goes */
	bool to_page;	      /* `out` is the page itself, not a macro or block set */
	struct jinja_scope *scope;
	struct error *err;
};

/* Writes "WHAT: line N: ..."; returns code. */
enum status jinja_fail(struct jinja_run *r, enum status code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Memory of the rendering, zeroed. */
enum status jinja_alloc(struct jinja_run *r, void *out, size_t count, size_t bytes);
enum status jinja_out_of_steps(struct jinja_run *r);
enum status jinja_too_deep(struct jinja_run *r);

/* Counts work. */
static inline enum status jinja_charge(struct jinja_run *r, size_t steps)
{
	if (r->limits.steps - r->steps < steps)
		return jinja_out_of_steps(r);
	r->steps += steps;
	return OK;
}

static inline enum status jinja_charge_bytes(struct jinja_run *r, size_t bytes)
{
	return jinja_charge(r, bytes / 16 + 1);
}

/* Around every recursion. Depth is not given back on failure: the rendering is over then. */
static inline enum status jinja_enter(struct jinja_run *r)
{
	return ++r->depth > JINJA_MAX_DEPTH ? jinja_too_deep(r) : OK;
}

static inline void jinja_leave(struct jinja_run *r)
{
	r->depth--;
}

/* Arguments of a call, evaluated. */
struct jinja_args {
	struct jinja_value *values;	/* [n] */
	const struct jinja_str **names; /* [n] NULL: positional; positional ones come first */
	size_t n;
};

/*
 * Sorts arguments into slots by parameter names ("a b c", as in Python); slots without an argument
 * become undefined with name NULL. `min` slots must be given. `what` names the callee.
 */
enum status jinja_bind(struct jinja_run *r, const char *what, const struct jinja_args *args,
	const char *params, size_t min, struct jinja_value *slots);
static inline bool jinja_given(struct jinja_value v)
{
	return v.type != JINJA_UNDEFINED || v.name;
}
enum status jinja_need_str(
	struct jinja_run *r, const char *what, struct jinja_value v, struct jinja_str *out);
enum status jinja_need_int(
	struct jinja_run *r, const char *what, struct jinja_value v, int64_t *out);

/* jinja_scope.c */
enum status jinja_scope_push(struct jinja_run *r);
enum status jinja_scope_set(struct jinja_run *r, uint32_t name, struct jinja_value v);
struct jinja_value jinja_scope_get(struct jinja_run *r, uint32_t name);

/* jinja_print.c */
enum status jinja_print(struct jinja_sb *sb, struct jinja_value v); /* str() */
enum status jinja_repr(struct jinja_sb *sb, struct jinja_value v);  /* repr() */
enum status jinja_to_str(struct jinja_run *r, struct jinja_value v, struct jinja_str *out);
enum status jinja_to_json(struct jinja_run *r, struct jinja_value *out, struct jinja_value v,
	const struct jinja_args *args);
#define JINJA_FLOAT_BYTES 64
void jinja_format_float(double f, char dst[JINJA_FLOAT_BYTES]);

/* jinja_expr.c */
enum status jinja_eval(struct jinja_run *r, const struct jinja_node *n, struct jinja_value *out);
enum status jinja_getattr(struct jinja_run *r, struct jinja_value *out, struct jinja_value v,
	const struct jinja_str *name);
enum status jinja_getitem(
	struct jinja_run *r, struct jinja_value *out, struct jinja_value v, struct jinja_value key);

/* jinja_op.c */
enum status jinja_binary(struct jinja_run *r, unsigned op, struct jinja_value a,
	struct jinja_value b, struct jinja_value *out);
enum status jinja_compare(
	struct jinja_run *r, unsigned op, struct jinja_value a, struct jinja_value b, bool *out);
enum status jinja_slice(struct jinja_run *r, struct jinja_value v, const struct jinja_value at[3],
	struct jinja_value *out);

/* jinja_exec.c */
enum status jinja_exec_body(struct jinja_run *r, const struct jinja_body *body);
enum status jinja_call_macro(struct jinja_run *r, const struct jinja_macro *m,
	const struct jinja_args *args, struct jinja_value *out);

/* jinja_call.c */
enum status jinja_call(struct jinja_run *r, struct jinja_value callee,
	const struct jinja_args *args, struct jinja_value *out);

/* jinja_filter.c, jinja_test.c, jinja_method.c: tables; -1: no such name */
int jinja_filter_find(struct jinja_str name);
enum status jinja_filter_run(struct jinja_run *r, unsigned id, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out);
int jinja_test_find(struct jinja_str name);
enum status jinja_test_run(struct jinja_run *r, unsigned id, struct jinja_value v,
	const struct jinja_args *args, bool *out);
/* type JINJA_UNDEFINED: of any type, for checks at compile time. */
int jinja_method_find(enum jinja_type type, struct jinja_str name);
enum status jinja_method_run(struct jinja_run *r, const struct jinja_bound *m,
	const struct jinja_args *args, struct jinja_value *out);
int jinja_function_find(struct jinja_str name);

#endif
