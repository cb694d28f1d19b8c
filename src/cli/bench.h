/*
 * Measurements of `fathom bench model`: rows of prefill and decode with the limit that holds for each,
 * and how they are printed. bench_model.c is the command, bench.c measures.
 */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "engine/runtime.h"

#define BENCH_MAX_ROWS 512u /* OPT_MAX_SIZES prompts, contexts times sequences */

struct bench_row {
	bool prefill;
	uint32_t tokens;     /* prefill: of the prompt; decode: in the cache of each sequence */
	uint32_t seqs;
	double seconds;      /* median of a prompt or a step */
	double tokens_per_s; /* of all sequences */
	double work;         /* prefill: FLOPs of a prompt; decode: bytes of a step */
	double rate;         /* work per second */
	double limit;        /* the probe's rate: the better of before and after */
	double experts_hit;  /* distinct experts of a step and MoE layer, mean; decode only */
};

struct bench {
	struct runtime *rt; /* borrowed; with max_seqs outputs and the contexts that rows need */
	uint32_t repeat;    /* 0: 3 prompts, 16 decode steps */
	uint64_t seed;
	bool progress;
	struct bench_row rows[BENCH_MAX_ROWS];
	uint32_t n_rows;
};

/* Steps that a decode row adds to its context, warm-up included. */
uint32_t bench_decode_steps(uint32_t repeat);

/* Each adds one row. */
enum status bench_prefill(struct bench *b, uint32_t tokens, struct error *err);
enum status bench_decode(struct bench *b, uint32_t context, uint32_t seqs, struct error *err);

void bench_put_table(struct buf *out, const struct bench *b, const char *shape, const char *format);
void bench_put_json(struct buf *out, const struct bench *b, const char *shape, const char *format);

#endif
