/*
 * The traffic itself: every prompt of a dataset sent at its time, streams by the thousand on one loop,
 * a record of each.
 *
 *   TRY(load_traffic_run(&result, &config, err));
 *   result.records[i] ...
 *   load_traffic_deinit(&result);
 */
#ifndef LOAD_TRAFFIC_H
#define LOAD_TRAFFIC_H

#include <stdbool.h>
#include <stdint.h>

#include "load/arrival.h"
#include "load/dataset.h"
#include "load/load_record.h"
#include "load/load_request.h"
#include "load/load_target.h"

struct load_traffic_config {
	struct load_target *target;
	const char *route;
	struct load_request_shape shape;
	const struct load_prompt *prompts; /* [n] */
	uint32_t n;
	bool same_prompt; /* n times the first one */
	struct load_arrival arrival;
	uint32_t max_concurrency; /* 0: any number; what arrives above it waits here */
	const char *id_prefix;    /* of x-request-id; the index follows */
	struct load_tokens *tokens; /* counts answers whose usage the server does not tell; or NULL */
	bool keep_text;
	bool progress;
};

struct load_rate_change {
	uint32_t rate; /* whole requests per second that a ramp reached */
	double time_s; /* since the beginning */
};

struct load_traffic {
	struct load_record *records; /* [n] owned */
	uint32_t n;
	double duration_s; /* from the first start to the last end */
	uint32_t guessed;  /* answers whose tokens were taken to be their chunks */
	struct load_rate_change *changes; /* owned */
	uint32_t n_changes;
	size_t changes_cap;
};

/* What a server does wrong is in the records; an error is ours. */
enum status load_traffic_run(struct load_traffic *out, const struct load_traffic_config *c, struct error *err);
void load_traffic_deinit(struct load_traffic *t);

/* One request alone; an error says why it failed. */
enum status load_traffic_probe(const struct load_traffic_config *c, struct error *err);

#endif
