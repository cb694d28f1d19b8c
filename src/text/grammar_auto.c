/*
 * The automaton over a grammar's states, built as texts walk it (text/grammar_int.h).
 *
 * Invariant: a set of configs holds only states that read something, and the end of the whole text; each is
 * sorted, so equal sets have equal numbers. A set with more than MAX_CONFIGS counts as dead, and so does a
 * stack deeper than MAX_DEPTH: both only take texts away.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/grammar_int.h"

#define MAX_CONFIGS 2048u
#define MAX_DEPTH 1000u
#define SEEN_SLOTS (8u * MAX_CONFIGS)
#define SOFT_BYTES ((size_t)6 << 20)
#define MOST_SOFT_BYTES ((size_t)64 << 20)
#define WALK_BYTES ((size_t)6 << 20) /* that one walk of the vocabulary may add past the soft bound */

/* Scratch of one step. */
struct auto_closure {
	struct auto_config set[MAX_CONFIGS], todo[4 * MAX_CONFIGS];
	struct auto_config seen[SEEN_SLOTS];
	uint32_t stamp[SEEN_SLOTS];
	uint32_t now;
	uint32_t n_set, n_todo, n_seen;
	bool accepts, over;
};

static uint32_t hash_words(const uint32_t *w, size_t n)
{
	uint64_t h = n;

	for (size_t i = 0; i < n; i++)
		h = (h ^ w[i]) * 0x9E3779B97F4A7C15u, h ^= h >> 29;
	return (uint32_t)(h >> 16);
}

static void table_init(struct auto_table *t, uint32_t size)
{
	t->slots = mem_realloc(t->slots, size * sizeof(*t->slots));
	t->mask = size - 1;
	t->used = 0;
	memset(t->slots, 0xFF, size * sizeof(*t->slots));
}

/* --- stacks ---------------------------------------------------------------------------------------------- */

static uint32_t stack_slot(const struct automaton *a, uint32_t ret, uint32_t below)
{
	uint32_t key[2] = { ret, below }, slot = hash_words(key, 2) & a->stack_table.mask, id;

	for (; (id = a->stack_table.slots[slot]) != AUTO_UNKNOWN; slot = (slot + 1) & a->stack_table.mask) {
		if (a->stacks[id].ret == ret && a->stacks[id].below == below)
			break;
	}
	return slot;
}

static void grow_stacks(struct automaton *a)
{
	table_init(&a->stack_table, 2 * (a->stack_table.mask + 1));
	for (uint32_t id = 0; id < a->n_stacks; id++)
		a->stack_table.slots[stack_slot(a, a->stacks[id].ret, a->stacks[id].below)] = id;
	a->stack_table.used = (uint32_t)a->n_stacks;
}

/* AUTO_UNKNOWN when it is too deep. */
static uint32_t push(struct automaton *a, uint32_t ret, uint32_t below)
{
	uint32_t depth = below == AUTO_NO_STACK ? 1 : a->stacks[below].depth + 1, slot, id;

	if (depth > MAX_DEPTH || a->n_stacks >= AUTO_UNKNOWN - 1)
		return AUTO_UNKNOWN;
	slot = stack_slot(a, ret, below);
	id = a->stack_table.slots[slot];
	if (id != AUTO_UNKNOWN)
		return id;
	a->stacks = mem_grow(a->stacks, &a->cap_stacks, a->n_stacks + 1, sizeof(*a->stacks));
	id = (uint32_t)a->n_stacks++;
	a->stacks[id] = (struct auto_stack){ ret, below, depth };
	a->stack_table.slots[slot] = id;
	if (++a->stack_table.used > a->stack_table.mask / 2)
		grow_stacks(a);
	return id;
}

/* --- sets ------------------------------------------------------------------------------------------------ */

static void begin(struct automaton *a)
{
	struct auto_closure *k = a->closure;

	if (++k->now == 0) {
		memset(k->stamp, 0, sizeof(k->stamp));
		k->now = 1;
	}
	k->n_set = k->n_todo = k->n_seen = 0;
	k->accepts = k->over = false;
}

static void visit(struct automaton *a, uint32_t state, uint32_t stack)
{
	struct auto_closure *k = a->closure;
	uint32_t key[2] = { state, stack }, slot = hash_words(key, 2) % SEEN_SLOTS;

	if (a->nfa->states[state].dead || k->over)
		return;
	for (; k->stamp[slot] == k->now; slot = (slot + 1) % SEEN_SLOTS) {
		if (k->seen[slot].state == state && k->seen[slot].stack == stack)
			return;
	}
	if (k->n_todo == 4 * MAX_CONFIGS || k->n_seen == SEEN_SLOTS / 2) {
		k->over = true;
		return;
	}
	k->n_seen++;
	k->stamp[slot] = k->now;
	k->seen[slot] = (struct auto_config){ state, stack };
	k->todo[k->n_todo++] = k->seen[slot];
}

