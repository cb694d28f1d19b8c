/*
 * Safetensors files: a checked header, then positioned reads.
 *
 * Opening reads and checks the header only: lengths, offsets, overlaps, gaps, dtypes, duplicates and
 * shape products, before anything is allocated from them. A set is one file, or the shards that
 * model.safetensors.index.json (or another *.safetensors.index.json) lists, or the single
 * *.safetensors file of a directory; golden.safetensors and routes.safetensors, which hold results to
 * compare with, are never part of a set. Any number of threads may read.
 */
#ifndef WEIGHTS_SAFETENSORS_H
#define WEIGHTS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernel/dtype.h"

#define SAFETENSORS_MAX_RANK 8

struct safetensors; /* one or several files */

struct st_tensor {
	const char *name; /* borrowed from the set */
	enum dtype dtype;
	uint32_t rank;
	uint64_t shape[SAFETENSORS_MAX_RANK];
	uint32_t file;    /* index into the set's files */
	uint64_t offset;  /* in the file */
	uint64_t bytes;
};

enum status safetensors_open_file(struct safetensors **out, const char *path, struct error *err);
enum status safetensors_open_dir(struct safetensors **out, const char *dir, struct error *err);
void safetensors_close(struct safetensors *s);

size_t safetensors_count(const struct safetensors *s);
const struct st_tensor *safetensors_at(const struct safetensors *s, size_t i);
/* NULL when there is none. */
const struct st_tensor *safetensors_find(const struct safetensors *s, const char *name);
/* The file that holds t, for messages: its path, or the end of it when that is long. */
const char *safetensors_path(const struct safetensors *s, const struct st_tensor *t);

/* Reads bytes [at, at + bytes) of a tensor's data; the range must lie inside (BUG_ON). */
enum status safetensors_read(const struct safetensors *s, const struct st_tensor *t, void *dst,
	uint64_t at, uint64_t bytes, struct error *err);

/*
 * The tensor `name` with dtype and shape as given (rank dimensions; 0 matches any size), read whole
 * into new memory that the caller frees. For small tensors and golden files.
 */
enum status safetensors_load(void **out, const struct st_tensor **info, const struct safetensors *s,
	const char *name, enum dtype dtype, uint32_t rank, const uint64_t *shape, struct error *err);

#endif
