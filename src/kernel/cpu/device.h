/*
 * The CPU device: what its drivers (cpu/<op>.c) share. Internal to kernel/.
 *
 * A driver checks sizes, splits an op over the pool and calls microkernels of the device's tier. A
 * microkernel knows pointers and strides. cpu/ukernels.inc lists the tiers and the products.
 */
#ifndef KERNEL_CPU_DEVICE_H
#define KERNEL_CPU_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include "base/cpu.h"
#include "base/pool.h"
#include "kernel/cpu/gemm.h"
#include "kernel/cpu/mla.h"
#include "kernel/cpu/peak.h"
#include "kernel/cpu/rope.h"
#include "kernel/cpu/row.h"
#include "kernel/kernel.h"
#include "kernel/observe.h"

/* Work areas of the attention ops, sized by kernel_reserve(). */
struct kernel_scratch {
	uint8_t *thread_mem;  /* [threads][thread_bytes] */
	size_t thread_bytes;  /* a multiple of 64 */
	uint8_t *shared;      /* one for the whole op */
	size_t shared_bytes;
	void *map;            /* owned: both of the above */
	size_t map_bytes;
};

/* Time that a thread spent in the functions of an op, while somebody observes. */
struct thread_busy {
	_Alignas(64) uint64_t ns;
};

struct kernel {
	enum cpu_isa isa;
	int threads;
	struct pool *pool; /* owned */
	const struct gemm_ukernels *gemm;
	const struct row_ukernels *row;
	const struct mla_ukernels *mla;
	const struct rope_ukernels *rope;
	const struct peak_ukernels *peak;
	peak_read_fn *read; /* the best tier's: bandwidth is the machine's */
	struct gemm_scratch *gemm_scratch; /* owned, [threads] */
	struct kernel_limits limits;
	struct kernel_scratch scratch;
	kernel_observe_fn *observe; /* or NULL */
	void *observe_arg;
	struct thread_busy *busy; /* owned, [threads] */
};

/* An op that runs, for the observer. */
struct op_scope {
	struct kernel *kn; /* NULL: nobody observes */
	uint64_t begin_ns;
	struct kernel_event event;
};
struct op_scope op_scope_begin(struct kernel *kn, enum kernel_op op, const void *args, uint32_t n);
void op_scope_end(struct op_scope *s);

/* First line of an op: what it takes until it returns, by whichever way, goes to the observer. */
#define OP_SCOPE(kn, op, args, n)                                                                  \
	struct op_scope op_scope_ __attribute__((cleanup(op_scope_end))) =                         \
		op_scope_begin(kn, op, args, n)

/* The part [*begin, *end) of n units that `thread` of n_threads does: contiguous, sizes differ by
 * at most one. */
static inline void cpu_split(
	size_t n, int thread, int n_threads, size_t *begin, size_t *end)
{
	*begin = n * (size_t)thread / (size_t)n_threads;
	*end = n * ((size_t)thread + 1) / (size_t)n_threads;
}

#endif
