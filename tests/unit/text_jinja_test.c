/*
 * The template engine against Jinja2 itself: tests/data/jinja was made by tools/gen_jinja_table.py.
 * Then what the engine refuses, its bounds, and its marks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "cm.h"
#include "text/jinja.h"

#define DIR TEST_DATA "/jinja"

static struct error err;

/* Renders with every member of vars as a variable; `marked` names the one that is marked, or NULL.
 */
static enum status render(
	const char *source, size_t len, json_t *vars, const char *marked, struct jinja_output *out)
{
	struct jinja_limits limits = jinja_limits_for(1000);
	struct jinja_template *t;
	struct jinja_var v[64];
	size_t n = 0;
	const char *name;
	json_t *value;
	enum status st;

	json_object_foreach(vars, name, value)
	{
		assert_true(n < 64);
		v[n++] = (struct jinja_var){name, value, marked && strcmp(name, marked) == 0};
	}
	st = jinja_compile(&t, source, len, "test", &err);
	if (st != OK)
		return st;
	st = jinja_render(out, t, v, n, &limits, &err);
	jinja_destroy(t);
	return st;
}

static int check_row(json_t *vars, json_t *row, const char *file, int no)
{
	json_t *source = json_object_get(row, "template"), *want = json_object_get(row, "expected");
	struct jinja_output out = {0};
	enum status st;
	int bad = 0;

	memset(&err, 0, sizeof(err));
	st = render(json_string_value(source), json_string_length(source), vars, NULL, &out);
	if (st != OK && want) {
		print_error("%s:%d: %s\n  %s\n", file, no, json_string_value(source), err.msg);
		bad = 1;
	} else if (st == OK && !want) {
		print_error("%s:%d: %s\n  got '%s', expected the error %s\n", file, no,
			json_string_value(source), out.text.data,
			json_string_value(json_object_get(row, "error")));
		bad = 1;
	} else if (st == OK &&
		   (out.text.len != json_string_length(want) ||
			   (out.text.len && memcmp(out.text.data, json_string_value(want),
						    out.text.len) != 0))) {
		print_error("%s:%d: %s\n  got      '%s'\n  expected '%s'\n", file, no,
			json_string_value(source), out.text.data, json_string_value(want));
		bad = 1;
	} else if (st != OK && (st == E_INTERNAL || strncmp(err.msg, "test: line ", 11) != 0)) {
		print_error("%s:%d: %s\n  message '%s'\n", file, no, json_string_value(source),
			err.msg);
		bad = 1;
	}
	jinja_output_deinit(&out);
	return bad;
}

static void check_table(const char *name, int expected_rows)
{
	json_t *vars = json_load_file(DIR "/vars.json", 0, NULL), *row;
	char path[1000], *line = NULL;
	int no = 0, bad = 0;
	size_t cap = 0;
	ssize_t len;
	FILE *f;

	assert_non_null(vars);
	snprintf(path, sizeof(path), "%s/%s.jsonl", DIR, name);
	f = fopen(path, "r");
	assert_non_null(f);
	while ((len = getline(&line, &cap, f)) > 0) {
		row = json_loadb(line, (size_t)len, JSON_ALLOW_NUL, NULL);
		assert_non_null(row);
		bad += check_row(vars, row, name, ++no);
		json_decref(row);
	}
	free(line);
	fclose(f);
	json_decref(vars);
	assert_int_equal(bad, 0);
	assert_true(no >= expected_rows);
}

static void test_expressions(void **state)
{
	check_table("expressions", 590);
}

static void test_statements(void **state)
{
	check_table("statements", 160);
}

