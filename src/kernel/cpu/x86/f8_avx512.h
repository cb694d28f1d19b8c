/*
 * F8_E4M3 to BF16, 64 values at a time: exact, NaN included. Include only in files compiled for
 * AVX-512 VBMI.
 *
 * Normal values need three integer operations for 32 of them: sign and magnitude move to their places, the
 * exponent's bias is added. Zero, denormals and NaN, which are rare in weights, take a table: two of 128
 * bytes give the low and the high byte of the BF16 of |x|; the sign goes in front.
 */
#ifndef KERNEL_CPU_X86_F8_AVX512_H
#define KERNEL_CPU_X86_F8_AVX512_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

struct f8_table {
	__m512i low[2];
	__m512i high[2];
};

extern const uint8_t f8_table_low[128];
extern const uint8_t f8_table_high[128];

static inline struct f8_table f8_table_load(void)
{
	return (struct f8_table){
		{_mm512_loadu_si512(f8_table_low), _mm512_loadu_si512(f8_table_low + 64)},
		{_mm512_loadu_si512(f8_table_high), _mm512_loadu_si512(f8_table_high + 64)}};
}

/* first: values 0 .. 31, second: values 32 .. 63. */
static inline __attribute__((always_inline)) void f8_unpack(
	const struct f8_table *t, __m512i x, __m512i *first, __m512i *second)
{
	/* Interleaving works inside 128-bit parts: 8-byte groups 0 4 1 5 2 6 3 7 come out in order. */
	__m512i y = _mm512_permutexvar_epi64(_mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0), x);
	__m512i low = _mm512_permutex2var_epi8(t->low[0], y, t->low[1]);
	__m512i high = _mm512_permutex2var_epi8(t->high[0], y, t->high[1]);

	/* high | (y & 0x80) */
	high = _mm512_ternarylogic_epi32(high, y, _mm512_set1_epi8((char)0x80), 0xF8);
	*first = _mm512_unpacklo_epi8(low, high);
	*second = _mm512_unpackhi_epi8(low, high);
}

/* 0xEE or more in the bytes that are zero, denormal or NaN. */
static inline __attribute__((always_inline)) __m512i f8_odd(__m512i x)
{
	return _mm512_sub_epi8(_mm512_add_epi8(x, x), _mm512_set1_epi8(16));
}

/* Whether f8_odd() of any byte, or the largest of several, says so. */
static inline __attribute__((always_inline)) bool f8_any_odd(__m512i odd)
{
	return _mm512_cmpge_epu8_mask(odd, _mm512_set1_epi8((char)0xEE)) != 0;
}

/* 32 values, none of them odd. */
static inline __attribute__((always_inline)) __m512i f8_normal(const uint8_t *p)
{
	__m512i x = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));

	x = _mm512_and_si512(_mm512_slli_epi16(x, 4), _mm512_set1_epi16((short)0x87F0));
	return _mm512_add_epi16(x, _mm512_set1_epi16(120 << 7));
}

/* f8_unpack() of 64 bytes at p. */
static inline __attribute__((always_inline)) void f8_load(const uint8_t *p, __m512i *first, __m512i *second)
{
	__m512i x = _mm512_loadu_si512(p);

	*first = f8_normal(p);
	*second = f8_normal(p + 32);
	if (__builtin_expect(f8_any_odd(f8_odd(x)), 0)) {
		const struct f8_table table = f8_table_load();

		f8_unpack(&table, x, first, second);
	}
}

#endif
