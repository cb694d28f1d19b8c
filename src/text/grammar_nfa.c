/*
 * From trees of nodes to states (text/grammar_int.h).
 *
 * States are made from the end of a text to its beginning: each node gets the state that follows it and
 * returns the state that begins it. So the last call of a rule is followed by the rule's own final state,
 * and the automaton can leave out the return.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/grammar_int.h"

#define MAX_STATES (1u << 18)
#define MAX_SETS 16384u
#define SET_SLOTS 32768u
#define SHARE_WITHIN 64u

struct builder {
	struct nfa *n;
	struct grammar_ir *ir;
};

static uint32_t add(struct builder *b, enum nfa_kind kind, uint32_t x, uint32_t y)
{
	struct nfa *n = b->n;

	if (n->n_states == MAX_STATES || grammar_ir_late(b->ir)) {
		b->ir->over |= !b->ir->late;
		return 0; /* the first rule's end; nobody walks it */
	}
	n->states = mem_grow(n->states, &n->cap_states, n->n_states + 1, sizeof(*n->states));
	n->states[n->n_states] = (struct nfa_state){ .kind = kind, .a = x, .b = y };
	return (uint32_t)n->n_states++;
}

static uint32_t hash_set(const struct byte_set *s)
{
	uint64_t h = 0;

	for (int i = 0; i < 4; i++)
		h = (h ^ s->bits[i]) * 0x9E3779B97F4A7C15u;
	return (uint32_t)(h >> 40);
}

static uint32_t intern_set(struct builder *b, const struct byte_set *s)
{
	struct nfa *n = b->n;
	uint32_t slot = hash_set(s) % SET_SLOTS;

	for (; n->set_slots[slot]; slot = (slot + 1) % SET_SLOTS) {
		if (memcmp(&n->sets[n->set_slots[slot] - 1], s, sizeof(*s)) == 0)
			return n->set_slots[slot] - 1;
	}
	if (n->n_sets == MAX_SETS) {
		b->ir->over = true;
		return 0;
	}
	n->sets = mem_grow(n->sets, &n->cap_sets, n->n_sets + 1, sizeof(*n->sets));
	n->sets[n->n_sets++] = *s;
	n->set_slots[slot] = (uint32_t)n->n_sets;
	return (uint32_t)n->n_sets - 1;
}

static void set_range(struct byte_set *s, uint8_t lo, uint8_t hi)
{
	for (unsigned c = lo; c <= hi; c++)
		s->bits[c / 64] |= 1ull << (c % 64);
}

/* A state that reads one byte; one made since `since` with the same meaning serves again. */
static uint32_t add_set(struct builder *b, const struct byte_set *s, uint32_t next, size_t since)
{
	uint32_t set = intern_set(b, s);
	size_t end = b->n->n_states, from = end > since + SHARE_WITHIN ? end - SHARE_WITHIN : since;

	for (size_t i = from; i < end; i++) {
		const struct nfa_state *q = &b->n->states[i];

		if (q->kind == NFA_SET && q->a == set && q->b == next)
			return (uint32_t)i;
	}
	return add(b, NFA_SET, set, next);
}

static uint32_t either(struct builder *b, uint32_t x, uint32_t y)
{
	return x == AUTO_UNKNOWN ? y : add(b, NFA_SPLIT, y, x);
}

/* --- code points to bytes -------------------------------------------------------------------------------- */

struct class_build {
	struct builder *b;
	uint32_t next, entry;
	size_t since;
	struct byte_set ascii;
};

static int encode(uint8_t out[4], uint32_t c)
{
	if (c < 0x800) {
		out[0] = (uint8_t)(0xC0 | c >> 6);
		out[1] = (uint8_t)(0x80 | (c & 63));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (uint8_t)(0xE0 | c >> 12);
		out[1] = (uint8_t)(0x80 | (c >> 6 & 63));
		out[2] = (uint8_t)(0x80 | (c & 63));
		return 3;
	}
	out[0] = (uint8_t)(0xF0 | c >> 18);
	out[1] = (uint8_t)(0x80 | (c >> 12 & 63));
	out[2] = (uint8_t)(0x80 | (c >> 6 & 63));
	out[3] = (uint8_t)(0x80 | (c & 63));
	return 4;
}

/* Code points of one length whose bytes vary independently. */
static void class_bytes(struct class_build *k, uint32_t lo, uint32_t hi)
{
	uint8_t x[4], y[4];
	int n = encode(x, lo);
	uint32_t at = k->next;

	encode(y, hi);
	for (int i = n - 1; i >= 0; i--) {
		struct byte_set s = { { 0 } };

		set_range(&s, x[i], y[i]);
		at = add_set(k->b, &s, at, k->since);
	}
	k->entry = either(k->b, k->entry, at);
}

