/*
 * Limits of a device, measured: what `bench` and `inspect` print beside their own
 * figures. A probe takes 8 to 25 ms and uses every compute thread; nothing else should run meanwhile. The
 * limits of a shared host change within seconds: probe right before and right after what is measured.
 */
#ifndef KERNEL_PROBE_H
#define KERNEL_PROBE_H

#include "base/error.h"
#include "kernel/kernel.h"

/* A buffer to read, many times the last level of cache. */
struct kernel_probe;

/* What its buffer should be now: 1 GiB or four times the caches, at most a quarter of what is available. */
size_t kernel_probe_bytes(void);
/* Maps and touches `bytes`, or kernel_probe_bytes() when 0. The kernel is borrowed. */
enum status kernel_probe_create(
	struct kernel_probe **out, struct kernel *kn, size_t bytes, struct error *err);
void kernel_probe_destroy(struct kernel_probe *p);

/*
 * Bytes per second that all threads together read, each its own part of the buffer, from where the probe
 * before ended: what it reads was last read a whole buffer ago. The loop is the best tier's, whatever the
 * kernel's, as bandwidth is the machine's.
 */
double kernel_probe_read_bytes_per_s(struct kernel_probe *p);
/* The best of several. */
double kernel_probe_read_best(struct kernel_probe *p);

/*
 * Operations per second (2 per multiply-add) of the instructions that the kernel's tier multiplies BF16
 * weights with, operands in registers, all threads; the best of those that serve for it.
 */
double kernel_probe_bf16_flops(struct kernel *kn);
/* The same of the instruction that multiplies integer weights. */
double kernel_probe_int8_ops(struct kernel *kn);

#endif
