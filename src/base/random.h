/*
 * Counter-based random numbers: a draw is a function of (seed, counter) alone, so results depend
 * neither on threads nor on what was drawn before.
 */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stdint.h>

/* 64 bits of Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"):
 * key = seed, counter = counter. */
uint64_t random_u64(uint64_t seed, uint64_t counter);

/* Uniform in [0, 1), with 53 bits. */
double random_unit(uint64_t seed, uint64_t counter);

#endif
