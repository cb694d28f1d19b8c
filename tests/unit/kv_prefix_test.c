/* The prefix index: names and salts, longest match, references, order of eviction, reset, deletion from
 * crowded tables. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cm.h"
#include "base/random.h"
#include "kv/prefix_index.h"

#define BT 4u

struct fixture {
	struct kv_pool *pool;
	struct kv_prefix_index *index;
};

static struct fixture open_index(uint32_t blocks)
{
	struct kv_pool_config c = {
		.n_layers = 1, .n_blocks = blocks, .block_tokens = BT, .kv_lora = 32, .rope = 32};
	struct fixture f;
	struct error err;

	assert_int_equal(kv_pool_create(&f.pool, &c, &err), OK);
	assert_int_equal(kv_prefix_create(&f.index, f.pool, "seed", 4, &err), OK);
	return f;
}

static void close_index(struct fixture *f)
{
	assert_int_equal(
		kv_pool_free_blocks(f->pool), kv_pool_get_config(f->pool)->n_blocks);
	kv_prefix_destroy(f->index);
	kv_pool_destroy(f->pool);
}

static struct kv_table table_of(struct fixture *f, uint32_t tokens)
{
	struct kv_table t;
	struct error err;

	kv_table_init(&t);
	assert_int_equal(kv_table_reserve(&t, 16, &err), OK);
	assert_int_equal(kv_table_grow(&t, f->pool, tokens, &err), OK);
	return t;
}

/* Computes and publishes the full blocks of a prompt. */
static struct kv_table publish(
	struct fixture *f, const int32_t *ids, uint32_t n, struct kv_prefix_name *names)
{
	struct kv_table t = table_of(f, n);

	kv_prefix_names(f->index, ids, n / BT, NULL, 0, names);
	for (uint32_t i = 0; i < n / BT; i++)
		kv_prefix_publish(f->index, &names[i], t.blocks[i]);
	return t;
}

static uint32_t match(struct fixture *f, const struct kv_prefix_name *names, uint32_t n)
{
	int32_t blocks[16];
	uint32_t idle;

	return kv_prefix_match(f->index, names, n, blocks, &idle);
}

