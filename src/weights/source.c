/*
 * Finds the tensors of one matrix and checks them: names, shapes, dtypes, the scheme of a description
 * (weights_int.h). Everything here is known from headers but the one input scale of static W8A8, which is
 * read at once.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "weights/weights_int.h"

#define NAME_BYTES 160
#define OLD_INT4 "int4 of the old layout, one in a byte"

/* A shape for messages: "[7168, 16384]". */
static const char *shape_text(char *out, size_t bytes, const uint64_t *shape, uint32_t rank)
{
	size_t at = (size_t)snprintf(out, bytes, "[");

	for (uint32_t i = 0; i < rank && at < bytes; i++)
		at += (size_t)snprintf(
			out + at, bytes - at, "%s%llu", i ? ", " : "", (unsigned long long)shape[i]);
	if (at < bytes)
		snprintf(out + at, bytes - at, "]");
	return out;
}

/* The first file of the checkpoint, for messages about what is in none of them. */
static const char *any_path(const struct safetensors *files)
{
	return safetensors_count(files) ? safetensors_path(files, safetensors_at(files, 0)) : "checkpoint";
}

static bool has_shape(const struct st_tensor *t, uint32_t rank, const uint64_t *shape)
{
	return t->rank == rank && memcmp(t->shape, shape, sizeof(*shape) * rank) == 0;
}

static enum status wrong_shape(
	const struct scope *s, const struct st_tensor *t, uint32_t rank, const uint64_t *shape)
{
	char found[64], expected[64];

	return error_set(s->err, E_FORMAT, "%s: tensor %.60s has shape %s, expected %s",
		safetensors_path(s->l->files, t), t->name, shape_text(found, sizeof(found), t->shape, t->rank),
		shape_text(expected, sizeof(expected), shape, rank));
}

enum status source_find(const struct scope *s, const char *name, uint32_t rank, const uint64_t *shape,
	const struct st_tensor **out)
{
	const struct st_tensor *t = safetensors_find(s->l->files, name);

	if (!t)
		return error_set(
			s->err, E_FORMAT, "%s: tensor %.80s is missing", any_path(s->l->files), name);
	if (!has_shape(t, rank, shape))
		return wrong_shape(s, t, rank, shape);
	*out = t;
	return OK;
}

enum status source_wrong_dtype(
	const struct scope *s, const struct st_tensor *t, const char *expected)
{
	return error_set(s->err, E_UNSUPPORTED, "%s: tensor %.60s is %s, expected %s",
		safetensors_path(s->l->files, t), t->name, dtype_name(t->dtype), expected);
}

/* --- the scheme --------------------------------------------------------------------------------- */

static enum status expected_float(const struct scope *s, const char *full, const char *name)
{
	return error_set(s->err, E_UNSUPPORTED, "%s: tensor %.60s has the scheme %.24s, expected FLOAT",
		description_path(s->l->description), full, name);
}

enum status source_check_float(const struct scope *s, const char *full)
{
	const char *name = s->l->description ? description_scheme(s->l->description, full) : NULL;

	return name && strcmp(name, "FLOAT") != 0 ? expected_float(s, full, name) : OK;
}

/* What a description says of NAME.weight: *scheme stays NULL for FLOAT. */
static enum status find_described(const struct scope *s, const char *full, const struct source *src,
	const struct weight_scheme **scheme)
{
	const struct description *d = s->l->description;
	const char *name = description_scheme(d, full);
	char known[80];

	*scheme = NULL;
	/* A float MTP layer may have no entries; where only floats may be, nothing else is at stake. */
	if (!name && !s->mtp && src->role != SOURCE_PLAIN)
		return error_set(s->err, E_FORMAT, "%s: no entry for tensor %.80s, expected its scheme",
			description_path(d), full);
	if (!name || strcmp(name, "FLOAT") == 0)
		return OK;
	*scheme = weight_scheme_named(name, description_group(d) > 0);
	if (!*scheme && !*name)
		return error_set(s->err, E_FORMAT, "%s: tensor %.60s: expected the name of a scheme: %s",
			description_path(d), full, weight_schemes_text(known, sizeof(known)));
	if (!*scheme)
		return error_set(s->err, E_UNSUPPORTED, "%s: tensor %.60s has the scheme %.24s, expected %s",
			description_path(d), full, name, weight_schemes_text(known, sizeof(known)));
	if (src->role == SOURCE_PLAIN || src->role == SOURCE_FLOAT)
		return expected_float(s, full, name);
	return OK;
}

