/*
 * Regular expressions to nodes: the part of ECMA-262 and Python that describes a regular language, by code
 * points. What needs memory of the text (back references, looking around) is refused by name.
 *
 * \d, \w and \s are ASCII, \S is neither ASCII's white space nor any other's; a dot is any code point but a line break. ^ and $ stand at the ends of the whole
 * expression, or of one of its alternatives.
 */
#include <stdlib.h>
#include <string.h>

#include "text/grammar_ir.h"

struct reader {
	struct grammar_ir *ir;
	const char *s, *at, *end;
	struct regex_mode mode;
	struct error *err;
	int depth;
};

static enum status fail(struct reader *r, enum status code, const char *what)
{
	return error_set(r->err, code, "regular expression, byte %zu: %s", (size_t)(r->at - r->s), what);
}

static bool more(const struct reader *r)
{
	return r->at < r->end;
}

static bool see(const struct reader *r, const char *text)
{
	size_t n = strlen(text);

	return (size_t)(r->end - r->at) >= n && memcmp(r->at, text, n) == 0;
}

static bool take(struct reader *r, const char *text)
{
	if (!see(r, text))
		return false;
	r->at += strlen(text);
	return true;
}

/* The text is valid UTF-8: JSON strings are, and so is what the command line passes. */
static uint32_t code_point(struct reader *r)
{
	const unsigned char *s = (const unsigned char *)r->at;
	size_t left = (size_t)(r->end - r->at), n = s[0] < 0x80 ? 1 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
	uint32_t c = n == 1 ? s[0] : s[0] & (0x7Fu >> n);

	n = n > left ? left : n;
	for (size_t i = 1; i < n; i++)
		c = c << 6 | (s[i] & 0x3F);
	r->at += n;
	return c <= G_MAX_CODE_POINT ? c : 0xFFFD;
}

/* --- JSON spelling --------------------------------------------------------------------------------------- */

static struct g_node *json_escape(struct grammar_ir *ir, uint32_t c)
{
	static const char hex[] = "0123456789abcdef";
	char text[8] = { '\\', 'u', '0', '0', hex[c >> 4 & 15], hex[c & 15], 0 };

	switch (c) {
	case '"':
		return g_text(ir, "\\\"");
	case '\\':
		return g_text(ir, "\\\\");
	case '\n':
		return g_text(ir, "\\n");
	case '\r':
		return g_text(ir, "\\r");
	case '\t':
		return g_text(ir, "\\t");
	case '\b':
		return g_text(ir, "\\b");
	case '\f':
		return g_text(ir, "\\f");
	}
	return g_text(ir, text);
}

struct g_node *g_json_class(struct grammar_ir *ir, struct g_ranges *r)
{
	struct g_ranges plain = { 0 };
	struct g_node *out = NULL;

	for (size_t i = 0; i < r->n; i++) {
		for (uint32_t c = r->at[i].lo; c <= r->at[i].hi && c <= '\\'; c++) {
			if (c < 0x20 || c == '"' || c == '\\')
				out = g_alt(ir, out, json_escape(ir, c));
		}
		static const struct g_range usual[] = { { 0x20, '!' }, { '#', '[' }, { ']', G_MAX_CODE_POINT } };

		for (int k = 0; k < 3; k++) {
			uint32_t lo = r->at[i].lo > usual[k].lo ? r->at[i].lo : usual[k].lo;
			uint32_t hi = r->at[i].hi < usual[k].hi ? r->at[i].hi : usual[k].hi;

			g_ranges_add(&plain, lo, hi);
		}
	}
	if (plain.n)
		out = g_alt(ir, out, g_class(ir, plain.at, plain.n, false));
	g_ranges_deinit(&plain);
	g_ranges_deinit(r);
	return out ? out : g_never(ir);
}

static struct g_node *class_node(struct reader *r, struct g_ranges *ranges)
{
	struct g_node *out;

	if (r->mode.json)
		return g_json_class(r->ir, ranges);
	out = ranges->n ? g_class(r->ir, ranges->at, ranges->n, false) : g_never(r->ir);
	g_ranges_deinit(ranges);
	return out;
}

