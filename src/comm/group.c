/*
 * Groups (comm/comm.h): numbers the collectives and hands them to the group's transport.
 */
#include "comm/comm_int.h"

#include "base/error.h"

void comm_group_close(struct comm_group *g)
{
	if (g)
		g->ops->close(g);
}

int comm_group_rank(const struct comm_group *g)
{
	return g->rank;
}

int comm_group_size(const struct comm_group *g)
{
	return g->size;
}

enum status comm_sum_post(
	struct comm_group *g, struct comm_sum *sum, float *part, uint32_t rows, uint32_t cols)
{
	*sum = (struct comm_sum){.part = part, .rows = rows, .cols = cols, .op = g->next_op++};
	return g->ops->sum_post(g, sum);
}

enum status comm_sum_wait(struct comm_group *g, struct comm_sum *sum, const float **total)
{
	BUG_ON(sum->op >= g->next_op);
	return g->ops->sum_wait(g, sum, total);
}
