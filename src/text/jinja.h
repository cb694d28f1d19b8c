/*
 * A subset of Jinja2 as transformers uses it for chat templates: trim_blocks and lstrip_blocks on,
 * autoescape off, loop controls, `tojson` without HTML escapes, {% generation %} transparent.
 *
 * A compiled template is immutable; any number of threads may render it. The engine is a sandbox by
 * construction: values come from JSON, there is nothing to call but pure functions, and steps,
 * recursion, memory and output of a rendering are bounded. What lies outside the subset (include,
 * import, extends, block, call, recursive loops, *args, unknown filters, tests and methods) is an
 * error at compile time.
 *
 * Messages have the form "WHAT: line N: ...". E_FORMAT: syntax; E_UNSUPPORTED: outside the subset;
 * E_INVAL: the template failed on these variables, raise_exception() included; E_LIMIT: a bound.
 */
#ifndef TEXT_JINJA_H
#define TEXT_JINJA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/error.h"

#define JINJA_MAX_SOURCE_BYTES ((size_t)1 << 20)

struct jinja_template;

/* source need not be NUL-terminated; `what` names it in messages. */
enum status jinja_compile(struct jinja_template **out, const char *source, size_t len,
	const char *what, struct error *err);
void jinja_destroy(struct jinja_template *t);

struct jinja_limits {
	size_t steps; /* about one per expression, statement or 16 bytes of text handled */
	size_t memory_bytes;
	size_t output_bytes;
};

/* Bounds for variables whose JSON text has this size: room for honest templates, no more. */
struct jinja_limits jinja_limits_for(size_t input_bytes);

struct jinja_var {
	const char *name;
	json_t *value; /* borrowed */
	bool marked;   /* strings in it, keys included, carry marks */
};

/*
 * A mark is one byte per byte of text, 1 if that byte came from a marked variable. Marks follow
 * text through every operation of the template: slices, split, replace, join, tojson, macros.
 */
struct jinja_output {
	struct buf text;
	struct buf marks; /* [text.len], empty if no byte is marked */
};

enum status jinja_render(struct jinja_output *out, const struct jinja_template *t,
	const struct jinja_var *vars, size_t n_vars, const struct jinja_limits *limits,
	struct error *err);
void jinja_output_deinit(struct jinja_output *out);

#endif
