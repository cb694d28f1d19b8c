/*
 * Masks: which tokens may come in a state of the automaton (text/grammar_int.h).
 *
 * One walk over the trie, cut where the automaton is dead. Where any plain text may come, as inside a JSON
 * string, the plain tokens are one copy and only the others are walked. A mask that took long is kept. One
 * that takes too long, in a grammar whose automaton grows without end, lacks tokens of several bytes: single
 * bytes always remain, so that no text is out of reach. Which tokens those are is a matter of the state alone.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/grammar_int.h"

#define KEEP_ABOVE 2000u /* nodes visited; below, walking again costs little more than copying */
#define MAX_PLAIN_STATES 512u
#define MAX_PLACES 512u
#define MAX_WORK 128000u /* of one walk, in the unit of an edge's cost: some milliseconds; ordinary grammars need a half */

static void set_bit(uint32_t *mask, uint32_t id)
{
	mask[id / 32] |= 1u << (id % 32);
}

/* Nodes visited. */
static uint32_t walk(struct auto_walk *w, const struct grammar_vocab *v, const struct trie *t, uint32_t from,
	uint32_t *mask)
{
	uint32_t at[GRAMMAR_MAX_TOKEN_BYTES + 1], visited = 0;

	at[0] = from;
	for (uint32_t i = 0; i < t->n; visited++) {
		const struct trie_node *n = &t->nodes[i];
		uint32_t to = auto_walk_step(w, at[n->depth], n->byte);

		if (to == AUTO_DEAD) {
			i = n->skip;
			continue;
		}
		for (int32_t id = n->id; id >= 0; id = v->same[id])
			set_bit(mask, (uint32_t)id);
		at[n->depth + 1] = to;
		i++;
	}
	return visited;
}

/* Tokens of one byte. */
static void first_bytes(struct automaton *a, const struct grammar_vocab *v, const struct trie *t, uint32_t from,
	uint32_t *mask)
{
	for (uint32_t i = 0; i < t->n; i = t->nodes[i].skip) {
		if (auto_step(a, from, t->nodes[i].byte) == AUTO_DEAD)
			continue;
		for (int32_t id = t->nodes[i].id; id >= 0; id = v->same[id])
			set_bit(mask, (uint32_t)id);
	}
}

/* --- any plain text? ------------------------------------------------------------------------------------- */

/* Where in a code point a position is: between two, or what may follow. */
enum phase { BETWEEN, ONE_MORE, TWO_MORE, THREE_MORE, AFTER_E0, AFTER_ED, AFTER_F0, AFTER_F4, N_PHASES };

static enum phase phase_after(enum phase p, unsigned c, bool *ok)
{
	static const struct { uint8_t lo, hi, to; } follows[N_PHASES] = {
		[ONE_MORE] = { 0x80, 0xBF, BETWEEN }, [TWO_MORE] = { 0x80, 0xBF, ONE_MORE },
		[THREE_MORE] = { 0x80, 0xBF, TWO_MORE }, [AFTER_E0] = { 0xA0, 0xBF, ONE_MORE },
		[AFTER_ED] = { 0x80, 0x9F, ONE_MORE }, [AFTER_F0] = { 0x90, 0xBF, TWO_MORE },
		[AFTER_F4] = { 0x80, 0x8F, TWO_MORE },
	};

	*ok = true;
	if (p != BETWEEN) {
		*ok = c >= follows[p].lo && c <= follows[p].hi;
		return (enum phase)follows[p].to;
	}
	if (c < 0x80) {
		*ok = c >= 0x20 && c != '"' && c != '\\';
		return BETWEEN;
	}
	*ok = c >= 0xC2 && c <= 0xF4;
	return c < 0xE0 ? ONE_MORE : c == 0xE0 ? AFTER_E0 : c == 0xED ? AFTER_ED : c < 0xF0 ? TWO_MORE :
		c == 0xF0 ? AFTER_F0 : c == 0xF4 ? AFTER_F4 : THREE_MORE;
}

/* Bytes that the phases tell apart. */
static unsigned byte_kind(unsigned c)
{
	static const uint8_t ends[] = { 0x7F, 0x8F, 0x9F, 0xBF, 0xC1, 0xDF, 0xE0, 0xEC, 0xED, 0xEF, 0xF0, 0xF3, 0xF4 };
	unsigned k = 0;

	if (c < 0x20 || c == '"' || c == '\\')
		return 15;
	while (k < sizeof(ends) && c > ends[k])
		k++;
	return k;
}

/* One byte of each sort that the grammar and the phases tell apart. */
static void find_samples(struct grammar *g)
{
	bool seen[256][16] = { { false } };

	for (unsigned c = 0x20; c < 0xF5; c++) {
		bool *is = &seen[g->nfa.class_of[c]][byte_kind(c)];

		if (!*is)
			g->samples[g->n_samples++] = (uint8_t)c;
		*is = true;
	}
}

