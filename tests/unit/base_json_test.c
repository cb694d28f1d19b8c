/* JSON access: bounded loading, and messages that name document, key, what was found and expected.
 */
#include "cm.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"

static json_t *parse(const char *text)
{
	json_t *v = NULL;
	struct error err;

	assert_int_equal(json_load_text(&v, text, strlen(text), "a.json", &err), OK);
	return v;
}

static void test_rejects(void **state)
{
	static const struct {
		const char *text;
		size_t len; /* 0: strlen */
	} bad[] = {
		{"", 0},
		{"{", 0},
		{"{\"a\":1,}", 0},
		{"{\"a\":1,\"a\":2}", 0},
		{"[1] x", 0},
		{"\"\xFF\"", 0},
		{"\"\xC0\x80\"", 0},
		{"\"\xED\xA0\x80\"", 0},
		{"\"a\nb\"", 0},
		{"NaN", 0},
		{"01", 0},
		{"1e999", 0},
		{"[1\0]", 4},
		{"[1]\0", 4},
		{"\0", 1},
		{"nul", 0},
		{"\"\\u0000\"", 0},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		size_t len = bad[i].len ? bad[i].len : strlen(bad[i].text);
		json_t *v = NULL;
		struct error err;

		if (json_load_text(&v, bad[i].text, len, "a.json", &err) != E_FORMAT)
			fail_msg("accepted: %s", bad[i].text);
		assert_memory_equal(err.msg, "a.json: not valid JSON at ", 26);
		assert_null(v);
	}
}

static void test_depth(void **state)
{
	enum { DEPTH = 100000 };
	char *text = malloc(2 * DEPTH);
	json_t *v = NULL;
	struct error err;

	memset(text, '[', DEPTH);
	memset(text + DEPTH, ']', DEPTH);
	assert_int_equal(json_load_text(&v, text, 2 * DEPTH, "deep", &err), E_FORMAT);
	assert_null(v);
	free(text);
}

static void test_get(void **state)
{
	json_t *o = parse("{\"n\":7,\"s\":\"x\",\"l\":[],\"o\":{},\"f\":1.5,\"u\":null}");
	struct error err;
	const char *s;
	int64_t n = -1;
	json_t *v;

	assert_int_equal(json_get_int(&n, o, "a.json", "n", 0, 10, &err), OK);
	assert_int_equal(n, 7);
	assert_int_equal(json_get_string(&s, o, "a.json", "s", &err), OK);
	assert_string_equal(s, "x");
	assert_int_equal(json_get_array(&v, o, "a.json", "l", &err), OK);
	assert_int_equal(json_get_object(&v, o, "a.json", "o", &err), OK);

	n = -1;
	assert_int_equal(json_get_int(&n, o, "a.json", "n", 8, 10, &err), E_FORMAT);
	assert_string_equal(err.msg, "a.json: n: found 7, expected 8 to 10");
	assert_int_equal(json_get_int(&n, o, "a.json", "f", 0, 10, &err), E_FORMAT);
	assert_string_equal(err.msg, "a.json: f: found number, expected an integer");
	assert_int_equal(json_get_int(&n, o, "a.json", "missing", 0, 10, &err), E_FORMAT);
	assert_string_equal(err.msg, "a.json: missing: found nothing, expected an integer");
	assert_int_equal(n, -1);
	assert_int_equal(json_get_string(&s, o, "a.json", "u", &err), E_FORMAT);
	assert_string_equal(err.msg, "a.json: u: found null, expected a string");
	/* A document cannot bring a NUL (jansson refuses the escape), a program can. */
	json_object_set_new(o, "z", json_stringn("a\0b", 3));
	assert_int_equal(json_get_string(&s, o, "a.json", "z", &err), E_FORMAT);
	assert_string_equal(err.msg, "a.json: z: contains a NUL character");
	assert_string_equal(s, "x");
	assert_int_equal(json_get_array(&v, o, "a.json", "o", &err), E_FORMAT);
	assert_int_equal(json_get_object(&v, o, "a.json", "l", &err), E_FORMAT);
	json_decref(o);
}

static void test_opt(void **state)
{
	json_t *o = parse("{\"n\":7,\"s\":\"x\",\"b\":true,\"f\":1.5,\"u\":null}");
	struct error err;
	const char *s = NULL;
	int64_t n = -1;
	double f = -1;
	bool b = false;

	assert_int_equal(json_opt_int(&n, o, "d", "missing", 0, 10, 3, &err), OK);
	assert_int_equal(n, 3);
	assert_int_equal(json_opt_int(&n, o, "d", "u", 0, 10, 4, &err), OK);
	assert_int_equal(n, 4);
	assert_int_equal(json_opt_int(&n, o, "d", "n", 0, 10, 4, &err), OK);
	assert_int_equal(n, 7);
	assert_int_equal(json_opt_int(&n, o, "d", "s", 0, 10, 4, &err), E_FORMAT);
	assert_int_equal(json_opt_double(&f, o, "d", "n", 0, 10, 2, &err), OK);
	assert_true(f == 7);
	assert_int_equal(json_opt_double(&f, o, "d", "f", 0, 1, 2, &err), E_FORMAT);
	assert_string_equal(err.msg, "d: f: found 1.5, expected 0 to 1");
	assert_int_equal(json_opt_double(&f, o, "d", "u", 0, 1, 0.5, &err), OK);
	assert_true(f == 0.5);
	assert_int_equal(json_opt_bool(&b, o, "d", "b", false, &err), OK);
	assert_true(b);
	assert_int_equal(json_opt_bool(&b, o, "d", "n", false, &err), E_FORMAT);
	assert_string_equal(err.msg, "d: n: found integer, expected true or false");
	assert_int_equal(json_opt_string(&s, o, "d", "missing", "def", &err), OK);
	assert_string_equal(s, "def");
	assert_int_equal(json_opt_string(&s, o, "d", "b", "def", &err), E_FORMAT);
	json_decref(o);
}

