/*
 * The JSON of one request, as vLLM's benchmark sends it, and the names of the routes.
 *
 *   load_request_put(&body, &shape, prompt);
 */
#ifndef LOAD_LOAD_REQUEST_H
#define LOAD_LOAD_REQUEST_H

#include <jansson.h>

#include "base/buf.h"
#include "load/dataset.h"
#include "load/load_record.h"

struct load_request_shape {
	enum load_backend backend;
	const char *model;
	bool ignore_eos;
	int logprobs;   /* below 0: not asked for */
	json_t *fields; /* an object laid over the body at last: sampling, extra body; borrowed, or NULL */
};

const char *load_request_route(enum load_backend backend);
/* out is emptied first. */
void load_request_put(struct buf *out, const struct load_request_shape *shape, const struct load_prompt *p);

#endif
