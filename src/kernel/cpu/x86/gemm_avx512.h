/* Parts of the avx512 products that the amx tier shares. */
#ifndef KERNEL_CPU_X86_GEMM_AVX512_H
#define KERNEL_CPU_X86_GEMM_AVX512_H

#include <stddef.h>
#include <stdint.h>

void gemm_unpack_f8_avx512(uint16_t *out, const uint8_t *in, size_t n);
void gemm_unpack_i4_avx512(uint8_t *out, const uint8_t *in, size_t n);

#endif
