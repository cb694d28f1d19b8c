/* Prompts that are made up, and what all datasets share (load/dataset.h). */
#include "load/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/random.h"
#include "load/arrival.h"

#define ROUNDS 10 /* of decoding and encoding again, until a prompt has its length */

void load_dataset_add(struct load_dataset *d, const char *text, size_t len, uint32_t prompt_tokens,
	uint32_t output_tokens)
{
	d->prompts = mem_grow(d->prompts, &d->cap, (size_t)d->n + 1, sizeof(*d->prompts));
	d->prompts[d->n++] = (struct load_prompt){
		.text = arena_strndup(&d->arena, text, len),
		.len = len,
		.prompt_tokens = prompt_tokens,
		.output_tokens = output_tokens,
	};
}

void load_dataset_shuffle(struct load_dataset *d, uint64_t seed)
{
	for (uint32_t i = d->n; i > 1; i--) {
		uint32_t j = (uint32_t)(random_u64(load_seed(seed, LOAD_DRAW_SHUFFLE), i) % i);
		struct load_prompt p = d->prompts[j];

		d->prompts[j] = d->prompts[i - 1];
		d->prompts[i - 1] = p;
	}
}

void load_dataset_deinit(struct load_dataset *d)
{
	free(d->prompts);
	arena_deinit(&d->arena);
	*d = (struct load_dataset){0};
}

struct maker {
	const struct load_dataset_config *c;
	struct load_dataset *d;
	const int32_t *words;
	size_t n_words;
	uint64_t padded; /* counter of the draws */
	struct token_buf ids;
	struct buf text;
};

/* A whole number in [n (1 - ratio), n (1 + ratio)]. */
static uint32_t length(uint32_t n, double ratio, uint64_t seed, uint64_t counter)
{
	uint32_t low = (uint32_t)floor(n * (1 - ratio)), high = (uint32_t)ceil(n * (1 + ratio));

	return low + (uint32_t)(random_u64(load_seed(seed, LOAD_DRAW_LENGTH), counter) % ((uint64_t)high - low + 1));
}

/* Ids in a row from a random place of the words, as many as vLLM's benchmark takes in a row. */
static void add_run(struct maker *m, enum load_draw what, uint64_t i, uint32_t n)
{
	uint64_t at = random_u64(load_seed(m->c->seed, what), i) % m->n_words + i;

	for (uint32_t j = 0; j < n; j++)
		token_buf_push(&m->ids, m->words[(at + j) % m->n_words]);
}

/* m->ids become the text of a prompt that has `want` ids when it is encoded again, or nearly so. */
static enum status settle(struct maker *m, uint32_t want, struct error *err)
{
	for (int round = 0;; round++) {
		buf_reset(&m->text);
		TRY(load_tokens_decode(m->c->tokens, m->ids.data, m->ids.len, &m->text, err));
		m->ids.len = 0;
		TRY(load_tokens_encode(m->c->tokens, m->text.data ? m->text.data : "", m->text.len, &m->ids, err));
		if (m->ids.len == want || round == ROUNDS)
			return OK;
		if (m->ids.len > want)
			m->ids.len = want;
		while (m->ids.len < want)
			token_buf_push(&m->ids, m->words[random_u64(load_seed(m->c->seed, LOAD_DRAW_PAD),
				m->padded++) % m->n_words]);
	}
}

static enum status add(struct maker *m, uint32_t want, uint32_t output, struct error *err)
{
	TRY(settle(m, want, err));
	load_dataset_add(m->d, m->text.data ? m->text.data : "", m->text.len,
		(uint32_t)m->ids.len + load_tokens_added(m->c->tokens), output);
	return OK;
}

static enum status make_random(struct maker *m, struct error *err)
{
	const struct load_dataset_config *c = m->c;
	uint32_t added = load_tokens_added(c->tokens);

	for (uint32_t i = 0; i < c->n; i++) {
		uint32_t input = length(c->input_tokens, c->input_ratio, c->seed, 2 * (uint64_t)i);
		uint32_t output = length(c->output_tokens, c->output_ratio, c->seed, 2 * (uint64_t)i + 1);

		/* The BOS that the server adds counts; an empty prompt is not one. */
		input = input > added ? input - added : 0;
		if (c->prefix_tokens + input == 0)
			input = 1;
		m->ids.len = 0;
		add_run(m, LOAD_DRAW_PREFIX, 0, c->prefix_tokens);
		add_run(m, LOAD_DRAW_OFFSET, i, input);
		TRY(add(m, c->prefix_tokens + input, output ? output : 1, err));
	}
	return OK;
}

static enum status make_prefix_repetition(struct maker *m, struct error *err)
{
	const struct load_dataset_config *c = m->c;
	uint32_t each = c->n / c->prefixes;

	if (!each)
		return error_set(err, E_INVAL, "prefix_repetition: %u prompts for %u prefixes, expected one each",
			c->n, c->prefixes);
	for (uint32_t i = 0; i < each * c->prefixes; i++) {
		m->ids.len = 0;
		add_run(m, LOAD_DRAW_PREFIX, i / each, c->prefix_tokens);
		add_run(m, LOAD_DRAW_OFFSET, i, c->suffix_tokens);
		TRY(add(m, c->prefix_tokens + c->suffix_tokens, c->output_tokens, err));
	}
	load_dataset_shuffle(m->d, c->seed);
	return OK;
}

static enum status make_up(struct load_dataset *d, const struct load_dataset_config *c, struct error *err)
{
	struct maker m = { .c = c, .d = d };
	enum status st;

	m.words = load_tokens_words(c->tokens, &m.n_words);
	st = strcmp(c->name, "random") == 0 ? make_random(&m, err) : make_prefix_repetition(&m, err);
	token_buf_deinit(&m.ids);
	buf_deinit(&m.text);
	return st;
}

/* Files that hold fewer prompts than asked for: some come again. */
static void repeat(struct load_dataset *d, const struct load_dataset_config *c)
{
	uint32_t had = d->n;
	uint64_t seed = load_seed(c->seed, LOAD_DRAW_REPEAT);

	while (d->n < c->n) {
		struct load_prompt p = d->prompts[random_u64(seed, d->n) % had];

		d->prompts = mem_grow(d->prompts, &d->cap, (size_t)d->n + 1, sizeof(*d->prompts));
		d->prompts[d->n++] = p;
	}
}

enum status load_dataset_make(struct load_dataset *out, const struct load_dataset_config *c, struct error *err)
{
	bool file = strcmp(c->name, "sharegpt") == 0 || strcmp(c->name, "custom") == 0;
	struct load_dataset d = { 0 };
	enum status st;

	arena_init(&d.arena, 0);
	st = file ? load_dataset_read(&d, c, err) : make_up(&d, c, err);
	if (st != OK) {
		load_dataset_deinit(&d);
		return st;
	}
	if (file && !c->no_repeat)
		repeat(&d, c);
	*out = d;
	return OK;
}
