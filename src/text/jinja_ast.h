/* The tree of a template, built by the parser, read by the evaluator. */
#ifndef TEXT_JINJA_AST_H
#define TEXT_JINJA_AST_H

#include "base/arena.h"
#include "text/jinja_lex.h"
#include "text/jinja_value.h"

enum jinja_kind {
	/* expressions */
	JINJA_N_CONST,	 /* value */
	JINJA_N_NAME,	 /* name */
	JINJA_N_LIST,	 /* kids */
	JINJA_N_TUPLE,	 /* kids */
	JINJA_N_DICT,	 /* kids: key, value, key, value */
	JINJA_N_ATTR,	 /* a . str */
	JINJA_N_ITEM,	 /* a [ b ] */
	JINJA_N_SLICE,	 /* a [ kids: start, stop, step; NULL where left out ] */
	JINJA_N_CALL,	 /* a ( kids ) */
	JINJA_N_FILTER,	 /* a | id ( kids ); a is NULL: of the text of a block */
	JINJA_N_TEST,	 /* a is id ( kids ) */
	JINJA_N_NOT,	 /* a */
	JINJA_N_NEG,	 /* a */
	JINJA_N_POS,	 /* a */
	JINJA_N_BINARY,	 /* a op b */
	JINJA_N_AND,	 /* a and b */
	JINJA_N_OR,	 /* a or b */
	JINJA_N_COMPARE, /* a, then kids: OPERAND nodes */
	JINJA_N_OPERAND, /* op a */
	JINJA_N_CONCAT,	 /* kids, joined by ~ */
	JINJA_N_COND,	 /* a if b else c; c may be NULL */
	/* targets: NAME, TUPLE of targets, NSATTR */
	JINJA_N_NSATTR, /* name . str */
	/* statements */
	JINJA_N_DATA,	  /* str */
	JINJA_N_OUTPUT,	  /* a */
	JINJA_N_IF,	  /* a: body, else other */
	JINJA_N_FOR,	  /* for a in b if c: body, else other */
	JINJA_N_SET,	  /* a = b */
	JINJA_N_SETBLOCK, /* a = body through filter chain b, which may be NULL */
	JINJA_N_MACRO, /* name, kids: parameter NAMEs, defaults: NULL or an expression each; body */
	JINJA_N_WITH,  /* kids: target, value, ...; body */
	JINJA_N_FILTERBLOCK, /* body through filter chain b */
	JINJA_N_BREAK,
	JINJA_N_CONTINUE,
};

struct jinja_body {
	struct jinja_node **nodes; /* [n] */
	size_t n;
};

struct jinja_node {
	uint8_t kind;
	uint8_t op;	 /* '+', or enum jinja_op */
	uint16_t height; /* of the tree below */
	uint32_t line;
	uint32_t name; /* number of an identifier */
	unsigned id;   /* of a filter or test */
	struct jinja_node *a, *b, *c;
	struct jinja_node **kids; /* [n_kids] */
	size_t n_kids;
	const struct jinja_str **kid_names; /* calls: names of keyword arguments, NULL elsewhere */
	struct jinja_node **defaults;
	struct jinja_str str;
	struct jinja_value value;
	struct jinja_body body, other;
};

struct jinja_name {
	struct jinja_str str;
	int function; /* what the name means where no variable has it, or -1 */
};

#define JINJA_NAME_LOOP 0 /* number of the identifier "loop" */

struct jinja_template {
	struct arena arena;
	char what[100];
	struct jinja_name *names; /* [n_names] */
	size_t n_names;
	struct jinja_body body;
};

#endif