static struct g_node *one(struct reader *r, uint32_t c)
{
	struct g_ranges ranges = { 0 };

	g_ranges_add(&ranges, c, c);
	return class_node(r, &ranges);
}

/* --- classes --------------------------------------------------------------------------------------------- */

/* What ECMA-262 or Python call white space, besides ASCII's. */
static void add_far_space(struct g_ranges *set)
{
	static const struct g_range far[] = { { 0x1C, 0x1F }, { 0x85, 0x85 }, { 0xA0, 0xA0 }, { 0x1680, 0x1680 },
		{ 0x2000, 0x200A }, { 0x2028, 0x2029 }, { 0x202F, 0x202F }, { 0x205F, 0x205F }, { 0x3000, 0x3000 },
		{ 0xFEFF, 0xFEFF } };

	for (size_t i = 0; i < sizeof(far) / sizeof(*far); i++)
		g_ranges_add(set, far[i].lo, far[i].hi);
}

/* \d \D \w \W \s \S; false when c is none of them. outside: in a class that is complemented. */
static bool named_class(struct g_ranges *out, char c, bool outside)
{
	struct g_ranges set = { 0 };

	switch (c | 0x20) {
	case 'd':
		g_ranges_add(&set, '0', '9');
		break;
	case 'w':
		g_ranges_add(&set, '0', '9');
		g_ranges_add(&set, 'A', 'Z');
		g_ranges_add(&set, '_', '_');
		g_ranges_add(&set, 'a', 'z');
		break;
	case 's':
		g_ranges_add(&set, '\t', '\r');
		g_ranges_add(&set, ' ', ' ');
		if (outside != (c < 'a')) /* what nobody calls white space */
			add_far_space(&set);
		break;
	default:
		return false;
	}
	g_ranges_settle(&set, c < 'a');
	for (size_t i = 0; i < set.n; i++)
		g_ranges_add(out, set.at[i].lo, set.at[i].hi);
	g_ranges_deinit(&set);
	return true;
}

static int hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

static enum status hex(struct reader *r, int least, int most, uint32_t *out)
{
	uint32_t v = 0;
	int n = 0;

	for (; n < most && more(r) && hex_value(*r->at) >= 0; n++)
		v = v * 16 + (uint32_t)hex_value(*r->at++);
	if (n < least || v > G_MAX_CODE_POINT)
		return fail(r, E_INVAL, "expected hexadecimal digits of a code point");
	*out = v;
	return OK;
}

/* After the backslash; what stands for one code point. */
static enum status escape(struct reader *r, uint32_t *out)
{
	static const char names[] = "ntrfva0", values[] = "\n\t\r\f\v\a\0";
	const char *known;

	if (!more(r))
		return fail(r, E_INVAL, "a backslash at the end");
	if (take(r, "x"))
		return hex(r, 2, 2, out);
	if (take(r, "u{")) {
		TRY(hex(r, 1, 6, out));
		return take(r, "}") ? OK : fail(r, E_INVAL, "expected }");
	}
	if (take(r, "u"))
		return hex(r, 4, 4, out);
	if (take(r, "U"))
		return hex(r, 8, 8, out);
	known = strchr(names, *r->at);
	if (known && *known) {
		*out = (unsigned char)values[known - names];
		r->at++;
		return OK;
	}
	if ((*r->at >= '1' && *r->at <= '9') || *r->at == 'k')
		return fail(r, E_UNSUPPORTED, "back references are not supported");
	if (*r->at == 'p' || *r->at == 'P')
		return fail(r, E_UNSUPPORTED, "Unicode properties are not supported");
	if (*r->at == 'b' || *r->at == 'B' || *r->at == 'A' || *r->at == 'Z' || *r->at == 'z' || *r->at == 'G')
		return fail(r, E_UNSUPPORTED, "word boundaries and anchors by letter are not supported");
	if ((*r->at | 0x20) >= 'a' && (*r->at | 0x20) <= 'z')
		return fail(r, E_INVAL, "an unknown escape");
	*out = code_point(r);
	return OK;
}

