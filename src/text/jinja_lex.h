/* Tokens of a template. White-space control is settled here: DATA tokens are final text. */
#ifndef TEXT_JINJA_LEX_H
#define TEXT_JINJA_LEX_H

#include <stdint.h>

#include "base/arena.h"
#include "text/jinja_value.h"

enum jinja_token_kind {
	JINJA_T_END,
	JINJA_T_DATA,
	JINJA_T_OUT_BEGIN, /* {{ */
	JINJA_T_OUT_END,
	JINJA_T_TAG_BEGIN, /* {% */
	JINJA_T_TAG_END,
	JINJA_T_NAME,
	JINJA_T_STRING, /* escapes resolved */
	JINJA_T_INT,
	JINJA_T_FLOAT,
	JINJA_T_OP,
};

/* Operators of two characters; the others are their own character. */
enum jinja_op {
	JINJA_OP_EQ = 128,
	JINJA_OP_NE,
	JINJA_OP_GE,
	JINJA_OP_LE,
	JINJA_OP_FLOORDIV,
	JINJA_OP_POW,
	JINJA_OP_IN, /* these two only in the tree */
	JINJA_OP_NOT_IN,
};

struct jinja_token {
	uint8_t kind;
	uint8_t op;
	uint32_t line;
	struct jinja_str str; /* DATA, NAME, STRING */
	union {
		int64_t i;
		double f;
	} num;
};

struct jinja_tokens {
	struct jinja_token *data; /* [len], the last one is END */
	size_t len, cap;
};

/* Token memory and text lie in `arena`, which must have a limit. */
enum status jinja_lex(struct jinja_tokens *out, struct arena *arena, const char *source, size_t len,
	const char *what, struct error *err);

#endif
