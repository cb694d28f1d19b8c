/* Typed access to jansson values. Every message has the form "DOC: KEY: found X, expected Y". */
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static bool is_beyond_64_bits(const char *number, size_t len)
{
	const char *digits = number + (*number == '-'), *most = *number == '-' ? "9223372036854775808" : "9223372036854775807";
	size_t n = strspn(digits, "0123456789");

	return digits + n == number + len && (n > 19 || (n == 19 && memcmp(digits, most, 19) > 0));
}

static char *string_end(char *p)
{
	for (p++; *p && *p != '"'; p++)
		p += *p == '\\' && p[1];
	return p + (*p == '"');
}

/* The two last digits, far beyond those that a double holds, make room for an exponent: nothing moves, and errors are
 * found where they stand in the text. */
static void make_reals(char *text)
{
	for (char *p = text + strcspn(text, "\"-0123456789"); *p; p += strcspn(p, "\"-0123456789")) {
		size_t n = strspn(p, "0123456789+-.eE");

		if (*p == '"') {
			p = string_end(p);
			continue;
		}
		if (is_beyond_64_bits(p, n))
			memcpy(p + n - 2, "e2", 2);
		p += n;
	}
}

/* jansson's integers have 64 bits. */
static json_t *load_loose(const char *text, size_t len, size_t flags, json_error_t *je)
{
	json_t *v = json_loadb(text, len, flags, je);
	char *copy;

	if (v || json_error_code(je) != json_error_numeric_overflow)
		return v;
	copy = mem_try_alloc(len + 1, 1);
	if (!copy)
		return NULL;
	memcpy(copy, text, len);
	make_reals(copy);
	v = json_loadb(copy, len, flags, je);
	free(copy);
	return v;
}

static enum status load(json_t **out, const char *text, size_t len, const char *what, bool loose,
	struct error *err)
{
	/* jansson 2.14 loses a NUL byte that follows a number. */
	const char *nul = len ? memchr(text, 0, len) : NULL;
	size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
	json_error_t je;
	json_t *v;

	if (nul)
		return error_set(err, E_FORMAT, "%s: not valid JSON at byte %td: NUL", what, nul - text);
	v = loose ? load_loose(text, len, flags | JSON_ALLOW_NUL, &je) : json_loadb(text, len, flags, &je);
	if (!v)
		return error_set(err, E_FORMAT, "%s: not valid JSON at line %d, column %d: %s", what,
			je.line, je.column, je.text);
	*out = v;
	return OK;
}

enum status json_load_text(json_t **out, const char *text, size_t len, const char *what,
	struct error *err)
{
	return load(out, text, len, what, false, err);
}

enum status json_load_text_loose(json_t **out, const char *text, size_t len, const char *what,
	struct error *err)
{
	return load(out, text, len, what, true, err);
}

bool json_is_object_text(const char *text, size_t len)
{
	json_error_t je;
	json_t *v = len && !memchr(text, 0, len) ? load_loose(text, len, JSON_ALLOW_NUL, &je) : NULL;
	bool is = json_is_object(v);

	json_decref(v);
	return is;
}

static enum status read_all(int fd, char *dst, size_t len, const char *path, struct error *err)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, dst + done, len - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, E_IO, "%s: read failed: %s", path, strerror(errno));
		if (n == 0)
			return error_set(err, E_IO, "%s: file shrank while it was read", path);
		done += (size_t)n;
	}
	return OK;
}

enum status json_load_path(json_t **out, const char *path, size_t max_bytes, struct error *err)
{
	enum status st = OK;
	struct stat sb;
	char *text = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return error_set(err, E_IO, "%s: cannot open: %s", path, strerror(errno));
	if (fstat(fd, &sb) != 0 || !S_ISREG(sb.st_mode)) {
		st = error_set(err, E_IO, "%s: not a regular file", path);
		goto out;
	}
	if ((uint64_t)sb.st_size > max_bytes) {
		st = error_set(err, E_LIMIT, "%s: %" PRIu64 " bytes, at most %zu are read", path,
			(uint64_t)sb.st_size, max_bytes);
		goto out;
	}
	text = mem_try_alloc(1, (size_t)sb.st_size + 1);
	if (!text) {
		st = error_set(err, E_NOMEM, "%s: no memory for %" PRIu64 " bytes", path,
			(uint64_t)sb.st_size);
		goto out;
	}
	TRY_GOTO(out, read_all(fd, text, (size_t)sb.st_size, path, err));
	st = json_load_text(out, text, (size_t)sb.st_size, path, err);
out:
	free(text);
	close(fd);
	return st;
}

