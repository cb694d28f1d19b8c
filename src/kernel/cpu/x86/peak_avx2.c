/* Limits of the avx2 tier: F32 fused multiply-adds, to which its kernels widen BF16; pairs of 16 bits, to
 * which they widen bytes. */
#include "kernel/cpu/peak.h"

#include <immintrin.h>

#include "kernel/cpu/x86/peak_x86.h"

#define FMA(c) "vfmadd231ps %[one], %[one], " c "\n\t"

static double fma_f32(uint32_t rounds)
{
	__m256 c[PEAK_CHAINS], all = _mm256_setzero_ps(), t;
	float lane[8];
	double sum = 0;

	if (!rounds)
		return 0;
	for (int i = 0; i < PEAK_CHAINS; i++)
		c[i] = _mm256_setzero_ps();
	PEAK_LOOP(FMA, c, rounds, _mm256_set1_ps(1), t);
	for (int i = 0; i < PEAK_CHAINS; i++)
		all = _mm256_add_ps(all, c[i]);
	_mm256_storeu_ps(lane, all);
	for (int i = 0; i < 8; i++)
		sum += (double)lane[i];
	return sum;
}

#define MADD(c) "vpmaddwd %[one], %[one], %[tmp]\n\tvpaddd %[tmp], " c ", " c "\n\t"

static double madd_i16(uint32_t rounds)
{
	__m256i c[PEAK_CHAINS], all = _mm256_setzero_si256(), t;
	int32_t lane[8];
	double sum = 0;

	if (!rounds)
		return 0;
	for (int i = 0; i < PEAK_CHAINS; i++)
		c[i] = _mm256_setzero_si256();
	PEAK_LOOP(MADD, c, rounds, _mm256_set1_epi16(1), t);
	for (int i = 0; i < PEAK_CHAINS; i++)
		all = _mm256_add_epi32(all, c[i]);
	_mm256_storeu_si256((__m256i *)lane, all);
	for (int i = 0; i < 8; i++)
		sum += lane[i];
	return sum;
}

/* Four streams: one for each that the prefetchers of a core keep apart at least. */
static uint64_t read_words(const uint64_t *p, size_t n)
{
	__m256i x[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
		_mm256_setzero_si256()};
	uint64_t w[4];

	for (size_t i = 0; i < n / 4; i += 8)
		for (size_t j = 0; j < 4; j++) {
			const uint64_t *q = p + j * (n / 4) + i;

			_mm_prefetch((const char *)(q + 128), _MM_HINT_T0);
			x[j] = _mm256_xor_si256(x[j], _mm256_load_si256((const __m256i *)q));
			x[j] = _mm256_xor_si256(x[j], _mm256_load_si256((const __m256i *)(q + 4)));
		}
	x[0] = _mm256_xor_si256(_mm256_xor_si256(x[0], x[1]), _mm256_xor_si256(x[2], x[3]));
	_mm256_storeu_si256((__m256i *)w, x[0]);
	return w[0] ^ w[1] ^ w[2] ^ w[3];
}

const struct peak_ukernels peak_ukernels_avx2 = {{fma_f32}, madd_i16, read_words};
