/*
 * Option tables (base/opt.h).
 *
 * Invariant: an option that is not in the table is an error; nothing is ignored in silence.
 */
#include "base/opt_int.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define MAX_NAME OPT_MAX_NAME

int opt_distance(const char *a, const char *b)
{
	int n = (int)strlen(a), m = (int)strlen(b);
	int row[3][MAX_NAME + 1];

	if (n > MAX_NAME || m > MAX_NAME)
		return MAX_NAME;
	for (int j = 0; j <= m; j++)
		row[0][j] = j;
	for (int i = 1; i <= n; i++) {
		int *cur = row[i % 3], *prev = row[(i + 2) % 3], *prev2 = row[(i + 1) % 3];

		cur[0] = i;
		for (int j = 1; j <= m; j++) {
			int ca = tolower((unsigned char)a[i - 1]), cb = tolower((unsigned char)b[j - 1]);
			int best = prev[j - 1] + (ca != cb);

			if (prev[j] + 1 < best)
				best = prev[j] + 1;
			if (cur[j - 1] + 1 < best)
				best = cur[j - 1] + 1;
			if (i > 1 && j > 1 && ca == tolower((unsigned char)b[j - 2]) &&
				cb == tolower((unsigned char)a[i - 2]) && prev2[j - 2] + 1 < best)
				best = prev2[j - 2] + 1;
			cur[j] = best;
		}
	}
	return row[n % 3][m];
}

int opt_near(const char *name)
{
	size_t n = strlen(name);

	return n < 3 ? 0 : n < 6 ? 1 : n < 10 ? 2 : 3;
}

static const struct opt *in_list(const struct opt *list, int *i)
{
	for (const struct opt *o = list; o && o->name; o++) {
		if ((*i)-- == 0)
			return o;
	}
	return NULL;
}

const struct opt *opt_at(const struct opt_table *t, int i)
{
	const struct opt *o = in_list(t->opts, &i);

	for (const struct opt_list *l = t->common; !o && l && l->title; l++)
		o = in_list(l->opts, &i);
	return o;
}

const struct opt *opt_find(const struct opt_table *t, const char *name)
{
	const struct opt *o;

	for (int i = 0; (o = opt_at(t, i)); i++) {
		if (strcmp(o->name, name) == 0)
			return o;
	}
	return NULL;
}

/* The one option that begins so; NULL when there are several or none. */
static const struct opt *find_prefix(const struct opt_table *t, const char *name)
{
	const struct opt *o, *found = NULL;

	for (int i = 0; t->prefixes && (o = opt_at(t, i)); i++) {
		if (strncmp(o->name, name, strlen(name)) != 0)
			continue;
		if (found)
			return NULL;
		found = o;
	}
	return found;
}

enum status opt_unknown(const struct opt_table *t, const char *name, struct error *err)
{
	const struct opt *o, *best = NULL;
	int best_distance = opt_near(name);

	for (int i = 0; (o = opt_at(t, i)); i++) {
		int d = opt_distance(name, o->name);

		if (strncmp(o->name, name, strlen(name)) == 0)
			d = 0;
		if (d <= best_distance) {
			best_distance = d - 1;
			best = o;
		}
	}
	if (best)
		return error_set(err, E_INVAL, "unknown option --%s of %s (did you mean --%s?)", name,
			t->command, best->name);
	return error_set(err, E_INVAL, "unknown option --%s of %s (see fathom help %s)", name, t->command,
		t->command);
}

/* Power-of-ten letters are small, powers of 1024 are capital or have an i. */
static bool unit_factor(const char *s, double *factor)
{
	static const char letters[] = "kmgt";
	const char *at;
	double base;

	*factor = 1;
	if (!*s)
		return true;
	at = strchr(letters, tolower((unsigned char)*s));
	if (!at)
		return false;
	base = isupper((unsigned char)*s) || s[1] == 'i' ? 1024 : 1000;
	if (s[1] && strcmp(s + 1, "i") != 0 && strcmp(s + 1, "iB") != 0 && strcmp(s + 1, "B") != 0)
		return false;
	*factor = pow(base, (double)(at - letters) + 1);
	return true;
}

