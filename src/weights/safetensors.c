/*
 * Safetensors files (weights/safetensors.h): finding a checkpoint's files, checking their headers,
 * positioned reads.
 *
 * Invariant: after open, every tensor lies inside its file, overlaps no other, and its shape times its
 * element size is its length; readers check nothing again.
 */
#include "weights/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/mem.h"
#include "weights/weights_int.h"

#define MAX_HEADER_BYTES ((uint64_t)100 << 20)
#define MAX_INDEX_BYTES ((size_t)256 << 20)
#define MAX_FILES 10000u

struct st_file {
	char *path;       /* in the arena */
	const char *name; /* end of path, for messages */
	int fd;
	uint64_t data_at; /* after the header */
	uint64_t bytes;
};

struct safetensors {
	struct arena arena; /* names and paths */
	struct st_file *files;
	size_t n_files, files_cap;
	struct st_tensor *tensors; /* sorted by name once open */
	size_t n, cap;
};

/* --- one file ---------------------------------------------------------------------------------- */

static enum status read_fully(
	int fd, const char *path, void *dst, uint64_t at, uint64_t bytes, struct error *err)
{
	uint8_t *p = dst;

	while (bytes) {
		ssize_t n = pread(fd, p, bytes < (1u << 30) ? bytes : 1u << 30, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, E_IO, "%s: reading at byte %llu: %s", path,
				(unsigned long long)at, strerror(errno));
		if (n == 0)
			return error_set(err, E_IO, "%s: the file ends at byte %llu, expected %llu more "
				"bytes", path, (unsigned long long)at, (unsigned long long)bytes);
		p += n;
		at += (uint64_t)n;
		bytes -= (uint64_t)n;
	}
	return OK;
}

static bool dtype_of(const char *name, enum dtype *out)
{
	for (int t = 0; t < DT_COUNT; t++)
		if (strcmp(name, dtype_name((enum dtype)t)) == 0) {
			*out = (enum dtype)t;
			return true;
		}
	if (strcmp(name, "F8_E8M0") == 0) { /* a power of two as its biased exponent */
		*out = DT_U8;
		return true;
	}
	return false;
}

/* shape and data_offsets of one header entry. */
static enum status parse_range(struct st_tensor *t, json_t *value, const struct st_file *f,
	const char *what, struct error *err)
{
	uint64_t data = f->bytes - f->data_at, need = dtype_bytes(t->dtype);
	json_t *shape, *offsets, *item;
	int64_t ends[2];
	size_t i;

	TRY(json_get_array(&shape, value, what, "shape", err));
	TRY(json_get_array(&offsets, value, what, "data_offsets", err));
	if (json_array_size(shape) > SAFETENSORS_MAX_RANK)
		return error_set(err, E_FORMAT, "%s: %zu dimensions, expected at most %d", what,
			json_array_size(shape), SAFETENSORS_MAX_RANK);
	t->rank = (uint32_t)json_array_size(shape);
	json_array_foreach(shape, i, item) {
		if (!json_is_integer(item) || json_integer_value(item) < 0)
			return error_set(err, E_FORMAT, "%s: shape[%zu] is not a size", what, i);
		t->shape[i] = (uint64_t)json_integer_value(item);
		if (__builtin_mul_overflow(need, t->shape[i], &need))
			return error_set(err, E_FORMAT, "%s: its shape overflows 64 bits", what);
	}
	if (json_array_size(offsets) != 2)
		return error_set(err, E_FORMAT, "%s: data_offsets has %zu numbers, expected 2", what,
			json_array_size(offsets));
	for (i = 0; i < 2; i++) {
		item = json_array_get(offsets, i);
		if (!json_is_integer(item) || json_integer_value(item) < 0)
			return error_set(err, E_FORMAT, "%s: data_offsets[%zu] is not an offset", what, i);
		ends[i] = json_integer_value(item);
	}
	if (ends[0] > ends[1] || (uint64_t)ends[1] > data)
		return error_set(err, E_FORMAT,
			"%s: data_offsets %lld to %lld, the file has %llu bytes of data", what,
			(long long)ends[0], (long long)ends[1], (unsigned long long)data);
	t->bytes = (uint64_t)(ends[1] - ends[0]);
	if (t->bytes != need)
		return error_set(err, E_FORMAT, "%s: %llu bytes, its shape and dtype need %llu", what,
			(unsigned long long)t->bytes, (unsigned long long)need);
	t->offset = f->data_at + (uint64_t)ends[0];
	return OK;
}

