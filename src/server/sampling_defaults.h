/*
 * Sampling defaults of a server: generation_config.json, then --override-generation-config, over vLLM's
 * neutral values; and the ids that end an answer.
 */
#ifndef SERVER_SAMPLING_DEFAULTS_H
#define SERVER_SAMPLING_DEFAULTS_H

#include <jansson.h>
#include <stdint.h>

#include "base/error.h"
#include "text/tokenizer.h"
#include "weights/config.h"

#define SAMPLING_MAX_EOS 32

struct sampling_defaults {
	double temperature, top_p, min_p, repetition_penalty;
	int64_t top_k;
	int64_t max_new_tokens; /* 0: none */
	int32_t eos[SAMPLING_MAX_EOS];
	uint32_t n_eos;
};

/* from, over: objects or NULL; keys other than those above are not about sampling and are left alone. */
enum status sampling_defaults_init(struct sampling_defaults *d, json_t *from, json_t *over, struct error *err);
/* Ids outside the vocabulary are an error; each is kept once. */
enum status sampling_defaults_add_eos(struct sampling_defaults *d, int32_t id, uint32_t vocab,
	const char *what, struct error *err);

#endif
