/*
 * Products on the CPU: what the driver (gemm.c) asks of a tier.
 *
 * The unit is a block: up to GEMM_ROWS rows of input against two neighbouring panels of weight over
 * a range of K. Its results go through an F32 block c [rows][GEMM_COLS], which carries the sums from
 * one range of K to the next. A sum is one chain of operations in ascending K, whatever the blocks:
 *
 *   BF16 weight: the chain of the tier's dot product over K steps.
 *   F8_BLOCK:    for each 128 of K, such a chain from zero; then c = fma(chain, scale, c), or the
 *                two roundings apart in ref.
 *
 * So neither the number of rows nor the cut of K shows in the bits.
 *
 * Integer weights have kernels of their own kind: they add to a block of I32, exactly, in whatever order
 * they like. What is not exact, scales and the sum over blocks of scales, is done by the driver with
 * row_ukernels.add_scaled(), or by the kernel with the same operations: the same bits in all tiers.
 */
#ifndef KERNEL_CPU_GEMM_H
#define KERNEL_CPU_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/kernel.h"

#define GEMM_PANELS 2u				     /* panels of a block at most */
#define GEMM_COLS (GEMM_PANELS * WEIGHT_PANEL_ROWS) /* columns of c */
#define GEMM_ROWS 512u				     /* rows of c at most */
#define GEMM_GROUP 4u				     /* blocks side by side that share a range of input */
#define GEMM_K 512u				     /* K of a block of many rows: a multiple of 128 */
#define GEMM_WIDE_K 128u			     /* the same of F32 values: a block of F8_BLOCK's scales */
#define GEMM_INT_K 1024u			     /* the same of integers at most */
#define GEMM_WIDE_BYTES ((size_t)1 << 20)	     /* rows of input kept as F32 for all of K, at most */

struct gemm_block {
	float *c;		/* [rows][GEMM_COLS]; rows up to a multiple of 32 are writable */
	int32_t *sum;		/* integers: the same shape */
	const uint8_t *const *a; /* [rows]: each row's first value of the K range */
	uint32_t rows;
	bool first;		/* c is not read: sums start at zero; integers: sum is not read */
	const uint8_t *w;	/* first panel, at the K range */
	size_t panel_bytes;	/* from one panel to the next */
	uint32_t panels;	/* 1 or 2 */
	uint32_t k;		/* a multiple of WEIGHT_K_STEP; of 128 unless it ends at K's end (integers:
				 * of 64; of 128 for I4); at most GEMM_K (integers: k_int), or all of K
				 * where rows are few (struct gemm_ukernels) */
	const float *scales;	/* F8_BLOCK: of the first panel, at the K range */
	size_t scale_stride;	/* from one panel to the next */
	const uint8_t *next;	/* packed weight that is read after this block, to be fetched meanwhile: as
				 * many panels; w where nothing is known */
	size_t next_bytes;	/* from one panel to the next there */

	/* Integers, where the kernel scales (struct gemm_ukernels): after each k_block of the range, and at
	 * its end, sums go to c as row_ukernels.add_scaled() has it, and begin again; 0: they go to sum. */
	uint32_t k_block;
	const int32_t *bias;	/* of the first panel and block; scale_stride as above, next block 32 further */
	bool first_scaled;	/* the first block's c is not read */
};
typedef void gemm_block_fn(const struct gemm_block *b);

/* One thread's work area. */
struct gemm_scratch {
	float c[GEMM_GROUP][GEMM_ROWS * GEMM_COLS];
	int32_t sum[GEMM_GROUP][GEMM_ROWS * GEMM_COLS];
	uint8_t w[GEMM_COLS * GEMM_K * 2]; /* panels of F8_BLOCK or BF16 expanded, of I4 to I8 */
	uint8_t wide[GEMM_WIDE_BYTES];	   /* input as F32: [range][rows][GEMM_WIDE_K], few rows [rows][K]; or as words */
	const void *wide_job;		   /* whose rows, from wide_row0, are there for all of K */
	uint32_t wide_row0;
	const uint8_t *a[GEMM_ROWS];
} __attribute__((aligned(64)));

struct gemm_ukernels {
	/* Around all other calls of a thread in one op; NULL where the tier needs none. */
	void (*thread_begin)(void);
	void (*thread_end)(void);

	/* Up to so many rows, a block is all of K: the weight streams through once. With more, K is
	 * cut at GEMM_K so that the weight of a block is read again from near caches. */
	uint32_t stream_rows;

	gemm_block_fn *bf16; /* BF16 input and weight */
	gemm_block_fn *f32;  /* F32 input, BF16 weight: products are not rounded */

	/* BF16 input, F8_BLOCK weight: f8 reads the panels of a streaming block as they are; f8u
	 * reads panels that unpack_f8 turned to BF16 once for all rows. f8 may be NULL. */
	gemm_block_fn *f8;
	gemm_block_fn *f8u;

	/* F8_E4M3 bytes to BF16, order kept; n is a multiple of 512. */
	void (*unpack_f8)(uint16_t *out, const uint8_t *in, size_t n);

	/*
	 * BF16 input in F32, for CPUs without a dot product, whose bf16, f8 and f8u are NULL, or where F32
	 * multiply-adds are faster. Then they have the bits of the kernels above, as dot(c, a, b) is fma(a0, b0,
	 * fma(a1, b1, c)). Input rows are F32. The few kernels take BF16 and F8_BLOCK panels as they are; wide
	 * takes what widen and widen_f8 made of a range of K inside one block of scales: for each pair of k the
	 * odd values of all rows, then the even ones, [k / 2][2][panels * 32] F32. Where these two are NULL, it
	 * takes BF16 panels as they are and those that unpack_f8 made. All are NULL where the dot product is used.
	 */
	gemm_block_fn *wide;
	gemm_block_fn *wide_few;
	gemm_block_fn *wide_f8_few;
	void (*widen)(float *out, const uint8_t *panel, size_t panel_bytes, uint32_t panels, uint32_t k);
	void (*widen_f8)(float *out, const uint8_t *panel, size_t panel_bytes, uint32_t panels, uint32_t k);

	/* Integers (kernel/weight.h): bytes of input, value + 128, times I8 panels; i4_few reads I4 panels
	 * as they are. Up to few_rows rows, which may be 0, a block is all of K and takes the _few
	 * kernels; with more, K is cut at k_int and I4 panels are unpacked once for all rows. */
	uint32_t few_rows;
	uint32_t k_int;
	bool few_scales;	/* the _few kernels, and i8, take blocks of scales (struct gemm_block) */
	bool i8_scales;
	gemm_block_fn *i8_few;
	gemm_block_fn *i4_few;
	gemm_block_fn *i8;

	/* Rows of bytes to rows of 16 bits for i8 and i8_few, in the order they like; n is a multiple of 64. NULL:
	 * they take bytes, as i4_few does. */
	void (*widen_i8)(uint16_t *out, const uint8_t *in, size_t n);

	/* I4 panels to I8 ones of 16 times the value; n bytes in, a multiple of 2048. */
	void (*unpack_i4)(uint8_t *out, const uint8_t *in, size_t n);
};

#define TIER(name, NAME) extern const struct gemm_ukernels gemm_ukernels_##name;
#define GEMM(symbol, NAME, input, weight) gemm_block_fn symbol;
#include "kernel/cpu/ukernels.inc"

/* The avx512 tier on CPUs where cpu_has_fast_bf16_dot() is false. */
extern const struct gemm_ukernels gemm_ukernels_avx512_wide;

#endif
