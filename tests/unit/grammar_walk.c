/*
 * Walks grammars for tests/unit/grammar_property_test.py: one JSON object a line from standard input, one answer a line.
 *
 *   grammar_walk MODEL_DIR
 *   in:  {"schema": ... | "regex": "..." | "choice": [...] | "ebnf": "...", "options": {"compact": true, ...},
 *         "samples": 3, "seed": 1, "accept": ["text", ...], "rough": false}
 *   out: {"samples": ["text", ...], "accepts": [true, ...], "dead": 0, "compile_ms": 0.1, "mask_ms": 0.2}
 *        or {"error": "...", "compile_ms": 0.1}
 *
 * A sample is drawn token by token under the mask; where the mask is empty the walk is dead, and counted. Every
 * text is accepted in the tokenizer's tokens and again byte by byte, and each mask must agree with accept.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "text/grammar.h"

#define MAX_STEPS 4000
#define FINISH_AFTER 60

static struct tokenizer *tok;
static struct grammar_vocab *vocab;
static struct tokenizer_scratch *scratch;
static uint32_t n_ids, *mask;
static int32_t byte_id[256], eos = 1;
static unsigned long dead;
static bool rough;     /* masks may lack tokens: the grammar is beyond what a mask may cost */
static double slowest; /* mask, in ms of processor time */

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void die(const char *what)
{
	fprintf(stderr, "grammar_walk: %s\n", what);
	exit(1);
}

static bool allowed(int32_t id)
{
	return id >= 0 && (mask[id / 32] >> (id % 32) & 1);
}

static void find_bytes(void)
{
	memset(byte_id, -1, sizeof(byte_id));
	for (uint32_t id = 0; id < n_ids; id++) {
		size_t len;
		const char *bytes = tokenizer_token_bytes(tok, (int32_t)id, &len);

		if (bytes && len == 1 && !(tokenizer_token_flags(tok, (int32_t)id) & TOKEN_ADDED))
			byte_id[(unsigned char)*bytes] = (int32_t)id;
	}
}

/* Any allowed token: the first from a random place on. */
static int32_t draw(void)
{
	uint32_t from = (uint32_t)rand() % n_ids;

	for (uint32_t i = 0; i < n_ids; i++) {
		int32_t id = (int32_t)((from + i) % n_ids);

		if (allowed(id) && id != eos)
			return id;
	}
	return allowed(eos) ? eos : -1;
}

/* Random, but inclined to close what is open, the more so in a long walk. */
static int32_t choose(int step)
{
	static const char closing[] = "\"}]0,Zn+.@:/-1tTdoyac";
	bool finish = step > FINISH_AFTER;

	if (allowed(eos) && (finish || rand() % 3 == 0))
		return eos;
	if (finish && allowed(byte_id['"']) && rand() % 2)
		return byte_id['"'];
	for (size_t i = 0, from = finish && rand() % 2 ? (size_t)rand() : 0; i < sizeof(closing) - 1; i++) {
		int32_t id = byte_id[(unsigned char)closing[(from + i) % (sizeof(closing) - 1)]];

		if (allowed(id) && (finish ? rand() % 8 != 0 : rand() % 6 == 0))
			return id;
	}
	if (rand() % 3 == 0) { /* any one byte */
		for (int i = 0, from = rand() % 256; i < 256; i++) {
			if (allowed(byte_id[(from + i) % 256]))
				return byte_id[(from + i) % 256];
		}
	}
	return draw();
}

/* The mask and accept agree on random ids. */
static void check_mask(struct constraint *c)
{
	for (int i = 0; i < 8; i++) {
		int32_t id = (int32_t)((uint32_t)rand() % n_ids);
		bool yes = constraint_accept(c, id);

		if (yes != allowed(id))
			die("mask and accept differ");
		if (yes)
			constraint_rollback(c, 1);
	}
}

static json_t *sample(struct grammar *g)
{
	struct constraint *c = grammar_matcher_create(g);
	struct buf text = { 0 };
	json_t *out;

	buf_puts(&text, "");
	for (int step = 0; step < MAX_STEPS; step++) {
		const char *bytes;
		int32_t id;
		size_t len;

		double began = cpu_ms();

		constraint_fill(c, mask, n_ids);
		began = cpu_ms() - began;
		slowest = began > slowest ? began : slowest;
		if (!rough)
			check_mask(c);
		id = choose(step);
		if (id < 0) {
			dead++;
			break;
		}
		if (!constraint_accept(c, id))
			die("accept refuses what the mask allows");
		if (id == eos)
			break;
		bytes = tokenizer_token_bytes(tok, id, &len);
		buf_append(&text, bytes, len);
	}
	out = grammar_matcher_accepts(c) ? json_stringn(text.data, text.len) : json_pack("{s:s}", "unfinished", "x");
	if (!out)
		die("a sample is not UTF-8");
	constraint_destroy(c);
	buf_deinit(&text);
	return out;
}

