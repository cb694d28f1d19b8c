/*
 * A run as vLLM's benchmark reports it: the table, the JSON result with its keys, the name of its file.
 *
 *   load_report_put_table(&out, &report);
 *   json_t *v = load_report_json(&report, detailed);
 */
#ifndef LOAD_LOAD_REPORT_H
#define LOAD_LOAD_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <time.h>

#include "base/buf.h"
#include "load/draft_stats.h"
#include "load/load_summary.h"
#include "load/traffic.h"

#define LOAD_MAX_PERCENTILES 16

struct load_report {
	const char *backend; /* as on the command line */
	const char *label, *model, *tokenizer; /* NULL: none */
	const json_t *metadata; /* an object of strings, or NULL */
	time_t time;
	uint32_t num_prompts;
	struct load_arrival arrival;
	uint32_t max_concurrency; /* 0: none */
	bool shown[LOAD_METRICS];
	double percentiles[LOAD_MAX_PERCENTILES];
	int n_percentiles;
	bool has_slo;
	const struct draft_stats *drafts; /* NULL: none */
	const struct load_traffic *traffic;
	const struct load_summary *summary;
};

void load_report_put_table(struct buf *out, const struct load_report *r);
/* detailed: the lists of single requests too. Owned by the caller. */
json_t *load_report_json(const struct load_report *r, bool detailed);
void load_report_put_file_name(struct buf *out, const struct load_report *r);

/* 4.0, 0.25, inf: as Python prints a float. */
void load_report_put_rate(struct buf *out, double rate);

#endif
