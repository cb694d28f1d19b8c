/*
 * Progress bar on stderr: only on a terminal, only once the work has lasted two seconds, redrawn at
 * most ten times a second, erased at the end. One thread calls at a time.
 */
#ifndef BASE_PROGRESS_H
#define BASE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

enum progress_unit { PROGRESS_COUNT, PROGRESS_BYTES };

struct progress {
	const char *label; /* borrowed: "loading weights" */
	uint64_t total;    /* 0: unknown */
	enum progress_unit unit;
	bool on;           /* stderr is a terminal and the caller wants a bar */
	bool drawn;
	uint64_t begin_ns;
	uint64_t drawn_ns;
};

void progress_begin(struct progress *p, const char *label, uint64_t total, enum progress_unit unit,
	bool wanted);
void progress_update(struct progress *p, uint64_t done);
void progress_end(struct progress *p);

#endif
