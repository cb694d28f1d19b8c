/*
 * Counters and histograms of the server, written as Prometheus text 0.0.4 with vLLM's names, labels and
 * buckets (spec: serving, section 4). One thread.
 */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "engine/engine.h"

#define METRICS_MAX_BOUNDS 32
/* Every route with every status that it may have. */
#define METRICS_MAX_HTTP 512

struct histogram {
	uint64_t counts[METRICS_MAX_BOUNDS + 1]; /* of each bucket alone; the last one is open */
	uint64_t n;
	double sum;
};

enum metrics_reason {
	METRICS_STOP,
	METRICS_LENGTH,
	METRICS_ABORT,
	METRICS_ERROR,
	METRICS_REASONS,
};

struct metrics_http_row {
	const char *route, *method; /* static */
	unsigned status;
	uint64_t n, request_bytes, response_bytes;
	double seconds;
};

struct metrics {
	struct histogram ttft, inter_token, per_output_token;
	struct histogram e2e, queue, inference, prefill, decode;
	struct histogram prompt_tokens, generation_tokens, max_generation_tokens, max_tokens, n;
	struct histogram prefill_tokens, preemptions, steps;
	uint64_t success[METRICS_REASONS];
	size_t heap_bytes;
	struct metrics_http_row http[METRICS_MAX_HTTP];
	uint32_t n_http;
};

void metrics_token_gap(struct metrics *m, double seconds);
void metrics_count_n(struct metrics *m, uint32_t n);
/* A job that has ended; reason: a finish_reason, "abort" or "error". */
void metrics_job(struct metrics *m, const struct engine_job *job, uint32_t n_prompt, uint32_t max_tokens,
	const char *reason);
/* The longest answer to a prompt. */
void metrics_longest(struct metrics *m, uint32_t n_generated);
/* An HTTP request that was answered; route and method are static strings: what clients make up is "none" and "OTHER". */
struct metrics_answered {
	const char *route, *method;
	unsigned status;
	double seconds;
	uint64_t request_bytes, response_bytes; /* of the bodies */
};
void metrics_http(struct metrics *m, const struct metrics_answered *a);

/* Fills m->steps from the engine's. */
void metrics_put(struct buf *out, struct metrics *m, const struct engine_stats *stats, const char *model_name,
	uint32_t block_tokens, bool prefix_cache);

#endif
