/* POST /v1/completions (spec: serving, sections 1.4, 1.7, 1.8). */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "server/answer.h"
#include "server/fields.h"
#include "server/json_put.h"
#include "server/openai_logprobs.h"

#define DEFAULT_MAX_TOKENS 16

/* --- the answer ----------------------------------------------------------------------------------------- */

static uint32_t shown_tokens(const struct choice *c)
{
	return c->a->prompt_only ? 0 : c->seen;
}

static void put_text(struct buf *out, const struct choice *c, bool with_prompt)
{
	struct buf text = { 0 };

	if (!with_prompt) {
		json_put_string(out, c->text.data ? c->text.data : "", c->text.len);
		return;
	}
	buf_append(&text, c->prompt->text.data, c->prompt->text.len);
	buf_append(&text, c->text.data, c->text.len);
	json_put_string(out, text.data ? text.data : "", text.len);
	buf_deinit(&text);
}

/* index, text, logprobs, finish_reason, stop_reason: of all, or of what is new. */
static void put_choice(struct buf *out, struct choice *c, uint32_t from)
{
	struct answer *a = c->a;
	bool with_prompt = a->echo && from == 0 && !c->started;

	buf_puts(out, "{\"index\":");
	buf_put_u64(out, c->index);
	buf_puts(out, ",\"text\":");
	put_text(out, c, with_prompt);
	buf_puts(out, ",\"logprobs\":");
	if (a->p.n_logprobs >= 0)
		logprobs_put_completion(out, c, with_prompt && a->p.n_prompt_logprobs >= 0, from,
			shown_tokens(c));
	else
		buf_puts(out, "null");
	buf_puts(out, ",\"finish_reason\":");
	json_put_text(out, c->finish);
	buf_puts(out, ",\"stop_reason\":");
	answer_put_stop_reason(out, c);
}

static void put_ids(struct buf *out, const struct choice *c, uint32_t from)
{
	buf_puts(out, ",\"token_ids\":");
	json_put_ids(out, engine_job_ids(c->job) + from, shown_tokens(c) - from);
}

static bool chunk(struct choice *c)
{
	struct answer *a = c->a;
	uint32_t from = a->prompt_only ? 0 : c->sent;
	struct buf *out = &a->event;

	buf_reset(out);
	buf_putc(out, '{');
	answer_put_head(out, a);
	buf_puts(out, ",\"choices\":[");
	put_choice(out, c, from);
	if (a->p.return_ids) {
		put_ids(out, c, from);
		if (!c->started) {
			buf_puts(out, ",\"prompt_token_ids\":");
			json_put_ids(out, c->prompt->ids.data, c->prompt->ids.len);
		}
	}
	buf_puts(out, "}]");
	if (a->p.continuous_usage) {
		buf_putc(out, ',');
		answer_put_usage(out, a, c);
	}
	buf_putc(out, '}');
	answer_send(a, out);
	return true;
}

static void whole(struct buf *out, struct answer *a)
{
	buf_putc(out, '{');
	answer_put_head(out, a);
	buf_puts(out, ",\"choices\":[");
	for (uint32_t i = 0; i < a->n_choices; i++) {
		struct choice *c = &a->choices[i];

		buf_puts(out, i ? "," : "");
		put_choice(out, c, 0);
		if (a->p.return_ids) {
			put_ids(out, c, 0);
			buf_puts(out, ",\"prompt_token_ids\":");
			json_put_ids(out, c->prompt->ids.data, c->prompt->ids.len);
		} else {
			buf_puts(out, ",\"token_ids\":null,\"prompt_token_ids\":null");
		}
		buf_puts(out, ",\"prompt_logprobs\":");
		logprobs_put_prompt(out, c);
		buf_putc(out, '}');
	}
	buf_puts(out, "],\"service_tier\":null,\"system_fingerprint\":null,");
	answer_put_usage(out, a, NULL);
	buf_puts(out, ",\"kv_transfer_params\":null}");
}

/* --- the request ---------------------------------------------------------------------------------------- */

static enum status encode_prompt(struct answer *a, struct answer_prompt *p, const json_t *text,
	struct tokenizer_scratch *scratch, struct refusal *no)
{
	const struct serving *s = a->s;
	const struct tokenizer_config *config = tokenizer_config_of(s->tok);
	struct error err;

	if (!a->p.truncate)
		TRY(openai_check_text(s, json_string_length(text), no));
	if (a->p.add_special && config->add_bos && config->bos_id >= 0)
		token_buf_push(&p->ids, config->bos_id);
	if (tokenizer_encode(s->tok, scratch, json_string_value(text), json_string_length(text),
		TOKENIZER_PARSE_ADDED, &p->ids, &err) != OK)
		return refuse_error(no, "prompt", &err);
	if (a->echo)
		buf_append(&p->text, json_string_value(text), json_string_length(text));
	return OK;
}

static enum status take_ids(struct answer *a, struct answer_prompt *p, const json_t *ids, struct refusal *no)
{
	struct detok d;