static enum status parse_tensor(struct safetensors *s, const char *name, json_t *value,
	uint32_t file, struct error *err)
{
	const struct st_file *f = &s->files[file];
	struct st_tensor t = {.file = file};
	const char *dtype;
	char what[160];

	snprintf(what, sizeof(what), "%s: tensor %.70s", f->name, name);
	if (!json_is_object(value))
		return error_set(err, E_FORMAT, "%s: %s, expected an object", what, json_type_name(value));
	TRY(json_get_string(&dtype, value, what, "dtype", err));
	if (!dtype_of(dtype, &t.dtype))
		return error_set(err, E_UNSUPPORTED, "%s: dtype %.20s is unknown", what, dtype);
	TRY(parse_range(&t, value, f, what, err));
	t.name = arena_strndup(&s->arena, name, strlen(name));
	s->tensors = mem_grow(s->tensors, &s->cap, s->n + 1, sizeof(*s->tensors));
	s->tensors[s->n++] = t;
	return OK;
}

static int by_offset(const void *a, const void *b)
{
	const struct st_tensor *x = a, *y = b;

	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* The format wants the data without holes or overlaps. */
static enum status check_layout(struct safetensors *s, size_t first, uint32_t file, struct error *err)
{
	const struct st_file *f = &s->files[file];
	uint64_t at = f->data_at;

	if (s->n > first)
		qsort(s->tensors + first, s->n - first, sizeof(*s->tensors), by_offset);
	for (size_t i = first; i < s->n; i++) {
		const struct st_tensor *t = &s->tensors[i];

		if (t->offset != at)
			return error_set(err, E_FORMAT, "%s: tensor %.60s begins at byte %llu, %s byte %llu",
				f->name, t->name, (unsigned long long)t->offset,
				t->offset < at ? "inside the one that ends at" : "expected",
				(unsigned long long)at);
		at += t->bytes;
	}
	if (at != f->bytes)
		return error_set(err, E_FORMAT, "%s: %llu bytes, its tensors end at %llu", f->name,
			(unsigned long long)f->bytes, (unsigned long long)at);
	return OK;
}

static enum status parse_header(struct safetensors *s, uint32_t file, const char *text, size_t len,
	struct error *err)
{
	size_t first = s->n;
	const char *name;
	json_t *root, *value;
	enum status st;

	TRY(json_load_text(&root, text, len, s->files[file].name, err));
	if (!json_is_object(root)) {
		st = error_set(err, E_FORMAT, "%s: header is %s, expected an object", s->files[file].name,
			json_type_name(root));
		goto out;
	}
	json_object_foreach(root, name, value) {
		if (strcmp(name, "__metadata__") == 0)
			continue;
		TRY_GOTO(out, parse_tensor(s, name, value, file, err));
	}
	st = check_layout(s, first, file, err);
out:
	json_decref(root);
	return st;
}

static enum status read_header(struct safetensors *s, uint32_t file, struct error *err)
{
	struct st_file *f = &s->files[file];
	struct stat info;
	uint8_t le[8];
	uint64_t len = 0;
	char *text;
	enum status st;

	if (fstat(f->fd, &info) != 0)
		return error_set(err, E_IO, "%s: %s", f->name, strerror(errno));
	if (!S_ISREG(info.st_mode))
		return error_set(err, E_FORMAT, "%s: not a regular file", f->name);
	f->bytes = (uint64_t)info.st_size;
	if (f->bytes < 8)
		return error_set(err, E_FORMAT, "%s: %llu bytes, a safetensors file has at least 8", f->name,
			(unsigned long long)f->bytes);
	TRY(read_fully(f->fd, f->name, le, 0, 8, err));
	for (int i = 7; i >= 0; i--)
		len = len << 8 | le[i];
	if (len > MAX_HEADER_BYTES)
		return error_set(err, E_FORMAT,
			"%s: header of %llu bytes, expected at most %llu: not a safetensors file", f->name,
			(unsigned long long)len, (unsigned long long)MAX_HEADER_BYTES);
	if (len > f->bytes - 8)
		return error_set(err, E_FORMAT,
			"%s: the file ends after %llu bytes, inside its header of %llu: truncated", f->name,
			(unsigned long long)f->bytes, (unsigned long long)len);
	f->data_at = 8 + len;
	text = mem_try_alloc(len + 1, 1);
	if (!text)
		return error_set(err, E_NOMEM, "%s: no memory for its header", f->name);
	st = read_fully(f->fd, f->name, text, 8, len, err);
	if (st == OK)
		st = parse_header(s, file, text, len, err);
	free(text);
	return st;
}

static enum status add_file(struct safetensors *s, const char *path, struct error *err)
{
	struct st_file f = {.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)}; /* a FIFO must not wait */

	if (f.fd < 0)
		return error_set(err, E_IO, "%s: %s", weights_path_tail(path), strerror(errno));
	if (s->n_files == MAX_FILES) {
		close(f.fd);
		return error_set(err, E_LIMIT, "%s: more than %u files", weights_path_tail(path), MAX_FILES);
	}
	f.path = arena_strndup(&s->arena, path, strlen(path));
	f.name = weights_path_tail(f.path);
	s->files = mem_grow(s->files, &s->files_cap, s->n_files + 1, sizeof(*s->files));
	s->files[s->n_files++] = f;
	return read_header(s, (uint32_t)s->n_files - 1, err);
}

