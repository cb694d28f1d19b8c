/*
 * How weights are put together: what layout.c, load.c and random_weights.c share. Internal to weights/.
 *
 * layout.c walks a configuration once and lists every destination as an item: a packed matrix, a
 * vector or the embedding table, with the part of the source tensor that fills it. Sizes are the sum
 * over the items; loading and random filling are loops over them.
 */
#ifndef WEIGHTS_WEIGHTS_INT_H
#define WEIGHTS_WEIGHTS_INT_H

#include "base/json.h"
#include "weights/safetensors.h"
#include "weights/weights.h"

#define WEIGHTS_ALIGN 4096u

/* One way in which checkpoints store a matrix (format.c has the table). */
struct weight_source {
	const char *name;
	enum dtype dtype;
	bool scaled; /* with NAME_scale_inv, one scale per block of 128 x 128 */
	enum weight_format packed;
};

/* The row for a tensor's dtype; NULL when there is none. */
const struct weight_source *weight_source_find(enum dtype dtype);

enum item_kind { ITEM_MATRIX, ITEM_VECTOR, ITEM_TABLE };

/*
 * Rows of a matrix item and where they come from. Destination row i belongs to group g = i /
 * group_rows, where it is row j = i % group_rows; its source row is row0 + g * group_stride + j, of
 * which columns col0 .. col0 + k are taken. Transposed: its source is column col0 + j of the rows
 * row0 + g * group_stride .. + k.
 */
struct row_map {
	uint32_t group_rows;
	uint32_t group_stride;
	uint32_t row0;
	uint32_t col0;
	bool transposed;
};

struct item {
	enum item_kind kind;
	const struct st_tensor *src;   /* NULL: random weights */
	const struct st_tensor *scale; /* of a scaled source */
	const struct weight_source *source;
	size_t at;    /* offset of the destination in the model's memory */
	size_t bytes; /* there */

	/* ITEM_MATRIX: source panel i fills panel panel0 + i * panel_step of w. */
	struct weight *w;
	struct row_map map;
	uint32_t rows; /* that this item fills */
	uint32_t panel0;
	uint32_t panel_step;

	float **vector; /* ITEM_VECTOR, n values */
	uint16_t **table; /* ITEM_TABLE, n values */
	uint64_t n;
};

/* A model under construction. */
struct layout {
	struct model_weights *w;
	const struct safetensors *files; /* NULL: random weights of `format` */
	enum weight_format format;
	struct item *items; /* owned */
	size_t n_items, cap;
	size_t bytes;      /* of all destinations */
	size_t file_bytes; /* of all sources */
};

/* Allocates the structures of `config` and lists the items; nothing is bound yet. */
enum status layout_build(struct layout *l, const struct model_config *config,
	const struct safetensors *files, enum weight_format format, const struct weights_options *options,
	struct error *err);
/* Maps the memory and sets all pointers. */
enum status layout_bind(struct layout *l, struct error *err);
void layout_deinit(struct layout *l); /* and destroys l->w unless taken (set to NULL) */

/* eos_token_id of a document: one id, a list of them, or nothing. */
enum status config_read_eos(int32_t *ids, uint32_t *n, json_t *root, const char *what, int64_t max_id,
	struct error *err);

/* The end of a path, short enough for a message that must also hold a name and numbers. */
const char *weights_path_tail(const char *path);

#endif