/* Cuts a range above ASCII where the length of the encoding or a shared beginning ends. */
static void class_range(struct class_build *k, uint32_t lo, uint32_t hi)
{
	static const uint32_t ends[] = { 0x7FF, 0xD7FF, 0xDFFF, 0xFFFF };

	if (lo > hi)
		return;
	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
		if (lo <= ends[i] && hi > ends[i]) {
			class_range(k, lo, ends[i]);
			class_range(k, ends[i] + 1, hi);
			return;
		}
	}
	if (lo >= 0xD800 && hi <= 0xDFFF) /* surrogates are no text */
		return;
	for (uint32_t bits = 6; bits <= 18; bits += 6) {
		uint32_t m = (1u << bits) - 1;

		if ((lo & ~m) == (hi & ~m))
			continue;
		if (lo & m) {
			class_range(k, lo, lo | m);
			class_range(k, (lo | m) + 1, hi);
			return;
		}
		if ((hi & m) != m) {
			class_range(k, lo, (hi & ~m) - 1);
			class_range(k, hi & ~m, hi);
			return;
		}
	}
	class_bytes(k, lo, hi);
}

static uint32_t build_class(struct builder *b, const struct g_node *n, uint32_t next)
{
	struct class_build k = { .b = b, .next = next, .entry = AUTO_UNKNOWN, .since = b->n->n_states };
	bool ascii = n->n == 0;

	for (uint32_t i = 0; i < n->n; i++) {
		uint32_t lo = n->ranges[i].lo, hi = n->ranges[i].hi;

		if (lo < 0x80) {
			set_range(&k.ascii, (uint8_t)lo, (uint8_t)(hi < 0x7F ? hi : 0x7F));
			ascii = true;
		}
		class_range(&k, lo < 0x80 ? 0x80 : lo, hi);
	}
	if (ascii || k.entry == AUTO_UNKNOWN) /* a set of nothing reads nothing */
		k.entry = either(b, k.entry, add_set(b, &k.ascii, next, k.since));
	return k.entry;
}

/* --- nodes ----------------------------------------------------------------------------------------------- */

static uint32_t build(struct builder *b, const struct g_node *n, uint32_t next);

static uint32_t build_bytes(struct builder *b, const struct g_node *n, uint32_t next)
{
	for (uint32_t i = n->n; i-- > 0;) {
		struct byte_set s = { { 0 } };

		set_range(&s, (uint8_t)n->bytes[i], (uint8_t)n->bytes[i]);
		next = add(b, NFA_SET, intern_set(b, &s), next);
	}
	return next;
}

static uint32_t build_alt(struct builder *b, const struct g_node *n, uint32_t next)
{
	uint32_t entry = AUTO_UNKNOWN;

	for (; n->kind == G_ALT; n = n->a)
		entry = either(b, entry, build(b, n->b, next));
	return either(b, entry, build(b, n, next));
}

static uint32_t build_repeat(struct builder *b, const struct g_node *n, uint32_t next)
{
	if (n->max == G_NO_MAX) {
		uint32_t loop = add(b, NFA_SPLIT, next, next), body = build(b, n->a, loop);

		b->n->states[loop].a = body;
		next = loop;
	} else {
		uint32_t end = next;

		for (uint32_t i = n->n; i < n->max && !b->ir->over && !grammar_ir_late(b->ir); i++)
			next = add(b, NFA_SPLIT, build(b, n->a, next), end);
	}
	for (uint32_t i = 0; i < n->n && !b->ir->over && !grammar_ir_late(b->ir); i++)
		next = build(b, n->a, next);
	return next;
}

static uint32_t build(struct builder *b, const struct g_node *n, uint32_t next)
{
	struct byte_set none = { { 0 } };

	for (; n->kind == G_SEQ; n = n->a)
		next = build(b, n->b, next);
	if (b->ir->over || b->ir->late)
		return 0;
	switch (n->kind) {
	case G_EMPTY:
	case G_SEQ:
		return next;
	case G_NEVER:
		return add(b, NFA_SET, intern_set(b, &none), next);
	case G_BYTES:
		return build_bytes(b, n, next);
	case G_CLASS:
		return build_class(b, n, next);
	case G_ALT:
		return build_alt(b, n, next);
	case G_REPEAT:
		return build_repeat(b, n, next);
	case G_CALL:
		return add(b, NFA_CALL, n->n, next);
	case G_TOKEN:
		return add(b, NFA_TOKEN, n->n, next);
	}
	return next;
}

/* --- what cannot be ---------------------------------------------------------------------------------------- */

