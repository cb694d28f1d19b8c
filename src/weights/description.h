/*
 * quant_model_description.json of msmodelslim: the scheme of every tensor (spec: ascend, 2b).
 *
 * A flat object of tensor names and scheme names ("FLOAT", "W8A8", "W8A8_DYNAMIC", "W4A8_DYNAMIC"), with a
 * few keys for the whole checkpoint among them. A file of another name, quant_model_description*.json,
 * counts when it is the only one.
 */
#ifndef WEIGHTS_DESCRIPTION_H
#define WEIGHTS_DESCRIPTION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct description;

/* Whether DIR has a description. */
bool description_present(const char *dir);
/* *out is NULL when there is none. */
enum status description_open(struct description **out, const char *dir, struct error *err);
void description_close(struct description *d);

/* The end of the file's path, for messages. */
const char *description_path(const struct description *d);
/* A tensor's scheme; NULL when there is no entry, "" when it is not a string. */
const char *description_scheme(const struct description *d, const char *tensor);
/* Rows of a matrix in a byte of its tensor: 2 for int4, else 1. d may be NULL. */
uint32_t description_rows_per_byte(const struct description *d, const char *tensor);
/* K of a second scale of 4-bit weights; 0: none. */
uint32_t description_group(const struct description *d);
/* Version of the format; NULL in the files of old tools, which stored an int4 in each byte. */
const char *description_version(const struct description *d);

#endif
