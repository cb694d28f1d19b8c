/*
 * The machine that takes answers apart (text/chat_parse.h).
 *
 * A marker changes the state, any other token is text of the state's part. Only a name and what may be
 * a fence around arguments wait; everything else goes out at once.
 */
#include "text/chat_parse.h"

#include <stdlib.h>
#include <string.h>

enum mark {
	MARK_NONE,
	MARK_THINK_BEGIN,
	MARK_THINK_END,
	MARK_CALLS_BEGIN,
	MARK_CALLS_END,
	MARK_CALL_BEGIN,
	MARK_CALL_END,
	MARK_SEP,
};

/* --- formats ------------------------------------------------------------------------------------ */

const char *const chat_dialect_names[CHAT_N_DIALECTS] = {
	[CHAT_DEEPSEEK_V31] = "deepseek_v31",
	[CHAT_DEEPSEEK_V3] = "deepseek_v3",
	[CHAT_KIMI_K2] = "kimi_k2",
};

static const char *const ends[CHAT_MAX_ENDS] = {"<｜User｜>", "<｜tool▁outputs▁begin｜>",
	"<｜tool▁output▁begin｜>", "<|im_user|>"};

static const struct spelling {
	const char *calls_begin, *calls_end, *call_begin, *call_end, *sep;
} spellings[CHAT_N_DIALECTS] = {
	[CHAT_DEEPSEEK_V31] = {"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
		"<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"},
	[CHAT_DEEPSEEK_V3] = {"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
		"<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"},
	[CHAT_KIMI_K2] = {"<|tool_calls_section_begin|>", "<|tool_calls_section_end|>",
		"<|tool_call_begin|>", "<|tool_call_end|>", "<|tool_call_argument_begin|>"},
};

static int32_t find(const struct tokenizer *tok, const char *name)
{
	return tokenizer_token_find(tok, name, strlen(name));
}

enum chat_dialect chat_dialect_guess(const struct tokenizer *tok, const struct chat_template *t)
{
	if (find(tok, spellings[CHAT_KIMI_K2].call_begin) >= 0)
		return CHAT_KIMI_K2;
	return t && chat_template_mentions(t, "```json") ? CHAT_DEEPSEEK_V3 : CHAT_DEEPSEEK_V31;
}

void chat_format_init(
	struct chat_format *f, const struct tokenizer *tok, enum chat_dialect dialect)
{
	const struct spelling *s = &spellings[dialect];

	*f = (struct chat_format){
		.dialect = dialect,
		.think_begin = find(tok, "<think>"),
		.think_end = find(tok, "</think>"),
		.calls_begin = find(tok, s->calls_begin),
		.calls_end = find(tok, s->calls_end),
		.call_begin = find(tok, s->call_begin),
		.call_end = find(tok, s->call_end),
		.sep = find(tok, s->sep),
		.assistant = find(tok, "<｜Assistant｜>"),
	};
	for (size_t i = 0; i < CHAT_MAX_ENDS; i++) {
		if (find(tok, ends[i]) >= 0)
			f->ends[f->n_ends++] = find(tok, ends[i]);
	}
}

bool chat_format_has_calls(const struct chat_format *f)
{
	return f->calls_begin >= 0 && f->calls_end >= 0 && f->call_begin >= 0 && f->call_end >= 0 &&
	       f->sep >= 0;
}

bool chat_prompt_opens_thinking(const struct chat_format *f, const struct tokenizer *tok,
	const int32_t *ids, size_t n, bool always)
{
	size_t last = n;

	while (last > 0 && !(tokenizer_token_flags(tok, ids[last - 1]) & TOKEN_ADDED))
		last--;
	if (last == 0 || f->think_end < 0)
		return false;
	return ids[last - 1] == f->think_begin ||
	       (always && last == n && ids[last - 1] == f->assistant);
}

/* --- parts -------------------------------------------------------------------------------------- */

void chat_parse_init(struct chat_parse *p, const struct tokenizer *tok,
	const struct chat_format *format, const struct chat_parse_options *options,
	void (*take)(void *arg, const struct chat_event *event), void *arg)
{
	*p = (struct chat_parse){
		.format = format,
		.options = *options,
		.take = take,
		.arg = arg,
		.state = options->reasoning && options->thinking ? CHAT_IN_REASONING :
								   CHAT_IN_CONTENT,
	};
	detok_init(&p->detok, tok, options->skip_special);
}