static const struct {
	const char *source;
	enum status status;
	const char *msg; /* how the message must read */
} refused[] = {
	{"{% include 'x' %}", E_UNSUPPORTED, "test: line 1: tag 'include' is not supported"},
	{"a\n\n{% import 'x' as y %}", E_UNSUPPORTED,
		"test: line 3: tag 'import' is not supported"},
	{"{% extends 'x' %}", E_UNSUPPORTED, "test: line 1: tag 'extends' is not supported"},
	{"{% block x %}{% endblock %}", E_UNSUPPORTED,
		"test: line 1: tag 'block' is not supported"},
	{"{% call f() %}{% endcall %}", E_UNSUPPORTED, "test: line 1: tag 'call' is not supported"},
	{"{% do x %}", E_UNSUPPORTED, "test: line 1: tag 'do' is not supported"},
	{"{% nonsense %}", E_FORMAT, "test: line 1: unexpected tag 'nonsense'"},
	{"{% endif %}", E_FORMAT, "test: line 1: unexpected tag 'endif'"},
	{"\n{{ x | frobnicate }}", E_UNSUPPORTED,
		"test: line 2: filter 'frobnicate' is not supported"},
	{"{{ x is frobnicated }}", E_UNSUPPORTED,
		"test: line 1: test 'frobnicated' is not supported"},
	{"{{ x.frob() }}", E_UNSUPPORTED, "test: line 1: method 'frob' is not supported"},
	{"{{ f(*x) }}", E_UNSUPPORTED, "test: line 1: unpacking of arguments is not supported"},
	{"{{ f(**x) }}", E_UNSUPPORTED, "test: line 1: unpacking of arguments is not supported"},
	{"{% for x in y recursive %}{% endfor %}", E_UNSUPPORTED,
		"test: line 1: recursive loops are not supported"},
	{"{{ self.x }}", E_UNSUPPORTED, "test: line 1: variable 'self' is not supported"},
	{"{% macro m() %}{{ varargs }}{% endmacro %}", E_UNSUPPORTED,
		"test: line 1: variable 'varargs' is not supported"},
	{"a\n{% if x %}\nb", E_FORMAT,
		"test: line 2: block 'if' without an end, expected 'elif else endif'"},
	{"{% for x in y %}", E_FORMAT,
		"test: line 1: block 'for' without an end, expected 'else endfor'"},
	{"{% if x %}{% else %}", E_FORMAT,
		"test: line 1: block 'if' without an end, expected 'endif'"},
	{"{% set x %}", E_FORMAT, "test: line 1: block 'set' without an end, expected 'endset'"},
	{"{% macro m() %}", E_FORMAT,
		"test: line 1: block 'macro' without an end, expected 'endmacro'"},
	{"{% if x %}{% endfor %}", E_FORMAT, "test: line 1: unexpected tag 'endfor'"},
	{"\n{# never", E_FORMAT, "test: line 2: comment without an end, expected '#}'"},
	{"{% raw %}x", E_FORMAT, "test: line 1: raw block without an end, expected '{% endraw %}'"},
	{"\n\n{{ x", E_FORMAT, "test: line 3: tag without an end, expected '}}'"},
	{"{% if x", E_FORMAT, "test: line 1: tag without an end, expected '%}'"},
	{"{{ 'abc }}", E_FORMAT, "test: line 1: string without an end, expected '"},
	{"{{ (1 }}", E_FORMAT, "test: line 1: unexpected '}', expected ')'"},
	{"{{ 1) }}", E_FORMAT, "test: line 1: unexpected ')'"},
	{"{{ }}", E_FORMAT, "test: line 1: found '}}', expected an expression"},
	{"{{ 1 2 }}", E_FORMAT, "test: line 1: found a number, expected '}}'"},
	{"{{ a b }}", E_FORMAT, "test: line 1: found 'b', expected '}}'"},
	{"{% if %}{% endif %}", E_FORMAT, "test: line 1: found '%}', expected an expression"},
	{"{% for x y %}{% endfor %}", E_FORMAT, "test: line 1: found 'y', expected 'in'"},
	{"{% for true in x %}{% endfor %}", E_FORMAT, "test: line 1: cannot assign to 'true'"},
	{"{% set loop = 1 %}", E_FORMAT, "test: line 1: cannot assign to 'loop'"},
	{"{% break %}", E_FORMAT, "test: line 1: 'break' outside a loop"},
	{"{% for x in y %}{% macro m() %}{% continue %}{% endmacro %}{% endfor %}", E_FORMAT,
		"test: line 1: 'continue' outside a loop"},
	{"{{ a ? b }}", E_FORMAT, "test: line 1: unexpected character '?'"},
	{"{{ f(a=1, 2) }}", E_FORMAT, "test: line 1: positional argument after a named one"},
	{"{{ 99999999999999999999 }}", E_FORMAT, "test: line 1: integer beyond 64 bits"},
	{"{{ '\\N{DASH}' }}", E_FORMAT,
		"test: line 1: escape '\\N' in a string is not supported or wrong"},
	{"{% macro m(a=1, b) %}{% endmacro %}", E_FORMAT,
		"test: line 1: parameter 'b' without a default after one with a default"},
	{"a\xFF", E_FORMAT, "test: not valid UTF-8 at byte 1"},
};

