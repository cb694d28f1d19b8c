/*
 * meson test --benchmark grammar: no check, prints processor times of grammars over the vocabulary of DeepSeek-V3.1:
 * compiling, and masks along given texts, in a grammar that nothing has used before ("cold") and again ("warm").
 * The aims are 50 us for the mean of all masks and 500 us for the slowest hundredth.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "base/mem.h"
#include "text/grammar.h"

#define COMPILES 20
#define MAX_MASKS 100000

static const struct {
	const char *name, *kind, *source, *text;
} cases[] = {
	{ "any object", "schema", "{\"type\":\"object\"}",
		"{\"title\": \"The Hitchhiker's Guide\", \"year\": 1979, \"tags\": [\"sci-fi\", \"humour\"], \"sold\": 1.5e7, "
		"\"author\": {\"name\": \"Douglas Adams\", \"born\": {\"year\": 1952, \"place\": \"Cambridge\"}}, \"film\": true, "
		"\"note\": \"Don't panic.\\nA towel is about the most massively useful thing\", \"next\": null}" },
	{ "record", "schema",
		"{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":80},\"age\":{\"type\":\"integer\","
		"\"minimum\":0,\"maximum\":150},\"email\":{\"type\":\"string\",\"format\":\"email\"},\"role\":{\"enum\":[\"admin\",\"user\","
		"\"guest\"]},\"joined\":{\"type\":\"string\",\"format\":\"date-time\"},\"address\":{\"type\":\"object\",\"properties\":{"
		"\"street\":{\"type\":\"string\"},\"city\":{\"type\":\"string\"},\"zip\":{\"type\":\"string\",\"pattern\":\"^[0-9]{5}$\"}},"
		"\"required\":[\"street\",\"city\",\"zip\"],\"additionalProperties\":false},\"scores\":{\"type\":\"array\",\"items\":{"
		"\"type\":\"number\",\"minimum\":0,\"maximum\":1},\"maxItems\":20}},\"required\":[\"name\",\"age\",\"email\",\"role\"],"
		"\"additionalProperties\":false}",
		"{\n  \"name\": \"Maria de la Cruz González\",\n  \"age\": 42,\n  \"email\": \"maria.cruz@example.com\",\n  \"role\": "
		"\"admin\",\n  \"joined\": \"2024-02-29T12:34:56Z\",\n  \"address\": {\n    \"street\": \"12 Long Acre\",\n    \"city\": "
		"\"London\",\n    \"zip\": \"12345\"\n  },\n  \"scores\": [0.25, 0.5, 0.999, 1]\n}" },
	{ "tree", "schema",
		"{\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{\"label\":{\"type\":\"string\"},\"children\":{\"type\":\"array\","
		"\"items\":{\"$ref\":\"#/$defs/node\"}}},\"required\":[\"label\",\"children\"],\"additionalProperties\":false}},\"$ref\":"
		"\"#/$defs/node\"}",
		"{\"label\": \"root\", \"children\": [{\"label\": \"first child\", \"children\": [{\"label\": \"a grandchild\", \"children\": []}]}"
		", {\"label\": \"second\", \"children\": []}]}" },
	{ "words", "regex", "([A-Z][a-z]+ )+[A-Z][a-z]+\\.", "The Quick Brown Fox Jumps Over The Lazy Dog Every Single Day." },
	{ "choice", "choice", "[\"positive\",\"negative\",\"neutral\",\"mixed\"]", "negative" },
	{ "arithmetic", "ebnf",
		"root ::= sum\nsum ::= product ([-+] product)*\nproduct ::= atom ([*/] atom)*\natom ::= [0-9]+ (\".\" [0-9]+)? | \"(\" sum "
		"\")\"", "(12.5+3)*(4-(7/2))+19*(2+2)-1000/(3+((4)))" },
};

static struct tokenizer *tok;
static struct grammar_vocab *vocab;
static uint64_t times[MAX_MASKS];

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "grammar_bench: %s\n", what);
	exit(1);
}

static struct grammar *compile(size_t i)
{
	const struct grammar_json_options options = { 0 };
	const char *s = cases[i].source;
	struct grammar *g;
	struct error err;
	enum status st;

