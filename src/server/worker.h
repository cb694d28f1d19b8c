/*
 * The work on a request: what is made of its body before it can be answered. Short bodies are read at once, on the
 * loop's thread; long ones by a second thread, in their order, since one of them would hold up everybody. Short ones go
 * there too once they turn out to need what may take long.
 *
 *   struct mine {
 *           struct work work;                     first
 *           ...
 *   };
 *   m->work = (struct work){ .call = c, .make = make, .answer = answer, .drop = drop };
 *   work_begin(&m->work);                         from here on m is the work's
 *
 * make() is called first. It touches what is the work's own, the call's request, and what never changes: tokenizer,
 * template, options, and what has a lock of its own. Where on_loop is set it may stop anywhere, set `again` and return
 * OK: then it is called once more, on the thread. Then, on the loop, answer() when the call is to be answered, or
 * drop() when it is gone: make() refused it, or its peer left. Both take m back. Work whose turn has not come is
 * dropped as soon as its peer leaves.
 */
#ifndef SERVER_WORKER_H
#define SERVER_WORKER_H

#include <jansson.h>

#include "base/error.h"
#include "server/refusal.h"
#include "server/serving_int.h"
#include "text/tokenizer.h"

/* Shorter bodies are read on the loop's thread: the worst prompts and lists of tools take about ten milliseconds. */
#define WORKER_FROM_BYTES 32768u

struct work {
	struct call *call;
	enum status (*make)(struct work *w, struct tokenizer_scratch *scratch, struct refusal *no);
	void (*answer)(struct work *w);
	void (*drop)(struct work *w);
	bool on_loop, again;
	/* The worker's. */
	struct work *next;
	bool made, gone;
	enum status st;
	struct refusal no;
};

struct worker;

enum status worker_create(struct worker **out, struct http_loop *loop, struct error *err);
/* Waits for the work in progress. What is left is not made, but dropped: its peers must be gone. */
void worker_destroy(struct worker *w);

void work_begin(struct work *w);

/* Whether the thread has nothing to do. */
bool worker_is_idle(struct worker *w);

/* What is left of a body. */
struct work_json {
	json_t *body, *request; /* owned; may share values; or NULL */
	size_t body_bytes;      /* as it came */
	size_t json_bytes;      /* counted in serving.json_bytes */
};

/* Frees it, aside and before all bodies that wait where that takes long; then it no longer counts. */
void work_free_json(struct serving *s, const struct work_json *v);

#endif