static void test_refused(void **state)
{
	struct jinja_template *t;
	size_t i;

	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		const char *s = refused[i].source;
		enum status st = jinja_compile(&t, s, strlen(s), "test", &err);

		if (st != refused[i].status || strcmp(err.msg, refused[i].msg) != 0)
			fail_msg("%s\n  status %d: %s\n  expected %d: %s", s, st, st ? err.msg : "",
				refused[i].status, refused[i].msg);
	}
}

/* Templates that must stop; the message says why and where. */
static const struct {
	const char *source, *msg;
} hostile[] = {
	{"{{ range(2 ** 60) }}", "range of more than 100000 numbers"},
	{"{{ range(0, 2 ** 62, 3) | length }}", "range of more than 100000 numbers"},
	{"\n{{ 'x' * 10 ** 9 }}", "line 2: "},
	{"{{ [0] * 10 ** 12 }}", "line 1: "},
	{"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
		"line 1: "},
	{"{% set r = range(100000) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
		"more than"},
	{"{% set r = range(100000) %}{% for a in r %}{% for b in r %}{% if [a] in [r] %}{% endif %}"
	 "{% endfor %}{% endfor %}",
		"line 1: "},
	{"{% for a in range(100000) %}some text that is not short some text that is not short some "
	 "text "
	 "that is not short some text that is not short some text that is not short some text that "
	 "is "
	 "not short, nor is this{% endfor %}",
		"output of more than"},
	{"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion of more than"},
	{"{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('abc') }}", "line 1: "},
	{"{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}"
	 "{% endfor %}",
		"line 1: "},
	{"{% set ns = namespace(l=[]) %}{% for i in range(1000) %}{% set ns.l = [ns.l] %}{% endfor "
	 "%}"
	 "{{ ns.l }}",
		"recursion of more than"},
	{"{% set a = namespace(l=[]) %}{% for i in range(1000) %}{% set a.l = [a.l] %}{% endfor %}"
	 "{% set b = namespace(l=[]) %}{% for i in range(1000) %}{% set b.l = [b.l] %}{% endfor %}"
	 "{{ a.l == b.l }}",
		"recursion of more than"},
	{"{% set ns = namespace(l=[]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}"
	 "{% endfor %}{{ ns.l | tojson | length }}",
		"line 1: "},
	{"{% set ns = namespace(s='a' * 1000000) %}{% for i in range(10000) %}"
	 "{% set x = ns.s.replace('a', 'bb') %}{% endfor %}",
		"line 1: "},
	{"{% set s = 'a' * 1000000 %}{{ s.rsplit('a' * 400000 ~ 'b') | length }}"
	 "{% for i in range(100000) %}{% if s.rfind('b' ~ 'a' * 400000) %}{% endif %}{% endfor %}",
		"line 1: "},
	{"{{ 2 ** 63 }}", "integer beyond 64 bits"},
	{"{{ 9223372036854775807 + 1 }}", "integer beyond 64 bits"},
	{"{{ -(-9223372036854775807 - 1) }}", "integer beyond 64 bits"},
	{"{{ (-9223372036854775807 - 1) // -1 }}", "integer beyond 64 bits"},
	{"{{ (-9223372036854775807 - 1) | abs }}", "integer beyond 64 bits"},
};

