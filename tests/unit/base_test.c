/* base: errors, heap, arena, byte strings, random numbers. */
#include "cm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/random.h"

static enum status fail_inner(struct error *err)
{
	return error_set(err, E_FORMAT, "field %s: found %d", "x", 3);
}

static enum status fail_outer(struct error *err)
{
	TRY(fail_inner(err));
	return OK;
}

static void test_error_forward(void **state)
{
	struct error err;

	assert_int_equal(fail_outer(&err), E_FORMAT);
	assert_string_equal(err.msg, "field x: found 3");
	assert_int_equal(error_prefix(&err, "a.json"), E_FORMAT);
	assert_string_equal(err.msg, "a.json: field x: found 3");
}

/* What is too long loses its middle, between characters. */
static void test_error_too_long(void **state)
{
	struct error err;
	char big[6000];

	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	error_set(&err, E_IO, "%s", big);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
	error_set(&err, E_IO, "/b/%s: no such file", big);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
	assert_non_null(strstr(err.msg, "aaa: no such file"));
	error_prefix(&err, "%s", big);
	assert_memory_equal(err.msg, "aaa", 3);
	assert_non_null(strstr(err.msg, "aaa: no such file"));
	big[4096] = '\0';
	error_set(&err, E_IO, "/b/%s: cannot open: no such file", big);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
	assert_memory_equal(err.msg, "/b/aaa", 6);
	assert_non_null(strstr(err.msg, "aaa[...]aaa"));
	assert_non_null(strstr(err.msg, "aaa: cannot open: no such file"));
	error_prefix(&err, "%s", big + 3500);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
	assert_non_null(strstr(err.msg, "aaa: cannot open: no such file"));
	for (size_t shift = 0; shift < 3; shift++) {
		const char *gap;

		memset(big, 'a', shift);
		for (size_t i = 0; i < 200; i++)
			memcpy(big + shift + 3 * i, "\xe2\x82\xac", 4);
		error_set(&err, E_IO, "%s", big);
		gap = strstr(err.msg, "[...]");
		assert_non_null(gap);
		assert_int_equal((gap - err.msg - (ptrdiff_t)shift) % 3, 0);
		assert_memory_equal(gap + 5, "\xe2\x82\xac", 3);
	}
}

static void test_arena_limit(void **state)
{
	struct arena a;
	char *p, *q;

	arena_init(&a, 1000);
	p = arena_try_alloc(&a, 10, 10);
	assert_non_null(p);
	assert_int_equal((uintptr_t)p % 16, 0);
	q = arena_strndup(&a, "hello", 3);
	assert_string_equal(q, "hel");
	assert_null(arena_try_alloc(&a, 1, 1000));
	assert_null(arena_try_alloc(&a, SIZE_MAX / 2, 4));
	arena_reset(&a);
	assert_non_null(arena_try_alloc(&a, 1, 992));
	arena_deinit(&a);
}

static void test_arena_large_blocks(void **state)
{
	struct arena a;

	arena_init(&a, 0);
	for (int i = 0; i < 200; i++) {
		unsigned char *p = arena_alloc(&a, (size_t)i * 5000 + 1);

		assert_int_equal(p[i * 5000], 0);
		memset(p, 0xFF, (size_t)i * 5000 + 1);
	}
	arena_deinit(&a);
}

static void test_buf(void **state)
{
	struct buf b = {0};

	buf_puts(&b, "ab");
	buf_printf(&b, "%d", 42);
	buf_put_utf8(&b, 'c');
	buf_put_utf8(&b, 0xE9);
	buf_put_utf8(&b, 0x4E2D);
	buf_put_utf8(&b, 0x1F600);
	assert_string_equal(b.data, "ab42c\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80");
	buf_reset(&b);
	assert_int_equal(b.len, 0);
	buf_deinit(&b);
}

/* What is appended must not depend on where the buffer happens to grow. */
static void test_buf_numbers(void **state)
{
	static const uint64_t values[] = {0, 9, 10, 4294967296u, 18446744073709551615u};
	static const char want[] = "0 9 10 4294967296 18446744073709551615 ";
	struct buf b = {0};

	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
		buf_put_u64(&b, values[i]);
		buf_putc(&b, ' ');
	}
	assert_string_equal(b.data, want);
	assert_int_equal(b.len, strlen(want));
	/* A text that ends just where the memory does, and one byte longer. */
	for (size_t n = b.cap - b.len - 1, i = 0; i < 2; i++, n++) {
		size_t before = b.len;

		buf_printf(&b, "%*s", (int)n, "x");
		assert_int_equal(b.len, before + n);
		assert_int_equal(b.data[b.len - 1], 'x');
		b.len = before;
	}
	buf_deinit(&b);
}

