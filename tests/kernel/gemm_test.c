/*
 * Products: every listed kernel and every tier's driver against sums in double, and against itself in
 * other company: row counts, gathers, neighbours, threads.
 */
#include "cm.h"

#include <stdio.h>
#include <stdlib.h>

#include "emulate.h"
#include "kernel/cpu/device.h"
#include "noise.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

/*
 * Bound of one output: a chain of K roundings to 24 bits of partial sums no larger than the sum of
 * |a w|, taken as random: 4 sqrt(K) half units. A product left out or taken twice shows.
 */
static double bound(double sum_abs, uint32_t k)
{
	return 0x1p-24 * 4 * (sqrt(k) + 2) * sum_abs + 0x1p-120;
}

struct input {
	struct act act;
	float *values; /* [rows, k], after rounding to the act's kind */
};

/* Any byte may come; the values are those that the row's scale gives. */
static void input_init_i8(struct input *in, struct noise *s, uint32_t rows, uint32_t k)
{
	in->act = act_view(guarded_alloc(rows * act_stride_bytes(ACT_I8, k)), ACT_I8, rows, k);
	in->values = malloc(sizeof(float) * rows * k);
	for (uint32_t i = 0; i < rows; i++) {
		uint8_t *row = in->act.data + i * in->act.stride_bytes;
		float scale = 0.01f + fabsf(noise_f32(s));

		*act_row_scale(&in->act, i) = scale;
		for (uint32_t j = 0; j < in->act.stride_bytes - 64; j++) {
			uint8_t x = (uint8_t)noise_u32(s);

			row[j] = x; /* filling too: weights are zero there */
			if (j < k)
				in->values[(size_t)i * k + j] = (float)((int)x - 128) * scale;
		}
	}
}

static void input_init(struct input *in, struct noise *s, enum act_kind kind, uint32_t rows, uint32_t k)
{
	if (kind == ACT_I8) {
		input_init_i8(in, s, rows, k);
		return;
	}
	in->act = act_view(guarded_alloc(rows * act_stride_bytes(kind, k)), kind, rows, k);
	in->values = malloc(sizeof(float) * rows * k);
	for (uint32_t i = 0; i < rows; i++)
		for (uint32_t j = 0; j < k; j++) {
			float x = noise_f32(s) * (j % 7 == 3 ? 8.0f : 1.0f);
			uint8_t *row = in->act.data + i * in->act.stride_bytes;

			if (kind == ACT_F32) {
				((float *)row)[j] = x;
			} else {
				((uint16_t *)row)[j] = f32_to_bf16(x);
				x = bf16_to_f32(f32_to_bf16(x));
			}
			in->values[(size_t)i * k + j] = x;
		}
}

static void input_deinit(struct input *in)
{
	guarded_free(in->act.data);
	free(in->values);
}

static void check_value(const struct input *in, const struct noise_weight *w, uint32_t row,
	uint32_t col, float got)
{
	uint32_t k = w->w.k;
	double sum = 0, sum_abs = 0;

	for (uint32_t j = 0; j < k; j++) {
		double p = (double)in->values[(size_t)row * k + j] *
			   (double)w->values[(size_t)col * k + j];

		sum += p;
		sum_abs += fabs(p);
	}
	for (uint32_t b = 0; w->extra && b < w->w.k_blocks; b++) {
		size_t at = weight_scale_index(&w->w, col, b);
		double p = (double)w->extra[at] * (double)w->w.scales[at] *
			   (double)*act_row_scale(&in->act, row);

		sum += p;
		sum_abs += fabs(p);
	}
	assert_true(fabs(got - sum) <= bound(sum_abs, k));
}

enum block_weight { BLOCK_BF16, BLOCK_F8, BLOCK_F8U, BLOCK_I8, BLOCK_I4 };

struct block_case {
	const char *symbol;
	enum cpu_isa isa;
	gemm_block_fn *fn;
	const struct gemm_ukernels *uk;
	enum act_kind input;
	enum block_weight weight;
};