/*
 * Facts about states and rules that follow from each other: whether a text ends from there, or the empty
 * text does. States of a rule follow from earlier ones; rules are looked at backwards and forwards in turn,
 * since either order of a long chain is usual.
 */
struct facts {
	const struct nfa *n;
	uint8_t *state, *rule; /* owned, one block */
	bool (*holds)(const struct facts *f, uint32_t q);
};

static void facts_init(struct facts *f, const struct nfa *n, bool (*holds)(const struct facts *, uint32_t))
{
	f->n = n;
	f->state = mem_alloc(n->n_states + n->n_rules + 2);
	f->rule = f->state + n->n_states + 1;
	f->holds = holds;
}

static bool look_at_rule(struct facts *f, size_t r)
{
	bool changed = false;

	for (uint32_t q = f->n->base[r]; q < f->n->base[r + 1]; q++) {
		if (!f->state[q] && f->holds(f, q))
			f->state[q] = changed = true;
	}
	f->rule[r] = f->state[f->n->entry[r]];
	return changed;
}

static void find_facts(struct facts *f, struct grammar_ir *ir)
{
	bool changed = true;

	for (int pass = 0; changed && !ir->late; pass++) {
		changed = false;
		for (size_t i = 0; i < f->n->n_rules && !grammar_ir_late(ir); i++)
			changed |= look_at_rule(f, pass % 2 ? i : f->n->n_rules - 1 - i);
	}
}

static bool ends(const struct facts *f, uint32_t q)
{
	const struct nfa_state *s = &f->n->states[q];
	static const struct byte_set none;

	switch ((enum nfa_kind)s->kind) {
	case NFA_FINAL:
		return true;
	case NFA_SET:
		return f->state[s->b] && memcmp(&f->n->sets[s->a], &none, sizeof(none)) != 0;
	case NFA_SPLIT:
		return f->state[s->a] || f->state[s->b];
	case NFA_CALL:
		return f->rule[s->a] && f->state[s->b];
	case NFA_TOKEN:
		return f->state[s->b];
	}
	return false;
}

static bool can_be_empty(const struct facts *f, uint32_t q)
{
	const struct nfa_state *s = &f->n->states[q];

	return s->kind == NFA_FINAL || (s->kind == NFA_SPLIT && (f->state[s->a] || f->state[s->b])) ||
		(s->kind == NFA_CALL && f->rule[s->a] && f->state[s->b]);
}

/* Marks the states from which no text ends; an error when the root is one, or a tool's arguments. */
static enum status find_dead(struct nfa *n, struct grammar_ir *ir, struct error *err)
{
	const char *lacking = NULL;
	struct facts f;
	bool ok;

	facts_init(&f, n, ends);
	find_facts(&f, ir);
	for (size_t q = 0; q < n->n_states; q++)
		n->states[q].dead = !f.state[q];
	ok = f.rule[n->root];
	for (size_t r = 0; r < n->n_rules && !lacking; r++)
		lacking = f.rule[r] ? NULL : ir->rules[r].tool;
	free(f.state);
	TRY(grammar_ir_check(ir, err));
	if (lacking)
		return error_set(err, E_INVAL, "tool %.60s: no object satisfies its parameters", lacking);
	return ok ? OK : error_set(err, E_INVAL, "nothing can satisfy it: every text runs into an endless recursion "
		"or a contradiction");
}

struct left {
	const struct nfa *n;
	const uint8_t *rule_null;
	uint32_t *seen;  /* [n_states] the rule that came by last, + 1 */
	uint32_t *todo;  /* [n_states] */
	uint8_t *done;   /* [n_rules] no cycle from here */
};

/* Whether every rule that a text of `rule` can begin with is done. */
static bool begins_done(struct left *l, uint32_t rule)
{
	size_t n = 0;
	uint32_t mark = rule + 1;

	l->todo[n++] = l->n->entry[rule];
	l->seen[l->n->entry[rule]] = mark;
	while (n) {
		const struct nfa_state *s = &l->n->states[l->todo[--n]];
		uint32_t to[2] = { s->a, s->b };

		if (s->kind == NFA_CALL && !s->dead && !l->done[s->a])
			return false;
		for (int i = 0; i < 2; i++) {
			bool goes = s->kind == NFA_SPLIT || (i == 1 && s->kind == NFA_CALL && l->rule_null[s->a]);

			if (goes && l->seen[to[i]] != mark) {
				l->seen[to[i]] = mark;
				l->todo[n++] = to[i];
			}
		}
	}
	return true;
}

/* A rule whose text begins with itself would call itself for ever. */
static enum status refuse_left_recursion(const struct nfa *n, struct grammar_ir *ir, struct error *err)
{
	struct facts empty;
	struct left l = { .n = n };
	bool changed = true;
	size_t bad = n->n_rules;