struct plain_walk {
	struct { uint32_t state; enum phase phase; } list[MAX_PLAIN_STATES];
	uint32_t n;
	bool fails;
};

static void plain_add(struct plain_walk *w, uint32_t state, enum phase phase)
{
	for (uint32_t i = w->n; i-- > 0;) {
		if (w->list[i].state == state && w->list[i].phase == phase)
			return;
	}
	if (w->n == MAX_PLAIN_STATES) {
		w->fails = true;
		return;
	}
	w->list[w->n].state = state;
	w->list[w->n++].phase = phase;
}

/* Every plain text of up to plain_bytes bytes leads somewhere. */
static bool takes_plain(struct grammar *g, uint32_t state)
{
	struct auto_walk steps = auto_walk_begin(g->now, MAX_WORK);
	struct plain_walk w = { .n = 0 };
	uint32_t from = 0;

	plain_add(&w, state, BETWEEN);
	for (uint32_t len = 0; len < g->v->plain_bytes && from < w.n && !w.fails; len++) {
		uint32_t end = w.n;

		for (; from < end && !w.fails; from++) {
			for (uint32_t i = 0; i < g->n_samples && !w.fails; i++) {
				uint8_t c = g->samples[i];
				bool ok;
				enum phase p = phase_after(w.list[from].phase, c, &ok);
				uint32_t to = ok ? auto_walk_step(&steps, w.list[from].state, c) : AUTO_DEAD;

				if (ok && to == AUTO_DEAD)
					w.fails = true;
				else if (ok)
					plain_add(&w, to, p);
			}
		}
	}
	return !w.fails;
}

/* --- masks ----------------------------------------------------------------------------------------------- */

static uint32_t compute(struct grammar *g, uint32_t state, uint32_t *mask)
{
	const struct grammar_vocab *v = g->v;
	uint32_t words = constraint_words(v->n_ids), visited;
	struct auto_walk steps;

	memset(mask, 0, words * sizeof(*mask));
	first_bytes(g->now, v, &v->plain, state, mask);
	first_bytes(g->now, v, &v->rest, state, mask);
	if (!g->now->states[state].plain)
		g->now->states[state].plain = takes_plain(g, state) ? 2 : 1;
	steps = auto_walk_begin(g->now, MAX_WORK);
	if (g->now->states[state].plain == 2) {
		for (uint32_t i = 0; i < words; i++)
			mask[i] |= v->plain_mask[i];
		return walk(&steps, v, &v->rest, state, mask);
	}
	visited = walk(&steps, v, &v->plain, state, mask);
	return visited + walk(&steps, v, &v->rest, state, mask);
}

static void keep(struct grammar *g, uint32_t state, const uint32_t *mask)
{
	size_t bytes = constraint_words(g->v->n_ids) * sizeof(*mask);
	struct mask_slot *slot = &g->masks[g->next_slot];

	if (!slot->words)
		slot->words = mem_alloc(bytes);
	else if (slot->state != AUTO_UNKNOWN)
		g->now->states[slot->state].mask = -1;
	memcpy(slot->words, mask, bytes);
	slot->state = state;
	g->now->states[state].mask = (int32_t)g->next_slot;
	g->next_slot = (g->next_slot + 1) % MASK_SLOTS;
}

static void add_tokens(struct grammar *g, uint32_t state, uint32_t *mask)
{
	const struct auto_state *s = &g->now->states[state];

	for (uint32_t i = 0; s->has_token && i < s->n; i++) {
		const struct nfa_state *q = &g->nfa.states[g->now->configs[s->at + i].state];

		if (q->kind == NFA_TOKEN && q->a < g->v->n_ids)
			set_bit(mask, q->a);
	}
}

void grammar_mask(struct grammar *g, uint32_t state, uint32_t *mask)
{
	int32_t slot = g->now->states[state].mask;

	if (slot >= 0)
		memcpy(mask, g->masks[slot].words, constraint_words(g->v->n_ids) * sizeof(*mask));
	else if (compute(g, state, mask) > KEEP_ABOVE)
		keep(g, state, mask);
	add_tokens(g, state, mask);
	for (uint32_t i = 0; g->now->states[state].accepts && i < g->v->n_eos; i++) {
		if ((uint32_t)g->v->eos[i] < g->v->n_ids)
			set_bit(mask, (uint32_t)g->v->eos[i]);
	}
}

void grammar_renew(struct grammar *g)
{
	g->old = g->now;
	g->now = auto_create(&g->nfa, g->closure);
	for (uint32_t i = 0; i < MASK_SLOTS; i++)
		g->masks[i].state = AUTO_UNKNOWN;
}

