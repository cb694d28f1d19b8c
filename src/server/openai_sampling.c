/*
 * Parsing of the common fields (server/openai_sampling.h). Fields that nobody knows are ignored, as vLLM
 * does; fields that vLLM knows and fathom cannot serve are refused by name.
 */
#include "server/openai_sampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/random.h"
#include "server/fields.h"

#define MAX_STOP_STRINGS 16
#define MAX_STOP_BYTES 4096
#define MAX_STOP_IDS 128
#define MAX_BIAS 1024
#define MAX_BAD_WORDS 128
#define MAX_BAD_BYTES 4096
#define MAX_FORBIDDEN 3
#define GREEDY_BELOW 1e-5
#define COLDEST 0.01 /* colder sampling overflows; vLLM raises it too */

static const struct unsupported {
	const char *name, *why;
} unsupported[] = {
	{ "use_beam_search", "beam search is not supported" },
	{ "logprob_token_ids", "log probabilities of chosen ids are not supported" },
	{ "repetition_detection", "repetition detection is not supported" },
	{ "kv_transfer_params", "prefill and decode on different servers are not supported" },
	{ "prompt_embeds", "prompts given as embeddings are not accepted" },
	{ "logits_processors", "code in requests is not accepted" },
};

static enum status check_unsupported(const json_t *body, struct refusal *no)
{
	for (size_t i = 0; i < sizeof(unsupported) / sizeof(*unsupported); i++) {
		const json_t *v = field_get(body, unsupported[i].name);

		if (v && !json_is_false(v))
			return refuse(no, unsupported[i].name, "%s: %s", unsupported[i].name, unsupported[i].why);
	}
	return OK;
}

static uint64_t fresh_seed(void)
{
	uint64_t seed;

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = random_u64(clock_ns(), 0);
	return seed;
}

static enum status parse_sampler(struct openai_sampling *p, const struct serving *s, const json_t *body,
	struct refusal *no)
{
	struct sampling_params *v = &p->params;
	int64_t top_k = s->defaults.top_k, seed = -1;

	*v = (struct sampling_params){ s->defaults.temperature, s->defaults.top_p, s->defaults.min_p, 0, 0 };
	TRY(field_real(&v->temperature, body, "temperature", 0, 2, no));
	TRY(field_real(&v->top_p, body, "top_p", -HUGE_VAL, HUGE_VAL, no));
	if (v->top_p <= 0 || v->top_p > 1)
		return refuse(no, "top_p", "top_p must be in (0, 1], got %g", v->top_p);
	TRY(field_real(&v->min_p, body, "min_p", 0, 1, no));
	TRY(field_int(&top_k, body, "top_k", -1, INT32_MAX, no));
	v->top_k = (int32_t)top_k;
	TRY(field_int(&seed, body, "seed", INT64_MIN, INT64_MAX, no));
	p->seeded = field_get(body, "seed") && seed != -1;
	v->seed = p->seeded ? (uint64_t)seed : fresh_seed();
	if (v->temperature < GREEDY_BELOW)
		*v = (struct sampling_params){ 0, 1, 0, 0, v->seed };
	else if (v->temperature < COLDEST)
		v->temperature = COLDEST;
	return OK;
}

static enum status parse_penalties(struct openai_sampling *p, const struct serving *s, const json_t *body,
	struct refusal *no)
{
	struct logits_rules *r = &p->rules;
	int64_t min_tokens = 0;

	*r = logits_rules_none();
	r->repetition_penalty = s->defaults.repetition_penalty;
	TRY(field_real(&r->presence_penalty, body, "presence_penalty", -2, 2, no));
	TRY(field_real(&r->frequency_penalty, body, "frequency_penalty", -2, 2, no));
	TRY(field_real(&r->repetition_penalty, body, "repetition_penalty", 0, 1e3, no));
	if (r->repetition_penalty <= 0)
		return refuse(no, "repetition_penalty", "repetition_penalty must be greater than zero, got %g",
			r->repetition_penalty);
	TRY(field_int(&min_tokens, body, "min_tokens", 0, INT32_MAX, no));
	r->min_tokens = (uint32_t)min_tokens;
	return OK;
}

static enum status parse_stop_ids(struct openai_sampling *p, const struct serving *s, const json_t *body,
	struct refusal *no)
{
	bool ignore_eos = false;
	json_t *list = NULL;
	size_t n = 0;