/* One end of a range, or a named class, which cannot be one. */
static enum status class_item(struct reader *r, struct g_ranges *set, bool outside, uint32_t *c, bool *is_point)
{
	*is_point = true;
	if (!take(r, "\\")) {
		*c = code_point(r);
		return OK;
	}
	if (more(r) && named_class(set, *r->at, outside)) {
		r->at++;
		*is_point = false;
		return OK;
	}
	if (take(r, "b")) { /* in a class: backspace */
		*c = '\b';
		return OK;
	}
	if (take(r, "-")) {
		*c = '-';
		return OK;
	}
	return escape(r, c);
}

static enum status read_class(struct reader *r, struct g_ranges *set)
{
	bool outside = take(r, "^"), first = true;

	for (; more(r) && (first ? true : *r->at != ']'); first = false) {
		uint32_t lo, hi;
		bool is_point;

		if (see(r, "[:") || see(r, "[=") || see(r, "[."))
			return fail(r, E_UNSUPPORTED, "named POSIX classes are not supported");
		if (first && *r->at == ']') /* [] and [^] are of ECMA-262, []x] of others: refuse what means two things */
			return fail(r, E_UNSUPPORTED, "] as the first of a class must be written \\]");
		TRY(class_item(r, set, outside, &lo, &is_point));
		hi = lo;
		if (is_point && r->end - r->at >= 2 && r->at[0] == '-' && r->at[1] != ']') {
			r->at++;
			TRY(class_item(r, set, outside, &hi, &is_point));
			if (!is_point || hi < lo)
				return fail(r, E_INVAL, "a range that ends before it begins");
		}
		if (is_point)
			g_ranges_add(set, lo, hi);
	}
	if (!take(r, "]"))
		return fail(r, E_INVAL, "expected ]");
	g_ranges_settle(set, outside);
	return OK;
}

/* --- expressions ----------------------------------------------------------------------------------------- */

static enum status alternatives(struct reader *r, struct g_node **out, bool top);

static enum status read_count(struct reader *r, uint32_t *out)
{
	uint32_t v = 0;

	for (; more(r) && *r->at >= '0' && *r->at <= '9'; r->at++) {
		v = v * 10 + (uint32_t)(*r->at - '0');
		if (v > G_MAX_REPEAT)
			return fail(r, E_LIMIT, "more than 100000 repetitions");
	}
	*out = v;
	return OK;
}

static bool is_digit(const struct reader *r, const char *at)
{
	return at < r->end && *at >= '0' && *at <= '9';
}

/* {m}, {m,}, {m,n} or {,n}; a brace that is none of them stands for itself. */
static enum status braces(struct reader *r, uint32_t *min, uint32_t *max, bool *is)
{
	const char *from = r->at;

	*is = see(r, "{") && (is_digit(r, r->at + 1) || (see(r, "{,") && is_digit(r, r->at + 2)));
	if (!*is)
		return OK;
	r->at++;
	TRY(read_count(r, min));
	*max = *min;
	if (take(r, ",")) {
		*max = G_NO_MAX;
		if (is_digit(r, r->at))
			TRY(read_count(r, max));
	}
	if (!take(r, "}")) {
		*is = false;
		r->at = from;
		return OK;
	}
	return *max < *min ? fail(r, E_INVAL, "repetitions that end before they begin") : OK;
}

static enum status quantified(struct reader *r, struct g_node **node)
{
	uint32_t min = 0, max = 0;
	bool is = true;

	if (take(r, "*"))
		min = 0, max = G_NO_MAX;
	else if (take(r, "+"))
		min = 1, max = G_NO_MAX;
	else if (take(r, "?"))
		min = 0, max = 1;
	else
		TRY(braces(r, &min, &max, &is));
	if (!is)
		return OK;
	take(r, "?"); /* lazy: the same texts */
	if (see(r, "+"))
		return fail(r, E_UNSUPPORTED, "possessive repetitions are not supported");
	if (see(r, "*") || see(r, "?"))
		return fail(r, E_INVAL, "nothing to repeat");
	*node = g_repeat(r->ir, *node, min, max);
	return OK;
}