	facts_init(&empty, n, can_be_empty);
	find_facts(&empty, ir);
	l.rule_null = empty.rule;
	l.done = mem_alloc(n->n_rules + 1);
	l.seen = mem_alloc((n->n_states + 1) * sizeof(*l.seen));
	l.todo = mem_alloc((n->n_states + 1) * sizeof(*l.todo));
	for (int pass = 0; changed && !ir->late; pass++) {
		changed = false;
		bad = n->n_rules;
		memset(l.seen, 0, n->n_states * sizeof(*l.seen));
		for (size_t i = 0; i < n->n_rules && !grammar_ir_late(ir); i++) {
			size_t r = pass % 2 ? i : n->n_rules - 1 - i;

			if (l.done[r])
				continue;
			if (begins_done(&l, (uint32_t)r))
				l.done[r] = changed = true;
			else
				bad = r;
		}
	}
	free(l.todo);
	free(l.seen);
	free(l.done);
	free(empty.state);
	TRY(grammar_ir_check(ir, err));
	if (bad == n->n_rules)
		return OK;
	return error_set(err, E_UNSUPPORTED, "left recursion%s%.80s: a text that begins with itself is not supported; "
		"write the repetition to the right", ir->rules[bad].name ? " through rule " : "",
		ir->rules[bad].name ? ir->rules[bad].name : "");
}

/* --- all ------------------------------------------------------------------------------------------------- */

static void find_classes(struct nfa *n)
{
	n->n_classes = 1;
	memset(n->class_of, 0, sizeof(n->class_of));
	for (size_t s = 0; s < n->n_sets && n->n_classes < 256; s++) {
		int to[2][256];

		memset(to, -1, sizeof(to));
		for (int c = 0; c < 256; c++) /* a class that the set cuts keeps its number for one side */
			to[nfa_has(n, (uint32_t)s, (uint8_t)c)][n->class_of[c]] = 0;
		for (int k = 0, end = (int)n->n_classes; k < end; k++) {
			if (to[0][k] == 0 && to[1][k] == 0)
				to[1][k] = (int)n->n_classes++;
			else if (to[1][k] == 0)
				to[1][k] = k;
		}
		for (int c = 0; c < 256; c++) {
			if (nfa_has(n, (uint32_t)s, (uint8_t)c))
				n->class_of[c] = (uint8_t)to[1][n->class_of[c]];
		}
	}
	for (int c = 255; c >= 0; c--)
		n->byte_of[n->class_of[c]] = (uint8_t)c;
}

static enum status build_rules(struct nfa *n, struct grammar_ir *ir, struct error *err)
{
	struct builder b = { n, ir };

	for (size_t r = 0; r < n->n_rules; r++) {
		if (!ir->rules[r].node) {
			TRY(grammar_ir_check(ir, err));
			return error_set(err, E_INVAL, "rule %.80s is used but not defined",
				ir->rules[r].name ? ir->rules[r].name : "?");
		}
		n->base[r] = (uint32_t)n->n_states;
		n->entry[r] = build(&b, ir->rules[r].node, add(&b, NFA_FINAL, 0, 0));
	}
	n->base[n->n_rules] = (uint32_t)n->n_states;
	return grammar_ir_check(ir, err);
}

enum status nfa_build(struct nfa *n, struct grammar_ir *ir, uint32_t root, struct error *err)
{
	*n = (struct nfa){ .root = root, .n_rules = ir->n_rules };
	TRY(grammar_ir_check(ir, err));
	n->entry = mem_alloc((ir->n_rules + 1) * sizeof(*n->entry));
	n->base = mem_alloc((ir->n_rules + 1) * sizeof(*n->base));
	n->set_slots = mem_alloc(SET_SLOTS * sizeof(*n->set_slots));
	TRY(build_rules(n, ir, err));
	TRY(find_dead(n, ir, err));
	TRY(refuse_left_recursion(n, ir, err));
	find_classes(n);
	free(n->set_slots);
	n->set_slots = NULL;
	n->states = mem_realloc(n->states, n->n_states * sizeof(*n->states));
	return OK;
}

size_t nfa_bytes(const struct nfa *n)
{
	return n->n_states * sizeof(*n->states) + n->cap_sets * sizeof(*n->sets) + 2 * (n->n_rules + 1) * sizeof(*n->entry);
}

void nfa_deinit(struct nfa *n)
{
	free(n->states);
	free(n->sets);
	free(n->set_slots);
	free(n->entry);
	free(n->base);
	*n = (struct nfa){ 0 };
}
