/* Made-up numbers and guarded buffers for the checks of kernels. */
#ifndef TESTS_KERNEL_NOISE_H
#define TESTS_KERNEL_NOISE_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/weight.h"

struct noise {
	uint64_t state;
};

uint32_t noise_u32(struct noise *s);
float noise_f32(struct noise *s); /* -1 .. 1 */

/* Zeroed memory aligned to 64 with a pattern before and behind; freeing checks it. */
void *guarded_alloc(size_t bytes);
void guarded_free(void *p);

/* A packed random matrix and the values it stands for, to be freed by noise_weight_deinit(). */
struct noise_weight {
	struct weight w;
	float *values; /* [n, k] */
	int32_t *extra; /* integers: what biases add to the sums, as weight_scale_index(); else NULL */
	void *mem;
};
void noise_weight_init(
	struct noise_weight *out, struct noise *s, enum weight_format format, uint32_t n, uint32_t k);
/* With a scale for each `group` of K, for integers; biases hold more than the input's 128. */
void noise_weight_init_groups(struct noise_weight *out, struct noise *s, enum weight_format format, uint32_t n,
	uint32_t k, uint32_t group);
void noise_weight_deinit(struct noise_weight *w);

#endif
