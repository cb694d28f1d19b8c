/*
 * Ranks and groups. A model asks its group for every sum that tensor parallelism needs; a group of
 * one returns its input at no cost, so a single process and a cluster run the same model code.
 *
 * Sums are posted where a partial result is ready and waited for where it is needed, so that work
 * (the shared expert, the other half batch) can run between. The order of additions is a fixed
 * binary tree over rank indices (spec: distributed, section 2 "Sum").
 */
#ifndef COMM_COMM_H
#define COMM_COMM_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct comm_group;

/* The group that holds only this process. */
enum status comm_group_open_self(struct comm_group **out, struct error *err);
void comm_group_close(struct comm_group *g);

int comm_group_rank(const struct comm_group *g);
int comm_group_size(const struct comm_group *g);

/* One sum in flight: F32 [rows, cols]. */
struct comm_sum {
	float *part;
	uint32_t rows;
	uint32_t cols;
	uint64_t op; /* position in the group's order of collectives */
};

/* Offers this rank's partial sums; `part` must stay until the wait returns. */
enum status comm_sum_post(struct comm_group *g, struct comm_sum *sum, float *part, uint32_t rows,
	uint32_t cols);
/* *total points at the sum of all ranks' parts: in a group of one, at `part` itself. */
enum status comm_sum_wait(struct comm_group *g, struct comm_sum *sum, const float **total);

#endif
