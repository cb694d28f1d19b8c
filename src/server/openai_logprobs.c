/* Log probabilities in JSON (server/openai_logprobs.h). */
#include "server/openai_logprobs.h"

#include <string.h>

#include "server/json_put.h"

void logprobs_put_token(struct buf *out, const struct answer *a, int32_t id)
{
	struct detok d;

	if (a->p.tokens_as_ids) {
		buf_printf(out, "token_id:%d", id);
		return;
	}
	detok_init(&d, a->s->tok, false);
	detok_push(&d, id, out);
	detok_flush(&d, out);
}

static void put_token_string(struct buf *out, const struct answer *a, int32_t id)
{
	struct buf text = { 0 };

	logprobs_put_token(&text, a, id);
	json_put_string(out, text.data ? text.data : "", text.len);
	buf_deinit(&text);
}

static size_t code_points(const char *s, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += ((unsigned char)s[i] & 0xc0) != 0x80;
	return n;
}

/* --- completions: four parallel lists ----------------------------------------------------------------- */

struct lists {
	struct buf offsets, values, tokens, tops;
};

static void lists_put(struct buf *out, struct lists *l)
{
	buf_puts(out, "{\"text_offset\":[");
	buf_append(out, l->offsets.data, l->offsets.len);
	buf_puts(out, "],\"token_logprobs\":[");
	buf_append(out, l->values.data, l->values.len);
	buf_puts(out, "],\"tokens\":[");
	buf_append(out, l->tokens.data, l->tokens.len);
	buf_puts(out, "],\"top_logprobs\":[");
	buf_append(out, l->tops.data, l->tops.len);
	buf_puts(out, "]}");
	buf_deinit(&l->offsets);
	buf_deinit(&l->values);
	buf_deinit(&l->tokens);
	buf_deinit(&l->tops);
}

/* Adds one entry of a map unless its key is there: different ids may have the same text. */
static void put_entry(struct buf *map, const struct answer *a, const struct logprob *p)
{
	struct buf key = { 0 };

	put_token_string(&key, a, p->id);
	buf_putc(&key, ':');
	if (!map->len || !memmem(map->data, map->len, key.data, key.len)) {
		if (map->len)
			buf_putc(map, ',');
		buf_append(map, key.data, key.len);
		json_put_logprob(map, p->value);
	}
	buf_deinit(&key);
}

static void put_map(struct buf *out, const struct answer *a, const struct engine_logprobs *lp)
{
	struct buf map = { 0 };

	put_entry(&map, a, lp->own);
	for (uint32_t i = 0; i < lp->n_top; i++)
		put_entry(&map, a, &lp->top[i]);
	buf_putc(out, '{');
	buf_append(out, map.data, map.len);
	buf_putc(out, '}');
	buf_deinit(&map);
}

/* lp->own NULL: nothing is known, as of the first prompt token. */
static void lists_add(struct lists *l, struct choice *c, int32_t id, const struct engine_logprobs *lp)
{
	const char *comma = l->offsets.len ? "," : "";
	struct buf text = { 0 };

	logprobs_put_token(&text, c->a, id);
	buf_printf(&l->offsets, "%s%zu", comma, c->text_offset);
	buf_puts(&l->values, comma);
	buf_puts(&l->tokens, comma);
	buf_puts(&l->tops, comma);
	json_put_string(&l->tokens, text.data ? text.data : "", text.len);
	if (lp->own) {
		json_put_logprob(&l->values, lp->own->value);
		put_map(&l->tops, c->a, lp);
	} else {
		buf_puts(&l->values, "null");
		buf_puts(&l->tops, "null");
	}
	c->text_offset += code_points(text.data, text.len);
	buf_deinit(&text);
}

void logprobs_put_completion(struct buf *out, struct choice *c, bool with_prompt, uint32_t from, uint32_t to)
{
	static const struct engine_logprobs unknown;
	const int32_t *ids = engine_job_ids(c->job);
	struct lists l = { 0 };

	for (uint32_t i = 0; with_prompt && i < c->prompt->ids.len; i++) {
		struct engine_logprobs lp = i ? engine_job_prompt_logprobs(c->job, i) : unknown;

		lists_add(&l, c, c->prompt->ids.data[i], &lp);
	}
	for (uint32_t i = from; i < to; i++) {
		struct engine_logprobs lp = engine_job_logprobs(c->job, i);

		lists_add(&l, c, ids[i], &lp);
	}
	lists_put(out, &l);
}

/* --- chat: one list of objects ------------------------------------------------------------------------ */

static void put_chat_entry(struct buf *out, const struct answer *a, const struct logprob *p)
{
	size_t len;
	const char *bytes = tokenizer_token_bytes(a->s->tok, p->id, &len);

	buf_puts(out, "{\"token\":");
	put_token_string(out, a, p->id);
	buf_puts(out, ",\"logprob\":");
	json_put_logprob(out, p->value);
	buf_puts(out, ",\"bytes\":[");
	for (size_t i = 0; bytes && i < len; i++)
		buf_printf(out, "%s%u", i ? "," : "", (unsigned char)bytes[i]);
	buf_putc(out, ']');
}

void logprobs_put_chat(struct buf *out, const struct choice *c, uint32_t from, uint32_t to)
{
	buf_puts(out, "{\"content\":[");
	for (uint32_t i = from; i < to; i++) {
		struct engine_logprobs lp = engine_job_logprobs(c->job, i);

		buf_puts(out, i > from ? "," : "");
		put_chat_entry(out, c->a, lp.own);
		buf_puts(out, ",\"top_logprobs\":[");
		for (uint32_t k = 0; k < lp.n_top; k++) {
			buf_puts(out, k ? "," : "");
			put_chat_entry(out, c->a, &lp.top[k]);
			buf_putc(out, '}');
		}
		buf_puts(out, "]}");
	}
	buf_puts(out, "]}");
}

/* --- prompt_logprobs ---------------------------------------------------------------------------------- */

static void put_ranked(struct buf *out, const struct answer *a, const struct logprob *p, bool first)
{
	buf_printf(out, "%s\"%d\":{\"logprob\":", first ? "" : ",", p->id);
	json_put_logprob(out, p->value);
	buf_printf(out, ",\"rank\":%u,\"decoded_token\":", p->rank);
	put_token_string(out, a, p->id);
	buf_putc(out, '}');
}

void logprobs_put_prompt(struct buf *out, const struct choice *c)
{
	if (c->a->p.n_prompt_logprobs < 0) {
		buf_puts(out, "null");
		return;
	}
	buf_puts(out, "[null");
	for (uint32_t i = 1; i < c->prompt->ids.len; i++) {
		struct engine_logprobs lp = engine_job_prompt_logprobs(c->job, i);

		buf_puts(out, ",{");
		put_ranked(out, c->a, lp.own, true);
		for (uint32_t k = 0; k < lp.n_top; k++) {
			if (lp.top[k].id != lp.own->id)
				put_ranked(out, c->a, &lp.top[k], false);
		}
		buf_putc(out, '}');
	}
	buf_putc(out, ']');
}
