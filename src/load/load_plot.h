/*
 * Latency against load, drawn as SVG: one panel a metric, one point a run, lines for the median and the
 * highest percentile.
 */
#ifndef LOAD_LOAD_PLOT_H
#define LOAD_LOAD_PLOT_H

#include <stdint.h>

#include "base/buf.h"
#include "load/load_summary.h"

struct load_plot_point {
	double load; /* above 0 */
	double median_ms[LOAD_METRICS], high_ms[LOAD_METRICS];
	double output_throughput; /* tokens per second; written beside the point */
};

struct load_plot {
	const char *title, *load_name; /* "concurrent requests" */
	double high;                   /* which percentile high_ms is */
	bool shown[LOAD_METRICS];
	const struct load_plot_point *points; /* [n], in any order of load */
	uint32_t n;
};

void load_plot_put_svg(struct buf *out, const struct load_plot *p);

#endif
