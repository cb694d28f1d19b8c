/*
 * Repetitions beside what the machine could do at that moment: the limits are probed right before and right
 * after each one, and a repetition is judged by its own pair alone. docs/performance.md explains the model.
 *
 *   bench_meter_probe(m);                     once, right before the first repetition
 *   bench_meter_begin(m, &s); ...; bench_meter_end(m, &s);        each; s.work is the caller's
 *   bench_figures_of(&f, samples, n);
 */
#ifndef CLI_BENCH_METER_H
#define CLI_BENCH_METER_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/buf.h"
#include "kernel/probe.h"

/* What a repetition has to read and to compute at least; products by the kind of their inputs. */
struct bench_work {
	double bytes;
	double bf16_flops;
	double int8_ops;
};

/* The same per second. */
struct bench_rates {
	double bytes;
	double bf16_flops;
	double int8_ops;
};

struct bench_meter {
	struct kernel *kn;          /* borrowed */
	struct kernel_probe *probe; /* borrowed */
	struct bench_rates last;
	struct bench_rates highest; /* seen, in whichever tier */
};

struct bench_sample {
	double seconds;
	struct bench_work work;
	struct bench_rates limit; /* the larger one of the pair: a share can come out too small, not too large */
};

/* Of a row of repetitions. A share is the time that the limit sets over the time taken. */
struct bench_figures {
	double seconds;          /* median */
	struct bench_work work;  /* mean */
	struct bench_rates limit;   /* medians of the pairs */
	struct bench_rates highest; /* of the pairs */
	bool by_bytes;           /* reading sets the limit, not arithmetic: most of the repetitions */
	double share;            /* median */
	double share_lowest;
	double share_at_highest; /* median of those whose limit was within a tenth of the row's highest */
};

/* Takes the limits now: about 50 ms. */
void bench_meter_probe(struct bench_meter *m);
void bench_meter_begin(const struct bench_meter *m, struct bench_sample *s);
/* Ends the repetition, then probes: also the next one's probe before. */
void bench_meter_end(struct bench_meter *m, struct bench_sample *s);

/* Seconds that the limits set: reading and computing at once, each at its rate. */
double bench_limit_seconds(const struct bench_work *w, const struct bench_rates *limit, bool *by_bytes);

void bench_figures_of(struct bench_figures *out, const struct bench_sample *samples, uint32_t n);

/* Columns of a table: "GB  GFLOP  limit  of limit  lowest  at highest", and a row of them. */
void bench_figures_put_head(struct buf *out);
void bench_figures_put(struct buf *out, const struct bench_figures *f);
/* One line: the highest rates. */
void bench_meter_put(struct buf *out, const struct bench_meter *m);
json_t *bench_rates_json(const struct bench_rates *r);
/* Adds the same and every repetition to a JSON object. */
void bench_figures_json(
	json_t *to, const struct bench_figures *f, const struct bench_sample *samples, uint32_t n);

#endif
