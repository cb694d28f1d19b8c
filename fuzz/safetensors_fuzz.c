/*
 * Any bytes as a safetensors file: refused with a message, or every tensor can be read.
 *
 * An input that begins with '{' is a header's text up to its last '}', then data; the length in front
 * is made to fit, so that mutations reach what is behind the length check. Any other is a file as it is.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
	const uint8_t *brace = size && data[0] == '{' ? memrchr(data, '}', size) : NULL;
	uint64_t len = brace ? (uint64_t)(brace + 1 - data) : 0;

	if (fd < 0 || (brace && write(fd, &len, sizeof(len)) != sizeof(len)) ||
		write(fd, data, size) != (ssize_t)size)
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
