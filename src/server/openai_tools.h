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

#define OPENAI_MAX_TOOLS 1024 /* of tools, and of those allowed */

enum tool_choice {
	TOOLS_NONE,     /* no calls */
	TOOLS_AUTO,     /* the model decides */
	TOOLS_REQUIRED, /* at least one call */
	TOOLS_NAMED,    /* a call of one function */
};

/* What it points to belongs to the body. */
struct openai_tools {
	json_t *list; /* functions, each with a name; NULL: none */
	enum tool_choice choice;
	const json_t *named;   /* TOOLS_NAMED: of list */
	const json_t *allowed; /* functions of list by name, the only ones that may be called; NULL: all */
	bool parallel;       /* more than one call in an answer */
};

enum status openai_tools_parse(struct openai_tools *t, const json_t *body, struct refusal *no);

/*
 * The tools that the prompt of this body shows, owned by the caller, or NULL. Under allowed_tools those alone that the
 * model may call, unless a grammar keeps it from the others. The body need not have been parsed; refuses lists that are
 * too long.
 */
enum status openai_tools_shown(json_t **out, const json_t *body, struct refusal *no);

/*
 * The tools of which one must be called, a new list that the caller owns; NULL when the model is free to answer
 * in words. What constrains an answer to calls asks here.
 */
json_t *openai_tools_forced(const struct openai_tools *t);

#endif
