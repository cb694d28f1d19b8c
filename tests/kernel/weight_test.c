/* Packed weights: layout, slices, filling, and reading back what was packed. */
#include "cm.h"

#include <stdlib.h>

#include "noise.h"

static void test_layout(void **state)
{
	struct weight w;

	weight_layout(&w, WEIGHT_F8_BLOCK, 576, 7168);
	assert_int_equal(w.n_panels, 18);
	assert_int_equal(w.k_padded, 7168);
	assert_int_equal(w.k_blocks, 56);
	assert_int_equal(w.panel_bytes, 32 * 7168);
	assert_int_equal(weight_panels_bytes(&w), 576 * 7168);
	assert_int_equal(weight_scales_bytes(&w), 18 * 56 * 4);
	weight_layout(&w, WEIGHT_BF16, 33, 33);
	assert_int_equal(w.n_panels, 2);
	assert_int_equal(w.k_padded, 64);
	assert_int_equal(weight_panels_bytes(&w), 2 * 32 * 64 * 2);
	assert_int_equal(weight_scales_bytes(&w), 0);
	assert_string_equal(weight_format_name(WEIGHT_F8_BLOCK), "fp8");
	assert_string_equal(dtype_name(DT_F8_E4M3), "F8_E4M3");
	assert_int_equal(dtype_bytes(DT_I64), 8);
}

static void test_int_layout(void **state)
{
	struct weight w;

	weight_layout(&w, WEIGHT_I8, 33, 100);
	assert_int_equal(w.k_padded, 128);
	assert_int_equal(w.k_blocks, 1);
	assert_int_equal(weight_panels_bytes(&w), 2 * 32 * 128);
	assert_int_equal(weight_scales_bytes(&w), 2 * 32 * 8);
	weight_layout(&w, WEIGHT_I8, 32, 65);
	assert_int_equal(w.k_padded, 128);
	weight_layout(&w, WEIGHT_I8, 32, 64);
	assert_int_equal(w.k_padded, 64);
	weight_layout_groups(&w, WEIGHT_I4, 4096, 7168, 256);
	assert_int_equal(w.k_blocks, 28);
	assert_int_equal(weight_panels_bytes(&w), 4096 * 7168 / 2);
	assert_int_equal(weight_scales_bytes(&w), 4096 * 28 * 8);
	assert_string_equal(weight_format_name(WEIGHT_I4), "int4");
}

/* Nibbles: row 50 of a source is the low half of byte row 25, row 51 the high one; both halves of a packed
 * byte, 64 k apart. */
static void test_nibbles(void **state)
{
	enum { n = 52, k = 256 };
	uint8_t *src = calloc(n / 2, k);
	struct weight w;
	uint8_t *mem, *p;

	src[25 * k + 128 + 37] = 0x9E;	    /* row 50: -2, row 51: -7 */
	src[25 * k + 128 + 64 + 37] = 0x35; /* row 50: 5, row 51: 3 */
	weight_layout_groups(&w, WEIGHT_I4, n, k, 128);
	mem = guarded_alloc(weight_panels_bytes(&w) + weight_scales_bytes(&w));
	weight_bind(&w, mem);
	for (uint32_t i = 0; i < 2 * 2 * 32; i++)
		w.scales[i] = 1.0f / 16;
	weight_pack_panel(&w, 0, 32, src, DT_I8, k, 1);
	weight_pack_panel(&w, 1, 20, src + 16 * k, DT_I8, k, 1);
	assert_true(weight_get(&w, 50, 128 + 37) == -2);
	assert_true(weight_get(&w, 51, 128 + 37) == -7);
	assert_true(weight_get(&w, 50, 192 + 37) == 5);
	assert_true(weight_get(&w, 51, 192 + 37) == 3);
	/* Panel 1, pair of steps 1, tile 1, group 9, row 2, k 1 of the group. */
	p = w.panels + w.panel_bytes + 2048 + 1024 + 9 * 64 + 2 * 4 + 1;
	assert_int_equal(*p, 0x5E);
	assert_int_equal(p[4], 0x39);
	/* -128 times 16 times the sums of the rows, in the second group only. */
	assert_int_equal(w.bias[weight_scale_index(&w, 50, 1)], -2048 * 3);
	assert_int_equal(w.bias[weight_scale_index(&w, 51, 1)], -2048 * -4);
	assert_int_equal(w.bias[weight_scale_index(&w, 50, 0)], 0);
	free(src);
	guarded_free(mem);
}

