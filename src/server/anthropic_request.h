/* Requests of the Anthropic Messages API as chat completions (spec: serving, section 1.11). */
#ifndef SERVER_ANTHROPIC_REQUEST_H
#define SERVER_ANTHROPIC_REQUEST_H

#include <jansson.h>
#include <stdbool.h>

#include "server/refusal.h"

/*
 * *out: the body of a chat completion that asks for the same, owned by the caller. Messages become one each,
 * results of tools messages of their own; a last message of the assistant is continued. counting: max_tokens is
 * not needed.
 */
enum status anthropic_convert(json_t **out, const json_t *body, bool counting, struct refusal *no);

#endif
