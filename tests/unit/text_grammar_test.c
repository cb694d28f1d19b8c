/*
 * Grammars and matchers over the vocabulary of DeepSeek-V3.1: regular expressions against PCRE2, masks against acceptance,
 * rollback, forks, ends, control tokens, bounds, refusals, tools, the cache.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "cm.h"
#include "base/mem.h"
#include "text/grammar.h"
#include "text/grammar_cache.h"

#define DIR TEST_DATA "/deepseek-v3.1"

static struct tokenizer *tok;
static struct tokenizer_scratch *scratch;
static struct grammar_vocab *vocab;
static struct error err;
static uint32_t n_ids, words, *mask, *other;
static const int32_t eos = 1;

static int setup(void **state)
{
	srand(5);
	if (tokenizer_open(&tok, DIR, &err) != OK)
		return -1;
	n_ids = (uint32_t)tokenizer_n_ids(tok);
	words = constraint_words(n_ids);
	mask = mem_alloc(words * sizeof(*mask));
	other = mem_alloc(words * sizeof(*other));
	scratch = tokenizer_scratch_create();
	return grammar_vocab_create(&vocab, tok, n_ids, &eos, 1, &err) == OK ? 0 : -1;
}

static int teardown(void **state)
{
	grammar_vocab_destroy(vocab);
	tokenizer_scratch_destroy(scratch);
	tokenizer_close(tok);
	free(mask);
	free(other);
	return 0;
}

static bool in_mask(int32_t id)
{
	return mask[id / 32] >> (id % 32) & 1;
}

static int32_t id_of(const char *name)
{
	int32_t id = tokenizer_token_find(tok, name, strlen(name));

	assert_true(id >= 0);
	return id;
}

/* Whether the whole text is accepted; its tokens and the masks before them must agree. */
static bool accepts(struct grammar *g, const char *text)
{
	struct token_buf ids = { 0 };
	struct constraint *c = grammar_matcher_create(g);
	bool ok = true;

	assert_int_equal(tokenizer_encode(tok, scratch, text, strlen(text), 0, &ids, &err), OK);
	for (size_t i = 0; i < ids.len && ok; i++) {
		constraint_fill(c, mask, n_ids);
		ok = constraint_accept(c, ids.data[i]);
		assert_int_equal(ok, in_mask(ids.data[i]));
	}
	ok = ok && grammar_matcher_accepts(c);
	constraint_destroy(c);
	token_buf_deinit(&ids);
	return ok;
}

static struct grammar *regex(const char *text)
{
	struct grammar *g;

	if (grammar_from_regex(&g, vocab, text, strlen(text), &err) != OK)
		fail_msg("%s: %s", text, err.msg);
	return g;
}

static struct grammar *ebnf(const char *text)
{
	struct grammar *g;

	if (grammar_from_ebnf(&g, vocab, text, strlen(text), &err) != OK)
		fail_msg("%s: %s", text, err.msg);
	return g;
}

static enum status schema_status(struct grammar **g, const char *text, struct grammar_json_options o)
{
	json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
	enum status st;

	assert_non_null(v);
	st = grammar_from_schema(g, vocab, v, &o, &err);
	json_decref(v);
	return st;
}

static struct grammar *schema(const char *text)
{
	struct grammar *g;

	if (schema_status(&g, text, (struct grammar_json_options){ 0 }) != OK)
		fail_msg("%s: %s", text, err.msg);
	return g;
}

/* --- regular expressions against PCRE2 ---------------------------------------------------------------------- */

static void put(char *out, const char *text)
{
	strcat(out, text);
}

static void random_regex(char *out, int depth)
{
	static const char *const atoms[] = { "a", "b", "c", "[ab]", "[^a]", ".", "\\w", "\\d", "é", "[a-c1]" };
	static const char *const counts[] = { "*", "+", "?", "{2}", "{1,2}", "{0,3}", "{2,}", "*?" };
	int n = 1 + rand() % 3;

	for (int i = 0; i < n; i++) {
		if (depth < 3 && rand() % 4 == 0) {
			put(out, "(?:");
			random_regex(out, depth + 1);
			put(out, ")");
		} else {
			put(out, atoms[(size_t)rand() % (sizeof(atoms) / sizeof(*atoms))]);
		}
		if (rand() % 3 == 0)
			put(out, counts[(size_t)rand() % (sizeof(counts) / sizeof(*counts))]);
		if (depth < 3 && rand() % 6 == 0) {
			put(out, "|");
			i = i ? i : 0;
		}
	}
	if (out[strlen(out) - 1] == '|')
		put(out, "a");
}

static bool pcre_matches(const char *pattern, const char *text)
{
	int code;
	PCRE2_SIZE at;
	pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED,
		&code, &at, NULL);
	pcre2_match_data *md;
	bool yes;

	if (!re)
		fail_msg("pcre2: %s", pattern);
	md = pcre2_match_data_create_from_pattern(re, NULL);
	yes = pcre2_match(re, (PCRE2_SPTR)text, strlen(text), 0, 0, md, NULL) >= 0;
	pcre2_match_data_free(md);
	pcre2_code_free(re);
	return yes;
}

