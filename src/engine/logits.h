/*
 * What a request asks of the logits before a token is chosen (spec: serving, section 1.3), and what it
 * wants to know of them afterwards.
 *
 * Rules apply in vLLM's order: mask of a constraint and allowed ids, bad words, logit bias, minimum length, repetition, frequency
 * and presence penalty; the sampler's temperature and truncation come after them. Log probabilities are of
 * the row as the model gave it, before any rule ("raw_logprobs").
 */
#ifndef ENGINE_LOGITS_H
#define ENGINE_LOGITS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct logit_bias {
	int32_t id;
	float bias; /* added */
};

/* Borrowed arrays: they must outlive the request. Zero but for the repetition penalty: no rule. */
struct logits_rules {
	double repetition_penalty; /* above 0, 1: none. Over prompt and generated tokens */
	double frequency_penalty;  /* [-2, 2], times a token's count among the generated */
	double presence_penalty;   /* [-2, 2], of every generated token */
	uint32_t min_tokens;       /* no stop id before so many were generated */
	const int32_t *stop_ids;
	uint32_t n_stop_ids;
	const struct logit_bias *bias;
	uint32_t n_bias;
	const int32_t *allowed; /* the only ids that may be chosen; NULL: all */
	uint32_t n_allowed;
	const int32_t *bad_ids;      /* bad words, one after the other */
	const uint32_t *bad_lengths; /* [n_bad] tokens of each, at least 1 */
	uint32_t n_bad;
	/* After so many generated tokens without thinking_end, or one of the ids that leave reasoning as well
	 * (-1: none), thinking_end is the only one that may be chosen. */
	bool thinking_limited;
	uint32_t thinking_budget;
	int32_t thinking_end, thinking_leaves[2];
	/* The engine's, while a constraint waits for the end of the reasoning: no stop id, and no other way out. */
	bool thinking_only;
};

struct logits_rules logits_rules_none(void);

/* Names the field that lies outside its range, or the id outside the vocabulary. */
enum status logits_rules_check(const struct logits_rules *r, uint32_t vocab, struct error *err);

struct logits_work; /* scratch for one vocabulary size; one thread */

enum status logits_work_create(struct logits_work **out, uint32_t vocab, struct error *err);
void logits_work_destroy(struct logits_work *w);

/* Room for a mask over the vocabulary, for whoever fills one (base/constraint.h). */
uint32_t *logits_work_mask(struct logits_work *w);

/*
 * The row that the rules leave of `logits` [n]: `logits` itself when there is no rule, otherwise a copy that
 * lives until the next call. mask: bits of the ids that may be chosen (base/constraint.h), or NULL. ids: the sequence so
 * far, its first n_prompt are the prompt. What a rule forbids is -infinity.
 */
const float *logits_apply(struct logits_work *w, const struct logits_rules *r, const uint32_t *mask,
	const float *logits, uint32_t n, const int32_t *ids, uint32_t n_prompt, uint32_t n_ids);

#define LOGPROBS_MAX 128u

struct logprob {
	int32_t id;
	uint32_t rank; /* 1: the likeliest */
	double value;  /* natural logarithm; -infinity for a logit of -infinity */
};

/*
 * Log probabilities over a row [n]: of `id`, and of the n_top likeliest (<= LOGPROBS_MAX, lower id first
 * among equals), with an error under 4e-6 where logits are below 1e8. Returns how many of `top` were filled: fewer when
 * the row has fewer numbers. Sums run in one fixed order.
 */
uint32_t logits_logprobs(struct logprob *own, struct logprob *top, uint32_t n_top, const float *logits,
	uint32_t n, int32_t id);

#endif
