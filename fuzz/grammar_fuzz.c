/*
 * Any bytes as the source of a grammar: refused with a message, or compiled and walked for a while under its
 * masks, where a token is accepted exactly when the mask says so, and there is always a next one.
 *
 * The first byte chooses: r a regular expression, e an EBNF text, c a list of choices, t a list of tools; s, or
 * anything else, a JSON schema.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/random.h"
#include "text/grammar.h"

#define STEPS 24

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tokenizer *tok;
static struct grammar_vocab *vocab;
static struct grammar_tool_format format;
static uint32_t n_ids, *mask;

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void open_vocab(void)
{
	static const int32_t eos = 1;
	struct error err;

	require(tokenizer_open(&tok, MODEL, &err) == OK);
	n_ids = (uint32_t)tokenizer_n_ids(tok);
	require(grammar_vocab_create(&vocab, tok, n_ids, &eos, 1, &err) == OK);
	require(grammar_tool_format_find(&format, tok, &err) == OK);
	mask = mem_alloc(constraint_words(n_ids) * sizeof(*mask));
}

static bool is_utf8(const char *text, size_t len)
{
	json_t *s = json_stringn(text, len);

	json_decref(s);
	return s != NULL;
}

static enum status compile(struct grammar **g, char kind, const char *text, size_t len, struct error *err)
{
	const struct grammar_json_options options = { .compact = len % 3 == 0, .closed = len % 5 == 0 };
	enum status st;
	json_t *v;

	if (kind == 'r' || kind == 'e') {
		if (!is_utf8(text, len)) /* as the strings of a request's JSON are */
			return error_set(err, E_INVAL, "not UTF-8");
		return kind == 'r' ? grammar_from_regex(g, vocab, text, len, err) : grammar_from_ebnf(g, vocab, text, len, err);
	}
	TRY(json_load_text(&v, text, len, "input", err));
	st = kind == 'c' ? grammar_from_choice(g, vocab, v, err) :
		kind == 't' ? grammar_from_tools(g, vocab, &format, v, NULL, true, err) :
		grammar_from_schema(g, vocab, v, &options, err);
	json_decref(v);
	return st;
}

static bool allowed(uint32_t id)
{
	return mask[id / 32] >> (id % 32) & 1;
}

static void walk(struct grammar *g, uint64_t seed)
{
	struct constraint *c = grammar_matcher_create(g);

	for (uint64_t step = 0; step < STEPS; step++) {
		uint32_t from = (uint32_t)(random_u64(seed, 2 * step) % n_ids), n = 0;
		uint32_t probe = (uint32_t)(random_u64(seed, 2 * step + 1) % n_ids);
		enum constraint_next next = constraint_fill(c, mask, n_ids);

		if (allowed(probe)) {
			require(constraint_accept(c, (int32_t)probe));
			constraint_rollback(c, 1);
		}
		while (n < n_ids && !allowed((from + n) % n_ids))
			n++;
		if (n == n_ids) /* a grammar beyond the automaton's bounds: nothing is offered, nothing is accepted */
			break;
		require(constraint_accept(c, (int32_t)((from + n) % n_ids)));
		require(next == CONSTRAINT_MORE || grammar_matcher_accepts(c));
	}
	constraint_destroy(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err = { 0 };
	struct grammar *g;
	char kind = 's';

	if (!vocab)
		open_vocab();
	if (size && strchr("rects", (char)data[0]) && data[0]) {
		kind = (char)data[0];
		data++;
		size--;
	}
	if (compile(&g, kind, (const char *)data, size, &err) != OK) {
		require(err.msg[0] != 0);
		return 0;
	}
	walk(g, size);
	walk(g, size + 1);
	grammar_unref(g);
	return 0;
}
