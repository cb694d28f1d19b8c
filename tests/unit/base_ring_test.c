/* The ring: full and empty, wrap-around, refusals, and two threads that must see every record in
 * order. */
#include "cm.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>

#include "base/ring.h"

static struct ring *make(uint32_t capacity, uint32_t record_bytes)
{
	struct ring *r = NULL;
	struct error err;

	assert_int_equal(ring_create(&r, capacity, record_bytes, &err), OK);
	return r;
}

static void test_full_and_empty(void **state)
{
	static const uint32_t capacities[] = {1, 2, 8};

	for (size_t c = 0; c < 3; c++) {
		struct ring *r = make(capacities[c], sizeof(uint32_t));
		uint32_t in = 0, out = 0, got = 77;

		assert_false(ring_pop(r, &got));
		assert_int_equal(got, 77);
		/* Each round starts one record further, so that every position wraps. */
		for (int round = 0; round < 40; round++) {
			for (uint32_t i = 0; i < capacities[c]; i++) {
				assert_true(ring_push(r, &in));
				in++;
				assert_int_equal(ring_count(r), i + 1);
			}
			assert_false(ring_push(r, &in));
			assert_int_equal(ring_count(r), capacities[c]);
			for (uint32_t i = 0; i < capacities[c]; i++) {
				assert_true(ring_pop(r, &got));
				assert_int_equal(got, out++);
			}
			assert_false(ring_pop(r, &got));
			assert_true(ring_push(r, &in) && ring_pop(r, &got));
			assert_int_equal(got, in++);
			out++;
		}
		ring_destroy(r);
	}
}

static void test_refusals(void **state)
{
	static const uint32_t bad[] = {0, 3, 12, (1u << 30) + 1, 1u << 31};
	struct ring *r = NULL;
	struct error err;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(ring_create(&r, bad[i], 8, &err), E_INVAL);
	assert_string_equal(err.msg,
		"ring: found 2147483648 records, expected a power of two up to 1073741824");
	assert_int_equal(ring_create(&r, 8, 0, &err), E_INVAL);
	assert_int_equal(ring_create(&r, 8, 65537, &err), E_INVAL);
	assert_null(r);
	ring_destroy(NULL);
}

/* A record is written in pieces; a reader that came too early would see a mixture. */
struct record {
	uint64_t number;
	uint64_t copy[6];
	unsigned char odd[5];
};

#define RECORDS 300000u

static void *produce(void *arg)
{
	for (uint64_t i = 0; i < RECORDS;) {
		struct record rec = {.number = i};

		for (int j = 0; j < 6; j++)
			rec.copy[j] = i * 3 + (uint64_t)j;
		memset(rec.odd, (int)(i & 0xFF), sizeof(rec.odd));
		if (ring_push(arg, &rec))
			i++;
		else
			sched_yield();
	}
	return NULL;
}

static void check_threads(uint32_t capacity)
{
	struct ring *r = make(capacity, sizeof(struct record));
	pthread_t id;

	assert_int_equal(pthread_create(&id, NULL, produce, r), 0);
	for (uint64_t i = 0; i < RECORDS;) {
		struct record rec;

		assert_true(ring_count(r) <= capacity);
		if (!ring_pop(r, &rec)) {
			sched_yield();
			continue;
		}
		assert_int_equal(rec.number, i);
		for (int j = 0; j < 6; j++)
			assert_int_equal(rec.copy[j], i * 3 + (uint64_t)j);
		for (size_t j = 0; j < sizeof(rec.odd); j++)
			assert_int_equal(rec.odd[j], i & 0xFF);
		i++;
	}
	pthread_join(id, NULL);
	assert_int_equal(ring_count(r), 0);
	ring_destroy(r);
}

static void test_threads(void **state)
{
	check_threads(1);
	check_threads(4);
	check_threads(1024);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full_and_empty),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
