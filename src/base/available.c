/*
 * Memory that this process may still take (base/available.h): the system's, within the limits of the
 * control groups of this process and of its address space.
 *
 * Page cache counts as available: it is what reading a checkpoint leaves behind, and the kernel gives it
 * up before it refuses anything. Without that a second start in a container would find no memory.
 */
#include "base/available.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* Files of a control group's memory controller. */
struct cgroup_files {
	const char *max;
	const char *used;
	const char *active; /* fields of memory.stat: page cache of files */
	const char *inactive;
};

static const struct cgroup_files cgroup_v2 = {
	"memory.max", "memory.current", "active_file", "inactive_file"};
static const struct cgroup_files cgroup_v1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
	"total_active_file", "total_inactive_file"};

/* "MemAvailable" of /proc/meminfo. */
static size_t system_available(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[256];

	if (!f)
		return SIZE_MAX;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			break;
	fclose(f);
	return kib ? (size_t)kib * 1024 : SIZE_MAX;
}

/* SIZE_MAX where there is no file or no number in it ("max"). */
static size_t read_number(const char *folder, const char *name)
{
	char path[PATH_MAX];
	unsigned long long n;
	bool got;
	FILE *f;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", folder, name) >= sizeof(path))
		return SIZE_MAX;
	f = fopen(path, "re");
	if (!f)
		return SIZE_MAX;
	got = fscanf(f, "%llu", &n) == 1;
	fclose(f);
	return got ? (size_t)n : SIZE_MAX;
}

static size_t page_cache(const char *folder, const struct cgroup_files *names)
{
	unsigned long long n, sum = 0;
	char path[PATH_MAX], key[64];
	FILE *f;

	if ((size_t)snprintf(path, sizeof(path), "%s/memory.stat", folder) >= sizeof(path))
		return 0;
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fscanf(f, "%63s %llu", key, &n) == 2)
		if (strcmp(key, names->active) == 0 || strcmp(key, names->inactive) == 0)
			sum += n;
	fclose(f);
	return (size_t)sum;
}

static size_t group_available(const char *folder, const struct cgroup_files *names)
{
	size_t max = read_number(folder, names->max), used = read_number(folder, names->used), cache;

	if (max == SIZE_MAX || used == SIZE_MAX)
		return SIZE_MAX;
	cache = page_cache(folder, names);
	used -= cache < used ? cache : used;
	return used < max ? max - used : 0;
}

/* The least that a group or one above it allows. In a container `group` may name a folder that is not
 * mounted; the mount's root is then the container's own group. */
static size_t path_available(const char *mount, const char *group, const struct cgroup_files *names)
{
	size_t least = SIZE_MAX, root = strlen(mount);
	char path[PATH_MAX];

	if ((size_t)snprintf(path, sizeof(path), "%s%s", mount, group) >= sizeof(path))
		return SIZE_MAX;
	for (;;) {
		size_t n = group_available(path, names);
		char *end;

		least = n < least ? n : least;
		end = strrchr(path, '/');
		if (!end || (size_t)(end - path) < root)
			return least;
		*end = 0;
	}
}

/* Whether `list`, comma separated, has `word`. */
static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = list; (at = strstr(at, word)); at += n)
		if ((at == list || at[-1] == ',') && (at[n] == ',' || !at[n]))
			return true;
	return false;
}

size_t available_in_groups(const char *groups, const char *mount)
{
	size_t least = SIZE_MAX;
	char line[PATH_MAX + 256];
	FILE *f = fopen(groups, "re");

	if (!f)
		return SIZE_MAX;
	/* ID:CONTROLLERS:PATH; version 2 has no controllers. */
	while (fgets(line, sizeof(line), f)) {
		char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
		char folder[PATH_MAX];
		size_t n = SIZE_MAX;

		if (!path)
			continue;
		*path++ = 0;
		path[strcspn(path, "\n")] = 0;
		if (strstr(path, ".."))
			path = "";
		if (!list[1]) {
			n = path_available(mount, path, &cgroup_v2);
		} else if (has_word(list + 1, "memory")) {
			snprintf(folder, sizeof(folder), "%s/memory", mount);
			n = path_available(folder, path, &cgroup_v1);
		}
		least = n < least ? n : least;
	}
	fclose(f);
	return least;
}

size_t available_memory_bytes(void)
{
	size_t least = system_available();
	size_t group = available_in_groups("/proc/self/cgroup", "/sys/fs/cgroup");
	struct rlimit limit;

	least = group < least ? group : least;
	if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < least)
		least = (size_t)limit.rlim_cur;
	return least;
}
