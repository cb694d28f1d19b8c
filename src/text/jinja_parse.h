/* State of the parser, shared by its two files: statements and expressions. */
#ifndef TEXT_JINJA_PARSE_H
#define TEXT_JINJA_PARSE_H

#include "text/jinja_ast.h"
#include "text/jinja_lex.h"

#define JINJA_MAX_HEIGHT 200
#define JINJA_MAX_NAMES 4096

struct jinja_parser {
	struct jinja_template *t;
	const struct jinja_token *tok; /* the current one */
	unsigned depth;
	unsigned loops;	 /* for loops open in this macro */
	unsigned macros; /* macros open */
	struct error *err;
};

enum status jinja_parse_fail(struct jinja_parser *p, enum status code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
enum status jinja_parse_unexpected(struct jinja_parser *p, const char *expected);
void *jinja_parse_alloc(struct jinja_parser *p, size_t count, size_t bytes); /* NULL: failed */
enum status jinja_node_new(struct jinja_parser *p, struct jinja_node **out, enum jinja_kind kind);
/* Makes `parent` higher than `child`, which may be NULL; an error past JINJA_MAX_HEIGHT. */
enum status jinja_node_over(
	struct jinja_parser *p, struct jinja_node *parent, const struct jinja_node *child);
/* Appends a kid with its name, both of which may be NULL. */
enum status jinja_node_add(struct jinja_parser *p, struct jinja_node *parent,
	struct jinja_node *kid, const struct jinja_str *name);
enum status jinja_parse_name(struct jinja_parser *p, struct jinja_str str, uint32_t *name);

bool jinja_at_op(const struct jinja_parser *p, unsigned op);
bool jinja_at_word(const struct jinja_parser *p, const char *word);
bool jinja_skip_op(struct jinja_parser *p, unsigned op);
bool jinja_skip_word(struct jinja_parser *p, const char *word);
enum status jinja_expect_op(struct jinja_parser *p, unsigned op);
enum status jinja_expect_name(struct jinja_parser *p, struct jinja_str *out);

/* jinja_parse_expr.c */
enum status jinja_parse_expr(struct jinja_parser *p, struct jinja_node **out);
/* With commas: a tuple. `cond` false: without "x if y". */
enum status jinja_parse_tuple(struct jinja_parser *p, bool cond, struct jinja_node **out);
/* name, tuple of names, or namespace attribute if `ns`. */
enum status jinja_parse_target(struct jinja_parser *p, bool ns, struct jinja_node **out);
/* "name(args) | name ..." without the first bar. */
enum status jinja_parse_filters(struct jinja_parser *p, struct jinja_node **out);

#endif