#define ukernels_REF gemm_ukernels_ref
#define ukernels_AVX2 gemm_ukernels_avx2
#define ukernels_AVX512 gemm_ukernels_avx512
#define ukernels_AMX gemm_ukernels_amx
static const struct block_case block_cases[] = {
#define GEMM(symbol, NAME, input, weight)                                                          \
	{#symbol, CPU_ISA_##NAME, symbol, &ukernels_##NAME, ACT_##input, BLOCK_##weight},
#include "kernel/cpu/ukernels.inc"
};

/* One block, K in two ranges or more, rows in reverse order; columns of absent panels stay untouched. */
static void check_block(const struct block_case *bc, uint32_t rows, uint32_t panels, uint32_t k)
{
	struct noise s = {rows * 1000 + k};
	enum weight_format format = bc->weight == BLOCK_BF16 ? WEIGHT_BF16 : WEIGHT_F8_BLOCK;
	struct noise_weight w;
	struct input in;
	uint32_t room = (rows + 31) / 32 * 32, cut = k > 128 ? 128 : k;
	uint32_t most = rows <= bc->uk->stream_rows ? UINT32_MAX : GEMM_K;
	float *c = guarded_alloc(sizeof(*c) * room * GEMM_COLS);
	const uint8_t **a = malloc(sizeof(*a) * rows);
	uint16_t *unpacked = guarded_alloc(sizeof(*unpacked) * panels * 32 * (size_t)(k + 31) / 32 * 32);
	struct gemm_block b = {.c = c, .a = a, .rows = rows, .panels = panels};

	noise_weight_init(&w, &s, format, panels * 32, k);
	input_init(&in, &s, bc->input, rows, k);
	for (uint32_t i = 0; i < room * GEMM_COLS; i++)
		c[i] = NAN;
	if (bc->uk->thread_begin)
		bc->uk->thread_begin();
	for (uint32_t k0 = 0; k0 < w.w.k_padded; k0 += b.k) {
		b.first = k0 == 0;
		b.k = k0 == 0 && k > cut ? cut : w.w.k_padded - k0;
		b.k = b.k < most ? b.k : most;
		for (uint32_t i = 0; i < rows; i++)
			a[i] = in.act.data + (rows - 1 - i) * in.act.stride_bytes +
			       k0 * (bc->input == ACT_F32 ? 4 : 2);
		b.w = w.w.panels + (size_t)k0 * 32 * (format == WEIGHT_BF16 ? 2 : 1);
		b.next = b.w;
		b.next_bytes = b.panel_bytes = w.w.panel_bytes;
		if (format == WEIGHT_F8_BLOCK) {
			b.scales = w.w.scales + k0 / 128;
			b.scale_stride = w.w.k_blocks;
		}
		if (bc->weight == BLOCK_F8U) {
			for (uint32_t p = 0; p < panels; p++)
				bc->uk->unpack_f8(unpacked + p * 32 * b.k,
					b.w + p * w.w.panel_bytes, 32 * b.k);
			b.w = (const uint8_t *)unpacked;
			b.panel_bytes = 64 * b.k;
		}
		bc->fn(&b);
	}
	if (bc->uk->thread_end)
		bc->uk->thread_end();
	for (uint32_t i = 0; i < rows; i++) {
		for (uint32_t j = 0; j < panels * 32; j++)
			check_value(&in, &w, rows - 1 - i, j, c[i * GEMM_COLS + j]);
		for (uint32_t j = panels * 32; j < GEMM_COLS; j++)
			assert_true(isnan(c[i * GEMM_COLS + j]));
	}
	guarded_free(c);
	guarded_free(unpacked);
	free(a);
	noise_weight_deinit(&w);
	input_deinit(&in);
}

/* A whole byte of a packed panel or a nibble of it as 16 times its value: the kernel's own view. */
static int packed_int(const struct weight *w, uint32_t row, uint32_t col)
{
	return (int)lrintf(weight_get(w, row, col) / w->scales[weight_scale_index(w, row, col / w->k_block)]);
}

/* The smallest weight and the largest input, mostly: partial sums that are as large as they get. */
static void make_extreme(struct noise *s, struct weight *w, struct input *in)
{
	uint8_t low = w->format == WEIGHT_I4 ? 0x88 : 0x80, high = w->format == WEIGHT_I4 ? 0x77 : 0x7F;

	for (size_t i = 0; i < w->n_panels * w->panel_bytes; i++)
		w->panels[i] = noise_u32(s) % 64 ? low : high;
	for (uint32_t i = 0; i < in->act.rows; i++)
		for (uint32_t j = 0; j < w->k; j++)
			in->act.data[i * in->act.stride_bytes + j] = noise_u32(s) % 64 ? 255 : 0;
}

/* The same for integers, whose sums are exact: K in two ranges where it is long enough. */
static void check_int_block(const struct block_case *bc, uint32_t rows, uint32_t panels, uint32_t k, bool extreme)
{
	struct noise s = {rows * 1000 + k};
	enum weight_format format = bc->weight == BLOCK_I4 ? WEIGHT_I4 : WEIGHT_I8;
	uint32_t room = (rows + 31) / 32 * 32, bits = weight_traits(format)->bits;
	int32_t *sum = guarded_alloc(sizeof(*sum) * room * GEMM_COLS);
	const uint8_t **a = malloc(sizeof(*a) * rows);
	float *c = guarded_alloc(sizeof(*c) * room * GEMM_COLS);
	struct gemm_block b = {.c = c, .sum = sum, .a = a, .rows = rows, .panels = panels};
	bool is_wide = bc->uk->widen_i8 && bc->weight == BLOCK_I8;
	uint16_t *wide = guarded_alloc(sizeof(*wide) * rows * (k + 127) / 128 * 128);
	struct noise_weight w;
	struct input in;

	noise_weight_init(&w, &s, format, panels * 32, k);
	input_init(&in, &s, ACT_I8, rows, k);
	if (extreme)
		make_extreme(&s, &w.w, &in);
	for (uint32_t i = 0; i < room * GEMM_COLS; i++)
		sum[i] = -77;
	if (bc->uk->thread_begin)
		bc->uk->thread_begin();
	for (uint32_t k0 = 0; k0 < w.w.k_padded; k0 += b.k) {
		b.first = k0 == 0;
		b.k = k0 == 0 && w.w.k_padded > 128 ? 128 : w.w.k_padded - k0;
		for (uint32_t i = 0; i < rows; i++) {
			a[i] = in.act.data + (rows - 1 - i) * in.act.stride_bytes + k0;
			if (!is_wide)
				continue;
			bc->uk->widen_i8(wide + (size_t)i * b.k, a[i], b.k);
			a[i] = (const uint8_t *)(wide + (size_t)i * b.k);
		}
		b.w = w.w.panels + (size_t)k0 * 32 * bits / 8;
		b.next = b.w;
		b.next_bytes = b.panel_bytes = w.w.panel_bytes;
		bc->fn(&b);
	}
	if (bc->uk->thread_end)
		bc->uk->thread_end();
	for (uint32_t i = 0; i < rows; i++) {
		const uint8_t *x = in.act.data + (rows - 1 - i) * in.act.stride_bytes;

		for (uint32_t j = 0; j < panels * 32; j++) {
			int32_t want = 0;

			for (uint32_t col = 0; col < k; col++)
				want += x[col] * packed_int(&w.w, j, col);
			assert_int_equal(sum[i * GEMM_COLS + j], want);
		}
		for (uint32_t j = panels * 32; j < GEMM_COLS; j++)
			assert_int_equal(sum[i * GEMM_COLS + j], -77);
		for (uint32_t j = 0; j < GEMM_COLS; j++) /* nothing was to be scaled */
			assert_true(c[i * GEMM_COLS + j] == 0);
	}
	guarded_free(c);
	guarded_free(wide);
	guarded_free(sum);
	free(a);
	noise_weight_deinit(&w);
	input_deinit(&in);
}

static void test_blocks(void **state)
{
	static const uint32_t rows[] = {1, 2, 3, 4, 5, 6, 7, 13, 16, 17, 32, 45};
	static const uint32_t ks[] = {1, 32, 60, 128, 150, 416, 700};

	for (size_t i = 0; i < N(block_cases); i++) {
		if (!tier_present(block_cases[i].isa))
			continue;
		for (size_t r = 0; r < N(rows); r++)
			for (size_t k = 0; k < N(ks); k++)
				for (uint32_t p = 1; p <= 2; p++)
					if (block_cases[i].input == ACT_I8)
						check_int_block(&block_cases[i], rows[r], p, ks[k], false);
					else
						check_block(&block_cases[i], rows[r], p, ks[k]);
		for (size_t r = 0; r < N(rows) && block_cases[i].input == ACT_I8; r++)
			for (uint32_t p = 1; p <= 2; p++)
				check_int_block(&block_cases[i], rows[r], p, 640, true);
	}
}

static void test_unpack_f8(void **state)
{
	static const struct {
		enum cpu_isa isa;
		const struct gemm_ukernels *uk;
	} tiers[] = {
#define TIER(name, NAME) {CPU_ISA_##NAME, &gemm_ukernels_##name},
#include "kernel/cpu/ukernels.inc"
	};

	for (size_t t = 0; t < N(tiers); t++) {
		uint8_t *in = guarded_alloc(512);
		uint16_t *out = guarded_alloc(1024);

		for (int i = 0; i < 512; i++)
			in[i] = (uint8_t)(i * 7);
		if (tier_present(tiers[t].isa)) {
			tiers[t].uk->unpack_f8(out, in, 512);
			for (int i = 0; i < 512; i++) {
				float want = f8e4m3_to_f32(in[i]), got = bf16_to_f32(out[i]);

				assert_true(isnan(want) ? isnan(got) : want == got);
				assert_int_equal(out[i] >> 15, in[i] >> 7);
			}
		}
		guarded_free(in);
		guarded_free(out);
	}
}

static void test_unpack_i4(void **state)
{
	static const struct {
		enum cpu_isa isa;
		const struct gemm_ukernels *uk;
	} tiers[] = {
#define TIER(name, NAME) {CPU_ISA_##NAME, &gemm_ukernels_##name},
#include "kernel/cpu/ukernels.inc"
	};
	enum { n = 2 * 2048 };

	for (size_t t = 0; t < N(tiers); t++) {
		uint8_t *in = guarded_alloc(n), *out = guarded_alloc(2 * n);

		for (int i = 0; i < n; i++)
			in[i] = (uint8_t)(i * 7 + i / 256);
		if (tier_present(tiers[t].isa)) {
			tiers[t].uk->unpack_i4(out, in, n);
			for (int i = 0; i < n; i++) {
				int at = i / 2048 * 4096 + i % 2048;

				assert_int_equal(out[at], (uint8_t)(in[i] << 4));
				assert_int_equal(out[at + 2048], in[i] & 0xF0);
			}
		}
		guarded_free(in);
		guarded_free(out);
	}
}

static struct kernel *device(enum cpu_isa isa, int threads)
{
	struct kernel_config config = {.isa = isa, .threads = threads};
	struct kernel *kn = NULL;
	struct error err;

	assert_int_equal(kernel_create(&kn, &config, &err), OK);
	return kn;
}

struct product {
	uint32_t m;
	uint32_t n;
	uint32_t k;
	enum weight_format format;
	enum act_kind input;
	bool gather;
	uint32_t group; /* integers: K of a scale, 0: all */
};

static const struct product products[] = {
	{1, 1, 1, WEIGHT_BF16, ACT_BF16, false, 0},
	{1, 576, 256, WEIGHT_F8_BLOCK, ACT_BF16, false, 0},
	{3, 100, 96, WEIGHT_BF16, ACT_BF16, true, 0},
	{5, 33, 40, WEIGHT_F8_BLOCK, ACT_BF16, true, 0},
	{9, 64, 1100, WEIGHT_BF16, ACT_BF16, false, 0},
	{7, 160, 1300, WEIGHT_F8_BLOCK, ACT_BF16, true, 0},
	{17, 256, 200, WEIGHT_BF16, ACT_F32, false, 0},
	{34, 96, 700, WEIGHT_F8_BLOCK, ACT_BF16, false, 0},
	{40, 31, 513, WEIGHT_BF16, ACT_BF16, true, 0},
	{530, 40, 64, WEIGHT_BF16, ACT_BF16, false, 0},
	{450, 64, 544, WEIGHT_BF16, ACT_BF16, false, 0},
	{440, 64, 576, WEIGHT_F8_BLOCK, ACT_BF16, true, 0},
	{515, 64, 160, WEIGHT_F8_BLOCK, ACT_BF16, true, 0},
	{1, 576, 256, WEIGHT_I8, ACT_I8, false, 0},
	{3, 33, 1, WEIGHT_I8, ACT_I8, true, 0},
	{9, 64, 2500, WEIGHT_I8, ACT_I8, true, 0},
	{515, 40, 100, WEIGHT_I8, ACT_I8, false, 0},
	{34, 96, 1100, WEIGHT_I8, ACT_I8, true, 192},
	{1, 160, 3000, WEIGHT_I4, ACT_I8, false, 0},
	{4, 100, 513, WEIGHT_I4, ACT_I8, true, 256},
	{40, 64, 1300, WEIGHT_I4, ACT_I8, true, 128},
	{2, 31, 2000, WEIGHT_I4, ACT_I8, false, 1280},
	{520, 96, 300, WEIGHT_I4, ACT_I8, true, 0},
};

struct product_case {
	struct noise_weight w;
	struct input in;
	int32_t *rows;
	float *out;
	struct gemm_job job;
};

static void product_init(struct product_case *c, const struct product *p, uint64_t seed)
{
	struct noise s = {seed};
	uint32_t stride = p->n + 3, in_rows = p->gather ? p->m / 2 + 3 : p->m;

	noise_weight_init_groups(&c->w, &s, p->format, p->n, p->k, p->group);
	input_init(&c->in, &s, p->input, in_rows, p->k);
	c->rows = malloc(sizeof(*c->rows) * p->m);
	for (uint32_t i = 0; i < p->m; i++)
		c->rows[i] = (int32_t)(p->gather ? noise_u32(&s) % in_rows : i);
	c->out = guarded_alloc(sizeof(*c->out) * p->m * stride);
	c->job = (struct gemm_job){
		.a = &c->in.act,
		.rows = p->gather ? c->rows : NULL,
		.m = p->m,
		.w = c->w.w,
		.epilogue = GEMM_STORE_F32,
		.out_f32 = c->out,
		.out_stride = stride,
	};
}

static void product_deinit(struct product_case *c)
{
	noise_weight_deinit(&c->w);
	input_deinit(&c->in);
	guarded_free(c->out);
	free(c->rows);
}

/* Integer products have the same bits in all tiers. first: of the tier before, or NULL. */
static void keep_int(float **first, const struct product *p, const float *out)
{
	size_t bytes = sizeof(*out) * p->m * (p->n + 3);

	if (p->input != ACT_I8)
		return;
	if (*first) {
		assert_memory_equal(*first, out, bytes);
		return;
	}
	*first = malloc(bytes);
	memcpy(*first, out, bytes);
}

/* All products in one call, with values, then each row alone and on other thread counts, with bits. */
static void check_tier(enum cpu_isa isa, float **first)
{
	struct product_case c[N(products)];
	struct gemm_job jobs[N(products)];
	struct kernel *one = device(isa, 1), *two = device(isa, 2), *five = device(isa, 5);

	for (size_t i = 0; i < N(products); i++) {
		product_init(&c[i], &products[i], i + 1);
		jobs[i] = c[i].job;
	}
	kernel_gemm(two, jobs, N(products));
	for (size_t i = 0; i < N(products); i++) {
		uint32_t n = products[i].n, stride = n + 3;
		float *again = guarded_alloc(sizeof(*again) * products[i].m * stride);
		struct gemm_job job = c[i].job;

		for (uint32_t r = 0; r < products[i].m; r++) {
			for (uint32_t j = 0; j < n; j++)
				check_value(&c[i].in, &c[i].w, (uint32_t)c[i].rows[r], j,
					c[i].out[r * stride + j]);
			for (uint32_t j = n; j < stride; j++)
				assert_true(c[i].out[r * stride + j] == 0);
		}
		job.out_f32 = again;
		kernel_gemm(five, &job, 1);
		assert_memory_equal(again, c[i].out, sizeof(*again) * products[i].m * stride);
		memset(again, 0, sizeof(*again) * products[i].m * stride);
		for (uint32_t r = 0, m; r < products[i].m; r += m) {
			m = r % 3 == 0 ? 1 : r % 7 + 1;
			m = products[i].m - r < m ? products[i].m - r : m;
			job.m = m;
			job.rows = c[i].rows + r;
			job.out_f32 = again + (size_t)r * stride;
			kernel_gemm(one, &job, 1);
		}
		assert_memory_equal(again, c[i].out, sizeof(*again) * products[i].m * stride);
		guarded_free(again);
	}
	for (size_t i = 0; i < N(products); i++) {
		keep_int(&first[i], &products[i], c[i].out);
		product_deinit(&c[i]);
	}
	kernel_destroy(one);
	kernel_destroy(two);
	kernel_destroy(five);
}

static void test_tiers(void **state)
{
	float *first[N(products)] = {NULL};

	for (int isa = 0; isa < CPU_ISA_COUNT; isa++)
		if (tier_present((enum cpu_isa)isa))
			check_tier((enum cpu_isa)isa, first);
	for (size_t i = 0; i < N(products); i++)
		free(first[i]);
}

/* Slices of a weight give the rows of the whole; BF16 and SiLU epilogues follow from the F32 one. */
static void check_epilogues(enum cpu_isa isa, enum weight_format format)
{
	enum { m = 11, n = 192, k = 300 };
	struct product p = {m, n, k, format, act_kind_for(format), false, 0};
	struct kernel *kn = device(isa, 2);
	struct product_case c;
	uint16_t *bf16 = guarded_alloc(m * n * sizeof(*bf16));
	size_t stride = act_stride_bytes(ACT_BF16, n / 2);
	struct act act = act_view(guarded_alloc((m + 2) * stride), ACT_BF16, m + 2, n / 2);
	struct act f32 = act_view(guarded_alloc(m * act_stride_bytes(ACT_F32, n / 2)), ACT_F32, m, n / 2);
	struct gemm_job jobs[5];

	product_init(&c, &p, 77);
	jobs[0] = c.job;
	jobs[1] = jobs[2] = jobs[3] = jobs[4] = c.job;
	jobs[1].epilogue = jobs[2].epilogue = GEMM_STORE_BF16;
	jobs[1].w = weight_rows(&c.w.w, 0, 96);
	jobs[2].w = weight_rows(&c.w.w, 96, 96);
	jobs[1].out_bf16 = bf16;
	jobs[2].out_bf16 = bf16 + 96;
	jobs[1].out_stride = jobs[2].out_stride = n;
	jobs[3].epilogue = GEMM_SILU_MUL;
	jobs[3].out_act = &act;
	jobs[3].out_row0 = 2;
	jobs[4].epilogue = GEMM_SILU_MUL;
	jobs[4].out_act = &f32;
	kernel_gemm(kn, jobs, 5);
	for (uint32_t i = 0; i < m; i++) {
		const float *y = c.out + i * (n + 3);
		const uint16_t *got = (const uint16_t *)(act.data + (i + 2) * stride);

		for (uint32_t j = 0; j < n; j++)
			assert_int_equal(bf16[i * n + j], f32_to_bf16(y[j]));
		for (uint32_t j = 0; j < n / 2; j++) {
			double gate = y[j / 32 * 64 + j % 32], up = y[j / 32 * 64 + 32 + j % 32];
			double want = gate / (1 + exp(-gate)) * up;

			assert_int_equal(
				got[j], f32_to_bf16(((float *)(f32.data + i * f32.stride_bytes))[j]));
			/* Half a unit of BF16; e^-gate ends at 2^127. */
			assert_true(fabs(bf16_to_f32(got[j]) - want) <=
				    fabs(want) * 0x1.02p-8 + fabs(gate * up) * 0x1p-126);
		}
	}
	for (size_t i = 0; i < 2 * stride; i++)
		assert_int_equal(act.data[i], 0);
	product_deinit(&c);
	guarded_free(bf16);
	guarded_free(act.data);
	guarded_free(f32.data);
	kernel_destroy(kn);
}

/* The same products by both bodies of the avx512 tier: the same bits. */
static void check_wide(struct kernel *kn, struct gemm_job *job, float *again)
{
	size_t n = (size_t)job->m * job->out_stride;
	float *out = job->out_f32;

	kn->gemm = &gemm_ukernels_avx512;
	kernel_gemm(kn, job, 1);
	kn->gemm = &gemm_ukernels_avx512_wide;
	job->out_f32 = again;
	kernel_gemm(kn, job, 1);
	job->out_f32 = out;
	for (size_t i = 0; i < n; i++)
		assert_true(isnan(out[i]) ? isnan(again[i]) : !memcmp(out + i, again + i, sizeof(*out)));
}

/* BF16 of any bits with exponents from `low` on: products and sums among them overflow, cancel and vanish. */
static void fill_bits(struct noise *s, uint16_t *x, size_t n, uint32_t low, uint32_t span)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t r = noise_u32(s);

		x[i] = (uint16_t)((r & 0x807F) | (low + (r >> 16) % span) << 7);
	}
}

