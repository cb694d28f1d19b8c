/*
 * Prompts from files (load/dataset.h): ShareGPT conversations as one JSON array, custom prompts as one
 * JSON object a line. What a file holds is checked; a bad line is named and ends the reading.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/random.h"
#include "load/arrival.h"
#include "load/dataset.h"

#define MAX_FILE_BYTES ((size_t)4 << 30)
#define MAX_LINE_BYTES ((size_t)64 << 20)

/* What vLLM's benchmark takes of ShareGPT: neither tiny nor long. */
#define SHAREGPT_MIN 4u
#define SHAREGPT_MAX_PROMPT 1024u
#define SHAREGPT_MAX_TOTAL 2048u

static enum status count(uint32_t *out, struct load_tokens *t, const char *text, size_t len, struct error *err)
{
	struct token_buf ids = { 0 };
	enum status st = load_tokens_encode(t, text, len, &ids, err);

	if (st == OK)
		*out = (uint32_t)ids.len + load_tokens_added(t);
	token_buf_deinit(&ids);
	return st;
}

/* One conversation; *took: it was added. */
static enum status add_conversation(struct load_dataset *d, const struct load_dataset_config *c, json_t *turns,
	bool *took, struct error *err)
{
	json_t *ask = json_object_get(json_array_get(turns, 0), "value");
	json_t *answer = json_object_get(json_array_get(turns, 1), "value");
	uint32_t prompt, output = c->output_tokens;

	*took = false;
	TRY(count(&prompt, c->tokens, json_string_value(ask), json_string_length(ask), err));
	if (!output) {
		TRY(count(&output, c->tokens, json_string_value(answer), json_string_length(answer), err));
		output -= load_tokens_added(c->tokens);
		if (output < SHAREGPT_MIN)
			return OK;
	}
	if (prompt < SHAREGPT_MIN || prompt > SHAREGPT_MAX_PROMPT || prompt + output > SHAREGPT_MAX_TOTAL)
		return OK;
	load_dataset_add(d, json_string_value(ask), json_string_length(ask), prompt, output);
	*took = true;
	return OK;
}

/* Every entry is looked at, so that a broken file is refused whatever the seed chooses. */
static enum status check_conversations(json_t *list, const char *path, struct error *err)
{
	json_t *entry, *turns;
	size_t i;

	if (!json_is_array(list))
		return error_set(err, E_FORMAT, "%s: found %s, expected an array of conversations", path,
			json_type_name(list));
	json_array_foreach(list, i, entry) {
		turns = json_object_get(entry, "conversations");
		if (!json_is_array(turns))
			return error_set(err, E_FORMAT, "%s: entry %zu: conversations: found %s, expected an array",
				path, i, json_type_name(turns));
		for (size_t j = 0; j < 2 && j < json_array_size(turns); j++) {
			json_t *value = json_object_get(json_array_get(turns, j), "value");

			if (!json_is_string(value))
				return error_set(err, E_FORMAT,
					"%s: entry %zu: conversations[%zu].value: found %s, expected a string", path,
					i, j, json_type_name(value));
		}
	}
	return OK;
}

/* Counting costs more than reading: conversations are tried in their shuffled order until there are n. */
static enum status take_conversations(struct load_dataset *d, const struct load_dataset_config *c, json_t *list,
	struct error *err)
{
	size_t n = json_array_size(list);
	json_t **order = mem_try_alloc(n + 1, sizeof(json_t *));
	uint64_t seed = load_seed(c->seed, LOAD_DRAW_SHUFFLE);
	size_t used = 0;
	enum status st = OK;
	bool took;