static bool accept_ids(struct grammar *g, const int32_t *ids, size_t n)
{
	struct constraint *c = grammar_matcher_create(g);
	bool ok = true;

	for (size_t i = 0; i < n && ok; i++) {
		constraint_fill(c, mask, n_ids);
		ok = constraint_accept(c, ids[i]);
		if (ok != allowed(ids[i]))
			die("mask and accept differ");
	}
	ok = ok && grammar_matcher_accepts(c);
	constraint_fill(c, mask, n_ids);
	if (ok != (allowed(eos) && ok))
		die("the end is masked where the grammar accepts");
	constraint_destroy(c);
	return ok;
}

static bool accepts(struct grammar *g, const char *text)
{
	struct token_buf ids = { 0 };
	struct error err;
	bool by_token, by_byte;

	if (tokenizer_encode(tok, scratch, text, strlen(text), 0, &ids, &err) != OK)
		die(err.msg);
	by_token = accept_ids(g, ids.data, ids.len);
	ids.len = 0;
	for (const char *c = text; *c; c++)
		token_buf_push(&ids, byte_id[(unsigned char)*c]);
	by_byte = accept_ids(g, ids.data, ids.len);
	if (by_token != by_byte)
		die("tokens and bytes differ");
	token_buf_deinit(&ids);
	return by_byte;
}

static enum status compile(struct grammar **g, const json_t *in, struct error *err)
{
	const json_t *options = json_object_get(in, "options"), *v;
	struct grammar_json_options o = {
		.compact = json_is_true(json_object_get(options, "compact")),
		.closed = json_is_true(json_object_get(options, "closed")),
		.whitespace = json_string_value(json_object_get(options, "whitespace")),
	};

	if ((v = json_object_get(in, "regex")))
		return grammar_from_regex(g, vocab, json_string_value(v), json_string_length(v), err);
	if ((v = json_object_get(in, "ebnf")))
		return grammar_from_ebnf(g, vocab, json_string_value(v), json_string_length(v), err);
	if ((v = json_object_get(in, "choice")))
		return grammar_from_choice(g, vocab, v, err);
	return grammar_from_schema(g, vocab, json_object_get(in, "schema"), &o, err);
}

static json_t *answer(const json_t *in)
{
	json_t *samples = json_array(), *ok = json_array();
	const json_t *texts = json_object_get(in, "accept");
	struct grammar *g;
	struct error err;

	double began = cpu_ms(), compile_ms;
	bool ok_grammar = compile(&g, in, &err) == OK;

	compile_ms = cpu_ms() - began;
	rough = json_is_true(json_object_get(in, "rough"));
	if (!ok_grammar) {
		json_decref(samples);
		json_decref(ok);
		return json_pack("{s:s,s:i,s:f}", "error", err.msg, "code", err.code, "compile_ms", compile_ms);
	}
	dead = 0;
	slowest = 0;
	srand((unsigned)json_integer_value(json_object_get(in, "seed")));
	for (json_int_t i = 0; i < json_integer_value(json_object_get(in, "samples")); i++)
		json_array_append_new(samples, sample(g));
	for (size_t i = 0; i < json_array_size(texts); i++)
		json_array_append_new(ok, json_boolean(accepts(g, json_string_value(json_array_get(texts, i)))));
	grammar_unref(g);
	return json_pack("{s:o,s:o,s:I,s:f,s:f}", "samples", samples, "accepts", ok, "dead", (json_int_t)dead, "compile_ms",
		compile_ms, "mask_ms", slowest);
}

int main(int argc, char **argv)
{
	char *line = NULL;
	size_t cap = 0;
	struct error err;
	ssize_t n;

	if (argc != 2 || tokenizer_open(&tok, argv[1], &err) != OK)
		die("usage: grammar_walk MODEL_DIR");
	n_ids = (uint32_t)tokenizer_n_ids(tok);
	if (grammar_vocab_create(&vocab, tok, n_ids, &eos, 1, &err) != OK)
		die(err.msg);
	mask = mem_alloc((constraint_words(n_ids) + 1) * sizeof(*mask));
	scratch = tokenizer_scratch_create();
	find_bytes();
	while ((n = getline(&line, &cap, stdin)) > 0) {
		json_t *in = json_loadb(line, (size_t)n, 0, NULL), *out;

		if (!in)
			die("not JSON");
		out = answer(in);
		json_dumpf(out, stdout, JSON_COMPACT);
		putchar('\n');
		fflush(stdout);
		json_decref(out);
		json_decref(in);
	}
	free(line);
	free(mask);
	tokenizer_scratch_destroy(scratch);
	grammar_vocab_destroy(vocab);
	tokenizer_close(tok);
	return 0;
}
