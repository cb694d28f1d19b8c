/* Fields of structured output (server/structured.h). */
#include "server/structured.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "server/fields.h"
#include "text/grammar_cache.h"

#define CACHE_BYTES ((size_t)256 << 20)
#define MAX_WHITESPACE_BYTES 256

struct structured {
	struct grammar_vocab *vocab;
	pthread_mutex_t lock; /* of the cache */
	struct grammar_cache *cache;
};

enum kind { NOTHING, SCHEMA, REGEX, CHOICE, EBNF };

/* What a request asks for. */
struct wish {
	enum kind kind;
	const char *field; /* for messages */
	const json_t *value; /* a string, but for SCHEMA and CHOICE */
	json_t *owned;       /* SCHEMA that came as text */
	struct grammar_json_options options;
};

enum status structured_create(struct structured **out, const struct tokenizer *tok, uint32_t n_ids,
	const int32_t *eos, uint32_t n_eos, struct error *err)
{
	struct grammar_vocab *vocab;

	TRY(grammar_vocab_create(&vocab, tok, n_ids, eos, n_eos, err));
	*out = mem_alloc(sizeof(**out));
	(*out)->vocab = vocab;
	pthread_mutex_init(&(*out)->lock, NULL);
	(*out)->cache = grammar_cache_create(CACHE_BYTES);
	return OK;
}

void structured_destroy(struct structured *s)
{
	if (!s)
		return;
	grammar_cache_destroy(s->cache);
	pthread_mutex_destroy(&s->lock);
	grammar_vocab_destroy(s->vocab);
	free(s);
}

/* --- fields ---------------------------------------------------------------------------------------------- */

static enum status ask(struct wish *w, enum kind kind, const char *field, const json_t *value, struct refusal *no)
{
	if (w->kind != NOTHING)
		return refuse(no, field, "%s: the request has another constraint, %s; one is allowed", field, w->field);
	if ((kind == REGEX || kind == EBNF) && !json_is_string(value))
		return refuse_shape(no, field, "%s: found %s, expected a string", field, json_type_name(value));
	if (kind == CHOICE && !json_is_array(value))
		return refuse_shape(no, field, "%s: found %s, expected a list of strings", field, json_type_name(value));
	w->kind = kind;
	w->field = field;
	w->value = value;
	return OK;
}

/* A schema as an object, or as its text. */
static enum status ask_schema(struct wish *w, const char *field, const json_t *value, struct refusal *no)
{
	TRY(ask(w, SCHEMA, field, value, no));
	if (json_is_object(value) || json_is_boolean(value))
		return OK;
	if (!json_is_string(value))
		return refuse_shape(no, field, "%s: found %s, expected a JSON schema", field, json_type_name(value));
	if (fields_parse(&w->owned, NULL, json_string_value(value), json_string_length(value), no) != OK)
		return refuse(no, field, "%s: the text is not a JSON object", field);
	w->value = w->owned;
	return OK;
}

/* Any object. */
static enum status ask_object(struct wish *w, const char *field, struct refusal *no)
{
	TRY(ask(w, SCHEMA, field, NULL, no));
	w->owned = json_pack("{s:s}", "type", "object");
	w->value = w->owned;
	return OK;
}

static enum status parse_format(struct wish *w, const json_t *body, struct refusal *no)
{
	static const char field[] = "response_format";
	const char *type = NULL;
	json_t *format = NULL, *inner = NULL;
	const json_t *schema;

	TRY(field_object(&format, body, field, no));
	if (!format)
		return OK;
	TRY(field_string(&type, format, "type", no));
	if (!type)
		return refuse_shape(no, field, "response_format: type is missing");
	if (strcmp(type, "text") == 0)
		return OK;
	if (strcmp(type, "json_object") == 0)
		return ask_object(w, field, no);
	if (strcmp(type, "json_schema") != 0)
		return refuse(no, field, "response_format: type %.40s is not supported: text, json_object and json_schema are",
			type);
	TRY(field_object(&inner, format, "json_schema", no));
	schema = field_get(inner, "schema");
	if (!schema)
		return refuse(no, field, "response_format: json_schema needs an object with a schema");
	return ask_schema(w, field, schema, no);
}

