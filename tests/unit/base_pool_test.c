/* The pool: every thread runs once per run, barriers hold, idle threads sleep; topology and
 * pinning. */
#include "cm.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/pool.h"
#include "base/topology.h"
#include "base/available.h"

#define MAX_THREADS 8

static struct pool *make(int threads, bool pin)
{
	struct pool *p = NULL;
	struct error err;

	assert_int_equal(pool_create(&p, threads, pin, &err), OK);
	return p;
}

/* Plain counters: a run that overlapped the next, or a thread run twice, would lose or add counts.
 */
struct counts {
	unsigned runs[MAX_THREADS];
	int n_threads;
};

static void count(void *arg, int thread, int n_threads)
{
	struct counts *c = arg;

	c->runs[thread]++;
	if (n_threads != c->n_threads)
		c->runs[thread] += 1000000;
}

static void test_runs(void **state)
{
	for (int threads = 1; threads <= MAX_THREADS; threads++) {
		struct counts c = {.n_threads = threads};
		struct pool *p = make(threads, threads % 2);

		assert_int_equal(pool_threads(p), threads);
		for (unsigned run = 1; run <= 3000; run++) {
			pool_run(p, count, &c);
			for (int i = 0; i < MAX_THREADS; i++)
				assert_int_equal(c.runs[i], i < threads ? run : 0);
		}
		pool_destroy(p);
	}
}

/* Runs after a pause find the threads asleep. */
static void test_wakes(void **state)
{
	struct counts c = {.n_threads = 3};
	struct pool *p = make(3, false);

	for (unsigned run = 1; run <= 20; run++) {
		usleep(run % 2 ? 5000 : 500);
		pool_run(p, count, &c);
		for (int i = 0; i < 3; i++)
			assert_int_equal(c.runs[i], run);
	}
	pool_destroy(p);
}

struct phases {
	struct pool *pool;
	unsigned value[MAX_THREADS]; /* plain: only barriers order the accesses */
	atomic_uint wrong;
};

static void walk_phases(void *arg, int thread, int n_threads)
{
	struct phases *ph = arg;

	for (unsigned phase = 1; phase <= 300; phase++) {
		ph->value[thread] = phase;
		pool_barrier(ph->pool);
		for (int i = 0; i < n_threads; i++)
			if (ph->value[i] != phase)
				atomic_fetch_add(&ph->wrong, 1);
		pool_barrier(ph->pool);
	}
}

static void test_barrier(void **state)
{
	for (int threads = 1; threads <= MAX_THREADS; threads++) {
		struct phases ph = {.pool = make(threads, false)};

		for (int run = 0; run < 5; run++)
			pool_run(ph.pool, walk_phases, &ph);
		assert_int_equal(atomic_load(&ph.wrong), 0);
		pool_destroy(ph.pool);
	}
}

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void check_idle(int threads)
{
	struct counts c = {.n_threads = threads};
	struct pool *p = make(threads, false);
	double before, used = 1;

	pool_run(p, count, &c);
	/* At first there is a brief spin, which on a busy machine takes its time. */
	for (int i = 0; i < 100 && used >= 0.005; i++) {
		usleep(100000);
		before = cpu_seconds();
		usleep(300000);
		used = cpu_seconds() - before;
	}
	if (used >= 0.005)
		print_error("%d idle threads used %.1f ms in 300 ms\n", threads, used * 1e3);
	assert_true(used < 0.005);
	pool_destroy(p);
}

static void test_idle_uses_no_cpu(void **state)
{
	check_idle(2);
	check_idle(MAX_THREADS);
}

static void test_refusals(void **state)
{
	struct pool *p = NULL;
	struct error err;

	assert_int_equal(pool_create(&p, -1, false, &err), E_INVAL);
	assert_int_equal(pool_create(&p, 1 << 20, false, &err), E_INVAL);
	assert_string_equal(err.msg, "threads: found 1048576, expected 0 to 4096");
	assert_null(p);
	pool_destroy(NULL);
}

static void note_mask(void *arg, int thread, int n_threads)
{
	cpu_set_t *masks = arg;

	sched_getaffinity(0, sizeof(*masks), &masks[thread]);
}

/* One core each inside the mask; the caller gets its mask back. */
static void test_pinning(void **state)
{
	int cores = topology_cores();
	cpu_set_t *masks = calloc((size_t)cores + 1, sizeof(*masks)), before, after;
	struct pool *p;

	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	p = make(0, true);
	assert_int_equal(pool_threads(p), cores);
	pool_run(p, note_mask, masks);
	for (int i = 0; i < cores; i++) {
		assert_int_equal(CPU_COUNT(&masks[i]), 1);
		assert_true(CPU_ISSET(topology_core_cpu(i), &masks[i]));
	}
	pool_destroy(p);
	assert_int_equal(sched_getaffinity(0, sizeof(after), &after), 0);
	assert_true(CPU_EQUAL(&before, &after));

	/* More threads than cores: all stay free to move. */
	p = make(cores + 1, true);
	pool_run(p, note_mask, masks);
	for (int i = 0; i <= cores; i++)
		assert_true(CPU_EQUAL(&masks[i], &before));
	pool_destroy(p);
	free(masks);
}

static void test_topology(void **state)
{
	int cores = topology_cores();
	cpu_set_t mask, seen;
	size_t total = topology_memory_bytes(), left = available_memory_bytes();

	CPU_ZERO(&seen);
	assert_int_equal(sched_getaffinity(0, sizeof(mask), &mask), 0);
	assert_in_range(cores, 1, CPU_COUNT(&mask));
	assert_int_equal(cpu_cores_available(), cores);
	assert_true(topology_numa_nodes() >= 1);
	for (int i = 0; i < cores; i++) {
		int cpu = topology_core_cpu(i);

		assert_true(cpu >= 0 && CPU_ISSET(cpu, &mask) && !CPU_ISSET(cpu, &seen));
		CPU_SET(cpu, &seen);
		assert_in_range(topology_core_node(i), 0, topology_numa_nodes() - 1);
	}
	assert_int_equal(topology_core_cpu(cores), -1);
	assert_int_equal(topology_core_cpu(-1), -1);
	assert_false(topology_bind_thread(cores));
	assert_true(total > 0 && left > 0 && left <= total);
}

/* Nothing but fathom's own lines on stderr, whatever hwloc thinks of the machine. */
static void test_hwloc_is_quiet(void **state)
{
	assert_non_null(getenv("HWLOC_HIDE_ERRORS"));
}

/* A process with a smaller mask sees only the cores in it. Must run before anything asks. */
static void test_mask(void **state)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		cpu_set_t mask, one;
		int cpu = 0;

		sched_getaffinity(0, sizeof(mask), &mask);
		for (int i = 0; i < CPU_SETSIZE; i++)
			if (CPU_ISSET(i, &mask))
				cpu = i; /* the last */
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);
		_exit(topology_cores() == 1 && topology_core_cpu(0) == cpu ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mask),
		cmocka_unit_test(test_hwloc_is_quiet),
		cmocka_unit_test(test_topology),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_wakes),
		cmocka_unit_test(test_barrier),
		cmocka_unit_test(test_idle_uses_no_cpu),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_pinning),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
