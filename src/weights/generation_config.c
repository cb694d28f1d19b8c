/*
 * generation_config.json (weights/config.h): sampling defaults that come with a checkpoint, and the
 * stop tokens, which config.json writes in the same form.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "base/json.h"
#include "weights/config.h"
#include "weights/weights_int.h"

#define MAX_GENERATION_BYTES ((size_t)1 << 20)

enum status config_read_eos(int32_t *ids, uint32_t *n, json_t *root, const char *what, int64_t max_id,
	struct error *err)
{
	static const char key[] = "eos_token_id";
	json_t *v = json_object_get(root, key);

	*n = 0;
	if (!v || json_is_null(v))
		return OK;
	if (!json_is_array(v)) {
		int64_t id;

		TRY(json_get_int(&id, root, what, key, 0, max_id, err));
		ids[(*n)++] = (int32_t)id;
		return OK;
	}
	if (json_array_size(v) > CONFIG_MAX_EOS)
		return error_set(err, E_FORMAT, "%s: %s has %zu ids, expected at most %d", what, key,
			json_array_size(v), CONFIG_MAX_EOS);
	for (size_t i = 0; i < json_array_size(v); i++) {
		json_t *id = json_array_get(v, i);

		if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > max_id)
			return error_set(err, E_FORMAT, "%s: %s[%zu] is not a token id of 0 to %lld", what,
				key, i, (long long)max_id);
		ids[(*n)++] = (int32_t)json_integer_value(id);
	}
	return OK;
}

enum status generation_config_load(struct generation_config *out, const char *dir, struct error *err)
{
	struct generation_config g = {NAN, NAN, NAN, NAN, -1, -1, {0}, 0};
	char path[4096];
	int64_t top_k;
	const char *what;
	json_t *root;
	bool sample;
	enum status st;

	if ((size_t)snprintf(path, sizeof(path), "%s/generation_config.json", dir) >= sizeof(path))
		return error_set(err, E_INVAL, "%s: path is too long", weights_path_tail(dir));
	what = weights_path_tail(path);
	if (access(path, F_OK) != 0 && errno == ENOENT) {
		*out = g;
		return OK;
	}
	TRY(json_load_path(&root, path, MAX_GENERATION_BYTES, err));
	if (!json_is_object(root)) {
		st = error_set(err, E_FORMAT, "%s: %s, expected an object", what, json_type_name(root));
		goto out;
	}
	TRY_GOTO(out, json_opt_double(&g.temperature, root, what, "temperature", 0, 2, NAN, err));
	TRY_GOTO(out, json_opt_double(&g.top_p, root, what, "top_p", 0, 1, NAN, err));
	if (g.top_p == 0) {
		st = error_set(err, E_FORMAT, "%s: top_p: found 0, expected above 0 and at most 1", what);
		goto out;
	}
	TRY_GOTO(out, json_opt_double(&g.min_p, root, what, "min_p", 0, 1, NAN, err));
	TRY_GOTO(out, json_opt_double(&g.repetition_penalty, root, what, "repetition_penalty", 1e-6, 1e6, NAN, err));
	TRY_GOTO(out, json_opt_int(&top_k, root, what, "top_k", -1, INT32_MAX, -1, err));
	g.top_k = (int)top_k;
	TRY_GOTO(out, json_opt_bool(&sample, root, what, "do_sample", false, err));
	if (!json_is_null(json_object_get(root, "do_sample")) && json_object_get(root, "do_sample"))
		g.do_sample = sample;
	TRY_GOTO(out, config_read_eos(g.eos_token_id, &g.n_eos, root, what, INT32_MAX, err));
	*out = g;
	st = OK;
out:
	json_decref(root);
	return st;
}
