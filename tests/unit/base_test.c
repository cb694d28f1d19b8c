/* base: errors, arena, byte strings. */
#include "cm.h"

#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

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

static void test_error_truncates(void **state)
{
	struct error err;
	char big[500];

	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	error_set(&err, E_IO, "%s", big);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
	error_prefix(&err, "%s", big);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
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
	for (int i = 0; i < 100; i++) {
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_error_forward),
		cmocka_unit_test(test_error_truncates),
		cmocka_unit_test(test_arena_limit),
		cmocka_unit_test(test_arena_large_blocks),
		cmocka_unit_test(test_buf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
