/* Options from a YAML file: what it may say, what is refused by file, line and key, who wins. */
#include "cm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/opt.h"

struct values {
	const char *file, *name, *json, *color;
	struct opt_strings words;
	struct opt_sizes sizes;
	int64_t count;
	double part;
	bool flag;
	int maybe;
};

#define AT(f) .offset = offsetof(struct values, f), .help = "."

static const struct opt opts[] = {
	{ .name = "config", .type = OPT_FILE, .value = "FILE", AT(file) },
	{ .name = "the-name", .type = OPT_STRING, .value = "NAME", AT(name) },
	{ .name = "json", .type = OPT_JSON, .value = "JSON", AT(json) },
	{ .name = "color", .type = OPT_CHOICE, .choices = "red|green", AT(color) },
	{ .name = "words", .type = OPT_STRINGS, .value = "W...", AT(words), .secret = true },
	{ .name = "sizes", .type = OPT_SIZES, .value = "N...", .max = 1e6, AT(sizes) },
	{ .name = "count", .type = OPT_SIZE, .value = "N", .max = 1e6, AT(count) },
	{ .name = "part", .type = OPT_DOUBLE, .value = "P", .max = 1, AT(part) },
	{ .name = "flag", .type = OPT_SWITCH, AT(flag) },
	{ .name = "maybe", .type = OPT_TRISTATE, AT(maybe) },
	{ 0 },
};

static const struct opt_refused refused[] = { { "--later", "not yet" }, { 0 } };

static const struct opt_table table = { .command = "x", .arguments = "", .summary = ".", .opts = opts,
	.refused = refused, .values_bytes = sizeof(struct values) };

static char path[] = "/tmp/opt_file_testXXXXXX";

/* Parses with a file of this text, and these words behind it. */
static enum status parse(struct opt_result *r, struct values *v, const char *text, size_t len, int n, char **words,
	struct error *err)
{
	char *argv[8] = { "--config", path };
	FILE *f = fopen(path, "w");

	assert_int_equal(fwrite(text, 1, len, f), len);
	fclose(f);
	for (int i = 0; i < n; i++)
		argv[2 + i] = words[i];
	*v = (struct values){ .maybe = -1, .flag = true };
	return opt_parse(r, &table, 2 + n, argv, v, err);
}

static void test_values(void **state)
{
	static const char text[] = "# all types\n"
		"the_name: \"yes\"\n"
		"json: {a: [1, 2.5, x, null, on], 'b': {c: \"5\"}}\n"
		"color: green\n"
		"words: [one, 2]\n"
		"sizes:\n  - 1k\n  - 7\n"
		"count: 4K\n"
		"part: 0.25\n"
		"flag: off\n"
		"no-maybe: true\n";
	struct opt_result r;
	struct values v;
	struct error err;

	assert_int_equal(parse(&r, &v, text, sizeof(text) - 1, 0, NULL, &err), OK);
	assert_string_equal(v.name, "yes");
	assert_string_equal(v.json, "{\"a\":[1,2.5,\"x\",null,true],\"b\":{\"c\":\"5\"}}");
	assert_string_equal(v.color, "green");
	assert_int_equal(v.words.n, 2);
	assert_string_equal(v.words.v[1], "2");
	assert_int_equal(v.sizes.n, 2);
	assert_int_equal(v.sizes.v[0], 1000);
	assert_int_equal(v.count, 4096);
	assert_true(v.part == 0.25);
	assert_false(v.flag);
	assert_int_equal(v.maybe, 0);
	opt_result_deinit(&r);
}

static void test_command_line_wins(void **state)
{
	static const char text[] = "count: 1\nthe-name: file\nwords: [a, b]\nflag: false\npart: 1\n";
	char *words[] = { "--count=2", "--words", "c", "--words=d", "--flag" };
	struct opt_result r;
	struct values v;
	struct error err;

	assert_int_equal(parse(&r, &v, text, sizeof(text) - 1, 5, words, &err), OK);
	assert_int_equal(v.count, 2);
	assert_string_equal(v.name, "file");
	assert_int_equal(v.words.n, 2);
	assert_string_equal(v.words.v[0], "c");
	assert_true(v.flag);
	assert_true(v.part == 1);
	opt_result_deinit(&r);
}

