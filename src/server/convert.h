/* What requests of other APIs have in common on their way to a chat completion. Values are shared, never copied. */
#ifndef SERVER_CONVERT_H
#define SERVER_CONVERT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "server/refusal.h"

/* Whether v is an object of this type. */
bool convert_is_type(const json_t *v, const char *type);

/* Fields that mean the same: copied unless absent or null. */
void convert_same(json_t *out, const json_t *body, const char *const *names, size_t n);

/* The value of a field, text or JSON by a schema, as response_format; NULL: absent. */
enum status convert_format(json_t *out, json_t *format, const char *field, struct refusal *no);

/*
 * A refusal of the chat completion, under the name that the field has in the request: names[i] = { chat's, its }. The
 * fields of a tool lie side by side there; parameters: the name of its schema.
 */
void convert_refusal(struct refusal *no, const char *const (*names)[2], size_t n, const char *parameters);

/* A tool_choice that names one function. The function's name is shared. */
json_t *convert_named(json_t *name);

#endif