	TRY(field_bool(&ignore_eos, body, "ignore_eos", no));
	TRY(field_array(&list, body, "stop_token_ids", no));
	if (json_array_size(list) > MAX_STOP_IDS)
		return refuse(no, "stop_token_ids", "stop_token_ids: at most %d ids, got %zu", MAX_STOP_IDS,
			json_array_size(list));
	p->stop_ids = mem_alloc((SAMPLING_MAX_EOS + CHAT_MAX_ENDS + MAX_STOP_IDS) * sizeof(*p->stop_ids));
	for (uint32_t i = 0; i < s->defaults.n_eos && !ignore_eos; i++)
		p->stop_ids[n++] = s->defaults.eos[i];
	p->n_eos = (uint32_t)n;
	for (size_t i = 0; i < json_array_size(list); i++, n++)
		TRY(field_id(&p->stop_ids[n], json_array_get(list, i), "stop_token_ids", i, s->vocab, no));
	p->rules.stop_ids = p->stop_ids;
	p->rules.n_stop_ids = (uint32_t)n;
	return OK;
}

static enum status add_stop(struct openai_sampling *p, const json_t *v, struct refusal *no)
{
	if (!json_is_string(v))
		return refuse_shape(no, "stop", "stop: found %s, expected a string or a list of strings",
			json_type_name(v));
	if (json_string_length(v) == 0)
		return refuse(no, "stop", "stop cannot contain an empty string.");
	if (json_string_length(v) > MAX_STOP_BYTES)
		return refuse(no, "stop", "stop: a string of %zu bytes, at most %d are taken",
			json_string_length(v), MAX_STOP_BYTES);
	stop_set_add(&p->stops, json_string_value(v), json_string_length(v));
	return OK;
}

static enum status parse_stops(struct openai_sampling *p, const json_t *body, struct refusal *no)
{
	const json_t *v = field_get(body, "stop");

	TRY(field_bool(&p->include_stop, body, "include_stop_str_in_output", no));
	if (!v)
		return OK;
	if (!json_is_array(v))
		return add_stop(p, v, no);
	if (json_array_size(v) > MAX_STOP_STRINGS)
		return refuse(no, "stop", "stop: at most %d strings, got %zu", MAX_STOP_STRINGS,
			json_array_size(v));
	for (size_t i = 0; i < json_array_size(v); i++)
		TRY(add_stop(p, json_array_get(v, i), no));
	return OK;
}

static enum status parse_bias(struct openai_sampling *p, const struct serving *s, const json_t *body,
	struct refusal *no)
{
	json_t *obj = NULL, *v;
	const char *key;

	TRY(field_object(&obj, body, "logit_bias", no));
	if (!obj)
		return OK;
	if (json_object_size(obj) > MAX_BIAS)
		return refuse(no, "logit_bias", "logit_bias: at most %d ids, got %zu", MAX_BIAS,
			json_object_size(obj));
	p->bias = mem_alloc((json_object_size(obj) + 1) * sizeof(*p->bias));
	json_object_foreach(obj, key, v)
	{
		char *end;
		unsigned long long id = strtoull(key, &end, 10);
		double bias = json_number_value(v);

		if (*key < '0' || *key > '9' || *end)
			return refuse(no, "logit_bias", "logit_bias: key '%.40s', expected a token id", key);
		if (id >= s->vocab)
			return refuse(no, "logit_bias", "token_id %.40s in logit_bias contains out-of-vocab token id",
				key);
		if (!json_is_number(v))
			return refuse_shape(no, "logit_bias", "logit_bias: found %s, expected a number",
				json_type_name(v));
		p->bias[p->rules.n_bias++] =
			(struct logit_bias){ (int32_t)id, (float)fmin(100, fmax(-100, bias)) };
	}
	p->rules.bias = p->bias;
	return OK;
}

static enum status parse_allowed(struct openai_sampling *p, const struct serving *s, const json_t *body,
	struct refusal *no)
{
	json_t *list = NULL;

	TRY(field_array(&list, body, "allowed_token_ids", no));
	if (!list)
		return OK;
	if (json_array_size(list) == 0 || json_array_size(list) > s->vocab)
		return refuse(no, "allowed_token_ids", "allowed_token_ids: found %zu ids, expected 1 to %u",
			json_array_size(list), s->vocab);
	for (size_t i = 0; i < json_array_size(list); i++) {
		int32_t id;

		TRY(field_id(&id, json_array_get(list, i), "allowed_token_ids", i, s->n_ids, no));
		token_buf_push(&p->allowed, id);
	}
	p->rules.allowed = p->allowed.data;
	p->rules.n_allowed = (uint32_t)p->allowed.len;
	return OK;
}

