/* For tests of answers: the model's markers, and what a sequence of tokens must show of itself. */
#ifndef TESTS_UNIT_CHAT_CASE_H
#define TESTS_UNIT_CHAT_CASE_H

#include <stdbool.h>

#include "base/buf.h"
#include "text/chat_parse.h"
#include "text/token.h"

#define TB "<think>"
#define TE "</think>"
#define CALLS "<｜tool▁calls▁begin｜>"
#define CALLS_END "<｜tool▁calls▁end｜>"
#define CALL "<｜tool▁call▁begin｜>"
#define CALL_END "<｜tool▁call▁end｜>"
#define SEP "<｜tool▁sep｜>"

#define CHAT_CASE_MARKS 7
/* The same as tokens. */
void chat_case_marks(int32_t marks[CHAT_CASE_MARKS], const struct chat_format *f);

/* Adds what a client got to an account: without white space, and without the {} of calls without arguments. Where
 * accounts are compared, no token is that. */
void chat_case_account(struct buf *out, const char *text, size_t len);

/* Adds the text of every token but markers; markers too where they are data of arguments. cut: the answer ends here,
 * not with the end of the sequence; then a name that is not complete is dropped. */
void chat_case_account_tokens(struct buf *out, const struct tokenizer *tok, const struct chat_format *f,
	const struct token_buf *ids, bool cut);

#endif
