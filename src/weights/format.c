/*
 * The ways in which checkpoints store matrices.
 *
 * To add one: a row in the table, with the tensors beside a matrix, and a function that packs a panel of
 * it. Finding, checking and reading those tensors, sharding and sizes follow from the row.
 */
#include <float.h>
#include <stdio.h>
#include <string.h>

#include "weights/weights_int.h"

/* --- packing ------------------------------------------------------------------------------------ */

static void pack_plain(const struct pack_job *p)
{
	weight_pack_panel(p->w, p->panel, p->n_rows, p->src, p->type, p->row_stride, p->col_stride);
}

/*
 * Blocks of scales stay where they fall on panels and on blocks of K; otherwise the layout chose BF16 and
 * values are dequantized. Blocks of K follow each other along the source's columns, transposed along its
 * rows.
 */
static void pack_f8(const struct pack_job *p)
{
	struct weight *w = p->w;
	const float *scales = p->part[PART_SCALE];
	size_t cols = p->part_cols[PART_SCALE];
	uint32_t r = (uint32_t)(p->row % WEIGHT_SCALE_BLOCK), c = (uint32_t)p->col;
	bool t = p->transposed;

	if (w->format == WEIGHT_F8_BLOCK) {
		float *out = w->scales + (size_t)p->panel * w->k_blocks;

		pack_plain(p);
		for (uint32_t i = 0; i < w->k_blocks; i++)
			out[i] = scales[p->col / WEIGHT_SCALE_BLOCK + i * (t ? cols : 1)];
		return;
	}
	weight_pack_panel_dequant(w, p->panel, p->n_rows, p->src, p->row_stride, p->col_stride, scales,
		t ? c : r, t ? r : c, t ? 1 : cols, t ? cols : 1);
}

/* Integers: a scale for each row, or row and group; a bias that is counted once where columns are divided. */
static void pack_int(const struct pack_job *p)
{
	struct weight *w = p->w;
	const float *scale = p->part[PART_SCALE], *second = p->part[PART_SCALE_SECOND];
	const int32_t *bias = p->part[PART_BIAS];
	size_t cols = p->part_cols[PART_SCALE_SECOND], first = p->col / w->k_block;
	float unit = w->format == WEIGHT_I4 ? 1.0f / 16 : 1; /* kernel/weight.h */

	pack_plain(p);
	for (uint32_t r = 0; r < WEIGHT_PANEL_ROWS; r++)
		for (uint32_t b = 0; b < w->k_blocks; b++) {
			size_t at = weight_scale_index(w, p->panel * WEIGHT_PANEL_ROWS + r, b);

			w->scales[at] = r < p->n_rows ? scale[r] * unit : 0;
			if (second && r < p->n_rows)
				w->scales[at] *= second[r * cols + first + b];
			if (bias && r < p->n_rows && b == 0 && p->col == 0)
				w->bias[at] += bias[r];
		}
}

/*
 * The whole row r of the panel in its tensor, as F32: all ranks that divide its columns find the same scale.
 * f8: the values of E4M3.
 */
static void float_row(const struct pack_job *p, uint32_t r, const float *f8, float *out)
{
	size_t elem = dtype_bytes(p->type);
	const uint8_t *src = p->src - p->col * elem + r * p->row_stride * elem;
	const float *scales = p->part[PART_SCALE];
	size_t cols = p->row_stride;

	if (p->type != DT_F8_E4M3) {
		for (size_t c = 0; c < cols; c++)
			out[c] = dtype_to_f32(p->type, src, c);
		return;
	}
	scales += (p->row % WEIGHT_SCALE_BLOCK + r) / WEIGHT_SCALE_BLOCK * p->part_cols[PART_SCALE];
	for (size_t c = 0; c < cols; c++)
		out[c] = f8[src[c]] * scales[c / WEIGHT_SCALE_BLOCK];
}

/* Columns first .. first + n - 1 of a row, quantized; returns the scale of the row. */
static float quantize_row(int8_t *out, const float *row, size_t cols, size_t first, size_t n)
{
	float max = 0, scale;
	bool finite = true;

	for (size_t c = 0; c < cols; c++) {
		float x = fabsf(row[c]);

		finite &= x <= FLT_MAX;
		max = x > max ? x : max;
	}
	scale = max / 127;
	if (!finite || scale < FLT_MIN) {
		memset(out, 0, n);
		return finite ? 0 : NAN;
	}
	for (size_t c = 0; c < n; c++)
		out[c] = (int8_t)lrintf(row[first + c] / scale);
	return scale;
}

static void pack_quantizing(const struct pack_job *p)
{
	uint32_t k = p->w->k;
	float scale[WEIGHT_PANEL_ROWS], f8[256], *row = p->scratch;
	int8_t *bytes = (int8_t *)(row + p->row_stride);
	struct pack_job q = *p;

	for (uint32_t i = 0; i < 256; i++)
		f8[i] = f8e4m3_to_f32((uint8_t)i);
	for (uint32_t r = 0; r < p->n_rows; r++) {
		float_row(p, r, f8, row);
		scale[r] = quantize_row(bytes + (size_t)r * k, row, p->row_stride, p->col, k);
	}
	q.src = (const uint8_t *)bytes;
	q.type = DT_I8;
	q.row_stride = k;
	q.part[PART_SCALE] = scale;
	q.part_cols[PART_SCALE] = 1;
	pack_int(&q);
}

