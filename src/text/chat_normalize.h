/* Cures conversations of what chat templates handle badly; see text/chat.h. Internal to text/. */
#ifndef TEXT_CHAT_NORMALIZE_H
#define TEXT_CHAT_NORMALIZE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

/* *out: a new array, owned by the caller. Errors name messages[i] and the field. continue_final: the
 * last message is still being written and keeps its reasoning. */
enum status chat_normalize(
	json_t **out, const json_t *messages, bool continue_final, struct error *err);

/* *out: a new array in which every function has parameters. Errors name tools[i]. */
enum status chat_normalize_tools(json_t **out, const json_t *tools, struct error *err);

#endif
