/*
 * Dispatch (load/traffic.h). Arrivals start in their order: `arrived` counts those whose time has come,
 * `started` those that were sent, and the difference waits for a place under the concurrency limit.
 */
#include "load/traffic.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/progress.h"

#define MAX_BODY 4096 /* of an answer that is no stream: enough to say why */
#define MAX_HEADERS 80
#define REDRAW_US 200000u

struct run;

struct flight {
	struct run *run;
	uint32_t index;
	unsigned http;
	struct buf body;
};

struct run {
	const struct load_traffic_config *c;
	struct load_traffic *t;
	struct flight *flights; /* [n] */
	double *due_s;          /* [n] since begin_s */
	double begin_s, first_s, last_s;
	uint32_t arrived, started, ended;
	struct http_timer *next, *redraw;
	struct progress bar;
	struct buf body;
};

static void start_what_may(struct run *r);

static void on_head(void *arg, unsigned status, const struct http_header *headers, size_t n)
{
	((struct flight *)arg)->http = status;
}

static void on_data(void *arg, const char *data, size_t len)
{
	struct flight *f = arg;
	size_t room = MAX_BODY - f->body.len;

	buf_append(&f->body, data, len < room ? len : room);
}

static void on_event(void *arg, const char *event, const char *data, size_t len)
{
	struct flight *f = arg;

	load_record_event(&f->run->t->records[f->index], f->run->c->shape.backend, data, len, clock_s());
}

static void on_done(void *arg, enum status st, const struct error *err)
{
	struct flight *f = arg;
	struct run *r = f->run;
	struct load_record *record = &r->t->records[f->index];

	load_record_end(record, f->http, f->body.data ? f->body.data : "", f->body.len, st, err);
	if (record->has_usage && !r->c->keep_text)
		buf_deinit(&record->text);
	buf_deinit(&f->body);
	r->last_s = clock_s();
	r->ended++;
	start_what_may(r);
	if (r->ended == r->c->n)
		http_loop_stop(r->c->target->loop);
}

static void start(struct run *r, uint32_t i)
{
	static const struct http_call_handlers handlers = {
		.head = on_head, .event = on_event, .data = on_data, .done = on_done };
	const struct load_traffic_config *c = r->c;
	const struct load_prompt *p = &c->prompts[c->same_prompt ? 0 : i];
	struct http_header headers[MAX_HEADERS + 2];
	struct http_call_config call = { .method = "POST", .headers = headers };
	struct load_record *record = &r->t->records[i];
	struct buf target = { 0 };
	char id[128];
	double now;

	r->flights[i] = (struct flight){ .run = r, .index = i };
	load_request_put(&r->body, &c->shape, p);
	snprintf(id, sizeof(id), "%.100s%u", c->id_prefix, i);
	headers[call.n_headers++] = (struct http_header){ "Content-Type", "application/json" };
	headers[call.n_headers++] = (struct http_header){ "x-request-id", id };
	for (size_t k = 0; k < c->target->n_headers; k++)
		headers[call.n_headers++] = c->target->headers[k];
	buf_printf(&target, "%s%s", c->target->prefix, c->route);
	call.target = target.data;
	call.body = r->body.data;
	call.body_bytes = r->body.len;
	now = clock_s();
	if (!i)
		r->first_s = now;
	load_record_begin(record, now);
	record->prompt_tokens = p->prompt_tokens;
	record->queue_s = fmax(0, now - r->begin_s - r->due_s[i]);
	http_call_start(c->target->client, &call, &handlers, &r->flights[i]);
	buf_deinit(&target);
}

static void start_what_may(struct run *r)
{
	uint32_t limit = r->c->max_concurrency ? r->c->max_concurrency : UINT32_MAX;

	while (r->started < r->arrived && r->started - r->ended < limit)
		start(r, r->started++);
}

/* Ramps: the first request at each further whole rate is worth a line in the result. */
static void note_rate(struct run *r, uint32_t i)
{
	struct load_traffic *t = r->t;
	uint32_t rate;

	if (r->c->arrival.ramp == LOAD_RAMP_NONE)
		return;
	rate = (uint32_t)load_arrival_rate(&r->c->arrival, i, r->c->n);
	if (t->n_changes && t->changes[t->n_changes - 1].rate == rate)
		return;
	t->changes = mem_grow(t->changes, &t->changes_cap, (size_t)t->n_changes + 1, sizeof(*t->changes));
	t->changes[t->n_changes++] = (struct load_rate_change){ rate, r->due_s[i] };
}

