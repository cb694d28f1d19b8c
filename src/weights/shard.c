/* Ranges of a rank (weights/shard.h). The ranges of all ranks, in order, are the whole. */
#include "weights/shard.h"

struct shard_plan shard_plan_whole(void)
{
	return (struct shard_plan){.tp_size = 1, .ep_size = 1};
}

struct shard_range shard_split(uint32_t n, uint32_t granule, uint32_t rank, uint32_t size)
{
	uint32_t units = n / granule + (n % granule != 0), each = units / size, more = units % size;
	uint32_t first = rank * each + (rank < more ? rank : more);
	uint64_t begin = (uint64_t)first * granule;
	uint64_t end = begin + (uint64_t)(each + (rank < more)) * granule;

	begin = begin < n ? begin : n;
	end = end < n ? end : n;
	return (struct shard_range){(uint32_t)begin, (uint32_t)(end - begin)};
}