static void test_regex_random(void **state)
{
	static const char *const parts[] = { "a", "b", "c", "1", "é", "ab", "x" };
	int matched = 0;

	for (int round = 0; round < 300; round++) {
		char pattern[4096] = "";
		struct grammar *g;

		random_regex(pattern, 0);
		g = regex(pattern);
		for (int k = 0; k < 20; k++) {
			char text[64] = "";

			for (int i = rand() % 6; i > 0; i--)
				strcat(text, parts[(size_t)rand() % (sizeof(parts) / sizeof(*parts))]);
			if (accepts(g, text) != pcre_matches(pattern, text))
				fail_msg("%s and %s: PCRE2 says %d", pattern, text, pcre_matches(pattern, text));
			matched += pcre_matches(pattern, text);
		}
		grammar_unref(g);
	}
	assert_true(matched > 200);
}

static void test_regex_cases(void **state)
{
	static const struct { const char *regex, *yes, *no; } cases[] = {
		{ "\\d{3}-\\d{4}", "555-0199", "555-019" }, { "^abc$", "abc", "abcd" }, { "a|^b$|c", "b", "ab" },
		{ "[\\]\\-\\\\]+", "]-\\", "a" }, { "\\x41\\u00e9\\u{1F600}", "Aé😀", "Aé" }, { "[^\\n]*", "日本語 x", "a\nb" },
		{ "(?P<year>[0-9]{4})", "2024", "24" }, { "a{,2}b", "aab", "aaab" }, { "{}", "{}", "{" }, { "[\\s\\S]", "é", "" },
		{ "[\\u4e00-\\u9fff]+", "日本", "日x" }, { "\\S+", "x", "\u00a0" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct grammar *g = regex(cases[i].regex);

		if (!accepts(g, cases[i].yes) || accepts(g, cases[i].no))
			fail_msg("%s", cases[i].regex);
		grammar_unref(g);
	}
}

static void test_ebnf(void **state)
{
	struct grammar *g = ebnf("# sums\nroot ::= sum\nsum ::= atom ( \"+\" atom )*\natom ::= [0-9]+\n  | \"(\" sum \")\"\n");

	assert_true(accepts(g, "1+(2+34)+((5))"));
	assert_false(accepts(g, "1+(2+34"));
	assert_false(accepts(g, ""));
	grammar_unref(g);
	g = ebnf("root ::= 'it''s' | \"\\x41\\n\" | [^\"a-z]{2} | .?\"z\"");
	assert_true(accepts(g, "its"));
	assert_true(accepts(g, "A\n"));
	assert_true(accepts(g, "日1"));
	assert_true(accepts(g, "éz"));
	assert_false(accepts(g, "\"1"));
	grammar_unref(g);
	g = ebnf("root ::= \"a\" root \"b\" | \"\"");
	assert_true(accepts(g, "aaaabbbb"));
	assert_false(accepts(g, "aaabbbb"));
	grammar_unref(g);
}

/* --- masks, rollback, forks ---------------------------------------------------------------------------------- */

static int32_t draw(void)
{
	uint32_t from = (uint32_t)rand() % n_ids;

	for (uint32_t i = 0; i < n_ids; i++) {
		int32_t id = (int32_t)((from + i) % n_ids);

		if (in_mask(id) && id != eos)
			return id;
	}
	return -1;
}

/* Every id: the mask is what accept says. */
static void check_whole_mask(struct constraint *c)
{
	constraint_fill(c, mask, n_ids);
	for (uint32_t id = 0; id < n_ids; id++) {
		bool yes = constraint_accept(c, (int32_t)id);

		if (yes != in_mask((int32_t)id))
			fail_msg("id %u: mask %d, accept %d", id, in_mask((int32_t)id), yes);
		if (yes)
			constraint_rollback(c, 1);
	}
}

static void test_mask_is_acceptance(void **state)
{
	struct grammar *g = schema("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"maxLength\":9},\"b\":"
		"{\"type\":\"array\",\"items\":{}}},\"required\":[\"a\",\"b\"]}");
	struct constraint *c = grammar_matcher_create(g);
	static const char text[] = "{\"a\": \"né\\n\", \"b\": [1.5, {\"k\": \"v";

	check_whole_mask(c);
	for (const char *p = text; *p; p++) {
		struct token_buf ids = { 0 };

		if ((*p & 0xC0) == 0x80 || (p[1] & 0xC0) == 0x80)
			continue;
		assert_int_equal(tokenizer_encode(tok, scratch, text, (size_t)(p - text) + 1, 0, &ids, &err), OK);
		constraint_destroy(c);
		c = grammar_matcher_create(g);
		for (size_t i = 0; i < ids.len; i++)
			assert_true(constraint_accept(c, ids.data[i]));
		check_whole_mask(c);
		token_buf_deinit(&ids);
	}
	constraint_destroy(c);
	grammar_unref(g);
}

static void test_rollback_and_fork(void **state)
{
	struct grammar *g = schema("{\"type\":\"object\"}");

	for (int round = 0; round < 20; round++) {
		struct constraint *c = grammar_matcher_create(g), *fork;
		uint32_t n = 1 + (uint32_t)rand() % 30, back = (uint32_t)rand() % (n + 1), done = 0;
		int32_t ids[32];

		while (done < n && (constraint_fill(c, mask, n_ids), ids[done] = draw()) >= 0)
			assert_true(constraint_accept(c, ids[done++]));
		back = back < done ? back : done;
		constraint_fill(c, other, n_ids);
		fork = grammar_matcher_fork(c);
		constraint_rollback(c, back);
		for (uint32_t i = done - back; i < done; i++) {
			constraint_fill(c, mask, n_ids);
			assert_true(in_mask(ids[i]));
			assert_true(constraint_accept(c, ids[i]));
		}
		constraint_fill(c, mask, n_ids);
		assert_memory_equal(mask, other, words * sizeof(*mask));
		constraint_rollback(c, done);
		constraint_fill(fork, mask, n_ids);
		assert_memory_equal(mask, other, words * sizeof(*mask));
		constraint_rollback(fork, done);
		constraint_fill(c, other, n_ids);
		constraint_fill(fork, mask, n_ids);
		assert_memory_equal(mask, other, words * sizeof(*mask));
		constraint_destroy(c);
		constraint_destroy(fork);
	}
	grammar_unref(g);
}

/* Of [a-z]*[a-m][a-z]{19}, whose automaton passes its bound of memory again and again: a text, and where it stands. */
struct long_text {
	struct constraint *c;
	bool is_a[16000];
	int n;
};

static void put_one(struct long_text *t, const int32_t ab[2])
{
	t->is_a[t->n] = rand() % 2;
	assert_true(constraint_accept(t->c, ab[!t->is_a[t->n++]]));
}

static void check_place(const struct long_text *t)
{
	assert_int_equal(grammar_matcher_accepts(t->c), t->n >= 20 && t->is_a[t->n - 20]);
}

/* Matchers that run, rest and go back find their places whatever was forgotten in between. */
static void test_forgetting(void **state)
{
	enum { N = 24 };
	struct grammar *g = regex("[a-z]*[a-m][a-z]{19}");
	struct long_text *t = mem_alloc(N * sizeof(*t));
	int32_t ab[2] = { id_of("a"), id_of("z") };
	size_t most = 0;

	for (int i = 0; i < N; i++) {
		t[i].c = grammar_matcher_create(g);
		for (int k = 0; k < 40; k++)
			put_one(&t[i], ab);
	}
	for (int round = 0; round < 12000; round++) {
		struct long_text *one = &t[round % 100 ? 0 : rand() % N];
		uint32_t back = round % 7 ? 0 : (uint32_t)rand() % CONSTRAINT_MAX_ROLLBACK;

		constraint_rollback(one->c, back);
		one->n -= (int)back;
		for (uint32_t k = 0; k <= back; k++)
			put_one(one, ab);
		check_place(one);
		if (round % 25 == 0)
			constraint_fill(one->c, mask, n_ids);
		most = grammar_bytes(g) > most ? grammar_bytes(g) : most;
	}
	for (int i = 0; i < N; i++) {
		struct constraint *fork = grammar_matcher_fork(t[i].c);

		check_place(&t[i]);
		for (int back = 1; back < 20; back++) {
			constraint_rollback(fork, 1);
			assert_int_equal(grammar_matcher_accepts(fork), t[i].is_a[t[i].n - back - 20]);
		}
		constraint_destroy(fork);
		constraint_destroy(t[i].c);
	}
	assert_true(most > 4 << 20 && most < 40 << 20);
	grammar_unref(g);
	free(t);
}

/* A mask that its bound cuts short is the same whatever the grammar has been used for before. */
static void test_mask_depends_on_text_alone(void **state)
{
	static const char *const expressions[] = { ".*a.{30}", "(.*[a-f].{9}|.*[e-k].{17})*x", "[ab]*a[ab]{15}" };

	for (size_t i = 0; i < sizeof(expressions) / sizeof(*expressions); i++) {
		struct grammar *fresh = regex(expressions[i]), *used = regex(expressions[i]);
		struct constraint *c = grammar_matcher_create(fresh), *d;

		for (int k = 0; k < 40; k++) {
			int32_t a = id_of(k % 3 ? "a" : "b");

			d = grammar_matcher_create(used);
			for (int n = 0; n < k; n++) {
				assert_true(constraint_accept(d, id_of(n % 3 ? "a" : "b")));
				constraint_fill(d, mask, n_ids);
			}
			constraint_destroy(d);
			d = grammar_matcher_create(used);
			for (int n = 0; n < k; n++)
				assert_true(constraint_accept(d, id_of(n % 3 ? "a" : "b")));
			constraint_fill(d, mask, n_ids);
			constraint_destroy(d);
			constraint_fill(c, other, n_ids);
			assert_memory_equal(mask, other, words * sizeof(*mask));
			assert_true(constraint_accept(c, a));
		}
		constraint_destroy(c);
		grammar_unref(fresh);
		grammar_unref(used);
	}
}

/* More masks of one automaton than there are numbers of walks; when these begin again, the walks come to new edges. */
static void test_many_masks(void **state)
{
	struct grammar *g = regex("[0-4]{200}"), *fresh = regex("[0-4]{1,200}");
	struct constraint *c = grammar_matcher_create(g), *d = grammar_matcher_create(fresh);
	int32_t one = id_of("1");

	for (int i = 0; i < 65501; i++)
		constraint_fill(c, mask, n_ids);
	for (int i = 0; i < 100; i++) {
		assert_true(constraint_accept(c, one) && constraint_accept(d, one));
		constraint_fill(c, mask, n_ids);
		constraint_fill(d, other, n_ids);
		other[eos / 32] &= ~(1u << eos % 32);
		assert_memory_equal(mask, other, words * sizeof(*mask));
	}
	constraint_destroy(c);
	constraint_destroy(d);
	grammar_unref(g);
	grammar_unref(fresh);
}

/* --- ends and control tokens --------------------------------------------------------------------------------- */

static void test_end(void **state)
{
	struct grammar *g = regex("ab?");
	struct constraint *c = grammar_matcher_create(g);

	assert_int_equal(constraint_fill(c, mask, n_ids), CONSTRAINT_MORE);
	assert_false(in_mask(eos));
	assert_false(constraint_accept(c, eos));
	assert_true(constraint_accept(c, id_of("a")));
	assert_int_equal(constraint_fill(c, mask, n_ids), CONSTRAINT_MORE);
	assert_true(in_mask(eos));
	assert_true(constraint_accept(c, id_of("b")));
	assert_int_equal(constraint_fill(c, mask, n_ids), CONSTRAINT_END_ONLY);
	assert_true(constraint_accept(c, eos));
	assert_int_equal(constraint_fill(c, mask, n_ids), CONSTRAINT_END_ONLY);
	assert_true(in_mask(eos));
	assert_false(constraint_accept(c, id_of("b")));
	constraint_rollback(c, 2);
	assert_true(constraint_accept(c, id_of("b")));
	constraint_destroy(c);
	grammar_unref(g);
}

static void test_control_tokens(void **state)
{
	struct grammar *g = regex("(.|\\n)*");
	struct constraint *c = grammar_matcher_create(g);
	uint32_t missing = 0;

	constraint_fill(c, mask, n_ids);
	for (uint32_t id = 0; id < n_ids; id++) {
		bool control = tokenizer_token_flags(tok, (int32_t)id) & TOKEN_ADDED;

		if (control)
			assert_int_equal(in_mask((int32_t)id), (int32_t)id == eos);
		else
			missing += !in_mask((int32_t)id);
	}
	assert_true(missing < 2000); /* bytes that no text begins with */
	assert_false(constraint_accept(c, id_of("</think>")));
	assert_false(constraint_accept(c, -1));
	assert_false(constraint_accept(c, (int32_t)n_ids));
	constraint_destroy(c);
	grammar_unref(g);
}

static void test_tools(void **state)
{
	json_t *tools = json_loads("[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":"
		"{\"x\":{\"type\":\"integer\"}},\"required\":[\"x\"]}}},{\"type\":\"function\",\"function\":{\"name\":\"noon\"}}]", 0, NULL);
	struct grammar_tool_format f;
	struct grammar *g;

	assert_int_equal(grammar_tool_format_find(&f, tok, &err), OK);
	for (int parallel = 0; parallel < 2; parallel++) {
		const int32_t call[] = { f.calls_begin, f.call_begin, id_of("f"), f.sep, id_of("{\""), id_of("x"), id_of("\":"), id_of("1"),
			id_of("}"), f.call_end };
		struct constraint *c;

		assert_int_equal(grammar_from_tools(&g, vocab, &f, tools, NULL, parallel, &err), OK);
		c = grammar_matcher_create(g);
		for (size_t i = 0; i < sizeof(call) / sizeof(*call); i++) {
			constraint_fill(c, mask, n_ids);
			assert_true(in_mask(call[i]));
			assert_false(in_mask(eos));
			assert_true(constraint_accept(c, call[i]));
		}
		constraint_fill(c, mask, n_ids);
		assert_int_equal(in_mask(f.call_begin), parallel);
		assert_true(constraint_accept(c, f.calls_end));
		assert_int_equal(constraint_fill(c, mask, n_ids), CONSTRAINT_END_ONLY);
		constraint_destroy(c);
		grammar_unref(g);
	}
	assert_int_equal(grammar_from_tools(&g, vocab, &f, tools, "noon", false, &err), OK);
	assert_false(accepts(g, "<｜tool▁calls▁begin｜>"));
	grammar_unref(g);
	assert_int_equal(grammar_from_tools(&g, vocab, &f, tools, "other", false, &err), E_INVAL);
	json_decref(tools);
}

/* Whatever their schema says, arguments are an object. */
static void test_arguments(void **state)
{
	static const char *const objects[] = { "{\"type\":\"object\",\"nullable\":true}", "{\"$ref\":\"#/$defs/n\",\"$defs\":{\"n\":{\"type\":[\"object\",\"null\"]}}}",
		"{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"object\"},{\"type\":\"null\"}]}", "{\"enum\":[{},[],null,1]}", "{}",
		"{\"allOf\":[{\"type\":[\"object\",\"integer\",\"null\"]}]}", "{\"properties\":{\"a\":{\"$ref\":\"#\"}}}" };
	static const char *const others[] = { "{\"$ref\":\"#/$defs/n\",\"$defs\":{\"n\":{\"type\":\"integer\"}}}", "{\"const\":null}",
		"{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"null\"}]}", "{\"type\":\"object\",\"properties\":{\"a\":false},\"required\":[\"a\"]}" };
	struct grammar_tool_format f;
	struct grammar *g;

	assert_int_equal(grammar_tool_format_find(&f, tok, &err), OK);
	for (size_t i = 0; i < sizeof(objects) / sizeof(*objects) + sizeof(others) / sizeof(*others); i++) {
		size_t n = sizeof(objects) / sizeof(*objects);
		json_t *schema = json_loads(i < n ? objects[i] : others[i - n], 0, NULL);
		json_t *tools = json_pack("[{s:{s:s}}, {s:{s:s, s:o}}]", "function", "name", "good", "function", "name", "f", "parameters", schema);
		const int32_t begin[] = { f.calls_begin, f.call_begin, id_of("f"), f.sep };
		struct constraint *c;

		if (i >= n) {
			assert_int_equal(grammar_from_tools(&g, vocab, &f, tools, NULL, true, &err), E_INVAL);
			assert_string_equal(err.msg, "tool f: no object satisfies its parameters");
			json_decref(tools);
			continue;
		}
		assert_int_equal(grammar_from_tools(&g, vocab, &f, tools, NULL, true, &err), OK);
		c = grammar_matcher_create(g);
		for (size_t k = 0; k < 4; k++)
			assert_true(constraint_accept(c, begin[k]));
		constraint_fill(c, mask, n_ids);
		assert_true(in_mask(id_of("{")));
		assert_false(in_mask(id_of("n")) || in_mask(id_of("1")) || in_mask(id_of("[")) || in_mask(id_of("-")));
		constraint_destroy(c);
		grammar_unref(g);
		json_decref(tools);
	}
}

/* --- options, refusals, cache -------------------------------------------------------------------------------- */

static void test_white_space(void **state)
{
	static const char object[] = "{\"type\":\"object\",\"properties\":{\"a\":{\"const\":1}},\"required\":[\"a\"]}";
	struct grammar *g;

	assert_int_equal(schema_status(&g, object, (struct grammar_json_options){ .compact = true }), OK);
	assert_true(accepts(g, "{\"a\":1}"));
	assert_false(accepts(g, "{\"a\": 1}"));
	grammar_unref(g);
	assert_int_equal(schema_status(&g, object, (struct grammar_json_options){ .whitespace = "[ ]{0,2}" }), OK);
	assert_true(accepts(g, "{ \"a\":  1}"));
	assert_false(accepts(g, "{\n\"a\": 1}"));
	grammar_unref(g);
	assert_int_equal(schema_status(&g, "{\"type\":\"object\"}", (struct grammar_json_options){ .closed = true }), OK);
	assert_true(accepts(g, "{}"));
	assert_false(accepts(g, "{\"a\":1}"));
	grammar_unref(g);
	g = schema(object);
	assert_true(accepts(g, "{\n  \"a\": 1\n}"));
	assert_false(accepts(g, "{\n\n\"a\": 1}"));
	grammar_unref(g);
}

static void test_refusals(void **state)
{
	static const struct { const char *schema, *says; } cases[] = {
		{ "{\"type\":\"number\",\"multipleOf\":0.01}", "multipleOf 0.01" }, { "{\"multipleOf\":131}", "multipleOf 131" },
		{ "{\"multipleOf\":0}", "above 0" }, { "{\"nullable\":1}", "nullable" }, { "{\"uniqueItems\":1}", "uniqueItems" },
		{ "{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"uniqueItems\":true}", "uniqueItems" },
		{ "{\"items\":{\"enum\":[1,2,3,4,5,6,7,8,9]},\"uniqueItems\":true}", "uniqueItems" },
		{ "{\"type\":\"integer\",\"multipleOf\":50,\"minimum\":1,\"maximum\":49}", "nothing can satisfy" }, { "{\"uniqueItems\":true}", "uniqueItems" },
		{ "{\"contains\":{}}", "contains" }, { "{\"minContains\":1}", "minContains" }, { "{\"not\":{}}", "not" },
		{ "{\"if\":{}}", "if" }, { "{\"unevaluatedProperties\":false}", "unevaluatedProperties" },
		{ "{\"type\":\"string\",\"pattern\":\"a\",\"maxLength\":3}", "pattern together with" },
		{ "{\"type\":\"string\",\"format\":\"date\",\"minLength\":3}", "format together with" },
		{ "{\"type\":\"string\",\"format\":\"regex\"}", "format regex" }, { "{\"minProperties\":1}", "minProperties" },
		{ "{\"dependentRequired\":{}}", "dependentRequired" }, { "{\"minLenght\":1}", "minLenght" }, { "{\"type\":\"text\"}", "type" },
		{ "{\"$ref\":\"#/nowhere\"}", "no such schema" }, { "{\"$ref\":\"http://x/y\"}", "other documents" },
		{ "{\"oneOf\":[{\"type\":\"string\"},{\"enum\":[\"a\"]}]}", "oneOf" }, { "{\"items\":[{}]}", "prefixItems" },
		{ "{\"type\":\"string\",\"pattern\":\"(?=a)b\"}", "looking around" }, { "{\"type\":\"string\",\"pattern\":\"(a)\\\\1\"}", "back references" },
		{ "{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", "nothing can satisfy" },
		{ "{\"enum\":[]}", "nothing can satisfy" }, { "{\"enum\":[1,2],\"minimum\":2}", "beside keywords" }, { "5", "expected a schema" },
		{ "{\"type\":\"array\",\"minItems\":3,\"maxItems\":2}", "below minItems" },
		{ "{\"allOf\":[{\"pattern\":\"a\"},{\"pattern\":\"b\"}]}", "pattern" },
		{ "{\"type\":\"number\",\"minimum\":2e15}", "minimum 2" }, { "{\"type\":\"number\",\"exclusiveMaximum\":-2e15}", "exclusiveMaximum -2" },
		{ "{\"type\":\"number\",\"maximum\":1e-16}", "maximum 1" }, { "{\"type\":\"integer\",\"minimum\":1e19}", "minimum 1" },
		{ "{\"type\":\"integer\",\"exclusiveMaximum\":-1e300}", "exclusiveMaximum -1" },
	};
	static const char *const expressions[] = { "(", ")", "a**", "[z-a]", "*a", "a{3,2}", "\\b", "a^b", "(?i)a", "[[:alpha:]]", "\\q" };
	static const char *const lark[] = { "start: \"a\"", "?start: x", "// sums\nstart: x", "%import common.WS" };
	static const char *const rules[] = { "", "root ::= x", "root = \"a\"", "root ::= root \"a\"", "root ::= \"a", "a ::= \"a\"",
		"root ::= (\"a\"", "root ::= \"a\" root ::= \"b\"", "root ::= [a", "root ::= (=\"a\") [a-z]" };
	struct grammar *g;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		if (schema_status(&g, cases[i].schema, (struct grammar_json_options){ 0 }) == OK || !strstr(err.msg, cases[i].says))
			fail_msg("%s: %s", cases[i].schema, err.msg);
	}
	for (size_t i = 0; i < sizeof(expressions) / sizeof(*expressions); i++)
		assert_int_not_equal(grammar_from_regex(&g, vocab, expressions[i], strlen(expressions[i]), &err), OK);
	for (size_t i = 0; i < sizeof(lark) / sizeof(*lark); i++) {
		assert_int_equal(grammar_from_ebnf(&g, vocab, lark[i], strlen(lark[i]), &err), E_UNSUPPORTED);
		assert_non_null(strstr(err.msg, "Lark"));
	}
	for (size_t i = 0; i < sizeof(rules) / sizeof(*rules); i++)
		assert_int_not_equal(grammar_from_ebnf(&g, vocab, rules[i], strlen(rules[i]), &err), OK);
}

