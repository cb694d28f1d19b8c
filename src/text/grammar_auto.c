/*
 * The automaton over a grammar's states, built as texts walk it (text/grammar_int.h).
 *
 * Invariant: a set of configs holds only states that read something, and the end of the whole text; each is
 * sorted, so equal sets have equal numbers. A set of more than MAX_CONFIGS counts as dead, and so do one whose
 * stacks are deeper than MAX_DEPTHS together and a stack deeper than MAX_DEPTH: all three only take texts away, and
 * depend on nothing but the text.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/grammar_int.h"

#define MAX_CONFIGS CONSTRAINT_MAX_WAYS
#define MAX_DEPTH 1000u
#define MAX_DEPTHS 32768u
#define SEEN_SLOTS (8u * MAX_CONFIGS)
#define SOFT_BYTES ((size_t)4 << 20)

/* Scratch of one step. */
struct auto_closure {
	struct auto_config set[MAX_CONFIGS], todo[4 * MAX_CONFIGS];
	struct auto_config seen[SEEN_SLOTS];
	uint32_t stamp[SEEN_SLOTS];
	uint32_t path[MAX_DEPTH];
	uint32_t now;
	uint32_t n_set, n_todo, n_seen, depths;
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
	k->n_set = k->n_todo = k->n_seen = k->depths = 0;
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

static void keep(struct automaton *a, struct auto_config c)
{
	struct auto_closure *k = a->closure;

	if (c.stack != AUTO_NO_STACK)
		k->depths += a->stacks[c.stack].depth;
	if (k->n_set == MAX_CONFIGS || k->depths > MAX_DEPTHS)
		k->over = true;
	else
		k->set[k->n_set++] = c;
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
			keep(a, c);
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
	a->edges = mem_grow(a->edges, &a->cap_edges, at + row, sizeof(*a->edges));
	for (size_t i = 0; i < row; i++)
		a->edges[at + i] = (struct auto_edge){ .to = AUTO_UNKNOWN };
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

/* The number of the set that the scratch holds. */
static uint32_t number_of_set(struct automaton *a)
{
	struct auto_closure *k = a->closure;
	uint32_t slot, id;

	if (k->over || (k->n_set == 0 && !k->accepts))
		return AUTO_DEAD;
	qsort(k->set, k->n_set, sizeof(*k->set), config_cmp);
	slot = hash_set_of(k->set, k->n_set, k->accepts) & a->state_table.mask;
	for (; (id = a->state_table.slots[slot]) != AUTO_UNKNOWN; slot = (slot + 1) & a->state_table.mask) {
		if (same_set(a, id, k->set, k->n_set, k->accepts))
			return id;
	}
	id = add_state(a, k);
	a->state_table.slots[slot] = id;
	if (++a->state_table.used > a->state_table.mask / 2)
		grow_states(a);
	return id;
}

static uint32_t finish(struct automaton *a)
{
	close_set(a);
	return number_of_set(a);
}

uint32_t auto_step_slow(struct automaton *a, uint32_t state, uint32_t class)
{
	const struct auto_closure *k = a->closure;
	uint8_t byte = a->nfa->byte_of[class];
	struct auto_edge *e;
	uint32_t to, cost;

	begin(a);
	for (uint32_t i = 0; i < a->states[state].n; i++) {
		struct auto_config c = a->configs[a->states[state].at + i];
		const struct nfa_state *s = &a->nfa->states[c.state];

		if (s->kind == NFA_SET && nfa_has(a->nfa, s->a, byte))
			visit(a, s->b, c.stack);
	}
	to = finish(a);
	cost = 1 + a->states[state].n / 8 + k->n_seen + 4 * k->n_set + a->nfa->n_classes / 4; /* time, and memory */
	e = &a->edges[(size_t)state * a->nfa->n_classes + class];
	*e = (struct auto_edge){ .to = to, .cost = cost < UINT16_MAX ? (uint16_t)cost : UINT16_MAX, .stamp = e->stamp };
	return to;
}

struct auto_walk auto_walk_begin(struct automaton *a, uint32_t work)
{
	if (++a->walk == 0) { /* the numbers are used up: all edges are as if no walk had come by */
		for (size_t i = 0; i < a->n_states * a->nfa->n_classes; i++)
			a->edges[i].stamp = 0;
		a->walk = 1;
	}
	return (struct auto_walk){ a, work, a->walk };
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

static void lead_nowhere(struct automaton *a, uint32_t state)
{
	for (uint32_t c = 0; c < a->nfa->n_classes; c++)
		a->edges[(size_t)state * a->nfa->n_classes + c].to = AUTO_DEAD;
}

struct auto_closure *auto_closure_create(void)
{
	return mem_alloc(sizeof(struct auto_closure));
}

size_t auto_closure_bytes(void)
{
	return sizeof(struct auto_closure);
}

struct automaton *auto_create(const struct nfa *nfa, struct auto_closure *closure)
{
	struct automaton *a = mem_alloc(sizeof(*a));

	*a = (struct automaton){ .nfa = nfa, .closure = closure };
	table_init(&a->state_table, 256);
	table_init(&a->stack_table, 256);
	for (uint32_t id = AUTO_DEAD; id <= AUTO_ENDED; id++)
		lead_nowhere(a, new_state(a));
	a->states[AUTO_ENDED].accepts = 1;
	begin(a);
	visit(a, nfa->entry[nfa->root], AUTO_NO_STACK);
	if (finish(a) != AUTO_START) /* its beginning alone is more than a set holds */
		lead_nowhere(a, new_state(a));
	return a;
}

void auto_destroy(struct automaton *a)
{
	if (!a)
		return;
	free(a->states);
	free(a->edges);
	free(a->configs);
	free(a->stacks);
	free(a->state_table.slots);
	free(a->stack_table.slots);
	free(a->moved);
	free(a);
}

size_t auto_bytes(const struct automaton *a)
{
	return a->cap_states * sizeof(*a->states) + a->cap_edges * sizeof(*a->edges) +
		a->cap_configs * sizeof(*a->configs) + a->cap_stacks * sizeof(*a->stacks) +
		((size_t)a->state_table.mask + a->stack_table.mask + 2) * sizeof(uint32_t) +
		(a->moved ? a->n_stacks * sizeof(*a->moved) : 0) + sizeof(*a);
}

/* What is needed, of the arrays: their room doubles. */
static size_t used_bytes(const struct automaton *a)
{
	return a->n_states * (sizeof(*a->states) + a->nfa->n_classes * sizeof(*a->edges)) +
		a->n_configs * sizeof(*a->configs) + a->n_stacks * sizeof(*a->stacks);
}

/* As much as came over may be added before all moves again, so that moving stays a part of the work. */
bool auto_is_full(const struct automaton *a)
{
	size_t soft = 2 * a->moved_bytes > SOFT_BYTES ? 2 * a->moved_bytes : SOFT_BYTES;

	return used_bytes(a) > soft;
}

/* --- moving ---------------------------------------------------------------------------------------------- */

/* A stack's number in `to`: down to what has moved already, and up again. */
static uint32_t move_stack(struct automaton *to, struct automaton *from, uint32_t stack)
{
	uint32_t *path = to->closure->path, n = 0, at = AUTO_NO_STACK;

	for (; stack != AUTO_NO_STACK; stack = from->stacks[stack].below) {
		if (from->moved[stack] != AUTO_UNKNOWN) {
			at = from->moved[stack];
			break;
		}
		path[n++] = stack;
	}
	while (n) {
		at = push(to, from->stacks[path[--n]].ret, at);
		from->moved[path[n]] = at;
	}
	return at;
}

uint32_t auto_move(struct automaton *to, struct automaton *from, uint32_t state)
{
	const struct auto_state *s = &from->states[state];
	struct auto_closure *k = to->closure;
	size_t before = used_bytes(to);
	uint32_t id;

	if (state <= AUTO_START)
		return state;
	if (!from->moved) {
		from->moved = mem_alloc((from->n_stacks + 1) * sizeof(*from->moved));
		memset(from->moved, 0xFF, from->n_stacks * sizeof(*from->moved));
	}
	begin(to);
	k->accepts = s->accepts;
	for (uint32_t i = 0; i < s->n; i++) {
		struct auto_config c = from->configs[s->at + i];

		k->set[k->n_set++] = (struct auto_config){ c.state, move_stack(to, from, c.stack) };
	}
	id = number_of_set(to);
	to->moved_bytes += used_bytes(to) - before;
	return id;
}