static enum status parse_options(struct wish *w, const json_t *obj, const char *pattern, struct refusal *no)
{
	TRY(field_string(&w->options.whitespace, obj, pattern, no));
	if (w->options.whitespace && strlen(w->options.whitespace) > MAX_WHITESPACE_BYTES)
		return refuse(no, pattern, "%s: more than %d bytes", pattern, MAX_WHITESPACE_BYTES);
	return OK;
}

/* The constraint that one member of structured_outputs, or one older field, asks for. */
static enum status parse_member(struct wish *w, const char *key, const char *field, const json_t *v,
	struct refusal *no)
{
	if (strcmp(key, "json") == 0)
		return ask_schema(w, field, v, no);
	if (strcmp(key, "regex") == 0)
		return ask(w, REGEX, field, v, no);
	if (strcmp(key, "choice") == 0)
		return ask(w, CHOICE, field, v, no);
	if (strcmp(key, "grammar") == 0)
		return ask(w, EBNF, field, v, no);
	if (strcmp(key, "json_object") == 0) {
		if (!json_is_boolean(v))
			return refuse_shape(no, field, "%s: found %s, expected true or false", field, json_type_name(v));
		return json_is_true(v) ? ask_object(w, field, no) : OK;
	}
	return refuse(no, field, "%s: %.40s is not supported", field, key);
}

static enum status parse_outputs(struct wish *w, const json_t *body, struct refusal *no)
{
	static const char field[] = "structured_outputs";
	json_t *obj = NULL, *v;
	const char *key;

	TRY(field_object(&obj, body, field, no));
	json_object_foreach(obj, key, v) {
		if (json_is_null(v) || strcmp(key, "disable_any_whitespace") == 0 || strcmp(key, "whitespace_pattern") == 0 ||
			strcmp(key, "disable_additional_properties") == 0)
			continue;
		TRY(parse_member(w, key, field, v, no));
	}
	TRY(field_bool(&w->options.compact, obj, "disable_any_whitespace", no));
	TRY(field_bool(&w->options.closed, obj, "disable_additional_properties", no));
	TRY(parse_options(w, obj, "whitespace_pattern", no));
	if (obj && w->kind == NOTHING)
		return refuse(no, field, "structured_outputs: one of json, regex, choice, grammar and json_object is needed");
	return OK;
}

/* vLLM's names until 0.12. */
static enum status parse_guided(struct wish *w, const json_t *body, struct refusal *no)
{
	static const char *const names[] = { "guided_json", "guided_regex", "guided_choice", "guided_grammar",
		"guided_json_object" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		const json_t *v = field_get(body, names[i]);

		if (v)
			TRY(parse_member(w, names[i] + strlen("guided_"), names[i], v, no));
	}
	return parse_options(w, body, "guided_whitespace_pattern", no);
}

/* --- grammars -------------------------------------------------------------------------------------------- */

/* All that the grammar depends on. */
static void put_key(struct buf *key, const struct wish *w)
{
	char *text = NULL;
	const char *space = w->kind == SCHEMA && w->options.whitespace ? w->options.whitespace : "";

	/* The length keeps what a client wrote as white space apart from the grammar behind it. */
	buf_printf(key, "%d %d %d %zu %s\n", w->kind, w->options.compact, w->options.closed, strlen(space), space);
	if (json_is_string(w->value)) {
		buf_append(key, json_string_value(w->value), json_string_length(w->value));
		return;
	}
	text = json_dumps(w->value, JSON_COMPACT | JSON_ENCODE_ANY);
	buf_puts(key, text ? text : "");
	free(text);
}

static struct grammar *find(struct structured *s, const struct buf *key)
{
	struct grammar *g;

	pthread_mutex_lock(&s->lock);
	g = grammar_cache_find(s->cache, key->data, key->len);
	pthread_mutex_unlock(&s->lock);
	return g;
}

