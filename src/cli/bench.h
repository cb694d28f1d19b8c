/*
 * Measurements of `fathom bench model`: rows of prefill and decode, each repetition beside the limits of its
 * moment (cli/bench_meter.h), and how they are printed. bench_model.c is the command, bench.c measures,
 * bench_print.c prints.
 */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "cli/bench_meter.h"
#include "cli/bench_profile.h"
#include "engine/runtime.h"

#define BENCH_MAX_ROWS (512u * CPU_ISA_COUNT) /* OPT_MAX_SIZES prompts, contexts times sequences; tiers */

struct bench_row {
	bool prefill;
	enum cpu_isa isa;
	uint32_t tokens;     /* prefill: of the prompt; decode: in the cache of each sequence */
	uint32_t seqs;
	double tokens_per_s; /* of all sequences */
	double experts_hit;  /* distinct experts of a step and MoE layer, mean; decode only */
	uint32_t n_samples;
	struct bench_sample *samples; /* owned: prompts or steps */
	struct bench_figures figures;
	struct bench_profile *profile; /* owned, or NULL */
};

struct bench {
	struct runtime *rt; /* borrowed; with max_seqs outputs and the contexts that rows need */
	uint32_t repeat;    /* 0: 3 prompts, 16 decode steps */
	uint64_t seed;
	bool progress;
	struct bench_meter meter;        /* owns its probe */
	struct bench_profiler *profiler; /* owned; NULL: no profiles */
	struct bench_row rows[BENCH_MAX_ROWS];
	uint32_t n_rows;
};

/* Also after a failure. */
void bench_deinit(struct bench *b);

/* Steps that a decode row adds to its context, warm-up included. */
uint32_t bench_decode_steps(uint32_t repeat);

/* Each adds one row, in the tier that the runtime's kernel has now. */
enum status bench_prefill(struct bench *b, uint32_t tokens, struct error *err);
enum status bench_decode(struct bench *b, uint32_t context, uint32_t seqs, struct error *err);

void bench_put_table(struct buf *out, const struct bench *b, const char *shape, const char *format);
void bench_put_json(struct buf *out, const struct bench *b, const char *shape, const char *format);

#endif
