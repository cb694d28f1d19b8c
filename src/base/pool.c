/*
 * The compute pool (base/pool.h): a generation counter starts a run, an arrival counter ends it.
 *
 * Invariant: a worker reads `fn` and `arg` only between seeing a new generation and its arrival.
 * Waiting is spinning for some steps, then a futex on the awaited counter; a waker makes the system
 * call only when somebody sleeps. A pool of more threads than cores hardly spins: who spins there keeps
 * the awaited thread from running.
 */
#include "base/pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/topology.h"

#define SPINS 20000 /* about 0.2-1 ms: longer than the gap between two ops of a step */
#define SPINS_CROWDED 50
#define MAX_THREADS 4096

/* A counter that threads wait on, alone on its cache line. */
struct pool_event {
	_Alignas(64) atomic_uint value;
	atomic_uint sleepers;
};

struct pool_worker {
	struct pool *pool;
	pthread_t id;
	int index;
};

struct pool {
	struct pool_event start;   /* generation of runs */
	struct pool_event done;    /* generation of runs that ended */
	struct pool_event barrier; /* generation of barriers */
	_Alignas(64) atomic_uint running;
	_Alignas(64) atomic_uint arrived;
	_Alignas(64) pool_fn *fn;
	void *arg;
	bool stop;
	int n_threads;
	int spins;
	bool pin;
	cpu_set_t caller_mask; /* before pinning */
	struct pool_worker workers[]; /* [n_threads]; 0 is the caller */
};

static void event_wait(struct pool_event *e, unsigned old, int spins)
{
	for (int i = 0; i < spins; i++) {
		if (atomic_load_explicit(&e->value, memory_order_acquire) != old)
			return;
		cpu_relax();
	}
	atomic_fetch_add(&e->sleepers, 1);
	while (atomic_load(&e->value) == old)
		syscall(SYS_futex, &e->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
	atomic_fetch_sub(&e->sleepers, 1);
}

static void event_advance(struct pool_event *e)
{
	atomic_fetch_add(&e->value, 1);
	if (atomic_load(&e->sleepers))
		syscall(SYS_futex, &e->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void pool_finish(struct pool *p)
{
	if (atomic_fetch_sub(&p->running, 1) == 1)
		event_advance(&p->done);
}

static void *pool_main(void *arg)
{
	struct pool_worker *w = arg;
	struct pool *p = w->pool;

	if (p->pin)
		topology_bind_thread(w->index);
	for (unsigned generation = 0;; generation++) {
		event_wait(&p->start, generation, p->spins);
		if (p->stop)
			return NULL;
		p->fn(p->arg, w->index, p->n_threads);
		pool_finish(p);
	}
}

enum status pool_create(struct pool **out, int threads, bool pin, struct error *err)
{
	struct pool *p;

	if (threads < 0 || threads > MAX_THREADS)
		return error_set(err, E_INVAL, "threads: found %d, expected 0 to %d", threads,
			MAX_THREADS);
	if (threads == 0)
		threads = topology_cores();
	p = aligned_alloc(64, (sizeof(*p) + sizeof(p->workers[0]) * (size_t)threads + 63) / 64 * 64);
	if (!p)
		return error_set(err, E_NOMEM, "no memory for a pool of %d threads", threads);
	memset(p, 0, sizeof(*p) + sizeof(p->workers[0]) * (size_t)threads);
	p->n_threads = threads;
	p->spins = threads > topology_cores() ? SPINS_CROWDED : SPINS;
	p->pin = pin && threads <= topology_cores() &&
		 sched_getaffinity(0, sizeof(p->caller_mask), &p->caller_mask) == 0;
	for (int i = 1; i < threads; i++) {
		int e;

		p->workers[i] = (struct pool_worker){.pool = p, .index = i};
		e = pthread_create(&p->workers[i].id, NULL, pool_main, &p->workers[i]);
		if (e) {
			error_set(err, E_NOMEM, "cannot start compute thread %d of %d: %s", i,
				threads, strerror(e));
			p->n_threads = i; /* those that run */
			pool_destroy(p);
			return E_NOMEM;
		}
	}
	if (p->pin)
		topology_bind_thread(0);
	*out = p;
	return OK;
}

void pool_destroy(struct pool *p)
{
	if (!p)
		return;
	p->stop = true;
	event_advance(&p->start);
	for (int i = 1; i < p->n_threads; i++)
		pthread_join(p->workers[i].id, NULL);
	if (p->pin)
		sched_setaffinity(0, sizeof(p->caller_mask), &p->caller_mask);
	free(p);
}

int pool_threads(const struct pool *p)
{
	return p->n_threads;
}

void pool_run(struct pool *p, pool_fn *fn, void *arg)
{
	unsigned done = atomic_load(&p->done.value);

	if (p->n_threads == 1) {
		fn(arg, 0, 1);
		return;
	}
	p->fn = fn;
	p->arg = arg;
	atomic_store(&p->running, (unsigned)p->n_threads);
	event_advance(&p->start);
	fn(arg, 0, p->n_threads);
	pool_finish(p);
	event_wait(&p->done, done, p->spins);
}

void pool_barrier(struct pool *p)
{
	unsigned generation = atomic_load(&p->barrier.value);

	if (atomic_fetch_add(&p->arrived, 1) + 1 == (unsigned)p->n_threads) {
		atomic_store(&p->arrived, 0);
		event_advance(&p->barrier);
	} else {
		event_wait(&p->barrier, generation, p->spins);
	}
}