static void test_buf_growth(void **state)
{
	struct buf b = {0};
	char want[4000];

	for (size_t i = 0; i < sizeof(want); i++) {
		want[i] = (char)('a' + i % 26);
		if (i % 3)
			buf_putc(&b, want[i]);
		else
			buf_printf(&b, "%c", want[i]);
		assert_int_equal(b.len, i + 1);
		assert_int_equal(b.data[b.len], 0);
	}
	assert_memory_equal(b.data, want, sizeof(want));
	buf_append(&b, "\0x", 2);
	assert_int_equal(b.len, sizeof(want) + 2);
	buf_append(&b, NULL, 0);
	assert_int_equal(b.len, sizeof(want) + 2);
	buf_deinit(&b);
	assert_null(b.data);
}

/* Lowest and highest code point of every length. */
static void test_buf_utf8(void **state)
{
	static const struct {
		uint32_t code_point;
		const char *bytes;
	} cases[] = {
		{0x7F, "\x7F"}, {0x80, "\xC2\x80"}, {0x7FF, "\xDF\xBF"}, {0x800, "\xE0\xA0\x80"},
		{0xFFFF, "\xEF\xBF\xBF"}, {0x10000, "\xF0\x90\x80\x80"}, {0x10FFFF, "\xF4\x8F\xBF\xBF"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf b = {0};

		buf_put_utf8(&b, cases[i].code_point);
		assert_string_equal(b.data, cases[i].bytes);
		buf_deinit(&b);
	}
}

static void test_mem(void **state)
{
	unsigned char *p = mem_alloc(1000);
	uint32_t *grown = NULL;
	size_t cap = 0;
	char *s;

	for (int i = 0; i < 1000; i++)
		assert_int_equal(p[i], 0);
	free(p);
	assert_null(mem_try_alloc(SIZE_MAX / 4, 8));
	assert_null(mem_try_alloc(1, SIZE_MAX / 2));
	p = mem_try_alloc(3, 5);
	assert_non_null(p);
	free(p);
	for (uint32_t i = 0; i < 1000; i++) {
		size_t old = cap;

		grown = mem_grow(grown, &cap, i + 1, sizeof(*grown));
		assert_true(cap >= i + 1 && (cap == old || cap >= 2 * old));
		grown[i] = i;
	}
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(grown[i], i);
	free(grown);
	s = mem_strdup("abc");
	assert_string_equal(s, "abc");
	free(s);
}

static void test_mem_map(void **state)
{
	struct error err;
	void *p = NULL;

	assert_int_equal(mem_map(&p, 100000, "x", &err), OK);
	assert_int_equal((uintptr_t)p % 4096, 0);
	for (int i = 0; i < 100000; i++)
		assert_int_equal(((unsigned char *)p)[i], 0);
	memset(p, 1, 100000);
	mem_unmap(p, 100000);
	mem_unmap(NULL, 5);
	p = NULL;
	assert_int_equal(mem_map(&p, 0, "cache", &err), E_NOMEM);
	assert_int_equal(mem_map(&p, SIZE_MAX, "cache", &err), E_NOMEM);
	assert_string_equal(err.msg, "cache: cannot map 18446744073709551615 bytes");
	assert_int_equal(mem_map(&p, (size_t)1 << 60, "cache", &err), E_NOMEM);
	assert_null(p);
}

/* The first is a vector of the authors' test suite; the others come from a second implementation, checked
 * against all three of their vectors (counters above 64 bits included). */
static void test_random_known(void **state)
{
	static const struct {
		uint64_t seed, counter, want;
	} cases[] = {
		{0, 0, 0xE169C58D6627E8D5},
		{0, 1, 0x5CB200DBF8E4CCA4},
		{1, 0, 0xE50A0EBCE3E80670},
		{UINT64_MAX, UINT64_MAX, 0x430AC65A4D18D7D2},
		{0x299F31D0A4093822, 0x85A308D3243F6A88, 0xB5A3D762E69C9C31},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_true(random_u64(cases[i].seed, cases[i].counter) == cases[i].want);
}

static void test_random_unit(void **state)
{
	double sum = 0;

	for (uint64_t i = 0; i < 10000; i++) {
		double x = random_unit(42, i);

		assert_true(x >= 0 && x < 1);
		assert_true(x == (double)(random_u64(42, i) >> 11) / 9007199254740992.0);
		sum += x;
	}
	assert_true(fabs(sum / 10000 - 0.5) < 0.015); /* five standard deviations */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_error_forward),
		cmocka_unit_test(test_error_too_long),
		cmocka_unit_test(test_arena_limit),
		cmocka_unit_test(test_arena_large_blocks),
		cmocka_unit_test(test_buf),
		cmocka_unit_test(test_buf_numbers),
		cmocka_unit_test(test_buf_growth),
		cmocka_unit_test(test_buf_utf8),
		cmocka_unit_test(test_mem),
		cmocka_unit_test(test_mem_map),
		cmocka_unit_test(test_random_known),
		cmocka_unit_test(test_random_unit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
