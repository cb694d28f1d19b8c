/*
 * A compiled grammar: states of its rules, and the automaton that grows over them while it is used;
 * internal to text/.
 *
 * The states are a network: each rule is a graph over bytes, calls of rules and tokens. A position in a text
 * is a set of (state, stack) pairs, where a stack is a list of the states to return to. Stacks and sets are
 * numbered as they appear, so that a set is one number (`state` of the automaton), its successor by a byte
 * is one table entry, and a mask is cached by it.
 *
 * Memory of the automaton is bounded: past the bound an empty one takes its place, and each matcher carries
 * its own states over when it is used next. Only the states that matchers are in, and may come back to, live on.
 */
#ifndef TEXT_GRAMMAR_INT_H
#define TEXT_GRAMMAR_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "text/grammar.h"
#include "text/grammar_ir.h"

/* --- vocabulary (grammar_vocab.c) ------------------------------------------------------------------------ */

#define GRAMMAR_MAX_TOKEN_BYTES 256u
#define PLAIN_MAX_BYTES 32u

/* One byte on the way to tokens, in depth-first order. */
struct trie_node {
	uint32_t skip;   /* the first node that is not below this one */
	int32_t id;      /* the token that ends here; -1: none */
	uint8_t byte;
	uint8_t depth;   /* of its parent */
};

struct trie {
	struct trie_node *nodes; /* owned [n] */
	uint32_t n;
};

/*
 * Tokens that are plain text (whole code points that stand for themselves in a JSON string) are apart:
 * where any such text may come, all of them may, and only the others are walked.
 */
struct grammar_vocab {
	const struct tokenizer *tok;
	uint32_t n_ids;
	struct trie plain, rest;
	uint32_t *plain_mask; /* owned */
	int32_t *same;        /* owned [n_ids]: another token of the same bytes, or -1 */
	uint32_t plain_bytes; /* of the longest plain token */
	int32_t *eos;         /* owned */
	atomic_size_t *live_bytes; /* owned: all that its grammars hold */
	size_t max_live_bytes;
	uint32_t n_eos;
};

bool grammar_vocab_is_eos(const struct grammar_vocab *v, int32_t id);

/* --- states (grammar_nfa.c) ------------------------------------------------------------------------------ */

enum nfa_kind { NFA_FINAL, NFA_SET, NFA_SPLIT, NFA_CALL, NFA_TOKEN };

struct nfa_state {
	uint32_t kind : 3, dead : 1; /* dead: no text leads from here to the rule's end */
	uint32_t a, b; /* SET: set, next. SPLIT: next, next. CALL: rule, where to go on. TOKEN: id, next */
};

struct byte_set {
	uint64_t bits[4];
};

struct nfa {
	struct nfa_state *states; /* owned [n_states] */
	size_t n_states, cap_states;
	struct byte_set *sets; /* owned [n_sets], each once */
	size_t n_sets, cap_sets;
	uint32_t *set_slots;   /* owned; while compiling */
	uint32_t *entry;       /* owned [n_rules] */
	uint32_t *base;        /* owned [n_rules + 1]: where a rule's states begin */
	size_t n_rules;
	uint32_t root;
	uint8_t class_of[256]; /* bytes that no set tells apart */
	uint8_t byte_of[256];  /* one of each class */
	uint32_t n_classes;
};

/* From the rules of ir, beginning at `root`. */
enum status nfa_build(struct nfa *n, struct grammar_ir *ir, uint32_t root, struct error *err);
void nfa_deinit(struct nfa *n);
size_t nfa_bytes(const struct nfa *n);

static inline bool nfa_has(const struct nfa *n, uint32_t set, uint8_t byte)
{
	return n->sets[set].bits[byte / 64] >> (byte % 64) & 1;
}

/* --- automaton (grammar_auto.c) -------------------------------------------------------------------------- */

#define AUTO_DEAD 0u  /* no text leads on */
#define AUTO_ENDED 1u /* after an end of sequence */
#define AUTO_START 2u
#define AUTO_UNKNOWN UINT32_MAX
#define AUTO_NO_STACK UINT32_MAX

struct auto_config {
	uint32_t state, stack;
};

struct auto_stack {
	uint32_t ret, below;
	uint32_t depth;
};

struct auto_state {
	uint32_t at, n;   /* its configs */
	int32_t mask;     /* slot of its cached mask, -1: none */
	uint8_t accepts;
	uint8_t has_token; /* a config waits for a token of the vocabulary */
	uint8_t plain;     /* any plain text may come: 0 not known, 1 no, 2 yes */
};

/* By one class of bytes. */
struct auto_edge {
	uint32_t to;    /* AUTO_UNKNOWN: not looked at yet */
	uint16_t cost;  /* work of finding it; a matter of the state and the class alone */
	uint16_t stamp; /* the last walk that came by */
};

struct auto_table { /* numbers by hash of what they stand for */
	uint32_t *slots; /* owned [mask + 1], AUTO_UNKNOWN: free */
	uint32_t mask, used;
};

struct matcher;
struct auto_closure; /* scratch of one step */