/* A call: the last one of a rule returns to where the rule itself does. */
static void visit_call(struct automaton *a, const struct nfa_state *s, uint32_t stack)
{
	if (a->nfa->states[s->b].kind != NFA_FINAL) {
		stack = push(a, s->b, stack);
		if (stack == AUTO_UNKNOWN)
			return;
	}
	visit(a, a->nfa->entry[s->a], stack);
}

/* Follows what reads nothing; what reads or ends stays in the set. */
static void close_set(struct automaton *a)
{
	struct auto_closure *k = a->closure;

	while (k->n_todo && !k->over) {
		struct auto_config c = k->todo[--k->n_todo];
		const struct nfa_state *s = &a->nfa->states[c.state];

		switch ((enum nfa_kind)s->kind) {
		case NFA_SPLIT:
			visit(a, s->a, c.stack);
			visit(a, s->b, c.stack);
			break;
		case NFA_CALL:
			visit_call(a, s, c.stack);
			break;
		case NFA_FINAL:
			if (c.stack == AUTO_NO_STACK)
				k->accepts = true;
			else
				visit(a, a->stacks[c.stack].ret, a->stacks[c.stack].below);
			break;
		case NFA_SET:
		case NFA_TOKEN:
			if (k->n_set == MAX_CONFIGS)
				k->over = true;
			else
				k->set[k->n_set++] = c;
			break;
		}
	}
}

static int config_cmp(const void *pa, const void *pb)
{
	const struct auto_config *a = pa, *b = pb;

	if (a->state != b->state)
		return a->state < b->state ? -1 : 1;
	return a->stack < b->stack ? -1 : a->stack > b->stack;
}

static uint32_t hash_set_of(const struct auto_config *set, uint32_t n, bool accepts)
{
	return hash_words(&set->state, 2 * (size_t)n) + accepts;
}

static bool same_set(const struct automaton *a, uint32_t id, const struct auto_config *set, uint32_t n, bool accepts)
{
	const struct auto_state *s = &a->states[id];

	return s->n == n && s->accepts == accepts && (n == 0 ||
		memcmp(a->configs + s->at, set, n * sizeof(*set)) == 0);
}

static uint32_t new_state(struct automaton *a)
{
	size_t row = a->nfa->n_classes, at = a->n_states * row;

	a->states = mem_grow(a->states, &a->cap_states, a->n_states + 1, sizeof(*a->states));
	a->next = mem_grow(a->next, &a->cap_next, at + row, sizeof(*a->next));
	for (size_t i = 0; i < row; i++)
		a->next[at + i] = AUTO_UNKNOWN;
	a->states[a->n_states] = (struct auto_state){ .mask = -1 };
	return (uint32_t)a->n_states++;
}

static uint32_t add_state(struct automaton *a, const struct auto_closure *k)
{
	uint32_t id = new_state(a);
	struct auto_state *s = &a->states[id];

	a->configs = mem_grow(a->configs, &a->cap_configs, a->n_configs + k->n_set, sizeof(*a->configs));
	if (k->n_set)
		memcpy(a->configs + a->n_configs, k->set, k->n_set * sizeof(*k->set));
	s->at = (uint32_t)a->n_configs;
	s->n = k->n_set;
	s->accepts = k->accepts;
	a->n_configs += k->n_set;
	for (uint32_t i = 0; i < k->n_set; i++)
		s->has_token |= a->nfa->states[k->set[i].state].kind == NFA_TOKEN;
	return id;
}

static void grow_states(struct automaton *a)
{
	table_init(&a->state_table, 2 * (a->state_table.mask + 1));
	for (uint32_t id = AUTO_START; id < a->n_states; id++) {
		const struct auto_state *s = &a->states[id];
		uint32_t slot = hash_set_of(a->configs + s->at, s->n, s->accepts) & a->state_table.mask;

		while (a->state_table.slots[slot] != AUTO_UNKNOWN)
			slot = (slot + 1) & a->state_table.mask;
		a->state_table.slots[slot] = id;
	}
	a->state_table.used = (uint32_t)a->n_states;
}