size_t weight_scheme_scratch(const struct weight_scheme *scheme, size_t cols, size_t k)
{
	return scheme->quantizes ? sizeof(float) * cols + WEIGHT_PANEL_ROWS * k : 0;
}

/* --- the table ---------------------------------------------------------------------------------- */

#define FLOATS (DTYPE_BIT(DT_F32) | DTYPE_BIT(DT_BF16) | DTYPE_BIT(DT_F16))
#define IGNORED(suffix) {suffix, PART_IGNORED, PART_ANY, ~0u, true}
#define F8_PARTS                                                                                   \
	{{"weight_scale_inv", PART_SCALE, PART_BLOCKS,                                             \
		DTYPE_BIT(DT_F32) | DTYPE_BIT(DT_BF16) | DTYPE_BIT(DT_U8), false}}
/* A row for a dtype whose matrices become integers with a scale for each row, by an option. */
#define QUANTIZING(type, text)                                                                     \
	.name = text " as W8A8_DYNAMIC", .quantizes = true, .dtype = type, .rows_per_byte = 1,     \
	.packed = WEIGHT_I8, .pack = pack_quantizing

static const struct weight_scheme schemes[] = {
	{.name = "BF16", .dtype = DT_BF16, .rows_per_byte = 1, .packed = WEIGHT_BF16, .pack = pack_plain},
	{.name = "F32", .dtype = DT_F32, .rows_per_byte = 1, .packed = WEIGHT_BF16, .pack = pack_plain},
	{
		.name = "FP8 E4M3, blocks of 128x128",
		.dtype = DT_F8_E4M3,
		.rows_per_byte = 1,
		.packed = WEIGHT_F8_BLOCK,
		.parts = F8_PARTS,
		.pack = pack_f8,
	},
	{QUANTIZING(DT_BF16, "BF16")},
	{QUANTIZING(DT_F32, "F32")},
	{QUANTIZING(DT_F8_E4M3, "FP8"), .parts = F8_PARTS},
	{
		/* deq_scale is input_scale times the weight's; I64 holds the bits of an F32 (models in F16). A
		 * float bias is in quant_bias already. */
		.name = "W8A8",
		.described = true,
		.dtype = DT_I8,
		.rows_per_byte = 1,
		.packed = WEIGHT_I8,
		.parts = {{"input_scale", PART_INPUT_SCALE, PART_ONE, FLOATS, false},
			{"input_offset", PART_INPUT_OFFSET, PART_ONE, FLOATS | DTYPE_BIT(DT_I8), false},
			{"deq_scale", PART_SCALE, PART_ROWS, FLOATS | DTYPE_BIT(DT_I64), false},
			{"quant_bias", PART_BIAS, PART_ROWS, DTYPE_BIT(DT_I32), false},
			IGNORED("weight_scale"), IGNORED("weight_offset"), IGNORED("bias")},
		.pack = pack_int,
	},
	{
		.name = "W8A8_DYNAMIC",
		.described = true,
		.dtype = DT_I8,
		.rows_per_byte = 1,
		.packed = WEIGHT_I8,
		.parts = {{"weight_scale", PART_SCALE, PART_ROWS, FLOATS, false}, IGNORED("weight_offset")},
		.pack = pack_int,
	},
	{
		/* scale_bias undoes an offset of the NPU's kernel, which splits inputs into nibbles. */
		.name = "W4A8_DYNAMIC",
		.described = true,
		.dtype = DT_I8,
		.rows_per_byte = 2,
		.packed = WEIGHT_I4,
		.parts = {{"weight_scale", PART_SCALE, PART_ROWS, FLOATS, false}, IGNORED("weight_offset"),
			IGNORED("scale_bias")},
		.pack = pack_int,
	},
	{
		.name = "W4A8_DYNAMIC",
		.described = true,
		.grouped = true,
		.dtype = DT_I8,
		.rows_per_byte = 2,
		.packed = WEIGHT_I4,
		.parts = {{"weight_scale", PART_SCALE, PART_ROWS, FLOATS, false},
			{"weight_scale_second", PART_SCALE_SECOND, PART_GROUPS, FLOATS, false},
			IGNORED("weight_offset"), IGNORED("weight_offset_second"), IGNORED("scale_bias")},
		.pack = pack_int,
	},
};

const struct weight_scheme *weight_scheme_of_dtype(enum dtype dtype, bool quantizes)
{
	for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++)
		if (!schemes[i].described && schemes[i].dtype == dtype && schemes[i].quantizes == quantizes)
			return &schemes[i];
	return NULL;
}

const struct weight_scheme *weight_scheme_named(const char *name, bool grouped)
{
	const struct weight_scheme *any = NULL;

	for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++)
		if (schemes[i].described && strcmp(schemes[i].name, name) == 0) {
			if (schemes[i].grouped == grouped)
				return &schemes[i];
			any = any ? any : &schemes[i];
		}
	return any;
}

const char *weight_schemes_text(char *out, size_t bytes)
{
	size_t at = (size_t)snprintf(out, bytes, "FLOAT");
	const char *last = "";

	/* Rows of one name follow each other. */
	for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes) && at < bytes; i++)
		if (schemes[i].described && strcmp(schemes[i].name, last) != 0) {
			last = schemes[i].name;
			at += (size_t)snprintf(out + at, bytes - at, ", %s", last);
		}
	return out;
}
