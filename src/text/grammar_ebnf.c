/*
 * EBNF to rules, in the dialect that vLLM's xgrammar and llama.cpp read:
 *
 *   root ::= greeting " " name      # the answer is what `root` says
 *   greeting ::= "hello" | "good " ("morning" | "day")
 *   name ::= [A-Z] [a-z]{1,20}
 *
 * White space, line breaks too, only separates; a rule ends where the next NAME ::= begins.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/grammar_ir.h"

#define MAX_NAME 128u

struct names { /* rules by name */
	uint32_t *slots; /* owned [mask + 1]: index + 1 */
	uint32_t mask;
};

struct reader {
	struct grammar_ir *ir;
	const char *s, *at, *end;
	struct names names;
	struct error *err;
	int depth;
};

static enum status fail(struct reader *r, enum status code, const char *what)
{
	size_t line = 1;

	for (const char *p = r->s; p < r->at; p++)
		line += *p == '\n';
	return error_set(r->err, code, "grammar, line %zu: %s", line, what);
}

static void skip(struct reader *r)
{
	for (; r->at < r->end; r->at++) {
		if (*r->at == '#') {
			while (r->at < r->end && *r->at != '\n')
				r->at++;
			if (r->at == r->end)
				return;
		} else if (!strchr(" \t\r\n", *r->at) || !*r->at) {
			return;
		}
	}
}

static bool take(struct reader *r, char c)
{
	if (r->at == r->end || *r->at != c)
		return false;
	r->at++;
	return true;
}

static bool name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
		c == '.';
}

/* A name at r->at; 0 when there is none. */
static size_t name_len(const struct reader *r)
{
	size_t n = 0;

	if (r->at < r->end && (*r->at == '.' || *r->at == '-'))
		return 0;
	while (r->at + n < r->end && name_char(r->at[n]))
		n++;
	return n;
}

/* Whether NAME ::= begins here. */
static bool begins_rule(const struct reader *r)
{
	struct reader look = *r;
	size_t n = name_len(r);

	look.at += n;
	skip(&look);
	return n && look.end - look.at >= 3 && memcmp(look.at, "::=", 3) == 0;
}

/* --- names ----------------------------------------------------------------------------------------------- */

static uint32_t hash(const char *s, size_t n)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)s[i]) * 16777619u;
	return h;
}

static void put(struct reader *r, uint32_t rule)
{
	const char *name = r->ir->rules[rule].name;
	uint32_t slot = hash(name, strlen(name)) & r->names.mask;

	while (r->names.slots[slot])
		slot = (slot + 1) & r->names.mask;
	r->names.slots[slot] = rule + 1;
}

static void grow(struct reader *r)
{
	r->names.mask = r->names.mask ? 2 * r->names.mask + 1 : 255;
	r->names.slots = mem_realloc(r->names.slots, (r->names.mask + 1) * sizeof(*r->names.slots));
	memset(r->names.slots, 0, (r->names.mask + 1) * sizeof(*r->names.slots));
	for (uint32_t i = 0; i < r->ir->n_rules; i++) {
		if (r->ir->rules[i].name)
			put(r, i);
	}
}

/* The rule of this name, made when it is new. */
static enum status rule_of(struct reader *r, size_t n, uint32_t *out)
{
	char name[MAX_NAME + 1];
	uint32_t slot;

	if (n > MAX_NAME)
		return fail(r, E_LIMIT, "a name of more than 128 bytes");
	memcpy(name, r->at, n);
	name[n] = 0;
	r->at += n;
	for (slot = hash(name, n) & r->names.mask; r->names.slots[slot]; slot = (slot + 1) & r->names.mask) {
		if (strcmp(r->ir->rules[r->names.slots[slot] - 1].name, name) == 0) {
			*out = r->names.slots[slot] - 1;
			return OK;
		}
	}
	*out = g_rule_new(r->ir, name);
	TRY(grammar_ir_check(r->ir, r->err));
	if (!r->ir->rules[*out].name) {
		r->ir->over = true;
		return grammar_ir_check(r->ir, r->err);
	}
	put(r, *out);
	if (r->ir->n_rules > r->names.mask / 2)
		grow(r);
	return OK;
}

/* --- literals and classes -------------------------------------------------------------------------------- */

static int hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