static enum status group(struct reader *r, struct g_node **out)
{
	if (take(r, "?")) {
		if (take(r, "P<") || (see(r, "<") && !see(r, "<=") && !see(r, "<!") && take(r, "<"))) {
			while (more(r) && *r->at != '>')
				r->at++;
			if (!take(r, ">"))
				return fail(r, E_INVAL, "expected > after the name of a group");
		} else if (!take(r, ":")) {
			return fail(r, E_UNSUPPORTED, "looking around, flags and conditions are not supported");
		}
	}
	if (++r->depth > G_MAX_DEPTH)
		return fail(r, E_LIMIT, "groups are nested too deep");
	TRY(alternatives(r, out, false));
	r->depth--;
	return take(r, ")") ? OK : fail(r, E_INVAL, "expected )");
}

static enum status dot(struct reader *r, struct g_node **out)
{
	struct g_ranges set = { 0 };

	g_ranges_add(&set, '\n', '\n');
	g_ranges_settle(&set, true);
	*out = class_node(r, &set);
	return OK;
}

static enum status backslash(struct reader *r, struct g_node **out)
{
	struct g_ranges set = { 0 };
	uint32_t c;

	if (more(r) && named_class(&set, *r->at, false)) {
		r->at++;
		g_ranges_settle(&set, false);
		*out = class_node(r, &set);
		return OK;
	}
	TRY(escape(r, &c));
	*out = one(r, c);
	return OK;
}

static enum status atom(struct reader *r, struct g_node **out)
{
	struct g_ranges set = { 0 };
	enum status st;

	if (take(r, "("))
		return group(r, out);
	if (take(r, "."))
		return dot(r, out);
	if (take(r, "\\"))
		return backslash(r, out);
	if (take(r, "[")) {
		st = read_class(r, &set);
		if (st == OK)
			*out = class_node(r, &set);
		else
			g_ranges_deinit(&set);
		return st;
	}
	if (see(r, "^") || see(r, "$"))
		return fail(r, E_UNSUPPORTED, "^ and $ are supported at the ends of an alternative of the whole alone");
	if (see(r, "*") || see(r, "+") || see(r, "?"))
		return fail(r, E_INVAL, "nothing to repeat");
	*out = one(r, code_point(r));
	return OK;
}

static struct g_node *anything(struct reader *r)
{
	struct g_ranges set = { 0 };

	g_ranges_add(&set, 0, G_MAX_CODE_POINT);
	return g_repeat(r->ir, class_node(r, &set), 0, G_NO_MAX);
}

static enum status sequence(struct reader *r, struct g_node **out, bool top)
{
	bool begins = top && take(r, "^"), ends = false;
	struct g_node *seq = begins || !top || !r->mode.search ? g_empty(r->ir) : anything(r);

	while (more(r) && *r->at != '|' && *r->at != ')' && !ends) {
		struct g_node *node;

		if (top && *r->at == '$' && (r->at + 1 == r->end || r->at[1] == '|')) {
			r->at++;
			ends = true;
			break;
		}
		TRY(atom(r, &node));
		TRY(quantified(r, &node));
		seq = g_seq(r->ir, seq, node);
		TRY(grammar_ir_check(r->ir, r->err));
	}
	*out = ends || !top || !r->mode.search ? seq : g_seq(r->ir, seq, anything(r));
	return OK;
}

static enum status alternatives(struct reader *r, struct g_node **out, bool top)
{
	struct g_node *alt = NULL;

	do {
		struct g_node *seq;

		TRY(sequence(r, &seq, top));
		alt = g_alt(r->ir, alt, seq);
	} while (take(r, "|"));
	*out = alt;
	return OK;
}

enum status grammar_read_regex(struct g_node **out, struct grammar_ir *ir, const char *text, size_t len,
	struct regex_mode mode, struct error *err)
{
	struct reader r = { .ir = ir, .s = text, .at = text, .end = text + len, .mode = mode, .err = err };

	TRY(alternatives(&r, out, true));
	if (more(&r))
		return fail(&r, E_INVAL, "a ) that closes nothing");
	return grammar_ir_check(ir, err);
}
