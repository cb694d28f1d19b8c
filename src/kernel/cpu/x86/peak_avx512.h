/* What the amx tier's limits take from the avx512 tier. */
#ifndef KERNEL_CPU_X86_PEAK_AVX512_H
#define KERNEL_CPU_X86_PEAK_AVX512_H

#include <stddef.h>
#include <stdint.h>

uint64_t peak_read_avx512(const uint64_t *p, size_t n);

#endif
