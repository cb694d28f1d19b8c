/*
 * What --quantization makes of a checkpoint (weights/weights.h): its names, and whether the checkpoint is what a
 * name asks for. Packing is in format.c.
 */
#include <string.h>

#include "weights/weights_int.h"

static const char *const quantizations[QUANTIZATION_COUNT] = {"", "fp8", "ascend", "w8a8_dynamic"};

const char *weights_quantization_name(enum weights_quantization q)
{
	return quantizations[q];
}

enum weights_quantization weights_quantization_parse(const char *name)
{
	int q = QUANTIZATION_FP8;

	while (q < QUANTIZATION_COUNT && strcmp(quantizations[q], name) != 0)
		q++;
	return (enum weights_quantization)q;
}

enum status weights_config(struct model_config *out, const char *dir, const struct weights_options *options,
	struct error *err)
{
	struct model_config c;

	TRY(config_load(&c, dir, err));
	if (options->quantization == QUANTIZATION_FP8 && !c.fp8)
		return error_set(err, E_INVAL, "--quantization fp8: %s/config.json has no quantization_config fp8, "
			"and fathom does not quantize to FP8", weights_path_tail(dir));
	if (options->quantization == QUANTIZATION_ASCEND && !c.integer)
		return error_set(err, E_INVAL, "--quantization ascend: %s has no quant_model_description*.json",
			weights_path_tail(dir));
	if (options->quantization == QUANTIZATION_W8A8_DYNAMIC && c.integer)
		return error_set(err, E_INVAL, "--quantization w8a8_dynamic: %s has a quant_model_description*.json: "
			"it is quantized already", weights_path_tail(dir));
	c.integer |= options->quantization == QUANTIZATION_W8A8_DYNAMIC;
	*out = c;
	return OK;
}
