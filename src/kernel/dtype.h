/* Element types of tensors in files and memory, and scalar conversions that every tier agrees on. */
#ifndef KERNEL_DTYPE_H
#define KERNEL_DTYPE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum dtype {
	DT_F32,
	DT_BF16,
	DT_F16,
	DT_F8_E4M3, /* E4M3FN: bias 7, no infinities, 0x7F and 0xFF are NaN, maximum 448 */
	DT_I8,
	DT_U8,
	DT_I32,
	DT_I64,
	DT_COUNT,
};

/* Size of one element and the name used by safetensors headers ("BF16", "F8_E4M3", ...). */
size_t dtype_bytes(enum dtype t);
const char *dtype_name(enum dtype t);

static inline float bf16_to_f32(uint16_t x)
{
	uint32_t u = (uint32_t)x << 16;
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

/* Round to nearest even; NaN stays a quiet NaN. */
static inline uint16_t f32_to_bf16(float f)
{
	uint32_t u;

	memcpy(&u, &f, sizeof(u));
	if ((u & 0x7FFFFFFF) > 0x7F800000)
		return (uint16_t)(u >> 16 | 0x40);
	return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

/* Subnormals, infinities and NaN included. */
static inline float f16_to_f32(uint16_t x)
{
	int exp = x >> 10 & 31, man = x & 0x3FF;
	float v = exp ? ldexpf((float)(1024 + man), exp - 25) : ldexpf((float)man, -24);

	if (exp == 31)
		v = man ? NAN : INFINITY;
	return x & 0x8000 ? -v : v;
}

static inline float f8e4m3_to_f32(uint8_t x)
{
	uint32_t exp = x >> 3 & 15, man = x & 7;
	float v = exp ? ldexpf((float)(8 + man), (int)exp - 10) : ldexpf((float)man, -9);

	if ((x & 0x7F) == 0x7F)
		v = NAN;
	return x & 0x80 ? -v : v;
}

/*
 * Element i of an array in a file as a number. U8 is E8M0, a power of two; I64 holds the bits of an F32 in
 * its low half (scales of msmodelslim), anything else is NaN.
 */
float dtype_to_f32(enum dtype t, const void *array, size_t i);

#endif
