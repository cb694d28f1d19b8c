/* JSON values as nodes: any value, and given ones (text/grammar_schema_int.h). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "text/grammar_schema_int.h"

static struct g_node *range(struct grammar_ir *ir, uint32_t lo, uint32_t hi)
{
	struct g_range r = { lo, hi };

	return g_class(ir, &r, 1, false);
}

static struct g_node *set_of(struct grammar_ir *ir, const char *chars)
{
	struct g_ranges r = { 0 };
	struct g_node *out;

	for (; *chars; chars++)
		g_ranges_add(&r, (unsigned char)*chars, (unsigned char)*chars);
	out = g_class(ir, r.at, r.n, false);
	g_ranges_deinit(&r);
	return out;
}

static struct g_node *seq3(struct grammar_ir *ir, struct g_node *a, struct g_node *b, struct g_node *c)
{
	return g_seq(ir, g_seq(ir, a, b), c);
}

/* --- white space ----------------------------------------------------------------------------------------- */

struct g_node *value_ws(struct schema *s)
{
	struct grammar_ir *ir = s->ir;

	if (s->o->compact)
		return g_empty(ir);
	if (!ir->json_ws) { /* a pattern has been set up by grammar_read_schema() */
		struct g_node *indent = g_repeat(ir, set_of(ir, " \t"), 0, 20);
		struct g_node *line = g_seq(ir, g_text(ir, "\n"), indent);

		ir->json_ws = g_rule_new(ir, NULL) + 1;
		g_rule_set(ir, ir->json_ws - 1, g_optional(ir, g_alt(ir, g_text(ir, " "), line)));
	}
	return g_call(ir, ir->json_ws - 1);
}

/* --- strings --------------------------------------------------------------------------------------------- */

/* \uXXXX that is a code point: a surrogate comes in its pair only. */
static struct g_node *unicode_escape(struct grammar_ir *ir)
{
	static const char hex[] = "0123456789abcdefABCDEF";
	struct g_node *x2 = g_repeat(ir, set_of(ir, hex), 2, 2), *x3 = g_repeat(ir, set_of(ir, hex), 3, 3);
	struct g_node *bmp = g_alt(ir, g_seq(ir, set_of(ir, "0123456789abcefABCEF"), x3),
		seq3(ir, set_of(ir, "dD"), range(ir, '0', '7'), x2));
	struct g_node *high = seq3(ir, set_of(ir, "dD"), set_of(ir, "89abAB"), x2);
	struct g_node *low = seq3(ir, set_of(ir, "dD"), set_of(ir, "cdefCDEF"), x2);

	return g_seq(ir, g_text(ir, "u"), g_alt(ir, bmp, seq3(ir, high, g_text(ir, "\\u"), low)));
}

static struct g_node *json_char(struct grammar_ir *ir)
{
	static const struct g_range plain[] = { { 0x20, '!' }, { '#', '[' }, { ']', G_MAX_CODE_POINT } };
	struct g_node *escaped = g_alt(ir, set_of(ir, "\"\\/bfnrt"), unicode_escape(ir));

	return g_alt(ir, g_class(ir, plain, 3, false), g_seq(ir, g_text(ir, "\\"), escaped));
}

struct g_node *value_chars(struct schema *s, uint32_t min, uint32_t max)
{
	uint32_t rule = g_rule_new(s->ir, NULL);

	g_rule_set(s->ir, rule, json_char(s->ir));
	return g_repeat(s->ir, g_call(s->ir, rule), min, max);
}

struct g_node *value_string(struct schema *s)
{
	struct grammar_ir *ir = s->ir;

	if (!ir->json_string) {
		ir->json_string = g_rule_new(ir, NULL) + 1;
		g_rule_set(ir, ir->json_string - 1,
			seq3(ir, g_text(ir, "\""), g_repeat(ir, json_char(ir), 0, G_NO_MAX), g_text(ir, "\"")));
	}
	return g_call(ir, ir->json_string - 1);
}

static void put_quoted(struct buf *out, const char *text, size_t len)
{
	buf_putc(out, '"');
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
		const char *known = c ? strchr(from, c) : NULL;

		if (known)
			buf_printf(out, "\\%c", to[known - from]);
		else if (c < 0x20)
			buf_printf(out, "\\u%04x", c);
		else
			buf_putc(out, (char)c);
	}
	buf_putc(out, '"');
}

