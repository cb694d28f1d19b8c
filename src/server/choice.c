/* Tokens to text (server/choice.h). */
#include "server/choice.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

static void take_event(void *arg, const struct chat_event *e);

void choice_init(struct choice *c, struct answer *a, uint32_t index)
{
	struct chat_parse_options options = {
		.reasoning = a->split,
		.calls = a->split && a->tools.choice != TOOLS_NONE,
		.skip_special = a->p.skip_special,
	};

	*c = (struct choice){ .a = a, .index = index, .prompt = &a->prompts[index / a->p.n] };
	options.thinking = c->prompt->thinking;
	c->held_kind = options.thinking ? CHAT_REASONING : CHAT_CONTENT;
	chat_parse_init(&c->parse, a->s->tok, &a->s->format, &options, take_event, c);
	stop_match_init(&c->match, &a->p.stops);
}

void choice_deinit(struct choice *c)
{
	if (c->job)
		engine_job_destroy(c->job);
	for (size_t i = 0; i < c->n_calls; i++) {
		buf_deinit(&c->calls[i].name);
		buf_deinit(&c->calls[i].arguments);
	}
	free(c->calls);
	free(c->parts);
	chat_parse_deinit(&c->parse);
	stop_match_deinit(&c->match);
	buf_deinit(&c->held);
	buf_deinit(&c->text);
	buf_deinit(&c->reasoning);
	buf_deinit(&c->item);
	buf_deinit(&c->output);
}

static struct choice_part *add_part(struct choice *c, struct choice_part part)
{
	c->parts = mem_grow(c->parts, &c->part_cap, c->n_parts + 1, sizeof(*c->parts));
	c->parts[c->n_parts] = part;
	return &c->parts[c->n_parts++];
}

/* Hands over all but the last `keep` bytes of what is held. */
static void release(struct choice *c, size_t keep)
{
	struct choice_part *part = c->n_parts ? &c->parts[c->n_parts - 1] : NULL;
	struct buf *to = c->held_kind == CHAT_REASONING ? &c->reasoning : &c->text;
	size_t n = c->held.len - keep;

	if (n == 0)
		return;
	if (!part || part->kind != c->held_kind)
		part = add_part(c, (struct choice_part){ .kind = c->held_kind, .from = to->len });
	part->len += n;
	buf_append(to, c->held.data, n);
	memmove(c->held.data, c->held.data + n, keep);
	c->held.len = keep;
}

static void finish(struct choice *c, const char *reason)
{
	release(c, 0);
	c->finish = reason;
	c->done = true;
}

static bool has_news(const struct choice_call *call)
{
	return !call->announced || call->arguments.len > call->arguments_sent;
}

/* Those before the last one that was announced have none. */
size_t choice_calls_from(const struct choice *c)
{
	size_t i = c->n_calls;

	while (i > 0 && !c->calls[i - 1].announced)
		i--;
	return i > 0 && has_news(&c->calls[i - 1]) ? i - 1 : i;
}

const char *choice_part_text(const struct choice *c, const struct choice_part *part)
{
	return (part->kind == CHAT_REASONING ? &c->reasoning : &c->text)->data + part->from;
}

void choice_forget(struct choice *c)
{
	buf_reset(&c->text);
	buf_reset(&c->reasoning);
	if (c->n_parts == 0)
		return;
	c->parts[0] = c->parts[c->n_parts - 1];
	c->parts[0].from = c->parts[0].len = 0;
	c->n_parts = 1;
}

/* Bytes of `held` from `from` on are new: looks for stop strings, then lets go what cannot be one. */
static void follow(struct choice *c, size_t from)
{
	struct answer *a = c->a;
	size_t used;
	int found;

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

/* No stop string reaches from one part into another. */
static void end_part(struct choice *c)
{
	release(c, 0);
	stop_match_deinit(&c->match);
	stop_match_init(&c->match, &c->a->p.stops);
}

static void take_text(struct choice *c, const struct chat_event *e)
{
	size_t from;

	if (c->held_kind != e->kind)
		end_part(c);
	c->held_kind = e->kind;
	from = c->held.len;
	buf_append(&c->held, e->text, e->len);
	follow(c, from);
}

/* A call that the client itself chose is no news to it. */
static const char *calls_finish(const struct choice *c)
{
	return c->a->tools.choice == TOOLS_NAMED ? "stop" : "tool_calls";
}

static void begin_call(struct choice *c, const struct chat_event *e)
{
	struct choice_call *call;

	end_part(c);
	if (!c->a->tools.parallel && c->n_calls == 1) {
		finish(c, calls_finish(c));
		return;
	}
	c->calls = mem_grow(c->calls, &c->call_cap, c->n_calls + 1, sizeof(*c->calls));
	add_part(c, (struct choice_part){ .kind = CHAT_CALL, .call = c->n_calls });
	call = &c->calls[c->n_calls++];
	*call = (struct choice_call){ .announced = false };
	if (e->id && e->id_len < sizeof(call->id)) {
		memcpy(call->id, e->id, e->id_len);
	} else {
		strcpy(call->id, c->a->form->call_prefix);
		call_random_id(call->id + strlen(call->id));
	}
	buf_append(&call->name, e->text, e->len);
	buf_puts(&call->arguments, "");
}

/* Clients get what the model wrote, also where it is no object: they know better what to do about it. */
static void end_call(struct choice *c, bool complete)
{
	const struct buf *text = &c->calls[c->n_calls - 1].arguments;

	c->calls[c->n_calls - 1].ended = true;
	c->calls[c->n_calls - 1].complete = complete;
	if (!complete)
		return;
	if (!json_is_object_text(text->data, text->len))
		log_info("server", "%s: the arguments of a tool call are not a JSON object", c->a->id);
	if (!c->a->tools.parallel)
		finish(c, calls_finish(c));
}

static void take_event(void *arg, const struct chat_event *e)
{
	struct choice *c = arg;

	if (c->done)
		return;
	switch (e->kind) {
	case CHAT_REASONING:
	case CHAT_CONTENT:
		take_text(c, e);
		break;
	case CHAT_CALL:
		begin_call(c, e);
		break;
	case CHAT_ARGUMENTS: /* no stop string ends them: half of a call is of no use */
		buf_append(&c->calls[c->n_calls - 1].arguments, e->text, e->len);
		break;
	case CHAT_CALL_END:
		end_call(c, e->complete);
	}
}

static void take_token(struct choice *c, int32_t id)
{
	enum chat_state before = c->parse.state;

	c->seen++;
	if (c->a->prompt_only)
		return;
	chat_parse_push(&c->parse, id);
	if (c->parse.state == CHAT_IN_REASONING && before == CHAT_IN_REASONING)
		c->n_reasoning += id != c->a->s->format.think_begin;
	if (c->parse.state == CHAT_IN_REASONING || before == CHAT_IN_REASONING)
		c->reasoning_end = c->seen;
	if (c->parse.state != before && !c->done)
		end_part(c);
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
	bool calls;

	chat_parse_end(&c->parse, why == ENGINE_STOP);
	calls = c->n_calls > 0 && c->stop_kind == STOP_NONE;
	if (!c->done)
		finish(c, c->a->prompt_only || why == ENGINE_LENGTH ? "length" :
			why != ENGINE_STOP ? "abort" : calls ? calls_finish(c) : "stop");
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
