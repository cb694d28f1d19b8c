/*
 * What speculation did during a run: differences of the server's counters, from the text of /metrics
 * before and after.
 */
#ifndef LOAD_DRAFT_STATS_H
#define LOAD_DRAFT_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DRAFT_MAX_POSITIONS 64

struct draft_stats {
	double drafts, draft_tokens, accepted_tokens;
	double accepted_at[DRAFT_MAX_POSITIONS];
	uint32_t n_positions;
};

/* Sums over labels of the vllm:spec_decode_*_total lines; false when the text has none. */
bool draft_stats_read(struct draft_stats *out, const char *metrics, size_t len);
/* after -= before; false when nothing was drafted in between. */
bool draft_stats_since(struct draft_stats *after, const struct draft_stats *before);

double draft_stats_rate(const struct draft_stats *s);   /* accepted of drafted tokens, in percent */
double draft_stats_length(const struct draft_stats *s); /* tokens of a step, mean */
/* Accepted at this position, per draft. */
double draft_stats_at(const struct draft_stats *s, uint32_t position);

#endif