/* The header's formula for the place of (row, k), by hand. */
static void test_places(void **state)
{
	struct noise s = {5};
	struct noise_weight w;
	uint16_t x;

	noise_weight_init(&w, &s, WEIGHT_BF16, 64, 64);
	/* Row 50 = panel 1, tile 1, row 2; k 37 = step 1, pair 2, odd. */
	memcpy(&x, w.w.panels + w.w.panel_bytes + 2048 + 1024 + (2 * 16 + 2) * 4 + 2, sizeof(x));
	assert_true(bf16_to_f32(x) == w.values[50 * 64 + 37]);
	noise_weight_deinit(&w);
}

static void check_back(enum weight_format format, uint32_t n, uint32_t k)
{
	struct noise s = {n * k};
	struct noise_weight w;

	noise_weight_init(&w, &s, format, n, k);
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t j = 0; j < k; j++)
			assert_true(weight_get(&w.w, i, j) == w.values[i * k + j]);
	if (n > 32) {
		struct weight part = weight_rows(&w.w, 32, n - 32);

		assert_int_equal(part.n, n - 32);
		for (uint32_t j = 0; j < k; j++)
			assert_true(weight_get(&part, n - 33, j) == w.values[(n - 1) * k + j]);
	}
	noise_weight_deinit(&w);
}

static void test_back(void **state)
{
	static const uint32_t sizes[] = {1, 31, 32, 33, 64, 100, 160};

	for (size_t i = 0; i < 7; i++)
		for (size_t j = 0; j < 7; j++) {
			check_back(WEIGHT_BF16, sizes[i], sizes[j]);
			check_back(WEIGHT_F8_BLOCK, sizes[i], sizes[j]);
			check_back(WEIGHT_I8, sizes[i], sizes[j]);
			check_back(WEIGHT_I4, sizes[i], sizes[j]);
		}
}

/* Filling is written, whatever the memory held: zero rows and zero columns. */
static void test_filling(void **state)
{
	static const struct {
		enum weight_format format;
		enum dtype source;
	} formats[] = {{WEIGHT_BF16, DT_BF16}, {WEIGHT_F8_BLOCK, DT_F8_E4M3}, {WEIGHT_I8, DT_I8},
		{WEIGHT_I4, DT_I8}};
	uint8_t src[5 * 7 * 2];

	memset(src, 0x33, sizeof(src));
	for (int f = 0; f < 4; f++) {
		struct weight w, whole;
		uint8_t *mem;
		size_t ones = 0;

		weight_layout(&w, formats[f].format, 5, 7);
		mem = guarded_alloc(weight_panels_bytes(&w) + weight_scales_bytes(&w));
		memset(mem, 0xFF, weight_panels_bytes(&w));
		weight_bind(&w, mem);
		weight_pack_panel(&w, 0, 5, src, formats[f].source, 7, 1);
		for (size_t i = 0; i < weight_scales_bytes(&w) / sizeof(float) && !w.bias; i++)
			w.scales[i] = 1;
		for (size_t i = 0; i < 32 && w.bias; i++)
			w.scales[i] = 1;
		whole = w;
		whole.n = 32;
		whole.k = 32;
		for (uint32_t i = 0; i < 32; i++)
			for (uint32_t j = 0; j < 32; j++)
				ones += weight_get(&whole, i, j) != 0;
		assert_int_equal(ones, 5 * 7);
		guarded_free(mem);
	}
}

/* Strided, transposed and F32 sources give the same panel as plain ones. */
static void test_sources(void **state)
{
	enum { n = 30, k = 45 };
	struct noise s = {9};
	float *f32 = malloc(n * k * sizeof(*f32)), *f32_t = malloc(n * k * sizeof(*f32));
	uint16_t *bf16 = malloc(n * k * 2 * sizeof(*bf16));
	struct weight w;
	uint8_t *mem[3];

	for (int i = 0; i < n; i++)
		for (int j = 0; j < k; j++) {
			f32[i * k + j] = f32_t[j * n + i] = noise_f32(&s);
			bf16[(i * k + j) * 2] = f32_to_bf16(f32[i * k + j]);
		}
	for (int v = 0; v < 3; v++) {
		weight_layout(&w, WEIGHT_BF16, n, k);
		mem[v] = guarded_alloc(weight_panels_bytes(&w));
		weight_bind(&w, mem[v]);
		if (v == 0)
			weight_pack_panel(&w, 0, n, f32, DT_F32, k, 1);
		else if (v == 1)
			weight_pack_panel(&w, 0, n, f32_t, DT_F32, 1, n);
		else
			weight_pack_panel(&w, 0, n, bf16, DT_BF16, 2 * k, 2);
	}
	assert_memory_equal(mem[0], mem[1], weight_panels_bytes(&w));
	assert_memory_equal(mem[0], mem[2], weight_panels_bytes(&w));
	for (int v = 0; v < 3; v++)
		guarded_free(mem[v]);
	free(f32);
	free(f32_t);
	free(bf16);
}

