/*
 * One sequence at a time: prompt in, tokens out. What `run`, `complete` and `bench model` drive.
 *
 * Prompt tokens are computed in chunks in expanded form, generated ones in absorbed form (DESIGN.md
 * section 4). A new prompt that begins like the last one keeps the cache of the common beginning, as
 * far as that was prompt then: the result is the same bits as without.
 */
#ifndef ENGINE_GENERATE_H
#define ENGINE_GENERATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/logits.h"
#include "engine/runtime.h"
#include "engine/sampler.h"

struct generator;

/* Borrows rt, whose limits must allow one sequence. n_ids: ids that may be sampled (the tokenizer's;
 * at most vocab_size). */
enum status generator_create(
	struct generator **out, struct runtime *rt, uint32_t n_ids, struct error *err);
void generator_destroy(struct generator *g);

/* Called after each chunk of a prompt; false: stop there. May be NULL. */
typedef bool generator_progress_fn(void *arg, uint32_t done_tokens, uint32_t total_tokens);

/*
 * Starts a sequence with this prompt. E_LIMIT, computing nothing, when it leaves no room for a token
 * in the context; E_INVAL for an id outside the vocabulary or an empty prompt. *whole: progress() did
 * not stop it; otherwise only generator_prompt() may follow.
 */
enum status generator_prompt(struct generator *g, const int32_t *ids, uint32_t n,
	generator_progress_fn *progress, void *arg, bool *whole, struct error *err);

/* The next token: chosen under the rules, then computed on the next call. E_LIMIT at the end of the context. */
enum status generator_next(struct generator *g, const struct sampling_params *params,
	const struct logits_rules *rules, int32_t *id, struct error *err);

/* Tokens in the sequence, prompt included; room for more. */
uint32_t generator_tokens(const struct generator *g);
uint32_t generator_room(const struct generator *g);
/* Logits of the next token, F32 [vocab_size], until the next call. */
const float *generator_logits(const struct generator *g);
/* Prompt tokens that the last generator_prompt() found in the cache. */
uint32_t generator_cached(const struct generator *g);

#endif
