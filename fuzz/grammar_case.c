/* Grammars as the fuzz targets use them (fuzz/grammar_case.h). */
#include "grammar_case.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/random.h"

#define STEPS 24
#define MAX_BACK 4

static struct tokenizer *tok;
static struct grammar_vocab *vocab;
static struct grammar_tool_format format;
static uint32_t n_ids, *mask, *again;

static void require(bool ok)
{
	if (!ok)
		abort();
}

const struct grammar_vocab *grammar_case_vocab(void)
{
	static const int32_t eos = 1;
	struct error err;

	if (vocab)
		return vocab;
	require(tokenizer_open(&tok, MODEL, &err) == OK);
	n_ids = (uint32_t)tokenizer_n_ids(tok);
	require(grammar_vocab_create(&vocab, tok, n_ids, &eos, 1, &err) == OK);
	require(grammar_tool_format_find(&format, tok, &err) == OK);
	mask = mem_alloc(constraint_words(n_ids) * sizeof(*mask));
	again = mem_alloc(constraint_words(n_ids) * sizeof(*again));
	return vocab;
}

const struct grammar_tool_format *grammar_case_format(void)
{
	grammar_case_vocab();
	return &format;
}

static bool is_utf8(const uint8_t *data, size_t size)
{
	json_t *s = json_stringn((const char *)data, size);

	json_decref(s);
	return s != NULL;
}

static bool allowed(uint32_t id)
{
	return mask[id / 32] >> (id % 32) & 1;
}

/* Back and forth again: the same mask. */
static void step_back(struct constraint *c, const int32_t *ids, uint64_t n)
{
	uint32_t back = n < MAX_BACK ? (uint32_t)n : MAX_BACK;
	struct constraint *fork = grammar_matcher_fork(c);

	constraint_rollback(fork, back);
	for (uint64_t i = n - back; i < n; i++)
		require(constraint_accept(fork, ids[i]));
	constraint_fill(fork, again, n_ids);
	require(memcmp(mask, again, constraint_words(n_ids) * sizeof(*mask)) == 0);
	constraint_destroy(fork);
}

static void walk(struct grammar *g, uint64_t seed)
{
	struct constraint *c = grammar_matcher_create(g);
	int32_t ids[STEPS];

	for (uint64_t step = 0; step < STEPS; step++) {
		uint32_t from = (uint32_t)(random_u64(seed, 2 * step) % n_ids), n = 0;
		uint32_t probe = (uint32_t)(random_u64(seed, 2 * step + 1) % n_ids);
		enum constraint_next next = constraint_fill(c, mask, n_ids);

		if (allowed(probe)) {
			require(constraint_accept(c, (int32_t)probe));
			constraint_rollback(c, 1);
		}
		if (step % 8 == 5)
			step_back(c, ids, step);
		while (n < n_ids && !allowed((from + n) % n_ids))
			n++;
		if (n == n_ids) /* a grammar beyond the automaton's bounds: nothing is offered, nothing is accepted */
			break;
		ids[step] = (int32_t)((from + n) % n_ids);
		require(constraint_accept(c, ids[step]));
		require(next == CONSTRAINT_MORE || grammar_matcher_accepts(c));
	}
	constraint_destroy(c);
}

void grammar_case_end(enum status st, struct grammar *g, const struct error *err, size_t seed)
{
	if (st != OK) {
		require(err->msg[0] != 0);
		return;
	}
	walk(g, seed);
	walk(g, seed + 1);
	grammar_unref(g);
}

int grammar_case_text(grammar_case_compile *compile, const uint8_t *data, size_t size)
{
	struct error err = { 0 };
	struct grammar *g = NULL;
	enum status st;

	if (!is_utf8(data, size))
		return 0;
	st = compile(&g, grammar_case_vocab(), (const char *)data, size, &err);
	grammar_case_end(st, g, &err, size);
	return 0;
}
