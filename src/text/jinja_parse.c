/*
 * Parser of templates: statements, and the life of a compiled template. Recursion is bounded by
 * `depth`, and the height of every tree by JINJA_MAX_HEIGHT, so that the evaluator's is too.
 */
#include "text/jinja_parse.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/jinja_run.h"
#include "text/unicode.h"

#define MAX_TREE_BYTES ((size_t)256 << 20)

enum status jinja_parse_fail(struct jinja_parser *p, enum status code, const char *fmt, ...)
{
	char msg[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	return error_set(p->err, code, "%s: line %u: %s", p->t->what, p->tok->line, msg);
}

/* The current token as a reader would name it. */
static void token_text(const struct jinja_token *tok, char dst[48])
{
	static const char *const pairs[] = {"==", "!=", ">=", "<=", "//", "**"};
	int n = tok->str.len > 30 ? 30 : (int)tok->str.len;

	switch ((enum jinja_token_kind)tok->kind) {
	case JINJA_T_END:
		snprintf(dst, 48, "the end of the template");
		break;
	case JINJA_T_DATA:
		snprintf(dst, 48, "text");
		break;
	case JINJA_T_OUT_BEGIN:
	case JINJA_T_OUT_END:
		snprintf(dst, 48, tok->kind == JINJA_T_OUT_END ? "'}}'" : "'{{'");
		break;
	case JINJA_T_TAG_BEGIN:
	case JINJA_T_TAG_END:
		snprintf(dst, 48, tok->kind == JINJA_T_TAG_END ? "'%%}'" : "'{%%'");
		break;
	case JINJA_T_NAME:
		snprintf(dst, 48, "'%.*s'", n, tok->str.s);
		break;
	case JINJA_T_STRING:
		snprintf(dst, 48, "a string");
		break;
	case JINJA_T_INT:
	case JINJA_T_FLOAT:
		snprintf(dst, 48, "a number");
		break;
	case JINJA_T_OP:
		if (tok->op >= JINJA_OP_EQ)
			snprintf(dst, 48, "'%s'", pairs[tok->op - JINJA_OP_EQ]);
		else
			snprintf(dst, 48, "'%c'", tok->op);
		break;
	}
}

enum status jinja_parse_unexpected(struct jinja_parser *p, const char *expected)
{
	char found[48];

	token_text(p->tok, found);
	return jinja_parse_fail(p, E_FORMAT, "found %s, expected %s", found, expected);
}

void *jinja_parse_alloc(struct jinja_parser *p, size_t count, size_t bytes)
{
	void *mem = arena_try_alloc(&p->t->arena, count, bytes);

	if (!mem)
		error_set(p->err, E_LIMIT, "%s: template too large", p->t->what);
	return mem;
}

enum status jinja_node_new(struct jinja_parser *p, struct jinja_node **out, enum jinja_kind kind)
{
	struct jinja_node *n = jinja_parse_alloc(p, 1, sizeof(*n));

	if (!n)
		return E_LIMIT;
	n->kind = (uint8_t)kind;
	n->line = p->tok->line;
	n->height = 1;
	*out = n;
	return OK;
}

enum status jinja_node_over(
	struct jinja_parser *p, struct jinja_node *parent, const struct jinja_node *child)
{
	if (!child || child->height < parent->height)
		return OK;
	if (child->height >= JINJA_MAX_HEIGHT)
		return jinja_parse_fail(
			p, E_LIMIT, "expression of more than %d levels", JINJA_MAX_HEIGHT);
	parent->height = (uint16_t)(child->height + 1);
	return OK;
}

/* Capacity is the power of two at or above the length, so no field need hold it. */
static bool full(size_t n)
{
	return n == 0 || (n >= 4 && (n & (n - 1)) == 0);
}

enum status jinja_node_add(struct jinja_parser *p, struct jinja_node *parent,
	struct jinja_node *kid, const struct jinja_str *name)
{
	size_t n = parent->n_kids, cap = n ? 2 * n : 4;

