/*
 * What this CPU can run: ISA tiers, and the cores the process may use.
 */
#ifndef BASE_CPU_H
#define BASE_CPU_H

#include <stdbool.h>

/* Bundles of instruction sets, each including those before it. */
enum cpu_isa {
	CPU_ISA_REF,    /* the compiler's baseline */
	CPU_ISA_AVX2,   /* AVX2, FMA, F16C */
	CPU_ISA_AVX512, /* F, BW, DQ, VL, VBMI, VNNI, BF16 */
	CPU_ISA_AMX,    /* tiles with INT8 and BF16 products; needs the kernel's permission */
	CPU_ISA_COUNT,
};

/* "ref", "avx2", "avx512", "amx". */
const char *cpu_isa_name(enum cpu_isa isa);

/* CPU_ISA_COUNT when no tier has this name. */
enum cpu_isa cpu_isa_parse(const char *name);

/* Whether CPU and operating system have the tier. The first question about CPU_ISA_AMX asks Linux
 * for permission to use tiles, for the whole process. */
bool cpu_isa_supported(enum cpu_isa isa);

/* The highest tier supported. */
enum cpu_isa cpu_isa_best(void);

/*
 * Whether VDPBF16PS multiplies at least as many pairs a cycle as F32 multiply-adds do: so on AMD (Zen 4
 * and later, 32 a cycle against 16), not on Intel (16 against 32: Cooper Lake to Emerald Rapids). With
 * denormals as zero dot(c, a, b) is fma(a0, b0, fma(a1, b1, c)) bit for bit, so kernels may take either.
 * False where the CPU has no such instruction. The answer does not change in the life of a process.
 */
bool cpu_has_fast_bf16_dot(void);

/* topology_cores() of base/topology.h. */
int cpu_cores_available(void);

/* Lets the next spin step of a busy-wait loop be cheap. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

#endif
