/*
 * Bodies of struct row_ukernels, included once by each tier's file with ROW_NAME(x) defined. See
 * row.h. Plain loops over independent elements: the compiler makes vectors of them.
 */
#include "kernel/dtype.h"

/*
 * e^x to 1.5 ULP for finite x; x below -87.3 counts as -87.3 and above 88.3 as 88.3, NaN stays. The
 * power of two is split off by adding 1.5 * 2^23, which leaves the rounded quotient in the low bits.
 */
static inline float row_exp(float x)
{
	const float magic = 12582912.0f;
	float lo, t, n, r, p, two;
	uint32_t bits;

	lo = x < -87.3f ? -87.3f : x;
	lo = lo > 88.3f ? 88.3f : lo;
	t = lo * 1.44269504f + magic;
	n = t - magic;
	r = lo - n * 0.693359375f; /* exact: the constant has 9 bits */
	r = r + n * 2.12194440e-4f;
	p = 1.98756915e-4f;
	p = p * r + 1.39819995e-3f;
	p = p * r + 8.33345219e-3f;
	p = p * r + 4.16657962e-2f;
	p = p * r + 1.66666655e-1f;
	p = p * r + 5.00000000e-1f;
	p = p * r * r + r + 1.0f;
	memcpy(&bits, &t, sizeof(bits));
	bits = (bits + 127) << 23;
	memcpy(&two, &bits, sizeof(two));
	return p * two;
}

static inline uint16_t row_bf16(float f)
{
	uint32_t u, rounded, nan;

	memcpy(&u, &f, sizeof(u));
	rounded = u + 0x7FFF + (u >> 16 & 1);
	nan = u | 0x400000;
	return (uint16_t)(((u & 0x7FFFFFFF) > 0x7F800000 ? nan : rounded) >> 16);
}

static void ROW_NAME(add)(float *restrict x, const float *restrict add, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] += add[i];
}

static void ROW_NAME(to_bf16)(uint16_t *restrict out, const float *restrict x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = row_bf16(x[i]);
}

static void ROW_NAME(from_bf16)(float *restrict out, const uint16_t *restrict x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = bf16_to_f32(x[i]);
}

static float ROW_NAME(rms)(const float *x, float eps, size_t n)
{
	float part[64] = {0}; /* element i goes to part i % 64 */
	size_t i;

	for (i = 0; i + 64 <= n; i += 64)
		for (size_t j = 0; j < 64; j++)
			part[j] += x[i + j] * x[i + j];
	for (; i < n; i++)
		part[i % 64] += x[i] * x[i];
	for (size_t half = 32; half; half /= 2)
		for (size_t j = 0; j < half; j++)
			part[j] += part[j + half];
	return 1.0f / sqrtf(part[0] / (float)n + eps);
}

static void ROW_NAME(scale)(float *restrict out, const float *restrict x, float r,
	const float *restrict weight, const float *restrict bias, size_t n)
{
	if (bias)
		for (size_t i = 0; i < n; i++)
			out[i] = x[i] * r * weight[i] + bias[i];
	else
		for (size_t i = 0; i < n; i++)
			out[i] = x[i] * r * weight[i];
}

static void ROW_NAME(silu_mul)(
	uint16_t *restrict out, const float *restrict gate, const float *restrict up, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = row_bf16(gate[i] / (1.0f + row_exp(-gate[i])) * up[i]);
}

static void ROW_NAME(silu_mul_f32)(
	float *restrict out, const float *restrict gate, const float *restrict up, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = gate[i] / (1.0f + row_exp(-gate[i])) * up[i];
}

/* Bits of positive floats are in the order of their values, so that vectors of integers do; NaN is the largest. */
static float ROW_NAME(max_abs)(const float *restrict x, float start, size_t n)
{
	int32_t max;
	float out;

	memcpy(&max, &start, sizeof(max));
	for (size_t i = 0; i < n; i++) {
		int32_t u;

		memcpy(&u, x + i, sizeof(u));
		u &= 0x7FFFFFFF;
		max = u > max ? u : max;
	}
	memcpy(&out, &max, sizeof(out));
	return out;
}

/* Adding 1.5 * 2^23 leaves the rounded value in the low bits. */
static void ROW_NAME(quantize)(
	uint8_t *restrict out, const float *restrict x, float scale, float offset, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		float q = x[i] / scale + offset;
		uint32_t bits;

		q = q > -128.0f ? q : -128.0f;
		q = (q < 127.0f ? q : 127.0f) + 12582912.0f;
		memcpy(&bits, &q, sizeof(bits));
		out[i] = (uint8_t)(bits ^ 0x80);
	}
}

static void ROW_NAME(add_scaled)(float *restrict c, const int32_t *restrict sum,
	const int32_t *restrict bias, const float *restrict scale, bool first, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		/* Unsigned: halves of a sum may pass the ends, the whole does not. */
		float y = (float)(int32_t)((uint32_t)sum[i] + (uint32_t)bias[i]) * scale[i];

		c[i] = first ? y : c[i] + y;
	}
}

static void ROW_NAME(sigmoid)(float *restrict out, const float *restrict x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = 1.0f / (1.0f + row_exp(-x[i]));
}

static void ROW_NAME(exp_minus)(float *restrict out, const float *restrict x, float max, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = row_exp(x[i] - max);
}

static void ROW_NAME(mul)(float *restrict out, const float *restrict x, float factor, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = x[i] * factor;
}

#define ROW_UKERNELS(tier)                                                                         \
	const struct row_ukernels row_ukernels_##tier = {                                          \
		.add = ROW_NAME(add),                                                              \
		.to_bf16 = ROW_NAME(to_bf16),                                                      \
		.from_bf16 = ROW_NAME(from_bf16),                                                  \
		.rms = ROW_NAME(rms),                                                              \
		.scale = ROW_NAME(scale),                                                          \
		.silu_mul = ROW_NAME(silu_mul),                                                    \
		.silu_mul_f32 = ROW_NAME(silu_mul_f32),                                            \
		.max_abs = ROW_NAME(max_abs),                                                      \
		.quantize = ROW_NAME(quantize),                                                    \
		.add_scaled = ROW_NAME(add_scaled),                                                \
		.sigmoid = ROW_NAME(sigmoid),                                                      \
		.exp_minus = ROW_NAME(exp_minus),                                                  \
		.mul = ROW_NAME(mul),                                                              \
	}
