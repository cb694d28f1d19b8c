/*
 * The tools of a chat request, and how the model may use them: tools, tool_choice, parallel_tool_calls
 * (spec: serving, section 1.5).
 */
#ifndef SERVER_OPENAI_TOOLS_H
#define SERVER_OPENAI_TOOLS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "server/refusal.h"

#define OPENAI_MAX_TOOLS 1024

enum tool_choice {
	TOOLS_NONE,     /* no calls */
	TOOLS_AUTO,     /* the model decides */
	TOOLS_REQUIRED, /* at least one call */
	TOOLS_NAMED,    /* a call of one function */
};

struct openai_tools {
	json_t *list; /* of the body: functions, each with a name; NULL: none */
	enum tool_choice choice;
	const json_t *named; /* TOOLS_NAMED: of list */
	bool parallel;       /* more than one call in an answer */
};

enum status openai_tools_parse(struct openai_tools *t, const json_t *body, struct refusal *no);

/*
 * The tools of which one must be called, a new list that the caller owns; NULL when the model is free to answer
 * in words. What constrains an answer to calls asks here.
 */
json_t *openai_tools_forced(const struct openai_tools *t);

#endif