static void test_hostile(void **state)
{
	json_t *vars = json_object();
	struct jinja_output out = {0};
	size_t i;

	for (i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		const char *s = hostile[i].source;
		enum status st = render(s, strlen(s), vars, NULL, &out);

		if (st != E_LIMIT || !strstr(err.msg, hostile[i].msg) || !strstr(err.msg, "line "))
			fail_msg("%s\n  status %d: %s\n  expected %d: ...%s", s, st,
				st ? err.msg : "", E_LIMIT, hostile[i].msg);
	}
	json_decref(vars);
}

/* Nesting that would exhaust the stack is refused by the parser. */
static void test_deep_source(void **state)
{
	static const char *const open[] = {"(", "[", "{1:", "not ", "-", "x.a(", "x[",
		"1 if 1 else ", "x ~ (", "1 + ", "x | d | d(", "{% if x %}", "{% for x in y %}",
		"{% if x %}{% elif x %}"};
	struct jinja_template *t;
	size_t i, k;

	for (i = 0; i < sizeof(open) / sizeof(open[0]); i++) {
		size_t n = strlen(open[i]), cap = 100000 * n + 10;
		char *s = malloc(cap);
		size_t len = 0;

		if (open[i][0] != '{' || open[i][1] != '%')
			len = (size_t)snprintf(s, cap, "{{ ");
		for (k = 0; k < 40000 && len + n < JINJA_MAX_SOURCE_BYTES; k++, len += n)
			memcpy(s + len, open[i], n);
		assert_int_not_equal(jinja_compile(&t, s, len, "test", &err), OK);
		assert_non_null(strstr(err.msg, "test: line 1: "));
		free(s);
	}
}

/* Each expression over the marked variable m = "ab<cd>": text in [] must come out marked, the rest
 * not. */
static const struct {
	const char *source, *want;
} marks[] = {
	{"x{{ m }}y", "x[ab<cd>]y"},
	{"{{ 'x' + m + 'y' }}", "x[ab<cd>]y"},
	{"{{ 'x' ~ m ~ 1 }}", "x[ab<cd>]1"},
	{"{{ m[1:3] }}-{{ m[0] }}-{{ m[::-1] }}", "[b<]-[a]-[>dc<ba]"},
	{"{{ m.split('<') | join('<') }}", "[ab]<[cd>]"},
	{"{{ m.split('<', 1)[1] }}{{ m.rsplit('c')[0] }}", "[cd>ab<]"},
	{"{{ (' ' ~ m ~ ' ').strip() }}|{{ m.lstrip('a') }}|{{ m | trim('>') }}",
		"[ab<cd>]|[b<cd>]|[ab<cd]"},
	{"{{ m.replace('<', '#') }}", "[ab]#[cd>]"},
	{"{{ 'p-p'.replace('-', m) }}", "p[ab<cd>]p"},
	{"{{ m | upper }}{{ m | title }}{{ m.capitalize() }}", "[AB<CD>Ab<Cd>Ab<cd>]"},
	{"{{ m | tojson }}", "\"[ab<cd>]\""},
	{"{{ {m: [m]} | tojson }}", "{\"[ab<cd>]\": [\"[ab<cd>]\"]}"},
	{"{{ [m] }}", "['[ab<cd>]']"},
	{"{{ (m ~ '\n') | tojson }}", "\"[ab<cd>]\\n\""},
	{"{{ m | indent(2, true) }}", "  [ab<cd>]"},
	{"{% set x %}<{{ m }}>{% endset %}{{ x }}", "<[ab<cd>]>"},
	{"{% macro f(a) %}({{ a }}){% endmacro %}{{ f(m) }}", "([ab<cd>])"},
	{"{% filter upper %}x{{ m }}{% endfilter %}", "X[AB<CD>]"},
	{"{% for c in m %}{{ c }},{% endfor %}", "[a],[b],[<],[c],[d],[>],"},
	{"{% set ns = namespace(s='') %}{% for c in m %}{% set ns.s = ns.s + c %}{% endfor %}{{ "
	 "ns.s }}",
		"[ab<cd>]"},
	{"{{ m | list | join }}{{ [m, 'x'] | map('upper') | join('-') }}", "[ab<cd>AB<CD>]-X"},
	{"{{ m.partition('<') | join('|') }}", "[ab]|[<]|[cd>]"},
	{"{{ m.splitlines() | first }}{{ m | first }}{{ m | last }}", "[ab<cd>a>]"},
	{"{{ m | default('x') }}{{ missing | default(m) }}", "[ab<cd>ab<cd>]"},
	{"{{ m * 2 }}{{ m | string }}", "[ab<cd>ab<cd>ab<cd>]"},
	{"{{ m if m == 'ab<cd>' else 'no' }}{{ 'yes' if 'b<' in m }}", "[ab<cd>]yes"},
	{"{{ m.removeprefix('ab') }}{{ m | reverse }}{{ m | e }}", "[<cd>>dc<baab&lt;cd&gt;]"},
	{"{{ {'k': m}.items() | list }}", "[('k', '[ab<cd>]')]"},
	{"{{ m | length }}{{ '<plain>' }}", "6<plain>"},
};

