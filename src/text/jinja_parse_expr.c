/*
 * Expressions, by the grammar of jinja2/parser.py, its oddities included: ~ binds tighter than +,
 * ** groups to the left, filters and tests bind tighter than any operator but unary minus.
 */
#include <string.h>

#include "text/jinja_parse.h"
#include "text/jinja_run.h"

static enum status parse_unary(struct jinja_parser *p, bool with_filter, struct jinja_node **out);

static bool text_is(struct jinja_str s, const char *word)
{
	return s.len == strlen(word) && memcmp(s.s, word, s.len) == 0;
}

/* The end of an unparenthesised tuple or argument. */
static bool at_end(const struct jinja_parser *p)
{
	return p->tok->kind == JINJA_T_OUT_END || p->tok->kind == JINJA_T_TAG_END ||
	       p->tok->kind == JINJA_T_END || jinja_at_op(p, ')') || jinja_at_op(p, '=');
}

/* A node of two children. */
static enum status make_binary(struct jinja_parser *p, enum jinja_kind kind, unsigned op,
	struct jinja_node *a, struct jinja_node *b, struct jinja_node **out)
{
	struct jinja_node *n;

	TRY(jinja_node_new(p, &n, kind));
	n->op = (uint8_t)op;
	n->a = a;
	n->b = b;
	TRY(jinja_node_over(p, n, a));
	TRY(jinja_node_over(p, n, b));
	*out = n;
	return OK;
}

/* Arguments behind an open parenthesis, into the kids of n. */
static enum status parse_args(struct jinja_parser *p, struct jinja_node *n)
{
	bool named = false;

	while (!jinja_skip_op(p, ')')) {
		struct jinja_str *name = NULL;
		struct jinja_node *value;

		if (n->n_kids) {
			TRY(jinja_expect_op(p, ','));
			if (jinja_skip_op(p, ')'))
				break;
		}
		if (jinja_at_op(p, '*') || jinja_at_op(p, JINJA_OP_POW))
			return jinja_parse_fail(
				p, E_UNSUPPORTED, "unpacking of arguments is not supported");
		if (p->tok->kind == JINJA_T_NAME && p->tok[1].kind == JINJA_T_OP &&
			p->tok[1].op == '=') {
			name = jinja_parse_alloc(p, 1, sizeof(*name));
			if (!name)
				return E_LIMIT;
			*name = p->tok->str;
			p->tok += 2;
			named = true;
		} else if (named) {
			return jinja_parse_fail(
				p, E_FORMAT, "positional argument after a named one");
		}
		TRY(jinja_parse_expr(p, &value));
		TRY(jinja_node_add(p, n, value, name));
	}
	return OK;
}

static enum status parse_list(struct jinja_parser *p, struct jinja_node **out)
{
	struct jinja_node *n, *kid;

	TRY(jinja_node_new(p, &n, JINJA_N_LIST));
	p->tok++;
	while (!jinja_skip_op(p, ']')) {
		if (n->n_kids) {
			TRY(jinja_expect_op(p, ','));
			if (jinja_skip_op(p, ']'))
				break;
		}
		TRY(jinja_parse_expr(p, &kid));
		TRY(jinja_node_add(p, n, kid, NULL));
	}
	*out = n;
	return OK;
}

static enum status parse_dict(struct jinja_parser *p, struct jinja_node **out)
{
	struct jinja_node *n, *kid;

	TRY(jinja_node_new(p, &n, JINJA_N_DICT));
	p->tok++;
	while (!jinja_skip_op(p, '}')) {
		if (n->n_kids) {
			TRY(jinja_expect_op(p, ','));
			if (jinja_skip_op(p, '}'))
				break;
		}
		TRY(jinja_parse_expr(p, &kid));
		TRY(jinja_node_add(p, n, kid, NULL));
		TRY(jinja_expect_op(p, ':'));
		TRY(jinja_parse_expr(p, &kid));
		TRY(jinja_node_add(p, n, kid, NULL));
	}
	*out = n;
	return OK;
}

static enum status parse_paren(struct jinja_parser *p, struct jinja_node **out)
{
	p->tok++;
	if (jinja_skip_op(p, ')'))
		return jinja_node_new(p, out, JINJA_N_TUPLE);
	TRY(jinja_parse_tuple(p, true, out));
	return jinja_expect_op(p, ')');
}

