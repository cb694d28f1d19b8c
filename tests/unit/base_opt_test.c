/* Option tables: lists of words, and the beginnings of names where a table allows them. */
#include "cm.h"

#include <string.h>

#include "base/opt.h"

struct values {
	struct opt_strings words;
	int64_t input_len, input_rate, other;
	bool flag;
};

#define AT(f) offsetof(struct values, f)

static const struct opt opts[] = {
	{ .name = "words", .type = OPT_STRINGS, .offset = AT(words), .value = "W", .help = "." },
	{ .name = "input-len", .type = OPT_INT, .offset = AT(input_len), .max = 10, .value = "N", .help = "." },
	{ .name = "input-rate", .type = OPT_INT, .offset = AT(input_rate), .max = 10, .value = "N", .help = "." },
	{ .name = "other", .type = OPT_INT, .offset = AT(other), .max = 10, .value = "N", .help = "." },
	{ .name = "flag", .type = OPT_SWITCH, .offset = AT(flag), .help = "." },
	{ 0 },
};

static const struct opt_table strict = { .command = "x", .arguments = "", .summary = ".", .opts = opts };
static const struct opt_table lenient = { .command = "x", .arguments = "", .summary = ".", .opts = opts,
	.prefixes = true };

static enum status parse(struct values *v, const struct opt_table *t, int argc, char **argv, struct error *err)
{
	struct opt_result r = { 0 };
	enum status st = opt_parse(&r, t, argc, argv, v, err);

	if (st == OK)
		opt_result_deinit(&r);
	return st;
}

static void test_words(void **state)
{
	char *argv[] = { "--words", "a=1", "b", "--flag", "--words=c", "--words", "d", "-1", "--other", "3" };
	static const char *const want[] = { "a=1", "b", "c", "d", "-1" };
	struct values v = { 0 };
	struct error err;

	assert_int_equal(parse(&v, &strict, 10, argv, &err), OK);
	assert_int_equal(v.words.n, 5);
	for (int i = 0; i < 5; i++)
		assert_string_equal(v.words.v[i], want[i]);
	assert_true(v.flag);
	assert_int_equal(v.other, 3);
}

static void test_too_many_words(void **state)
{
	char *argv[OPT_MAX_STRINGS + 2] = { "--words" };
	struct values v = { 0 };
	struct error err;

	for (int i = 1; i < OPT_MAX_STRINGS + 2; i++)
		argv[i] = "w";
	assert_int_equal(parse(&v, &strict, OPT_MAX_STRINGS + 1, argv, &err), OK);
	v.words.n = 0;
	assert_int_equal(parse(&v, &strict, OPT_MAX_STRINGS + 2, argv, &err), E_INVAL);
	assert_non_null(strstr(err.msg, "--words"));
}

static void test_prefixes(void **state)
{
	struct { char *word; enum status st; } cases[] = {
		{ "--input-l=4", OK }, { "--input_l=4", OK }, { "--input-len=4", OK }, { "--input=4", E_INVAL },
		{ "--x=4", E_INVAL },
	};
	struct error err;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct values v = { 0 };

		assert_int_equal(parse(&v, &lenient, 1, &cases[i].word, &err), cases[i].st);
		assert_int_equal(v.input_len, cases[i].st == OK ? 4 : 0);
		assert_int_equal(v.input_rate, 0);
		/* Elsewhere only the whole name. */
		assert_int_equal(parse(&v, &strict, 1, &cases[i].word, &err), i == 2 ? OK : E_INVAL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_too_many_words),
		cmocka_unit_test(test_prefixes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
