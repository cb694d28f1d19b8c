/*
 * Fields of a request's JSON object. A field that is absent or null leaves *out as it is: the caller
 * presets the default. A value of the wrong type or outside its range is refused by name.
 */
#ifndef SERVER_FIELDS_H
#define SERVER_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "server/refusal.h"

#define FIELDS_MAX_DEPTH 64
#define FIELDS_MAX_VALUES ((size_t)1 << 20)

/* Parses a body: an object, nested at most FIELDS_MAX_DEPTH deep, of at most FIELDS_MAX_VALUES values (*n_values of
 * them, at most; may be NULL), without repeated keys. Owned. */
enum status fields_parse(json_t **out, size_t *n_values, const char *body, size_t len, struct refusal *no);

/* NULL when absent or null. */
json_t *field_get(const json_t *obj, const char *name);
enum status field_bool(bool *out, const json_t *obj, const char *name, struct refusal *no);
enum status field_int(int64_t *out, const json_t *obj, const char *name, int64_t min, int64_t max,
	struct refusal *no);
enum status field_real(double *out, const json_t *obj, const char *name, double min, double max,
	struct refusal *no);
enum status field_string(const char **out, const json_t *obj, const char *name, struct refusal *no);
enum status field_object(json_t **out, const json_t *obj, const char *name, struct refusal *no);
enum status field_array(json_t **out, const json_t *obj, const char *name, struct refusal *no);

/* A token id below vocab, from element i of a list that `name` names. */
enum status field_id(int32_t *out, const json_t *value, const char *name, size_t i, uint32_t vocab,
	struct refusal *no);

#endif