	if (!order)
		return error_set(err, E_NOMEM, "%s: no memory for %zu conversations", c->path, n);
	for (size_t i = 0; i < n; i++) {
		json_t *turns = json_object_get(json_array_get(list, i), "conversations");

		if (json_array_size(turns) >= 2)
			order[used++] = turns;
	}
	for (size_t i = used; i > 1 && !c->in_order; i--) {
		size_t j = random_u64(seed, i) % i;
		json_t *t = order[j];

		order[j] = order[i - 1];
		order[i - 1] = t;
	}
	for (size_t i = 0; i < used && d->n < c->n && st == OK; i++)
		st = add_conversation(d, c, order[i], &took, err);
	free(order);
	return st;
}

static enum status read_sharegpt(struct load_dataset *d, const struct load_dataset_config *c, struct error *err)
{
	json_t *list;
	enum status st;

	TRY(json_load_path(&list, c->path, MAX_FILE_BYTES, err));
	st = check_conversations(list, c->path, err);
	if (st == OK)
		st = take_conversations(d, c, list, err);
	json_decref(list);
	return st;
}

static enum status add_line(struct load_dataset *d, const struct load_dataset_config *c, const char *line,
	size_t len, const char *what, struct error *err)
{
	const char *prompt;
	int64_t output = c->output_tokens;
	uint32_t n = 0;
	json_t *v;
	enum status st;

	TRY(json_load_text(&v, line, len, what, err));
	st = json_is_object(v) ? OK : error_set(err, E_FORMAT, "%s: found %s, expected an object", what,
					      json_type_name(v));
	if (st == OK)
		st = json_get_string(&prompt, v, what, "prompt", err);
	if (st == OK && !*prompt)
		st = error_set(err, E_FORMAT, "%s: prompt: found an empty string, expected text", what);
	if (st == OK && !output)
		st = json_get_int(&output, v, what, "output_tokens", 1, LOAD_MAX_TOKENS, err);
	if (st == OK && c->tokens)
		st = count(&n, c->tokens, prompt, strlen(prompt), err);
	if (st == OK)
		load_dataset_add(d, prompt, strlen(prompt), n, (uint32_t)output);
	json_decref(v);
	return st;
}

static bool is_blank(const char *line, size_t len)
{
	return strspn(line, " \t\r\n") >= len;
}

static enum status read_lines(struct load_dataset *d, const struct load_dataset_config *c, FILE *file,
	struct error *err)
{
	char *line = NULL, what[160];
	size_t cap = 0, number = 0;
	enum status st = OK;
	ssize_t len;

	while (st == OK && (len = getline(&line, &cap, file)) >= 0) {
		number++;
		snprintf(what, sizeof(what), "%.120s: line %zu", c->path, number);
		if ((size_t)len > MAX_LINE_BYTES)
			st = error_set(err, E_LIMIT, "%s: more than %zu bytes", what, MAX_LINE_BYTES);
		else if (d->n == LOAD_MAX_PROMPTS)
			st = error_set(err, E_LIMIT, "%s: more than %d prompts", what, LOAD_MAX_PROMPTS);
		else if (!is_blank(line, (size_t)len))
			st = add_line(d, c, line, (size_t)len, what, err);
	}
	if (st == OK && ferror(file))
		st = error_set(err, E_IO, "%s: %s", c->path, strerror(errno));
	free(line);
	return st;
}

static enum status read_custom(struct load_dataset *d, const struct load_dataset_config *c, struct error *err)
{
	FILE *file = fopen(c->path, "re");
	enum status st;

	if (!file)
		return error_set(err, E_IO, "%s: cannot open: %s", c->path, strerror(errno));
	st = read_lines(d, c, file, err);
	fclose(file);
	if (st == OK && !c->in_order)
		load_dataset_shuffle(d, c->seed);
	if (d->n > c->n)
		d->n = c->n;
	return st;
}

enum status load_dataset_read(struct load_dataset *d, const struct load_dataset_config *c, struct error *err)
{
	TRY(strcmp(c->name, "custom") == 0 ? read_custom(d, c, err) : read_sharegpt(d, c, err));
	if (!d->n)
		return error_set(err, E_FORMAT, "%s: holds no prompt that can be used", c->path);
	return OK;
}