/* Adjacent string literals are one. */
static enum status parse_string(struct jinja_parser *p, struct jinja_node **out)
{
	struct jinja_str *str = jinja_parse_alloc(p, 1, sizeof(*str));
	const struct jinja_token *first = p->tok, *t;
	struct jinja_node *n;
	size_t len = 0;
	char *s;

	if (!str)
		return E_LIMIT;
	TRY(jinja_node_new(p, &n, JINJA_N_CONST));
	for (; p->tok->kind == JINJA_T_STRING; p->tok++)
		len += p->tok->str.len;
	*str = first->str;
	if (p->tok > first + 1) {
		s = jinja_parse_alloc(p, len + 1, 1);
		if (!s)
			return E_LIMIT;
		str->s = s;
		str->len = len;
		for (t = first; t < p->tok; t++) {
			memcpy(s, t->str.s, t->str.len);
			s += t->str.len;
		}
	}
	n->value = (struct jinja_value){.type = JINJA_STRING, .str = str};
	*out = n;
	return OK;
}

static enum status parse_identifier(struct jinja_parser *p, struct jinja_node **out)
{
	struct jinja_str s = p->tok->str;
	struct jinja_node *n;

	TRY(jinja_node_new(p, &n, JINJA_N_CONST));
	if (text_is(s, "true") || text_is(s, "True")) {
		n->value = jinja_bool(true);
	} else if (text_is(s, "false") || text_is(s, "False")) {
		n->value = jinja_bool(false);
	} else if (text_is(s, "none") || text_is(s, "None")) {
		n->value = jinja_none();
	} else {
		if (text_is(s, "self") || text_is(s, "super") ||
			(p->macros && (text_is(s, "caller") || text_is(s, "varargs") ||
					      text_is(s, "kwargs"))))
			return jinja_parse_fail(p, E_UNSUPPORTED,
				"variable '%.*s' is not supported", (int)s.len, s.s);
		n->kind = JINJA_N_NAME;
		n->str = s;
		TRY(jinja_parse_name(p, s, &n->name));
	}
	p->tok++;
	*out = n;
	return OK;
}

static enum status parse_primary(struct jinja_parser *p, struct jinja_node **out)
{
	const struct jinja_token *tok = p->tok;

	switch (tok->kind) {
	case JINJA_T_NAME:
		return parse_identifier(p, out);
	case JINJA_T_STRING:
		return parse_string(p, out);
	case JINJA_T_INT:
	case JINJA_T_FLOAT:
		TRY(jinja_node_new(p, out, JINJA_N_CONST));
		(*out)->value =
			tok->kind == JINJA_T_INT ? jinja_int(tok->num.i) : jinja_float(tok->num.f);
		p->tok++;
		return OK;
	default:
		if (jinja_at_op(p, '('))
			return parse_paren(p, out);
		if (jinja_at_op(p, '['))
			return parse_list(p, out);
		if (jinja_at_op(p, '{'))
			return parse_dict(p, out);
		return jinja_parse_unexpected(p, "an expression");
	}
}

static enum status parse_dot(struct jinja_parser *p, struct jinja_node *on, struct jinja_node **out)
{
	struct jinja_node *n, *index;

	p->tok++;
	if (p->tok->kind == JINJA_T_INT) {
		TRY(jinja_node_new(p, &index, JINJA_N_CONST));
		index->value = jinja_int(p->tok->num.i);
		p->tok++;
		return make_binary(p, JINJA_N_ITEM, 0, on, index, out);
	}
	TRY(make_binary(p, JINJA_N_ATTR, 0, on, NULL, &n));
	*out = n;
	return jinja_expect_name(p, &n->str);
}

static enum status parse_brackets(
	struct jinja_parser *p, struct jinja_node *on, struct jinja_node **out)
{
	struct jinja_node *n, *part = NULL;
	unsigned i;

	p->tok++;
	if (!jinja_at_op(p, ':')) {
		TRY(jinja_parse_expr(p, &part));
		if (jinja_skip_op(p, ']'))
			return make_binary(p, JINJA_N_ITEM, 0, on, part, out);
		if (jinja_at_op(p, ','))
			return jinja_parse_fail(
				p, E_UNSUPPORTED, "several subscripts in one are not supported");
	}
	TRY(make_binary(p, JINJA_N_SLICE, 0, on, NULL, &n));
	TRY(jinja_node_add(p, n, part, NULL));
	for (i = 0; i < 2; i++) {
		part = NULL;
		if (jinja_skip_op(p, ':') && !jinja_at_op(p, ':') && !jinja_at_op(p, ']'))
			TRY(jinja_parse_expr(p, &part));
		TRY(jinja_node_add(p, n, part, NULL));
	}
	*out = n;
	return jinja_expect_op(p, ']');
}

