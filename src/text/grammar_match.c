/*
 * One sequence's place in a grammar (base/constraint.h, text/grammar.h).
 *
 * A matcher remembers its tokens and the automaton's state before each. The states are numbers of one epoch
 * of the automaton; when that has forgotten, they are found again from the tokens.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/grammar_int.h"

struct step {
	int32_t id;
	uint32_t before; /* the state */
};

struct matcher {
	struct constraint base; /* first */
	struct grammar *g;      /* a reference */
	uint32_t state, epoch;
	struct step *steps; /* owned [n] */
	size_t n, cap;
};

static uint32_t step_text(struct automaton *a, const struct grammar_vocab *v, uint32_t state, int32_t id)
{
	size_t len;
	const char *bytes = tokenizer_token_bytes(v->tok, id, &len);

	if (!bytes || len == 0 || len >= GRAMMAR_MAX_TOKEN_BYTES)
		return AUTO_DEAD;
	for (size_t i = 0; i < len && state != AUTO_DEAD; i++)
		state = auto_step(a, state, (uint8_t)bytes[i]);
	return state;
}

static uint32_t step(struct grammar *g, uint32_t state, int32_t id)
{
	const struct grammar_vocab *v = g->v;

	if (id < 0 || (uint32_t)id >= v->n_ids)
		return AUTO_DEAD;
	if (grammar_vocab_is_eos(v, id))
		return g->au.states[state].accepts ? AUTO_ENDED : AUTO_DEAD;
	if (tokenizer_token_flags(v->tok, id) & (TOKEN_ADDED | TOKEN_SPECIAL))
		return auto_step_token(&g->au, state, id);
	return step_text(&g->au, v, state, id);
}

/* The caller holds the lock. */
static void settle(struct matcher *m)
{
	if (auto_is_full(&m->g->au))
		grammar_forget(m->g);
	if (m->epoch == m->g->au.epoch)
		return;
	m->epoch = m->g->au.epoch;
	m->state = AUTO_START;
	for (size_t i = 0; i < m->n; i++) {
		m->steps[i].before = m->state;
		m->state = step(m->g, m->state, m->steps[i].id);
	}
	auto_make_room(&m->g->au);
}

/* Whether any id but an end of sequence may come. */
static bool goes_on(const struct grammar_vocab *v, const uint32_t *mask)
{
	for (uint32_t i = 0, words = constraint_words(v->n_ids); i < words; i++) {
		uint32_t bits = mask[i];

		for (uint32_t k = 0; bits && k < v->n_eos; k++) {
			if ((uint32_t)v->eos[k] / 32 == i)
				bits &= ~(1u << (v->eos[k] % 32));
		}
		if (bits)
			return true;
	}
	return false;
}

static enum constraint_next fill(struct constraint *c, uint32_t *mask, uint32_t n_ids)
{
	struct matcher *m = (struct matcher *)c;
	struct grammar *g = m->g;
	uint32_t words = constraint_words(g->v->n_ids);

	BUG_ON(n_ids < g->v->n_ids);
	pthread_mutex_lock(&g->lock);
	settle(m);
	grammar_mask(g, m->state, mask);
	pthread_mutex_unlock(&g->lock);
	memset(mask + words, 0, (constraint_words(n_ids) - words) * sizeof(*mask));
	return goes_on(g->v, mask) ? CONSTRAINT_MORE : CONSTRAINT_END_ONLY;
}

static bool accept(struct constraint *c, int32_t id)
{
	struct matcher *m = (struct matcher *)c;
	uint32_t to;

	pthread_mutex_lock(&m->g->lock);
	settle(m);
	to = step(m->g, m->state, id);
	pthread_mutex_unlock(&m->g->lock);
	if (to == AUTO_DEAD)
		return false;
	m->steps = mem_grow(m->steps, &m->cap, m->n + 1, sizeof(*m->steps));
	m->steps[m->n++] = (struct step){ id, m->state };
	m->state = to;
	return true;
}

static void rollback(struct constraint *c, uint32_t n)
{
	struct matcher *m = (struct matcher *)c;

	BUG_ON(n > m->n);
	if (n == 0)
		return;
	m->n -= n;
	m->state = m->steps[m->n].before;
}

static void destroy(struct constraint *c)
{
	struct matcher *m = (struct matcher *)c;

	grammar_unref(m->g);
	free(m->steps);
	free(m);
}

static const struct constraint_ops ops = { fill, accept, rollback, destroy };

struct constraint *grammar_matcher_create(struct grammar *g)
{
	struct matcher *m = mem_alloc(sizeof(*m));

	*m = (struct matcher){ .base = { &ops }, .g = grammar_ref(g), .state = AUTO_START };
	pthread_mutex_lock(&g->lock);
	m->epoch = g->au.epoch;
	pthread_mutex_unlock(&g->lock);
	return &m->base;
}

struct constraint *grammar_matcher_fork(const struct constraint *c)
{
	const struct matcher *from = (const struct matcher *)c;
	struct matcher *m = mem_alloc(sizeof(*m));

	*m = *from;
	grammar_ref(m->g);
	m->cap = m->n;
	m->steps = mem_alloc((m->n + 1) * sizeof(*m->steps));
	if (m->n)
		memcpy(m->steps, from->steps, m->n * sizeof(*m->steps));
	return &m->base;
}

bool grammar_matcher_accepts(struct constraint *c)
{
	struct matcher *m = (struct matcher *)c;
	bool accepts;

	pthread_mutex_lock(&m->g->lock);
	settle(m);
	accepts = m->g->au.states[m->state].accepts;
	pthread_mutex_unlock(&m->g->lock);
	return accepts;
}
