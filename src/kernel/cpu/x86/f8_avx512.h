/*
 * F8_E4M3 to BF16 by table, 64 values at a time: exact, NaN included. Include only in files compiled
 * for AVX-512 VBMI.
 *
 * Two tables of 128 bytes give the low and the high byte of the BF16 of |x|; the sign goes in front.
 */
#ifndef KERNEL_CPU_X86_F8_AVX512_H
#define KERNEL_CPU_X86_F8_AVX512_H

#include <immintrin.h>
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

#endif
