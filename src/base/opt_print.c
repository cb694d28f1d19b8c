/*
 * What option tables and values look like: --help (base/opt.h), and the values that differ from their presets.
 */
#include "base/opt_int.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"

/* Appends words of `text`, wrapped at column 96 and indented by `indent`. */
static void put_wrapped(struct buf *out, const char *text, size_t indent)
{
	size_t column = indent;

	while (*text) {
		size_t n = strcspn(text, " ");

		if (column > indent && column + 1 + n > 96) {
			buf_printf(out, "\n%*s", (int)indent, "");
			column = indent;
		} else if (column > indent) {
			buf_putc(out, ' ');
			column++;
		}
		buf_append(out, text, n);
		column += n;
		text += n;
		while (*text == ' ')
			text++;
	}
	buf_putc(out, '\n');
}

static void put_option(struct buf *out, const struct opt *o)
{
	size_t start = out->len;

	if (o->letter)
		buf_printf(out, "  -%c, --", o->letter);
	else
		buf_puts(out, "  --");
	buf_printf(out, "%s%s", opt_is_switch(o) ? "[no-]" : "", o->name);
	if (!opt_is_switch(o))
		buf_printf(out, " %s", opt_value_name(o));
	if (out->len - start < 30)
		buf_printf(out, "%*s", (int)(30 - (out->len - start)), "");
	else
		buf_printf(out, "\n%*s", 30, "");
	put_wrapped(out, o->help, 30);
}

void opt_help(struct buf *out, const struct opt_table *t)
{
	buf_printf(out, "usage: fathom %s [options]%s%s\n\n", t->command, *t->arguments ? " " : "",
		t->arguments);
	put_wrapped(out, t->summary, 0);
	if (t->details) {
		buf_putc(out, '\n');
		buf_puts(out, t->details);
	}
	buf_puts(out, "\noptions:\n");
	for (const struct opt *o = t->opts; o && o->name; o++)
		put_option(out, o);
	buf_puts(out, "  -h, --help                  Show this text.\n");
	for (const struct opt_list *l = t->common; l && l->title; l++) {
		buf_printf(out, "\n%s:\n", l->title);
		for (const struct opt *o = l->opts; o->name; o++)
			put_option(out, o);
	}
}

static void put_quoted(struct buf *out, const char *s)
{
	buf_putc(out, '\'');
	for (; *s; s++) {
		if (*s == '\'' || *s == '\\')
			buf_putc(out, '\\');
		if (*s == '\n')
			buf_puts(out, "\\n");
		else
			buf_putc(out, *s);
	}
	buf_putc(out, '\'');
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_strings(const struct opt_strings *a, const struct opt_strings *b)
{
	for (int i = 0; i < a->n && a->n == b->n; i++) {
		if (strcmp(a->v[i], b->v[i]) != 0)
			return false;
	}
	return a->n == b->n;
}

static bool same_sizes(const struct opt_sizes *a, const struct opt_sizes *b)
{
	return a->n == b->n && memcmp(a->v, b->v, (size_t)a->n * sizeof(*a->v)) == 0;
}

static bool same(const struct opt *o, const void *a, const void *b)
{
	switch (o->type) {
	case OPT_SWITCH:
		return *(const bool *)a == *(const bool *)b;
	case OPT_TRISTATE:
		return *(const int *)a == *(const int *)b;
	case OPT_INT:
	case OPT_SIZE:
		return *(const int64_t *)a == *(const int64_t *)b;
	case OPT_DOUBLE:
		return *(const double *)a == *(const double *)b;
	case OPT_STRING:
	case OPT_CHOICE:
	case OPT_JSON:
	case OPT_FILE:
		return same_text(*(const char *const *)a, *(const char *const *)b);
	case OPT_SIZES:
		return same_sizes(a, b);
	case OPT_STRINGS:
		return same_strings(a, b);
	}
	return true;
}

static void put_value(struct buf *out, const struct opt *o, const void *at)
{
	const struct opt_sizes *sizes = at;
	const struct opt_strings *strings = at;

	switch (o->type) {
	case OPT_SWITCH:
		buf_puts(out, *(const bool *)at ? "True" : "False");
		return;
	case OPT_TRISTATE:
		buf_puts(out, *(const int *)at > 0 ? "True" : "False");
		return;
	case OPT_INT:
	case OPT_SIZE:
		buf_printf(out, "%lld", (long long)*(const int64_t *)at);
		return;
	case OPT_DOUBLE:
		buf_printf(out, "%g", *(const double *)at);
		return;
	case OPT_JSON:
		buf_puts(out, *(const char *const *)at);
		return;
	case OPT_STRING:
	case OPT_CHOICE:
	case OPT_FILE:
		put_quoted(out, *(const char *const *)at);
		return;
	case OPT_SIZES:
		for (int i = 0; i < sizes->n; i++)
			buf_printf(out, "%s%lld", i ? ", " : "[", (long long)sizes->v[i]);
		buf_putc(out, ']');
		return;
	case OPT_STRINGS:
		for (int i = 0; i < strings->n; i++) {
			buf_puts(out, i ? ", " : "[");
			put_quoted(out, strings->v[i]);
		}
		buf_putc(out, ']');
	}
}

bool opt_put_changed(struct buf *out, const struct opt_table *t, int *next, const void *preset,
	const void *values)
{
	const struct opt *o;

	while ((o = opt_at(t, (*next)++))) {
		const char *at = (const char *)values + o->offset;

		if (same(o, (const char *)preset + o->offset, at))
			continue;
		buf_putc(out, '\'');
		for (const char *c = o->name; *c; c++)
			buf_putc(out, *c == '-' ? '_' : *c);
		buf_puts(out, "': ");
		if (o->secret)
			buf_puts(out, "'***'");
		else
			put_value(out, o, at);
		return true;
	}
	return false;
}