static enum status hex(struct reader *r, int n, uint32_t *out)
{
	*out = 0;
	for (; n > 0; n--) {
		int v = r->at < r->end ? hex_value(*r->at) : -1;

		if (v < 0)
			return fail(r, E_INVAL, "expected hexadecimal digits");
		*out = *out * 16 + (uint32_t)v;
		r->at++;
	}
	return *out <= G_MAX_CODE_POINT ? OK : fail(r, E_INVAL, "a code point above 10FFFF");
}

static enum status escape(struct reader *r, uint32_t *out)
{
	static const char names[] = "nrtbfv0ae", values[] = "\n\r\t\b\f\v\0\a\033";
	char c = r->at < r->end ? *r->at++ : 0;
	const char *known = c ? strchr(names, c) : NULL;

	if (known) {
		*out = (unsigned char)values[known - names];
		return OK;
	}
	if (c == 'x')
		return hex(r, 2, out);
	if (c == 'u')
		return hex(r, 4, out);
	if (c == 'U')
		return hex(r, 8, out);
	if (!strchr("\"'\\[]-^?/", c) || !c)
		return fail(r, E_INVAL, "an unknown escape");
	*out = (unsigned char)c;
	return OK;
}

/* One code point of a literal or class, escapes read. The text is valid UTF-8. */
static enum status point(struct reader *r, uint32_t *out)
{
	unsigned char c = (unsigned char)*r->at++;
	int more = c < 0x80 ? 0 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;

	if (c == '\\')
		return escape(r, out);
	*out = more ? c & (0x3Fu >> more) : c;
	for (; more > 0 && r->at < r->end; more--)
		*out = *out << 6 | ((unsigned char)*r->at++ & 0x3F);
	return OK;
}

static enum status literal(struct reader *r, char quote, struct g_node **out)
{
	struct g_node *seq = g_empty(r->ir);

	while (r->at < r->end && *r->at != quote) {
		struct g_range c;

		if (*r->at == '\n')
			return fail(r, E_INVAL, "a line break in a literal; write \\n");
		TRY(point(r, &c.lo));
		c.hi = c.lo;
		seq = g_seq(r->ir, seq, g_class(r->ir, &c, 1, false));
	}
	if (!take(r, quote))
		return fail(r, E_INVAL, "a literal without its end");
	*out = seq;
	return OK;
}

static enum status read_class(struct reader *r, struct g_ranges *set)
{
	bool outside = take(r, '^');

	while (r->at < r->end && *r->at != ']') {
		uint32_t lo, hi;

		TRY(point(r, &lo));
		hi = lo;
		if (r->end - r->at >= 2 && r->at[0] == '-' && r->at[1] != ']') {
			r->at++;
			TRY(point(r, &hi));
			if (hi < lo)
				return fail(r, E_INVAL, "a range that ends before it begins");
		}
		g_ranges_add(set, lo, hi);
	}
	if (!take(r, ']'))
		return fail(r, E_INVAL, "a class without its end");
	g_ranges_settle(set, outside);
	return OK;
}

static enum status class(struct reader *r, struct g_node **out)
{
	struct g_ranges set = { 0 };
	enum status st = read_class(r, &set);

	if (st == OK)
		*out = set.n ? g_class(r->ir, set.at, set.n, false) : g_never(r->ir);
	g_ranges_deinit(&set);
	return st;
}

/* --- expressions ----------------------------------------------------------------------------------------- */

static enum status alternatives(struct reader *r, struct g_node **out);

static enum status group(struct reader *r, struct g_node **out)
{
	skip(r);
	if (r->at < r->end && *r->at == '=')
		return fail(r, E_UNSUPPORTED, "looking ahead is not supported");
	if (++r->depth > G_MAX_DEPTH)
		return fail(r, E_LIMIT, "groups are nested too deep");
	TRY(alternatives(r, out));
	r->depth--;
	return take(r, ')') ? OK : fail(r, E_INVAL, "expected )");
}

static enum status atom(struct reader *r, struct g_node **out)
{
	static const struct g_range line_break = { '\n', '\n' };
	size_t n = name_len(r);
	uint32_t rule;

	if (n) {
		TRY(rule_of(r, n, &rule));
		*out = g_call(r->ir, rule);
		return OK;
	}
	if (take(r, '"'))
		return literal(r, '"', out);
	if (take(r, '\''))
		return literal(r, '\'', out);
	if (take(r, '['))
		return class(r, out);
	if (take(r, '('))
		return group(r, out);
	if (take(r, '.')) {
		*out = g_class(r->ir, &line_break, 1, true);
		return OK;
	}
	return fail(r, E_INVAL, "expected a literal, a class, a name or a group");
}