static void on_due(void *arg)
{
	struct run *r = arg;
	double now = clock_s() - r->begin_s;

	while (r->arrived < r->c->n && r->due_s[r->arrived] <= now)
		note_rate(r, r->arrived++);
	start_what_may(r);
	if (r->arrived < r->c->n)
		http_timer_set(r->next, (uint64_t)fmax(0, (r->due_s[r->arrived] - now) * 1e6));
}

static void on_redraw(void *arg)
{
	struct run *r = arg;

	progress_update(&r->bar, r->ended);
	http_timer_set(r->redraw, REDRAW_US);
}

/* Tokens of answers that the server did not count: by the tokenizer, else a chunk each. */
static enum status count_answers(struct load_traffic *t, const struct load_traffic_config *c, struct error *err)
{
	enum status st = OK;

	for (uint32_t i = 0; i < t->n && st == OK; i++) {
		struct load_record *r = &t->records[i];
		struct token_buf ids = { 0 };

		if (!r->ok || r->has_usage)
			continue;
		if (c->tokens) {
			st = load_tokens_encode(c->tokens, r->text.data ? r->text.data : "", r->text.len, &ids, err);
			r->output_tokens = (uint32_t)ids.len;
			token_buf_deinit(&ids);
		} else {
			r->output_tokens = (uint32_t)r->n_gaps + 1;
			t->guessed++;
		}
		if (!c->keep_text)
			buf_deinit(&r->text);
	}
	return st;
}

enum status load_traffic_run(struct load_traffic *out, const struct load_traffic_config *c, struct error *err)
{
	struct load_traffic t = { .n = c->n };
	struct run r = { .c = c, .t = &t };
	enum status st;

	BUG_ON(!c->n || c->target->n_headers > MAX_HEADERS);
	t.records = mem_try_alloc(c->n, sizeof(*t.records));
	r.flights = mem_try_alloc(c->n, sizeof(*r.flights));
	r.due_s = mem_try_alloc(c->n, sizeof(*r.due_s));
	if (!t.records || !r.flights || !r.due_s) {
		t.n = t.records ? t.n : 0;
		st = error_set(err, E_NOMEM, "no memory for %u requests", c->n);
		goto out;
	}
	load_arrival_times(r.due_s, c->n, &c->arrival);
	r.next = http_timer_create(c->target->loop, on_due, &r);
	r.redraw = http_timer_create(c->target->loop, on_redraw, &r);
	progress_begin(&r.bar, "requests", c->n, PROGRESS_COUNT, c->progress);
	http_timer_set(r.next, 0);
	if (r.bar.on)
		http_timer_set(r.redraw, REDRAW_US);
	r.begin_s = clock_s();
	http_loop_run(c->target->loop);
	progress_end(&r.bar);
	t.duration_s = r.last_s - r.first_s;
	http_timer_destroy(r.next);
	http_timer_destroy(r.redraw);
	st = count_answers(&t, c, err);
out:
	buf_deinit(&r.body);
	free(r.flights);
	free(r.due_s);
	if (st == OK)
		*out = t;
	else
		load_traffic_deinit(&t);
	return st;
}

void load_traffic_deinit(struct load_traffic *t)
{
	for (uint32_t i = 0; i < t->n; i++)
		load_record_deinit(&t->records[i]);
	free(t->records);
	free(t->changes);
	*t = (struct load_traffic){0};
}

enum status load_traffic_probe(const struct load_traffic_config *c, struct error *err)
{
	struct load_traffic_config one = *c;
	struct load_traffic t;
	enum status st = OK;

	one.n = 1;
	one.arrival = (struct load_arrival){ .rate = INFINITY, .burstiness = 1 };
	one.max_concurrency = 0;
	one.progress = false;
	TRY(load_traffic_run(&t, &one, err));
	if (!t.records[0].ok)
		st = error_set(err, E_PEER, "%s", t.records[0].error);
	load_traffic_deinit(&t);
	return st;
}