/* FP8 blocks that do not line up with panels: rows 100.. of a tensor, columns 60.., also transposed. */
static void test_dequant(void **state)
{
	enum { n = 32, k = 150, row0 = 100, col0 = 60, scale_cols = 3 };
	struct noise s = {11};
	uint8_t src[n * k], src_t[n * k];
	float scales[2 * scale_cols], scales_t[2 * scale_cols];
	struct weight w;
	uint8_t *mem;

	for (int i = 0; i < n; i++)
		for (int j = 0; j < k; j++)
			src[i * k + j] = src_t[j * n + i] = (uint8_t)(noise_u32(&s) & 0xF7);
	for (int i = 0; i < 2; i++)
		for (int j = 0; j < scale_cols; j++)
			scales[i * scale_cols + j] = scales_t[j * 2 + i] = 1 + noise_f32(&s) / 2;
	weight_layout(&w, WEIGHT_BF16, n, k);
	mem = guarded_alloc(weight_panels_bytes(&w));
	weight_bind(&w, mem);
	for (int t = 0; t < 2; t++) {
		if (t == 0)
			weight_pack_panel_dequant(&w, 0, n, src, k, 1, scales, row0, col0, scale_cols, 1);
		else
			weight_pack_panel_dequant(&w, 0, n, src_t, 1, n, scales_t, row0, col0, 1, 2);
		for (int i = 0; i < n; i++)
			for (int j = 0; j < k; j++) {
				float scale = scales[(row0 + i) / 128 * scale_cols + (col0 + j) / 128];
				float want = f8e4m3_to_f32(src[i * k + j]) * scale;

				assert_true(weight_get(&w, (uint32_t)i, (uint32_t)j) ==
					    bf16_to_f32(f32_to_bf16(want)));
			}
	}
	guarded_free(mem);
}

/* --- every format from every source, against one element after the other ------------------------ */

struct packing {
	enum weight_format format;
	enum dtype type;
	uint32_t n, k, group;
	size_t row_stride, col_stride;
};

/* The bits of element (r, c) as a panel holds them; of nibbles 4. */
static uint32_t source_bits(const struct packing *p, const uint8_t *src, uint32_t r, uint32_t c)
{
	size_t at = (p->format == WEIGHT_I4 ? r / 2 : r) * p->row_stride + c * p->col_stride;
	uint16_t x;
	float f;

	if (r >= p->n || c >= p->k)
		return 0;
	if (p->format == WEIGHT_I4)
		return r % 2 ? src[at] >> 4 : src[at] & 15;
	if (p->type == DT_F32) {
		memcpy(&f, src + 4 * at, sizeof(f));
		return f32_to_bf16(f);
	}
	if (p->type != DT_BF16)
		return src[at];
	memcpy(&x, src + 2 * at, sizeof(x));
	return x;
}

/* The header's formula, which has no element twice. */
static uint32_t panel_bits(const struct packing *p, const uint8_t *panel, uint32_t r, uint32_t c)
{
	bool wide = p->format == WEIGHT_BF16, nibbles = p->format == WEIGHT_I4;
	uint32_t step = wide || p->format == WEIGHT_F8_BLOCK ? 32 : 64, vnni = step / 16;
	uint32_t place = nibbles ? c / 128 : c / step, in_step = c % step;
	size_t at = ((size_t)place * 2 + r / 16) * 16 * step + (in_step / vnni * 16 + r % 16) * vnni + in_step % vnni;
	uint16_t x;

	if (nibbles)
		return c % 128 < 64 ? panel[at] & 15 : panel[at] >> 4;
	if (!wide)
		return panel[at];
	memcpy(&x, panel + 2 * at, sizeof(x));
	return x;
}