/* What int4 needs to know of a checkpoint: the version that packs two rows, whole groups. */
static enum status check_int4(const struct scope *s, const char *full, const struct source *src, struct item *it)
{
	const struct description *d = s->l->description;
	const char *version = description_version(d);
	uint32_t group = description_group(d), fill = weight_traits(it->scheme->packed)->k_fill;

	if (!version || strcmp(version, "1.0.0") != 0)
		return error_set(s->err, E_UNSUPPORTED, "%.60s: tensor %.60s: %s with version %.16s, expected 1.0.0 "
			"(%s before it)", description_path(d), full, it->scheme->name,
			version ? version : "none", OLD_INT4);
	if (src->rows % 2)
		return error_set(s->err, E_FORMAT, "%s: tensor %.60s: %s with an odd number of rows",
			description_path(d), full, it->scheme->name);
	if (!it->scheme->grouped)
		return OK;
	if (group % fill || src->cols % group)
		return error_set(s->err, E_UNSUPPORTED, "%.60s: tensor %.60s: group_size %u, expected a multiple of "
			"%u that divides %u", description_path(d), full, group, fill, src->cols);
	it->group = group;
	return OK;
}

static enum status find_scheme(
	const struct scope *s, const char *full, const struct source *src, struct item *it)
{
	const struct st_tensor *t = safetensors_find(s->l->files, full);
	bool plain = src->role == SOURCE_PLAIN;

	it->scheme = NULL;
	if (s->l->description)
		TRY(find_described(s, full, src, &it->scheme));
	if (!t || it->scheme)
		return OK;
	it->scheme = weight_scheme_of_dtype(
		t->dtype, s->l->quantize && (src->role == SOURCE_LINEAR || src->role == SOURCE_EXPERT));
	plain |= s->l->description != NULL;
	if (!it->scheme || (plain && it->scheme->parts[0].suffix))
		return source_wrong_dtype(s, t, s->l->description ? "BF16 or F32 for its scheme FLOAT"
						: plain           ? "BF16 or F32"
								  : "BF16, F32 or F8_E4M3");
	return OK;
}

/* --- the parts ---------------------------------------------------------------------------------- */

static bool part_shape_fits(const struct st_tensor *t, const struct weight_part *p, const struct source *src,
	uint32_t group, uint64_t shape[2])
{
	bool vector = t->rank <= 1;

	shape[0] = p->extent == PART_ONE ? 1 : src->rows;
	shape[1] = 1;
	if (p->extent == PART_BLOCKS) {
		shape[0] = (src->rows + 127) / 128;
		shape[1] = (src->cols + 127) / 128;
		vector = false;
	} else if (p->extent == PART_GROUPS) {
		shape[1] = src->cols / group;
		vector = false;
	} else if (p->extent == PART_ONE && t->rank == 0) {
		return true;
	}
	return has_shape(t, vector ? 1 : 2, shape);
}

static enum status find_part(const struct scope *s, const char *name, const struct source *src, struct item *it,
	int i)
{
	const struct weight_part *p = &it->scheme->parts[i];
	const struct st_tensor *t;
	char full[NAME_BYTES];
	uint64_t shape[2];

	snprintf(full, sizeof(full), "%s%s.%s", s->prefix, name, p->suffix);
	t = safetensors_find(s->l->files, full);
	it->part[i] = t;
	if (!t && p->optional)
		return OK;
	if (!t)
		return error_set(s->err, E_FORMAT, "%s: tensor %.80s is missing%s%s", any_path(s->l->files), full,
			it->scheme->described ? ", scheme " : "", it->scheme->described ? it->scheme->name : "");
	if (p->extent == PART_ANY)
		return OK;
	if (!part_shape_fits(t, p, src, it->group, shape))
		return wrong_shape(s, t, p->extent == PART_BLOCKS || p->extent == PART_GROUPS ? 2 : 1, shape);
	if (!(p->dtypes & DTYPE_BIT(t->dtype)))
		return source_wrong_dtype(s, t,
			p->role == PART_BIAS ? "I32" : p->extent == PART_BLOCKS ? "F32, BF16 or F8_E8M0"
										 : "F32, BF16 or F16");
	return OK;
}

