/*
 * For tests of the server without engine and sockets: its own code runs from the body of a request to the answer or
 * its events; the engine is a list of tokens, which come in the steps that the test wants.
 *
 *	line = server_case_answer(CHAT, THINKING, true, &ids, ends, n_ends, "");
 */
#ifndef TESTS_UNIT_SERVER_CASE_H
#define TESTS_UNIT_SERVER_CASE_H

#include "cm.h"

#include <jansson.h>
#include <stdbool.h>

#include "server/serving_int.h"
#include "text/chat_parse.h"
#include "text/token.h"

#define MAX_TOKENS 128 /* of an answer */

enum server_case_api { CHAT, MESSAGES, RESPONSES, N_APIS };

/* What is asked, and how the answer ends. */
enum {
	THINKING = 1,
	CUT = 2,
	REQUIRED = 4,
	NAMED = 8,
	ALONE = 16,
	NO_TOOLS = 32,
	AFTER_RESULT = 64, /* the conversation ends with a result */
	V3_FORM = 128,     /* the model has the older form of calls */
};

extern struct serving serving; /* of DeepSeek-V3.1's tokenizer and template */

/* Setup and teardown of the group. */
int server_case_open(void **state);
int server_case_close(void **state);

/* The tokens of text with markers; behind them the end of the sequence, unless the answer is CUT. The caller's. */
struct token_buf server_case_encode(const char *text, unsigned how);

/*
 * The parts of an answer in one line, and how it ended: R:reasoning, C:content, [name|arguments]#NN of a call, NN the
 * end of its id. Messages and Responses have them in the model's order. The same answer has the same ids each time.
 * ends[i]: step i + 1 begins behind so many tokens. more: further fields, ",..." or "". The line is the caller's.
 */
char *server_case_answer(enum server_case_api api, unsigned how, bool stream, const struct token_buf *ids,
	const uint32_t *ends, size_t n_ends, const char *more);
/* The last answer that was no stream. */
const json_t *server_case_whole(void);
/* A member that is a string; otherwise "". */
const char *server_case_string(const json_t *obj, const char *key);

#endif