/* The number of the set that was visited. */
static uint32_t finish(struct automaton *a)
{
	struct auto_closure *k = a->closure;
	uint32_t slot, id;

	close_set(a);
	a->work += k->n_seen + 4 * k->n_set + 1;
	if (k->over || (k->n_set == 0 && !k->accepts))
		return AUTO_DEAD;
	qsort(k->set, k->n_set, sizeof(*k->set), config_cmp);
	slot = hash_set_of(k->set, k->n_set, k->accepts) & a->state_table.mask;
	for (; (id = a->state_table.slots[slot]) != AUTO_UNKNOWN; slot = (slot + 1) & a->state_table.mask) {
		if (same_set(a, id, k->set, k->n_set, k->accepts))
			return id;
	}
	if (auto_bytes(a) > a->soft_bytes + WALK_BYTES)
		return AUTO_DEAD;
	id = add_state(a, k);
	a->state_table.slots[slot] = id;
	if (++a->state_table.used > a->state_table.mask / 2)
		grow_states(a);
	return id;
}

uint32_t auto_step_slow(struct automaton *a, uint32_t state, uint32_t class)
{
	uint8_t byte = a->nfa->byte_of[class];
	uint32_t to;

	if (a->work >= a->until)
		return AUTO_DEAD;
	begin(a);
	for (uint32_t i = 0; i < a->states[state].n; i++) {
		struct auto_config c = a->configs[a->states[state].at + i];
		const struct nfa_state *s = &a->nfa->states[c.state];

		if (s->kind == NFA_SET && nfa_has(a->nfa, s->a, byte))
			visit(a, s->b, c.stack);
	}
	to = finish(a);
	a->next[(size_t)state * a->nfa->n_classes + class] = to;
	return to;
}

uint32_t auto_step_token(struct automaton *a, uint32_t state, int32_t id)
{
	if (!a->states[state].has_token)
		return AUTO_DEAD;
	begin(a);
	for (uint32_t i = 0; i < a->states[state].n; i++) {
		struct auto_config c = a->configs[a->states[state].at + i];
		const struct nfa_state *s = &a->nfa->states[c.state];

		if (s->kind == NFA_TOKEN && s->a == (uint32_t)id)
			visit(a, s->b, c.stack);
	}
	return finish(a);
}

/* --- life ------------------------------------------------------------------------------------------------ */

static void start(struct automaton *a)
{
	uint32_t root;

	a->n_states = a->n_configs = a->n_stacks = 0;
	table_init(&a->state_table, 256);
	table_init(&a->stack_table, 256);
	for (uint32_t id = AUTO_DEAD; id <= AUTO_ENDED; id++) {
		uint32_t at = new_state(a);

		for (uint32_t c = 0; c < a->nfa->n_classes; c++)
			a->next[(size_t)at * a->nfa->n_classes + c] = AUTO_DEAD;
	}
	a->states[AUTO_ENDED].accepts = 1;
	begin(a);
	visit(a, a->nfa->entry[a->nfa->root], AUTO_NO_STACK);
	root = finish(a);
	if (root != AUTO_START) { /* its beginning alone is more than a set holds */
		root = new_state(a);
		for (uint32_t c = 0; c < a->nfa->n_classes; c++)
			a->next[(size_t)root * a->nfa->n_classes + c] = AUTO_DEAD;
	}
}

void auto_init(struct automaton *a, const struct nfa *nfa)
{
	*a = (struct automaton){ .nfa = nfa, .until = UINT64_MAX, .soft_bytes = SOFT_BYTES };
	a->closure = mem_alloc(sizeof(*a->closure));
	start(a);
}

void auto_forget(struct automaton *a)
{
	a->epoch++;
	start(a);
}

void auto_deinit(struct automaton *a)
{
	free(a->states);
	free(a->next);
	free(a->configs);
	free(a->stacks);
	free(a->state_table.slots);
	free(a->stack_table.slots);
	free(a->closure);
}

size_t auto_bytes(const struct automaton *a)
{
	return a->n_states * (sizeof(*a->states) + a->nfa->n_classes * sizeof(*a->next)) +
		a->n_configs * sizeof(*a->configs) + a->n_stacks * sizeof(*a->stacks) +
		((size_t)a->state_table.mask + a->stack_table.mask) * sizeof(uint32_t);
}

bool auto_is_full(const struct automaton *a)
{
	return auto_bytes(a) > a->soft_bytes;
}

void auto_make_room(struct automaton *a)
{
	size_t want = 2 * auto_bytes(a);

	if (want > a->soft_bytes)
		a->soft_bytes = want < MOST_SOFT_BYTES ? want : MOST_SOFT_BYTES;
}