static enum status out_of_range(const struct opt *o, const char *text, bool whole, struct error *err)
{
	if (whole)
		return error_set(err, E_INVAL, "--%s: found '%.40s', expected a whole number from %.0f to %.0f",
			o->name, text, o->min, o->max);
	return error_set(err, E_INVAL, "--%s: found '%.40s', expected a number %s %g and at most %g", o->name,
		text, o->above ? "above" : "of at least", o->min, o->max);
}

static enum status parse_number(double *out, const struct opt *o, const char *text, bool whole,
	struct error *err)
{
	bool unit = o->type == OPT_SIZE || o->type == OPT_SIZES;
	double v, factor = 1;
	char *end;

	errno = 0;
	v = strtod(text, &end);
	if (end == text || isspace((unsigned char)*text) || (unit ? !unit_factor(end, &factor) : *end))
		return error_set(err, E_INVAL, "--%s: found '%.40s', expected %s", o->name, text,
			unit ? "a number such as 4096 or 4K" :
			whole ? "a whole number" : "a number");
	v *= factor;
	if (!isfinite(v) || v < o->min || v > o->max || (whole && v != floor(v)) || (o->above && v == o->min))
		return out_of_range(o, text, whole, err);
	*out = v;
	return OK;
}

static bool is_choice(const char *choices, const char *text)
{
	size_t len = strlen(text);

	for (const char *p = choices; *p;) {
		size_t n = strcspn(p, "|");

		if (n == len && memcmp(p, text, n) == 0)
			return true;
		p += n + (p[n] == '|');
	}
	return false;
}

static enum status parse_list(struct opt_sizes *list, const struct opt *o, const char *text,
	struct error *err)
{
	do {
		size_t n = strcspn(text, ",");
		char item[48];
		double v;

		if (n == 0 || n >= sizeof(item))
			return error_set(err, E_INVAL, "--%s: found '%.40s', expected numbers between commas",
				o->name, text);
		if (list->n == OPT_MAX_SIZES)
			return error_set(err, E_INVAL, "--%s: more than %d values", o->name, OPT_MAX_SIZES);
		memcpy(item, text, n);
		item[n] = 0;
		TRY(parse_number(&v, o, item, true, err));
		list->v[list->n++] = (int64_t)v;
		text += n;
	} while (*text++ == ',');
	return OK;
}

static enum status add_string(struct opt_strings *list, const struct opt *o, const char *text,
	struct error *err)
{
	if (list->preset)
		list->n = 0;
	list->preset = false;
	if (list->n == OPT_MAX_STRINGS)
		return error_set(err, E_INVAL, "--%s: more than %d values", o->name, OPT_MAX_STRINGS);
	list->v[list->n++] = text;
	return OK;
}

int64_t opt_sizes_min(const struct opt_sizes *s)
{
	int64_t min = s->v[0];

	for (int i = 1; i < s->n; i++)
		min = s->v[i] < min ? s->v[i] : min;
	return min;
}

int64_t opt_sizes_max(const struct opt_sizes *s)
{
	int64_t max = s->v[0];

	for (int i = 1; i < s->n; i++)
		max = s->v[i] > max ? s->v[i] : max;
	return max;
}

const char *opt_value_name(const struct opt *o)
{
	return o->choices ? o->choices : o->value ? o->value : "VALUE";
}

bool opt_is_switch(const struct opt *o)
{
	return o->type == OPT_SWITCH || o->type == OPT_TRISTATE;
}

void opt_set_switch(const struct opt *o, void *values, bool on)
{
	void *at = (char *)values + o->offset;

	if (o->type == OPT_SWITCH)
		*(bool *)at = on;
	else
		*(int *)at = on;
}

enum status opt_store(const struct opt *o, const char *text, void *values, struct error *err)
{
	void *at = (char *)values + o->offset;
	double v;