/* One number of a checkpoint. */
static enum status read_one(const struct scope *s, const struct st_tensor *t, float *out)
{
	uint8_t raw[8];

	TRY(safetensors_read(s->l->files, t, raw, 0, dtype_bytes(t->dtype), s->err));
	*out = dtype_to_f32(t->dtype, raw, 0);
	return OK;
}

static enum status read_input(const struct scope *s, struct item *it)
{
	for (int i = 0; i < WEIGHT_PARTS && it->scheme->parts[i].suffix; i++) {
		const struct st_tensor *t = it->part[i];
		enum part_role role = it->scheme->parts[i].role;
		float x;

		if (role != PART_INPUT_SCALE && role != PART_INPUT_OFFSET)
			continue;
		TRY(read_one(s, t, &x));
		if (role == PART_INPUT_SCALE ? !(x > 0) || !isfinite(x) : !(fabsf(x) <= 128))
			return error_set(s->err, E_FORMAT, "%s: tensor %.60s is %g, expected %s",
				safetensors_path(s->l->files, t), t->name, (double)x,
				role == PART_INPUT_SCALE ? "a positive number" : "a number from -128 to 128");
		if (role == PART_INPUT_SCALE)
			it->input_scale = x;
		else
			it->input_offset = x;
	}
	return OK;
}

/* A bias that no part of the scheme accounts for would be arithmetic that is not implemented. */
static enum status refuse_bias(const struct scope *s, const char *name, const struct item *it)
{
	char full[NAME_BYTES];
	const struct st_tensor *t;

	for (int i = 0; i < WEIGHT_PARTS && it->scheme->parts[i].suffix; i++)
		if (strcmp(it->scheme->parts[i].suffix, "bias") == 0)
			return OK;
	snprintf(full, sizeof(full), "%s%s.bias", s->prefix, name);
	t = safetensors_find(s->l->files, full);
	if (t)
		return error_set(s->err, E_UNSUPPORTED, "%s: tensor %.80s: biases are not supported",
			safetensors_path(s->l->files, t), full);
	return OK;
}

/* Says which scheme an error about the tensors of a matrix has to do with. */
static enum status name_scheme(const struct scope *s, const struct item *it, enum status st)
{
	size_t n = strlen(s->err->msg);

	if (st != OK && it->scheme && it->scheme->described && !strstr(s->err->msg, it->scheme->name))
		snprintf(s->err->msg + n, sizeof(s->err->msg) - n, ", scheme %s", it->scheme->name);
	return st;
}

enum status source_find_matrix(
	const struct scope *s, const char *name, const struct source *src, struct item *it)
{
	uint64_t shape[2] = {src->rows, src->cols};
	char full[NAME_BYTES];

	snprintf(full, sizeof(full), "%s%s.weight", s->prefix, name);
	TRY(find_scheme(s, full, src, it));
	if (it->scheme && it->scheme->packed == WEIGHT_I4)
		TRY(check_int4(s, full, src, it));
	if (it->scheme)
		shape[0] /= it->scheme->rows_per_byte;
	TRY(name_scheme(s, it, source_find(s, full, 2, shape, &it->src)));
	if (it->src->dtype != it->scheme->dtype)
		return error_set(s->err, E_FORMAT, "%s: tensor %.60s is %s, expected %s for its scheme %s",
			safetensors_path(s->l->files, it->src), full, dtype_name(it->src->dtype),
			dtype_name(it->scheme->dtype), it->scheme->name);
	TRY(refuse_bias(s, name, it));
	for (int i = 0; i < WEIGHT_PARTS && it->scheme->parts[i].suffix; i++)
		TRY(name_scheme(s, it, find_part(s, name, src, it, i)));
	TRY(name_scheme(s, it, read_input(s, it)));
	if (it->input_scale > 0 && src->role == SOURCE_EXPERT)
		return error_set(s->err, E_UNSUPPORTED, "%s: tensor %.60s: the scheme %s is not supported for experts",
			safetensors_path(s->l->files, it->src), full, it->scheme->name);
	if (weight_traits(it->scheme->packed)->integer && src->cols > WEIGHT_INTEGER_MAX_K)
		return error_set(s->err, E_UNSUPPORTED, "%s: tensor %.60s has %u inputs, expected at most %u for %s",
			safetensors_path(s->l->files, it->src), full, src->cols, WEIGHT_INTEGER_MAX_K,
			it->scheme->name);
	return OK;
}
