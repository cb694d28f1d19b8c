/* Requests of OpenAI's Responses API as chat completions (spec: serving, section 1.10). */
#ifndef SERVER_RESPONSES_REQUEST_H
#define SERVER_RESPONSES_REQUEST_H

#include <jansson.h>

#include "server/refusal.h"

/* Bytes of a field that answers repeat. */
#define RESPONSES_MAX_REPEATED (1u << 20)

/*
 * *out: the body of a chat completion that asks for the same, owned by the caller. Calls of functions become
 * part of the assistant's message before them; tools that only OpenAI can run are left out.
 */
enum status responses_convert(json_t **out, const json_t *body, struct refusal *no);

#endif
