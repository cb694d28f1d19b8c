/* Any bytes as a safetensors file: refused with a message, or every tensor can be read. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "weights/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(struct safetensors *s)
{
	for (size_t i = 0; i < safetensors_count(s); i++) {
		const struct st_tensor *t = safetensors_at(s, i);
		struct error err;
		uint8_t *copy = malloc(t->bytes + 1);

		if (safetensors_find(s, t->name) != t ||
			safetensors_read(s, t, copy, 0, t->bytes, &err) != OK)
			abort();
		free(copy);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct safetensors *s;
	struct error err;
	char path[64];
	int fd = memfd_create("input", MFD_CLOEXEC);

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (safetensors_open_file(&s, path, &err) == OK) {
		read_all(s);
		safetensors_close(s);
	} else if (!err.msg[0]) {
		abort();
	}
	close(fd);
	return 0;
}