	if (full(n)) {
		struct jinja_node **kids = jinja_parse_alloc(p, cap, sizeof(struct jinja_node *));
		const struct jinja_str **names =
			jinja_parse_alloc(p, cap, sizeof(const struct jinja_str *));

		if (!kids || !names)
			return E_LIMIT;
		if (n) {
			memcpy(kids, parent->kids, n * sizeof(*kids));
			memcpy(names, parent->kid_names, n * sizeof(*names));
		}
		parent->kids = kids;
		parent->kid_names = names;
	}
	parent->kids[n] = kid;
	parent->kid_names[n] = name;
	parent->n_kids++;
	return jinja_node_over(p, parent, kid);
}

static enum status body_add(
	struct jinja_parser *p, struct jinja_body *body, struct jinja_node *node)
{
	size_t n = body->n, cap = n ? 2 * n : 4;

	if (full(n)) {
		struct jinja_node **nodes = jinja_parse_alloc(p, cap, sizeof(struct jinja_node *));

		if (!nodes)
			return E_LIMIT;
		if (n)
			memcpy(nodes, body->nodes, n * sizeof(struct jinja_node *));
		body->nodes = nodes;
	}
	body->nodes[body->n++] = node;
	return OK;
}

enum status jinja_parse_name(struct jinja_parser *p, struct jinja_str str, uint32_t *name)
{
	struct jinja_template *t = p->t;
	size_t i;

	for (i = 0; i < t->n_names; i++) {
		if (jinja_str_equal(t->names[i].str, str)) {
			*name = (uint32_t)i;
			return OK;
		}
	}
	if (t->n_names == JINJA_MAX_NAMES)
		return jinja_parse_fail(
			p, E_LIMIT, "more than %d different names", JINJA_MAX_NAMES);
	t->names[i] = (struct jinja_name){.str = str, .function = jinja_function_find(str)};
	t->n_names++;
	*name = (uint32_t)i;
	return OK;
}

bool jinja_at_op(const struct jinja_parser *p, unsigned op)
{
	return p->tok->kind == JINJA_T_OP && p->tok->op == op;
}

static bool is_word(const struct jinja_token *tok, const char *word)
{
	return tok->kind == JINJA_T_NAME && tok->str.len == strlen(word) &&
	       memcmp(tok->str.s, word, tok->str.len) == 0;
}

bool jinja_at_word(const struct jinja_parser *p, const char *word)
{
	return is_word(p->tok, word);
}

bool jinja_skip_op(struct jinja_parser *p, unsigned op)
{
	if (!jinja_at_op(p, op))
		return false;
	p->tok++;
	return true;
}

bool jinja_skip_word(struct jinja_parser *p, const char *word)
{
	if (!jinja_at_word(p, word))
		return false;
	p->tok++;
	return true;
}

enum status jinja_expect_op(struct jinja_parser *p, unsigned op)
{
	char expected[8];

