/*
 * Rules on one row of logits, and log probabilities of it (engine/logits.h). Called once per generated
 * token; nothing is allocated after create.
 *
 * Invariant: between calls count[] is all zero, so that a penalty costs the length of the sequence and
 * not the size of the vocabulary.
 */
#include "engine/logits.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/constraint.h"
#include "base/mem.h"
#include "engine/softmax.h"

struct logits_work {
	uint32_t vocab;
	float *row;      /* owned [vocab] */
	uint32_t *count; /* owned [vocab] */
	uint32_t *mask;  /* owned [constraint_words(vocab)] */
};

struct logits_rules logits_rules_none(void)
{
	return (struct logits_rules){ .repetition_penalty = 1, .thinking_end = -1, .thinking_leaves = { -1, -1 } };
}

static enum status check_id(const char *name, uint32_t i, int32_t id, uint32_t vocab, struct error *err)
{
	if (id >= 0 && (uint32_t)id < vocab)
		return OK;
	return error_set(err, E_INVAL, "%s[%u]: found token id %d, expected 0 to %u", name, i, id, vocab - 1);
}

static enum status check_ids(const char *name, const int32_t *ids, uint32_t n, uint32_t vocab,
	struct error *err)
{
	for (uint32_t i = 0; i < n; i++)
		TRY(check_id(name, i, ids[i], vocab, err));
	return OK;
}

static enum status check_penalty(const char *name, double v, struct error *err)
{
	if (v >= -2 && v <= 2)
		return OK;
	return error_set(err, E_INVAL, "%s: found %g, expected -2 to 2", name, v);
}

enum status logits_rules_check(const struct logits_rules *r, uint32_t vocab, struct error *err)
{
	uint32_t at = 0;

	if (!(r->repetition_penalty > 0) || !isfinite(r->repetition_penalty))
		return error_set(err, E_INVAL, "repetition_penalty: found %g, expected a number above 0",
			r->repetition_penalty);
	TRY(check_penalty("frequency_penalty", r->frequency_penalty, err));
	TRY(check_penalty("presence_penalty", r->presence_penalty, err));
	TRY(check_ids("stop_token_ids", r->stop_ids, r->n_stop_ids, vocab, err));
	for (uint32_t i = 0; i < r->n_bias; i++) {
		TRY(check_id("logit_bias", i, r->bias[i].id, vocab, err));
		if (!isfinite(r->bias[i].bias))
			return error_set(err, E_INVAL, "logit_bias[%u]: found %g, expected a finite number", i,
				(double)r->bias[i].bias);
	}
	if (r->allowed && r->n_allowed == 0)
		return error_set(err, E_INVAL, "allowed_token_ids: found none, expected at least one");
	TRY(check_ids("allowed_token_ids", r->allowed, r->n_allowed, vocab, err));
	for (uint32_t i = 0; i < r->n_bad; i++) {
		if (r->bad_lengths[i] == 0)
			return error_set(err, E_INVAL, "bad_words[%u]: found no token, expected at least one", i);
		TRY(check_ids("bad_words", r->bad_ids + at, r->bad_lengths[i], vocab, err));
		at += r->bad_lengths[i];
	}
	if (r->thinking_limited)
		TRY(check_id("thinking_token_budget", 0, r->thinking_end, vocab, err));
	return OK;
}

enum status logits_work_create(struct logits_work **out, uint32_t vocab, struct error *err)
{
	struct logits_work *w = mem_alloc(sizeof(*w));

	w->vocab = vocab;
	w->row = mem_try_alloc(vocab, sizeof(*w->row));
	w->count = mem_try_alloc(vocab, sizeof(*w->count));
	w->mask = mem_try_alloc(constraint_words(vocab) + 1, sizeof(*w->mask));
	if (!w->row || !w->count || !w->mask) {
		logits_work_destroy(w);
		return error_set(err, E_NOMEM, "logits: no memory for a vocabulary of %u", vocab);
	}
	memset(w->count, 0, sizeof(*w->count) * vocab);
	*out = w;
	return OK;
}

void logits_work_destroy(struct logits_work *w)
{
	if (!w)
		return;
	free(w->row);
	free(w->count);
	free(w->mask);
	free(w);
}

