/* Limits of the avx2 tier: F32 fused multiply-adds, to which its kernels widen BF16. */
#include "kernel/cpu/peak.h"

#include <immintrin.h>

#define CHAINS 12 /* two units of latency 4 or 5, in 16 registers with two operands */

static double multiply_add(uint32_t rounds)
{
	__m256 a = _mm256_set1_ps(1), b = a, acc[CHAINS], all = _mm256_setzero_ps();
	float lane[8];
	double sum = 0;

	/* The empty asm makes values unknown, so that equal chains stay apart. */
	__asm__("" : "+x"(a), "+x"(b));
	for (int i = 0; i < CHAINS; i++) {
		acc[i] = _mm256_setzero_ps();
		__asm__("" : "+x"(acc[i]));
	}
	for (uint32_t r = 0; r < rounds; r++)
#pragma GCC unroll 12
		for (int i = 0; i < CHAINS; i++)
			acc[i] = _mm256_fmadd_ps(a, b, acc[i]);
	for (int i = 0; i < CHAINS; i++)
		all = _mm256_add_ps(all, acc[i]);
	_mm256_storeu_ps(lane, all);
	for (int i = 0; i < 8; i++)
		sum += (double)lane[i];
	return sum;
}

/* Pairs of 16 bits, into which its kernels widen bytes. */
static double multiply_add_i8(uint32_t rounds)
{
	__m256i a = _mm256_set1_epi16(1), b = a, acc[CHAINS], all = _mm256_setzero_si256();
	int32_t lane[8];
	double sum = 0;

	for (int i = 0; i < CHAINS; i++)
		acc[i] = _mm256_setzero_si256();
	for (uint32_t r = 0; r < rounds; r++)
#pragma GCC unroll 12
		for (int i = 0; i < CHAINS; i++) {
			/* Unknown each time, so that no product is made once for all. */
			__asm__ volatile("" : "+x"(a), "+x"(acc[i]));
			acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(a, b));
		}
	for (int i = 0; i < CHAINS; i++)
		all = _mm256_add_epi32(all, acc[i]);
	_mm256_storeu_si256((__m256i *)lane, all);
	for (int i = 0; i < 8; i++)
		sum += lane[i];
	return sum;
}

static uint64_t read_words(const uint64_t *p, size_t n)
{
	__m256i x[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
		_mm256_setzero_si256()};
	uint64_t w[4];

	for (size_t i = 0; i < n; i += 16) {
		_mm_prefetch((const char *)(p + i + 512), _MM_HINT_T0);
		_mm_prefetch((const char *)(p + i + 520), _MM_HINT_T0);
		for (size_t j = 0; j < 4; j++)
			x[j] = _mm256_xor_si256(
				x[j], _mm256_load_si256((const __m256i *)(p + i + 4 * j)));
	}
	x[0] = _mm256_xor_si256(_mm256_xor_si256(x[0], x[1]), _mm256_xor_si256(x[2], x[3]));
	_mm256_storeu_si256((__m256i *)w, x[0]);
	return w[0] ^ w[1] ^ w[2] ^ w[3];
}

const struct peak_ukernels peak_ukernels_avx2 = {multiply_add, multiply_add_i8, read_words};
