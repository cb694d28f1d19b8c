/*
 * JSON lines on standard input and output: one object a line, strings may hold NUL.
 *
 * Errors begin with "line N:". Blank lines are skipped.
 */
#ifndef CLI_JSONL_H
#define CLI_JSONL_H

#include <jansson.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/error.h"

struct jsonl {
	struct buf line; /* owned */
	json_t *value;   /* owned: the last one given out */
	size_t number;   /* of the last line read, from 1 */
	char what[32];   /* "line 12": names the document in messages */
};

/* `in` starts zeroed. *out is an object, borrowed until the next call; NULL at the end of stdin. */
enum status jsonl_next(json_t **out, struct jsonl *in, struct error *err);
void jsonl_deinit(struct jsonl *in);

/* Appends a value as one line and releases it. */
void jsonl_put(struct buf *out, json_t *value);
/* The same, indented over several lines: what --json prints. */
void json_put_pretty(struct buf *out, json_t *value);

#endif
