/* Parts of the avx2 products in several files. */
#ifndef KERNEL_CPU_X86_GEMM_AVX2_H
#define KERNEL_CPU_X86_GEMM_AVX2_H

#include "kernel/cpu/gemm.h"

/* gemm_int_avx2.c: as struct gemm_ukernels has them. */
void gemm_widen_i8_avx2(uint16_t *out, const uint8_t *in, size_t n);
void gemm_unpack_i4_avx2(uint8_t *out, const uint8_t *in, size_t n);

#endif