/* Brackets around marked runs. */
static void show_marks(const struct jinja_output *o, struct buf *dst)
{
	size_t i;
	bool in = false;

	for (i = 0; i <= o->text.len; i++) {
		bool m = i < o->text.len && o->marks.len && o->marks.data[i];

		if (m != in)
			buf_putc(dst, m ? '[' : ']');
		in = m;
		if (i < o->text.len)
			buf_putc(dst, o->text.data[i]);
	}
}

/* Text collected piece by piece takes memory in proportion to its length, and values made from the
 * same text do not disturb each other. */
static void test_append(void **state)
{
	static const char grow[] = "{% set ns = namespace(s='') %}{% for i in range(50000) %}"
				   "{% set ns.s = ns.s + '\n### ' + 'name' ~ i + ' text' %}{% "
				   "endfor %}{{ ns.s | length }}";
	static const char fork[] =
		"{% set a = 'a' ~ 'b' %}{% set b = a + 'c' %}{% set c = a + 'd' %}{% set e = b + m "
		"%}"
		"{% set f = b ~ b %}{{ a }} {{ b }} {{ c }} {{ e }} {{ f }} {{ a ~ a ~ a }}";
	json_t *vars = json_pack("{s:s}", "m", "M");
	struct jinja_output out = {0};
	struct buf shown = {0};

	if (render(grow, sizeof(grow) - 1, vars, NULL, &out) != OK)
		fail_msg("%s", err.msg);
	assert_string_equal(out.text.data, "938890");
	jinja_output_deinit(&out);
	if (render(fork, sizeof(fork) - 1, vars, "m", &out) != OK)
		fail_msg("%s", err.msg);
	show_marks(&out, &shown);
	assert_string_equal(shown.data, "ab abc abd abc[M] abcabc ababab");
	buf_deinit(&shown);
	jinja_output_deinit(&out);
	json_decref(vars);
}

static void test_marks(void **state)
{
	json_t *vars = json_pack("{s:s}", "m", "ab<cd>");
	size_t i;

	for (i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		struct jinja_output out = {0};
		struct buf shown = {0};

		if (render(marks[i].source, strlen(marks[i].source), vars, "m", &out) != OK)
			fail_msg("%s: %s", marks[i].source, err.msg);
		assert_true(out.marks.len == 0 || out.marks.len == out.text.len);
		show_marks(&out, &shown);
		if (strcmp(shown.data, marks[i].want) != 0)
			fail_msg("%s\n  got      %s\n  expected %s", marks[i].source, shown.data,
				marks[i].want);
		buf_deinit(&shown);
		jinja_output_deinit(&out);
	}
	json_decref(vars);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_expressions),
		cmocka_unit_test(test_statements),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_deep_source),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_append),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