/* --- sets --------------------------------------------------------------------------------------- */

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct st_tensor *)a)->name, ((const struct st_tensor *)b)->name);
}

static enum status sort_names(struct safetensors *s, struct error *err)
{
	if (s->n)
		qsort(s->tensors, s->n, sizeof(*s->tensors), by_name);
	for (size_t i = 1; i < s->n; i++)
		if (strcmp(s->tensors[i - 1].name, s->tensors[i].name) == 0)
			return error_set(err, E_FORMAT, "tensor %.60s is in %s and again in %s",
				s->tensors[i].name, base_name(s->files[s->tensors[i - 1].file].path),
				base_name(s->files[s->tensors[i].file].path));
	return OK;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A shard's name may not lead out of the directory. */
static enum status check_shard_name(const char *index, const char *name, struct error *err)
{
	if (!*name || strchr(name, '/') || strcmp(name, "..") == 0 || strlen(name) > 255)
		return error_set(err, E_FORMAT, "%s: shard '%.60s' is not a file name", index, name);
	return OK;
}

/* Every tensor of the index must be in the shard that it names. */
static enum status check_index(
	const struct safetensors *s, json_t *map, const char *index, struct error *err)
{
	const char *name, *shard;
	json_t *value;

	json_object_foreach(map, name, value) {
		const struct st_tensor *t = safetensors_find(s, name);

		shard = json_string_value(value);
		if (!t)
			return error_set(err, E_FORMAT, "%s: tensor %.60s is not in %.40s", index, name,
				shard);
		if (strcmp(base_name(s->files[t->file].path), shard) != 0)
			return error_set(err, E_FORMAT, "%s: tensor %.50s is in %.40s, expected %.40s", index,
				name, base_name(s->files[t->file].path), shard);
	}
	return OK;
}

static enum status open_shards(struct safetensors *s, const char *dir, json_t *map,
	const char *index, struct error *err)
{
	const char *name, **shards = NULL, *last = NULL;
	size_t n = 0, cap = 0;
	json_t *value;
	enum status st = OK;

	json_object_foreach(map, name, value) {
		if (!json_is_string(value)) {
			st = error_set(err, E_FORMAT, "%s: weight_map of %.60s is %s, expected a string",
				index, name, json_type_name(value));
			goto out;
		}
		TRY_GOTO(out, check_shard_name(index, json_string_value(value), err));
		shards = mem_grow(shards, &cap, n + 1, sizeof(*shards));
		shards[n++] = json_string_value(value);
	}
	if (n == 0) {
		st = error_set(err, E_FORMAT, "%s: weight_map is empty", index);
		goto out;
	}
	qsort(shards, n, sizeof(*shards), by_text);
	for (size_t i = 0; i < n; i++) {
		char path[4096];

		if (last && strcmp(last, shards[i]) == 0)
			continue;
		last = shards[i];
		if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, last) >= sizeof(path)) {
			st = error_set(err, E_INVAL, "%s: path is too long", index);
			goto out;
		}
		TRY_GOTO(out, add_file(s, path, err));
	}
