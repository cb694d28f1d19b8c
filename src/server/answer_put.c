/* What the forms of an answer write alike (server/answer.h): its head, its usage, why it stopped. */
#include "server/answer.h"
#include "server/json_put.h"

void answer_put_head(struct buf *out, struct answer *a)
{
	struct buf *head = &a->head;

	if (!head->len) {
		buf_puts(head, "\"id\":");
		json_put_text(head, a->id);
		buf_printf(head, ",\"object\":\"%s\",\"created\":%lld,\"model\":",
			a->p.stream ? a->form->chunk_object : a->form->object, (long long)a->created);
		json_put_text(head, serving_name(a->s));
	}
	buf_append(out, head->data, head->len);
}

struct usage {
	uint64_t prompt, generated, cached, reasoning;
};

/* A prompt counts once, with its first choice. */
static void add_usage(struct usage *u, const struct choice *c, bool first)
{
	u->generated += c->seen;
	u->reasoning += c->n_reasoning;
	u->prompt += first ? c->prompt->ids.len : 0;
	u->cached += first && c->seen ? engine_job_cached(c->job) : 0;
}

void answer_put_usage(struct buf *out, const struct answer *a, const struct choice *only)
{
	struct usage u = { 0 };

	for (uint32_t i = 0; i < a->n_choices; i++) {
		if (!only || only == &a->choices[i])
			add_usage(&u, &a->choices[i], only || i % a->p.n == 0);
	}
	buf_printf(out, "\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu,\"completion_tokens\":%llu,"
		"\"prompt_tokens_details\":", (unsigned long long)u.prompt,
		(unsigned long long)(u.prompt + u.generated), (unsigned long long)u.generated);
	if (a->s->o->prompt_tokens_details)
		buf_printf(out, "{\"cached_tokens\":%llu}", (unsigned long long)u.cached);
	else
		buf_puts(out, "null");
	if (a->choices[0].prompt->thinking || u.reasoning)
		buf_printf(out, ",\"completion_tokens_details\":{\"reasoning_tokens\":%llu}",
			(unsigned long long)u.reasoning);
	buf_putc(out, '}');
}

void answer_put_stop_reason(struct buf *out, const struct choice *c)
{
	switch (c->stop_kind) {
	case STOP_AT_STRING:
		json_put_text(out, c->a->p.stops.strings[c->stop].text);
		return;
	case STOP_AT_ID:
		buf_printf(out, "%d", c->stop);
		return;
	case STOP_NONE:
		buf_puts(out, "null");
	}
}
