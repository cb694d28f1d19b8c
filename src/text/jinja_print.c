/* How values look as text: str(), repr() and json.dumps() of Python. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_run.h"
#include "text/unicode.h"

/* The shortest digits that read back as f, laid out as Python does. */
void jinja_format_float(double f, char dst[JINJA_FLOAT_BYTES])
{
	static const char zeros[] = "0000000000000000";
	char digits[32], *e;
	int precision, exponent, n;
	size_t at, room;
	bool negative = signbit(f);

	if (isnan(f) || isinf(f)) {
		strcpy(dst, isnan(f) ? "nan" : negative ? "-inf" : "inf");
		return;
	}
	for (precision = 0; precision < 17; precision++) {
		snprintf(digits, sizeof(digits), "%.*e", precision, fabs(f));
		if (strtod(digits, NULL) == fabs(f))
			break;
	}
	e = strchr(digits, 'e');
	exponent = atoi(e + 1); /* -324 to 308 */
	*e = 0;
	if (digits[1]) /* drop the point: digits[0..n) */
		memmove(digits + 1, digits + 2, strlen(digits + 1));
	n = (int)strlen(digits);
	at = 0;
	if (negative)
		dst[at++] = '-';
	dst += at;
	room = JINJA_FLOAT_BYTES - at;
	if (exponent < -4 || exponent >= 16) {
		snprintf(dst, room, "%c%s%se%c%02d", digits[0], n > 1 ? "." : "", digits + 1,
			exponent < 0 ? '-' : '+', abs(exponent));
	} else if (exponent < 0) {
		snprintf(dst, room, "0.%.*s%s", -exponent - 1, zeros, digits);
	} else if (exponent >= n - 1) {
		snprintf(dst, room, "%s%.*s.0", digits, exponent - n + 1, zeros);
	} else {
		snprintf(dst, room, "%.*s.%s", exponent + 1, digits, digits + exponent + 1);
	}
}

static enum status repr_str(struct jinja_sb *sb, struct jinja_str s)
{
	const char *quote = "'";
	size_t i, n, done = 0;
	char text[16];
	uint32_t cp;

	if (s.len && memchr(s.s, '\'', s.len) && !memchr(s.s, '"', s.len))
		quote = "\"";
	TRY(jinja_sb_puts(sb, quote));
	for (i = 0; i < s.len; i += n) {
		n = utf8_decode(s.s + i, &cp);
		if (cp == '\\' || cp == (uint8_t)*quote)
			snprintf(text, sizeof(text), "\\%c", (int)cp);
		else if (cp == '\n' || cp == '\r' || cp == '\t')
			snprintf(text, sizeof(text), "\\%c",
				cp == '\n'   ? 'n'
				: cp == '\r' ? 'r'
					     : 't');
		else if (cp == ' ' ||
			 (unicode_class_of(cp) & (UNI_L | UNI_M | UNI_N | UNI_P | UNI_S)))
			continue;
		else
			snprintf(text, sizeof(text),
				cp < 0x100     ? "\\x%02x"
				: cp < 0x10000 ? "\\u%04x"
					       : "\\U%08x",
				cp);
		TRY(jinja_sb_put(sb, jinja_str_sub(s, done, i)));
		TRY(jinja_sb_put_as(sb, s, i, text));
		done = i + n;
	}
	TRY(jinja_sb_put(sb, jinja_str_sub(s, done, s.len)));
	return jinja_sb_puts(sb, quote);
}

static enum status repr_list(struct jinja_sb *sb, const struct jinja_list *l)
{
	size_t i;

	TRY(jinja_sb_puts(sb, l->tuple ? "(" : "["));
	for (i = 0; i < l->n; i++) {
		if (i)
			TRY(jinja_sb_puts(sb, ", "));
		TRY(jinja_repr(sb, l->items[i]));
	}
	return jinja_sb_puts(sb, !l->tuple ? "]" : l->n == 1 ? ",)" : ")");
}

static enum status repr_dict(struct jinja_sb *sb, const struct jinja_dict *d)
{
	size_t i;

	TRY(jinja_sb_puts(sb, "{"));
	for (i = 0; i < d->n; i++) {
		if (i)
			TRY(jinja_sb_puts(sb, ", "));
		TRY(jinja_repr(sb, d->pairs[i].key));
		TRY(jinja_sb_puts(sb, ": "));
		TRY(jinja_repr(sb, d->pairs[i].value));
	}
	return jinja_sb_puts(sb, "}");
}

enum status jinja_repr(struct jinja_sb *sb, struct jinja_value v)
{
	struct jinja_run *r = sb->run;
	char text[JINJA_FLOAT_BYTES];

