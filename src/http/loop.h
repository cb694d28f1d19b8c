/*
 * The event loop: one thread that waits for sockets, timers, signals and other threads.
 *
 * Everything in http/ belongs to the thread that runs its loop, and every callback runs there; only
 * http_loop_post(), http_loop_stop() and http_bell_ring() may be called from elsewhere.
 *
 *   TRY(http_loop_create(&loop, err));
 *   TRY(http_bell_create(&bell, loop, drain_engine_ring, server, err));
 *   http_loop_run(loop);                   until http_loop_stop(loop)
 */
#ifndef HTTP_LOOP_H
#define HTTP_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct http_loop;

typedef void http_loop_fn(void *arg);

enum status http_loop_create(struct http_loop **out, struct error *err);
/* After everything that was made on it. Posts that did not run are dropped. */
void http_loop_destroy(struct http_loop *l);
void http_loop_run(struct http_loop *l);
/* Any thread: the run in progress, or else the next one, ends after the callback in progress. */
void http_loop_stop(struct http_loop *l);

/* Any thread: fn(arg) runs once on the loop's thread; posts keep their order. Allocates. */
void http_loop_post(struct http_loop *l, http_loop_fn *fn, void *arg);

/*
 * A bell wakes the loop from another thread without allocating: the engine pushes into its ring,
 * then rings. fn runs at least once after every ring, and once for many rings that come close
 * together; what a thread did before it rang is visible to fn.
 */
struct http_bell;

enum status http_bell_create(struct http_bell **out, struct http_loop *l, http_loop_fn *fn,
	void *arg, struct error *err);
void http_bell_destroy(struct http_bell *b); /* when nobody can ring any more */
/* Any thread, signal handlers included. One system call, or none while an earlier ring is unheard.
 */
void http_bell_ring(struct http_bell *b);

/* One shot: fn runs once, delay_us after the last http_timer_set, to the millisecond, late rather than
 * early. fn may set or destroy its timer. */
struct http_timer;

struct http_timer *http_timer_create(struct http_loop *l, http_loop_fn *fn, void *arg);
void http_timer_destroy(struct http_timer *t);
void http_timer_set(struct http_timer *t, uint64_t delay_us);
void http_timer_cancel(struct http_timer *t);

/* fn runs on the loop after each delivery of the signal; one loop of the process at a time. */
struct http_signal;

enum status http_signal_create(struct http_signal **out, struct http_loop *l, int number,
	http_loop_fn *fn, void *arg, struct error *err);
void http_signal_destroy(struct http_signal *s);

#endif
