/* Limits of the avx512 tier: BF16 dot products (VDPBF16PS), 32 multiply-adds each. */
#include "kernel/cpu/x86/peak_avx512.h"

#include <immintrin.h>

#include "kernel/cpu/peak.h"

#define CHAINS 16

static double multiply_add(uint32_t rounds)
{
	__m512i ones = _mm512_set1_epi16(0x3F80); /* BF16 1.0 */
	__m512 acc[CHAINS], all = _mm512_setzero_ps();
	float lane[16];
	double sum = 0;

	/* The empty asm makes values unknown, so that equal chains stay apart. */
	__asm__("" : "+v"(ones));
	for (int i = 0; i < CHAINS; i++) {
		acc[i] = _mm512_setzero_ps();
		__asm__("" : "+v"(acc[i]));
	}
	for (uint32_t r = 0; r < rounds; r++)
#pragma GCC unroll 16
		for (int i = 0; i < CHAINS; i++)
			acc[i] = _mm512_dpbf16_ps(acc[i], (__m512bh)ones, (__m512bh)ones);
	for (int i = 0; i < CHAINS; i++)
		all = _mm512_add_ps(all, acc[i]);
	_mm512_storeu_ps(lane, all);
	for (int i = 0; i < 16; i++)
		sum += (double)lane[i];
	return sum;
}

/* VPDPBUSD, 64 multiply-adds each. */
static double multiply_add_i8(uint32_t rounds)
{
	__m512i ones = _mm512_set1_epi8(1), acc[CHAINS], all = _mm512_setzero_si512();
	int32_t lane[16];
	double sum = 0;

	__asm__("" : "+v"(ones));
	for (int i = 0; i < CHAINS; i++) {
		acc[i] = _mm512_setzero_si512();
		__asm__("" : "+v"(acc[i]));
	}
	for (uint32_t r = 0; r < rounds; r++)
#pragma GCC unroll 16
		for (int i = 0; i < CHAINS; i++)
			acc[i] = _mm512_dpbusd_epi32(acc[i], ones, ones);
	for (int i = 0; i < CHAINS; i++)
		all = _mm512_add_epi32(all, acc[i]);
	_mm512_storeu_si512(lane, all);
	for (int i = 0; i < 16; i++)
		sum += lane[i];
	return sum;
}

uint64_t peak_read_avx512(const uint64_t *p, size_t n)
{
	__m512i x[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
		_mm512_setzero_si512()};
	uint64_t w[8], all = 0;

	for (size_t i = 0; i < n; i += 32)
		for (size_t j = 0; j < 4; j++) {
			_mm_prefetch((const char *)(p + i + 8 * j + 512), _MM_HINT_T0);
			x[j] = _mm512_xor_si512(x[j], _mm512_load_si512(p + i + 8 * j));
		}
	x[0] = _mm512_xor_si512(_mm512_xor_si512(x[0], x[1]), _mm512_xor_si512(x[2], x[3]));
	_mm512_storeu_si512(w, x[0]);
	for (int i = 0; i < 8; i++)
		all ^= w[i];
	return all;
}

const struct peak_ukernels peak_ukernels_avx512 = {multiply_add, multiply_add_i8, peak_read_avx512};