/* Two threads may have compiled the same meanwhile: the cache keeps the first. */
static void keep(struct structured *s, const struct buf *key, struct grammar *g)
{
	pthread_mutex_lock(&s->lock);
	grammar_cache_put(s->cache, key->data, key->len, g);
	pthread_mutex_unlock(&s->lock);
}

static enum status refuse_grammar(struct refusal *no, const char *field, const struct error *err)
{
	if (err->code == E_NOMEM)
		return refuse_status(no, 429, "TooManyRequestsError", field, "%s: %s", field, err->msg);
	return refuse(no, field, "%s: %s", field, err->msg);
}

static enum status compile(struct grammar **out, const struct structured *s, const struct wish *w, struct error *err)
{
	const char *text = json_string_value(w->value);
	size_t len = json_string_length(w->value);

	switch (w->kind) {
	case REGEX:
		return grammar_from_regex(out, s->vocab, text, len, err);
	case CHOICE:
		return grammar_from_choice(out, s->vocab, w->value, err);
	case EBNF:
		return grammar_from_ebnf(out, s->vocab, text, len, err);
	case SCHEMA:
	case NOTHING:
		break;
	}
	return grammar_from_schema(out, s->vocab, w->value, &w->options, err);
}

static enum status find_or_compile(struct grammar **out, struct structured *s, const struct wish *w, bool *missing,
	struct refusal *no)
{
	struct buf key = { 0 };
	struct error err;
	enum status st = OK;

	put_key(&key, w);
	*out = find(s, &key);
	if (!*out && missing) {
		*missing = true;
	} else if (!*out) {
		st = compile(out, s, w, &err);
		if (st == OK)
			keep(s, &key, *out);
		else
			st = refuse_grammar(no, w->field, &err);
	}
	buf_deinit(&key);
	return st;
}

enum status structured_parse(struct grammar **out, struct structured *s, const json_t *body, bool *missing,
	struct refusal *no)
{
	struct wish w = { .kind = NOTHING };
	struct grammar *g = NULL;
	enum status st;

	TRY_GOTO(out, parse_format(&w, body, no));
	TRY_GOTO(out, parse_outputs(&w, body, no));
	TRY_GOTO(out, parse_guided(&w, body, no));
	if (w.kind != NOTHING)
		st = find_or_compile(&g, s, &w, missing, no);
	if (st == OK)
		*out = g;
out:
	json_decref(w.owned);
	return st;
}

static enum status compile_tools(struct grammar **out, const struct structured *s, const struct chat_format *format,
	const json_t *tools, bool parallel, struct refusal *no)
{
	const struct grammar_tool_format f = {
		.calls_begin = format->calls_begin, .call_begin = format->call_begin, .sep = format->sep,
		.call_end = format->call_end, .calls_end = format->calls_end,
	};
	struct error err;

	if (grammar_from_tools(out, s->vocab, &f, tools, NULL, parallel, &err) != OK)
		return refuse_grammar(no, "tools", &err);
	return OK;
}

enum status structured_tools(struct grammar **out, struct structured *s, const struct chat_format *format,
	const json_t *tools, bool parallel, bool *missing, struct refusal *no)
{
	struct buf key = { 0 };
	enum status st = OK;
	char *text;

	if (*out)
		return refuse(no, "tool_choice", "tool_choice: calls are required, and the request has another constraint");
	if (format->dialect != CHAT_DEEPSEEK_V31)
		return refuse(no, "tool_choice", "tool_choice: calls cannot be required of a model that writes them as %s",
			chat_dialect_names[format->dialect]);
	text = json_dumps(tools, JSON_COMPACT);
	buf_printf(&key, "tools %d %s", parallel, text ? text : "");
	free(text);
	*out = find(s, &key);
	if (!*out && missing) {
		*missing = true;
	} else if (!*out) {
		st = compile_tools(out, s, format, tools, parallel, no);
		if (st == OK)
			keep(s, &key, *out);
	}
	buf_deinit(&key);
	return st;
}
