/*
 * Where the time of a forward goes: what the ops of a model took, products by the weights that they read.
 * An observer (kernel/observe.h) fills it while it is on; shares of limits are per op.
 */
#ifndef CLI_BENCH_PROFILE_H
#define CLI_BENCH_PROFILE_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/buf.h"
#include "cli/bench_meter.h"
#include "kernel/observe.h"
#include "weights/weights.h"

/* Lines of a profile: the ops, products apart by what they are for. */
enum profile_line {
	PROFILE_Q_KV_A, /* q_a_proj and kv_a_proj, one call; without q_lora q_proj */
	PROFILE_Q_B,
	PROFILE_K_ABSORBED,
	PROFILE_V_ABSORBED,
	PROFILE_O,
	PROFILE_DENSE_UP,
	PROFILE_DENSE_DOWN,
	PROFILE_ROUTER,
	PROFILE_EXPERTS_UP, /* with the shared one */
	PROFILE_EXPERTS_DOWN,
	PROFILE_HEAD,
	PROFILE_OPS, /* from here on: PROFILE_OPS + enum kernel_op */
	PROFILE_LINES = PROFILE_OPS + KERNEL_OP_COUNT
};

struct profile_entry {
	uint64_t calls;
	double seconds;
	double busy_seconds; /* of all threads */
	struct bench_work work;
};

struct bench_profile {
	struct profile_entry lines[PROFILE_LINES];
	double seconds; /* of the repetitions, set by who measured them */
	uint32_t repetitions;
	int threads;
};

/* Watches one model. */
struct bench_profiler;
struct bench_profiler *bench_profiler_create(struct kernel *kn, const struct model_weights *w);
void bench_profiler_destroy(struct bench_profiler *p);
/* From now on ops are added to *to, which is emptied; NULL: no longer. */
void bench_profiler_watch(struct bench_profiler *p, struct bench_profile *to);

/* What an op had to read and to compute; zeros where nobody counts, as for rows in caches. */
struct bench_work bench_op_work(const struct kernel_event *e);

void bench_profile_put(struct buf *out, const struct bench_profile *p, const struct bench_rates *limit);
json_t *bench_profile_json(const struct bench_profile *p, const struct bench_rates *limit);

#endif
