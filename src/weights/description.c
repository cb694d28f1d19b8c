/*
 * Reads quant_model_description.json (weights/description.h). The document stays as JSON: a hash table of
 * names is all that is asked of it.
 */
#include "weights/description.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "weights/weights_int.h"

#define USUAL_NAME "quant_model_description.json"
#define NAME_PREFIX "quant_model_description"
#define MAX_BYTES ((size_t)256 << 20) /* DeepSeek-V3.1's has 12 MB */
#define MAX_GROUP 65536
#define PATH_TAIL 56u /* messages have two names besides */

struct description {
	json_t *root; /* owned */
	char path[4096];
	uint32_t group;
	const char *version; /* or NULL; in root */
};

static bool is_description(const char *name)
{
	size_t n = strlen(name), prefix = sizeof(NAME_PREFIX) - 1;

	return n >= prefix + 5 && strncmp(name, NAME_PREFIX, prefix) == 0 && strcmp(name + n - 5, ".json") == 0;
}

/* The usual name, or the only other one; returns how many there are, 1 where the usual one is. */
static unsigned choose_file(char *out, size_t bytes, const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	unsigned n = 0;

	while (d && (e = readdir(d))) {
		bool usual = strcmp(e->d_name, USUAL_NAME) == 0;

		if (!is_description(e->d_name))
			continue;
		n = usual ? 1 : n + 1;
		snprintf(out, bytes, "%s/%s", dir, e->d_name);
		if (usual)
			break;
	}
	if (d)
		closedir(d);
	return n;
}

bool description_present(const char *dir)
{
	char path[4096];

	return choose_file(path, sizeof(path), dir) > 0;
}

/* Keys that name a quantization of the latent cache: C8, FAQuant, FAKQuant. */
static const char *const cache_keys[] = {"kv_quant_type", "kv_cache_type", "fa_quant_type"};

static enum status read_keys(struct description *d, struct error *err)
{
	const char *what = description_path(d), *version = NULL;
	int64_t group;

	if (!json_is_object(d->root))
		return error_set(
			err, E_FORMAT, "%s: %s, expected an object", what, json_type_name(d->root));
	TRY(json_opt_int(&group, d->root, what, "group_size", 0, MAX_GROUP, 0, err));
	TRY(json_opt_string(&version, d->root, what, "version", NULL, err));
	for (size_t i = 0; i < sizeof(cache_keys) / sizeof(*cache_keys); i++) {
		const char *s = json_string_value(json_object_get(d->root, cache_keys[i]));

		if (s && (strcmp(s, "C8") == 0 || strncmp(s, "FA", 2) == 0))
			return error_set(err, E_UNSUPPORTED, "%s: %s %.24s: a quantized cache is not supported", what,
				cache_keys[i], s);
	}
	d->group = (uint32_t)group;
	d->version = version;
	return OK;
}

enum status description_open(struct description **out, const char *dir, struct error *err)
{
	struct description *d;
	char path[4096];
	unsigned n = choose_file(path, sizeof(path), dir);
	enum status st;

	*out = NULL;
	if (n == 0)
		return OK;
	if (n > 1)
		return error_set(err, E_FORMAT, "%s: %u files %s*.json, none of them named " USUAL_NAME,
			weights_path_tail(dir), n, NAME_PREFIX);
	d = mem_alloc(sizeof(*d));
	snprintf(d->path, sizeof(d->path), "%s", path);
	TRY_GOTO(out_free, json_load_path(&d->root, d->path, MAX_BYTES, err));
	TRY_GOTO(out_free, read_keys(d, err));
	*out = d;
	return OK;
out_free:
	description_close(d);
	return st;
}

void description_close(struct description *d)
{
	if (!d)
		return;
	json_decref(d->root);
	free(d);
}

const char *description_path(const struct description *d)
{
	size_t n = strlen(d->path);

	return n > PATH_TAIL ? d->path + n - PATH_TAIL : d->path;
}

const char *description_scheme(const struct description *d, const char *tensor)
{
	const json_t *entry = json_object_get(d->root, tensor);

	return json_is_string(entry) ? json_string_value(entry) : entry ? "" : NULL;
}

uint32_t description_rows_per_byte(const struct description *d, const char *tensor)
{
	const char *name = d ? description_scheme(d, tensor) : NULL;
	const struct weight_scheme *scheme = name ? weight_scheme_named(name, d->group > 0) : NULL;

	return scheme ? scheme->rows_per_byte : 1;
}

uint32_t description_group(const struct description *d)
{
	return d->group;
}

const char *description_version(const struct description *d)
{
	return d->version;
}
