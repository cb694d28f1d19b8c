/*
 * What a transport provides (comm/comm.h). A group is a transport's struct that begins with struct
 * comm_group. Internal to comm/.
 */
#ifndef COMM_COMM_INT_H
#define COMM_COMM_INT_H

#include "comm/comm.h"

struct comm_ops {
	const char *name;
	void (*close)(struct comm_group *g);
	enum status (*sum_post)(struct comm_group *g, struct comm_sum *sum);
	enum status (*sum_wait)(struct comm_group *g, struct comm_sum *sum, const float **total);
};

struct comm_group {
	const struct comm_ops *ops;
	int rank;
	int size;
	uint64_t next_op; /* collectives posted so far: ranks out of step are found by it */
};

#endif