void grammar_note_bytes(struct grammar *g)
{
	size_t bytes = sizeof(*g) + g->nfa_bytes + auto_closure_bytes() + auto_bytes(g->now) + (g->old ? auto_bytes(g->old) : 0);

	for (uint32_t i = 0; i < MASK_SLOTS && g->masks[i].words; i++)
		bytes += constraint_words(g->v->n_ids) * sizeof(uint32_t);
	atomic_fetch_add_explicit(g->v->live_bytes, bytes - grammar_bytes(g), memory_order_relaxed);
	atomic_store_explicit(&g->bytes, bytes, memory_order_relaxed);
}

/* --- grammars -------------------------------------------------------------------------------------------- */

static void grammar_free(struct grammar *g)
{
	grammar_reap(g);
	for (uint32_t i = 0; i < MASK_SLOTS; i++)
		free(g->masks[i].words);
	atomic_fetch_sub_explicit(g->v->live_bytes, grammar_bytes(g), memory_order_relaxed);
	auto_destroy(g->now);
	auto_destroy(g->old);
	free(g->closure);
	nfa_deinit(&g->nfa);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

struct places { /* that texts of the grammar come to, the nearest first */
	uint32_t list[MAX_PLACES], n;
};

static bool add_place(struct places *p, uint32_t state)
{
	for (uint32_t i = 0; i < p->n && state != AUTO_DEAD; i++) {
		if (p->list[i] == state)
			return true;
	}
	if (state != AUTO_DEAD && p->n < MAX_PLACES)
		p->list[p->n++] = state;
	return state != AUTO_DEAD;
}

/* Whether anything may come after a place; adds where that leads. */
static bool leads_on(struct places *p, struct auto_walk *w, uint32_t state)
{
	struct automaton *a = w->a;
	bool on = a->states[state].accepts;
	uint32_t last = AUTO_UNKNOWN;

	for (uint32_t c = 0; c < a->nfa->n_classes && w->left; c++)
		on |= add_place(p, auto_walk_step(w, state, a->nfa->byte_of[c]));
	for (uint32_t i = 0; i < a->states[state].n && w->left; i++) {
		const struct nfa_state *q = &a->nfa->states[a->configs[a->states[state].at + i].state];

		if (q->kind != NFA_TOKEN || q->a == last)
			continue;
		last = q->a;
		on |= add_place(p, auto_step_token(a, state, (int32_t)last));
		w->left -= w->left < a->states[state].n ? w->left : a->states[state].n;
	}
	return on || !w->left;
}

/*
 * Every text can be completed, so a place that leads nowhere is one from where the ways are too many. Those near the
 * beginning are found here, as far as a bounded walk comes.
 */
static bool finds_dead_end(struct grammar *g)
{
	struct auto_walk w = auto_walk_begin(g->now, MAX_WORK);
	struct places p = { .n = 0 };
	bool on = true;

	add_place(&p, AUTO_START);
	for (uint32_t i = 0; i < p.n && on && w.left; i++)
		on = leads_on(&p, &w, p.list[i]);
	auto_destroy(g->now);
	g->now = auto_create(&g->nfa, g->closure);
	return !on;
}

enum status grammar_build(struct grammar **out, const struct grammar_vocab *v, struct grammar_ir *ir,
	uint32_t root, struct error *err)
{
	struct grammar *g;

	if (atomic_load_explicit(v->live_bytes, memory_order_relaxed) > v->max_live_bytes)
		return error_set(err, E_NOMEM, "the grammars of requests in flight fill their memory of %zu MiB",
			v->max_live_bytes >> 20);
	g = mem_alloc(sizeof(*g));
	g->v = v;
	atomic_init(&g->refs, 1);
	if (nfa_build(&g->nfa, ir, root, err) != OK) {
		nfa_deinit(&g->nfa);
		free(g);
		return err->code;
	}
	find_samples(g);
	g->nfa_bytes = nfa_bytes(&g->nfa);
	pthread_mutex_init(&g->lock, NULL);
	g->closure = auto_closure_create();
	g->now = auto_create(&g->nfa, g->closure);
	if (finds_dead_end(g)) {
		grammar_free(g);
		return error_set(err, E_LIMIT, "there are too many ways to go on at one place of the text: at most %u are followed, "
			"fewer where they nest deep", CONSTRAINT_MAX_WAYS);
	}
	for (uint32_t i = 0; i < MASK_SLOTS; i++)
		g->masks[i].state = AUTO_UNKNOWN;
	grammar_note_bytes(g);
	*out = g;
	return OK;
}

struct grammar *grammar_ref(struct grammar *g)
{
	atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
	return g;
}

void grammar_unref(struct grammar *g)
{
	if (g && atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) == 1)
		grammar_free(g);
}

size_t grammar_bytes(struct grammar *g)
{
	return atomic_load_explicit(&g->bytes, memory_order_relaxed);
}
