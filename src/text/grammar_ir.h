/*
 * What the readers of schemas, expressions and grammars write: trees of nodes, and rules that call each
 * other; internal to text/.
 *
 * Nothing here fails by itself. When a bound is passed, `over` is set and nodes come out empty; whoever turns
 * the trees into states looks at it. Chains of g_seq() and g_alt() grow to the left: only real nesting counts
 * as depth, and readers bound that by G_MAX_DEPTH.
 */
#ifndef TEXT_GRAMMAR_IR_H
#define TEXT_GRAMMAR_IR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

#define G_NO_MAX UINT32_MAX
#define G_MAX_REPEAT 100000u
#define G_MAX_DEPTH 200
#define G_MAX_CODE_POINT 0x10FFFFu

enum g_kind {
	G_EMPTY,  /* the empty text */
	G_NEVER,  /* no text */
	G_BYTES,
	G_CLASS,  /* one code point, in UTF-8 */
	G_SEQ,
	G_ALT,
	G_REPEAT,
	G_CALL,   /* a rule */
	G_TOKEN,  /* one token of the vocabulary */
};

struct g_range {
	uint32_t lo, hi; /* code points, both included */
};

struct g_node {
	enum g_kind kind;
	uint32_t n;              /* bytes, ranges; the rule, the token; REPEAT: at least */
	uint32_t max;            /* REPEAT: at most, or G_NO_MAX */
	struct g_node *a, *b;    /* SEQ, ALT; REPEAT: a */
	const char *bytes;
	const struct g_range *ranges; /* sorted, apart */
};

struct g_rule {
	struct g_node *node; /* NULL: called, not yet written */
	const char *name;    /* for messages; or NULL */
	const char *tool;    /* whose arguments it is, which must be possible; not owned, or NULL */
};

struct grammar_ir {
	struct arena arena;
	struct g_rule *rules; /* owned [n_rules] */
	size_t n_rules, cap_rules;
	uint64_t began_ns;    /* of processor time */
	uint32_t ticks;
	bool over, late;
	/* Rules that JSON needs again and again; 0: not there yet, else index + 1. */
	uint32_t json_string, json_value, json_number, json_integer, json_ws;
	struct multiples *multiples; /* in the arena; by divisor */
};

void grammar_ir_init(struct grammar_ir *ir);
void grammar_ir_deinit(struct grammar_ir *ir);
/* E_LIMIT when it was too much or took too long. */
enum status grammar_ir_check(struct grammar_ir *ir, struct error *err);
/* Whether the time for compiling is over; looks at the clock now and then. */
bool grammar_ir_late(struct grammar_ir *ir);

struct g_node *g_empty(struct grammar_ir *ir);
struct g_node *g_never(struct grammar_ir *ir);
struct g_node *g_bytes(struct grammar_ir *ir, const char *bytes, size_t len);
struct g_node *g_text(struct grammar_ir *ir, const char *text);
struct g_node *g_seq(struct grammar_ir *ir, struct g_node *a, struct g_node *b);
struct g_node *g_alt(struct grammar_ir *ir, struct g_node *a, struct g_node *b); /* a may be NULL */
struct g_node *g_repeat(struct grammar_ir *ir, struct g_node *a, uint32_t min, uint32_t max);
struct g_node *g_optional(struct grammar_ir *ir, struct g_node *a);
struct g_node *g_call(struct grammar_ir *ir, uint32_t rule);
struct g_node *g_token(struct grammar_ir *ir, int32_t id);
/* Ranges in any order, overlapping or not; `outside`: all other code points. */
struct g_node *g_class(struct grammar_ir *ir, const struct g_range *ranges, size_t n, bool outside);
/* One of n texts; sorts the array, and common beginnings are shared. */
struct g_word {
	const char *text;
	size_t len;
};
struct g_node *g_words(struct grammar_ir *ir, struct g_word *words, size_t n);

uint32_t g_rule_new(struct grammar_ir *ir, const char *name); /* the name is copied; or NULL */
void g_rule_set(struct grammar_ir *ir, uint32_t rule, struct g_node *node);

/* Ranges that grow while a class is read. */
struct g_ranges {
	struct g_range *at; /* owned */
	size_t n, cap;
};
void g_ranges_add(struct g_ranges *r, uint32_t lo, uint32_t hi);
void g_ranges_deinit(struct g_ranges *r);
/* Sorts, joins, and with `outside` complements. */
void g_ranges_settle(struct g_ranges *r, bool outside);

/* --- readers --------------------------------------------------------------------------------------------- */

/*
 * json: the text is the inside of a JSON string, so that a code point which must be escaped there is.
 * search: a part of the text may match, unless ^ and $ say otherwise.
 */
struct regex_mode {
	bool json, search;
};
enum status grammar_read_regex(struct g_node **out, struct grammar_ir *ir, const char *text, size_t len,
	struct regex_mode mode, struct error *err);
/* A class inside a JSON string, each code point in its usual spelling. Consumes the ranges. */
struct g_node *g_json_class(struct grammar_ir *ir, struct g_ranges *r);

/* *root: the rule `root`. */
enum status grammar_read_ebnf(uint32_t *root, struct grammar_ir *ir, const char *text, size_t len,
	struct error *err);

/* Numbers in decimal without exponent; a bound that is not given is infinite. */
struct number_bounds {
	bool has_min, has_max, min_open, max_open; /* open: the bound itself is outside */
	long double min, max;    /* exact: whole numbers of 64 bits, and doubles */
};
enum status grammar_number_node(struct g_node **out, struct grammar_ir *ir, const struct number_bounds *b,
	bool integer, struct error *err);
/* Multiples of by, in whole digits; the bounds are those of grammar_number_node(). */
enum status grammar_multiple_node(struct g_node **out, struct grammar_ir *ir, const struct number_bounds *b, double by,
	struct error *err);

/* A regular expression for a format of strings; NULL for one that is not known. */
const char *grammar_format_regex(const char *format);

#endif