static void test_wide(void **state)
{
	static const struct {
		uint32_t low, span;
	} exponents[] = {{0, 256}, {0, 130}, {50, 20}, {60, 8}, {120, 14}, {185, 10}};
	enum { m = 29, n = 96, k = 64, stride = n + 3 };
	struct kernel *kn;

	if (!tier_present(CPU_ISA_AVX512))
		return;
	kn = device(CPU_ISA_AVX512, 2);
	for (size_t i = 0; i < N(products); i++) {
		struct product_case c;

		if (products[i].input != ACT_BF16)
			continue;
		product_init(&c, &products[i], i + 100);
		for (uint32_t rows = 1; rows <= products[i].m; rows += rows < 8 ? 1 : 61) {
			float *again = guarded_alloc(sizeof(*again) * rows * c.job.out_stride);

			c.job.m = rows;
			check_wide(kn, &c.job, again);
			guarded_free(again);
		}
		product_deinit(&c);
	}
	for (uint32_t i = 0; i < 40 * N(exponents); i++) {
		struct product p = {i % 4 ? m : 1 + i % 6, n, i % 3 ? k : 2, WEIGHT_BF16, ACT_BF16, false, 0};
		uint32_t low = exponents[i / 40].low, span = exponents[i / 40].span;
		struct noise s = {i};
		struct product_case c;
		float *again = guarded_alloc(sizeof(*again) * p.m * stride);

		product_init(&c, &p, i);
		for (uint32_t r = 0; r < p.m; r++)
			fill_bits(&s, (uint16_t *)(c.in.act.data + r * c.in.act.stride_bytes), p.k, low, span);
		for (uint32_t j = 0; j < c.w.w.n_panels; j++) {
			uint16_t src[32 * k];

			fill_bits(&s, src, 32 * p.k, low, span);
			weight_pack_panel(&c.w.w, j, 32, src, DT_BF16, p.k, 1);
		}
		check_wide(kn, &c.job, again);
		guarded_free(again);
		product_deinit(&c);
	}
	kernel_destroy(kn);
}

