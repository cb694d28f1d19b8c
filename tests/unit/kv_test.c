/* The cache pool and tables: counts, all-or-none growth, rollback, refused sizes. */
#include "cm.h"
#include "kv/kv.h"

static struct kv_pool *pool(uint32_t blocks, uint32_t block_tokens)
{
	struct kv_pool_config c = {
		.n_layers = 3, .n_blocks = blocks, .block_tokens = block_tokens, .kv_lora = 96, .rope = 32};
	struct kv_pool *p;
	struct error err;

	assert_int_equal(kv_pool_create(&p, &c, &err), OK);
	return p;
}

static void test_counts(void **state)
{
	struct kv_pool *p = pool(3, 16);
	int32_t a = kv_block_get(p), b = kv_block_get(p), c = kv_block_get(p);

	assert_true(a >= 0 && b >= 0 && c >= 0 && a != b && b != c && a != c);
	assert_int_equal(kv_block_get(p), -1);
	kv_block_ref(p, b);
	kv_block_unref(p, b);
	assert_int_equal(kv_pool_free_blocks(p), 0);
	kv_block_unref(p, b);
	assert_int_equal(kv_pool_free_blocks(p), 1);
	assert_int_equal(kv_block_get(p), b);
	kv_pool_destroy(p);
}

static void test_views_do_not_overlap(void **state)
{
	struct kv_pool *p = pool(5, 16);
	size_t row = kernel_kv_row_bytes(96, 32);

	assert_int_equal(kv_block_bytes(kv_pool_get_config(p)), 3 * 16 * row);
	for (uint32_t l = 0; l + 1 < 3; l++) {
		struct kv_view v = kv_pool_view(p, l), next = kv_pool_view(p, l + 1);

		assert_int_equal(v.block_stride_bytes, 16 * row);
		assert_true(v.base + 5 * v.block_stride_bytes <= next.base);
	}
	kv_pool_destroy(p);
}

static void test_table(void **state)
{
	struct kv_pool *p = pool(4, 16);
	struct kv_table t, u;
	struct error err;

	kv_table_init(&t);
	kv_table_init(&u);
	assert_int_equal(kv_table_reserve(&t, 4, &err), OK);
	assert_int_equal(kv_table_reserve(&u, 4, &err), OK);
	assert_int_equal(kv_table_grow(&t, p, 17, &err), OK);
	assert_int_equal(t.n_blocks, 2);
	assert_int_equal(kv_table_grow(&t, p, 32, &err), OK);
	assert_int_equal(t.n_blocks, 2);
	assert_int_equal(kv_table_grow(&u, p, 33, &err), E_NOMEM); /* needs 3, 2 are free */
	assert_string_equal(err.msg, "cache is full: 3 more blocks needed, 2 free");
	assert_int_equal(u.n_blocks, 0);
	assert_int_equal(kv_pool_free_blocks(p), 2);
	kv_table_shrink(&t, p, 16);
	assert_int_equal(t.n_blocks, 1);
	assert_int_equal(kv_table_grow(&u, p, 48, &err), OK);
	kv_table_shrink(&t, p, 0);
	assert_int_equal(t.n_blocks, 0);
	kv_table_deinit(&t, p);
	kv_table_deinit(&u, p);
	assert_int_equal(kv_pool_free_blocks(p), 4);
	kv_pool_destroy(p);
}

static void test_refused(void **state)
{
	struct kv_pool_config c = {
		.n_layers = 1, .n_blocks = 1, .block_tokens = 48, .kv_lora = 32, .rope = 32};
	struct kv_pool *p;
	struct error err;

	assert_int_equal(kv_pool_create(&p, &c, &err), E_INVAL);
	assert_string_equal(err.msg,
		"block size of the cache is 48 tokens, expected a power of two from 1 to 1024");
	c.block_tokens = 16;
	c.n_blocks = 0;
	assert_int_equal(kv_pool_create(&p, &c, &err), E_INVAL);
	c.n_blocks = INT32_MAX;
	c.block_tokens = 1024;
	c.n_layers = UINT32_MAX;
	c.kv_lora = 1 << 20;
	assert_int_equal(kv_pool_create(&p, &c, &err), E_NOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_views_do_not_overlap),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
