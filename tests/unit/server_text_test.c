/* server: stop strings against a plain search, JSON strings against jansson, API keys, error objects. */
#include "cm.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/random.h"
#include "server/auth.h"
#include "server/json_put.h"
#include "server/refusal.h"
#include "server/stop_text.h"

/* Where the first stop string of the set ends in text, or -1. */
static int plain_search(const struct stop_set *set, const char *text, size_t len, size_t *end)
{
	for (size_t e = 1; e <= len; e++) {
		for (size_t k = 0; k < set->n; k++) {
			size_t n = set->strings[k].len;

			if (e >= n && memcmp(text + e - n, set->strings[k].text, n) == 0) {
				*end = e;
				return (int)k;
			}
		}
	}
	return -1;
}

/* The longest end of text that begins a stop string. */
static size_t plain_held(const struct stop_set *set, const char *text, size_t len)
{
	size_t held = 0;

	for (size_t k = 0; k < set->n; k++) {
		for (size_t n = 1; n < set->strings[k].len && n <= len; n++) {
			if (n > held && memcmp(text + len - n, set->strings[k].text, n) == 0)
				held = n;
		}
	}
	return held;
}

static void random_text(char *out, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i++)
		out[i] = "ab"[random_u64(seed, i) % 2];
}

static void one_case(uint64_t seed)
{
	struct stop_set set = { 0 };
	struct stop_match m;
	char text[64], word[8];
	size_t at = 0, want_end = 0, used = 0, n_words = 1 + random_u64(seed, 100) % 3;
	int want, got = -1;

	for (size_t k = 0; k < n_words; k++) {
		size_t n = 1 + random_u64(seed, 200 + k) % sizeof(word);

		random_text(word, n, seed * 31 + k);
		stop_set_add(&set, word, n);
	}
	random_text(text, sizeof(text), seed * 31 + 30);
	want = plain_search(&set, text, sizeof(text), &want_end);
	stop_match_init(&m, &set);
	while (at < sizeof(text) && got < 0) {
		size_t n = 1 + random_u64(seed, 300 + at) % 5;

		if (n > sizeof(text) - at)
			n = sizeof(text) - at;
		got = stop_match_push(&m, text + at, n, true, &used);
		at += used;
		if (got < 0)
			assert_int_equal(stop_match_held(&m), plain_held(&set, text, at));
	}
	assert_int_equal(got, want);
	if (want >= 0)
		assert_int_equal(at, want_end);
	stop_match_deinit(&m);
	stop_set_deinit(&set);
}

static void test_stop_random(void **state)
{
	for (uint64_t seed = 0; seed < 3000; seed++)
		one_case(seed);
}

/* A string that is complete while it does not count neither ends the text nor holds all of it back. */
static void test_stop_inactive(void **state)
{
	struct stop_set set = { 0 };
	struct stop_match m;
	size_t used;

	stop_set_add(&set, "abab", 4);
	stop_match_init(&m, &set);
	assert_int_equal(stop_match_push(&m, "abab", 4, false, &used), -1);
	assert_int_equal(used, 4);
	assert_int_equal(stop_match_held(&m), 2);
	assert_int_equal(stop_match_push(&m, "abx", 3, true, &used), 0);
	assert_int_equal(used, 2);
	stop_match_deinit(&m);
	stop_set_deinit(&set);
}

static void test_json_strings(void **state)
{
	char text[200];
	size_t n = 0;
	struct buf b = { 0 };
	json_t *v;

	for (int c = 1; c < 128; c++)
		text[n++] = (char)c;
	memcpy(text + n, "\xc3\xa9\xe2\x80\xa8\xf0\x9f\x99\x82", 9);
	n += 9;
	json_put_string(&b, text, n);
	assert_null(memchr(b.data, '\n', b.len));
	v = json_loadb(b.data, b.len, JSON_DECODE_ANY, NULL);
	assert_non_null(v);
	assert_int_equal(json_string_length(v), n);
	assert_memory_equal(json_string_value(v), text, n);
	json_decref(v);
	buf_deinit(&b);
}

static void test_json_numbers(void **state)
{
	static const double values[] = { -0.1, 1, 1e300, -1.0 / 3, 5e-324, 0 };
	struct buf b = { 0 };

	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
		buf_reset(&b);
		json_put_real(&b, values[i]);
		assert_true(strtod(b.data, NULL) == values[i]);
		assert_non_null(strpbrk(b.data, ".e"));
	}
	buf_reset(&b);
	json_put_logprob(&b, -INFINITY);
	assert_string_equal(b.data, "-9999.0");
	buf_deinit(&b);
}

static void test_keys(void **state)
{
	static const char *const keys[] = { "one", "seventeen" };

	assert_true(auth_allows(keys, 0, NULL, NULL));
	assert_false(auth_allows(keys, 2, NULL, NULL));
	assert_true(auth_allows(keys, 2, "Bearer one", NULL));
	assert_true(auth_allows(keys, 2, "bEARER  seventeen", NULL));
	assert_true(auth_allows(keys, 2, "Bearer no", "one"));
	assert_false(auth_allows(keys, 2, "Bearer ", ""));
	assert_false(auth_allows(keys, 2, "Bearer oneone", NULL));
	assert_false(auth_allows(keys, 2, "Bearer on", NULL));
	assert_false(auth_allows(keys, 2, "Bearer seventeeN", NULL));
	assert_false(auth_allows(keys, 2, "Basic one", NULL));
}

/* A message that is cut stays UTF-8. */
static void test_refusal_cut(void **state)
{
	struct buf long_text = { 0 }, out = { 0 };
	struct refusal no;
	json_t *v;

	for (int shift = 0; shift < 4; shift++) {
		buf_reset(&long_text);
		for (int i = 0; i < shift; i++)
			buf_putc(&long_text, 'x');
		for (int i = 0; i < 400; i++)
			buf_puts(&long_text, "\xf0\x9f\x99\x82");
		assert_int_equal(refuse(&no, "p", "%s", long_text.data), E_INVAL);
		buf_reset(&out);
		refusal_put(&out, &no);
		v = json_loadb(out.data, out.len, 0, NULL);
		assert_non_null(v);
		assert_int_equal(json_integer_value(json_object_get(json_object_get(v, "error"), "code")), 400);
		json_decref(v);
	}
	buf_deinit(&long_text);
	buf_deinit(&out);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stop_random),
		cmocka_unit_test(test_stop_inactive),
		cmocka_unit_test(test_json_strings),
		cmocka_unit_test(test_json_numbers),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_refusal_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