const char *json_type_name(const json_t *value)
{
	if (!value)
		return "nothing";
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "object";
	case JSON_ARRAY:
		return "array";
	case JSON_STRING:
		return "string";
	case JSON_INTEGER:
		return "integer";
	case JSON_REAL:
		return "number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "boolean";
	case JSON_NULL:
		break;
	}
	return "null";
}

static enum status wrong_type(json_t *v, const char *what, const char *key, const char *expected,
	struct error *err)
{
	return error_set(err, E_FORMAT, "%s: %s: found %s, expected %s", what, key, json_type_name(v),
		expected);
}

enum status json_get_object(json_t **out, json_t *obj, const char *what, const char *key,
	struct error *err)
{
	json_t *v = json_object_get(obj, key);

	if (!json_is_object(v))
		return wrong_type(v, what, key, "an object", err);
	*out = v;
	return OK;
}

enum status json_get_array(json_t **out, json_t *obj, const char *what, const char *key,
	struct error *err)
{
	json_t *v = json_object_get(obj, key);

	if (!json_is_array(v))
		return wrong_type(v, what, key, "an array", err);
	*out = v;
	return OK;
}

enum status json_get_string(const char **out, json_t *obj, const char *what, const char *key,
	struct error *err)
{
	json_t *v = json_object_get(obj, key);

	if (!json_is_string(v))
		return wrong_type(v, what, key, "a string", err);
	if (strlen(json_string_value(v)) != json_string_length(v))
		return error_set(err, E_FORMAT, "%s: %s: contains a NUL character", what, key);
	*out = json_string_value(v);
	return OK;
}

enum status json_get_int(int64_t *out, json_t *obj, const char *what, const char *key, int64_t min,
	int64_t max, struct error *err)
{
	json_t *v = json_object_get(obj, key);
	int64_t n;

	if (!json_is_integer(v))
		return wrong_type(v, what, key, "an integer", err);
	n = json_integer_value(v);
	if (n != min && min == max)
		return error_set(err, E_FORMAT, "%s: %s: found %" PRId64 ", expected %" PRId64, what, key, n, min);
	if (n < min || n > max)
		return error_set(err, E_FORMAT,
			"%s: %s: found %" PRId64 ", expected %" PRId64 " to %" PRId64, what, key, n, min,
			max);
	*out = n;
	return OK;
}

static bool is_absent(const json_t *obj, const char *key)
{
	const json_t *v = json_object_get(obj, key);

	return !v || json_is_null(v);
}

enum status json_opt_string(const char **out, json_t *obj, const char *what, const char *key,
	const char *def, struct error *err)
{
	if (!is_absent(obj, key))
		return json_get_string(out, obj, what, key, err);
	*out = def;
	return OK;
}

enum status json_opt_int(int64_t *out, json_t *obj, const char *what, const char *key, int64_t min,
	int64_t max, int64_t def, struct error *err)
{
	if (!is_absent(obj, key))
		return json_get_int(out, obj, what, key, min, max, err);
	*out = def;
	return OK;
}

enum status json_opt_double(double *out, json_t *obj, const char *what, const char *key, double min,
	double max, double def, struct error *err)
{
	json_t *v = json_object_get(obj, key);
	double x = def;

	if (!is_absent(obj, key)) {
		if (!json_is_number(v))
			return wrong_type(v, what, key, "a number", err);
		x = json_number_value(v);
		if (!(x >= min && x <= max))
			return error_set(err, E_FORMAT, "%s: %s: found %g, expected %g to %g", what, key,
				x, min, max);
	}
	*out = x;
	return OK;
}

enum status json_opt_bool(bool *out, json_t *obj, const char *what, const char *key, bool def,
	struct error *err)
{
	json_t *v = json_object_get(obj, key);

	if (is_absent(obj, key)) {
		*out = def;
		return OK;
	}
	if (!json_is_boolean(v))
		return wrong_type(v, what, key, "true or false", err);
	*out = json_is_true(v);
	return OK;
}