out:
	free(shards);
	return st;
}

static enum status open_index(
	struct safetensors *s, const char *dir, const char *path, struct error *err)
{
	const char *index = weights_path_tail(path);
	json_t *root, *map;
	enum status st;

	TRY(json_load_path(&root, path, MAX_INDEX_BYTES, err));
	if (!json_is_object(root)) {
		st = error_set(err, E_FORMAT, "%s: %s, expected an object", index, json_type_name(root));
		goto out;
	}
	TRY_GOTO(out, json_get_object(&map, root, index, "weight_map", err));
	TRY_GOTO(out, open_shards(s, dir, map, index, err));
	TRY_GOTO(out, sort_names(s, err));
	st = check_index(s, map, index, err);
out:
	json_decref(root);
	return st;
}

static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);

	return n >= m && strcmp(name + n - m, end) == 0;
}

/* Files of one kind in a directory: how many, and the one to take. */
struct candidates {
	unsigned n;
	char name[256];
	bool exact; /* it has the name that checkpoints use */
};

static void candidate(struct candidates *c, const char *name, const char *usual)
{
	bool exact = strcmp(name, usual) == 0;

	c->n++;
	if (exact || (c->n == 1 && !c->exact))
		snprintf(c->name, sizeof(c->name), "%s", name);
	c->exact |= exact;
}

/* The index of a directory, or its single file, in `path`. Which one may not be a guess: of several,
 * the usual name decides, or nothing does. */
static enum status choose_entry(
	const char *dir, char *path, size_t path_bytes, bool *is_index, struct error *err)
{
	struct candidates index = {0}, single = {0}, *c;
	const char *tail = weights_path_tail(dir);
	struct dirent *e;
	DIR *d = opendir(dir);

	if (!d)
		return error_set(err, E_IO, "%s: %s", tail, strerror(errno));
	while ((e = readdir(d))) {
		if (ends_with(e->d_name, ".safetensors.index.json"))
			candidate(&index, e->d_name, "model.safetensors.index.json");
		else if (ends_with(e->d_name, ".safetensors") &&
			 strcmp(e->d_name, "golden.safetensors") != 0 &&
			 strcmp(e->d_name, "routes.safetensors") != 0)
			candidate(&single, e->d_name, "model.safetensors");
	}
	closedir(d);
	*is_index = index.n > 0;
	c = *is_index ? &index : &single;
	if (c->n == 0)
		return error_set(err, E_IO, "%s: no .safetensors file", tail);
	if (c->n > 1 && !c->exact)
		return error_set(err, E_FORMAT, *is_index
				? "%s: %u .safetensors.index.json files, none of them model's"
				: "%s: %u .safetensors files and no .safetensors.index.json", tail, c->n);
	if ((size_t)snprintf(path, path_bytes, "%s/%s", dir, c->name) >= path_bytes)
		return error_set(err, E_INVAL, "%s: path is too long", tail);
	return OK;
}

