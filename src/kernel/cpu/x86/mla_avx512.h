/*
 * Parts of the AVX-512 attention core that the AMX tier shares: packing, softmax and merging.
 * Include only in files compiled for AVX-512.
 */
#ifndef KERNEL_CPU_X86_MLA_AVX512_H
#define KERNEL_CPU_X86_MLA_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

void mla_avx512_pack_q(void *out, const uint16_t *a, size_t a_stride, uint32_t na,
	const uint16_t *b, size_t b_stride, uint32_t nb, uint32_t d, uint32_t lanes);
void mla_avx512_pack_v(
	void *out, uint32_t at, const uint16_t *rows, size_t stride, uint32_t keys, uint32_t dv);
void mla_avx512_softmax(float *s, uint32_t blocks, uint32_t keys, uint32_t key0,
	const uint32_t *limit, float scale2, float *max, float *sum, float *corr);
/* The same, probabilities as F32 [block][key][16 lanes]. */
void mla_avx512_softmax_f32(float *s, uint32_t blocks, uint32_t keys, uint32_t key0,
	const uint32_t *limit, float scale2, float *max, float *sum, float *corr);
void mla_avx512_merge(float *ao, float *amax, float *asum, const float *bo, const float *bmax,
	const float *bsum, uint32_t lanes, uint32_t dv);
void mla_avx512_finish(uint16_t *out, size_t out_stride, const float *o, const float *sum,
	uint32_t lanes, uint32_t dv);
void mla_avx512_unpack_f8(uint16_t *out, const uint8_t *in, size_t n, int exponent);

/* BF16 bits of 16 numbers, and back. */
static inline __m512i mla_avx512_round_bf16(__m512 x)
{
	return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x));
}

static inline __m512 mla_avx512_widen(__m512i x)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
}

/* 16 x 16 elements of 32 bits: r[i] element j becomes r[j] element i. */
static inline void mla_avx512_transpose(__m512i r[16])
{
	__m512i t[16];

	for (int i = 0; i < 16; i += 4) {
		__m512i a = _mm512_unpacklo_epi32(r[i], r[i + 1]);
		__m512i b = _mm512_unpackhi_epi32(r[i], r[i + 1]);
		__m512i c = _mm512_unpacklo_epi32(r[i + 2], r[i + 3]);
		__m512i d = _mm512_unpackhi_epi32(r[i + 2], r[i + 3]);

		/* t[i + j]: in 128-bit part p, column 4p + j of rows i .. i + 3. */
		t[i] = _mm512_unpacklo_epi64(a, c);
		t[i + 1] = _mm512_unpackhi_epi64(a, c);
		t[i + 2] = _mm512_unpacklo_epi64(b, d);
		t[i + 3] = _mm512_unpackhi_epi64(b, d);
	}
	for (int j = 0; j < 4; j++) {
		__m512i a = _mm512_shuffle_i32x4(t[j], t[j + 4], 0x88); /* parts 0, 2 */
		__m512i b = _mm512_shuffle_i32x4(t[j], t[j + 4], 0xDD); /* parts 1, 3 */
		__m512i c = _mm512_shuffle_i32x4(t[j + 8], t[j + 12], 0x88);
		__m512i d = _mm512_shuffle_i32x4(t[j + 8], t[j + 12], 0xDD);

		r[j] = _mm512_shuffle_i32x4(a, c, 0x88);
		r[j + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
		r[j + 8] = _mm512_shuffle_i32x4(a, c, 0xDD);
		r[j + 12] = _mm512_shuffle_i32x4(b, d, 0xDD);
	}
}

/* Columns i .. i + 31 of the lanes of pack_q(): r[j] is pair j of 16 lanes. */
static inline void mla_avx512_load_pairs(__m512i r[16], uint32_t i, const uint16_t *a, size_t a_stride,
	uint32_t na, const uint16_t *b, size_t b_stride, uint32_t nb, uint32_t lanes)
{
	uint32_t left = i < na ? 32 : na + nb - i;
	__mmask32 mask = left >= 32 ? ~0u : (1u << left) - 1;

	for (uint32_t j = 0; j < 16; j++) {
		const uint16_t *from = i < na ? a + j * a_stride + i : b + j * b_stride + (i - na);

		r[j] = j < lanes ? _mm512_maskz_loadu_epi16(mask, from) : _mm512_setzero_si512();
	}
	mla_avx512_transpose(r);
}

#endif
