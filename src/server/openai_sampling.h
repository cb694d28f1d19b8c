/*
 * The fields that completions and chat share (spec: serving, section 1.3), checked and completed with the
 * server's defaults.
 */
#ifndef SERVER_OPENAI_SAMPLING_H
#define SERVER_OPENAI_SAMPLING_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "server/refusal.h"
#include "server/serving_int.h"
#include "server/stop_text.h"
#include "text/chat_parse.h"
#include "text/token.h"

struct openai_sampling {
	uint32_t n;
	int64_t max_tokens; /* -1: what the context leaves */
	bool seeded;        /* params.seed is the client's */
	struct sampling_params params;
	struct logits_rules rules; /* its arrays are those below */
	int32_t *stop_ids;         /* owned: EOS first unless ignored, then the request's */
	uint32_t n_eos;
	struct logit_bias *bias; /* owned */
	struct token_buf allowed, bad_ids;
	uint32_t *bad_lengths; /* owned */
	struct stop_set stops;
	bool include_stop;
	bool skip_special;
	int n_logprobs, n_prompt_logprobs;
	bool tokens_as_ids;
	bool return_ids;
	bool add_special;
	bool stream, include_usage, continuous_usage;
	uint32_t stream_interval;
	int64_t truncate; /* 0: no; -1: to the context; else tokens kept */
	bool truncate_right;
	int32_t priority;
	const char *cache_salt; /* of the body; or NULL */
	const char *request_id; /* of the body; or NULL */
	int64_t thinking_budget; /* tokens of reasoning; -1: no bound */
};

/* The body must outlive the result. Deinit after failure too. */
enum status openai_sampling_parse(struct openai_sampling *p, const struct serving *s,
	struct tokenizer_scratch *scratch, const json_t *body, const struct http_request *r, struct refusal *no);
void openai_sampling_deinit(struct openai_sampling *p);

/* For chat, after the parse: an id that is never generated, at most two of them; one that ends the answer as
 * EOS does, at most CHAT_MAX_ENDS (the model may have less tokens than its tokenizer); thinking_token_budget of an answer that begins with reasoning. */
void openai_sampling_forbid(struct openai_sampling *p, const struct serving *s, int32_t id);
void openai_sampling_add_end(struct openai_sampling *p, const struct serving *s, int32_t id);
void openai_sampling_limit_thinking(struct openai_sampling *p, const struct chat_format *f, bool thinking);

/* Refuses a text that exceeds the context even if every token were the longest: a check before the work of
 * tokenizing it. */
enum status openai_check_text(const struct serving *s, size_t bytes, struct refusal *no);

/* Cuts a prompt as truncate_prompt_tokens says, then checks it and the budget against the context:
 * *max_tokens is what the engine may generate, at least 1. */
enum status openai_sampling_budget(uint32_t *max_tokens, struct token_buf *prompt,
	const struct openai_sampling *p, const struct serving *s, struct refusal *no);

/* 404 for a model that is not served here. */
enum status openai_check_model(const struct serving *s, const json_t *body, struct refusal *no);

#endif