struct g_node *value_quoted(struct schema *s, const char *text, size_t len)
{
	struct buf out = { 0 };
	struct g_node *n;

	put_quoted(&out, text, len);
	n = g_bytes(s->ir, out.data, out.len);
	buf_deinit(&out);
	return n;
}

/* --- numbers --------------------------------------------------------------------------------------------- */

static struct g_node *digits(struct grammar_ir *ir, uint32_t min, uint32_t max)
{
	return g_repeat(ir, range(ir, '0', '9'), min, max);
}

struct g_node *value_integer(struct schema *s)
{
	struct grammar_ir *ir = s->ir;

	if (!ir->json_integer) {
		struct g_node *n = g_seq(ir, range(ir, '1', '9'), digits(ir, 0, 18));

		ir->json_integer = g_rule_new(ir, NULL) + 1;
		g_rule_set(ir, ir->json_integer - 1, g_alt(ir, g_text(ir, "0"),
			g_seq(ir, g_optional(ir, g_text(ir, "-")), n)));
	}
	return g_call(ir, ir->json_integer - 1);
}

/* Exponents stay where a double is finite. */
struct g_node *value_number(struct schema *s)
{
	struct grammar_ir *ir = s->ir;

	if (!ir->json_number) {
		struct g_node *up = g_alt(ir, digits(ir, 1, 2),
			g_seq(ir, seq3(ir, set_of(ir, "12"), range(ir, '0', '8'), range(ir, '0', '9')), g_empty(ir)));
		struct g_node *power = g_alt(ir, g_seq(ir, g_optional(ir, g_text(ir, "+")), up),
			g_seq(ir, g_text(ir, "-"), digits(ir, 1, 3)));
		struct g_node *fraction = g_seq(ir, g_text(ir, "."), digits(ir, 1, 20));

		ir->json_number = g_rule_new(ir, NULL) + 1;
		g_rule_set(ir, ir->json_number - 1, seq3(ir, g_alt(ir, value_integer(s), g_text(ir, "-0")), g_optional(ir, fraction),
			g_optional(ir, g_seq(ir, set_of(ir, "eE"), power))));
	}
	return g_call(ir, ir->json_number - 1);
}

/* --- any value ------------------------------------------------------------------------------------------- */

/* OPEN ws (item (, ws item)*)? ws CLOSE */
static struct g_node *listed(struct schema *s, const char *open, struct g_node *item, const char *close)
{
	struct grammar_ir *ir = s->ir;
	struct g_node *more = seq3(ir, g_text(ir, ","), value_ws(s), item);
	struct g_node *items = g_optional(ir, g_seq(ir, item, g_repeat(ir, more, 0, G_NO_MAX)));

	return g_seq(ir, seq3(ir, g_text(ir, open), value_ws(s), items), g_seq(ir, value_ws(s), g_text(ir, close)));
}

struct g_node *value_any(struct schema *s)
{
	struct grammar_ir *ir = s->ir;

	if (!ir->json_value) {
		uint32_t member = g_rule_new(ir, NULL);
		struct g_node *value, *all;

		ir->json_value = g_rule_new(ir, NULL) + 1;
		value = g_call(ir, ir->json_value - 1);
		g_rule_set(ir, member, g_seq(ir, seq3(ir, value_string(s), g_text(ir, ":"), value_ws(s)), value));
		all = g_alt(ir, value_string(s), value_number(s));
		all = g_alt(ir, all, listed(s, "{", g_call(ir, member), "}"));
		all = g_alt(ir, all, listed(s, "[", value, "]"));
		all = g_alt(ir, g_alt(ir, all, g_text(ir, "true")), g_alt(ir, g_text(ir, "false"), g_text(ir, "null")));
		g_rule_set(ir, ir->json_value - 1, all);
	}
	return g_call(ir, ir->json_value - 1);
}

/* --- given values ---------------------------------------------------------------------------------------- */

/* The shortest decimal of v. */
static void put_real(struct buf *out, double v)
{
	char text[64];

	for (int k = 15; k <= 17; k++) {
		snprintf(text, sizeof(text), "%.*g", k, v);
		if (strtod(text, NULL) == v)
			break;
	}
	buf_puts(out, text);
}

