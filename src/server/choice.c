/* Tokens to text (server/choice.h). */
#include "server/choice.h"

#include <string.h>

void choice_init(struct choice *c, struct answer *a, uint32_t index)
{
	*c = (struct choice){ .a = a, .index = index, .prompt = &a->prompts[index / a->p.n] };
	c->thinking = c->prompt->thinking;
	detok_init(&c->detok, a->s->tok, a->p.skip_special);
	stop_match_init(&c->match, &a->p.stops);
}

void choice_deinit(struct choice *c)
{
	if (c->job)
		engine_job_destroy(c->job);
	stop_match_deinit(&c->match);
	buf_deinit(&c->held);
	buf_deinit(&c->text);
	buf_deinit(&c->reasoning);
}

/* Hands over all but the last `keep` bytes of what is held. */
static void release(struct choice *c, size_t keep)
{
	size_t n = c->held.len - keep;

	if (n == 0)
		return;
	buf_append(c->thinking ? &c->reasoning : &c->text, c->held.data, n);
	memmove(c->held.data, c->held.data + n, keep);
	c->held.len = keep;
}

static void finish(struct choice *c, const char *reason)
{
	release(c, 0);
	c->finish = reason;
	c->done = true;
}

/* Bytes of `held` from `from` on are new: looks for stop strings, then lets go what cannot be one. */
static void follow(struct choice *c, size_t from)
{
	struct answer *a = c->a;
	size_t used;
	int found;

	if (from == c->held.len)
		return;
	found = stop_match_push(&c->match, c->held.data + from, c->held.len - from,
		c->seen > a->p.rules.min_tokens, &used);
	if (found < 0) {
		release(c, stop_match_held(&c->match));
		return;
	}
	c->held.len = from + used;
	if (!a->p.include_stop)
		c->held.len -= a->p.stops.strings[found].len;
	c->stop_kind = STOP_AT_STRING;
	c->stop = found;
	finish(c, "stop");
}

static void end_thinking(struct choice *c)
{
	detok_flush(&c->detok, &c->held);
	release(c, 0);
	stop_match_deinit(&c->match); /* no stop string reaches from the reasoning into the content */
	stop_match_init(&c->match, &c->a->p.stops);
	c->thinking = false;
}

static void take_token(struct choice *c, int32_t id)
{
	size_t from = c->held.len;

	c->seen++;
	if (c->a->prompt_only)
		return;
	if (c->thinking && id == c->a->s->think_end) {
		end_thinking(c);
		return;
	}
	c->n_reasoning += c->thinking;
	detok_push(&c->detok, id, &c->held);
	follow(c, from);
}

/* The token that ended the answer: text only when the client asked for it. */
static void take_stop(struct choice *c, int32_t id)
{
	bool eos = false;

	for (uint32_t i = 0; i < c->a->p.n_eos; i++)
		eos |= c->a->p.stop_ids[i] == id;
	if (c->a->p.include_stop)
		take_token(c, id);
	else
		c->seen++;
	if (!c->done && !eos) {
		c->stop_kind = STOP_AT_ID;
		c->stop = id;
	}
}

static void take_end(struct choice *c, enum engine_finish why)
{
	size_t from = c->held.len;

	detok_flush(&c->detok, &c->held);
	follow(c, from);
	if (!c->done)
		finish(c, c->a->prompt_only || why == ENGINE_LENGTH ? "length" :
			why == ENGINE_STOP ? "stop" : "abort");
}

void choice_take(struct choice *c, enum engine_finish finish_now)
{
	uint32_t n = engine_job_tokens(c->job);
	const int32_t *ids = engine_job_ids(c->job);
	double now = (double)c->a->s->news_ns * 1e-9;

	if (n > c->seen) {
		if (c->last_news > 0)
			metrics_token_gap(&c->a->s->metrics, now - c->last_news);
		c->last_news = now;
	}
	while (c->seen < n && !c->done) {
		if (finish_now == ENGINE_STOP && c->seen + 1 == n)
			take_stop(c, ids[c->seen]);
		else
			take_token(c, ids[c->seen]);
	}
	if (finish_now != ENGINE_RUNNING && finish_now != ENGINE_ERROR && !c->done)
		take_end(c, finish_now);
}
