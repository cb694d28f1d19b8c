/*
 * The life of an answer (server/answer.h).
 *
 * Invariants: call is NULL exactly when nothing more may be sent; a job is destroyed only after the engine
 * has reported its end; the answer is freed when both have happened.
 */
#include "server/answer.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/choice.h"
#include "server/fields.h"
#include "server/structured.h"
#include "text/grammar.h"

/* Idle proxies cut a stream that is silent for much longer. */
#define COMMENT_AFTER_NS 5000000000ull
/* News taken before sockets and timers have their turn: an engine may be as fast as this thread. */
#define NEWS_A_TURN 512

struct answer *answer_create(struct call *call, const struct answer_form *form)
{
	struct answer *a = mem_alloc(sizeof(*a));

	*a = (struct answer){
		.s = call->s, .call = call, .form = form, .created = time(NULL),
		.body_bytes = call->r->body_bytes, .show_reasoning = true,
	};
	return a;
}

void answer_set_prompts(struct answer *a, uint32_t n)
{
	a->prompts = mem_alloc(n * sizeof(*a->prompts));
	a->n_prompts = n;
}

/* And what points into it. */
static void drop_json(struct answer *a)
{
	work_free_json(a->s, &(struct work_json){ a->body, a->request, a->body_bytes, a->json_bytes });
	a->body = a->request = NULL;
	a->json_bytes = 0;
	a->tools.list = NULL;
	a->tools.named = a->tools.allowed = NULL;
	a->p.cache_salt = a->p.request_id = NULL;
}

void answer_free(struct answer *a)
{
	for (uint32_t i = 0; i < a->n_choices; i++)
		choice_deinit(&a->choices[i]);
	for (uint32_t i = 0; i < a->n_prompts; i++) {
		token_buf_deinit(&a->prompts[i].ids);
		buf_deinit(&a->prompts[i].text);
	}
	if (a->link) {
		*a->link = a->next;
		if (a->next)
			a->next->link = a->link;
	}
	free(a->choices);
	free(a->prompts);
	openai_sampling_deinit(&a->p);
	grammar_unref(a->grammar);
	drop_json(a);
	buf_deinit(&a->echo_text);
	buf_deinit(&a->head);
	buf_deinit(&a->event);
	free(a);
}

static void count_longest(const struct answer *a)
{
	for (uint32_t i = 0; i < a->n_choices; i += a->p.n) {
		uint32_t longest = 0;

		for (uint32_t k = i; k < i + a->p.n; k++) {
			uint32_t n = a->choices[k].job ? engine_job_tokens(a->choices[k].job) : 0;

			longest = n > longest ? n : longest;
		}
		if (a->choices[i].job)
			metrics_longest(&a->s->metrics, longest);
	}
}

static void answer_settle(struct answer *a)
{
	if (a->call || a->n_running > 0)
		return;
	count_longest(a);
	answer_free(a);
}

static void forget_call(struct answer *a)
{
	a->call = NULL;
	a->s->load--;
}

static void cancel_jobs(struct answer *a)
{
	for (uint32_t i = 0; i < a->n_choices; i++) {
		struct choice *c = &a->choices[i];

		if (c->job && !c->ended)
			engine_cancel(a->s->engine, c->job);
	}
}

static void peer_gone(void *arg, enum http_close_reason reason)
{
	struct answer *a = arg;

	if (a->s->o->log_requests || reason == HTTP_CLOSE_SLOW)
		log_info("server", "%s aborted: %s", a->id,
			reason == HTTP_CLOSE_PEER ? "the client left" :
			reason == HTTP_CLOSE_SLOW ? "the client does not read" : "the server stops");
	call_drop(a->call);
	forget_call(a);
	cancel_jobs(a);
	answer_settle(a);
}

/* After the start: as the answer if nothing was sent, otherwise as an event of the stream. */
static void answer_fail(struct answer *a, const struct refusal *no)
{
	if (a->call->streaming) {
		if (a->form->failed)
			a->form->failed(a, no);
		else
			call_stream_error(a->call, no);
		call_stream_end(a->call);
	} else {
		call_refuse(a->call, no);
	}
	forget_call(a);
	cancel_jobs(a);
}

static enum status submit(struct choice *c, uint32_t nth, struct refusal *no)
{
	struct answer *a = c->a;
	struct engine_request request = {
		.prompt = c->prompt->ids.data,
		.n_prompt = (uint32_t)c->prompt->ids.len,
		.max_tokens = c->prompt->max_tokens,
		.sampling = a->p.params,
		.rules = a->p.rules,
		.n_logprobs = a->p.n_logprobs,
		.n_prompt_logprobs = a->p.n_prompt_logprobs,
		.priority = a->p.priority,
		.cache_salt = a->p.cache_salt,
		.user = c,
	};
	struct error err;

