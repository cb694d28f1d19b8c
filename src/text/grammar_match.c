/*
 * One sequence's place in a grammar (base/constraint.h, text/grammar.h).
 *
 * A matcher is a state of the grammar's automaton and the states before the last tokens. When another automaton
 * has taken that one's place, the matcher carries them over before its next step. Matchers that rest are carried
 * over by those that run, a few at a time, once the next change is due: so no step is long, and there are never
 * more than two automata.
 *
 * Making and destroying a matcher takes no lock: it enters the automaton with its first step, and leaves it when
 * somebody else has the lock.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/grammar_int.h"

#define MOVED_AT_ONCE 4

struct matcher {
	struct constraint base; /* first */
	struct grammar *g;      /* a reference */
	bool begun;             /* its owner's; what follows is under the grammar's lock from then on */
	struct automaton *a;
	struct matcher *next, **link; /* in a->users */
	struct matcher *next_gone;
	uint32_t state;
	uint32_t n, n_back;     /* tokens accepted; those that can be taken back */
	uint32_t before[CONSTRAINT_MAX_ROLLBACK]; /* [i % that]: the state before token i */
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
		return g->now->states[state].accepts ? AUTO_ENDED : AUTO_DEAD;
	if (tokenizer_token_flags(v->tok, id) & (TOKEN_ADDED | TOKEN_SPECIAL))
		return auto_step_token(g->now, state, id);
	return step_text(g->now, v, state, id);
}

/* --- which automaton --------------------------------------------------------------------------------------- */

static void enter(struct matcher *m, struct automaton *a)
{
	m->a = a;
	m->next = a->users;
	m->link = &a->users;
	if (m->next)
		m->next->link = &m->next;
	a->users = m;
}

static void leave(struct matcher *m)
{
	*m->link = m->next;
	if (m->next)
		m->next->link = m->link;
}

static void move(struct matcher *m, struct automaton *to)
{
	m->state = auto_move(to, m->a, m->state);
	for (uint32_t i = 1; i <= m->n_back; i++) {
		uint32_t *before = &m->before[(m->n - i) % CONSTRAINT_MAX_ROLLBACK];

		*before = auto_move(to, m->a, *before);
	}
	leave(m);
	enter(m, to);
}

static void drop_old(struct grammar *g)
{
	if (g->old && !g->old->users) {
		auto_destroy(g->old);
		g->old = NULL;
	}
}

void grammar_reap(struct grammar *g)
{
	struct matcher *m = atomic_exchange_explicit(&g->gone, NULL, memory_order_acquire), *next;

	for (; m; m = next) {
		next = m->next_gone;
		leave(m);
		free(m);
	}
}

/* With the lock: everything is as the next step needs it. */
static void settle(struct matcher *m)
{
	struct grammar *g = m->g;

	grammar_reap(g);
	if (!m->begun) {
		m->begun = true;
		enter(m, g->now);
	}
	if (m->a != g->now)
		move(m, g->now);
	if (auto_is_full(g->now)) {
		for (int i = 0; i < MOVED_AT_ONCE && g->old && g->old->users; i++)
			move(g->old->users, g->now);
		drop_old(g);
		if (!g->old) {
			grammar_renew(g);
			move(m, g->now);
		}
	}
	drop_old(g);
}

/* --- operations ---------------------------------------------------------------------------------------------- */

static void done(struct grammar *g)
{
	grammar_note_bytes(g);
	pthread_mutex_unlock(&g->lock);
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
	done(g);
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
	if (to != AUTO_DEAD) {
		m->before[m->n++ % CONSTRAINT_MAX_ROLLBACK] = m->state;
		m->n_back += m->n_back < CONSTRAINT_MAX_ROLLBACK;
		m->state = to;
	}
	done(m->g);
	return to != AUTO_DEAD;
}

static void rollback(struct constraint *c, uint32_t n)
{
	struct matcher *m = (struct matcher *)c;

	BUG_ON(n > m->n_back);
	if (n == 0)
		return;
	pthread_mutex_lock(&m->g->lock); /* somebody may be carrying the states over */
	m->n -= n;
	m->n_back -= n;
	m->state = m->before[m->n % CONSTRAINT_MAX_ROLLBACK];
	pthread_mutex_unlock(&m->g->lock);
}

static void destroy(struct constraint *c)
{
	struct matcher *m = (struct matcher *)c;
	struct grammar *g = m->g;

	if (m->begun) {
		m->next_gone = atomic_load_explicit(&g->gone, memory_order_relaxed);
		while (!atomic_compare_exchange_weak_explicit(&g->gone, &m->next_gone, m, memory_order_release,
			memory_order_relaxed))
			;
	} else {
		free(m);
	}
	grammar_unref(g);
}

static const struct constraint_ops ops = { fill, accept, rollback, destroy };

struct constraint *grammar_matcher_create(struct grammar *g)
{
	struct matcher *m = mem_alloc(sizeof(*m));

	*m = (struct matcher){ .base = { &ops }, .g = grammar_ref(g), .state = AUTO_START };
	return &m->base;
}

struct constraint *grammar_matcher_fork(const struct constraint *c)
{
	const struct matcher *from = (const struct matcher *)c;
	struct matcher *m = mem_alloc(sizeof(*m));
	struct grammar *g = grammar_ref(from->g);

	pthread_mutex_lock(&g->lock);
	*m = *from;
	if (m->begun)
		enter(m, from->a);
	pthread_mutex_unlock(&g->lock);
	return &m->base;
}

bool grammar_matcher_accepts(struct constraint *c)
{
	struct matcher *m = (struct matcher *)c;
	bool accepts;

	pthread_mutex_lock(&m->g->lock);
	settle(m);
	accepts = m->g->now->states[m->state].accepts;
	done(m->g);
	return accepts;
}
