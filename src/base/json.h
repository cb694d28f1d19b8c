/*
 * JSON over jansson: bounded loading and typed access with errors that name document and key.
 *
 * jansson rejects invalid UTF-8, duplicate handling is chosen here (a repeated key is an error),
 * and its parser stops at a nesting depth of 2048. `what` is the name of the document in messages,
 * usually the file's path.
 *
 * The _get_ functions fail when the key is absent or null; the _opt_ ones return `def` then. Both
 * fail when the value has the wrong type or lies outside [min, max].
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Files larger than max_bytes are refused before they are read. *out is owned by the caller. */
enum status json_load_path(json_t **out, const char *path, size_t max_bytes, struct error *err);
enum status json_load_text(json_t **out, const char *text, size_t len, const char *what,
	struct error *err);
/*
 * The same for what others write. Strings may hold \u0000: take their lengths from jansson. An integer beyond 64 bits
 * becomes a real with its first 17 or more digits, so that only about 16 of them are kept; beyond 308 digits it is an
 * error, as 1e309 is.
 */
enum status json_load_text_loose(json_t **out, const char *text, size_t len, const char *what,
	struct error *err);
/* Whether a text is an object as json_load_text_loose() reads it; here keys may come twice. */
bool json_is_object_text(const char *text, size_t len);

enum status json_get_object(json_t **out, json_t *obj, const char *what, const char *key,
	struct error *err); /* borrowed */
enum status json_get_array(json_t **out, json_t *obj, const char *what, const char *key,
	struct error *err); /* borrowed */
enum status json_get_string(const char **out, json_t *obj, const char *what, const char *key,
	struct error *err); /* borrowed, may not contain NUL */
enum status json_get_int(int64_t *out, json_t *obj, const char *what, const char *key, int64_t min,
	int64_t max, struct error *err);

enum status json_opt_string(const char **out, json_t *obj, const char *what, const char *key,
	const char *def, struct error *err);
enum status json_opt_int(int64_t *out, json_t *obj, const char *what, const char *key, int64_t min,
	int64_t max, int64_t def, struct error *err);
enum status json_opt_double(double *out, json_t *obj, const char *what, const char *key, double min,
	double max, double def, struct error *err);
enum status json_opt_bool(bool *out, json_t *obj, const char *what, const char *key, bool def,
	struct error *err);

/* Name of a value's type for messages: "object", "string", "null", "nothing" for NULL. */
const char *json_type_name(const json_t *value);

#endif