static struct safetensors *set_create(void)
{
	struct safetensors *s = mem_alloc(sizeof(*s));

	arena_init(&s->arena, 0);
	return s;
}

enum status safetensors_open_file(struct safetensors **out, const char *path, struct error *err)
{
	struct safetensors *s = set_create();
	enum status st;

	TRY_GOTO(out_close, add_file(s, path, err));
	TRY_GOTO(out_close, sort_names(s, err));
	*out = s;
	return OK;

out_close:
	safetensors_close(s);
	return st;
}

enum status safetensors_open_dir(struct safetensors **out, const char *dir, struct error *err)
{
	struct safetensors *s;
	char path[4096];
	bool is_index = false;
	enum status st;

	TRY(choose_entry(dir, path, sizeof(path), &is_index, err));
	if (!is_index)
		return safetensors_open_file(out, path, err);
	s = set_create();
	TRY_GOTO(out_close, open_index(s, dir, path, err));
	*out = s;
	return OK;

out_close:
	safetensors_close(s);
	return st;
}

void safetensors_close(struct safetensors *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_files; i++)
		close(s->files[i].fd);
	free(s->files);
	free(s->tensors);
	arena_deinit(&s->arena);
	free(s);
}

/* --- use ---------------------------------------------------------------------------------------- */

size_t safetensors_count(const struct safetensors *s)
{
	return s->n;
}

const struct st_tensor *safetensors_at(const struct safetensors *s, size_t i)
{
	BUG_ON(i >= s->n);
	return &s->tensors[i];
}

const struct st_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
	struct st_tensor key = {.name = name};

	return s->n ? bsearch(&key, s->tensors, s->n, sizeof(*s->tensors), by_name) : NULL;
}

const char *safetensors_path(const struct safetensors *s, const struct st_tensor *t)
{
	return s->files[t->file].name;
}

enum status safetensors_read(const struct safetensors *s, const struct st_tensor *t, void *dst,
	uint64_t at, uint64_t bytes, struct error *err)
{
	const struct st_file *f = &s->files[t->file];

	BUG_ON(at > t->bytes || bytes > t->bytes - at);
	return read_fully(f->fd, f->name, dst, t->offset + at, bytes, err);
}

enum status safetensors_load(void **out, const struct st_tensor **info, const struct safetensors *s,
	const char *name, enum dtype dtype, uint32_t rank, const uint64_t *shape, struct error *err)
{
	const struct st_tensor *t = safetensors_find(s, name);
	void *data;

	if (!t)
		return error_set(err, E_FORMAT, "%s: no tensor %.80s", s->files[0].name, name);
	if (t->dtype != dtype || t->rank != rank)
		return error_set(err, E_FORMAT, "%s: tensor %.60s is %s with %u dimensions, expected %s "
			"with %u", safetensors_path(s, t), name, dtype_name(t->dtype), t->rank,
			dtype_name(dtype), rank);
	for (uint32_t i = 0; i < rank; i++)
		if (shape && shape[i] && t->shape[i] != shape[i])
			return error_set(err, E_FORMAT, "%s: tensor %.60s: dimension %u is %llu, expected "
				"%llu", safetensors_path(s, t), name, i, (unsigned long long)t->shape[i],
				(unsigned long long)shape[i]);
	data = mem_try_alloc(t->bytes ? t->bytes : 1, 1);
	if (!data)
		return error_set(err, E_NOMEM, "%s: no memory for tensor %.60s", safetensors_path(s, t), name);
	if (safetensors_read(s, t, data, 0, t->bytes, err) != OK) {
		free(data);
		return err->code;
	}
	*out = data;
	if (info)
		*info = t;
	return OK;
}