static const int32_t ids[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static bool same(const struct kv_prefix_name *a, const struct kv_prefix_name *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* A name is a function of seed, salt and every token before its block's end, and of nothing else. */
static void test_names(void **state)
{
	struct fixture f = open_index(4);
	struct kv_prefix_name a[4], b[4];
	int32_t other[16];

	kv_prefix_names(f.index, ids, 4, NULL, 0, a);
	kv_prefix_names(f.index, ids, 4, "", 0, b);
	assert_memory_equal(a, b, sizeof(a));
	memcpy(other, ids, sizeof(ids));
	other[7] = 99;
	kv_prefix_names(f.index, other, 4, NULL, 0, b);
	assert_true(same(&a[0], &b[0]));
	for (int i = 1; i < 4; i++)
		assert_false(same(&a[i], &b[i]));
	kv_prefix_names(f.index, ids, 4, "x", 1, b);
	for (int i = 0; i < 4; i++)
		assert_false(same(&a[i], &b[i]));
	close_index(&f);
}

/* A salt that looks like tokens does not lead into the blocks behind those tokens; a longer salt is not
 * a shorter one with tokens. */
static void test_salt_is_no_block(void **state)
{
	struct fixture f = open_index(4);
	struct kv_prefix_name plain[2], salted[1], twice[1];

	kv_prefix_names(f.index, ids, 2, NULL, 0, plain);
	kv_prefix_names(f.index, ids + BT, 1, ids, sizeof(*ids) * BT, salted);
	assert_false(same(&plain[1], &salted[0]));
	kv_prefix_names(f.index, ids + BT, 1, ids, sizeof(*ids) * (BT - 1), twice);
	assert_false(same(&twice[0], &salted[0]));
	close_index(&f);
}

static void test_seed(void **state)
{
	struct fixture f = open_index(4);
	struct kv_prefix_index *other;
	struct kv_prefix_name a, b;
	struct error err;

	kv_prefix_names(f.index, ids, 1, NULL, 0, &a);
	kv_prefix_destroy(f.index);
	assert_int_equal(kv_prefix_create(&other, f.pool, "another", 7, &err), OK);
	kv_prefix_names(other, ids, 1, NULL, 0, &b);
	assert_false(same(&a, &b));
	f.index = other;
	close_index(&f);
}

static void test_longest_match(void **state)
{
	struct fixture f = open_index(8);
	struct kv_prefix_name a[4], b[4];
	int32_t other[16], blocks[4];
	uint32_t idle;
	struct kv_table t = publish(&f, ids, 12, a);

	assert_int_equal(kv_prefix_match(f.index, a, 3, blocks, &idle), 3);
	assert_int_equal(idle, 0);
	assert_memory_equal(blocks, t.blocks, sizeof(*blocks) * 3);
	assert_int_equal(match(&f, a, 2), 2);
	memcpy(other, ids, sizeof(ids));
	other[11] = 99;
	kv_prefix_names(f.index, other, 4, NULL, 0, b);
	assert_int_equal(match(&f, b, 4), 2);
	kv_prefix_names(f.index, ids, 4, "salt", 4, b);
	assert_int_equal(match(&f, b, 4), 0);
	kv_table_shrink(&t, f.pool, 8);
	assert_int_equal(kv_prefix_match(f.index, a, 3, blocks, &idle), 3);
	assert_int_equal(idle, 1);
	kv_table_deinit(&t, f.pool);
	close_index(&f);
}

/* Two sequences that computed the same block: the first one's stays, the other's is an ordinary block. */
static void test_same_name_twice(void **state)
{
	struct fixture f = open_index(4);
	struct kv_prefix_name a[1];
	struct kv_table t = publish(&f, ids, 4, a), u = publish(&f, ids, 4, a);
	int32_t first = t.blocks[0], found;
	uint32_t idle;

	assert_int_equal(kv_prefix_get_stats(f.index).n_blocks, 1);
	kv_table_deinit(&t, f.pool);
	kv_table_deinit(&u, f.pool);
	assert_int_equal(kv_prefix_match(f.index, a, 1, &found, &idle), 1);
	assert_int_equal(found, first);
	close_index(&f);
}

/* Ordinary blocks go before kept ones; of those the end of the sequence that ended first. */
static void test_eviction_order(void **state)
{
	struct fixture f = open_index(5);
	struct kv_prefix_name a[2], b[2];
	int32_t other[8] = {21, 22, 23, 24, 25, 26, 27, 28}, want[4], got;
	struct kv_table t = publish(&f, ids, 8, a), u = publish(&f, other, 8, b);

	want[0] = t.blocks[1];
	want[1] = t.blocks[0];
	want[2] = u.blocks[1];
	want[3] = u.blocks[0];
	kv_table_deinit(&t, f.pool);
	kv_table_deinit(&u, f.pool);
	assert_int_equal(kv_pool_free_blocks(f.pool), 5);
	got = kv_block_get(f.pool);
	for (int i = 0; i < 4; i++)
		assert_int_not_equal(got, want[i]);
	assert_int_equal(match(&f, a, 2), 2);
	assert_int_equal(kv_block_get(f.pool), want[0]);
	assert_int_equal(match(&f, a, 2), 1);
	assert_int_equal(kv_block_get(f.pool), want[1]);
	assert_int_equal(match(&f, a, 2), 0);
	assert_int_equal(match(&f, b, 2), 2);
	assert_int_equal(kv_block_get(f.pool), want[2]);
	assert_int_equal(kv_block_get(f.pool), want[3]);
	assert_int_equal(kv_block_get(f.pool), -1);
	assert_int_equal(kv_prefix_get_stats(f.index).evictions, 4);
	assert_int_equal(kv_prefix_get_stats(f.index).n_blocks, 0);
	for (int32_t i = 0; i < 5; i++)
		kv_block_unref(f.pool, i);
	close_index(&f);
}

/* A block that is used again leaves the list and comes back at its end. */
static void test_references(void **state)
{
	struct fixture f = open_index(2);
	struct kv_prefix_name a[1], b[1];
	struct kv_table t = publish(&f, ids, 4, a), u = publish(&f, ids + 4, 4, b);
	int32_t first = t.blocks[0], second = u.blocks[0];

	kv_table_deinit(&t, f.pool);
	kv_table_deinit(&u, f.pool);
	kv_block_ref(f.pool, first);
	kv_block_ref(f.pool, first);
	assert_int_equal(kv_block_refs(f.pool, first), 2);
	assert_int_equal(kv_pool_free_blocks(f.pool), 1);
	kv_block_unref(f.pool, first);
	assert_int_equal(kv_pool_free_blocks(f.pool), 1);
	kv_block_unref(f.pool, first);
	assert_int_equal(kv_pool_free_blocks(f.pool), 2);
	assert_int_equal(kv_block_get(f.pool), second);
	assert_int_equal(match(&f, a, 1), 1);
	kv_block_unref(f.pool, second);
	close_index(&f);
}

static void test_reset(void **state)
{
	struct fixture f = open_index(4);
	struct kv_prefix_name a[2], b[1];
	struct kv_table t = publish(&f, ids, 8, a), u = publish(&f, ids + 8, 4, b);

	kv_table_deinit(&u, f.pool);
	kv_prefix_record(f.index, 12, 8);
	kv_prefix_reset(f.index);
	assert_int_equal(kv_prefix_resets(f.index), 1);
	assert_int_equal(match(&f, a, 2), 0);
	assert_int_equal(match(&f, b, 1), 0);
	assert_int_equal(kv_pool_free_blocks(f.pool), 2);
	assert_int_equal(kv_prefix_get_stats(f.index).n_blocks, 0);
	assert_int_equal(kv_prefix_get_stats(f.index).query_tokens, 12);
	assert_int_equal(kv_prefix_get_stats(f.index).hit_tokens, 8);
	kv_table_deinit(&t, f.pool);
	close_index(&f);
}

/* Thousands of publications and evictions against a plain list. */
static void test_many(void **state)
{
	enum { BLOCKS = 37 };
	struct fixture f = open_index(BLOCKS);
	struct kv_prefix_name of[BLOCKS];
	bool there[BLOCKS] = {false};

	for (uint64_t i = 0; i < 20000; i++) {
		int32_t prompt[BT] = {(int32_t)(random_u64(3, i) % 500), 1, 2, 3}, b, found;
		struct kv_prefix_name name;
		uint32_t idle, n;

		kv_prefix_names(f.index, prompt, 1, NULL, 0, &name);
		n = kv_prefix_match(f.index, &name, 1, &found, &idle);
		if (n) {
			assert_true(there[found] && same(&of[found], &name));
			kv_block_ref(f.pool, found);
			kv_block_unref(f.pool, found);
			continue;
		}
		for (int j = 0; j < BLOCKS; j++)
			assert_false(there[j] && same(&of[j], &name));
		b = kv_block_get(f.pool);
		assert_true(b >= 0);
		kv_prefix_publish(f.index, &name, b);
		of[b] = name;
		there[b] = true;
		kv_block_unref(f.pool, b);
	}
	assert_int_equal(kv_prefix_get_stats(f.index).n_blocks, BLOCKS);
	close_index(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_salt_is_no_block),
		cmocka_unit_test(test_seed),
		cmocka_unit_test(test_longest_match),
		cmocka_unit_test(test_same_name_twice),
		cmocka_unit_test(test_eviction_order),
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
