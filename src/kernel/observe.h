/*
 * What ops take, for benchmarks: an observer is told of each one that ended. Without an observer an op
 * pays for one comparison; with one, for reading the clock before and after and once per thread.
 */
#ifndef KERNEL_OBSERVE_H
#define KERNEL_OBSERVE_H

#include <stdint.h>

#include "kernel/kernel.h"

/* Ops, by what kernel_event.args and n hold. */
#define KERNEL_OPS(X)                                                                              \
	X(EMBED, "embed")                                                                          \
	X(RMSNORM, "rmsnorm")           /* struct rmsnorm_args */                                  \
	X(ADD, "add")                                                                              \
	X(ACT_FROM_F32, "act_from_f32") /* struct act */                                           \
	X(GEMM, "gemm")                 /* struct gemm_job [n] */                                  \
	X(KV_WRITE, "kv_write")         /* struct kv_write_args */                                 \
	X(Q_ROPE, "q_rope")             /* struct q_rope_args */                                   \
	X(MLA_PROMPT, "mla_prompt")     /* struct mla_prompt_args */                               \
	X(MLA_DECODE, "mla_decode")     /* struct mla_decode_args */                               \
	X(ROUTE, "route")               /* struct route_args */                                    \
	X(MOE_COMBINE, "moe_combine")   /* struct moe_combine_args */

enum kernel_op {
#define KERNEL_OP(NAME, name) KERNEL_OP_##NAME,
	KERNEL_OPS(KERNEL_OP)
#undef KERNEL_OP
	KERNEL_OP_COUNT
};

const char *kernel_op_name(enum kernel_op op);

struct kernel_event {
	enum kernel_op op;
	const void *args;  /* what the op was called with; NULL where the list names nothing */
	uint32_t n;
	uint64_t ns;       /* from call to return */
	uint64_t busy_ns;  /* sum over threads: inside of the op's own code; the rest of ns * threads is
			    * starting, joining and waiting for the slowest */
};

/* Called on the thread that called the op. */
typedef void kernel_observe_fn(void *arg, const struct kernel_event *event);

/* fn NULL: nobody observes any more. Not while an op runs. */
void kernel_observe(struct kernel *kn, kernel_observe_fn *fn, void *arg);

#endif