static void test_load_path(void **state)
{
	char dir[] = "/tmp/fathom-json-XXXXXX", path[64];
	struct error err;
	json_t *v = NULL;
	FILE *f;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/a.json", dir);
	assert_int_equal(json_load_path(&v, path, 100, &err), E_IO);
	assert_non_null(strstr(err.msg, "a.json: cannot open: No such file or directory"));
	assert_int_equal(json_load_path(&v, dir, 100, &err), E_IO);
	assert_non_null(strstr(err.msg, "not a regular file"));
	f = fopen(path, "w");
	assert_true(fputs("{\"a\": [1, 2]}", f) >= 0);
	fclose(f);
	assert_int_equal(json_load_path(&v, path, 12, &err), E_LIMIT);
	assert_non_null(strstr(err.msg, "13 bytes, at most 12 are read"));
	assert_null(v);
	assert_int_equal(json_load_path(&v, path, 13, &err), OK);
	assert_int_equal(json_array_size(json_object_get(v, "a")), 2);
	json_decref(v);
	unlink(path);
	/* A pipe must be refused, not waited for. */
	assert_int_equal(mkfifo(path, 0600), 0);
	v = NULL;
	assert_int_equal(json_load_path(&v, path, 100, &err), E_IO);
	assert_null(v);
	unlink(path);
	rmdir(dir);
}

static void test_loose(void **state)
{
	static const char text[] = "{\"a\":[18446744073709551615,-9223372036854775809,9223372036854775807,-9223372036854775808,"
		"9223372036854775808],\"b\":\"99999999999999999999\\\"99999999999999999999\",\"99999999999999999999\":1.0,"
		"\"d\":99999999999999999999e1,\"e\":\"\\u0000\",\"f\":12345678901234567890}";
	static const struct {
		const char *text;
		bool is;
	} objects[] = { { "{\"a\":9999999999999999999}", true }, { "{\"a\":\"\\u0000\"}", true }, { "{\"a\":1,\"a\":2}", true },
		{ "{}", true }, { "", false }, { "9999999999999999999", false }, { "{\"a\":9999999999999999999", false },
		{ "[]", false }, { "{\"a\":1e999}", false } };
	static const char late[] = "{\"a\":99999999999999999999, x}";
	struct error err;
	json_t *v, *a;

	assert_int_equal(json_load_text(&v, text, strlen(text), "t", &err), E_FORMAT);
	assert_int_equal(json_load_text_loose(&v, text, strlen(text), "t", &err), OK);
	a = json_object_get(v, "a");
	assert_true(json_real_value(json_array_get(a, 0)) == 18446744073709551616.0);
	assert_true(json_real_value(json_array_get(a, 1)) == -9223372036854775808.0);
	assert_int_equal(json_integer_value(json_array_get(a, 2)), INT64_MAX);
	assert_int_equal(json_integer_value(json_array_get(a, 3)), INT64_MIN);
	assert_true(json_real_value(json_array_get(a, 4)) == 9223372036854775808.0);
	assert_string_equal(json_string_value(json_object_get(v, "b")), "99999999999999999999\"99999999999999999999");
	assert_true(json_is_real(json_object_get(v, "99999999999999999999")));
	assert_true(json_real_value(json_object_get(v, "d")) == 99999999999999999999e1);
	assert_int_equal(json_string_length(json_object_get(v, "e")), 1);
	assert_true(json_real_value(json_object_get(v, "f")) == 12345678901234567890.0);
	json_decref(v);

	assert_int_equal(json_load_text_loose(&v, late, strlen(late), "t", &err), E_FORMAT);
	assert_memory_equal(err.msg, "t: not valid JSON at line 1, column 28: ", 40);
	for (size_t i = 0; i < sizeof(objects) / sizeof(*objects); i++)
		assert_int_equal(json_is_object_text(objects[i].text, strlen(objects[i].text)), objects[i].is);
	assert_false(json_is_object_text("{}\0", 3));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rejects),
		cmocka_unit_test(test_loose),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_get),
		cmocka_unit_test(test_opt),
		cmocka_unit_test(test_load_path),
	};

	alarm(600); /* a wait is a failure */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
