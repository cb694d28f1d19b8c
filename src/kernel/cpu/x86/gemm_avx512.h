/* Parts of the avx512 products that other files take: the amx tier, gemm_ukernels_avx512_wide. */
#ifndef KERNEL_CPU_X86_GEMM_AVX512_H
#define KERNEL_CPU_X86_GEMM_AVX512_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/cpu/gemm.h"

void gemm_unpack_f8_avx512(uint16_t *out, const uint8_t *in, size_t n);
void gemm_unpack_i4_avx512(uint8_t *out, const uint8_t *in, size_t n);

/* gemm_wide_avx512.c: as struct gemm_ukernels has them. */
gemm_block_fn gemm_wide_avx512;
gemm_block_fn gemm_wide_few_avx512;
gemm_block_fn gemm_wide_f8_few_avx512;
void gemm_widen_avx512(float *out, const uint8_t *panel, size_t panel_bytes, uint32_t panels, uint32_t k);
void gemm_widen_f8_avx512(float *out, const uint8_t *panel, size_t panel_bytes, uint32_t panels, uint32_t k);

#endif