static void test_refused(void **state)
{
	static const struct { const char *text, *says; } cases[] = {
		{ "\nnothing: 1", ":2: unknown option --nothing" },
		{ "cuont: 1", "did you mean --count" },
		{ "count: one", ":1: --count: found 'one'" },
		{ "count: [1]", "--count: found a list, expected N" },
		{ "count: {a: 1}", "--count: found a map" },
		{ "count: 2000000", "--count: found '2000000'" },
		{ "count:", "--count: found null" },
		{ "the-name: true", "--the-name: found true, expected text" },
		{ "words: [a, [b]]", "--words: found a list or a map in the list" },
		{ "words: []", "--words: found an empty list" },
		{ "color: blue", "--color: found 'blue', expected red|green" },
		{ "flag: 1", "--flag: found '1', expected true or false" },
		{ "no-flag: 1", "--no-flag" },
		{ "no-count: true", "unknown option --no-count" },
		{ "config: other", "names no other one" },
		{ "later: {a: b}", ":1: --later: not supported: not yet" },
		{ "flag: true\n\nno_flag: true", ":3: --flag: found twice" },
		{ "json: {a: 1, a: 2}", "found the key 'a' twice" },
		{ "json: &x [*x]", "--json: more than 32 levels" },
		{ "json: [&a [0,0,0,0,0,0,0,0,0,0], &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a], "
		  "&c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b], [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]]", "10000 values" },
		{ "- count", "expected a map" },
		{ "count: 1\n---\ncount: 2\n", "a second document" },
		{ "count: 'a", "not valid YAML" },
		{ "? [a]\n: b", "no option of x" },
		{ "a234567890123456789012345678901234567890123456789012345678901234567890: 1", "no option of x" },
		{ "the-name: \"a\\0b\"", "NUL" },
		{ "the-name: \xff", "not valid YAML" },
		{ "count: 1\nthe-name: !!str 5", ":2: found the tag 'tag:yaml.org,2002:str'" },
		{ "the-name: !!null x", ":1: found the tag" },
		{ "json: {a: 1,\n  b: !x {c: 1}}", ":2: found the tag '!x'" },
		{ "json: [1, !!seq [2]]", "found the tag" },
		{ "!!map {count: 1}", "found the tag" },
		{ "count: ! 1", "found the tag '!'" },
		{ "json: &a {b: 1}\n<<: *a", ":2: found the key '<<'" },
		{ "json: {a: &a {b: 1},\n c: {d: 1,\n <<: *a}}", ":3: found the key '<<'" },
	};
	struct opt_result r;
	struct values v;
	struct error err;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_not_equal(parse(&r, &v, cases[i].text, strlen(cases[i].text), 0, NULL, &err), OK);
		assert_int_equal(strncmp(err.msg, path, strlen(path)), 0);
		if (!strstr(err.msg, cases[i].says))
			fail_msg("%s: expected %s", err.msg, cases[i].says);
	}
}

static void test_empty_and_missing(void **state)
{
	char *argv[] = { "--config", "/nowhere/at/all" };
	struct opt_result r;
	struct values v;
	struct error err;

	assert_int_equal(parse(&r, &v, "# nothing\n", 10, 0, NULL, &err), OK);
	opt_result_deinit(&r);
	assert_int_equal(parse(&r, &v, "", 0, 0, NULL, &err), OK);
	opt_result_deinit(&r);
	assert_int_equal(opt_parse(&r, &table, 2, argv, &v, &err), E_IO);
	assert_non_null(strstr(err.msg, "/nowhere/at/all"));
}

static void test_too_long(void **state)
{
	size_t len = (1u << 20) + 1;
	char *text = malloc(len);
	struct opt_result r;
	struct values v;
	struct error err;

	memset(text, '#', len);
	assert_int_equal(parse(&r, &v, text, len, 0, NULL, &err), E_LIMIT);
	free(text);
}

/* Deep text is refused before its time grows with the square of the depth. */
static void test_too_deep(void **state)
{
	static const char plain[] = "json: {'<<': [<<, \"!!str\"]}";
	static const char *const forms[] = { "[", "{a: ", "- ", "? " };
	struct opt_result r;
	struct values v;
	struct error err;

	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		struct buf text = { 0 };

		buf_puts(&text, "count: 1\njson:\n  ");
		while (text.len < (1u << 20) - 64)
			buf_puts(&text, forms[i]);
		assert_int_equal(parse(&r, &v, text.data, text.len, 0, NULL, &err), E_LIMIT);
		assert_non_null(strstr(err.msg, ":3: more than 34 levels"));
		buf_deinit(&text);
	}
	assert_int_equal(parse(&r, &v, plain, sizeof(plain) - 1, 0, NULL, &err), OK);
	assert_string_equal(v.json, "{\"<<\":[\"<<\",\"!!str\"]}");
	opt_result_deinit(&r);
}

static void test_changed(void **state)
{
	static const char text[] = "the-name: it's\nwords: [key]\nflag: false\nmaybe: true\nsizes: [1, 2]\njson: {a: 1}\n";
	const struct values preset = { .maybe = -1, .flag = true };
	struct opt_result r;
	struct buf out = { 0 };
	struct values v;
	struct error err;
	int next = 0;

	assert_int_equal(parse(&r, &v, text, sizeof(text) - 1, 0, NULL, &err), OK);
	v.file = NULL;
	while (opt_put_changed(&out, &table, &next, &preset, &v))
		buf_putc(&out, ';');
	assert_string_equal(out.data, "'the_name': 'it\\'s';'json': {\"a\":1};'words': '***';'sizes': [1, 2];"
		"'flag': False;'maybe': True;");
	buf_deinit(&out);
	opt_result_deinit(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_command_line_wins),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_empty_and_missing),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_too_deep),
		cmocka_unit_test(test_changed),
	};
	int fd = mkstemp(path), failed;

	if (fd < 0)
		return 1;
	close(fd);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return failed;
}