static enum status parse_call(
	struct jinja_parser *p, struct jinja_node *on, struct jinja_node **out)
{
	struct jinja_node *n;

	if (on->kind == JINJA_N_ATTR && jinja_method_find(JINJA_UNDEFINED, on->str) < 0)
		return jinja_parse_fail(p, E_UNSUPPORTED, "method '%.*s' is not supported",
			on->str.len > 40 ? 40 : (int)on->str.len, on->str.s);
	TRY(make_binary(p, JINJA_N_CALL, 0, on, NULL, &n));
	p->tok++;
	*out = n;
	return parse_args(p, n);
}

static enum status parse_postfix(struct jinja_parser *p, struct jinja_node **node)
{
	for (;;) {
		if (jinja_at_op(p, '.'))
			TRY(parse_dot(p, *node, node));
		else if (jinja_at_op(p, '['))
			TRY(parse_brackets(p, *node, node));
		else if (jinja_at_op(p, '('))
			TRY(parse_call(p, *node, node));
		else
			return OK;
	}
}

/* One filter behind its bar; `on` NULL: of the text of a block. */
static enum status parse_filter(
	struct jinja_parser *p, struct jinja_node *on, struct jinja_node **out)
{
	struct jinja_node *n;
	struct jinja_str name;
	int id;

	TRY(make_binary(p, JINJA_N_FILTER, 0, on, NULL, &n));
	TRY(jinja_expect_name(p, &name));
	id = jinja_filter_find(name);
	if (id < 0) {
		p->tok--;
		return jinja_parse_fail(p, E_UNSUPPORTED, "filter '%.*s' is not supported",
			name.len > 40 ? 40 : (int)name.len, name.s);
	}
	n->id = (unsigned)id;
	*out = n;
	return jinja_skip_op(p, '(') ? parse_args(p, n) : OK;
}

enum status jinja_parse_filters(struct jinja_parser *p, struct jinja_node **out)
{
	TRY(parse_filter(p, NULL, out));
	while (jinja_skip_op(p, '|'))
		TRY(parse_filter(p, *out, out));
	return OK;
}

/* Whether the current token begins the unparenthesised argument of a test. */
static bool at_test_arg(const struct jinja_parser *p)
{
	switch (p->tok->kind) {
	case JINJA_T_NAME:
		return !jinja_at_word(p, "else") && !jinja_at_word(p, "or") &&
		       !jinja_at_word(p, "and");
	case JINJA_T_STRING:
	case JINJA_T_INT:
	case JINJA_T_FLOAT:
		return true;
	default:
		return jinja_at_op(p, '[') || jinja_at_op(p, '{');
	}
}

static enum status parse_test(
	struct jinja_parser *p, struct jinja_node *on, struct jinja_node **out)
{
	struct jinja_node *n, *arg, *not ;
	struct jinja_str name;
	bool negated;
	int id;

	p->tok++;
	negated = jinja_skip_word(p, "not");
	TRY(make_binary(p, JINJA_N_TEST, 0, on, NULL, &n));
	TRY(jinja_expect_name(p, &name));
	id = jinja_test_find(name);
	if (id < 0) {
		p->tok--;
		return jinja_parse_fail(p, E_UNSUPPORTED, "test '%.*s' is not supported",
			name.len > 40 ? 40 : (int)name.len, name.s);
	}
	n->id = (unsigned)id;
	if (jinja_skip_op(p, '(')) {
		TRY(parse_args(p, n));
	} else if (at_test_arg(p)) {
		if (jinja_at_word(p, "is"))
			return jinja_parse_fail(p, E_FORMAT, "tests cannot be chained with 'is'");
		TRY(parse_primary(p, &arg));
		TRY(parse_postfix(p, &arg));
		TRY(jinja_node_add(p, n, arg, NULL));
	}
	*out = n;
	if (!negated)
		return OK;
	TRY(make_binary(p, JINJA_N_NOT, 0, n, NULL, &not ));
	*out = not ;
	return OK;
}

static enum status parse_filter_expr(struct jinja_parser *p, struct jinja_node **node)
{
	for (;;) {
		if (jinja_skip_op(p, '|'))
			TRY(parse_filter(p, *node, node));
		else if (jinja_at_word(p, "is"))
			TRY(parse_test(p, *node, node));
		else if (jinja_at_op(p, '('))
			TRY(parse_call(p, *node, node));
		else
			return OK;
	}
}

