/*
 * Topology (base/topology.h). hwloc's tree is reduced at the first question to a small table, under
 * pthread_once, and never changes: an affinity mask set later is not seen.
 *
 * Memory that is available is asked anew each time, of Linux itself: hwloc knows only totals.
 */
#include "base/topology.h"

#include <hwloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
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

	if (!allowed || hwloc_get_cpubind(t, allowed, HWLOC_CPUBIND_PROCESS) != 0) {
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

static void topology_load(void)
{
	hwloc_topology_t t;

	topo.n_nodes = 1;
	if (hwloc_topology_init(&t) != 0)
		return;
	if (hwloc_topology_load(t) == 0)
		topology_read(t);
	hwloc_topology_destroy(t);
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

/* The number in a file of one line; SIZE_MAX when there is none ("max", no such file). */
static size_t read_number(const char *path)
{
	unsigned long long v;
	size_t n = SIZE_MAX;
	FILE *f = fopen(path, "re");

	if (!f)
		return n;
	if (fscanf(f, "%llu", &v) == 1)
		n = (size_t)v;
	fclose(f);
	return n;
}

/* What one control group leaves: its limit less what is in use and cannot be dropped. */
static size_t group_left(const char *dir, const char *limit, const char *used)
{
	char path[700];
	size_t max, now;

	snprintf(path, sizeof(path), "%s/%s", dir, limit);
	max = read_number(path);
	snprintf(path, sizeof(path), "%s/%s", dir, used);
	now = read_number(path);
	if (max == SIZE_MAX || now == SIZE_MAX)
		return SIZE_MAX;
	return max > now ? max - now : 0;
}

/* The tightest control group above the process: version 2, or version 1's memory controller. */
static size_t groups_left(void)
{
	char line[600], dir[650];
	size_t left = SIZE_MAX;
	FILE *f = fopen("/proc/self/cgroup", "re");

	while (f && fgets(line, sizeof(line), f)) {
		bool v2 = strncmp(line, "0::", 3) == 0;
		char *path = strrchr(line, ':');
		const char *root = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";

		if (!path || (!v2 && !strstr(line, ":memory:")))
			continue;
		path++;
		path[strcspn(path, "\n")] = 0;
		for (;;) {
			size_t n;
			char *slash;

			snprintf(dir, sizeof(dir), "%s%s", root, path);
			n = v2 ? group_left(dir, "memory.max", "memory.current")
			       : group_left(dir, "memory.limit_in_bytes", "memory.usage_in_bytes");
			left = n < left ? n : left;
			slash = strrchr(path, '/');
			if (!slash || !*path)
				break;
			*slash = 0;
		}
	}
	if (f)
		fclose(f);
	return left;
}

size_t topology_memory_available_bytes(void)
{
	size_t left = topology_memory_bytes(), n;
	unsigned long long kib;
	struct rlimit limit;
	char line[256];
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
			left = (size_t)kib * 1024;
	if (f)
		fclose(f);
	n = groups_left();
	left = n < left ? n : left;
	if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
		limit.rlim_cur < left)
		left = (size_t)limit.rlim_cur;
	return left;
}
