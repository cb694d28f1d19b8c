/* Any bytes as a config.json: refused with a message, or a configuration whose derived fields are finite. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "weights/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct model_config c;
	struct error err;

	if (config_parse(&c, (const char *)data, size, "input", &err) != OK) {
		if (!err.msg[0])
			abort();
		return 0;
	}
	for (uint32_t i = 0; i < c.qk_rope_head_dim / 2; i++)
		if (!isfinite(c.rope_freq[i]))
			abort();
	if (!isfinite(c.softmax_scale) || !isfinite(c.rope_mscale) || c.hidden_size % 32)
		abort();
	return 0;
}
