/*
 * Variables, bounds and messages of one rendering. Scopes form a chain; a loop body, a macro call
 * and a block each have one of their own, an `if` has none.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_run.h"

enum status jinja_fail(struct jinja_run *r, enum status code, const char *fmt, ...)
{
	char msg[180];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	return error_set(r->err, code, "%s: line %u: %s", r->t->what, r->line, msg);
}

enum status jinja_alloc(struct jinja_run *r, void *out, size_t count, size_t bytes)
{
	void *mem = arena_try_alloc(&r->arena, count, bytes);

	memcpy(out, &mem, sizeof(mem)); /* out is the address of a pointer of any type */
	if (!mem)
		return jinja_fail(
			r, E_LIMIT, "more than %zu bytes of memory needed", r->limits.memory_bytes);
	return OK;
}

enum status jinja_out_of_steps(struct jinja_run *r)
{
	return jinja_fail(r, E_LIMIT, "more than %zu steps: a loop that does not end, or too much to render", r->limits.steps);
}

enum status jinja_too_deep(struct jinja_run *r)
{
	return jinja_fail(r, E_LIMIT, "recursion of more than %d levels", JINJA_MAX_DEPTH);
}

enum status jinja_scope_push(struct jinja_run *r)
{
	struct jinja_scope *s;

	TRY(jinja_alloc(r, &s, 1, sizeof(*s)));
	s->parent = r->scope;
	r->scope = s;
	return OK;
}

enum status jinja_scope_set(struct jinja_run *r, uint32_t name, struct jinja_value v)
{
	struct jinja_scope *s = r->scope;
	size_t i;

	for (i = 0; i < s->n && s->vars[i].name != name;)
		i++;
	if (i == s->n) {
		if (s->n == s->cap) {
			size_t cap = s->cap ? 2 * s->cap : 4;
			struct jinja_binding *vars;

			TRY(jinja_alloc(r, &vars, cap, sizeof(*vars)));
			if (s->n)
				memcpy(vars, s->vars, s->n * sizeof(*vars));
			s->vars = vars;
			s->cap = cap;
		}
		s->n++;
	}
	s->vars[i] = (struct jinja_binding){name, v};
	return OK;
}

struct jinja_value jinja_scope_get(struct jinja_run *r, uint32_t name)
{
	const struct jinja_name *n = &r->t->names[name];
	const struct jinja_scope *s;
	size_t i;

	for (s = r->scope; s; s = s->parent) {
		for (i = 0; i < s->n; i++) {
			if (s->vars[i].name == name)
				return s->vars[i].value;
		}
	}
	if (n->function >= 0)
		return (struct jinja_value){
			.type = JINJA_FUNCTION, .function = (unsigned)n->function};
	return jinja_undefined(&n->str);
}
