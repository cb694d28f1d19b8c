/*
 * Packed weight matrices: one layout that every ISA tier reads.
 *
 * A matrix W [n, k] (row major in the checkpoint, y = W x) is cut into panels of 32 output rows; the
 * last panel is filled with zero rows, K is filled with zeros to a multiple of WEIGHT_K_STEP.
 * Inside a panel, K steps follow each other; a step holds two tiles of 16 rows (rows 0-15, then
 * 16-31), so that a product with one vector streams memory once, linearly. A tile holds, for each
 * group of VNNI consecutive k values, the 16 rows' groups side by side:
 *
 *   BF16     step = 32 k, VNNI = 2: tile[k/2][row][k%2], 2 bytes each, 1024 bytes a tile
 *   F8_BLOCK step = 32 k, VNNI = 2: the same order with 1 byte each,    512 bytes a tile
 *   I8       step = 64 k, VNNI = 4: tile[k/4][row][k%4], 1 byte each,  1024 bytes a tile
 *   I4       two steps of I8 in the place of one: low nibbles hold the first, high nibbles the
 *            second, so that a mask and a shift unpack them; K is filled to a multiple of 128
 *
 * 16 rows x VNNI values are 64 bytes of BF16 or I8: one row of an AMX B tile, one AVX-512 register,
 * two AVX2 registers (spec: CPU design, section 5 "Layout").
 *
 * F8_BLOCK keeps one F32 scale per panel and block of 128 k: scales[panel * k_blocks + k / 128].
 * The 128x128 blocks of a checkpoint satisfy that as every panel lies inside one block of rows.
 *
 * Integer formats keep an F32 scale and an I32 bias per row and block of k_block k:
 * scales[(panel * k_blocks + block) * 32 + row]. Their inputs are bytes, value + 128 (kernel.h,
 * ACT_I8); the bias takes the 128 off again and holds what a checkpoint adds to the integer sum:
 *
 *   y[row] = (sum over blocks of (sum of (x + 128) * w + bias) * scale) * scale of the input row
 *
 * A nibble stands for 16 times its value, as it comes out of a mask without shifting down; its scale
 * is a sixteenth, which is exact.
 *
 * Gate and up projections are interleaved by panel: panel 2i holds rows 32i.. of gate, panel 2i + 1
 * the same rows of up, so that SiLU(gate) * up needs no second pass.
 *
 * A struct weight is a view: it borrows its memory.
 */
#ifndef KERNEL_WEIGHT_H
#define KERNEL_WEIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernel/dtype.h"

#define WEIGHT_PANEL_ROWS 32u
#define WEIGHT_K_STEP 32u /* of BF16 and F8_BLOCK */
#define WEIGHT_SCALE_BLOCK 128u
/* Most inputs of an integer format: sums of 255 * -128 stay in 32 bits. */
#define WEIGHT_INTEGER_MAX_K 65536u

enum weight_format {
	WEIGHT_NONE, /* absent: n == 0 */
	WEIGHT_BF16,
	WEIGHT_F8_BLOCK,
	WEIGHT_I8,
	WEIGHT_I4,
	WEIGHT_FORMAT_COUNT,
};

/* What a packed format is; weight.c has the table. */
struct weight_traits {
	const char *name;
	uint32_t bits;    /* of a value */
	uint32_t k_fill;  /* K is filled to a multiple of it */
	uint32_t step;    /* k values of a tile */
	uint32_t vnni;
	uint32_t k_block; /* K of a scale; 0: none, or all of K unless weight_layout_groups() says more */
	bool integer;     /* scale and bias per row and block, inputs are ACT_I8 */
};
const struct weight_traits *weight_traits(enum weight_format f);

struct weight {
	enum weight_format format;
	uint32_t n;        /* output rows, without the filling */
	uint32_t k;        /* inputs, without the filling */
	uint32_t k_padded; /* k with its filling */
	uint32_t n_panels;
	uint32_t k_block;          /* K of a scale */
	uint32_t k_blocks;         /* ceil(k / k_block); 0: no scales */
	size_t panel_bytes;        /* distance between panels */
	uint8_t *panels;           /* [n_panels][panel_bytes], 64-byte aligned */
	float *scales;             /* F8_BLOCK: [n_panels][k_blocks]; integers: and [32]; else NULL */
	int32_t *bias;             /* integers: like scales; else NULL */
	float input_scale;         /* integers: inputs are x / input_scale + input_offset, rounded; */
	float input_offset;        /* 0: each input row has a scale of its own */
};

const char *weight_format_name(enum weight_format f);

/* Fills everything but the pointers. n and k must be positive. */
void weight_layout(struct weight *w, enum weight_format format, uint32_t n, uint32_t k);
/* The same for an integer format with a scale for each `group` inputs, a multiple of its filling of K. */
void weight_layout_groups(
	struct weight *w, enum weight_format format, uint32_t n, uint32_t k, uint32_t group);

/* Bytes that the panels, and the scales with biases, need; each is a multiple of 64. */
size_t weight_panels_bytes(const struct weight *w);
size_t weight_scales_bytes(const struct weight *w);

/* Sets the pointers: `mem` holds panels, then scales, then biases (64-byte aligned). */
void weight_bind(struct weight *w, void *mem);

/* A run of panels of `w` as a matrix of its own (a head, a rank's rows). row0 and n: multiples of 32
 * unless the run ends the matrix. */
struct weight weight_rows(const struct weight *w, uint32_t row0, uint32_t n);

/*
 * Packs source rows into panel `panel` of w: element (r, c) of the panel is
 * src[r * row_stride + c * col_stride], for r < n_rows (<= 32) and c < w->k; strides in elements
 * (a transposed source has row_stride 1). The rest of the panel becomes zero.
 * The source element type is BF16 or F32 for WEIGHT_BF16 (F32 is rounded to nearest even), F8_E4M3
 * for WEIGHT_F8_BLOCK, I8 for WEIGHT_I8 and WEIGHT_I4; scales are the caller's to write. Biases become
 * what the input's 128 calls for. A byte of a WEIGHT_I4 source holds two rows: row r is the low (r
 * even) or high nibble of src[r / 2 * row_stride + c * col_stride].
 */
void weight_pack_panel(struct weight *w, uint32_t panel, uint32_t n_rows, const void *src,
	enum dtype src_type, size_t row_stride, size_t col_stride);

/*
 * Packs F8_E4M3 source rows into a WEIGHT_BF16 panel: value (r, c) * scales[((row0 + r) / 128) *
 * scale_row_stride + ((col0 + c) / 128) * scale_col_stride], rounded to nearest even. row0 and col0
 * are the position of src in its tensor along the axes that r and c walk. For tensors whose scale
 * blocks do not line up with panels and 128-blocks of K after slicing or transposing.
 */
void weight_pack_panel_dequant(struct weight *w, uint32_t panel, uint32_t n_rows, const uint8_t *src,
	size_t row_stride, size_t col_stride, const float *scales, uint32_t row0, uint32_t col0,
	size_t scale_row_stride, size_t scale_col_stride);

/* Sets the biases of an integer panel to -128 times the sums of its rows: done by weight_pack_panel(), and
 * by whoever wrote a panel's bytes himself. */
void weight_set_bias(struct weight *w, uint32_t panel);

/* The scale (and bias) of `row` and block `block` of K, as an index into scales and bias of integers. */
size_t weight_scale_index(const struct weight *w, uint32_t row, uint32_t block);

/* Reads one element back, dequantized, from row n and column k: for tests and references. */
float weight_get(const struct weight *w, uint32_t row, uint32_t col);

#endif
