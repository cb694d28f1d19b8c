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
 *
 * 16 rows x VNNI values are 64 bytes of BF16: one row of an AMX B tile, one AVX-512 register, two
 * AVX2 registers (spec: CPU design, section 5 "Layout").
 *
 * F8_BLOCK keeps one F32 scale per panel and block of 128 k: scales[panel * k_blocks + k / 128].
 * The 128x128 blocks of a checkpoint satisfy that as every panel lies inside one block of rows.
 *
 * Gate and up projections are interleaved by panel: panel 2i holds rows 32i.. of gate, panel 2i + 1
 * the same rows of up, so that SiLU(gate) * up needs no second pass.
 *
 * A struct weight is a view: it borrows its memory.
 */
#ifndef KERNEL_WEIGHT_H
#define KERNEL_WEIGHT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernel/dtype.h"

#define WEIGHT_PANEL_ROWS 32u
#define WEIGHT_K_STEP 32u
#define WEIGHT_SCALE_BLOCK 128u

enum weight_format {
	WEIGHT_NONE, /* absent: n == 0 */
	WEIGHT_BF16,
	WEIGHT_F8_BLOCK,
	WEIGHT_FORMAT_COUNT,
};

struct weight {
	enum weight_format format;
	uint32_t n;        /* output rows, without the filling */
	uint32_t k;        /* inputs, without the filling */
	uint32_t k_padded; /* k rounded up to WEIGHT_K_STEP */
	uint32_t n_panels;
	uint32_t k_blocks;         /* F8_BLOCK: ceil(k / 128); otherwise 0 */
	size_t panel_bytes;        /* distance between panels */
	uint8_t *panels;           /* [n_panels][panel_bytes], 64-byte aligned */
	float *scales;             /* F8_BLOCK: [n_panels][k_blocks]; otherwise NULL */
};

const char *weight_format_name(enum weight_format f);

/* Fills everything but the pointers. n and k must be positive. */
void weight_layout(struct weight *w, enum weight_format format, uint32_t n, uint32_t k);

/* Bytes that the panels and the scales need; each is a multiple of 64. */
size_t weight_panels_bytes(const struct weight *w);
size_t weight_scales_bytes(const struct weight *w);

/* Sets the pointers: `mem` holds panels, then scales (64-byte aligned). */
void weight_bind(struct weight *w, void *mem);

/* A run of panels of `w` as a matrix of its own (a head, a rank's rows). row0 and n: multiples of 32
 * unless the run ends the matrix. */
struct weight weight_rows(const struct weight *w, uint32_t row0, uint32_t n);

/*
 * Packs source rows into panel `panel` of w: element (r, c) of the panel is
 * src[r * row_stride + c * col_stride], for r < n_rows (<= 32) and c < w->k; strides in elements
 * (a transposed source has row_stride 1). The rest of the panel becomes zero.
 * The source element type is BF16 or F32 for WEIGHT_BF16 (F32 is rounded to nearest even), F8_E4M3
 * for WEIGHT_F8_BLOCK, whose scales the caller writes.
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

/* Reads one element back, dequantized, from row n and column k: for tests and references. */
float weight_get(const struct weight *w, uint32_t row, uint32_t col);

#endif
