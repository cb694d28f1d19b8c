/* What the avx2 products share. Include only in files compiled for AVX2. */
#ifndef KERNEL_CPU_X86_GEMM_AVX2_H
#define KERNEL_CPU_X86_GEMM_AVX2_H

#include "kernel/cpu/x86/gemm_rows_x86.h"

#define FEW_ROWS 6u /* up to so many, the weight streams by once */
#define AHEAD 2048u /* prefetch distance in each panel that streams by */

/*
 * K is taken in ranges, of 8 KiB of a panel: those of two panels stay in the first cache while all halves and rows
 * pass by. A register block is M rows by H halves: a half is 8 weight rows, a tile has two, a panel four.
 *
 * Its loads and multiply-adds are assembly, which stays in place: compilers hold more values at once than there are
 * registers beside the sums, and move sums to memory.
 */
#define RANGE 128u /* of BF16: also GEMM_WIDE_K, a block of F8_BLOCK's scales */
#define I8_RANGE 256u

/* x = the four bytes at p, in all lanes. */
#define BROADCAST(x, p) __asm__ volatile("vbroadcastss %1, %0" : "=x"(x) : "m"(*(const float *)(p)))

/* The place of half `h` in its panel: BF16 at a pair of k, I8 at four of k. */
INLINE size_t half_at(int h)
{
	return (size_t)(h % 4 / 2) * TILE_BYTES + (size_t)(h % 2) * 32;
}

/* Halves side by side, from a K position on. */
struct halves {
	const uint8_t *w;    /* in their first panel */
	const uint8_t *near; /* what is fetched meanwhile: a range of whole panels */
	size_t panel_bytes;
	size_t near_bytes;
};

/* gemm_int_avx2.c: as struct gemm_ukernels has them. */
void gemm_widen_i8_avx2(uint16_t *out, const uint8_t *in, size_t n);
void gemm_unpack_i4_avx2(uint8_t *out, const uint8_t *in, size_t n);

#endif
