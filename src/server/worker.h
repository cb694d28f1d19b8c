/*
 * One thread for work that would hold up the loop: making the prompts of long bodies.
 *
 *   worker_submit(s->worker, &mine->job);       run(job, scratch) on the worker's thread, in order,
 *                                               then done(job) on the loop's
 *
 * A job belongs to its submitter; between submit and done, what run touches is run's alone. What is left
 * when the worker is destroyed does not run, but is done: so every job is done exactly once.
 */
#ifndef SERVER_WORKER_H
#define SERVER_WORKER_H

#include "base/error.h"
#include "http/loop.h"
#include "text/tokenizer.h"

/* Bodies up to this many bytes are read on the loop's thread: that takes milliseconds. */
#define WORKER_FROM_BYTES 65536u

struct worker_job {
	struct worker_job *next;
	void (*run)(struct worker_job *job, struct tokenizer_scratch *scratch);
	void (*done)(struct worker_job *job);
};

struct worker;

enum status worker_create(struct worker **out, struct http_loop *loop, struct error *err);
/* Waits for the job in progress. */
void worker_destroy(struct worker *w);
void worker_submit(struct worker *w, struct worker_job *job);
/* From the loop: a job whose turn has not come does not run, and is done soon. */
void worker_cancel(struct worker *w, struct worker_job *job);

#endif