	if (a->grammar) {
		request.constraint = grammar_matcher_create(a->grammar);
		request.constraint_after = c->prompt->thinking ? a->s->format.think_end : -1;
	}
	request.sampling.seed += nth; /* choices of a prompt differ, the first one as with n = 1 */
	if (engine_job_create(&c->job, &request, &err) != OK) {
		c->job = NULL;
		constraint_destroy(request.constraint);
		if (err.code == E_NOMEM)
			return refuse_status(no, 503, "ServiceUnavailableError", NULL, "%s", err.msg);
		return refuse_error(no, NULL, &err);
	}
	if (engine_submit(a->s->engine, c->job, &err) != OK) {
		engine_job_destroy(c->job);
		c->job = NULL;
		if (err.code == E_LIMIT)
			return refuse_status(no, 429, "TooManyRequestsError", NULL, "%s", err.msg);
		return refuse_status(no, 500, "InternalServerError", NULL, "%s", err.msg);
	}
	a->n_running++;
	return OK;
}

static void log_request(const struct answer *a)
{
	if (a->s->o->log_requests)
		log_info("server", "%s from %s: %u prompts, n %u, stream %d, temperature %g, max_tokens %lld", a->id,
			a->call->r->peer, a->n_prompts, a->p.n, a->p.stream, a->p.params.temperature,
			(long long)a->p.max_tokens);
}

static void enlist(struct answer *a)
{
	struct serving *s = a->s;

	a->next = s->answers;
	a->link = &s->answers;
	if (a->next)
		a->next->link = &a->next;
	s->answers = a;
	s->load++;
}

static void answer_start(struct answer *a)
{
	struct refusal no;

	snprintf(a->id, sizeof(a->id), "%s%s", a->form->id_prefix,
		a->p.request_id && !http_request_header(a->call->r, "X-Request-Id") ? a->p.request_id :
		a->call->id);
	a->n_choices = a->n_prompts * a->p.n;
	a->n_open = a->n_choices;
	a->choices = mem_alloc(a->n_choices * sizeof(*a->choices));
	a->written_ns = clock_ns();
	for (uint32_t i = 0; i < a->n_choices; i++)
		choice_init(&a->choices[i], a, i);
	enlist(a);
	log_request(a);
	http_request_on_close(a->call->r, peer_gone, a);
	metrics_count_n(&a->s->metrics, a->p.n);
	for (uint32_t i = 0; i < a->n_choices; i++) {
		if (submit(&a->choices[i], i % a->p.n, &no) != OK) {
			answer_fail(a, &no);
			answer_settle(a);
			return;
		}
	}
	if (!a->form->repeats)
		drop_json(a);
}

/* --- the beginning -------------------------------------------------------------------------------------- */

/* Each choice has log probabilities of its prompt of its own, in the engine's memory. */
static enum status check_prompt_logprobs(const struct answer *a, struct refusal *no)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < a->n_prompts && a->p.n_prompt_logprobs >= 0; i++)
		n += (uint64_t)a->prompts[i].ids.len * a->p.n * ((uint64_t)a->p.n_prompt_logprobs + 1);
	if (n <= SERVING_MAX_PROMPT_LOGPROBS)
		return OK;
	return refuse(no, "prompt_logprobs", "prompt_logprobs: %llu log probabilities of prompts, at most %u are given",
		(unsigned long long)n, SERVING_MAX_PROMPT_LOGPROBS);
}

static enum status read_json(struct answer *a, struct refusal *no)
{
	const struct http_request *r = a->call->r;
	size_t held;

	TRY(fields_parse(&a->body, &a->json_bytes, r->body, r->body_bytes, no));
	held = atomic_fetch_add_explicit(&a->s->json_bytes, a->json_bytes, memory_order_relaxed) + a->json_bytes;
	if (held > SERVING_MAX_JSON_BYTES)
		return refuse_status(no, 503, "ServiceUnavailableError", NULL, "too many request bodies at once");
	if (!a->form->convert)
		return OK;
	a->request = a->body;
	a->body = NULL;
	return a->form->convert(&a->body, a->request, no);
}

/* What the answer must follow. The loop takes it from the cache alone: compiling is the worker's. */
static enum status constrain(struct answer *a, struct refusal *no)
{
	bool *missing = a->work.on_loop ? &a->work.again : NULL;
	json_t *tools = openai_tools_forced(&a->tools);
	enum status st = structured_parse(&a->grammar, a->s->structured, a->body, missing, no);

	if (st == OK && tools && !a->work.again)
		st = structured_tools(&a->grammar, a->s->structured, &a->s->format, tools, a->tools.parallel, missing, no);
	json_decref(tools);
	return st;
}

static enum status make_prompts(struct answer *a, struct tokenizer_scratch *scratch, struct refusal *no)
{
	if (!a->parsed)
		TRY(a->form->parse(a, scratch, no));
	a->parsed = true;
	TRY(constrain(a, no));
	if (a->work.again)
		return OK;
	TRY(a->form->prompts(a, scratch, no));
	return check_prompt_logprobs(a, no);
}

enum status answer_make(struct answer *a, struct tokenizer_scratch *scratch, struct refusal *no)
{
	enum status st;

	if (!a->parsed)
		TRY(read_json(a, no));
	st = make_prompts(a, scratch, no);
	if (st != OK && a->form->rename)
		a->form->rename(a->request, no);
	return st;
}

