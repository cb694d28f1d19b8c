/*
 * Loops that reach a tier's limits, for the probes (cpu/probe.c). Internal to kernel/.
 *
 * A loop proves what it did: operands are ones, so the sum of its accumulators is the number of
 * multiply-adds. PEAK_ROUNDS bounds a call so that every accumulator stays exact.
 */
#ifndef KERNEL_CPU_PEAK_H
#define KERNEL_CPU_PEAK_H

#include <stddef.h>
#include <stdint.h>

#define PEAK_ROUNDS (1u << 16)

struct peak_ukernels {
	/* Runs `rounds` <= PEAK_ROUNDS rounds; returns the number of multiply-adds, read off the
	 * accumulators. */
	double (*multiply_add)(uint32_t rounds);
	/* The same for integers: what multiplies I8 weights. */
	double (*multiply_add_i8)(uint32_t rounds);
	/* XOR of n 64-bit words, n a multiple of 64; p is aligned to 64. */
	uint64_t (*read)(const uint64_t *p, size_t n);
};

#define TIER(name, NAME) extern const struct peak_ukernels peak_ukernels_##name;
#include "kernel/cpu/ukernels.inc"

#endif
