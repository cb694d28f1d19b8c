/*
 * Passes over a row of logits. A row is long (129 280 in DeepSeek-V3.1) and these passes are all that a token costs outside
 * the model, so they have no branches and the compiler makes vectors of them.
 */
#ifndef ENGINE_SOFTMAX_H
#define ENGINE_SOFTMAX_H

#include <stdint.h>

#define SOFTMAX_BLOCK 256u

/* Length of the block that begins at `at` < n. */
static inline uint32_t softmax_block(uint32_t at, uint32_t n)
{
	return n - at < SOFTMAX_BLOCK ? n - at : SOFTMAX_BLOCK;
}

/* Lowest index of the largest finite logit; -1 when none is finite. */
int32_t softmax_best(const float *logits, uint32_t n);

/*
 * mass[i] = exp((logits[i] - best) / temperature) for i < n <= SOFTMAX_BLOCK, with a relative error under 2e-5; 0 for what
 * is under 2^-126, above `best`, or not finite. Returns their sum, added in one order that depends on n alone.
 */
double softmax_masses(float *restrict mass, const float *restrict logits, uint32_t n, float best, double temperature);

#endif
