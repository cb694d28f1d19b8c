/* Sampling defaults (server/sampling_defaults.h). */
#include "server/sampling_defaults.h"

#include <string.h>

#include "base/json.h"

static enum status take(struct sampling_defaults *d, json_t *from, const char *what, struct error *err)
{
	if (!from)
		return OK;
	TRY(json_opt_double(&d->temperature, from, what, "temperature", 0, 2, d->temperature, err));
	TRY(json_opt_double(&d->top_p, from, what, "top_p", 1e-9, 1, d->top_p, err));
	TRY(json_opt_double(&d->min_p, from, what, "min_p", 0, 1, d->min_p, err));
	TRY(json_opt_double(&d->repetition_penalty, from, what, "repetition_penalty", 1e-9, 1e3,
		d->repetition_penalty, err));
	TRY(json_opt_int(&d->top_k, from, what, "top_k", -1, INT32_MAX, d->top_k, err));
	return json_opt_int(&d->max_new_tokens, from, what, "max_new_tokens", 1, INT32_MAX, d->max_new_tokens,
		err);
}

/* A file may hold more than is used here; what was typed must mean something. */
static enum status check_keys(json_t *over, struct error *err)
{
	static const char *const keys[] = { "temperature", "top_p", "top_k", "min_p", "repetition_penalty",
		"max_new_tokens" };
	const char *key;
	json_t *v;

	json_object_foreach(over, key, v) {
		size_t i = 0;

		while (i < sizeof(keys) / sizeof(*keys) && strcmp(key, keys[i]) != 0)
			i++;
		if (i == sizeof(keys) / sizeof(*keys))
			return error_set(err, E_INVAL, "--override-generation-config: unknown key '%.40s', expected "
				"temperature, top_p, top_k, min_p, repetition_penalty or max_new_tokens", key);
	}
	return OK;
}

enum status sampling_defaults_init(struct sampling_defaults *d, json_t *from, json_t *over, struct error *err)
{
	struct sampling_defaults v = { .temperature = 1, .top_p = 1, .repetition_penalty = 1 };

	TRY(take(&v, from, "generation_config.json", err));
	TRY(check_keys(over, err));
	TRY(take(&v, over, "--override-generation-config", err));
	*d = v;
	return OK;
}

enum status sampling_defaults_add_eos(struct sampling_defaults *d, int32_t id, uint32_t vocab,
	const char *what, struct error *err)
{
	if (id < 0)
		return OK;
	if ((uint32_t)id >= vocab)
		return error_set(err, E_FORMAT, "%s: eos_token_id: found %d, expected below vocab_size %u", what,
			id, vocab);
	for (uint32_t i = 0; i < d->n_eos; i++) {
		if (d->eos[i] == id)
			return OK;
	}
	if (d->n_eos == SAMPLING_MAX_EOS)
		return error_set(err, E_LIMIT, "%s: more than %d EOS ids", what, SAMPLING_MAX_EOS);
	d->eos[d->n_eos++] = id;
	return OK;
}
