/*
 * Limits of a device, measured: what `bench model`, `inspect` and the kernel benchmark print beside
 * their own figures. A probe takes a fraction of a second and uses every compute thread; nothing else
 * should run meanwhile.
 */
#ifndef KERNEL_PROBE_H
#define KERNEL_PROBE_H

#include "base/error.h"
#include "kernel/kernel.h"

/*
 * Bytes per second that all threads together read from memory much larger than the caches, each its
 * own part; the best of several passes. Maps 512 MiB meanwhile, less when memory is short. Returns 0
 * with `err` set when there is no memory.
 */
double kernel_probe_read_bytes_per_s(struct kernel *kn, struct error *err);

/*
 * Floating-point operations per second (2 per multiply-add) of the instruction that the device's tier
 * multiplies BF16 weights with, operands in registers, all threads; the best of several passes.
 */
double kernel_probe_bf16_flops(struct kernel *kn);

/* The same of the instruction that multiplies integer weights. */
double kernel_probe_int8_ops(struct kernel *kn);

#endif
