/* Query rotation and cache writes: against the formula in double, and the same bits in every tier.
 */
#include "cm.h"

#include <stdlib.h>

#include "emulate.h"
#include "kernel/kernel.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))
#define GUARD 0x5A5Au
#define MAX_ROPE 64u

static const uint32_t positions[] = {0, 1, 2, 63, 64, 1000, 4097, 65535, 131071, 163839};

static float noise(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return (float)(int32_t)*seed / 536870912.0f; /* -4 .. 4 */
}

static struct kernel *device(enum cpu_isa isa, int threads)
{
	struct kernel_config config = {.isa = isa, .threads = threads};
	struct kernel *kn = NULL;
	struct error err;

	assert_int_equal(kernel_create(&kn, &config, &err), OK);
	return kn;
}

static void frequencies(float *freq, uint32_t rope)
{
	for (uint32_t j = 0; j < rope / 2; j++)
		freq[j] = (float)pow(10000.0, -2.0 * j / rope);
}

/* |got - want| within the rounding of BF16 and a few F32 roundings of values up to `size`. */
static void assert_rounded(uint16_t got, double want, double size)
{
	assert_true(fabs(bf16_to_f32(got) - want) <= fabs(want) / 256 + size * 1e-6);
}

/* The pair (a, b) turned by pos * freq. */
static void naive_turn(double *y, float a, float b, uint32_t pos, float freq, float mscale)
{
	double angle = (double)((float)pos * freq);

	y[0] = (a * cos(angle) - b * sin(angle)) * mscale;
	y[1] = (a * sin(angle) + b * cos(angle)) * mscale;
}

struct q_case {
	uint32_t heads;
	uint32_t nope;
	uint32_t rope;
	float mscale;
};

static void run_q_rope(struct kernel *kn, const struct q_case *c, const float *q,
	const int32_t *pos, uint32_t rows, uint16_t *nope_out, uint16_t *rope_out)
{
	float freq[MAX_ROPE / 2];
	uint32_t padded = (c->nope + 31) / 32 * 32, wide = c->heads * padded;
	size_t stride = act_stride_bytes(ACT_BF16, wide),
	       n_rope = (size_t)rows * c->heads * c->rope;
	uint8_t *mem = aligned_alloc(64, (rows + 1) * stride);
	uint16_t *rotated = malloc(sizeof(*rotated) * (n_rope + 8));
	struct act act = act_view(mem, ACT_BF16, rows, wide);
	struct q_rope_args args = {
		q, rows, c->heads, c->nope, {freq, c->rope, c->mscale}, pos, &act, rotated};

	frequencies(freq, c->rope);
	for (size_t i = 0; i < (rows + 1) * stride / 2; i++)
		((uint16_t *)mem)[i] = GUARD;
	for (size_t i = 0; i < n_rope + 8; i++)
		rotated[i] = GUARD;
	kernel_q_rope(kn, &args);
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(rotated[n_rope + i], GUARD);
	for (size_t i = 0; i < stride / 2; i++)
		assert_int_equal(((uint16_t *)(mem + rows * stride))[i], GUARD);
	for (uint32_t r = 0; r < rows; r++)
		for (uint32_t h = 0; h < c->heads; h++)
			memcpy(nope_out + ((size_t)r * c->heads + h) * c->nope,
				(uint16_t *)(mem + r * stride) + (size_t)h * padded,
				sizeof(*nope_out) * c->nope);
	memcpy(rope_out, rotated, sizeof(*rotated) * n_rope);
	free(mem);
	free(rotated);
}

static void test_q_rope(void **state)
{
	static const struct q_case cases[] = {
		{1, 32, 16, 1}, {3, 64, 32, 1}, {5, 128, 64, 1.25f}, {2, 40, 64, 0.7f}};
	const uint32_t rows = N(positions);

	for (size_t i = 0; i < N(cases); i++) {
		const struct q_case *c = &cases[i];
		uint32_t width = c->nope + c->rope, seed = 7;
		size_t n = (size_t)rows * c->heads;
		float *q = malloc(sizeof(*q) * n * width), freq[MAX_ROPE / 2];
		uint16_t *nope[2], *rotated[2];

		frequencies(freq, c->rope);
		for (size_t j = 0; j < n * width; j++)
			q[j] = noise(&seed);
		for (int k = 0; k < 2; k++) {
			nope[k] = malloc(sizeof(**nope) * n * c->nope);
			rotated[k] = malloc(sizeof(**rotated) * n * c->rope);
		}
		for (int isa = CPU_ISA_REF; isa < CPU_ISA_COUNT; isa = tier_after(isa)) {
			struct kernel *kn = device((enum cpu_isa)isa, 1 + isa % 3);
			int k = isa != CPU_ISA_REF;

			run_q_rope(kn, c, q, (const int32_t *)positions, rows, nope[k], rotated[k]);
			assert_memory_equal(nope[0], nope[k], sizeof(**nope) * n * c->nope);
			assert_memory_equal(
				rotated[0], rotated[k], sizeof(**rotated) * n * c->rope);
			/* One row alone has the bits it has among others. */
			run_q_rope(kn, c, q + (size_t)6 * c->heads * width,
				(const int32_t *)positions + 6, 1, nope[1], rotated[1]);
			assert_memory_equal(rotated[0] + (size_t)6 * c->heads * c->rope, rotated[1],
				sizeof(**rotated) * c->heads * c->rope);
			kernel_destroy(kn);
		}
		for (size_t j = 0; j < n; j++) {
			const float *x = q + j * width;
			double y[2];

			for (uint32_t d = 0; d < c->nope; d++)
				assert_int_equal(nope[0][j * c->nope + d], f32_to_bf16(x[d]));
			for (uint32_t d = 0; d < c->rope; d += 2) {
				naive_turn(y, x[c->nope + d], x[c->nope + d + 1],
					positions[j / c->heads], freq[d / 2], c->mscale);
				assert_rounded(rotated[0][j * c->rope + d], y[0], 8);
				assert_rounded(rotated[0][j * c->rope + d + 1], y[1], 8);
			}
		}
		for (int k = 0; k < 2; k++) {
			free(nope[k]);
			free(rotated[k]);
		}
		free(q);
	}
}

