/*
 * AMX tile registers: 8 tiles of 16 rows by 64 bytes, always configured in full.
 *
 * Two bodies. The product is compiled with the intrinsics. With AMX_EMULATE defined, the same names
 * are an exact C model of the registers, one set per thread, so that tests check AMX kernels on any
 * x86 machine. Tile numbers are constants 0 .. 7; strides are in bytes.
 *
 *   amx_begin()            configure this thread's tiles; before any other
 *   amx_end()              give the tile state back
 *   amx_zero(t)
 *   amx_load(t, p, stride) 16 rows of 64 bytes
 *   amx_store(t, p, stride)
 *   amx_dp_bf16(c, a, b)   c[m][n] += sum over k < 32 of a[m][k] * b[k / 2][2n + k % 2]
 *   amx_dp_busd(c, a, b)   c[m][n] += sum over k < 64 of a[m][k] * b[k / 4][4n + k % 4] in I32; a
 *                          unsigned, b signed
 *
 * A model of TDPBF16PS (Intel SDM): even and odd k are summed apart by fused multiply-adds in
 * ascending order from zero, the two sums are added, then added to c; denormals are zero
 * throughout.
 */
#ifndef KERNEL_CPU_X86_AMX_H
#define KERNEL_CPU_X86_AMX_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef AMX_EMULATE

#include "kernel/dtype.h"

struct amx_tile {
	uint8_t row[16][64];
};

static _Thread_local struct amx_tile amx_tiles[8];

static inline void amx_begin(void)
{
	memset(amx_tiles, 0, sizeof(amx_tiles));
}

static inline void amx_end(void)
{
	memset(amx_tiles, 0xFF, sizeof(amx_tiles)); /* NaN: use after the end shows */
}

static inline void amx_zero(int t)
{
	memset(&amx_tiles[t], 0, sizeof(amx_tiles[t]));
}

static inline void amx_load(int t, const void *p, size_t stride)
{
	for (int i = 0; i < 16; i++)
		memcpy(amx_tiles[t].row[i], (const uint8_t *)p + i * stride, 64);
}

static inline void amx_store(int t, void *p, size_t stride)
{
	for (int i = 0; i < 16; i++)
		memcpy((uint8_t *)p + i * stride, amx_tiles[t].row[i], 64);
}

static inline float amx_flush(float x)
{
	return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

static inline float amx_bf16(const uint8_t *row, int i)
{
	uint16_t x;

	memcpy(&x, row + 2 * i, sizeof(x));
	return amx_flush(bf16_to_f32(x));
}

static inline void amx_dp_bf16(int c, int a, int b)
{
	for (int m = 0; m < 16; m++)
		for (int n = 0; n < 16; n++) {
			float even = 0, odd = 0, sum;

			for (int k = 0; k < 16; k++) {
				const uint8_t *row_a = amx_tiles[a].row[m];
				const uint8_t *row_b = amx_tiles[b].row[k];

				even = amx_flush(
					fmaf(amx_bf16(row_a, 2 * k), amx_bf16(row_b, 2 * n), even));
				odd = amx_flush(fmaf(amx_bf16(row_a, 2 * k + 1),
					amx_bf16(row_b, 2 * n + 1), odd));
			}
			memcpy(&sum, amx_tiles[c].row[m] + 4 * n, sizeof(sum));
			sum = amx_flush(amx_flush(sum) + amx_flush(even + odd));
			memcpy(amx_tiles[c].row[m] + 4 * n, &sum, sizeof(sum));
		}
}

static inline void amx_dp_busd(int c, int a, int b)
{
	for (int m = 0; m < 16; m++)
		for (int n = 0; n < 16; n++) {
			int32_t sum;

			memcpy(&sum, amx_tiles[c].row[m] + 4 * n, sizeof(sum));
			for (int k = 0; k < 64; k++)
				sum += amx_tiles[a].row[m][k] *
				       (int8_t)amx_tiles[b].row[k / 4][4 * n + k % 4];
			memcpy(amx_tiles[c].row[m] + 4 * n, &sum, sizeof(sum));
		}
}

#else

#include <immintrin.h>

static inline void amx_begin(void)
{
	/* Palette 1; bytes in a row (16 bits each) from byte 16, rows from byte 48. */
	uint8_t config[64] __attribute__((aligned(64))) = {1};

	for (int i = 0; i < 8; i++) {
		config[16 + 2 * i] = 64;
		config[48 + i] = 16;
	}
	/* GCC takes the intrinsic to read eight bytes only and would drop the stores above. */
	__asm__ volatile("" : : "r"(config) : "memory");
	_tile_loadconfig(config);
}

static inline void amx_end(void)
{
	_tile_release();
}

#define amx_zero(t) _tile_zero(t)
#define amx_load(t, p, stride) _tile_loadd(t, p, stride)
#define amx_store(t, p, stride) _tile_stored(t, p, stride)
#define amx_dp_bf16(c, a, b) _tile_dpbf16ps(c, a, b)
#define amx_dp_busd(c, a, b) _tile_dpbusd(c, a, b)

#endif
#endif
