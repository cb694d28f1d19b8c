/*
 * Prompts of a benchmark with their lengths: made up (random, prefix_repetition) or read from a file
 * (sharegpt, custom). A function of the configuration and its seed alone.
 *
 *   TRY(load_dataset_make(&d, &config, err));
 *   d.prompts[i].text ...
 *   load_dataset_deinit(&d);
 */
#ifndef LOAD_DATASET_H
#define LOAD_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "load/load_tokens.h"

#define LOAD_DATASETS "random|sharegpt|custom|prefix_repetition"
#define LOAD_MAX_PROMPTS 10000000
#define LOAD_MAX_TOKENS 10000000 /* of one prompt or answer */

struct load_prompt {
	const char *text; /* [len] valid UTF-8 and a NUL */
	size_t len;
	uint32_t prompt_tokens; /* 0: unknown */
	uint32_t output_tokens; /* asked for */
};

struct load_dataset {
	struct load_prompt *prompts; /* [n] owned */
	uint32_t n;
	size_t cap;
	struct arena arena; /* texts */
};

struct load_dataset_config {
	const char *name;
	const char *path; /* of sharegpt and custom */
	uint32_t n;
	uint64_t seed;
	struct load_tokens *tokens; /* NULL: lengths of custom prompts stay unknown, the others need it */
	uint32_t input_tokens;  /* random */
	uint32_t output_tokens; /* all but sharegpt and custom, where 0 means what the file says */
	double input_ratio, output_ratio; /* random: lengths vary by this part; below 1 */
	uint32_t prefix_tokens, suffix_tokens, prefixes; /* random: prefix_tokens alone */
	bool in_order;  /* files: as they stand, not shuffled */
	bool no_repeat; /* files: fewer prompts where the file has fewer */
};

enum status load_dataset_make(struct load_dataset *out, const struct load_dataset_config *c, struct error *err);
void load_dataset_deinit(struct load_dataset *d);

/* For the makers: text is copied. */
void load_dataset_add(struct load_dataset *d, const char *text, size_t len, uint32_t prompt_tokens,
	uint32_t output_tokens);
/* Fisher and Yates. */
void load_dataset_shuffle(struct load_dataset *d, uint64_t seed);
enum status load_dataset_read(struct load_dataset *d, const struct load_dataset_config *c, struct error *err);

#endif
