/*
 * Figures of a run from its records, defined as in vLLM's benchmark.
 *
 *   load_summary_make(&s, records, n, duration_s, &slo);
 *   load_percentile(s.of[LOAD_TTFT].sorted_ms, s.of[LOAD_TTFT].n, 99)
 *   load_summary_deinit(&s);
 */
#ifndef LOAD_LOAD_SUMMARY_H
#define LOAD_LOAD_SUMMARY_H

#include <stddef.h>
#include <stdint.h>

#include "load/load_record.h"

/* Of requests that succeeded. */
enum load_metric {
	LOAD_TTFT, /* time to first token */
	LOAD_TPOT, /* mean time of each token after the first, of answers of two tokens and more */
	LOAD_ITL,  /* every gap between chunks */
	LOAD_E2EL, /* start to last token */
	LOAD_METRICS,
};

extern const char *const load_metric_names[LOAD_METRICS]; /* "ttft", ... */

struct load_series {
	double *sorted_ms; /* [n] owned, rising */
	size_t n;
	double mean_ms, median_ms, std_ms; /* 0 without values */
};

/* Limits in milliseconds; NAN: none. */
struct load_slo {
	double ttft_ms, tpot_ms, e2el_ms;
};

struct load_summary {
	uint32_t completed, failed;
	uint64_t input_tokens, output_tokens;
	double duration_s;
	double request_throughput; /* per second, as the following ones */
	double goodput;            /* requests that keep every limit */
	double output_throughput, total_throughput;
	double peak_output_tokens; /* chunks in the best second */
	uint32_t peak_requests;    /* open in one second at most */
	struct load_series of[LOAD_METRICS];
};

void load_summary_make(struct load_summary *out, const struct load_record *records, uint32_t n,
	double duration_s, const struct load_slo *slo);
void load_summary_deinit(struct load_summary *s);

/* numpy's linear interpolation; p from 0 to 100. 0 without values. */
double load_percentile(const double *sorted, size_t n, double p);

#endif