	TRY(jinja_charge(r, 1));
	TRY(jinja_enter(r));
	switch ((enum jinja_type)v.type) {
	case JINJA_UNDEFINED:
		TRY(jinja_sb_puts(sb, "Undefined"));
		break;
	case JINJA_NONE:
		TRY(jinja_sb_puts(sb, "None"));
		break;
	case JINJA_BOOL:
		TRY(jinja_sb_puts(sb, v.b ? "True" : "False"));
		break;
	case JINJA_INT:
		snprintf(text, sizeof(text), "%" PRId64, v.i);
		TRY(jinja_sb_puts(sb, text));
		break;
	case JINJA_FLOAT:
		jinja_format_float(v.f, text);
		TRY(jinja_sb_puts(sb, text));
		break;
	case JINJA_STRING:
		TRY(repr_str(sb, *v.str));
		break;
	case JINJA_LIST:
		TRY(repr_list(sb, v.list));
		break;
	case JINJA_DICT:
		TRY(repr_dict(sb, v.dict));
		break;
	default:
		return jinja_fail(r, E_INVAL, "a %s cannot be printed", jinja_type_name(v));
	}
	jinja_leave(r);
	return OK;
}

enum status jinja_print(struct jinja_sb *sb, struct jinja_value v)
{
	if (v.type == JINJA_UNDEFINED)
		return OK;
	return v.type == JINJA_STRING ? jinja_sb_put(sb, *v.str) : jinja_repr(sb, v);
}

enum status jinja_to_str(struct jinja_run *r, struct jinja_value v, struct jinja_str *out)
{
	struct jinja_sb sb = {.run = r};

	if (v.type == JINJA_STRING) {
		*out = *v.str;
		return OK;
	}
	TRY(jinja_print(&sb, v));
	*out = (struct jinja_str){.s = sb.s ? sb.s : "", .mark = sb.mark, .len = sb.len};
	return OK;
}

/* How json.dumps was asked to write. */
struct json_form {
	struct jinja_sb *sb;
	struct jinja_str item_sep, key_sep, indent;
	bool ascii, sorted, lines;
};

static enum status json_line(struct json_form *f, unsigned level)
{
	if (!f->lines)
		return OK;
	TRY(jinja_sb_puts(f->sb, "\n"));
	while (level--)
		TRY(jinja_sb_put(f->sb, f->indent));
	return OK;
}

static enum status json_str(struct json_form *f, struct jinja_str s)
{
	static const char plain[] = "\"\\\n\r\t\f\b", letters[] = "\"\\nrtfb";
	size_t i, n, done = 0;
	char text[16];
	uint32_t cp;

	TRY(jinja_sb_puts(f->sb, "\""));
	for (i = 0; i < s.len; i += n) {
		const char *hit;

		n = utf8_decode(s.s + i, &cp);
		hit = cp && cp < 128 ? strchr(plain, (int)cp) : NULL;
		if (hit)
			snprintf(text, sizeof(text), "\\%c", letters[hit - plain]);
		else if (cp < 0x20 || (f->ascii && cp > 126 && cp < 0x10000))
			snprintf(text, sizeof(text), "\\u%04x", cp);
		else if (f->ascii && cp >= 0x10000)
			snprintf(text, sizeof(text), "\\u%04x\\u%04x", 0xD7C0 + (cp >> 10),
				0xDC00 + (cp & 0x3FF));
		else
			continue;
		TRY(jinja_sb_put(f->sb, jinja_str_sub(s, done, i)));
		TRY(jinja_sb_put_as(f->sb, s, i, text));
		done = i + n;
	}
	TRY(jinja_sb_put(f->sb, jinja_str_sub(s, done, s.len)));
	return jinja_sb_puts(f->sb, "\"");
}

static enum status json_value(struct json_form *f, struct jinja_value v, unsigned level);

/* Keys that are not text are written as text. */
static enum status json_key(struct json_form *f, struct jinja_value key)
{
	char text[JINJA_FLOAT_BYTES] = "null";

	switch ((enum jinja_type)key.type) {
	case JINJA_STRING:
		return json_str(f, *key.str);
	case JINJA_NONE:
		break;
	case JINJA_BOOL:
		strcpy(text, key.b ? "true" : "false");
		break;
	case JINJA_INT:
		snprintf(text, sizeof(text), "%" PRId64, key.i);
		break;
	case JINJA_FLOAT:
		jinja_format_float(key.f, text);
		break;
	default:
		return jinja_fail(f->sb->run, E_INVAL, "tojson: a key of type %s has no JSON form",
			jinja_type_name(key));
	}
	return json_str(f, (struct jinja_str){.s = text, .len = strlen(text)});
}

/* Sorts pairs by key, keeping the order of equals. */
static enum status sort_pairs(
	struct jinja_run *r, struct jinja_pair *a, struct jinja_pair *tmp, size_t n)
{
	size_t half = n / 2, i = 0, j = half, k = 0;

	if (n < 2)
		return OK;
	TRY(sort_pairs(r, a, tmp, half));
	TRY(sort_pairs(r, a + half, tmp, n - half));
	while (i < half && j < n) {
		int c;

		TRY(jinja_charge(r, 1));
		TRY(jinja_order(r, &c, a[j].key, a[i].key));
		tmp[k++] = c < 0 ? a[j++] : a[i++];
	}
	while (i < half)
		tmp[k++] = a[i++];
	memcpy(a, tmp, k * sizeof(*a));
	return OK;
}