	if (jinja_skip_op(p, op))
		return OK;
	snprintf(expected, sizeof(expected), "'%c'", (int)op);
	return jinja_parse_unexpected(p, expected);
}

enum status jinja_expect_name(struct jinja_parser *p, struct jinja_str *out)
{
	if (p->tok->kind != JINJA_T_NAME)
		return jinja_parse_unexpected(p, "a name");
	*out = p->tok->str;
	p->tok++;
	return OK;
}

static enum status expect_close(struct jinja_parser *p)
{
	if (p->tok->kind != JINJA_T_TAG_END)
		return jinja_parse_unexpected(p, "'%}'");
	p->tok++;
	return OK;
}

static enum status parse_statement(struct jinja_parser *p, struct jinja_body *body);

/*
 * Statements up to a tag named by one of `ends` (space-separated), which is left current, behind
 * its '{%'. ends NULL: to the end of the template. `opener` is the tag that began the block.
 */
static enum status parse_body(struct jinja_parser *p, struct jinja_body *body, const char *ends,
	const struct jinja_token *opener)
{
	if (++p->depth > JINJA_MAX_HEIGHT / 2)
		return jinja_parse_fail(
			p, E_LIMIT, "blocks more than %d deep", JINJA_MAX_HEIGHT / 2);
	for (;;) {
		const struct jinja_token *tok = p->tok;
		struct jinja_node *n;

		if (tok->kind == JINJA_T_END) {
			if (ends) {
				p->tok = opener;
				return jinja_parse_fail(p, E_FORMAT,
					"block '%.*s' without an end, expected '%s'",
					(int)opener->str.len, opener->str.s, ends);
			}
			break;
		}
		p->tok++;
		if (tok->kind == JINJA_T_DATA) {
			TRY(jinja_node_new(p, &n, JINJA_N_DATA));
			n->str = tok->str;
			TRY(body_add(p, body, n));
		} else if (tok->kind == JINJA_T_OUT_BEGIN) {
			TRY(jinja_node_new(p, &n, JINJA_N_OUTPUT));
			TRY(jinja_parse_tuple(p, true, &n->a));
			if (p->tok->kind != JINJA_T_OUT_END)
				return jinja_parse_unexpected(p, "'}}'");
			p->tok++;
			TRY(body_add(p, body, n));
		} else {
			const char *e;

			if (p->tok->kind != JINJA_T_NAME)
				return jinja_parse_unexpected(p, "the name of a tag");
			for (e = ends; e && *e; e += strcspn(e, " "), e += *e == ' ') {
				if (strcspn(e, " ") == p->tok->str.len &&
					memcmp(e, p->tok->str.s, p->tok->str.len) == 0)
					break;
			}
			if (e && *e)
				break;
			TRY(parse_statement(p, body));
		}
	}
	p->depth--;
	return OK;
}

/* The body of `opener` and its end tag, whose name must be `end`. */
static enum status parse_block(struct jinja_parser *p, struct jinja_body *body, const char *end,
	const struct jinja_token *opener)
{
	TRY(expect_close(p));
	TRY(parse_body(p, body, end, opener));
	p->tok++;
	return expect_close(p);
}

static enum status parse_if(struct jinja_parser *p, struct jinja_body *body)
{
	const struct jinja_token *opener = p->tok++;
	struct jinja_node *n;

	TRY(jinja_node_new(p, &n, JINJA_N_IF));
	TRY(jinja_parse_tuple(p, false, &n->a));
	TRY(expect_close(p));
	TRY(parse_body(p, &n->body, "elif else endif", opener));
	TRY(body_add(p, body, n));
	if (jinja_at_word(p, "elif")) {
		if (++p->depth > JINJA_MAX_HEIGHT / 2)
			return jinja_parse_fail(
				p, E_LIMIT, "more than %d branches", JINJA_MAX_HEIGHT / 2);
		TRY(parse_if(p, &n->other));
		p->depth--;
		return OK;
	}
	if (jinja_skip_word(p, "else"))
		return parse_block(p, &n->other, "endif", opener);
	p->tok++;
	return expect_close(p);
}

static enum status parse_for(struct jinja_parser *p, struct jinja_body *body)
{
	const struct jinja_token *opener = p->tok++;
	struct jinja_node *n;

