/*
 * How weights are put together: what layout.c, load.c and random_weights.c share. Internal to weights/.
 *
 * format.c says how matrices are stored; source.c finds the tensors of one and checks them.
 *
 * layout.c walks a configuration once and lists every destination as an item: a packed matrix, a
 * vector or the embedding table, with the part of the source tensor that fills it. Sizes are the sum
 * over the items; loading and random filling are loops over them.
 */
#ifndef WEIGHTS_WEIGHTS_INT_H
#define WEIGHTS_WEIGHTS_INT_H

#include "base/json.h"
#include "weights/description.h"
#include "weights/safetensors.h"
#include "weights/weights.h"

#define WEIGHTS_ALIGN 4096u

/* What a tensor beside a matrix holds. */
enum part_role {
	PART_SCALE,        /* of a row, or of a block of 128 x 128 */
	PART_SCALE_SECOND, /* of a row and group of inputs: a factor on the first */
	PART_BIAS,         /* I32, added to the sum of integers */
	PART_INPUT_SCALE,  /* read while the layout is made */
	PART_INPUT_OFFSET,
	PART_IGNORED, /* part of the file format, without use here */
	PART_ROLES,
};

/* Its shape, for a matrix [rows, cols]. */
enum part_extent {
	PART_BLOCKS, /* [rows / 128, cols / 128], rounded up */
	PART_ROWS,   /* [rows] or [rows, 1] */
	PART_GROUPS, /* [rows, cols / group] */
	PART_ONE,    /* [1] or [] */
	PART_ANY,    /* not looked at */
};

#define DTYPE_BIT(t) (1u << (t))
#define WEIGHT_PARTS 8

struct weight_part {
	const char *suffix; /* of NAME.suffix; NULL ends the list */
	enum part_role role;
	enum part_extent extent;
	unsigned dtypes; /* DTYPE_BIT of those allowed */
	bool optional;
};

/* A panel's worth of a matrix on its way into packed form. */
struct pack_job {
	struct weight *w;
	uint32_t panel;
	uint32_t n_rows;
	const uint8_t *src; /* element (row, col) of the tensor; panel rows and columns go from there */
	enum dtype type;
	size_t row_stride, col_stride; /* elements */
	bool transposed;               /* panel rows walk the tensor's columns */
	uint64_t row, col;
	/* By role, from the part's row that belongs to `row` on: F32, biases I32; rows of part_cols. */
	const void *part[PART_ROLES];
	size_t part_cols[PART_ROLES];
	void *scratch; /* weight_scheme_scratch() bytes, 64-byte aligned */
};

/* One way in which checkpoints store a matrix (format.c has the table). */
struct weight_scheme {
	const char *name; /* that of a description, where `described` */
	bool described;   /* told by quant_model_description.json; else by the dtype of NAME.weight */
	bool grouped;     /* of two rows of a name, the one for descriptions with a group_size */
	bool quantizes;   /* packs floats as integers; of two rows of a dtype, the one for that */
	enum dtype dtype; /* of NAME.weight */
	uint32_t rows_per_byte; /* of NAME.weight: 2 where a byte holds two rows; else 1 */
	enum weight_format packed;
	struct weight_part parts[WEIGHT_PARTS];
	void (*pack)(const struct pack_job *job);
};

/* The row for a tensor's dtype, without a description or FLOAT in it; NULL when there is none. */
const struct weight_scheme *weight_scheme_of_dtype(enum dtype dtype, bool quantizes);
/* Bytes that packing a panel needs besides; cols: of the tensor, k of them are packed. */
size_t weight_scheme_scratch(const struct weight_scheme *scheme, size_t cols, size_t k);
/* The row for a described scheme; NULL when there is none. */
const struct weight_scheme *weight_scheme_named(const char *name, bool grouped);
/* Names of all described schemes, for messages: "FLOAT, W8A8, ...". */
const char *weight_schemes_text(char *out, size_t bytes);

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
	const struct st_tensor *src; /* NULL: random weights */
	const struct weight_scheme *scheme; /* of a matrix from a file */
	const struct st_tensor *part[WEIGHT_PARTS]; /* as scheme->parts; NULL: absent */
	size_t at;    /* offset of the destination in the model's memory */
	size_t bytes; /* there */

	/* ITEM_MATRIX: source panel i fills panel panel0 + i * panel_step of w. */
	struct weight *w;
	struct row_map map;
	uint32_t rows; /* that this item fills */
	uint32_t group; /* K of a second scale; 0: none */
	float input_scale, input_offset;
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
	const struct description *description; /* or NULL */
	enum weight_format format;
	bool quantize; /* floats become integers: QUANTIZATION_W8A8_DYNAMIC */
	struct item *items; /* owned */
	size_t n_items, cap;
	size_t bytes;      /* of all destinations */
	size_t file_bytes; /* of all sources */
};

/* Where the builder of a layout is: a prefix of names such as "model.layers.3.mlp". */
struct scope {
	struct layout *l;
	struct error *err;
	bool mtp; /* in the MTP layer */
	char prefix[64];
};

/* Which matrices may be stored how. */
enum source_role {
	SOURCE_LINEAR,
	SOURCE_EXPERT, /* a routed expert's: its input is shared with the others' */
	SOURCE_FLOAT,  /* kv_b_proj: FP8 at most */
	SOURCE_PLAIN,  /* never quantized: router, head, eh_proj */
};

/* The whole source matrix of an item. */
struct source {
	uint32_t rows;
	uint32_t cols;
	enum source_role role;
};

/* source.c: the tensors of NAME.weight and what is beside it, checked, into `it`. */
enum status source_find_matrix(
	const struct scope *s, const char *name, const struct source *src, struct item *it);
/* A tensor by its whole name, of this shape. */
enum status source_find(const struct scope *s, const char *name, uint32_t rank, const uint64_t *shape,
	const struct st_tensor **out);
/* That a description, if there is one, does not call this tensor anything but FLOAT. */
enum status source_check_float(const struct scope *s, const char *name);
enum status source_wrong_dtype(
	const struct scope *s, const struct st_tensor *t, const char *expected);

/* Allocates the structures of `config` and lists the items; nothing is bound yet. */
enum status layout_build(struct layout *l, const struct model_config *config,
	const struct safetensors *files, const struct description *description,
	enum weight_format format, const struct weights_options *options, struct error *err);
/* Maps the memory and sets all pointers. */
enum status layout_bind(struct layout *l, struct error *err);
void layout_deinit(struct layout *l); /* and destroys l->w unless taken (set to NULL) */

/* eos_token_id of a document: one id, a list of them, or nothing. */
enum status config_read_eos(int32_t *ids, uint32_t *n, json_t *root, const char *what, int64_t max_id,
	struct error *err);

/* The end of a path, short enough for a message that must also hold a name and numbers. */
const char *weights_path_tail(const char *path);

#endif