struct automaton {
	const struct nfa *nfa;
	struct auto_state *states;
	size_t n_states, cap_states;
	struct auto_edge *edges; /* [n_states][n_classes] */
	size_t cap_edges;
	struct auto_config *configs;
	size_t n_configs, cap_configs;
	struct auto_stack *stacks;
	size_t n_stacks, cap_stacks;
	struct auto_table state_table, stack_table;
	struct auto_closure *closure; /* not owned */
	uint32_t *moved;       /* owned [n_stacks], or NULL: numbers in the automaton that took its place */
	size_t moved_bytes;    /* came from the automaton before */
	uint16_t walk;         /* number of the last walk */
	struct matcher *users; /* whose states are of this automaton */
};

struct automaton *auto_create(const struct nfa *nfa, struct auto_closure *closure);
void auto_destroy(struct automaton *a); /* NULL is fine */
struct auto_closure *auto_closure_create(void); /* freed by free() */
size_t auto_closure_bytes(void);
size_t auto_bytes(const struct automaton *a);
/* Time for an empty one. */
bool auto_is_full(const struct automaton *a);
/* Computes what an edge does not know yet. */
uint32_t auto_step_slow(struct automaton *a, uint32_t state, uint32_t class);
uint32_t auto_step_token(struct automaton *a, uint32_t state, int32_t id);
/* The state of `from` in `to`, which takes its place. */
uint32_t auto_move(struct automaton *to, struct automaton *from, uint32_t state);

static inline uint32_t auto_step(struct automaton *a, uint32_t state, uint8_t byte)
{
	uint32_t class = a->nfa->class_of[byte];
	uint32_t to = a->edges[(size_t)state * a->nfa->n_classes + class].to;

	return to != AUTO_UNKNOWN ? to : auto_step_slow(a, state, class);
}

/*
 * One of several steps that share an allowance of work: AUTO_DEAD when it is used up. Each edge counts once a
 * walk, whether it was known or not, so that what a walk finds does not depend on what was walked before.
 */
struct auto_walk {
	struct automaton *a;
	uint32_t left;
	uint16_t number;
};

static inline struct auto_walk auto_walk_begin(struct automaton *a, uint32_t work)
{
	return (struct auto_walk){ a, work, ++a->walk };
}

static inline uint32_t auto_walk_step(struct auto_walk *w, uint32_t state, uint8_t byte)
{
	uint32_t class = w->a->nfa->class_of[byte];
	struct auto_edge *e = &w->a->edges[(size_t)state * w->a->nfa->n_classes + class];

	if (e->stamp == w->number)
		return e->to;
	if (w->left == 0)
		return AUTO_DEAD;
	if (e->to == AUTO_UNKNOWN) {
		auto_step_slow(w->a, state, class);
		e = &w->a->edges[(size_t)state * w->a->nfa->n_classes + class]; /* the table may have moved */
	}
	e->stamp = w->number;
	w->left -= w->left < e->cost ? w->left : e->cost;
	return e->to;
}

/* --- grammar and masks (grammar_mask.c, grammar_match.c) ------------------------------------------------- */

#define MASK_SLOTS 128

struct mask_slot {
	uint32_t *words; /* owned; or NULL */
	uint32_t state;  /* whose it is; AUTO_UNKNOWN: nobody's */
};

struct grammar {
	atomic_uint refs;
	const struct grammar_vocab *v;
	struct nfa nfa;
	size_t nfa_bytes;
	uint8_t samples[256]; /* [n_samples] bytes, one of each sort, for the question whether any text may come */
	uint32_t n_samples;
	atomic_size_t bytes;  /* all that it holds; counted in v->live_bytes */
	_Atomic(struct matcher *) gone; /* given up, not yet freed */
	pthread_mutex_t lock; /* of what follows; whoever only makes or gives up matchers does without */
	struct auto_closure *closure;
	struct automaton *now;
	struct automaton *old; /* that some matchers have not left; or NULL */
	struct mask_slot masks[MASK_SLOTS]; /* of states of `now` */
	uint32_t next_slot;
};

/* Which ids may come in a state; the caller holds the lock. mask [constraint_words(v->n_ids)]. */
void grammar_mask(struct grammar *g, uint32_t state, uint32_t *mask);
/* Looks up what it holds; the caller holds the lock. */
void grammar_note_bytes(struct grammar *g);
/* An empty automaton, as long as there is no old one. */
void grammar_renew(struct grammar *g);
/* Frees matchers that were given up; the caller holds the lock, or the last reference. */
void grammar_reap(struct grammar *g);
/* Takes over nothing of ir. */
enum status grammar_build(struct grammar **out, const struct grammar_vocab *v, struct grammar_ir *ir,
	uint32_t root, struct error *err);

/* --- schemas (grammar_schema.c and its parts) ------------------------------------------------------------ */

/* A rule for values of a schema. root: the document that its references point into. */
enum status grammar_read_schema(uint32_t *rule, struct grammar_ir *ir, const json_t *schema,
	const struct grammar_json_options *o, struct error *err);

#endif
