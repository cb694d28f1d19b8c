/*
 * Filters on single values and text; those on sequences are in jinja_filter_seq.c. To add one:
 * write a filter_fn, name it in the table at the end.
 */
#include "text/jinja_filter.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "text/unicode.h"

static enum status f_string(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_str s;

	TRY(jinja_bind(r, "string", args, "", 0, NULL));
	TRY(jinja_to_str(r, v, &s));
	return jinja_str_new(r, out, s);
}

static enum status f_safe(struct jinja_run *r, struct jinja_value v, const struct jinja_args *args,
	struct jinja_value *out)
{
	return f_string(r, v, args, out); /* nothing is escaped, so nothing needs to be spared */
}

static enum status f_escape(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	static const char special[] = "&<>'\"";
	static const char *const entity[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
	struct jinja_sb sb = {.run = r};
	struct jinja_str s;
	size_t i;

	TRY(jinja_bind(r, "escape", args, "", 0, NULL));
	TRY(jinja_to_str(r, v, &s));
	for (i = 0; i < s.len; i++) {
		const char *hit = s.s[i] ? strchr(special, s.s[i]) : NULL;

		if (hit)
			TRY(jinja_sb_put_as(&sb, s, i, entity[hit - special]));
		else
			TRY(jinja_sb_put(&sb, jinja_str_sub(s, i, i + 1)));
	}
	return jinja_sb_value(&sb, out);
}

static enum status f_trim(struct jinja_run *r, struct jinja_value v, const struct jinja_args *args,
	struct jinja_value *out)
{
	struct jinja_str s, chars;
	struct jinja_value a;
	bool given;

	TRY(jinja_bind(r, "trim", args, "chars", 0, &a));
	TRY(jinja_to_str(r, v, &s));
	given = jinja_given(a) && a.type != JINJA_NONE;
	if (given) {
		TRY(jinja_need_str(r, "trim", a, &chars));
		TRY(jinja_charge(r, s.len * (chars.len / 16 + 1)));
	}
	TRY(jinja_charge_bytes(r, s.len));
	return jinja_str_new(r, out, jinja_str_strip(s, given ? &chars : NULL, true, true));
}

static enum status change_case(struct jinja_run *r, const char *what, struct jinja_value v,
	const struct jinja_args *args, enum jinja_case c, struct jinja_value *out)
{
	struct jinja_sb sb = {.run = r};
	struct jinja_str s;

	TRY(jinja_bind(r, what, args, "", 0, NULL));
	TRY(jinja_to_str(r, v, &s));
	TRY(jinja_sb_put_case(&sb, s, c));
	return jinja_sb_value(&sb, out);
}

static enum status f_upper(struct jinja_run *r, struct jinja_value v, const struct jinja_args *args,
	struct jinja_value *out)
{
	return change_case(r, "upper", v, args, JINJA_UPPER, out);
}

static enum status f_lower(struct jinja_run *r, struct jinja_value v, const struct jinja_args *args,
	struct jinja_value *out)
{
	return change_case(r, "lower", v, args, JINJA_LOWER, out);
}

static enum status put_capital(struct jinja_sb *sb, struct jinja_str s)
{
	size_t n = jinja_str_offset(s, 1);

	TRY(jinja_sb_put_case(sb, jinja_str_sub(s, 0, n), JINJA_UPPER));
	return jinja_sb_put_case(sb, jinja_str_sub(s, n, s.len), JINJA_LOWER);
}

static enum status f_capitalize(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_sb sb = {.run = r};
	struct jinja_str s;

	TRY(jinja_bind(r, "capitalize", args, "", 0, NULL));
	TRY(jinja_to_str(r, v, &s));
	TRY(put_capital(&sb, s));
	return jinja_sb_value(&sb, out);
}

/* Words begin behind white space, hyphens and opening brackets. */
static enum status f_title(struct jinja_run *r, struct jinja_value v, const struct jinja_args *args,
	struct jinja_value *out)
{
	struct jinja_sb sb = {.run = r};
	size_t start = 0, i, n;
	struct jinja_str s;
	uint32_t cp;

	TRY(jinja_bind(r, "title", args, "", 0, NULL));
	TRY(jinja_to_str(r, v, &s));
	for (i = 0; i < s.len; i += n) {
		n = utf8_decode(s.s + i, &cp);
		if (!jinja_is_space(cp) && (cp >= 128 || !cp || !strchr("-({[<", (int)cp)))
			continue;
		TRY(put_capital(&sb, jinja_str_sub(s, start, i)));
		TRY(jinja_sb_put(&sb, jinja_str_sub(s, i, i + n)));
		start = i + n;
	}
	TRY(put_capital(&sb, jinja_str_sub(s, start, s.len)));
	return jinja_sb_value(&sb, out);
}

static enum status f_replace(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_str s, old, new;
	struct jinja_value a[3];
	int64_t max = -1;

	TRY(jinja_bind(r, "replace", args, "old new count", 2, a));
	TRY(jinja_to_str(r, v, &s));
	TRY(jinja_to_str(r, a[0], &old));
	TRY(jinja_to_str(r, a[1], &new));
	if (jinja_given(a[2]) && a[2].type != JINJA_NONE)
		TRY(jinja_need_int(r, "replace: count", a[2], &max));
	return jinja_str_replace(r, out, s, old, new, max);
}

static enum status f_indent(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_sb sb = {.run = r};
	struct jinja_value a[3], pad = {0};
	struct jinja_str s, line;
	size_t at = 0, end;
	int64_t n = 4;

	TRY(jinja_bind(r, "indent", args, "width first blank", 0, a));
	TRY(jinja_to_str(r, v, &s));
	if (jinja_given(a[0]) && a[0].type == JINJA_STRING) {
		pad = a[0];
	} else {
		if (jinja_given(a[0]))
			TRY(jinja_need_int(r, "indent: width", a[0], &n));
		TRY(jinja_str_new(r, &pad, (struct jinja_str){.s = " ", .len = 1}));
		TRY(jinja_binary(r, '*', pad, jinja_int(n), &pad));
	}
	for (; at <= s.len; at = end + 1) {
		end = jinja_str_find(s, (struct jinja_str){.s = "\n", .len = 1}, at);
		if (end == SIZE_MAX)
			end = s.len;
		line = jinja_str_sub(s, at, end);
		if (at ? line.len || jinja_truth(a[2]) : jinja_truth(a[1]))
			TRY(jinja_sb_put(&sb, *pad.str));
		TRY(jinja_sb_put(&sb, jinja_str_sub(s, at, end < s.len ? end + 1 : end)));
	}
	return jinja_sb_value(&sb, out);
}

static enum status f_default(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	struct jinja_value a[2];

	TRY(jinja_bind(r, "default", args, "default_value boolean", 0, a));
	*out = v;
	if (v.type != JINJA_UNDEFINED && (jinja_truth(v) || !jinja_truth(a[1])))
		return OK;
	*out = a[0];
	return jinja_given(a[0]) ? OK : jinja_str_new(r, out, (struct jinja_str){.s = ""});
}

/* A number as Python's int() and float() read it: blanks around, single underscores inside. */
static bool clean_number(struct jinja_str s, char dst[64])
{
	size_t i, n = 0;

	s = jinja_str_strip(s, NULL, true, true);
	if (!s.len || s.len > 63)
		return false;
	for (i = 0; i < s.len; i++) {
		if (s.s[i] != '_')
			dst[n++] = s.s[i];
		else if (!i || i + 1 == s.len || s.s[i - 1] == '_')
			return false;
	}
	dst[n] = 0;
	return true;
}

static bool parse_float(struct jinja_str s, double *out)
{
	static const char *const words[] = {"inf", "infinity", "nan"};
	char text[64], *end;
	const char *body = text;
	size_t i;

	if (!clean_number(s, text))
		return false;
	body += *body == '-' || *body == '+';
	for (i = 0; i < 3 && strcasecmp(body, words[i]) != 0;)
		i++;
	if (i == 3 && strspn(body, "0123456789.eE+-") != strlen(body))
		return false;
	*out = strtod(text, &end);
	return *end == 0;
}

static bool parse_int(struct jinja_str s, int base, int64_t *out, bool *large)
{
	char text[64], *end;

	*large = false;
	if (!clean_number(s, text) || (*text == '+' && strchr("+-", text[1])))
		return false;
	errno = 0;
	*out = strtoll(text, &end, base);
	*large = errno == ERANGE;
	return end != text && *end == 0;
}

static enum status f_int(struct jinja_run *r, struct jinja_value v, const struct jinja_args *args,
	struct jinja_value *out)
{
	struct jinja_value a[2];
	int64_t base = 10, i;
	bool large;
	double f;

	TRY(jinja_bind(r, "int", args, "default base", 0, a));
	if (jinja_given(a[1]))
		TRY(jinja_need_int(r, "int: base", a[1], &base));
	if (base < 2 || base > 36)
		return jinja_fail(r, E_INVAL, "int: base %lld, expected 2 to 36", (long long)base);
	*out = jinja_given(a[0]) ? a[0] : jinja_int(0);
	if (v.type == JINJA_UNDEFINED)
		return jinja_fail(r, E_INVAL, "int: the value is undefined");
	if (jinja_is_integral(v)) {
		*out = jinja_int(jinja_as_int(v));
		return OK;
	}
	if (v.type == JINJA_STRING) {
		if (parse_int(*v.str, (int)base, &i, &large) && !large) {
			*out = jinja_int(i);
			return OK;
		}
		if (large)
			return jinja_fail(r, E_LIMIT, "integer beyond 64 bits");
		if (!parse_float(*v.str, &f))
			return OK;
	} else if (v.type == JINJA_FLOAT) {
		f = v.f;
	} else {
		return OK;
	}
	if (isnan(f) || isinf(f))
		return OK;
	if (f < -0x1p63 || f >= 0x1p63)
		return jinja_fail(r, E_LIMIT, "integer beyond 64 bits");
	*out = jinja_int((int64_t)f);
	return OK;
}

static enum status f_float(struct jinja_run *r, struct jinja_value v, const struct jinja_args *args,
	struct jinja_value *out)
{
	struct jinja_value a;
	double f;

	TRY(jinja_bind(r, "float", args, "default", 0, &a));
	if (v.type == JINJA_UNDEFINED)
		return jinja_fail(r, E_INVAL, "float: the value is undefined");
	*out = jinja_given(a) ? a : jinja_float(0);
	if (jinja_is_number(v))
		*out = jinja_float(jinja_as_float(v));
	else if (v.type == JINJA_STRING && parse_float(*v.str, &f))
		*out = jinja_float(f);
	return OK;
}

static enum status f_abs(struct jinja_run *r, struct jinja_value v, const struct jinja_args *args,
	struct jinja_value *out)
{
	TRY(jinja_bind(r, "abs", args, "", 0, NULL));
	if (!jinja_is_number(v))
		return jinja_fail(
			r, E_INVAL, "abs: expected a number, found %s", jinja_type_name(v));
	*out = v;
	if (v.type == JINJA_FLOAT)
		*out = jinja_float(fabs(v.f));
	else if (jinja_as_int(v) < 0)
		return jinja_binary(r, '-', jinja_int(0), v, out);
	else
		*out = jinja_int(jinja_as_int(v));
	return OK;
}

static enum status f_round(struct jinja_run *r, struct jinja_value v, const struct jinja_args *args,
	struct jinja_value *out)
{
	struct jinja_str method = {.s = "common", .len = 6};
	struct jinja_value a[2];
	char text[400];
	int64_t digits = 0;
	double f, scale;

	TRY(jinja_bind(r, "round", args, "precision method", 0, a));
	if (jinja_given(a[0]))
		TRY(jinja_need_int(r, "round: precision", a[0], &digits));
	if (jinja_given(a[1]))
		TRY(jinja_need_str(r, "round: method", a[1], &method));
	if (!jinja_is_number(v) || digits < -15 || digits > 15)
		return jinja_fail(
			r, E_INVAL, "round: expected a number and a precision of -15 to 15");
	f = jinja_as_float(v);
	scale = pow(10, (double)digits);
	if (method.len == 6 && memcmp(method.s, "common", 6) == 0) {
		if (digits >= 0 && jinja_is_integral(v)) {
			*out = jinja_int(jinja_as_int(v));
			return OK;
		}
		if (digits >= 0) { /* printf rounds the binary value exactly, as Python does */
			snprintf(text, sizeof(text), "%.*f", (int)digits, f);
			f = strtod(text, NULL);
		} else {
			f = rint(f * scale) / scale;
		}
		*out = jinja_is_integral(v) ? jinja_int((int64_t)f) : jinja_float(f);
		return OK;
	}
	if (method.len == 4 && memcmp(method.s, "ceil", 4) == 0)
		*out = jinja_float(ceil(f * scale) / scale);
	else if (method.len == 5 && memcmp(method.s, "floor", 5) == 0)
		*out = jinja_float(floor(f * scale) / scale);
	else
		return jinja_fail(r, E_INVAL, "round: method must be 'common', 'ceil' or 'floor'");
	return OK;
}

static enum status f_tojson(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	return jinja_to_json(r, out, v, args);
}

static const struct {
	const char *name;
	filter_fn *run;
} filters[] = {
	{"abs", f_abs},
	{"capitalize", f_capitalize},
	{"count", jinja_filter_length},
	{"d", f_default},
	{"default", f_default},
	{"dictsort", jinja_filter_dictsort},
	{"e", f_escape},
	{"escape", f_escape},
	{"first", jinja_filter_first},
	{"float", f_float},
	{"indent", f_indent},
	{"int", f_int},
	{"items", jinja_filter_items},
	{"join", jinja_filter_join},
	{"last", jinja_filter_last},
	{"length", jinja_filter_length},
	{"list", jinja_filter_list},
	{"lower", f_lower},
	{"map", jinja_filter_map},
	{"max", jinja_filter_max},
	{"min", jinja_filter_min},
	{"reject", jinja_filter_reject},
	{"rejectattr", jinja_filter_rejectattr},
	{"replace", f_replace},
	{"reverse", jinja_filter_reverse},
	{"round", f_round},
	{"safe", f_safe},
	{"select", jinja_filter_select},
	{"selectattr", jinja_filter_selectattr},
	{"sort", jinja_filter_sort},
	{"string", f_string},
	{"sum", jinja_filter_sum},
	{"title", f_title},
	{"tojson", f_tojson},
	{"trim", f_trim},
	{"unique", jinja_filter_unique},
	{"upper", f_upper},
};

int jinja_filter_find(struct jinja_str name)
{
	size_t i;

	for (i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
		if (name.len == strlen(filters[i].name) &&
			memcmp(name.s, filters[i].name, name.len) == 0)
			return (int)i;
	}
	return -1;
}

enum status jinja_filter_run(struct jinja_run *r, unsigned id, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out)
{
	enum status st;

	TRY(jinja_enter(r));
	st = filters[id].run(r, v, args, out);
	jinja_leave(r);
	return st;
}