/* F8 weights of all codes and input of all magnitudes: rows alone, or a few, have the bits that they have among many.
 * NaN codes are in the last panel, the second, or the second tile of each. */
enum nan_codes { NAN_NONE, NAN_LAST, NAN_SECOND, NAN_TILES, N_NAN_CODES };

static bool is_nan_place(enum nan_codes nan, const struct weight *w, size_t i)
{
	size_t tile_bytes = WEIGHT_K_STEP * WEIGHT_PANEL_ROWS / 2, panel = i / w->panel_bytes;

	return nan == NAN_TILES ? i / tile_bytes % 2 == 1 : panel == 2 ? nan == NAN_LAST : panel == 1 && nan == NAN_SECOND;
}

static void check_f8_codes(enum cpu_isa isa, uint32_t low, uint32_t span, enum nan_codes nan)
{
	enum { m = 17, n = 96, k = 288, stride = n + 3 };
	struct product p = {m, n, k, WEIGHT_F8_BLOCK, ACT_BF16, false, 0};
	struct kernel *kn = device(isa, 1);
	struct noise s = {low};
	struct product_case c;
	float *out, *again = guarded_alloc(sizeof(*again) * m * stride);

	product_init(&c, &p, low);
	out = c.job.out_f32;
	for (uint32_t r = 0; r < m; r++)
		fill_bits(&s, (uint16_t *)(c.in.act.data + r * c.in.act.stride_bytes), k, low, span);
	for (size_t i = 0; i < c.w.w.n_panels * c.w.w.panel_bytes; i++) {
		uint8_t code = (uint8_t)noise_u32(&s);

		c.w.w.panels[i] = (code & 0x7F) == 0x7F && !is_nan_place(nan, &c.w.w, i) ? 0 : code;
	}
	kernel_gemm(kn, &c.job, 1);
	for (uint32_t rows = 1; rows <= 7; rows++)
		for (uint32_t r = 0; r < m; r += rows) {
			c.job.m = m - r < rows ? m - r : rows;
			c.job.rows = c.rows + r;
			c.job.out_f32 = again + (size_t)r * stride;
			kernel_gemm(kn, &c.job, 1);
			for (uint32_t i = r * stride; i < (r + c.job.m) * stride; i++)
				assert_true(isnan(out[i]) ? isnan(again[i]) : !memcmp(out + i, again + i, sizeof(*out)));
			for (uint32_t i = r; i < r + c.job.m; i++)
				assert_true(isnan(out[i * stride + 95]) == (nan == NAN_LAST || nan == NAN_TILES) || span > 64);
		}
	guarded_free(again);
	product_deinit(&c);
	kernel_destroy(kn);
}

