/*
 * Sizes and names of element types. Names are those of safetensors headers; whoever reads a file
 * compares against dtype_name().
 */
#include "kernel/dtype.h"

static const struct {
	size_t bytes;
	const char *name;
} dtypes[DT_COUNT] = {
	[DT_F32] = {4, "F32"},
	[DT_BF16] = {2, "BF16"},
	[DT_F16] = {2, "F16"},
	[DT_F8_E4M3] = {1, "F8_E4M3"},
	[DT_I8] = {1, "I8"},
	[DT_U8] = {1, "U8"},
	[DT_I32] = {4, "I32"},
	[DT_I64] = {8, "I64"},
};

size_t dtype_bytes(enum dtype t)
{
	return dtypes[t].bytes;
}

const char *dtype_name(enum dtype t)
{
	return dtypes[t].name;
}

float dtype_to_f32(enum dtype t, const void *array, size_t i)
{
	const uint8_t *at = (const uint8_t *)array + i * dtypes[t].bytes;
	uint16_t half;
	uint32_t word;
	uint64_t wide;
	float f;

	switch (t) {
	case DT_BF16:
		memcpy(&half, at, sizeof(half));
		return bf16_to_f32(half);
	case DT_F16:
		memcpy(&half, at, sizeof(half));
		return f16_to_f32(half);
	case DT_F8_E4M3:
		return f8e4m3_to_f32(*at);
	case DT_I8:
		return (float)(int8_t)*at;
	case DT_U8:
		return ldexpf(1.0f, *at - 127);
	case DT_I32:
		memcpy(&word, at, sizeof(word));
		return (float)(int32_t)word;
	case DT_I64:
		memcpy(&wide, at, sizeof(wide));
		word = (uint32_t)wide;
		memcpy(&f, &word, sizeof(f));
		return wide >> 32 ? NAN : f;
	default:
		memcpy(&f, at, sizeof(f));
		return f;
	}
}