	if (json_array_size(ids) > 16 * (size_t)a->s->max_model_len + 4096)
		return refuse(no, "input_tokens", "prompt: %zu token ids exceed the maximum context length of %u",
			json_array_size(ids), a->s->max_model_len);
	for (size_t i = 0; i < json_array_size(ids); i++) {
		int32_t id;

		TRY(field_id(&id, json_array_get(ids, i), "prompt", i, a->s->vocab, no));
		token_buf_push(&p->ids, id);
	}
	if (!a->echo)
		return OK;
	detok_init(&d, a->s->tok, a->p.skip_special);
	for (size_t i = 0; i < p->ids.len; i++)
		detok_push(&d, p->ids.data[i], &p->text);
	detok_flush(&d, &p->text);
	return OK;
}

static enum status take_prompt(struct answer *a, struct answer_prompt *p, const json_t *v,
	struct tokenizer_scratch *scratch, struct refusal *no)
{
	TRY(json_is_string(v) ? encode_prompt(a, p, v, scratch, no) : take_ids(a, p, v, no));
	return openai_sampling_budget(&p->max_tokens, &p->ids, &a->p, a->s, no);
}

static enum status check_shape(const json_t *v, size_t i, struct refusal *no)
{
	if (json_is_string(v) || json_is_array(v))
		return OK;
	return refuse_shape(no, "prompt", "prompt[%zu]: found %s, expected a string or a list of token ids", i,
		json_type_name(v));
}

static enum status prompts(struct answer *a, struct tokenizer_scratch *scratch, struct refusal *no)
{
	const json_t *v = field_get(a->body, "prompt");
	size_t n = json_array_size(v);

	if (json_is_string(v) || (json_is_array(v) && json_is_integer(json_array_get(v, 0)))) {
		answer_set_prompts(a, 1);
		return take_prompt(a, &a->prompts[0], v, scratch, no);
	}
	if (!v || (json_is_array(v) && n == 0))
		return refuse(no, "prompt", "Either prompt or prompt_embeds must be provided and non-empty.");
	if (!json_is_array(v))
		return check_shape(v, 0, no);
	if (n > SERVING_MAX_PROMPTS || n * a->p.n > SERVING_MAX_CHOICES)
		return refuse(no, "prompt", "prompt: %zu prompts with n %u, at most %d prompts and %d choices are taken",
			n, a->p.n, SERVING_MAX_PROMPTS, SERVING_MAX_CHOICES);
	for (size_t i = 0; i < n; i++)
		TRY(check_shape(json_array_get(v, i), i, no));
	answer_set_prompts(a, (uint32_t)n);
	for (size_t i = 0; i < n; i++)
		TRY(take_prompt(a, &a->prompts[i], json_array_get(v, i), scratch, no));
	return OK;
}

static enum status parse_logprobs(struct answer *a, struct refusal *no)
{
	int64_t logprobs = -1;

	TRY(field_int(&logprobs, a->body, "logprobs", 0, INT32_MAX, no));
	if (logprobs > (int64_t)a->s->o->max_logprobs)
		return refuse(no, "logprobs",
			"Requested sample logprobs of %lld, which is greater than max allowed: %u",
			(long long)logprobs, a->s->o->max_logprobs);
	a->p.n_logprobs = (int)logprobs;
	if (a->echo && logprobs >= 0 && a->p.n_prompt_logprobs < 0)
		a->p.n_prompt_logprobs = (int)logprobs;
	return OK;
}

static enum status parse_max_tokens(struct answer *a, struct refusal *no)
{
	int64_t v = DEFAULT_MAX_TOKENS;

	/* vLLM has no max_completion_tokens here and lets 16 tokens stand; clients that send it mean it. */
	TRY(field_int(&v, a->body, "max_completion_tokens", 0, INT32_MAX, no));
	TRY(field_int(&v, a->body, "max_tokens", 0, INT32_MAX, no));
	if (v == 0 && !a->echo)
		return refuse(no, "max_tokens", "max_tokens must be at least 1, got 0.");
	a->prompt_only = v == 0;
	a->p.max_tokens = v ? v : 1;
	return OK;
}

static enum status parse(struct answer *a, struct tokenizer_scratch *scratch, struct refusal *no)
{
	const char *suffix = "";

	TRY(openai_check_model(a->s, a->body, no));
	TRY(openai_sampling_parse(&a->p, a->s, scratch, a->body, a->call->r, no));
	if (a->p.thinking_budget >= 0)
		return refuse(no, "thinking_token_budget",
			"thinking_token_budget is for chats: a completion is not told into reasoning and content");
	TRY(field_bool(&a->echo, a->body, "echo", no));
	TRY(field_string(&suffix, a->body, "suffix", no));
	if (*suffix)
		return refuse(no, "suffix", "suffix is not currently supported");
	TRY(parse_logprobs(a, no));
	TRY(parse_max_tokens(a, no));
	a->p.add_special = true;
	return field_bool(&a->p.add_special, a->body, "add_special_tokens", no);
}

const struct answer_form openai_completion_form = {
	.id_prefix = "cmpl-",
	.call_prefix = "",
	.object = "text_completion",
	.chunk_object = "text_completion",
	.chunk = chunk,
	.whole = whole,
	.parse = parse,
	.prompts = prompts,
};

void handle_completions(struct call *c)
{
	answer_begin(c, &openai_completion_form);
}