uint32_t *logits_work_mask(struct logits_work *w)
{
	return w->mask;
}

static bool has_penalty(const struct logits_rules *r)
{
	return r->repetition_penalty != 1 || r->frequency_penalty != 0 || r->presence_penalty != 0;
}

/* Reasoning is due to end with this token. */
static bool ends_thinking(const struct logits_rules *r, const int32_t *generated, uint32_t n)
{
	if (!r->thinking_limited || n != r->thinking_budget)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		if (generated[i] == r->thinking_end || generated[i] == r->thinking_leaves[0] ||
			generated[i] == r->thinking_leaves[1])
			return false;
	}
	return true;
}

static bool has_rule(const struct logits_rules *r, uint32_t n_generated)
{
	return has_penalty(r) || r->thinking_only || (n_generated < r->min_tokens && r->n_stop_ids) || r->n_bias || r->allowed ||
	       r->n_bad;
}

static void copy_allowed(float *row, const struct logits_rules *r, const float *logits, uint32_t n)
{
	if (!r->allowed) {
		memcpy(row, logits, sizeof(*row) * n);
		return;
	}
	for (uint32_t i = 0; i < n; i++)
		row[i] = -INFINITY;
	for (uint32_t i = 0; i < r->n_allowed; i++) {
		if ((uint32_t)r->allowed[i] < n)
			row[r->allowed[i]] = logits[r->allowed[i]];
	}
}

/* Most words of a mask are all or nothing. */
static void apply_mask(float *row, const uint32_t *mask, uint32_t n)
{
	for (uint32_t at = 0; at < n; at += 32) {
		uint32_t bits = mask[at / 32];

		for (uint32_t i = 0; bits != UINT32_MAX && i < 32 && at + i < n; i++)
			row[at + i] = bits >> i & 1 ? row[at + i] : -INFINITY;
	}
}

/* The last token of a bad word cannot follow the others, which must all have been generated. */
static void forbid_bad(float *row, const struct logits_rules *r, uint32_t n, const int32_t *ids,
	uint32_t n_prompt, uint32_t n_ids)
{
	const int32_t *word = r->bad_ids;

	for (uint32_t i = 0; i < r->n_bad; word += r->bad_lengths[i++]) {
		uint32_t before = r->bad_lengths[i] - 1;

		if (before <= n_ids - n_prompt && (uint32_t)word[before] < n &&
			memcmp(word, ids + n_ids - before, sizeof(*ids) * before) == 0)
			row[word[before]] = -INFINITY;
	}
}

/* Penalizes each distinct id of ids[from .. n_ids) once; count[] is zero before and after. */
static void penalize(struct logits_work *w, const struct logits_rules *r, uint32_t n, const int32_t *ids,
	uint32_t n_prompt, uint32_t n_ids)
{
	uint32_t from = r->repetition_penalty != 1 ? 0 : n_prompt;

	/* Counts are one too high, so that a prompt token that was never generated is told from none. */
	for (uint32_t i = from; i < n_ids; i++) {
		uint32_t *c = &w->count[ids[i]];

		*c += (*c == 0) + (i >= n_prompt);
	}
	for (uint32_t i = from; i < n_ids; i++) {
		uint32_t count = w->count[ids[i]];
		float *x = &w->row[ids[i]];

		if (count == 0 || (uint32_t)ids[i] >= n)
			continue;
		w->count[ids[i]] = 0;
		if (r->repetition_penalty != 1)
			*x = (float)(*x > 0 ? *x / r->repetition_penalty : *x * r->repetition_penalty);
		if (count > 1)
			*x = (float)(*x - r->frequency_penalty * (count - 1) - r->presence_penalty);
	}
	for (uint32_t i = from; i < n_ids; i++)
		w->count[ids[i]] = 0;
}

