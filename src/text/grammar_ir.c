/* Nodes and rules of grammars (text/grammar_ir.h). */
#include "text/grammar_ir.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "text/grammar.h"

#define MAX_IR_BYTES ((size_t)16 << 20)
#define MAX_RULES 50000u
#define CLOCK_EVERY 256u

/* Stands for every node once a bound is passed. */
static struct g_node nothing = { .kind = G_NEVER };

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void grammar_ir_init(struct grammar_ir *ir)
{
	*ir = (struct grammar_ir){ .began_ns = cpu_ns() };
	arena_init(&ir->arena, MAX_IR_BYTES);
}

void grammar_ir_deinit(struct grammar_ir *ir)
{
	arena_deinit(&ir->arena);
	free(ir->rules);
}

bool grammar_ir_late(struct grammar_ir *ir)
{
	if (!ir->late && ir->ticks++ % CLOCK_EVERY == 0)
		ir->late = cpu_ns() - ir->began_ns > GRAMMAR_MAX_COMPILE_MS * 1000000ull;
	return ir->late;
}

enum status grammar_ir_check(struct grammar_ir *ir, struct error *err)
{
	if (ir->over)
		return error_set(err, E_LIMIT, "the grammar is too large");
	if (ir->late)
		return error_set(err, E_LIMIT, "the grammar takes longer than %d ms to compile",
			GRAMMAR_MAX_COMPILE_MS);
	return OK;
}

static struct g_node *node(struct grammar_ir *ir, enum g_kind kind)
{
	struct g_node *n = grammar_ir_late(ir) || ir->over ? NULL : arena_try_alloc(&ir->arena, 1, sizeof(*n));

	if (!n) {
		ir->over |= !ir->late;
		return &nothing;
	}
	n->kind = kind;
	return n;
}

struct g_node *g_empty(struct grammar_ir *ir)
{
	return node(ir, G_EMPTY);
}

struct g_node *g_never(struct grammar_ir *ir)
{
	return node(ir, G_NEVER);
}

struct g_node *g_bytes(struct grammar_ir *ir, const char *bytes, size_t len)
{
	struct g_node *n;
	char *copy;

	if (len == 0)
		return g_empty(ir);
	n = node(ir, G_BYTES);
	if (n == &nothing)
		return n;
	copy = arena_try_alloc(&ir->arena, len, 1);
	if (!copy) {
		ir->over = true;
		return &nothing;
	}
	memcpy(copy, bytes, len);
	n->bytes = copy;
	n->n = (uint32_t)len;
	return n;
}

struct g_node *g_text(struct grammar_ir *ir, const char *text)
{
	return g_bytes(ir, text, strlen(text));
}

static struct g_node *pair(struct grammar_ir *ir, enum g_kind kind, struct g_node *a, struct g_node *b)
{
	struct g_node *n = node(ir, kind);

	if (n != &nothing) {
		n->a = a;
		n->b = b;
	}
	return n;
}

struct g_node *g_seq(struct grammar_ir *ir, struct g_node *a, struct g_node *b)
{
	if (a->kind == G_EMPTY)
		return b;
	return b->kind == G_EMPTY ? a : pair(ir, G_SEQ, a, b);
}

struct g_node *g_alt(struct grammar_ir *ir, struct g_node *a, struct g_node *b)
{
	if (!a || a->kind == G_NEVER)
		return b;
	return b->kind == G_NEVER ? a : pair(ir, G_ALT, a, b);
}

struct g_node *g_repeat(struct grammar_ir *ir, struct g_node *a, uint32_t min, uint32_t max)
{
	struct g_node *n;

	if (max == 0 || a->kind == G_EMPTY)
		return g_empty(ir);
	n = pair(ir, G_REPEAT, a, NULL);
	if (n != &nothing) {
		n->n = min;
		n->max = max;
	}
	return n;
}

struct g_node *g_optional(struct grammar_ir *ir, struct g_node *a)
{
	return g_repeat(ir, a, 0, 1);
}

static struct g_node *numbered(struct grammar_ir *ir, enum g_kind kind, uint32_t value)
{
	struct g_node *n = node(ir, kind);

	if (n != &nothing)
		n->n = value;
	return n;
}

struct g_node *g_call(struct grammar_ir *ir, uint32_t rule)
{
	return numbered(ir, G_CALL, rule);
}

struct g_node *g_token(struct grammar_ir *ir, int32_t id)
{
	return numbered(ir, G_TOKEN, (uint32_t)id);
}

uint32_t g_rule_new(struct grammar_ir *ir, const char *name)
{
	if (ir->n_rules == MAX_RULES) {
		ir->over = true;
		return 0;
	}
	ir->rules = mem_grow(ir->rules, &ir->cap_rules, ir->n_rules + 1, sizeof(*ir->rules));
	ir->rules[ir->n_rules] = (struct g_rule){ 0 };
	if (name) {
		char *copy = arena_try_alloc(&ir->arena, strlen(name) + 1, 1);

		ir->rules[ir->n_rules].name = copy ? strcpy(copy, name) : NULL;
	}
	return (uint32_t)ir->n_rules++;
}

