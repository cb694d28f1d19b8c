/*
 * Limits of the avx512 tier: for BF16, dot products (VDPBF16PS, 32 multiply-adds each) or F32 fused
 * multiply-adds (16), which some CPUs do at more than twice the rate; for bytes, VPDPBUSD (64).
 */
#include "kernel/cpu/x86/peak_avx512.h"

#include <immintrin.h>

#include "kernel/cpu/peak.h"
#include "kernel/cpu/x86/peak_x86.h"

static double sum_f32(const __m512 *c)
{
	__m512 all = _mm512_setzero_ps();
	float lane[16];
	double sum = 0;

	for (int i = 0; i < PEAK_CHAINS; i++)
		all = _mm512_add_ps(all, c[i]);
	_mm512_storeu_ps(lane, all);
	for (int i = 0; i < 16; i++)
		sum += (double)lane[i];
	return sum;
}

#define DOT(c) "vdpbf16ps %[one], %[one], " c "\n\t"

static double dot_bf16(uint32_t rounds)
{
	__m512 c[PEAK_CHAINS], t;

	if (!rounds)
		return 0;
	for (int i = 0; i < PEAK_CHAINS; i++)
		c[i] = _mm512_setzero_ps();
	PEAK_LOOP(DOT, c, rounds, _mm512_set1_epi16(0x3F80), t); /* BF16 1.0 */
	return sum_f32(c);
}

#define FMA(c) "vfmadd231ps %[one], %[one], " c "\n\t"

static double fma_f32(uint32_t rounds)
{
	__m512 c[PEAK_CHAINS], t;

	if (!rounds)
		return 0;
	for (int i = 0; i < PEAK_CHAINS; i++)
		c[i] = _mm512_setzero_ps();
	PEAK_LOOP(FMA, c, rounds, _mm512_set1_ps(1), t);
	return sum_f32(c);
}

#define DOT_I8(c) "vpdpbusd %[one], %[one], " c "\n\t"

static double dot_i8(uint32_t rounds)
{
	__m512i c[PEAK_CHAINS], all = _mm512_setzero_si512(), t;
	int32_t lane[16];
	double sum = 0;

	if (!rounds)
		return 0;
	for (int i = 0; i < PEAK_CHAINS; i++)
		c[i] = _mm512_setzero_si512();
	PEAK_LOOP(DOT_I8, c, rounds, _mm512_set1_epi8(1), t);
	for (int i = 0; i < PEAK_CHAINS; i++)
		all = _mm512_add_epi32(all, c[i]);
	_mm512_storeu_si512(lane, all);
	for (int i = 0; i < 16; i++)
		sum += lane[i];
	return sum;
}

/* Four streams, as in avx2. */
uint64_t peak_read_avx512(const uint64_t *p, size_t n)
{
	__m512i x[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
		_mm512_setzero_si512()};
	uint64_t w[8], all = 0;

	for (size_t i = 0; i < n / 4; i += 8)
		for (size_t j = 0; j < 4; j++) {
			const uint64_t *q = p + j * (n / 4) + i;

			_mm_prefetch((const char *)(q + 128), _MM_HINT_T0);
			x[j] = _mm512_xor_si512(x[j], _mm512_load_si512(q));
		}
	x[0] = _mm512_xor_si512(_mm512_xor_si512(x[0], x[1]), _mm512_xor_si512(x[2], x[3]));
	_mm512_storeu_si512(w, x[0]);
	for (int i = 0; i < 8; i++)
		all ^= w[i];
	return all;
}

const struct peak_ukernels peak_ukernels_avx512 = {{dot_bf16, fma_f32}, dot_i8, peak_read_avx512};
