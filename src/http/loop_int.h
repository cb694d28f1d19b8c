/* What the rest of http/ uses of the loop: libevent's base, deferred work, the shared read buffer.
 */
#ifndef HTTP_LOOP_INT_H
#define HTTP_LOOP_INT_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "http/loop.h"

#define HTTP_READ_BYTES 65536u

/* Work for the top of the loop, when no callback is in progress; embedded in what it works on. */
struct http_later {
	struct http_later *next;
	http_loop_fn *fn;
	void *arg;
	bool queued;
};

struct event_base *http_loop_base(struct http_loop *l);
/* Once per call, before the loop sleeps again; a node that is queued stays queued once. */
void http_loop_later(struct http_loop *l, struct http_later *node);
/* Takes the node out of the queue if it is there. */
void http_loop_forget(struct http_loop *l, struct http_later *node);
/* HTTP_READ_BYTES, for the callback that is reading. */
char *http_loop_read_buffer(struct http_loop *l);
/* Empty; for what one call builds and hands to http_io_write. */
struct buf *http_loop_scratch(struct http_loop *l);

void http_event_set_ms(struct event *ev, uint64_t delay_ms);

#endif