	if (strcmp(cases[i].kind, "regex") == 0) {
		st = grammar_from_regex(&g, vocab, s, strlen(s), &err);
	} else if (strcmp(cases[i].kind, "ebnf") == 0) {
		st = grammar_from_ebnf(&g, vocab, s, strlen(s), &err);
	} else {
		json_t *v = json_loads(s, 0, NULL);

		st = strcmp(cases[i].kind, "choice") == 0 ? grammar_from_choice(&g, vocab, v, &err) :
			grammar_from_schema(&g, vocab, v, &options, &err);
		json_decref(v);
	}
	if (st != OK)
		fail(err.msg);
	return g;
}

static int by_time(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Masks and acceptance of every token of the text; appends to times[]. */
static size_t walk(struct grammar *g, const struct token_buf *ids, size_t n)
{
	uint32_t n_ids = (uint32_t)tokenizer_n_ids(tok);
	uint32_t *mask = mem_alloc(constraint_words(n_ids) * sizeof(*mask));
	struct constraint *c = grammar_matcher_create(g);

	for (size_t i = 0; i <= ids->len; i++) {
		uint64_t began = cpu_ns();

		constraint_fill(c, mask, n_ids);
		if (i < ids->len && !constraint_accept(c, ids->data[i]))
			fail("a text does not follow its grammar");
		times[n++] = cpu_ns() - began;
	}
	constraint_destroy(c);
	free(mask);
	return n;
}

static void report(const char *name, size_t from, size_t n)
{
	uint64_t sum = 0;

	qsort(times + from, n, sizeof(*times), by_time);
	for (size_t i = from; i < from + n; i++)
		sum += times[i];
	printf("%s mean %7.1f p50 %7.1f p99 %7.1f max %7.1f us", name, (double)sum / (double)n / 1e3,
		(double)times[from + n / 2] / 1e3, (double)times[from + n * 99 / 100] / 1e3, (double)times[from + n - 1] / 1e3);
}

static void run(size_t i, struct tokenizer_scratch *scratch, size_t *cold, uint64_t *all)
{
	struct token_buf ids = { 0 };
	struct grammar *g = NULL;
	struct error err;
	uint64_t began = cpu_ns();
	double compile_us;
	size_t n;

	for (int k = 0; k < COMPILES; k++) {
		grammar_unref(g);
		g = compile(i);
	}
	compile_us = (double)(cpu_ns() - began) / 1e3 / COMPILES;
	if (tokenizer_encode(tok, scratch, cases[i].text, strlen(cases[i].text), 0, &ids, &err) != OK)
		fail(err.msg);
	printf("%-11s %3zu tokens  compile %7.1f us ", cases[i].name, ids.len, compile_us);
	n = walk(g, &ids, 0);
	memcpy(all + *cold, times, n * sizeof(*all));
	*cold += n;
	report(" cold", 0, n);
	n = walk(g, &ids, 0);
	report("  warm", 0, n);
	printf("  %zu KiB\n", grammar_bytes(g) >> 10);
	token_buf_deinit(&ids);
	grammar_unref(g);
}

int main(void)
{
	struct tokenizer_scratch *scratch = tokenizer_scratch_create();
	uint64_t *all = mem_alloc(MAX_MASKS * sizeof(*all));
	const int32_t eos = 1;
	struct error err;
	uint64_t began;
	size_t n = 0;

	if (tokenizer_open(&tok, TEST_DATA "/deepseek-v3.1", &err) != OK)
		fail(err.msg);
	began = cpu_ns();
	if (grammar_vocab_create(&vocab, tok, (uint32_t)tokenizer_n_ids(tok), &eos, 1, &err) != OK)
		fail(err.msg);
	printf("vocabulary of %d ids: trie in %.1f ms\n", tokenizer_n_ids(tok), (double)(cpu_ns() - began) / 1e6);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		run(i, scratch, &n, all);
	memcpy(times, all, n * sizeof(*all));
	report("all cold:", 0, n);
	printf("  (aims: mean 50, p99 500)\n");
	grammar_vocab_destroy(vocab);
	tokenizer_scratch_destroy(scratch);
	tokenizer_close(tok);
	free(all);
	return 0;
}
