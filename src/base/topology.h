/*
 * The machine as this process may use it, read once through hwloc: cores inside the affinity mask,
 * NUMA nodes, memory. Thread binding is here and nowhere else.
 *
 * A core is a physical core; its hardware threads count once, because the second thread of a core adds
 * nothing to products and takes cache. Cores are numbered in hwloc's logical order, so that neighbours
 * share caches and nodes.
 */
#ifndef BASE_TOPOLOGY_H
#define BASE_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>

/* Physical cores with at least one hardware thread in the process's affinity mask; at least 1. */
int topology_cores(void);

/* NUMA nodes that have memory and hold one of these cores; at least 1. */
int topology_numa_nodes(void);

/* Position, below topology_numa_nodes(), of the node that holds core `core` < topology_cores(). */
int topology_core_node(int core);

/* First hardware thread of a core inside the affinity mask, by Linux's number; -1 when unknown. */
int topology_core_cpu(int core);

/* Binds the calling thread to that hardware thread; false when the system refuses or the core is
 * unknown. */
bool topology_bind_thread(int core);

/* Bytes of the last level of cache that core 0 sees; 0 when unknown. */
size_t topology_cache_bytes(void);

/* Memory of the machine; base/available.h says what is left of it. */
size_t topology_memory_bytes(void);

#endif