static enum status parse_unary(struct jinja_parser *p, bool with_filter, struct jinja_node **out)
{
	bool minus = jinja_at_op(p, '-');
	struct jinja_node *n;

	/* Every recursion through an expression passes here. */
	if (++p->depth > JINJA_MAX_HEIGHT)
		return jinja_parse_fail(
			p, E_LIMIT, "expression of more than %d levels", JINJA_MAX_HEIGHT);
	if (minus || jinja_at_op(p, '+')) {
		p->tok++;
		TRY(parse_unary(p, false, &n));
		TRY(make_binary(p, minus ? JINJA_N_NEG : JINJA_N_POS, 0, n, NULL, &n));
	} else {
		TRY(parse_primary(p, &n));
	}
	TRY(parse_postfix(p, &n));
	if (with_filter)
		TRY(parse_filter_expr(p, &n));
	p->depth--;
	*out = n;
	return OK;
}

static enum status parse_pow(struct jinja_parser *p, struct jinja_node **out)
{
	struct jinja_node *left, *right;

	TRY(parse_unary(p, true, &left));
	while (jinja_skip_op(p, JINJA_OP_POW)) {
		TRY(parse_unary(p, true, &right));
		TRY(make_binary(p, JINJA_N_BINARY, JINJA_OP_POW, left, right, &left));
	}
	*out = left;
	return OK;
}

static enum status parse_product(struct jinja_parser *p, struct jinja_node **out)
{
	struct jinja_node *left, *right;

	TRY(parse_pow(p, &left));
	while (jinja_at_op(p, '*') || jinja_at_op(p, '/') || jinja_at_op(p, '%') ||
		jinja_at_op(p, JINJA_OP_FLOORDIV)) {
		unsigned op = p->tok++->op;

		TRY(parse_pow(p, &right));
		TRY(make_binary(p, JINJA_N_BINARY, op, left, right, &left));
	}
	*out = left;
	return OK;
}

static enum status parse_concat(struct jinja_parser *p, struct jinja_node **out)
{
	struct jinja_node *n, *kid;

	TRY(parse_product(p, &kid));
	*out = kid;
	if (!jinja_at_op(p, '~'))
		return OK;
	TRY(jinja_node_new(p, &n, JINJA_N_CONCAT));
	TRY(jinja_node_add(p, n, kid, NULL));
	while (jinja_skip_op(p, '~')) {
		TRY(parse_product(p, &kid));
		TRY(jinja_node_add(p, n, kid, NULL));
	}
	*out = n;
	return OK;
}

static enum status parse_sum(struct jinja_parser *p, struct jinja_node **out)
{
	struct jinja_node *left, *right;

	TRY(parse_concat(p, &left));
	while (jinja_at_op(p, '+') || jinja_at_op(p, '-')) {
		unsigned op = p->tok++->op;

		TRY(parse_concat(p, &right));
		TRY(make_binary(p, JINJA_N_BINARY, op, left, right, &left));
	}
	*out = left;
	return OK;
}

/* The comparison at the current token, which is skipped; 0 if there is none. */
static unsigned skip_comparison(struct jinja_parser *p)
{
	const struct jinja_token *tok = p->tok;

	if (jinja_skip_word(p, "in"))
		return JINJA_OP_IN;
	if (jinja_skip_word(p, "not")) {
		if (jinja_skip_word(p, "in"))
			return JINJA_OP_NOT_IN;
		p->tok--;
		return 0;
	}
	if (tok->kind != JINJA_T_OP || (tok->op != '<' && tok->op != '>' &&
					       (tok->op < JINJA_OP_EQ || tok->op > JINJA_OP_LE)))
		return 0;
	p->tok++;
	return tok->op;
}

static enum status parse_comparison(struct jinja_parser *p, struct jinja_node **out)
{
	struct jinja_node *n = NULL, *left, *right, *operand;
	unsigned op;

	TRY(parse_sum(p, &left));
	*out = left;
	while ((op = skip_comparison(p)) != 0) {
		if (!n) {
			TRY(make_binary(p, JINJA_N_COMPARE, 0, left, NULL, &n));
			*out = n;
		}
		TRY(parse_sum(p, &right));
		TRY(make_binary(p, JINJA_N_OPERAND, op, right, NULL, &operand));
		TRY(jinja_node_add(p, n, operand, NULL));
	}
	return OK;
}

static enum status parse_not(struct jinja_parser *p, struct jinja_node **out)
{
	struct jinja_node *n;