/* What only some servers take, and where it must not give too much. */
static void test_keywords(void **state)
{
	static const struct { const char *schema, *yes, *no; } cases[] = {
		{ "{\"type\":\"string\",\"nullable\":true}", "null", "1" }, { "{\"type\":\"string\",\"nullable\":false}", "\"a\"", "null" },
		{ "{\"type\":\"string\",\"enum\":[\"a\"],\"nullable\":true}", "\"a\"", "null" },
		{ "{\"type\":\"string\",\"enum\":[\"a\",null],\"nullable\":true}", "null", "\"b\"" },
		{ "{\"allOf\":[{\"type\":\"integer\",\"nullable\":true},{\"minimum\":3}]}", "null", "2" },
		{ "{\"allOf\":[{\"type\":\"integer\",\"nullable\":true},{\"type\":\"integer\"}]}", "2", "null" },
		{ "{\"oneOf\":[{\"type\":\"integer\",\"nullable\":true},{\"type\":\"string\"}]}", "null", "true" },
		{ "{\"multipleOf\":7,\"minimum\":-100}", "-98", "-105" }, { "{\"multipleOf\":97}", "9999999999999999983", "9999999999999999984" }, { "{\"multipleOf\":7}", "9999999999999999997", "9999999999999999999" },
		{ "{\"multipleOf\":2500,\"minimum\":1}", "1002500", "0" }, { "{\"type\":\"integer\",\"multipleOf\":1}", "17", "1.5" },
		{ "{\"type\":\"number\",\"multipleOf\":1}", "-17", "1.5" }, { "{\"multipleOf\":3}", "0", "-0" },
		{ "{\"items\":{\"enum\":[\"a\",\"b\",\"a\",1]},\"uniqueItems\":true}", "[\"b\", 1, \"a\"]", "[\"a\", \"a\"]" },
		{ "{\"items\":{\"enum\":[1,1.0,2]},\"uniqueItems\":true,\"minItems\":2}", "[2, 1]", "[1, 1.0]" },
		{ "{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"uniqueItems\":true}", "[true, false]", "[true, true]" },
		{ "{\"items\":{\"type\":\"string\"},\"uniqueItems\":true,\"maxItems\":1}", "[\"xy\"]", "[\"a\", \"b\"]" },
		{ "{\"items\":{\"enum\":[1,2,3,4,5,6,7,8,9,10,11,12]},\"uniqueItems\":true,\"maxItems\":2}", "[12, 1]", "[1, 2, 3]" },
		{ "{\"type\":\"integer\",\"minimum\":-9007199254740991,\"maximum\":9007199254740991}", "9007199254740991", "9007199254740992" },
		{ "{\"type\":\"integer\",\"minimum\":-9007199254740991,\"maximum\":9007199254740991}", "-9007199254740991", "-9007199254740992" },
		{ "{\"type\":\"integer\",\"minimum\":-9223372036854775808,\"maximum\":9223372036854775807}", "9223372036854775807", "9223372036854775808" },
		{ "{\"type\":\"integer\",\"minimum\":-9223372036854775808,\"maximum\":9223372036854775807}", "-9223372036854775808", "-9223372036854775809" },
		{ "{\"type\":\"integer\",\"exclusiveMinimum\":9223372036854775805,\"exclusiveMaximum\":9223372036854775807}", "9223372036854775806", "9223372036854775805" },
		{ "{\"type\":\"integer\",\"exclusiveMaximum\":-9223372036854775807}", "-9223372036854775808", "-9223372036854775807" },
		{ "{\"type\":\"integer\",\"maximum\":9223372036854775808.0}", "9223372036854775808", "9223372036854775809" },
		{ "{\"type\":\"integer\",\"minimum\":-1e300,\"maximum\":1e300}", "9999999999999999999", "10000000000000000000" },
		{ "{\"type\":\"integer\",\"multipleOf\":5,\"minimum\":9223372036854775801,\"maximum\":9223372036854775807}", "9223372036854775805", "9223372036854775806" },
		{ "{\"type\":\"integer\",\"multipleOf\":2000,\"exclusiveMaximum\":-9223372036854774000}", "-9223372036854776000", "-9223372036854774000" },
		{ "{\"type\":\"integer\",\"allOf\":[{\"maximum\":9223372036854775807},{\"maximum\":9223372036854775806}]}", "9223372036854775806", "9223372036854775807" },
		{ "{\"type\":\"number\",\"minimum\":0,\"maximum\":1e300}", "9999999999999999999.5", "-1" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct grammar *g = schema(cases[i].schema);

		if (!accepts(g, cases[i].yes) || accepts(g, cases[i].no))
			fail_msg("%s", cases[i].schema);
		grammar_unref(g);
	}
}

static void test_bounds(void **state)
{
	struct grammar *g;
	char *deep = mem_alloc(200001), *long_one = mem_alloc(GRAMMAR_MAX_SOURCE_BYTES + 2);
	static const char *const huge[] = { "((a{1000}){1000}){1000}", "[^x]{90000}", "((((a{9}){9}){9}){9}){9999}" };

	memset(deep, '(', 100000);
	memset(deep + 100000, ')', 100000);
	memset(long_one, 'a', GRAMMAR_MAX_SOURCE_BYTES + 1);
	assert_int_equal(grammar_from_regex(&g, vocab, deep, 200000, &err), E_LIMIT);
	assert_int_equal(grammar_from_regex(&g, vocab, long_one, GRAMMAR_MAX_SOURCE_BYTES + 1, &err), E_LIMIT);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(grammar_from_regex(&g, vocab, huge[i], strlen(huge[i]), &err), E_LIMIT);
	free(deep);
	free(long_one);
}

/* So many optional properties that some place of a text has too many ways on. */
static void test_ways(void **state)
{
	static const struct { int n; enum status want; } cases[] = { { 600, OK }, { 2050, E_LIMIT } };

	for (size_t i = 0; i < 2; i++) {
		json_t *properties = json_object(), *wide = json_pack("{s:s, s:o}", "type", "object", "properties", properties);
		json_t *list = json_pack("{s:s, s:O, s:i}", "type", "array", "items", wide, "minItems", 2);
		struct grammar_json_options o = { 0 };
		struct grammar *g;

		for (int k = 0; k < cases[i].n; k++) {
			char name[16];

			snprintf(name, sizeof(name), "p%d", k);
			json_object_set_new(properties, name, json_pack("{s:s}", "type", "integer"));
		}
		for (int nested = 0; nested < 2; nested++) {
			assert_int_equal(grammar_from_schema(&g, vocab, nested ? list : wide, &o, &err), cases[i].want);
			if (cases[i].want == OK)
				grammar_unref(g);
			else
				assert_non_null(strstr(err.msg, "at most 2048"));
		}
		json_decref(wide);
		json_decref(list);
	}
}

/* Each code point is a state of its own: more of them than the automaton's first bound holds. */
static void test_long_text(void **state)
{
	struct grammar *g = schema("{\"type\":\"string\",\"minLength\":90000,\"maxLength\":100000}");
	struct constraint *c = grammar_matcher_create(g);
	int32_t a = id_of("a"), quote = id_of("\"");

	assert_true(constraint_accept(c, quote));
	for (int i = 0; i < 100000; i++) {
		if (i == 89999)
			assert_false(constraint_accept(c, quote));
		assert_true(constraint_accept(c, a));
	}
	assert_false(constraint_accept(c, a));
	constraint_fill(c, mask, n_ids);
	assert_true(in_mask(quote));
	assert_true(constraint_accept(c, quote));
	assert_true(grammar_matcher_accepts(c));
	constraint_destroy(c);
	grammar_unref(g);
}

static void test_memory_of_many(void **state)
{
	struct grammar *g[100];
	int n = 0;

	grammar_vocab_limit(vocab, 8 << 20);
	for (; n < 100; n++) {
		char text[32];

		snprintf(text, sizeof(text), "[a-f]{%d}", 5000 + n);
		if (grammar_from_regex(&g[n], vocab, text, strlen(text), &err) != OK)
			break;
	}
	assert_true(n > 5 && n < 50);
	assert_int_equal(err.code, E_NOMEM);
	while (n)
		grammar_unref(g[--n]);
	grammar_unref(regex("a"));
	grammar_vocab_limit(vocab, (size_t)1 << 30);
}

static void test_cache(void **state)
{
	struct grammar_cache *cache = grammar_cache_create(64 << 20);
	struct grammar *g = regex("a"), *again = regex("a"), *found;
	char key[16];

	assert_null(grammar_cache_find(cache, "k", 1));
	grammar_cache_put(cache, "k", 1, g);
	found = grammar_cache_find(cache, "k", 1);
	assert_ptr_equal(found, g);
	grammar_unref(found);
	assert_null(grammar_cache_find(cache, "kk", 2));
	grammar_cache_put(cache, "k", 1, again); /* compiled by two at once: the first one stays */
	grammar_unref(again);
	found = grammar_cache_find(cache, "k", 1);
	assert_ptr_equal(found, g);
	grammar_unref(found);
	grammar_unref(g); /* the cache's own reference keeps it */
	for (int i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "%d", i);
		g = regex("b");
		grammar_cache_put(cache, key, strlen(key), g);
		grammar_unref(g);
		found = grammar_cache_find(cache, "k", 1); /* used again and again: it stays */
		assert_non_null(found);
		grammar_unref(found);
	}
	assert_null(grammar_cache_find(cache, "0", 1));
	grammar_cache_destroy(cache);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_regex_random),
		cmocka_unit_test(test_regex_cases),
		cmocka_unit_test(test_ebnf),
		cmocka_unit_test(test_mask_is_acceptance),
		cmocka_unit_test(test_rollback_and_fork),
		cmocka_unit_test(test_forgetting),
		cmocka_unit_test(test_mask_depends_on_text_alone),
		cmocka_unit_test(test_many_masks),
		cmocka_unit_test(test_end),
		cmocka_unit_test(test_control_tokens),
		cmocka_unit_test(test_tools),
		cmocka_unit_test(test_white_space),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_keywords),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_ways),
		cmocka_unit_test(test_long_text),
		cmocka_unit_test(test_memory_of_many),
		cmocka_unit_test(test_cache),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