static enum status json_dict(struct json_form *f, const struct jinja_dict *d, unsigned level)
{
	struct jinja_run *r = f->sb->run;
	struct jinja_pair *pairs = d->pairs, *tmp;
	size_t i;

	if (!d->n)
		return jinja_sb_puts(f->sb, "{}");
	if (f->sorted) {
		TRY(jinja_alloc(r, &pairs, d->n, sizeof(*pairs)));
		TRY(jinja_alloc(r, &tmp, d->n, sizeof(*tmp)));
		memcpy(pairs, d->pairs, d->n * sizeof(*pairs));
		TRY(sort_pairs(r, pairs, tmp, d->n));
	}
	TRY(jinja_sb_puts(f->sb, "{"));
	for (i = 0; i < d->n; i++) {
		if (i)
			TRY(jinja_sb_put(f->sb, f->item_sep));
		TRY(json_line(f, level + 1));
		TRY(json_key(f, pairs[i].key));
		TRY(jinja_sb_put(f->sb, f->key_sep));
		TRY(json_value(f, pairs[i].value, level + 1));
	}
	TRY(json_line(f, level));
	return jinja_sb_puts(f->sb, "}");
}

static enum status json_list(struct json_form *f, const struct jinja_list *l, unsigned level)
{
	size_t i;

	if (!l->n)
		return jinja_sb_puts(f->sb, "[]");
	TRY(jinja_sb_puts(f->sb, "["));
	for (i = 0; i < l->n; i++) {
		if (i)
			TRY(jinja_sb_put(f->sb, f->item_sep));
		TRY(json_line(f, level + 1));
		TRY(json_value(f, l->items[i], level + 1));
	}
	TRY(json_line(f, level));
	return jinja_sb_puts(f->sb, "]");
}

static enum status json_value(struct json_form *f, struct jinja_value v, unsigned level)
{
	struct jinja_run *r = f->sb->run;

	TRY(jinja_charge(r, 1));
	TRY(jinja_enter(r));
	switch ((enum jinja_type)v.type) {
	case JINJA_NONE:
		TRY(jinja_sb_puts(f->sb, "null"));
		break;
	case JINJA_BOOL:
		TRY(jinja_sb_puts(f->sb, v.b ? "true" : "false"));
		break;
	case JINJA_FLOAT:
		if (isnan(v.f) || isinf(v.f))
			TRY(jinja_sb_puts(f->sb, isnan(v.f) ? "NaN"
						 : v.f < 0  ? "-Infinity"
							    : "Infinity"));
		else
			TRY(jinja_repr(f->sb, v));
		break;
	case JINJA_INT:
		TRY(jinja_repr(f->sb, v));
		break;
	case JINJA_STRING:
		TRY(json_str(f, *v.str));
		break;
	case JINJA_LIST:
		TRY(json_list(f, v.list, level));
		break;
	case JINJA_DICT:
		TRY(json_dict(f, v.dict, level));
		break;
	default:
		return jinja_fail(r, E_INVAL, "tojson: a value of type %s has no JSON form",
			jinja_type_name(v));
	}
	jinja_leave(r);
	return OK;
}

enum status jinja_to_json(struct jinja_run *r, struct jinja_value *out, struct jinja_value v,
	const struct jinja_args *args)
{
	struct jinja_sb sb = {.run = r};
	struct json_form f = {
		.sb = &sb, .item_sep = {.s = ", ", .len = 2}, .key_sep = {.s = ": ", .len = 2}};
	struct jinja_value a[4], blank;
	int64_t n;

	TRY(jinja_bind(r, "tojson", args, "ensure_ascii indent separators sort_keys", 0, a));
	f.ascii = jinja_truth(a[0]);
	f.sorted = jinja_truth(a[3]);
	if (jinja_given(a[1]) && a[1].type != JINJA_NONE) {
		f.lines = true;
		f.item_sep.len = 1;
		if (a[1].type == JINJA_STRING) {
			f.indent = *a[1].str;
		} else {
			TRY(jinja_need_int(r, "tojson: indent", a[1], &n));
			TRY(jinja_str_new(r, &blank, (struct jinja_str){.s = " ", .len = 1}));
			TRY(jinja_binary(r, '*', blank, jinja_int(n), &blank));
			f.indent = *blank.str;
		}
	}
	if (jinja_given(a[2]) && a[2].type != JINJA_NONE) {
		if (a[2].type != JINJA_LIST || a[2].list->n != 2)
			return jinja_fail(r, E_INVAL, "tojson: separators: expected two strings");
		TRY(jinja_need_str(r, "tojson: separators", a[2].list->items[0], &f.item_sep));
		TRY(jinja_need_str(r, "tojson: separators", a[2].list->items[1], &f.key_sep));
	}
	TRY(json_value(&f, v, 0));
	return jinja_sb_value(&sb, out);
}