static enum status encode_word(struct token_buf *ids, const struct serving *s, struct tokenizer_scratch *scratch,
	const char *prefix, const char *word, struct refusal *no)
{
	struct buf text = { 0 };
	struct error err;
	enum status st;

	buf_puts(&text, prefix);
	buf_puts(&text, word);
	st = tokenizer_encode(s->tok, scratch, text.data, text.len, TOKENIZER_PARSE_ADDED, ids, &err);
	buf_deinit(&text);
	return st == OK ? OK : refuse_error(no, "bad_words", &err);
}

/* As vLLM: the word itself, and with a space in front where that is another first token in as many tokens. */
static enum status add_bad_word(struct openai_sampling *p, const struct serving *s,
	struct tokenizer_scratch *scratch, const json_t *v, struct refusal *no)
{
	struct token_buf spaced = { 0 };
	const char *word = json_string_value(v);
	size_t at = p->bad_ids.len, n;
	enum status st;

	if (!word || json_string_length(v) > MAX_BAD_BYTES)
		return refuse(no, "bad_words", "bad_words: expected strings of at most %d bytes", MAX_BAD_BYTES);
	word += strspn(word, " \t\r\n");
	if (!*word)
		return refuse(no, "bad_words", "bad_words cannot contain an empty string");
	TRY(encode_word(&p->bad_ids, s, scratch, "", word, no));
	n = p->bad_ids.len - at;
	p->bad_lengths[p->rules.n_bad++] = (uint32_t)n;
	TRY_GOTO(out, encode_word(&spaced, s, scratch, " ", word, no));
	if (spaced.len == n && spaced.data[0] != p->bad_ids.data[at]) {
		for (size_t i = 0; i < n; i++)
			token_buf_push(&p->bad_ids, spaced.data[i]);
		p->bad_lengths[p->rules.n_bad++] = (uint32_t)n;
	}
out:
	token_buf_deinit(&spaced);
	return st;
}

static enum status parse_bad_words(struct openai_sampling *p, const struct serving *s,
	struct tokenizer_scratch *scratch, const json_t *body, struct refusal *no)
{
	json_t *list = NULL;

	TRY(field_array(&list, body, "bad_words", no));
	if (json_array_size(list) > MAX_BAD_WORDS)
		return refuse(no, "bad_words", "bad_words: at most %d words, got %zu", MAX_BAD_WORDS,
			json_array_size(list));
	p->bad_lengths = mem_alloc((2 * MAX_BAD_WORDS + MAX_FORBIDDEN) * sizeof(*p->bad_lengths));
	for (size_t i = 0; i < json_array_size(list); i++)
		TRY(add_bad_word(p, s, scratch, json_array_get(list, i), no));
	p->rules.bad_ids = p->bad_ids.data;
	p->rules.bad_lengths = p->bad_lengths;
	return OK;
}

static enum status parse_stream(struct openai_sampling *p, const struct serving *s, const json_t *body,
	struct refusal *no)
{
	json_t *options = NULL;
	int64_t interval = s->o->stream_interval;

	TRY(field_bool(&p->stream, body, "stream", no));
	TRY(field_object(&options, body, "stream_options", no));
	if (options && !p->stream)
		return refuse(no, "stream_options", "Stream options can only be defined when `stream=True`.");
	TRY(field_bool(&p->include_usage, options, "include_usage", no));
	TRY(field_bool(&p->continuous_usage, options, "continuous_usage_stats", no));
	p->include_usage |= s->o->force_include_usage;
	p->continuous_usage &= p->include_usage;
	TRY(field_int(&interval, body, "stream_interval", 1, INT32_MAX, no));
	p->stream_interval = (uint32_t)interval;
	return OK;
}

static enum status parse_prompt_rules(struct openai_sampling *p, const struct serving *s, const json_t *body,
	struct refusal *no)
{
	int64_t logprobs = -2;
	const char *side = "left";

