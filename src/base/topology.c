/*
 * Topology (base/topology.h). hwloc's tree is reduced at the first question to a small table, under
 * pthread_once, and never changes: an affinity mask set later is not seen. The mask is that of the
 * thread that asks first, before any pool pins threads; the process's would be the union over whatever
 * threads libraries started.
 */
#include "base/topology.h"

#include <hwloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

struct topology_core {
	int cpu;
	int node;
};

static pthread_once_t topology_once = PTHREAD_ONCE_INIT;
static struct {
	struct topology_core *cores; /* kept for the life of the process */
	int n_cores;
	int n_nodes;
	size_t cache_bytes;
} topo;

/* hwloc complains on stderr about machines that hide parts of themselves (a container without /sys); what
 * it could not find is handled below. Before main(), because setenv() is for one thread. */
__attribute__((constructor)) static void topology_quiet(void)
{
	setenv("HWLOC_HIDE_ERRORS", "2", 0);
}

/* Keeps the first hardware thread of a core that lies in the mask. */
static void topology_add_core(hwloc_const_cpuset_t cpus, hwloc_const_cpuset_t allowed)
{
	hwloc_cpuset_t set = hwloc_bitmap_alloc();

	if (set && hwloc_bitmap_and(set, cpus, allowed) == 0 && !hwloc_bitmap_iszero(set))
		topo.cores[topo.n_cores++].cpu = hwloc_bitmap_first(set);
	hwloc_bitmap_free(set);
}

/* Numbers the nodes that hold a core; a core outside all of them belongs to the first. */
static void topology_find_nodes(hwloc_topology_t t)
{
	hwloc_obj_t node = NULL;

	while ((node = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_NUMANODE, node))) {
		bool used = false;

		for (int i = 0; i < topo.n_cores; i++)
			if (node->cpuset &&
				hwloc_bitmap_isset(node->cpuset, (unsigned)topo.cores[i].cpu)) {
				topo.cores[i].node = topo.n_nodes;
				used = true;
			}
		topo.n_nodes += used;
	}
	if (topo.n_nodes == 0)
		topo.n_nodes = 1;
}

static void topology_find_cache(hwloc_topology_t t)
{
	hwloc_obj_t o = hwloc_get_pu_obj_by_os_index(t, (unsigned)topo.cores[0].cpu);

	for (; o; o = o->parent)
		if (hwloc_obj_type_is_dcache(o->type) && o->attr->cache.size > topo.cache_bytes)
			topo.cache_bytes = (size_t)o->attr->cache.size;
}

static void topology_read(hwloc_topology_t t)
{
	hwloc_cpuset_t allowed = hwloc_bitmap_alloc();
	hwloc_obj_t core = NULL;

	if (!allowed || hwloc_get_cpubind(t, allowed, HWLOC_CPUBIND_THREAD) != 0) {
		hwloc_bitmap_free(allowed);
		return;
	}
	topo.cores = mem_alloc(sizeof(*topo.cores) *
			       (size_t)(hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_PU) + 1));
	while ((core = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_CORE, core)))
		topology_add_core(core->cpuset, allowed);
	/* Some virtual machines show no cores, only hardware threads. */
	while (topo.n_cores == 0 && (core = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_PU, core)))
		topology_add_core(core->cpuset, allowed);
	hwloc_bitmap_free(allowed);
	if (topo.n_cores == 0)
		return;
	topology_find_nodes(t);
	topology_find_cache(t);
}

/* Where hwloc knows nothing: every hardware thread of the mask as a core of its own, on one node. */
static void topology_read_mask(void)
{
	cpu_set_t mask;

	if (sched_getaffinity(0, sizeof(mask), &mask) != 0)
		return;
	free(topo.cores);
	topo.cores = mem_alloc(sizeof(*topo.cores) * (size_t)CPU_COUNT(&mask));
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &mask))
			topo.cores[topo.n_cores++].cpu = cpu;
}

static void topology_load(void)
{
	hwloc_topology_t t;

	topo.n_nodes = 1;
	if (hwloc_topology_init(&t) != 0) {
		topology_read_mask();
		return;
	}
	if (hwloc_topology_load(t) == 0)
		topology_read(t);
	hwloc_topology_destroy(t);
	if (topo.n_cores == 0)
		topology_read_mask();
}

static void topology_get(void)
{
	pthread_once(&topology_once, topology_load);
}

int topology_cores(void)
{
	topology_get();
	return topo.n_cores > 0 ? topo.n_cores : 1;
}

int topology_numa_nodes(void)
{
	topology_get();
	return topo.n_nodes;
}

int topology_core_node(int core)
{
	topology_get();
	return core >= 0 && core < topo.n_cores ? topo.cores[core].node : 0;
}

int topology_core_cpu(int core)
{
	topology_get();
	return core >= 0 && core < topo.n_cores ? topo.cores[core].cpu : -1;
}

bool topology_bind_thread(int core)
{
	int cpu = topology_core_cpu(core);
	cpu_set_t one;

	if (cpu < 0 || cpu >= CPU_SETSIZE)
		return false;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	return pthread_setaffinity_np(pthread_self(), sizeof(one), &one) == 0;
}

size_t topology_cache_bytes(void)
{
	topology_get();
	return topo.cache_bytes;
}

size_t topology_memory_bytes(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

	return pages > 0 && size > 0 ? (size_t)pages * (size_t)size : 0;
}
