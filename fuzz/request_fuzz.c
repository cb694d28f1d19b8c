/*
 * Any bytes as the body of a request for a chat or a completion, without an engine: refused with an error
 * object that is valid JSON, or prompts and sampling that an engine can take.
 *
 * The first byte chooses: c a chat, p a completion, m a message of the Anthropic API, r a response; C a chat that may bring its own template; anything else
 * is one of these too, and belongs to the body.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "server/answer.h"
#include "server/structured.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = { "demo" };
static struct serving_options options;
static struct serving serving;

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void open_serving(void)
{
	struct error err;
	struct tokenizer *tok;
	struct chat_template *chat;

	require(tokenizer_open(&tok, MODEL, &err) == OK);
	require(chat_template_compile(&chat, tokenizer_config_of(tok)->chat_template, "template", &err) == OK);
	options = serving_options_default();
	options.tokenizer = tok;
	options.chat = chat;
	options.names = names;
	options.n_names = 1;
	options.engine.priority = true;
	serving = (struct serving){
		.o = &options, .tok = tok, .scratch = tokenizer_scratch_create(),
		.vocab = (uint32_t)tokenizer_n_ids(tok), .n_ids = (uint32_t)tokenizer_n_ids(tok),
		.max_model_len = 512, .max_token_bytes = 16,
	};
	chat_format_init(&serving.format, tok, chat_dialect_guess(tok, chat));
	require(sampling_defaults_init(&serving.defaults, NULL, NULL, &err) == OK);
	require(sampling_defaults_add_eos(&serving.defaults, 1, serving.vocab, "", &err) == OK);
	require(structured_create(&serving.structured, tok, serving.n_ids, serving.defaults.eos, serving.defaults.n_eos,
		&err) == OK);
}

static void check_ids(const int32_t *ids, size_t n)
{
	for (size_t i = 0; i < n; i++)
		require(ids[i] >= 0 && (uint32_t)ids[i] < serving.vocab);
}

static void check_sampling(const struct openai_sampling *p)
{
	const struct sampling_params *v = &p->params;

	require(p->n >= 1 && p->n <= SERVING_MAX_N && p->stream_interval >= 1);
	require(v->temperature >= 0 && v->temperature <= 2 && v->top_p > 0 && v->top_p <= 1);
	require(v->min_p >= 0 && v->min_p <= 1 && v->top_k >= -1);
	require(p->n_logprobs >= -1 && p->n_logprobs <= SERVING_MAX_LOGPROBS);
	require(p->n_prompt_logprobs >= -1 && p->n_prompt_logprobs <= SERVING_MAX_LOGPROBS);
	check_ids(p->rules.stop_ids, p->rules.n_stop_ids);
	check_ids(p->allowed.data, p->allowed.len);
	check_ids(p->bad_ids.data, p->bad_ids.len);
	for (size_t i = 0; i < p->stops.n; i++)
		require(p->stops.strings[i].len > 0);
}

static void check_answer(const struct answer *a)
{
	check_sampling(&a->p);
	require(a->n_prompts >= 1 && a->n_prompts * a->p.n <= SERVING_MAX_CHOICES);
	for (uint32_t i = 0; i < a->n_prompts; i++) {
		const struct answer_prompt *p = &a->prompts[i];

		require(p->ids.len >= 1 && p->max_tokens >= 1);
		require(p->ids.len + p->max_tokens <= serving.max_model_len);
		check_ids(p->ids.data, p->ids.len);
	}
}

static void check_refusal(const struct refusal *no)
{
	struct buf text = { 0 };
	json_t *v;

	require(no->status >= 400 && no->status < 500 && no->message[0]);
	refusal_put(&text, no);
	v = json_loadb(text.data, text.len, 0, NULL);
	require(v != NULL);
	json_decref(v);
	buf_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http_header header = { "Content-Type", "application/json" };
	struct http_request r = { .headers = &header, .n_headers = 1 };
	struct call call = { .s = &serving, .r = &r };
	const struct answer_form *form = size && data[0] == 'm' ? &anthropic_form :
		size && data[0] == 'r' ? &openai_responses_form :
		size && (data[0] & 1) ? &openai_chat_form : &openai_completion_form;
	struct refusal no;
	struct answer *a;

	if (!serving.o)
		open_serving();
	options.trust_request_chat_template = size && data[0] == 'C';
	if (size && strchr("cpmrC", data[0])) {
		data++;
		size--;
	}
	r.body = (const char *)data;
	r.body_bytes = size;
	a = answer_create(&call, form);
	if (answer_make(a, serving.scratch, &no) == OK)
		check_answer(a);
	else
		check_refusal(&no);
	answer_free(a);
	return 0;
}
