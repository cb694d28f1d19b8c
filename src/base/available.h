/* Memory that the process may still take. */
#ifndef BASE_AVAILABLE_H
#define BASE_AVAILABLE_H

#include <stddef.h>

/* Bytes that can be taken without swapping: what Linux calls available, or less where a control group
 * or an address space limit says so. SIZE_MAX when nothing tells. */
size_t available_memory_bytes(void);

/* What the control groups listed in the file `groups` (/proc/self/cgroup) still allow, page cache aside;
 * SIZE_MAX without a limit. `mount`: where control groups are mounted. */
size_t available_in_groups(const char *groups, const char *mount);

#endif