static enum status make(struct work *work, struct tokenizer_scratch *scratch, struct refusal *no)
{
	return answer_make((struct answer *)work, scratch, no);
}

static void made(struct work *work)
{
	answer_start((struct answer *)work);
}

static void dropped(struct work *work)
{
	answer_free((struct answer *)work);
}

void answer_begin(struct call *call, const struct answer_form *form)
{
	struct answer *a = answer_create(call, form);

	a->work = (struct work){ .call = call, .make = make, .answer = made, .drop = dropped };
	work_begin(&a->work);
}

void answer_send(struct answer *a, const struct buf *json)
{
	call_stream_event(a->call, json);
	a->written_ns = a->s->news_ns;
}

void answer_send_named(struct answer *a, const char *event, const struct buf *json)
{
	call_stream_named(a->call, event, json);
	a->written_ns = clock_ns();
}

static void finish_stream(struct answer *a)
{
	if (a->p.include_usage && a->form->chunk_object) {
		buf_reset(&a->event);
		buf_putc(&a->event, '{');
		answer_put_head(&a->event, a);
		buf_puts(&a->event, ",\"choices\":[],");
		answer_put_usage(&a->event, a, NULL);
		buf_putc(&a->event, '}');
		answer_send(a, &a->event);
	}
	call_stream_end(a->call);
	forget_call(a);
}

static void finish_whole(struct answer *a)
{
	struct buf body = { 0 };

	a->form->whole(&body, a);
	call_json(a->call, &body);
	forget_call(a);
}

static void fail_from_job(struct answer *a, const struct choice *c)
{
	const struct error *err = engine_job_error(c->job);
	struct refusal no;

	if (err->code == E_LIMIT && c->seen == 0)
		refuse_status(&no, 429, "TooManyRequestsError", NULL, "%s", err->msg);
	else if (err->code == E_INVAL || err->code == E_UNSUPPORTED)
		refuse_error(&no, NULL, err);
	else
		refuse_status(&no, 500, "InternalServerError", NULL, "generation failed: %s", err->msg);
	if (no.status == 500)
		log_error("server", "%s: %s", a->id, err->msg);
	answer_fail(a, &no);
}

/* The chunks of a stream for what is new of a choice. */
static void send_news(struct choice *c)
{
	struct answer *a = c->a;

	if (!a->p.stream || (c->seen == c->sent && !c->done))
		return;
	if (!a->call->streaming)
		call_stream_begin(a->call);
	if (!a->form->chunk(c))
		return;
	c->started = true;
	c->sent = c->seen;
	choice_forget(c);
}

/* What the client gets of a choice's news. */
static void publish(struct choice *c)
{
	struct answer *a = c->a;

	if (!c->started || c->done || c->seen - c->sent >= a->p.stream_interval)
		send_news(c);
	if (a->n_open > 0)
		return;
	if (a->p.stream)
		finish_stream(a);
	else
		finish_whole(a);
}

static void count_job(struct choice *c, enum engine_finish finish)
{
	struct answer *a = c->a;
	const char *reason = c->finish ? c->finish : finish == ENGINE_ERROR ? "error" : "abort";

	metrics_job(&a->s->metrics, c->job, (uint32_t)c->prompt->ids.len, c->prompt->max_tokens, reason);
}

static void job_news(struct engine_job *job)
{
	struct choice *c = engine_job_user(job);
	struct answer *a = c->a;
	enum engine_finish finish = engine_job_finish(job); /* before the tokens: then they are all there */
	bool was_done = c->done;

	a->s->news_ns = clock_ns();
	if (a->call && !c->done)
		choice_take(c, finish);
	if (finish != ENGINE_RUNNING) {
		c->ended = true;
		a->n_running--;
		count_job(c, finish);
	} else if (c->done && !was_done) {
		engine_cancel(a->s->engine, job);
	}
	if (a->call && finish == ENGINE_ERROR && !c->done) {
		send_news(c);
		fail_from_job(a, c);
	} else if (a->call && !was_done) {
		a->n_open -= c->done;
		publish(c);
	}
	answer_settle(a);
}

void answer_take_news(struct serving *s)
{
	struct engine_job *job;

	for (int n = 0; n < NEWS_A_TURN; n++) {
		job = engine_next(s->engine);
		if (!job)
			return;
		job_news(job);
	}
	http_bell_ring(s->bell);
}

void answer_tick(struct serving *s)
{
	uint64_t now = clock_ns();

	for (struct answer *a = s->answers; a; a = a->next) {
		if (!a->call || !a->p.stream || now - a->written_ns < COMMENT_AFTER_NS)
			continue;
		if (!a->call->streaming)
			call_stream_begin(a->call);
		call_stream_comment(a->call);
		a->written_ns = now;
	}
}

void answer_free_all(struct serving *s)
{
	while (s->answers) {
		struct answer *a = s->answers;

		BUG_ON(a->call); /* the HTTP server was closed before */
		answer_free(a);
	}
}