	TRY(field_int(&logprobs, body, "prompt_logprobs", -1, INT32_MAX, no));
	if (logprobs > (int64_t)s->o->max_logprobs || logprobs == -1)
		return refuse(no, "prompt_logprobs",
			"Requested prompt logprobs of %lld, which is greater than max allowed: %u",
			logprobs == -1 ? (long long)s->vocab : (long long)logprobs, s->o->max_logprobs);
	if (p->stream && logprobs > 0)
		return refuse(no, "prompt_logprobs", "`prompt_logprobs` are not available when `stream=True`.");
	p->n_prompt_logprobs = logprobs == -2 ? -1 : (int)logprobs;
	TRY(field_int(&p->truncate, body, "truncate_prompt_tokens", -1, INT32_MAX, no));
	if (p->truncate > (int64_t)s->max_model_len)
		return refuse(no, "truncate_prompt_tokens",
			"truncate_prompt_tokens value (%lld) is greater than max_model_len (%u)",
			(long long)p->truncate, s->max_model_len);
	if (field_get(body, "truncate_prompt_tokens") && p->truncate == 0)
		return refuse(no, "truncate_prompt_tokens", "truncate_prompt_tokens must be -1 or at least 1");
	TRY(field_string(&side, body, "truncation_side", no));
	if (strcmp(side, "left") != 0 && strcmp(side, "right") != 0)
		return refuse(no, "truncation_side", "truncation_side: found %.40s, expected left or right", side);
	p->truncate_right = strcmp(side, "right") == 0;
	return OK;
}

static enum status parse_identity(struct openai_sampling *p, const struct serving *s, const json_t *body,
	const struct http_request *r, struct refusal *no)
{
	const char *header = http_request_header(r, "X-Vllm-Priority");
	int64_t priority = 0;

	TRY(field_int(&priority, body, "priority", INT32_MIN, INT32_MAX, no));
	if (header) {
		char *end;
		long long v = strtoll(header, &end, 10);

		if (end == header || *end || v < INT32_MIN || v > INT32_MAX)
			return refuse(no, "priority", "X-Vllm-Priority: found '%.40s', expected a whole number",
				header);
		priority = v;
	}
	if (priority != 0 && !s->o->engine.priority)
		return refuse(no, "priority",
			"priority %lld needs a server that was started with --scheduling-policy priority",
			(long long)priority);
	p->priority = (int32_t)priority;
	TRY(field_string(&p->request_id, body, "request_id", no));
	if (p->request_id && (!*p->request_id || strlen(p->request_id) > CALL_MAX_ID))
		return refuse(no, "request_id", "request_id must have 1 to %d bytes", CALL_MAX_ID);
	TRY(field_string(&p->cache_salt, body, "cache_salt", no));
	if (p->cache_salt && (!*p->cache_salt || strlen(p->cache_salt) > ENGINE_MAX_SALT_BYTES ||
		strpbrk(p->cache_salt, "@/\\")))
		return refuse(no, "cache_salt", "cache_salt must have 1 to %u bytes and none of @ / \\",
			ENGINE_MAX_SALT_BYTES);
	return OK;
}

static enum status parse_count(struct openai_sampling *p, const json_t *body, struct refusal *no)
{
	int64_t n = 1, best_of = 0;

	TRY(field_int(&n, body, "n", 1, SERVING_MAX_N, no));
	TRY(field_int(&best_of, body, "best_of", 0, INT32_MAX, no));
	if (best_of > n)
		return refuse(no, "best_of", "best_of is not supported above n");
	if (n > 1 && p->params.temperature == 0)
		return refuse(no, "n", "n must be 1 when using greedy sampling, got %lld.", (long long)n);
	p->n = (uint32_t)n;
	return OK;
}

enum status openai_sampling_parse(struct openai_sampling *p, const struct serving *s,
	struct tokenizer_scratch *scratch, const json_t *body, const struct http_request *r, struct refusal *no)
{
	*p = (struct openai_sampling){
		.max_tokens = -1, .thinking_budget = -1, .n_logprobs = -1, .n_prompt_logprobs = -1, .skip_special = true,
		.tokens_as_ids = s->o->tokens_as_ids,
	};
	TRY(check_unsupported(body, no));
	TRY(parse_sampler(p, s, body, no));
	TRY(parse_count(p, body, no));
	TRY(parse_penalties(p, s, body, no));
	TRY(parse_stop_ids(p, s, body, no));
	TRY(parse_stops(p, body, no));
	TRY(parse_bias(p, s, body, no));
	TRY(parse_allowed(p, s, body, no));
	TRY(parse_bad_words(p, s, scratch, body, no));
	TRY(parse_stream(p, s, body, no));
	TRY(parse_prompt_rules(p, s, body, no));
	TRY(parse_identity(p, s, body, r, no));
	TRY(field_int(&p->thinking_budget, body, "thinking_token_budget", -1, INT32_MAX, no));
	TRY(field_bool(&p->skip_special, body, "skip_special_tokens", no));
	TRY(field_bool(&p->tokens_as_ids, body, "return_tokens_as_token_ids", no));
	return field_bool(&p->return_ids, body, "return_token_ids", no);
}