void chat_parse_deinit(struct chat_parse *p)
{
	buf_deinit(&p->head);
	buf_deinit(&p->tail);
	buf_deinit(&p->out);
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static size_t spaces(const char *s, size_t len)
{
	size_t n = 0;

	while (n < len && is_space(s[n]))
		n++;
	return n;
}

static void give(struct chat_parse *p, enum chat_event_kind kind, const char *text, size_t len)
{
	struct chat_event event = {.kind = kind, .text = text, .len = len};

	if (len)
		p->take(p->arg, &event);
}

static void put_content(struct chat_parse *p, const char *text, size_t len)
{
	bool first_counts = p->state == CHAT_IN_CONTENT || p->text_seen;
	size_t skip = spaces(text, len);

	p->text_seen |= skip < len;
	p->any_text |= skip < len;
	if (first_counts)
		skip = 0;
	give(p, CHAT_CONTENT, text + skip, len - skip);
}

static void put_argument(struct chat_parse *p, const char *text, size_t len)
{
	p->any_argument |= spaces(text, len) < len;
	give(p, CHAT_ARGUMENTS, text, len);
}

/* A name that no separator followed. */
static void spill_name(struct chat_parse *p)
{
	size_t skip = spaces(p->head.data, p->head.len);

	p->any_text |= skip < p->head.len;
	give(p, CHAT_CONTENT, p->head.data + skip, p->head.len - skip);
	buf_reset(&p->head);
}

/* --- calls -------------------------------------------------------------------------------------- */

/* "functions.NAME:NUMBER" */
static void kimi_name(const char **name, size_t *len)
{
	static const char prefix[] = "functions.";
	size_t n = *len;

	if (n > sizeof(prefix) - 1 && memcmp(*name, prefix, sizeof(prefix) - 1) == 0) {
		*name += sizeof(prefix) - 1;
		*len = n -= sizeof(prefix) - 1;
	}
	while (n > 0 && (*name)[n - 1] >= '0' && (*name)[n - 1] <= '9')
		n--;
	if (n > 1 && n < *len && (*name)[n - 1] == ':')
		*len = n - 1;
}

/* Announces a call by the first `len` bytes of what is in head. */
static void begin_call(struct chat_parse *p, size_t len)
{
	struct chat_event event = {.kind = CHAT_CALL};
	const char *name = len ? p->head.data : "";
	size_t skip = spaces(name, len);

	name += skip;
	len -= skip;
	while (len > 0 && is_space(name[len - 1]))
		len--;
	if (p->format->dialect == CHAT_KIMI_K2 && len) {
		event.id = name;
		event.id_len = len;
		kimi_name(&name, &len);
	}
	event.text = name;
	event.len = len;
	p->n_calls++;
	p->any_argument = false;
	p->fenced = p->in_function;
	p->fence_past = false;
	p->state = CHAT_IN_ARGUMENTS;
	buf_reset(&p->tail);
	p->take(p->arg, &event);
}

static void drop_front(struct buf *b, size_t n)
{
	if (n == 0)
		return;
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
}

/* Whether tail says how the arguments begin; then it begins with them. */
static bool pass_fence(struct buf *tail)
{
	size_t n = spaces(tail->data, tail->len), ticks = 0;

	while (ticks < 3 && n + ticks < tail->len && tail->data[n + ticks] == '`')
		ticks++;
	if (n + ticks == tail->len)
		return false;
	if (ticks < 3) {
		drop_front(tail, n);
		return true;
	}
	n += ticks;
	while (n < tail->len && tail->data[n] >= 'a' && tail->data[n] <= 'z')
		n++;
	if (n == tail->len)
		return false;
	drop_front(tail, n + spaces(tail->data + n, tail->len - n));
	return true;
}

/* V3: gives out what cannot be part of a fence. */
static void put_fenced(struct chat_parse *p, const char *text, size_t len)
{
	size_t n;

	buf_append(&p->tail, text, len);
	if (!p->fence_past && !(p->fence_past = pass_fence(&p->tail)))
		return;
	n = p->tail.len;
	while (n > 0 && (is_space(p->tail.data[n - 1]) || p->tail.data[n - 1] == '`'))
		n--;
	if (n)
		put_argument(p, p->tail.data, n);
	drop_front(&p->tail, n);
}

/* What is left in tail is white space and backticks: data unless it has a fence. */
static void end_fenced(struct chat_parse *p)
{
	if (p->fence_past && p->tail.len &&
		!memmem(p->tail.data, p->tail.len, "```", 3))
		put_argument(p, p->tail.data, p->tail.len);
	buf_reset(&p->tail);
}

/* Arguments that are empty are an empty object to clients; not where they were cut. */
static void end_call(struct chat_parse *p, bool complete, bool stopped)
{
	struct chat_event event = {.kind = CHAT_CALL_END, .complete = complete};

	if (p->fenced)
		end_fenced(p);
	if (!p->any_argument && stopped)
		put_argument(p, "{}", 2);
	p->in_function = false;
	p->take(p->arg, &event);
}

/* V3: the name ends with its line, or where the fence begins. */
static void take_function_name(struct chat_parse *p)
{
	size_t n = 0, from = spaces(p->head.data, p->head.len);

	for (n = from; n < p->head.len && p->head.data[n] != '\n' && p->head.data[n] != '`';)
		n++;
	if (n == p->head.len)
		return;
	begin_call(p, n);
	put_fenced(p, p->head.data + n, p->head.len - n);
	buf_reset(&p->head);
}

/* The separator after a name, or after V3's "function". */
static void end_name(struct chat_parse *p)
{
	size_t skip = spaces(p->head.data, p->head.len), len = p->head.len - skip;

	while (len > 0 && is_space(p->head.data[skip + len - 1]))
		len--;
	if (p->format->dialect == CHAT_DEEPSEEK_V3 && !p->in_function && len == 8 &&
		memcmp(p->head.data + skip, "function", 8) == 0) {
		p->in_function = true;
		buf_reset(&p->head);
		return;
	}
	begin_call(p, p->head.len);
	buf_reset(&p->head);
}

/* --- the machine -------------------------------------------------------------------------------- */

static enum mark mark_of(const struct chat_parse *p, int32_t id)
{
	const struct chat_format *f = p->format;

	if (p->options.reasoning && f->think_end >= 0) {
		if (id == f->think_begin)
			return MARK_THINK_BEGIN;
		if (id == f->think_end)
			return MARK_THINK_END;
	}
	if (!p->options.calls && !p->options.reasoning)
		return MARK_NONE;
	return id == f->calls_begin ? MARK_CALLS_BEGIN :
	       id == f->calls_end   ? MARK_CALLS_END :
	       id == f->call_begin  ? MARK_CALL_BEGIN :
	       id == f->call_end    ? MARK_CALL_END :
	       id == f->sep	    ? MARK_SEP :
				      MARK_NONE;
}

static void route(struct chat_parse *p)
{
	const char *text = p->out.data;
	size_t len = p->out.len;

	if (len == 0)
		return;
	switch (p->state) {
	case CHAT_IN_REASONING:
		give(p, CHAT_REASONING, text, len);
		break;
	case CHAT_IN_CONTENT:
	case CHAT_BETWEEN:
	case CHAT_DONE:
		put_content(p, text, len);
		break;
	case CHAT_IN_NAME:
		buf_append(&p->head, text, len);
		if (p->in_function)
			take_function_name(p);
		break;
	case CHAT_IN_ARGUMENTS:
		if (p->fenced)
			put_fenced(p, text, len);
		else
			put_argument(p, text, len);
	}
	buf_reset(&p->out);
}

static void flush(struct chat_parse *p)
{
	detok_flush(&p->detok, &p->out);
	route(p);
}

static void enter(struct chat_parse *p, enum chat_state state)
{
	p->state = state;
	p->text_seen = false;
}

static void begin_name(struct chat_parse *p)
{
	p->in_function = false;
	buf_reset(&p->head);
	enter(p, CHAT_IN_NAME);
}

/* Outside of a call. */
static void mark_in_text(struct chat_parse *p, enum mark m)
{
	bool reasoning = p->state == CHAT_IN_REASONING;

	if (m == MARK_CALLS_BEGIN)
		enter(p, CHAT_BETWEEN);
	else if (m == MARK_CALL_BEGIN)
		begin_name(p);
	else if (m == MARK_THINK_END && reasoning)
		enter(p, CHAT_IN_CONTENT);
	else if (m == MARK_THINK_BEGIN && !reasoning && !p->any_text && p->n_calls == 0)
		enter(p, CHAT_IN_REASONING);
	else if (m == MARK_CALLS_END && !reasoning && p->state != CHAT_IN_CONTENT)
		enter(p, CHAT_DONE);
}

static void mark_in_name(struct chat_parse *p, enum mark m)
{
	if (m == MARK_SEP) {
		end_name(p);
	} else if (m == MARK_CALL_END) {
		begin_call(p, p->head.len);
		buf_reset(&p->head);
		end_call(p, true, true);
		enter(p, CHAT_BETWEEN);
	} else if (m == MARK_CALLS_END || m == MARK_CALL_BEGIN) {
		spill_name(p);
		if (m == MARK_CALL_BEGIN)
			begin_name(p);
		else
			enter(p, CHAT_DONE);
	}
}

static void mark_in_arguments(struct chat_parse *p, enum mark m)
{
	end_call(p, m == MARK_CALL_END, true);
	if (m == MARK_CALL_BEGIN)
		begin_name(p);
	else
		enter(p, m == MARK_CALLS_END ? CHAT_DONE : CHAT_BETWEEN);
}

void chat_parse_push(struct chat_parse *p, int32_t id)
{
	enum mark m = mark_of(p, id);

	if (m >= MARK_CALLS_BEGIN && !p->options.calls) {
		flush(p);
		return;
	}
	if (p->state == CHAT_IN_ARGUMENTS && m != MARK_CALL_END && m != MARK_CALLS_END &&
		m != MARK_CALL_BEGIN)
		m = MARK_NONE;
	if (m == MARK_NONE) {
		detok_push(&p->detok, id, &p->out);
		route(p);
		return;
	}
	flush(p);
	if (p->state == CHAT_IN_NAME)
		mark_in_name(p, m);
	else if (p->state == CHAT_IN_ARGUMENTS)
		mark_in_arguments(p, m);
	else
		mark_in_text(p, m);
}

void chat_parse_end(struct chat_parse *p, bool stopped)
{
	flush(p);
	p->reasoning_cut = p->state == CHAT_IN_REASONING;
	if (p->state == CHAT_IN_NAME && stopped)
		spill_name(p);
	else if (p->state == CHAT_IN_ARGUMENTS)
		end_call(p, false, stopped);
	enter(p, CHAT_DONE);
}
