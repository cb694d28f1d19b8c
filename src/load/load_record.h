/*
 * What one request did: times of its chunks, tokens, text, or why it failed. Fed with the events of its
 * stream and the time at which each came.
 *
 *   load_record_begin(&r, now);
 *   load_record_event(&r, backend, data, len, now);      for every event
 *   load_record_end(&r, status, answer, answer_len, st, &err);
 *
 * A chunk counts when it has choices, whatever they hold: the first gives the time to first token, the
 * later ones a gap each, the last the latency. The usage chunk and [DONE] are no chunks.
 */
#ifndef LOAD_LOAD_RECORD_H
#define LOAD_LOAD_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

enum load_backend { LOAD_COMPLETIONS, LOAD_CHAT };

struct load_record {
	double start_s; /* base/clock.h */
	double queue_s; /* between its arrival and its start: no place under the concurrency limit */
	double ttft_s;
	double latency_s;
	double *gap_s; /* [n_gaps] owned */
	size_t n_gaps, gap_cap;
	struct buf text;
	char *error; /* owned; NULL: none */
	bool ok;
	bool begun, has_usage;
	uint32_t prompt_tokens; /* of the dataset, else of the server's usage; 0: unknown */
	uint32_t output_tokens; /* of the server's usage; 0 before end: unknown */
};

void load_record_begin(struct load_record *r, double now_s);
void load_record_event(struct load_record *r, enum load_backend backend, const char *data, size_t len,
	double now_s);
/* http: status of the answer, 0 when none came; answer: its body where it was no stream. */
void load_record_end(struct load_record *r, unsigned http, const char *answer, size_t answer_len,
	enum status st, const struct error *err);
void load_record_deinit(struct load_record *r);

#endif
