/*
 * The ways in which checkpoints store matrices. To add one: a row here, a packed format in
 * kernel/weight.h if none fits, and what pack() in load.c must do with its extra tensors.
 */
#include "weights/weights_int.h"

static const struct weight_source sources[] = {
	{"BF16", DT_BF16, false, WEIGHT_BF16},
	{"F32", DT_F32, false, WEIGHT_BF16},
	{"FP8 E4M3, blocks of 128x128", DT_F8_E4M3, true, WEIGHT_F8_BLOCK},
};

const struct weight_source *weight_source_find(enum dtype dtype)
{
	for (size_t i = 0; i < sizeof(sources) / sizeof(*sources); i++)
		if (sources[i].dtype == dtype)
			return &sources[i];
	return NULL;
}