void g_rule_set(struct grammar_ir *ir, uint32_t rule, struct g_node *n)
{
	if (rule < ir->n_rules)
		ir->rules[rule].node = n;
}

/* --- classes --------------------------------------------------------------------------------------------- */

void g_ranges_add(struct g_ranges *r, uint32_t lo, uint32_t hi)
{
	if (lo > hi)
		return;
	r->at = mem_grow(r->at, &r->cap, r->n + 1, sizeof(*r->at));
	r->at[r->n++] = (struct g_range){ lo, hi < G_MAX_CODE_POINT ? hi : G_MAX_CODE_POINT };
}

void g_ranges_deinit(struct g_ranges *r)
{
	free(r->at);
	*r = (struct g_ranges){ 0 };
}

static int range_cmp(const void *pa, const void *pb)
{
	const struct g_range *a = pa, *b = pb;

	return a->lo < b->lo ? -1 : a->lo > b->lo;
}

static void complement(struct g_ranges *r)
{
	struct g_ranges rest = { 0 };
	uint32_t from = 0;

	for (size_t i = 0; i < r->n; i++) {
		if (r->at[i].lo > from)
			g_ranges_add(&rest, from, r->at[i].lo - 1);
		from = r->at[i].hi + 1;
	}
	if (from <= G_MAX_CODE_POINT)
		g_ranges_add(&rest, from, G_MAX_CODE_POINT);
	g_ranges_deinit(r);
	*r = rest;
}

void g_ranges_settle(struct g_ranges *r, bool outside)
{
	size_t n = 0;

	if (r->n)
		qsort(r->at, r->n, sizeof(*r->at), range_cmp);
	for (size_t i = 0; i < r->n; i++) {
		if (n && r->at[i].lo <= r->at[n - 1].hi + 1)
			r->at[n - 1].hi = r->at[i].hi > r->at[n - 1].hi ? r->at[i].hi : r->at[n - 1].hi;
		else
			r->at[n++] = r->at[i];
	}
	r->n = n;
	if (outside)
		complement(r);
}

struct g_node *g_class(struct grammar_ir *ir, const struct g_range *ranges, size_t n, bool outside)
{
	struct g_ranges r = { 0 };
	struct g_node *out = node(ir, G_CLASS);
	struct g_range *copy;

	for (size_t i = 0; i < n; i++)
		g_ranges_add(&r, ranges[i].lo, ranges[i].hi);
	g_ranges_settle(&r, outside);
	copy = r.n ? arena_try_alloc(&ir->arena, r.n, sizeof(*copy)) : NULL;
	if (copy && out != &nothing) {
		memcpy(copy, r.at, r.n * sizeof(*copy));
		out->ranges = copy;
		out->n = (uint32_t)r.n;
	} else {
		ir->over |= r.n > 0 && !ir->late;
		out = &nothing;
	}
	g_ranges_deinit(&r);
	return out;
}

/* --- words ----------------------------------------------------------------------------------------------- */

static int word_cmp(const void *pa, const void *pb)
{
	const struct g_word *a = pa, *b = pb;
	size_t n = a->len < b->len ? a->len : b->len;
	int c = n ? memcmp(a->text, b->text, n) : 0;

	return c ? c : a->len < b->len ? -1 : a->len > b->len;
}

static size_t common(const struct g_word *a, const struct g_word *b, size_t from)
{
	size_t i = from;

	while (i < a->len && i < b->len && a->text[i] == b->text[i])
		i++;
	return i;
}

/* Sorted words that agree in their first `from` bytes; what follows those. */
static struct g_node *words_from(struct grammar_ir *ir, const struct g_word *w, size_t n, size_t from, int depth)
{
	struct g_node *out = NULL;
	size_t i = 0;

	while (i < n && w[i].len == from) { /* the word that ends here, however often it is named */
		out = g_empty(ir);
		i++;
	}
	while (i < n) {
		size_t end = i + 1, to;
		struct g_node *kid;

		while (end < n && w[end].text[from] == w[i].text[from])
			end++;
		to = end - i == 1 || depth == G_MAX_DEPTH ? w[i].len : common(&w[i], &w[end - 1], from);
		kid = g_bytes(ir, w[i].text + from, to - from);
		if (depth == G_MAX_DEPTH)
			end = i + 1;
		else
			kid = g_seq(ir, kid, words_from(ir, w + i, end - i, to, depth + 1));
		out = g_alt(ir, out, kid);
		i = end;
	}
	return out ? out : g_never(ir);
}

struct g_node *g_words(struct grammar_ir *ir, struct g_word *words, size_t n)
{
	qsort(words, n, sizeof(*words), word_cmp);
	return words_from(ir, words, n, 0, 0);
}