/* The last of three panels, of memory that held something else. */
static void check_packing(struct packing p, struct noise *s)
{
	size_t rows = p.format == WEIGHT_I4 ? (p.n + 1) / 2 : p.n;
	size_t bytes = dtype_bytes(p.type) * ((rows - 1) * p.row_stride + (p.k - 1) * p.col_stride + 1);
	uint8_t *src = malloc(bytes), *mem;
	struct weight w;

	for (size_t i = 0; i < bytes; i++)
		src[i] = (uint8_t)noise_u32(s);
	weight_layout_groups(&w, p.format, 64 + p.n, p.k, p.group);
	mem = guarded_alloc(weight_panels_bytes(&w) + weight_scales_bytes(&w));
	memset(mem, 0xA5, weight_panels_bytes(&w) + weight_scales_bytes(&w));
	weight_bind(&w, mem);
	weight_pack_panel(&w, 2, p.n, src, p.type, p.row_stride, p.col_stride);
	for (uint32_t r = 0; r < 32; r++) {
		int32_t sum[4] = {0};

		for (uint32_t c = 0; c < w.k_padded; c++) {
			uint32_t bits = source_bits(&p, src, r, c);

			assert_int_equal(panel_bits(&p, w.panels + 2 * w.panel_bytes, r, c), bits);
			if (w.bias)
				sum[c / w.k_block] += (int8_t)(p.format == WEIGHT_I4 ? bits << 4 : bits);
		}
		for (uint32_t b = 0; w.bias && b < w.k_blocks; b++)
			assert_int_equal(w.bias[weight_scale_index(&w, 64 + r, b)], -128 * sum[b]);
	}
	for (size_t i = 0; i < 2 * w.panel_bytes; i++)
		assert_int_equal(w.panels[i], 0xA5);
	free(src);
	guarded_free(mem);
}

static void test_elements(void **state)
{
	static const struct {
		enum weight_format format;
		enum dtype type;
	} kinds[] = {{WEIGHT_BF16, DT_BF16}, {WEIGHT_BF16, DT_F32}, {WEIGHT_F8_BLOCK, DT_F8_E4M3},
		{WEIGHT_I8, DT_I8}, {WEIGHT_I4, DT_I8}};
	static const uint32_t rows[] = {1, 2, 7, 15, 16, 17, 31, 32};
	static const uint32_t cols[] = {1, 2, 3, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 192, 250, 384};
	struct noise s = {13};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		for (size_t j = 0; j < 8 * sizeof(cols) / sizeof(*cols); j++) {
			struct packing p = {.format = kinds[i].format, .type = kinds[i].type, .n = rows[j % 8],
				.k = cols[j / 8]};

			/* Whole rows, rows of a wider matrix at odd places, transposed, every third element. */
			p.row_stride = p.k, p.col_stride = 1;
			check_packing(p, &s);
			p.row_stride = p.k + 5;
			check_packing(p, &s);
			p.row_stride = 1, p.col_stride = p.n + 1;
			check_packing(p, &s);
			p.row_stride = 3 * p.k, p.col_stride = 3;
			check_packing(p, &s);
		}
}

/* Biases: sums of the largest bytes over many columns; groups. */
static void test_biases(void **state)
{
	struct packing p = {.format = WEIGHT_I8, .type = DT_I8, .n = 32, .k = 5000, .row_stride = 5000, .col_stride = 1};
	struct noise s = {17};
	struct weight w;
	uint8_t *src = malloc(32 * WEIGHT_INTEGER_MAX_K), *mem;

	check_packing(p, &s);
	p.format = WEIGHT_I4;
	check_packing(p, &s);
	p.k = 384, p.group = 128;
	check_packing(p, &s);
	p.format = WEIGHT_I8, p.k = 384, p.group = 192;
	check_packing(p, &s);
	weight_layout(&w, WEIGHT_I8, 32, WEIGHT_INTEGER_MAX_K);
	mem = guarded_alloc(weight_panels_bytes(&w) + weight_scales_bytes(&w));
	weight_bind(&w, mem);
	for (int v = -128; v < 128; v += 255) {
		memset(src, v, 32 * WEIGHT_INTEGER_MAX_K);
		weight_pack_panel(&w, 0, 32, src, DT_I8, WEIGHT_INTEGER_MAX_K, 1);
		for (uint32_t r = 0; r < 32; r++)
			assert_int_equal(w.bias[r], -128 * v * (int32_t)WEIGHT_INTEGER_MAX_K);
	}
	free(src);
	guarded_free(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_int_layout),
		cmocka_unit_test(test_nibbles),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_back),
		cmocka_unit_test(test_filling),
		cmocka_unit_test(test_sources),
		cmocka_unit_test(test_dequant),
		cmocka_unit_test(test_elements),
		cmocka_unit_test(test_biases),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