	switch (o->type) {
	case OPT_SWITCH:
	case OPT_TRISTATE:
		return error_set(err, E_INVAL, "--%s: found a value '%.40s', expected none", o->name, text);
	case OPT_INT:
	case OPT_SIZE:
		TRY(parse_number(&v, o, text, true, err));
		*(int64_t *)at = (int64_t)v;
		return OK;
	case OPT_DOUBLE:
		TRY(parse_number(&v, o, text, false, err));
		*(double *)at = v;
		return OK;
	case OPT_CHOICE:
		if (!is_choice(o->choices, text))
			return error_set(err, E_INVAL, "--%s: found '%.40s', expected %s", o->name, text,
				o->choices);
		*(const char **)at = text;
		return OK;
	case OPT_STRING:
	case OPT_JSON:
	case OPT_FILE:
		*(const char **)at = text;
		return OK;
	case OPT_SIZES:
		return parse_list(at, o, text, err);
	case OPT_STRINGS:
		return add_string(at, o, text, err);
	}
	return OK;
}

static bool is_option(const char *word)
{
	return word[0] == '-' && word[1] && !isdigit((unsigned char)word[1]) && word[1] != '.';
}

struct cursor {
	int argc;
	char **argv;
	int i;
};

/* Whether the next word is another value of a list. */
static bool more_values(const struct cursor *c, const struct opt *o)
{
	if (c->i >= c->argc)
		return false;
	if (o->type == OPT_SIZES)
		return isdigit((unsigned char)c->argv[c->i][0]);
	return o->type == OPT_STRINGS && !is_option(c->argv[c->i]);
}

/* Takes the value of `o` from "=..." or the next word, further words for lists. */
static enum status take_value(struct cursor *c, const struct opt *o, const char *inline_value,
	void *values, struct error *err)
{
	if (o->type == OPT_SIZES)
		((struct opt_sizes *)(void *)((char *)values + o->offset))->n = 0;
	if (inline_value)
		return opt_store(o, inline_value, values, err);
	if (opt_is_switch(o)) {
		opt_set_switch(o, values, true);
		return OK;
	}
	if (c->i >= c->argc)
		return error_set(err, E_INVAL, "--%s: expected a value (%s)", o->name, opt_value_name(o));
	TRY(opt_store(o, c->argv[c->i++], values, err));
	while (more_values(c, o))
		TRY(opt_store(o, c->argv[c->i++], values, err));
	return OK;
}

enum status opt_check_refused(const struct opt_table *t, const char *word, struct error *err)
{
	for (const struct opt_refused *r = t->refused; r && r->word; r++) {
		size_t n = strlen(r->word), i = 0;

		while (i < n && r->word[i] == (i > 1 && word[i] == '_' ? '-' : word[i]))
			i++;
		if (i == n && (word[i] == 0 || word[i] == '=' || word[i] == '.'))
			return error_set(err, E_UNSUPPORTED, "%s: not supported: %s", r->word, r->why);
	}
	return OK;
}

static enum status take_long(struct cursor *c, const struct opt_table *t, const char *word,
	void *values, struct error *err)
{
	const char *eq = strchr(word, '=');
	size_t len = eq ? (size_t)(eq - word) : strlen(word);
	const struct opt *o;
	char name[MAX_NAME];

	if (len == 0 || len >= sizeof(name))
		return error_set(err, E_INVAL, "unknown option --%.40s of %s", word, t->command);
	for (size_t i = 0; i < len; i++)
		name[i] = word[i] == '_' ? '-' : word[i];
	name[len] = 0;
	o = opt_find(t, name);
	if (!o && strncmp(name, "no-", 3) == 0) {
		o = opt_find(t, name + 3);
		if (o && opt_is_switch(o)) {
			if (eq)
				return error_set(err, E_INVAL, "--%s: found a value '%.40s', expected none", name,
					eq + 1);
			opt_set_switch(o, values, false);
			return OK;
		}
		o = NULL;
	}
	if (!o)
		o = find_prefix(t, name);
	if (!o)
		return opt_unknown(t, name, err);
	return take_value(c, o, eq ? eq + 1 : NULL, values, err);
}