	TRY(jinja_node_new(p, &n, JINJA_N_FOR));
	TRY(jinja_parse_target(p, false, &n->a));
	if (!jinja_skip_word(p, "in"))
		return jinja_parse_unexpected(p, "'in'");
	TRY(jinja_parse_tuple(p, false, &n->b));
	if (jinja_skip_word(p, "if"))
		TRY(jinja_parse_expr(p, &n->c));
	if (jinja_at_word(p, "recursive"))
		return jinja_parse_fail(p, E_UNSUPPORTED, "recursive loops are not supported");
	TRY(expect_close(p));
	p->loops++;
	TRY(parse_body(p, &n->body, "else endfor", opener));
	p->loops--;
	TRY(body_add(p, body, n));
	if (jinja_skip_word(p, "else"))
		return parse_block(p, &n->other, "endfor", opener);
	p->tok++;
	return expect_close(p);
}

static enum status parse_set(struct jinja_parser *p, struct jinja_body *body)
{
	const struct jinja_token *opener = p->tok++;
	struct jinja_node *n;

	TRY(jinja_node_new(p, &n, JINJA_N_SET));
	TRY(jinja_parse_target(p, true, &n->a));
	TRY(body_add(p, body, n));
	if (jinja_skip_op(p, '=')) {
		TRY(jinja_parse_tuple(p, true, &n->b));
		return expect_close(p);
	}
	n->kind = JINJA_N_SETBLOCK;
	if (jinja_skip_op(p, '|'))
		TRY(jinja_parse_filters(p, &n->b));
	return parse_block(p, &n->body, "endset", opener);
}

static enum status parse_macro(struct jinja_parser *p, struct jinja_body *body)
{
	const struct jinja_token *opener = p->tok++;
	struct jinja_node *n, *param, *defaults;
	unsigned loops = p->loops;

	TRY(jinja_node_new(p, &n, JINJA_N_MACRO));
	TRY(jinja_node_new(p, &defaults, JINJA_N_LIST));
	TRY(jinja_expect_name(p, &n->str));
	TRY(jinja_parse_name(p, n->str, &n->name));
	TRY(jinja_expect_op(p, '('));
	while (!jinja_at_op(p, ')')) {
		struct jinja_node *value = NULL;

		if (n->n_kids)
			TRY(jinja_expect_op(p, ','));
		TRY(jinja_node_new(p, &param, JINJA_N_NAME));
		TRY(jinja_expect_name(p, &param->str));
		TRY(jinja_parse_name(p, param->str, &param->name));
		if (jinja_skip_op(p, '='))
			TRY(jinja_parse_expr(p, &value));
		else if (defaults->n_kids && defaults->kids[defaults->n_kids - 1])
			return jinja_parse_fail(p, E_FORMAT,
				"parameter '%.*s' without a default after one with a default",
				(int)param->str.len, param->str.s);
		TRY(jinja_node_add(p, n, param, NULL));
		TRY(jinja_node_add(p, defaults, value, NULL));
	}
	p->tok++;
	n->defaults = defaults->kids;
	p->loops = 0;
	p->macros++;
	TRY(parse_block(p, &n->body, "endmacro", opener));
	p->macros--;
	p->loops = loops;
	return body_add(p, body, n);
}

static enum status parse_with(struct jinja_parser *p, struct jinja_body *body)
{
	const struct jinja_token *opener = p->tok++;
	struct jinja_node *n, *kid;

	TRY(jinja_node_new(p, &n, JINJA_N_WITH));
	while (p->tok->kind != JINJA_T_TAG_END) {
		if (n->n_kids)
			TRY(jinja_expect_op(p, ','));
		TRY(jinja_parse_target(p, false, &kid));
		TRY(jinja_node_add(p, n, kid, NULL));
		TRY(jinja_expect_op(p, '='));
		TRY(jinja_parse_expr(p, &kid));
		TRY(jinja_node_add(p, n, kid, NULL));
	}
	TRY(body_add(p, body, n));
	return parse_block(p, &n->body, "endwith", opener);
}

static enum status parse_loop_control(
	struct jinja_parser *p, struct jinja_body *body, enum jinja_kind kind)
{
	struct jinja_node *n;

