/*
 * Lengths of texts (load/load_tokens.h).
 *
 * Random prompts must have exact lengths after the server has tokenized them again. Most ids of a
 * vocabulary do not survive that next to each other, so that prompts are made of ids that do: " word".
 */
#include "load/load_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "text/detok.h"
#include "text/tokenizer.h"

#define FEW_WORDS 64u

struct load_tokens {
	struct tokenizer *tok; /* or NULL: */
	struct tokenizer_scratch *scratch;
	struct load_target *target;
	const char *model;
	struct token_buf words;
	uint32_t added;
};

/* Frequent enough to be one token each in any vocabulary. */
static const char common[] =
	" the of and to in is that for it as was with be by on not he his but at are this have from or had an"
	" they which one you were all her she there would their we him been has when who will no more if out so"
	" up said what its about than into them can only other time new some could these two may first then do"
	" any like my now over such our man me even most made after also well many must through years where much"
	" your way down should because long each just state people world year still good work before system";

static bool is_word(const char *bytes, size_t len)
{
	if (len < 3 || bytes[0] != ' ')
		return false;
	for (size_t i = 1; i < len; i++) {
		if (!(bytes[i] >= 'a' && bytes[i] <= 'z') && !(bytes[i] >= 'A' && bytes[i] <= 'Z'))
			return false;
	}
	return true;
}

/* Words that encode to themselves; where these are few, every ordinary token that is ASCII text. */
static enum status collect_words(struct load_tokens *t, bool strict, struct error *err)
{
	struct token_buf ids = { 0 };
	enum status st = OK;

	t->words.len = 0;
	for (int32_t id = 0; id < tokenizer_n_ids(t->tok) && st == OK; id++) {
		size_t len, i = 0;
		const char *bytes = tokenizer_token_bytes(t->tok, id, &len);

		if (!bytes || tokenizer_token_flags(t->tok, id) & (TOKEN_ADDED | TOKEN_SPECIAL))
			continue;
		while (i < len && bytes[i] >= 0x20 && bytes[i] < 0x7F)
			i++;
		if (!len || i < len || (strict && !is_word(bytes, len)))
			continue;
		ids.len = 0;
		if (strict)
			st = tokenizer_encode(t->tok, t->scratch, bytes, len, 0, &ids, err);
		if (!strict || (st == OK && ids.len == 1 && ids.data[0] == id))
			token_buf_push(&t->words, id);
	}
	token_buf_deinit(&ids);
	return st;
}

enum status load_tokens_open_dir(struct load_tokens **out, const char *dir, struct error *err)
{
	struct load_tokens *t = mem_alloc(sizeof(*t));
	enum status st;

	t->scratch = tokenizer_scratch_create();
	TRY_GOTO(fail, tokenizer_open(&t->tok, dir, err));
	t->added = tokenizer_config_of(t->tok)->add_bos + tokenizer_config_of(t->tok)->add_eos;
	TRY_GOTO(fail, collect_words(t, true, err));
	if (t->words.len < FEW_WORDS)
		TRY_GOTO(fail, collect_words(t, false, err));
	if (!t->words.len) {
		st = error_set(err, E_UNSUPPORTED, "%s/tokenizer.json: no ordinary tokens to make prompts of", dir);
		goto fail;
	}
	*out = t;
	return OK;
fail:
	load_tokens_close(t);
	return st;
}

static enum status read_ids(struct token_buf *ids, json_t *answer, struct error *err)
{
	json_t *list, *v;
	size_t i;

	TRY(json_get_array(&list, answer, "/tokenize", "tokens", err));
	json_array_foreach(list, i, v) {
		if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX)
			return error_set(err, E_FORMAT, "/tokenize: tokens[%zu] is not a token id", i);
	}
	json_array_foreach(list, i, v)
		token_buf_push(ids, (int32_t)json_integer_value(v));
	return OK;
}

static enum status ask(json_t **out, struct load_tokens *t, const char *route, json_t *body, struct error *err)
{
	char *text;
	enum status st;

