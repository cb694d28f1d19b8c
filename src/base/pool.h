/*
 * The compute pool: threads that run one function together and wait for each other.
 *
 * Thread 0 is the caller of pool_run(); the others wait between runs, spinning briefly, then asleep, so
 * that an idle process uses no CPU. One caller at a time, always the same thread while the pool is
 * pinned.
 *
 * Pinned, when asked and when there are as many cores as threads: thread i runs on core i of
 * base/topology.h. This includes the caller, from pool_create() until pool_destroy(), which gives it
 * its old mask back; threads that it starts in between inherit its one core.
 */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stdbool.h>

#include "base/error.h"

struct pool;

typedef void pool_fn(void *arg, int thread, int n_threads);

/* threads 0: one per core available to the process. */
enum status pool_create(struct pool **out, int threads, bool pin, struct error *err);
void pool_destroy(struct pool *p);
int pool_threads(const struct pool *p);

/* Runs fn(arg, thread, n_threads) on every thread; returns when all have. What one run wrote, the next
 * run's threads and the caller see. */
void pool_run(struct pool *p, pool_fn *fn, void *arg);

/* Inside a run: waits until every thread of the pool is here. */
void pool_barrier(struct pool *p);

#endif