	if (!p->loops)
		return jinja_parse_fail(
			p, E_FORMAT, "'%.*s' outside a loop", (int)p->tok->str.len, p->tok->str.s);
	p->tok++;
	TRY(jinja_node_new(p, &n, kind));
	TRY(body_add(p, body, n));
	return expect_close(p);
}

/* One tag and what belongs to it; the current token is its name. */
static enum status parse_statement(struct jinja_parser *p, struct jinja_body *body)
{
	static const char *const outside[] = {"include", "import", "from", "extends", "block",
		"call", "autoescape", "do", "trans", "debug", NULL};
	const struct jinja_token *opener = p->tok;
	struct jinja_node *n;
	size_t i;

	if (jinja_at_word(p, "if"))
		return parse_if(p, body);
	if (jinja_at_word(p, "for"))
		return parse_for(p, body);
	if (jinja_at_word(p, "set"))
		return parse_set(p, body);
	if (jinja_at_word(p, "macro"))
		return parse_macro(p, body);
	if (jinja_at_word(p, "with"))
		return parse_with(p, body);
	if (jinja_at_word(p, "break"))
		return parse_loop_control(p, body, JINJA_N_BREAK);
	if (jinja_at_word(p, "continue"))
		return parse_loop_control(p, body, JINJA_N_CONTINUE);
	if (jinja_skip_word(p, "generation")) /* marks text for training; a scope of its own */
	{
		TRY(jinja_node_new(p, &n, JINJA_N_WITH));
		TRY(body_add(p, body, n));
		return parse_block(p, &n->body, "endgeneration", opener);
	}
	if (jinja_skip_word(p, "filter")) {
		TRY(jinja_node_new(p, &n, JINJA_N_FILTERBLOCK));
		TRY(jinja_parse_filters(p, &n->b));
		TRY(body_add(p, body, n));
		return parse_block(p, &n->body, "endfilter", opener);
	}
	for (i = 0; outside[i]; i++) {
		if (jinja_at_word(p, outside[i]))
			return jinja_parse_fail(
				p, E_UNSUPPORTED, "tag '%s' is not supported", outside[i]);
	}
	return jinja_parse_fail(p, E_FORMAT, "unexpected tag '%.*s'",
		p->tok->str.len > 40 ? 40 : (int)p->tok->str.len, p->tok->str.s);
}

static enum status parse_template(
	struct jinja_template *t, const char *source, size_t len, struct error *err)
{
	struct jinja_parser p = {.t = t, .err = err};
	struct jinja_tokens tokens = {0};
	uint32_t loop;

	if (len > JINJA_MAX_SOURCE_BYTES)
		return error_set(err, E_LIMIT, "%s: template of %zu bytes, at most %zu are read",
			t->what, len, JINJA_MAX_SOURCE_BYTES);
	if (utf8_valid_len(source, len) != len)
		return error_set(err, E_FORMAT, "%s: not valid UTF-8 at byte %zu", t->what,
			utf8_valid_len(source, len));
	t->names = jinja_parse_alloc(&p, JINJA_MAX_NAMES, sizeof(*t->names));
	if (!t->names)
		return E_LIMIT;
	TRY(jinja_lex(&tokens, &t->arena, source, len, t->what, err));
	p.tok = tokens.data;
	TRY(jinja_parse_name(&p, (struct jinja_str){.s = "loop", .len = 4}, &loop));
	return parse_body(&p, &t->body, NULL, NULL);
}

enum status jinja_compile(struct jinja_template **out, const char *source, size_t len,
	const char *what, struct error *err)
{
	struct jinja_template *t = mem_alloc(sizeof(*t));
	enum status st;

	arena_init(&t->arena, MAX_TREE_BYTES);
	snprintf(t->what, sizeof(t->what), "%s", what);
	st = parse_template(t, source, len, err);
	if (st != OK) {
		jinja_destroy(t);
		return st;
	}
	*out = t;
	return OK;
}

void jinja_destroy(struct jinja_template *t)
{
	if (!t)
		return;
	arena_deinit(&t->arena);
	free(t);
}