const float *logits_apply(struct logits_work *w, const struct logits_rules *r, const uint32_t *mask,
	const float *logits, uint32_t n, const int32_t *ids, uint32_t n_prompt, uint32_t n_ids)
{
	BUG_ON(n > w->vocab || n_prompt > n_ids);
	if (ends_thinking(r, ids + n_prompt, n_ids - n_prompt) && (uint32_t)r->thinking_end < n) {
		for (uint32_t i = 0; i < n; i++)
			w->row[i] = -INFINITY;
		w->row[r->thinking_end] = 0;
		return w->row;
	}
	if (!mask && !has_rule(r, n_ids - n_prompt))
		return logits;
	copy_allowed(w->row, r, logits, n);
	if (mask)
		apply_mask(w->row, mask, n);
	forbid_bad(w->row, r, n, ids, n_prompt, n_ids);
	for (uint32_t i = 0; i < r->n_bias; i++) {
		if ((uint32_t)r->bias[i].id < n)
			w->row[r->bias[i].id] += r->bias[i].bias;
	}
	for (uint32_t i = 0; r->thinking_only && i < 2; i++) {
		if (r->thinking_leaves[i] >= 0 && (uint32_t)r->thinking_leaves[i] < n)
			w->row[r->thinking_leaves[i]] = -INFINITY;
	}
	if (n_ids - n_prompt < r->min_tokens || r->thinking_only) {
		for (uint32_t i = 0; i < r->n_stop_ids; i++) {
			if ((uint32_t)r->stop_ids[i] < n)
				w->row[r->stop_ids[i]] = -INFINITY;
		}
	}
	if (has_penalty(r))
		penalize(w, r, n, ids, n_prompt, n_ids);
	return w->row;
}

/* Whether logit x of id i comes before y of j. */
static bool before(float x, int32_t i, float y, int32_t j)
{
	return x > y || (x == y && i < j);
}

/* Puts id into the sorted list of at most cap ids. */
static uint32_t insert(struct logprob *top, uint32_t len, uint32_t cap, const float *logits, int32_t id)
{
	uint32_t at = len < cap ? len : cap - 1;

	if (len == cap && !before(logits[id], id, logits[top[at].id], top[at].id))
		return len;
	while (at && before(logits[id], id, logits[top[at - 1].id], top[at - 1].id)) {
		top[at] = top[at - 1];
		at--;
	}
	top[at].id = id;
	return len < cap ? len + 1 : cap;
}

/* Logits that come before that of id. */
static uint32_t count_before(const float *logits, uint32_t n, uint32_t id)
{
	float own = logits[id];
	uint32_t count = 0;

	for (uint32_t i = 0; i < id; i++)
		count += logits[i] >= own;
	for (uint32_t i = id + 1; i < n; i++)
		count += logits[i] > own;
	return count;
}

/* Of a block of ids those that belong to the likeliest, into the sorted list; returns its length. */
static uint32_t insert_block(struct logprob *top, uint32_t len, uint32_t cap, const float *logits, uint32_t at, uint32_t n)
{
	int32_t best = softmax_best(logits + at, n);

	/* Among equals the lower id is first, so a later block adds nothing without a larger logit. */
	if (len == cap && (best < 0 || !(logits[at + (uint32_t)best] > logits[top[len - 1].id])))
		return len;
	for (uint32_t i = at; i < at + n; i++) {
		if (!isnan(logits[i]))
			len = insert(top, len, cap, logits, (int32_t)i);
	}
	return len;
}

uint32_t logits_logprobs(struct logprob *own, struct logprob *top, uint32_t n_top, const float *logits,
	uint32_t n, int32_t id)
{
	int32_t best = softmax_best(logits, n);
	double norm = best < 0 ? -INFINITY : (double)logits[best], sum = 0;
	float mass[SOFTMAX_BLOCK];
	uint32_t len = 0;

	BUG_ON(id < 0 || (uint32_t)id >= n || n_top > LOGPROBS_MAX);
	for (uint32_t at = 0; at < n; at += SOFTMAX_BLOCK) {
		sum += softmax_masses(mass, logits + at, softmax_block(at, n), (float)norm, 1);
		if (n_top)
			len = insert_block(top, len, n_top, logits, at, softmax_block(at, n));
	}
	norm += log(sum);
	*own = (struct logprob){ .id = id, .rank = 1 + count_before(logits, n, (uint32_t)id),
		.value = (double)logits[id] - norm };
	for (uint32_t i = 0; i < len; i++) {
		top[i].rank = i + 1;
		top[i].value = (double)logits[top[i].id] - norm;
	}
	return len;
}