/* Two sequences, rows of the call not in the order of the sequences. */
struct kv_case {
	uint32_t kv_lora;
	uint32_t rope;
	uint32_t block_tokens;
	bool bias;
};

#define KV_STRIDE 640u
#define KV_ROWS 90u
#define KV_POOL 256u /* tokens */

static void run_kv_write(struct kernel *kn, const struct kv_case *c, const float *kv, uint8_t *pool,
	const struct mla_seq *seqs, uint32_t n_seqs)
{
	float freq[MAX_ROPE / 2], weight[512], bias[512];
	struct kv_write_args args = {
		.kv = kv,
		.kv_stride = KV_STRIDE,
		.norm_weight = weight,
		.norm_bias = c->bias ? bias : NULL,
		.eps = 1e-6f,
		.rope = {freq, c->rope, 1.1f},
		.cache = {pool, c->block_tokens * kernel_kv_row_bytes(c->kv_lora, c->rope),
			c->block_tokens, c->kv_lora, c->rope},
		.seqs = seqs,
		.n_seqs = n_seqs,
	};

	frequencies(freq, c->rope);
	for (uint32_t i = 0; i < 512; i++) {
		weight[i] = 1 + 0.01f * (float)(i % 31);
		bias[i] = 0.1f * (float)(i % 7) - 0.3f;
	}
	kernel_kv_write(kn, &args);
}

static void check_kv_row(const struct kv_case *c, const uint16_t *row, const float *x, uint32_t pos)
{
	float freq[MAX_ROPE / 2];
	double squares = 0, r;

	frequencies(freq, c->rope);
	for (uint32_t i = 0; i < c->kv_lora; i++)
		squares += (double)x[i] * x[i];
	r = 1 / sqrt(squares / c->kv_lora + 1e-6f);
	for (uint32_t i = 0; i < c->kv_lora; i++) {
		double want = x[i] * r * (1 + 0.01f * (float)(i % 31));

		if (c->bias)
			want += 0.1f * (float)(i % 7) - 0.3f;
		assert_rounded(row[i], want, 8);
	}
	for (uint32_t i = 0; i < c->rope; i += 2) {
		double y[2];

		naive_turn(y, x[c->kv_lora + i], x[c->kv_lora + i + 1], pos, freq[i / 2], 1.1f);
		assert_rounded(row[c->kv_lora + i], y[0], 8);
		assert_rounded(row[c->kv_lora + i + 1], y[1], 8);
	}
	for (uint32_t i = c->kv_lora + c->rope; i < kernel_kv_row_bytes(c->kv_lora, c->rope) / 2;
		i++)
		assert_int_equal(row[i], 0);
}

static void test_kv_write(void **state)
{
	static const struct kv_case cases[] = {
		{512, 64, 64, false}, {32, 16, 1, true}, {96, 32, 16, false}, {160, 16, 128, true}};
	float *kv = malloc(sizeof(*kv) * KV_STRIDE * KV_ROWS);
	uint32_t seed = 3;

	for (size_t i = 0; i < (size_t)KV_STRIDE * KV_ROWS; i++)
		kv[i] = noise(&seed);
	for (size_t i = 0; i < N(cases); i++) {
		const struct kv_case *c = &cases[i];
		size_t row_bytes = kernel_kv_row_bytes(c->kv_lora, c->rope),
		       bytes = KV_POOL * row_bytes;
		uint32_t bt = c->block_tokens, n = KV_POOL / bt;
		int32_t blocks[KV_POOL];
		struct mla_seq seqs[2] = {{60, 30, 70, blocks}, {0, 60, 3, blocks + n / 2}};
		uint8_t *pool[2] = {aligned_alloc(64, bytes), aligned_alloc(64, bytes)};

		for (uint32_t b = 0; b < n; b++)
			blocks[b] = (int32_t)(n - 1 - b);
		for (int isa = CPU_ISA_REF; isa < CPU_ISA_COUNT; isa = tier_after(isa)) {
			struct kernel *kn = device((enum cpu_isa)isa, 1 + isa);

			memset(pool[1], GUARD & 0xFF, bytes);
			run_kv_write(kn, c, kv, pool[1], seqs, 2);
			if (isa == CPU_ISA_REF)
				memcpy(pool[0], pool[1], bytes);
			assert_memory_equal(pool[0], pool[1], bytes);
			kernel_destroy(kn);
		}
		for (uint32_t s = 0; s < 2; s++)
			for (uint32_t pos = 0; pos < KV_POOL / 2; pos++) {
				const uint16_t *row =
					(const uint16_t *)(pool[0] +
							   ((size_t)seqs[s].blocks[pos / bt] * bt +
								   pos % bt) *
								   row_bytes);
				uint32_t r = pos - seqs[s].pos0;

				if (r < seqs[s].rows)
					check_kv_row(c, row,
						kv + (size_t)(seqs[s].row0 + r) * KV_STRIDE, pos);
				else
					assert_int_equal(row[0], GUARD);
			}
		free(pool[0]);
		free(pool[1]);
	}
	free(kv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_q_rope),
		cmocka_unit_test(test_kv_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
