/* Limits of the amx tier: TDPBF16PS on four tiles of sums, 8192 multiply-adds each. */
#include "kernel/cpu/x86/amx.h"

#include "kernel/cpu/peak.h"
#include "kernel/cpu/x86/peak_avx512.h"

static double multiply_add(uint32_t rounds)
{
	uint16_t ones[16 * 32] __attribute__((aligned(64)));
	float c[4][16 * 16] __attribute__((aligned(64)));
	double sum = 0;

	for (int i = 0; i < 16 * 32; i++)
		ones[i] = 0x3F80; /* BF16 1.0 */
	amx_begin();
	amx_zero(0);
	amx_zero(1);
	amx_zero(2);
	amx_zero(3);
	amx_load(4, ones, 64);
	amx_load(5, ones, 64);
	amx_load(6, ones, 64);
	amx_load(7, ones, 64);
	for (uint32_t r = 0; r < rounds; r++) {
		amx_dp_bf16(0, 4, 6);
		amx_dp_bf16(1, 4, 7);
		amx_dp_bf16(2, 5, 6);
		amx_dp_bf16(3, 5, 7);
	}
	amx_store(0, c[0], 64);
	amx_store(1, c[1], 64);
	amx_store(2, c[2], 64);
	amx_store(3, c[3], 64);
	amx_end();
	for (int t = 0; t < 4; t++)
		for (int i = 0; i < 16 * 16; i++)
			sum += (double)c[t][i];
	return sum;
}

/* TDPBUSD, twice as many. */
static double multiply_add_i8(uint32_t rounds)
{
	uint8_t ones[16 * 64] __attribute__((aligned(64)));
	int32_t c[4][16 * 16] __attribute__((aligned(64)));
	double sum = 0;

	memset(ones, 1, sizeof(ones));
	amx_begin();
	amx_zero(0);
	amx_zero(1);
	amx_zero(2);
	amx_zero(3);
	amx_load(4, ones, 64);
	amx_load(5, ones, 64);
	amx_load(6, ones, 64);
	amx_load(7, ones, 64);
	for (uint32_t r = 0; r < rounds; r++) {
		amx_dp_busd(0, 4, 6);
		amx_dp_busd(1, 4, 7);
		amx_dp_busd(2, 5, 6);
		amx_dp_busd(3, 5, 7);
	}
	amx_store(0, c[0], 64);
	amx_store(1, c[1], 64);
	amx_store(2, c[2], 64);
	amx_store(3, c[3], 64);
	amx_end();
	for (int t = 0; t < 4; t++)
		for (int i = 0; i < 16 * 16; i++)
			sum += c[t][i];
	return sum;
}

const struct peak_ukernels peak_ukernels_amx = {{multiply_add}, multiply_add_i8, peak_read_avx512};
