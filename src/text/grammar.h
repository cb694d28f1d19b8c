/*
 * Grammars that an answer must follow: from a JSON schema, a regular expression, a list of choices, an EBNF
 * text or a list of tools, to a mask over the vocabulary for each token.
 *
 *   TRY(grammar_vocab_create(&v, tok, n_ids, eos, n_eos, err));    once per model
 *   TRY(grammar_from_schema(&g, v, schema, &options, err));
 *   c = grammar_matcher_create(g);                                 one per sequence; see base/constraint.h
 *   grammar_unref(g);                                              matchers hold it
 *
 * Text is matched byte by byte, so a grammar does not care how it is cut into tokens. Tokens from
 * added_tokens (control tokens) are never text: they come only where a grammar names them. An end of
 * sequence may come exactly where the grammar accepts, and only ends of sequence after it.
 *
 * Compiling is bounded in source bytes, in states and in processor time; each bound is E_LIMIT with a
 * message. What a schema, expression or grammar asks for and cannot have is E_UNSUPPORTED or E_INVAL and
 * named. A grammar may be used by several threads at once. docs/structured-output.md is the users' page.
 */
#ifndef TEXT_GRAMMAR_H
#define TEXT_GRAMMAR_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/constraint.h"
#include "base/error.h"
#include "text/tokenizer.h"

#define GRAMMAR_MAX_SOURCE_BYTES ((size_t)256 << 10)
#define GRAMMAR_MAX_COMPILE_MS 50

struct grammar_vocab; /* the vocabulary as a trie of bytes; read only */
struct grammar;       /* counted references */

/* ids below n_ids may be generated; eos are those that end a sequence. The tokenizer must outlive it. */
enum status grammar_vocab_create(struct grammar_vocab **out, const struct tokenizer *tok, uint32_t n_ids,
	const int32_t *eos, uint32_t n_eos, struct error *err);
void grammar_vocab_destroy(struct grammar_vocab *v); /* after its grammars */
/* Compiling is E_NOMEM while all its grammars that are alive hold more than this; 1 GiB before. */
void grammar_vocab_limit(struct grammar_vocab *v, size_t bytes);

struct grammar_json_options {
	bool compact;           /* no white space outside strings */
	const char *whitespace; /* regular expression of the space between elements; NULL: up to one line break */
	bool closed;            /* additionalProperties is false where it is absent, in every object */
	bool object;            /* the value is an object, whatever else the schema allows */
};

/* Keywords: docs/structured-output.md. The schema is read, not kept. */
enum status grammar_from_schema(struct grammar **out, const struct grammar_vocab *v, const json_t *schema,
	const struct grammar_json_options *o, struct error *err);
/* The whole text matches. */
enum status grammar_from_regex(struct grammar **out, const struct grammar_vocab *v, const char *regex,
	size_t len, struct error *err);
/* One of a list of strings. */
enum status grammar_from_choice(struct grammar **out, const struct grammar_vocab *v, const json_t *list,
	struct error *err);
/* Rules NAME ::= ..., beginning at `root`. */
enum status grammar_from_ebnf(struct grammar **out, const struct grammar_vocab *v, const char *text, size_t len,
	struct error *err);

/*
 * Calls of tools as DeepSeek-V3.1 writes them: calls_begin, then for each call call_begin NAME sep ARGUMENTS
 * call_end, then calls_end, where all but NAME and ARGUMENTS are tokens of the vocabulary. `tools` is the
 * request's list ({"type":"function","function":{"name":...,"parameters":SCHEMA}}).
 */
struct grammar_tool_format {
	int32_t calls_begin, call_begin, sep, call_end, calls_end;
};

/* The ids of that format by their spelling; E_UNSUPPORTED when the vocabulary lacks one. */
enum status grammar_tool_format_find(struct grammar_tool_format *out, const struct tokenizer *tok,
	struct error *err);
/* only: NULL, or the one tool that may be called. parallel: more than one call. */
enum status grammar_from_tools(struct grammar **out, const struct grammar_vocab *v,
	const struct grammar_tool_format *format, const json_t *tools, const char *only, bool parallel,
	struct error *err);

struct grammar *grammar_ref(struct grammar *g);
void grammar_unref(struct grammar *g); /* NULL is fine */
/* What it holds now: it grows, within bounds, while it is used. */
size_t grammar_bytes(struct grammar *g);

/* Owned; constraint_destroy(). Neither waits for the matchers of other threads. */
struct constraint *grammar_matcher_create(struct grammar *g);
/* An independent copy in the same state. */
struct constraint *grammar_matcher_fork(const struct constraint *c);
/* Whether the text so far is a whole one. */
bool grammar_matcher_accepts(struct constraint *c);

#endif
