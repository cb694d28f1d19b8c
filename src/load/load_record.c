/* Accounting of one stream (load/load_record.h). */
#include "load/load_record.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

#define MAX_TOKENS INT32_MAX

/* The first reason stays. */
static void fail(struct load_record *r, const char *why)
{
	if (!r->error)
		r->error = mem_strdup(why);
}

void load_record_begin(struct load_record *r, double now_s)
{
	r->start_s = now_s;
}

static void chunk(struct load_record *r, double now_s)
{
	double since = now_s - r->start_s;

	if (!r->begun) {
		r->begun = true;
		r->ttft_s = since;
	} else {
		r->gap_s = mem_grow(r->gap_s, &r->gap_cap, r->n_gaps + 1, sizeof(*r->gap_s));
		r->gap_s[r->n_gaps++] = since - r->latency_s;
	}
	r->latency_s = since;
}

static void add_text(struct load_record *r, enum load_backend backend, json_t *choices)
{
	json_t *choice = json_array_get(choices, 0), *text;

	if (backend == LOAD_CHAT)
		text = json_object_get(json_object_get(choice, "delta"), "content");
	else
		text = json_object_get(choice, "text");
	if (json_is_string(text))
		buf_append(&r->text, json_string_value(text), json_string_length(text));
}

static enum status add_usage(struct load_record *r, json_t *usage, struct error *err)
{
	int64_t output, prompt;

	TRY(json_get_int(&output, usage, "usage", "completion_tokens", 0, MAX_TOKENS, err));
	TRY(json_opt_int(&prompt, usage, "usage", "prompt_tokens", 0, MAX_TOKENS, 0, err));
	r->has_usage = true;
	r->output_tokens = (uint32_t)output;
	if (!r->prompt_tokens)
		r->prompt_tokens = (uint32_t)prompt;
	return OK;
}

static void add_error(struct load_record *r, json_t *error)
{
	json_t *message = json_is_object(error) ? json_object_get(error, "message") : error;

	fail(r, json_is_string(message) ? json_string_value(message) : "the stream reports an error");
}

void load_record_event(struct load_record *r, enum load_backend backend, const char *data, size_t len,
	double now_s)
{
	json_t *v, *choices, *usage, *error;
	struct error err;

	if (len == strlen("[DONE]") && memcmp(data, "[DONE]", len) == 0)
		return;
	if (json_load_text_loose(&v, data, len, "event", &err) != OK) {
		fail(r, err.msg);
		return;
	}
	choices = json_object_get(v, "choices");
	usage = json_object_get(v, "usage");
	error = json_object_get(v, "error");
	if (error && !json_is_null(error))
		add_error(r, error);
	if (json_array_size(choices) > 0) {
		chunk(r, now_s);
		add_text(r, backend, choices);
	}
	if (json_is_object(usage) && add_usage(r, usage, &err) != OK)
		fail(r, err.msg);
	json_decref(v);
}

/* "HTTP 429: too many requests", from an error object or as much of the body as fits a line. */
static void fail_status(struct load_record *r, unsigned http, const char *answer, size_t len)
{
	json_t *v = NULL, *message = NULL;
	struct error err;

	if (len && json_load_text(&v, answer, len, "answer", &err) == OK) {
		message = json_object_get(v, "error");
		if (json_is_object(message))
			message = json_object_get(message, "message");
		if (!message)
			message = json_object_get(v, "message");
	}
	if (json_is_string(message))
		error_set(&err, E_PEER, "HTTP %u: %s", http, json_string_value(message));
	else
		error_set(&err, E_PEER, "HTTP %u%s%.*s", http, len ? ": " : "", (int)(len < 120 ? len : 120),
			len ? answer : "");
	json_decref(v);
	fail(r, err.msg);
}

void load_record_end(struct load_record *r, unsigned http, const char *answer, size_t answer_len,
	enum status st, const struct error *err)
{
	if (st != OK)
		fail(r, err->msg);
	else if (http != 200)
		fail_status(r, http, answer, answer_len);
	else if (!r->begun)
		fail(r, answer_len ? "the answer is not a stream of events" : "the stream had no choices");
	r->ok = !r->error;
}

void load_record_deinit(struct load_record *r)
{
	free(r->gap_s);
	free(r->error);
	buf_deinit(&r->text);
	*r = (struct load_record){0};
}