	if (!jinja_skip_word(p, "not"))
		return parse_comparison(p, out);
	if (++p->depth > JINJA_MAX_HEIGHT)
		return jinja_parse_fail(
			p, E_LIMIT, "expression of more than %d levels", JINJA_MAX_HEIGHT);
	TRY(parse_not(p, &n));
	p->depth--;
	return make_binary(p, JINJA_N_NOT, 0, n, NULL, out);
}

static enum status parse_and(struct jinja_parser *p, struct jinja_node **out)
{
	struct jinja_node *left, *right;

	TRY(parse_not(p, &left));
	while (jinja_skip_word(p, "and")) {
		TRY(parse_not(p, &right));
		TRY(make_binary(p, JINJA_N_AND, 0, left, right, &left));
	}
	*out = left;
	return OK;
}

static enum status parse_or(struct jinja_parser *p, struct jinja_node **out)
{
	struct jinja_node *left, *right;

	TRY(parse_and(p, &left));
	while (jinja_skip_word(p, "or")) {
		TRY(parse_and(p, &right));
		TRY(make_binary(p, JINJA_N_OR, 0, left, right, &left));
	}
	*out = left;
	return OK;
}

enum status jinja_parse_expr(struct jinja_parser *p, struct jinja_node **out)
{
	struct jinja_node *n, *cond, *other;

	TRY(parse_or(p, &n));
	while (jinja_skip_word(p, "if")) {
		other = NULL;
		TRY(parse_or(p, &cond));
		if (jinja_skip_word(p, "else")) {
			if (++p->depth > JINJA_MAX_HEIGHT)
				return jinja_parse_fail(p, E_LIMIT,
					"expression of more than %d levels", JINJA_MAX_HEIGHT);
			TRY(jinja_parse_expr(p, &other));
			p->depth--;
		}
		TRY(make_binary(p, JINJA_N_COND, 0, n, cond, &n));
		n->c = other;
		TRY(jinja_node_over(p, n, other));
	}
	*out = n;
	return OK;
}

enum status jinja_parse_tuple(struct jinja_parser *p, bool cond, struct jinja_node **out)
{
	struct jinja_node *n = NULL, *kid;

	for (;;) {
		TRY(cond ? jinja_parse_expr(p, &kid) : parse_or(p, &kid));
		if (n)
			TRY(jinja_node_add(p, n, kid, NULL));
		if (!jinja_skip_op(p, ','))
			break;
		if (!n) {
			TRY(jinja_node_new(p, &n, JINJA_N_TUPLE));
			TRY(jinja_node_add(p, n, kid, NULL));
		}
		if (at_end(p))
			break;
	}
	*out = n ? n : kid;
	return OK;
}

static enum status parse_target_name(struct jinja_parser *p, bool ns, struct jinja_node **out)
{
	static const char *const reserved[] = {
		"true", "false", "none", "True", "False", "None", "loop", NULL};
	struct jinja_node *n;
	size_t i;

	TRY(jinja_node_new(p, &n, JINJA_N_NAME));
	if (p->tok->kind == JINJA_T_NAME) {
		for (i = 0; reserved[i]; i++) {
			if (text_is(p->tok->str, reserved[i]))
				return jinja_parse_fail(
					p, E_FORMAT, "cannot assign to '%s'", reserved[i]);
		}
	}
	TRY(jinja_expect_name(p, &n->str));
	TRY(jinja_parse_name(p, n->str, &n->name));
	if (ns && jinja_skip_op(p, '.')) {
		n->kind = JINJA_N_NSATTR;
		TRY(jinja_expect_name(p, &n->str));
	}
	*out = n;
	return OK;
}

enum status jinja_parse_target(struct jinja_parser *p, bool ns, struct jinja_node **out)
{
	bool paren = jinja_skip_op(p, '(');
	struct jinja_node *n, *kid;

	TRY(parse_target_name(p, ns, &n));
	if (jinja_at_op(p, ',')) {
		kid = n;
		TRY(jinja_node_new(p, &n, JINJA_N_TUPLE));
		TRY(jinja_node_add(p, n, kid, NULL));
		while (jinja_skip_op(p, ',')) {
			if (at_end(p) || jinja_at_word(p, "in"))
				break;
			TRY(parse_target_name(p, ns, &kid));
			TRY(jinja_node_add(p, n, kid, NULL));
		}
	}
	*out = n;
	return paren ? jinja_expect_op(p, ')') : OK;
}
