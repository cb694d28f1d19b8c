/*
 * Structured output: the fields of a request that say what grammar its answer must follow, and the
 * compiled grammars of the server.
 *
 * response_format, structured_outputs and vLLM's older guided_* fields are names of one thing; a request has
 * one constraint at most. Any thread may ask; compiling takes it for at most GRAMMAR_MAX_COMPILE_MS. Who cannot spend
 * that gives `missing`, which becomes true where the grammar is not in the cache; then *out stays NULL.
 */
#ifndef SERVER_STRUCTURED_H
#define SERVER_STRUCTURED_H

#include <jansson.h>

#include "server/refusal.h"
#include "text/chat_parse.h"
#include "text/grammar.h"

struct structured; /* of a server */

/* ids below n_ids may be generated; eos end a sequence. */
enum status structured_create(struct structured **out, const struct tokenizer *tok, uint32_t n_ids,
	const int32_t *eos, uint32_t n_eos, struct error *err);
void structured_destroy(struct structured *s); /* after every grammar that it gave */

/* *out: a reference, or NULL when the request asks for plain text. */
enum status structured_parse(struct grammar **out, struct structured *s, const json_t *body, bool *missing,
	struct refusal *no);

/*
 * Calls of one or more of these tools (at most one unless parallel) and no other text, in the form of `format`.
 * Refused where the request has another constraint already: *out is not NULL.
 */
enum status structured_tools(struct grammar **out, struct structured *s, const struct chat_format *format,
	const json_t *tools, bool parallel, bool *missing, struct refusal *no);

#endif
