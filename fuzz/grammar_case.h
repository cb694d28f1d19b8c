/*
 * What the targets of grammars share: the demo model's vocabulary, and a grammar walked for a while under its masks,
 * where a token is accepted exactly when the mask says so, steps back come back, and there is always a next one.
 */
#ifndef FUZZ_GRAMMAR_CASE_H
#define FUZZ_GRAMMAR_CASE_H

#include <stdint.h>

#include "text/grammar.h"

/* Opened by the first call. */
const struct grammar_vocab *grammar_case_vocab(void);
const struct grammar_tool_format *grammar_case_format(void);
/* The end of a compilation: walks the grammar and drops it, or requires a message. */
void grammar_case_end(enum status st, struct grammar *g, const struct error *err, size_t seed);

/* Any bytes as a text that compile reads: what is UTF-8, as the strings of a request's JSON are, is refused with a message, or
 * compiled and walked. */
typedef enum status grammar_case_compile(struct grammar **out, const struct grammar_vocab *v, const char *text, size_t len,
	struct error *err);
int grammar_case_text(grammar_case_compile *compile, const uint8_t *data, size_t size);

#endif