static enum status take_short(struct cursor *c, const struct opt_table *t, const char *word,
	void *values, struct error *err)
{
	const struct opt *o;

	for (int i = 0; (o = opt_at(t, i)); i++) {
		if (o->letter && o->letter == word[1])
			return take_value(c, o, word[2] == '=' ? word + 3 : word[2] ? word + 2 : NULL, values,
				err);
	}
	return error_set(err, E_INVAL, "unknown option %.40s of %s (see fathom help %s)", word, t->command,
		t->command);
}

static enum status count_check(const struct opt_table *t, const struct opt_result *r, struct error *err)
{
	if (r->n_args < t->min_args)
		return error_set(err, E_INVAL, "%s: found %d argument%s, expected %s", t->command, r->n_args,
			r->n_args == 1 ? "" : "s", t->arguments);
	if (t->max_args >= 0 && r->n_args > t->max_args)
		return error_set(err, E_INVAL, "%s: unexpected argument '%.60s', expected %s", t->command,
			r->args[t->max_args], *t->arguments ? t->arguments : "none");
	return OK;
}

static enum status parse_words(struct opt_result *r, const struct opt_table *table, int argc, char **argv,
	void *values, struct error *err)
{
	struct cursor c = { argc, argv, 0 };
	bool only_args = false;

	r->n_args = 0;
	while (c.i < argc) {
		char *word = argv[c.i++];

		if (only_args || !is_option(word)) {
			r->args[r->n_args++] = word;
			continue;
		}
		if (strcmp(word, "--") == 0) {
			only_args = true;
			continue;
		}
		TRY(opt_check_refused(table, word, err));
		if (word[1] == '-')
			TRY(take_long(&c, table, word + 2, values, err));
		else
			TRY(take_short(&c, table, word, values, err));
	}
	return OK;
}

/* The value of the table's OPT_FILE; NULL: none was given. */
static const char *file_path(const struct opt_table *t, const void *values)
{
	const struct opt *o;

	for (int i = 0; (o = opt_at(t, i)); i++) {
		if (o->type == OPT_FILE)
			return *(const char *const *)(const void *)((const char *)values + o->offset);
	}
	return NULL;
}

/* The words twice: for the file's name, and again over what the file says. */
static enum status parse_all(struct opt_result *r, const struct opt_table *table, int argc, char **argv,
	void *values, struct error *err)
{
	void *preset = mem_alloc(table->values_bytes + 1);
	const char *path;
	enum status st;

	memcpy(preset, values, table->values_bytes);
	TRY_GOTO(out, parse_words(r, table, argc, argv, values, err));
	path = file_path(table, values);
	if (path) {
		BUG_ON(table->values_bytes == 0);
		memcpy(values, preset, table->values_bytes);
		TRY_GOTO(out, opt_file_apply(&r->texts, table, path, values, err));
		TRY_GOTO(out, parse_words(r, table, argc, argv, values, err));
	}
	st = count_check(table, r, err);
out:
	free(preset);
	return st;
}

enum status opt_parse(struct opt_result *out, const struct opt_table *table, int argc, char **argv,
	void *values, struct error *err)
{
	struct opt_result r = { .args = mem_alloc(sizeof(char *) * ((size_t)argc + 1)) };

	arena_init(&r.texts, 0);
	/* Asking for help wins over any mistake in the rest of the line. */
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
		r.help |= strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
	if (!r.help && parse_all(&r, table, argc, argv, values, err) != OK) {
		opt_result_deinit(&r);
		return err->code;
	}
	*out = r;
	return OK;
}

void opt_result_deinit(struct opt_result *r)
{
	free(r->args);
	r->args = NULL;
	arena_deinit(&r->texts);
}
