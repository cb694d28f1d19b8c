/*
 * One kernel at a time at the shapes of DeepSeek-V3.1: the calls that `fathom bench kernel` measures.
 * bench_kernel.c is the command, bench_kernel_case.c makes the calls.
 */
#ifndef CLI_BENCH_KERNEL_H
#define CLI_BENCH_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernel/kernel.h"

struct kernel_call;

/* A kernel of the list; the last one has no name. */
struct kernel_case {
	const char *name;
	const char *what;
	uint32_t max_m;  /* more rows never meet it */
	bool formats;    /* weights in any format; else they are BF16 in every model */
	bool contexts;   /* attends to so many cached tokens */
	uint32_t n, k;   /* of its weight; of each head's and expert's where there are several */
	uint32_t n2;     /* a second weight that reads the same rows, or 0 */
	enum gemm_epilogue epilogue;
	void (*run)(struct kernel_call *c);
};
extern const struct kernel_case kernel_cases[];

struct kernel_call {
	const struct kernel_case *what;
	struct kernel *kn;
	enum weight_format format;
	uint32_t group;     /* inputs of a scale; 0: the format's own */
	uint32_t m;         /* rows: tokens; sequences of mla_decode */
	uint32_t context;   /* tokens before them */
	/* Memory, from kernel_call_map(). Weights and caches lie in a buffer much larger than the caches of
	 * the machine; each call takes the part that follows. */
	uint8_t *cold;
	size_t cold_bytes;
	size_t at;
	uint64_t calls;
	uint8_t *in, *out, *mid;
	size_t in_bytes, out_bytes, mid_bytes;
	int32_t *ids;       /* rows of experts, blocks of sequences */
	struct gemm_job *jobs;
	struct act *views;
	struct mla_seq *seqs;
};

/* Memory for calls of up to max_m rows behind max_context tokens of the n cases. */
enum status kernel_call_map(struct kernel_call *c, const struct kernel_case *const *cases, uint32_t n,
	size_t cold_bytes, uint32_t max_m, uint32_t max_context, struct error *err);
void kernel_call_unmap(struct kernel_call *c);

/* NULL when no kernel has this name. */
const struct kernel_case *kernel_case_find(const char *name);

#endif