/* 1 and 1.0 are one number. */
static bool is_whole(const json_t *v)
{
	return json_is_real(v) && json_real_value(v) == floor(json_real_value(v)) && fabs(json_real_value(v)) < 1e15;
}

/* A value that is no list and no object. */
static void put_scalar(struct buf *out, const json_t *v)
{
	if (json_is_string(v))
		put_quoted(out, json_string_value(v), json_string_length(v));
	else if (json_is_integer(v))
		buf_printf(out, "%lld", (long long)json_integer_value(v));
	else if (json_is_real(v))
		put_real(out, json_real_value(v));
	else
		buf_puts(out, json_is_true(v) ? "true" : json_is_false(v) ? "false" : "null");
}

static struct g_node *scalar(struct grammar_ir *ir, const json_t *v)
{
	struct buf text = { 0 };
	struct g_node *out;

	put_scalar(&text, v);
	out = g_bytes(ir, text.data, text.len);
	buf_reset(&text);
	if (is_whole(v)) {
		buf_printf(&text, "%.1f", json_real_value(v));
		out = g_alt(ir, out, g_bytes(ir, text.data, text.len));
	}
	buf_deinit(&text);
	return out;
}

static enum status elements(struct schema *s, struct g_node **out, const json_t *value)
{
	struct grammar_ir *ir = s->ir;
	struct g_node *seq = g_seq(ir, g_text(ir, "["), value_ws(s)), *item;

	for (size_t i = 0; i < json_array_size(value); i++) {
		if (i)
			seq = seq3(ir, seq, g_text(ir, ","), value_ws(s));
		TRY(value_const(s, &item, json_array_get(value, i)));
		seq = g_seq(ir, seq, item);
	}
	*out = seq3(ir, seq, json_array_size(value) ? value_ws(s) : g_empty(ir), g_text(ir, "]"));
	return OK;
}

static enum status members(struct schema *s, struct g_node **out, const json_t *value)
{
	struct grammar_ir *ir = s->ir;
	struct g_node *seq = g_seq(ir, g_text(ir, "{"), value_ws(s)), *item;
	json_t *v, *obj = (json_t *)value;
	const char *key;
	bool first = true;

	json_object_foreach(obj, key, v) {
		if (!first)
			seq = seq3(ir, seq, g_text(ir, ","), value_ws(s));
		first = false;
		TRY(value_const(s, &item, v));
		seq = g_seq(ir, seq, seq3(ir, value_quoted(s, key, strlen(key)), g_text(ir, ":"), value_ws(s)));
		seq = g_seq(ir, seq, item);
	}
	*out = seq3(ir, seq, first ? g_empty(ir) : value_ws(s), g_text(ir, "}"));
	return OK;
}

enum status value_const(struct schema *s, struct g_node **out, const json_t *v)
{
	TRY(grammar_ir_check(s->ir, s->err));
	if (json_is_object(v))
		return members(s, out, v);
	if (json_is_array(v))
		return elements(s, out, v);
	*out = scalar(s->ir, v);
	return OK;
}

/* Scalars share their beginnings: a long list of strings is what enums mostly are. */
enum status value_enum(struct schema *s, struct g_node **out, const json_t *list)
{
	size_t n = json_array_size(list), n_words = 0;
	struct g_word *words = mem_alloc((n + 1) * sizeof(*words));
	struct buf *texts = mem_alloc((n + 1) * sizeof(*texts));
	struct g_node *alt = NULL, *item;
	enum status st = OK;

	for (size_t i = 0; i < n && st == OK; i++) {
		const json_t *v = json_array_get(list, i);

		if (json_is_object(v) || json_is_array(v) || is_whole(v)) {
			st = value_const(s, &item, v);
			alt = st == OK ? g_alt(s->ir, alt, item) : alt;
		} else {
			put_scalar(&texts[n_words], v);
			words[n_words] = (struct g_word){ texts[n_words].data, texts[n_words].len };
			n_words++;
		}
	}
	if (st == OK && n_words)
		alt = g_alt(s->ir, alt, g_words(s->ir, words, n_words));
	*out = alt ? alt : g_never(s->ir);
	for (size_t i = 0; i < n_words; i++)
		buf_deinit(&texts[i]);
	free(texts);
	free(words);
	return st;
}