	json_object_set_new(body, "model", json_string(t->model));
	text = json_dumps(body, JSON_COMPACT);
	BUG_ON(!text);
	st = load_target_json(out, t->target, "POST", route, text, strlen(text), err);
	free(text);
	json_decref(body);
	return st;
}

static enum status server_encode(struct load_tokens *t, const char *text, size_t len, bool add,
	struct token_buf *ids, struct error *err)
{
	json_t *body = json_object(), *prompt = json_stringn(text, len), *answer;
	enum status st;

	if (!prompt) {
		json_decref(body);
		return error_set(err, E_FORMAT, "text for /tokenize is not UTF-8");
	}
	json_object_set_new(body, "prompt", prompt);
	json_object_set_new(body, "add_special_tokens", json_boolean(add));
	TRY(ask(&answer, t, "/tokenize", body, err));
	st = read_ids(ids, answer, err);
	json_decref(answer);
	return st;
}

static int by_value(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

	return (x > y) - (x < y);
}

static void sort_unique(struct token_buf *ids)
{
	size_t n = 0;

	qsort(ids->data, ids->len, sizeof(*ids->data), by_value);
	for (size_t i = 0; i < ids->len; i++) {
		if (!n || ids->data[n - 1] != ids->data[i])
			ids->data[n++] = ids->data[i];
	}
	ids->len = n;
}

enum status load_tokens_open_server(struct load_tokens **out, struct load_target *target, const char *model,
	struct error *err)
{
	struct load_tokens *t = mem_alloc(sizeof(*t));
	struct token_buf with = { 0 };
	enum status st;

	t->target = target;
	t->model = model;
	TRY_GOTO(fail, server_encode(t, common, strlen(common), false, &t->words, err));
	TRY_GOTO(fail, server_encode(t, common, strlen(common), true, &with, err));
	if (!t->words.len || with.len < t->words.len || with.len - t->words.len > 8) {
		st = error_set(err, E_PEER, "/tokenize: %zu tokens, with special ones %zu", t->words.len, with.len);
		goto fail;
	}
	t->added = (uint32_t)(with.len - t->words.len);
	sort_unique(&t->words);
	token_buf_deinit(&with);
	*out = t;
	return OK;
fail:
	token_buf_deinit(&with);
	load_tokens_close(t);
	return st;
}

void load_tokens_close(struct load_tokens *t)
{
	if (!t)
		return;
	tokenizer_scratch_destroy(t->scratch);
	tokenizer_close(t->tok);
	token_buf_deinit(&t->words);
	free(t);
}

enum status load_tokens_encode(struct load_tokens *t, const char *text, size_t len, struct token_buf *ids,
	struct error *err)
{
	if (t->tok)
		return tokenizer_encode(t->tok, t->scratch, text, len, TOKENIZER_PARSE_ADDED, ids, err);
	return server_encode(t, text, len, false, ids, err);
}

enum status load_tokens_decode(struct load_tokens *t, const int32_t *ids, size_t n, struct buf *text,
	struct error *err)
{
	json_t *body, *list, *answer, *prompt;

	if (t->tok)
		return detok_decode(t->tok, ids, n, true, text, err);
	body = json_object();
	list = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_integer(ids[i]));
	json_object_set_new(body, "tokens", list);
	TRY(ask(&answer, t, "/detokenize", body, err));
	prompt = json_object_get(answer, "prompt");
	if (!json_is_string(prompt)) {
		json_decref(answer);
		return error_set(err, E_FORMAT, "/detokenize: prompt is not a string");
	}
	buf_append(text, json_string_value(prompt), json_string_length(prompt));
	json_decref(answer);
	return OK;
}

uint32_t load_tokens_added(const struct load_tokens *t)
{
	return t->added;
}

const int32_t *load_tokens_words(const struct load_tokens *t, size_t *n)
{
	*n = t->words.len;
	return t->words.data;
}