static void test_f8_codes(void **state)
{
	for (int isa = 0; isa < CPU_ISA_COUNT; isa++)
		for (enum nan_codes nan = 0; nan < N_NAN_CODES && tier_present((enum cpu_isa)isa); nan++) {
			check_f8_codes((enum cpu_isa)isa, 120, 14, nan);
			check_f8_codes((enum cpu_isa)isa, 30, 20, nan);  /* around 2^-90 */
			check_f8_codes((enum cpu_isa)isa, 148, 14, nan); /* around 2^28 */
			check_f8_codes((enum cpu_isa)isa, 0, 40, nan);
			check_f8_codes((enum cpu_isa)isa, 0, 254, nan);
		}
}

static void test_epilogues(void **state)
{
	for (int isa = 0; isa < CPU_ISA_COUNT; isa++)
		if (tier_present((enum cpu_isa)isa)) {
			check_epilogues((enum cpu_isa)isa, WEIGHT_BF16);
			check_epilogues((enum cpu_isa)isa, WEIGHT_F8_BLOCK);
			check_epilogues((enum cpu_isa)isa, WEIGHT_I8);
			check_epilogues((enum cpu_isa)isa, WEIGHT_I4);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unpack_f8),
		cmocka_unit_test(test_unpack_i4),
		cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_tiers),
		cmocka_unit_test(test_wide),
		cmocka_unit_test(test_f8_codes),
		cmocka_unit_test(test_epilogues),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
