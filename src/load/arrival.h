/*
 * When requests arrive: gaps drawn from a gamma distribution, as vLLM's benchmark draws them.
 *
 *   struct load_arrival a = { .rate = 4, .burstiness = 1, .seed = 0 };
 *   load_arrival_times(seconds, n, &a);
 *
 * Burstiness is the shape: 1 is a Poisson process, less is burstier, INFINITY a metronome. At a constant
 * rate the times are then stretched so that the last of n is n / rate, so that runs of different seeds
 * offer the same load.
 */
#ifndef LOAD_ARRIVAL_H
#define LOAD_ARRIVAL_H

#include <stdint.h>

enum load_ramp { LOAD_RAMP_NONE, LOAD_RAMP_LINEAR, LOAD_RAMP_EXPONENTIAL };

struct load_arrival {
	double rate;       /* requests per second; INFINITY: all at once */
	double burstiness; /* above 0 */
	enum load_ramp ramp;
	double ramp_start, ramp_end; /* requests per second; take the place of rate under a ramp */
	uint64_t seed;
};

/* Requests per second that hold for request i of n. */
double load_arrival_rate(const struct load_arrival *a, uint32_t i, uint32_t n);

/* seconds: [n], rising, from the beginning of the run. */
void load_arrival_times(double *seconds, uint32_t n, const struct load_arrival *a);

/* A draw of the gamma distribution with mean `shape`; a function of its arguments alone. */
double load_gamma(double shape, uint64_t seed, uint64_t index);

/* Seeds of things that are drawn independently. */
enum load_draw { LOAD_DRAW_ARRIVAL, LOAD_DRAW_LENGTH, LOAD_DRAW_OFFSET, LOAD_DRAW_PAD, LOAD_DRAW_PREFIX,
	LOAD_DRAW_SHUFFLE, LOAD_DRAW_REPEAT };
uint64_t load_seed(uint64_t seed, enum load_draw what);

#endif
