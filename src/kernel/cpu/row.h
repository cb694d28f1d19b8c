/*
 * Elementwise work on rows: norms, conversions, activation functions. A few lines of portable C in
 * row_body.h, compiled once per tier; every operation rounds as written (no contraction, partial
 * sums at fixed places), so all tiers give the same bits.
 */
#ifndef KERNEL_CPU_ROW_H
#define KERNEL_CPU_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct row_ukernels {
	/* x += add */
	void (*add)(float *x, const float *add, size_t n);
	/* out = BF16 of x, round to nearest even */
	void (*to_bf16)(uint16_t *out, const float *x, size_t n);
	/* out = F32 of x */
	void (*from_bf16)(float *out, const uint16_t *x, size_t n);
	/* 1 / sqrt(mean(x^2) + eps) */
	float (*rms)(const float *x, float eps, size_t n);
	/* out = x * r * weight (+ bias when not NULL) */
	void (*scale)(
		float *out, const float *x, float r, const float *weight, const float *bias, size_t n);
	/* out = BF16 of gate / (1 + e^-gate) * up */
	void (*silu_mul)(uint16_t *out, const float *gate, const float *up, size_t n);
	/* The same as F32. */
	void (*silu_mul_f32)(float *out, const float *gate, const float *up, size_t n);
	/* max(start, |x|), NaN left out */
	float (*max_abs)(const float *x, float start, size_t n);
	/* out = x / scale + offset, rounded to even, held in -128 .. 127, plus 128; NaN counts as -128 */
	void (*quantize)(uint8_t *out, const float *x, float scale, float offset, size_t n);
	/* c = (first ? 0 : c) + F32 of (sum + bias) * scale: products of integers (cpu/gemm.c) */
	void (*add_scaled)(float *c, const int32_t *sum, const int32_t *bias, const float *scale,
		bool first, size_t n);
	/* out = 1 / (1 + e^-x) */
	void (*sigmoid)(float *out, const float *x, size_t n);
	/* out = e^(x - max) */
	void (*exp_minus)(float *out, const float *x, float max, size_t n);
	/* out = x * factor */
	void (*mul)(float *out, const float *x, float factor, size_t n);
};

#define TIER(name, NAME) extern const struct row_ukernels row_ukernels_##name;
#include "kernel/cpu/ukernels.inc"

#endif