void openai_sampling_deinit(struct openai_sampling *p)
{
	free(p->stop_ids);
	free(p->bias);
	free(p->bad_lengths);
	token_buf_deinit(&p->allowed);
	token_buf_deinit(&p->bad_ids);
	stop_set_deinit(&p->stops);
	*p = (struct openai_sampling){ 0 };
}

void openai_sampling_forbid(struct openai_sampling *p, const struct serving *s, int32_t id)
{
	if ((uint32_t)id >= s->vocab)
		return;
	token_buf_push(&p->bad_ids, id);
	p->bad_lengths[p->rules.n_bad++] = 1;
	p->rules.bad_ids = p->bad_ids.data;
}

void openai_sampling_add_end(struct openai_sampling *p, const struct serving *s, int32_t id)
{
	if (p->n_eos == 0 || (uint32_t)id >= s->vocab) /* ignore_eos */
		return;
	memmove(p->stop_ids + p->n_eos + 1, p->stop_ids + p->n_eos,
		(p->rules.n_stop_ids - p->n_eos) * sizeof(*p->stop_ids));
	p->stop_ids[p->n_eos++] = id;
	p->rules.n_stop_ids++;
}

void openai_sampling_limit_thinking(struct openai_sampling *p, const struct chat_format *f, bool thinking)
{
	if (!thinking)
		return;
	p->rules.thinking_limited = p->thinking_budget >= 0;
	p->rules.thinking_budget = p->thinking_budget >= 0 ? (uint32_t)p->thinking_budget : 0;
	p->rules.thinking_end = f->think_end;
	p->rules.thinking_leaves[0] = f->calls_begin;
	p->rules.thinking_leaves[1] = f->call_begin;
}

enum status openai_check_text(const struct serving *s, size_t bytes, struct refusal *no)
{
	size_t least = bytes / s->max_token_bytes;

	if (least <= s->max_model_len)
		return OK;
	return refuse(no, "input_tokens",
		"This model's maximum context length is %u tokens. However, your prompt of %zu bytes has at least "
		"%zu tokens. Please reduce the length of the input prompt.", s->max_model_len, bytes, least);
}

static void truncate_prompt(struct token_buf *prompt, const struct openai_sampling *p, const struct serving *s)
{
	int64_t wanted = p->max_tokens > 0 ? p->max_tokens : 1;
	int64_t keep = p->truncate;

	if (keep == 0)
		return;
	if (keep < 0)
		keep = (int64_t)s->max_model_len - wanted;
	if (keep < 1 || prompt->len <= (size_t)keep)
		return;
	if (!p->truncate_right)
		memmove(prompt->data, prompt->data + prompt->len - (size_t)keep,
			(size_t)keep * sizeof(*prompt->data));
	prompt->len = (size_t)keep;
}

enum status openai_sampling_budget(uint32_t *max_tokens, struct token_buf *prompt,
	const struct openai_sampling *p, const struct serving *s, struct refusal *no)
{
	int64_t wanted = p->max_tokens > 0 ? p->max_tokens : 1, room;

	truncate_prompt(prompt, p, s);
	if (prompt->len == 0)
		return refuse(no, "prompt", "The decoder prompt cannot be empty");
	room = (int64_t)s->max_model_len - (int64_t)prompt->len;
	if (prompt->len >= s->max_model_len || wanted > room)
		return refuse(no, "input_tokens",
			"This model's maximum context length is %u tokens. However, you requested %lld output "
			"tokens and your prompt contains %zu input tokens, for a total of %lld tokens. Please "
			"reduce the length of the input prompt or the number of requested output tokens.",
			s->max_model_len, (long long)wanted, prompt->len, (long long)prompt->len + wanted);
	if (p->max_tokens < 0) {
		wanted = room;
		if (s->defaults.max_new_tokens && wanted > s->defaults.max_new_tokens)
			wanted = s->defaults.max_new_tokens;
	}
	if (p->rules.min_tokens > wanted)
		return refuse(no, "min_tokens",
			"min_tokens must be less than or equal to max_tokens=%lld, got %u.", (long long)wanted,
			p->rules.min_tokens);
	*max_tokens = (uint32_t)wanted;
	return OK;
}

enum status openai_check_model(const struct serving *s, const json_t *body, struct refusal *no)
{
	const char *model = "";

	TRY(field_string(&model, body, "model", no));
	if (!*model)
		return OK;
	for (size_t i = 0; i < s->o->n_names; i++) {
		if (strcmp(s->o->names[i], model) == 0)
			return OK;
	}
	return refuse_status(no, 404, "NotFoundError", "model", "The model `%.100s` does not exist.", model);
}