static enum status count(struct reader *r, uint32_t *out)
{
	uint32_t v = 0;

	skip(r);
	if (r->at == r->end || *r->at < '0' || *r->at > '9')
		return fail(r, E_INVAL, "expected a number of repetitions");
	for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++) {
		v = v * 10 + (uint32_t)(*r->at - '0');
		if (v > G_MAX_REPEAT)
			return fail(r, E_LIMIT, "more than 100000 repetitions");
	}
	*out = v;
	skip(r);
	return OK;
}

static enum status braces(struct reader *r, uint32_t *min, uint32_t *max)
{
	*min = 0;
	skip(r);
	if (r->at == r->end || *r->at != ',')
		TRY(count(r, min));
	*max = *min;
	if (take(r, ',')) {
		*max = G_NO_MAX;
		skip(r);
		if (r->at < r->end && *r->at != '}')
			TRY(count(r, max));
	}
	if (!take(r, '}'))
		return fail(r, E_INVAL, "expected }");
	return *max < *min ? fail(r, E_INVAL, "repetitions that end before they begin") : OK;
}

static enum status quantified(struct reader *r, struct g_node **node)
{
	uint32_t min, max;

	for (;;) {
		if (take(r, '*'))
			min = 0, max = G_NO_MAX;
		else if (take(r, '+'))
			min = 1, max = G_NO_MAX;
		else if (take(r, '?'))
			min = 0, max = 1;
		else if (take(r, '{'))
			TRY(braces(r, &min, &max));
		else
			return OK;
		*node = g_repeat(r->ir, *node, min, max);
		if (++r->depth > G_MAX_DEPTH)
			return fail(r, E_LIMIT, "too many repetitions of repetitions");
	}
}

static enum status sequence(struct reader *r, struct g_node **out)
{
	struct g_node *seq = g_empty(r->ir);
	int depth = r->depth;

	for (skip(r); r->at < r->end && *r->at != '|' && *r->at != ')' && !begins_rule(r); skip(r)) {
		struct g_node *node;

		TRY(atom(r, &node));
		TRY(quantified(r, &node));
		r->depth = depth;
		seq = g_seq(r->ir, seq, node);
		TRY(grammar_ir_check(r->ir, r->err));
	}
	*out = seq;
	return OK;
}

static enum status alternatives(struct reader *r, struct g_node **out)
{
	struct g_node *alt = NULL;

	do {
		struct g_node *seq;

		TRY(sequence(r, &seq));
		alt = g_alt(r->ir, alt, seq);
	} while (take(r, '|'));
	*out = alt;
	return OK;
}

/* NAME: with one colon, ?NAME, !NAME, a directive or a comment of Lark. */
static bool is_lark(const struct reader *r)
{
	struct reader look = *r;

	if (*r->at == '?' || *r->at == '!' || *r->at == '%' || (r->end - r->at >= 2 && memcmp(r->at, "//", 2) == 0))
		return true;
	look.at += name_len(r);
	skip(&look);
	return look.at > r->at && look.at < look.end && *look.at == ':';
}

static enum status rules(struct reader *r)
{
	for (skip(r); r->at < r->end; skip(r)) {
		struct g_node *node;
		uint32_t rule;

		if (!begins_rule(r))
			return is_lark(r) ? fail(r, E_UNSUPPORTED, "grammars in Lark's form (NAME: ...) are not supported: write "
				"NAME ::= ...") : fail(r, E_INVAL, "expected NAME ::=");
		TRY(rule_of(r, name_len(r), &rule));
		if (r->ir->rules[rule].node)
			return fail(r, E_INVAL, "a rule that is defined twice");
		skip(r);
		r->at += 3;
		TRY(alternatives(r, &node));
		if (r->at < r->end && *r->at == ')')
			return fail(r, E_INVAL, "a ) that closes nothing");
		g_rule_set(r->ir, rule, node);
	}
	return OK;
}

enum status grammar_read_ebnf(uint32_t *root, struct grammar_ir *ir, const char *text, size_t len,
	struct error *err)
{
	struct reader r = { .ir = ir, .s = text, .at = "root", .end = text + len, .err = err };
	enum status st;

	grow(&r);
	TRY_GOTO(out, rule_of(&r, 4, root));
	r.at = text;
	st = rules(&r);
	if (st == OK && !ir->rules[*root].node)
		st = error_set(err, E_INVAL, "grammar: there is no rule root");
out:
	free(r.names.slots);
	return st;
}
