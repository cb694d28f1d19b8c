/*
 * Loops that reach a tier's limits, for the probes (cpu/probe.c). Internal to kernel/.
 *
 * A loop proves what it did: operands are ones, so the sum of its accumulators is the number of
 * multiply-adds. PEAK_ROUNDS bounds a call so that every accumulator stays exact. A loop of x86 is one
 * block of assembly, with as many chains as two units of latency 6 take: no compiler spills in it.
 */
#ifndef KERNEL_CPU_PEAK_H
#define KERNEL_CPU_PEAK_H

#include <stddef.h>
#include <stdint.h>

#define PEAK_ROUNDS (1u << 16)

/* Runs `rounds` <= PEAK_ROUNDS rounds; returns the number of multiply-adds, read off the accumulators. */
typedef double peak_fn(uint32_t rounds);
/* XOR of n 64-bit words, n a multiple of 64; p is aligned to 64. */
typedef uint64_t peak_read_fn(const uint64_t *p, size_t n);

struct peak_ukernels {
	/* Ways to multiply BF16 weights, of which the faster one is the tier's limit: CPUs differ in it. The
	 * second one may be NULL. */
	peak_fn *bf16[2];
	peak_fn *i8; /* what multiplies I8 weights */
	peak_read_fn *read;
};

#define TIER(name, NAME) extern const struct peak_ukernels peak_ukernels_##name;
#include "kernel/cpu/ukernels.inc"

#endif
