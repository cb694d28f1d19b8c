/* Damaged and changed copies of checkpoints, in a temporary directory. */
#ifndef TESTS_UNIT_WEIGHTS_CASE_H
#define TESTS_UNIT_WEIGHTS_CASE_H

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "weights/safetensors.h"
#include "weights/weights.h"

/* A tensor on its way from one file to the other. */
struct case_tensor {
	char name[160];
	char dtype[16];
	uint32_t rank;
	uint64_t shape[SAFETENSORS_MAX_RANK];
	uint8_t *data; /* malloc'd */
	size_t bytes;
};

/* Changes t; returns 0 to leave it out. */
typedef int case_edit_fn(struct case_tensor *t, const void *arg);

/* Makes a directory for one test; case_dir() is its path. For cmocka's setup and teardown. */
int case_setup(void **state);
int case_teardown(void **state);
const char *case_dir(void);

void case_write_file(const char *name, const void *data, size_t bytes);

/* A document of a golden checkpoint, NULL when it has none; the same in the directory, which takes it. */
json_t *case_json(const char *golden, const char *name);
void case_write_json(const char *name, json_t *root);

/* Writes the tensors of a golden checkpoint as model.safetensors, with its documents. `extra` (may be
 * NULL) is one more tensor. */
void case_copy(const char *golden, case_edit_fn *edit, const void *arg, const struct case_tensor *extra);

/* Packs a checkpoint for the reference kernels; case_must_load() fails the test where that fails. */
enum status case_load(struct model_weights **out, const char *from, enum weights_quantization q, struct shard_plan plan,
	struct error *err);
struct model_weights *case_must_load(const char *from, enum weights_quantization q, struct shard_plan plan);
/* The one of the directory is refused with this status, and a message that holds `says`. */
void case_refused(enum status status, const char *says);

#endif
