/*
 * CPU features and cores (base/cpu.h). Callers: kernel/ for its tier, base/pool.c, collect-env.
 */
#include "base/cpu.h"

#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/topology.h"

static const char *const isa_names[CPU_ISA_COUNT] = {"ref", "avx2", "avx512", "amx"};

const char *cpu_isa_name(enum cpu_isa isa)
{
	return isa_names[isa];
}

enum cpu_isa cpu_isa_parse(const char *name)
{
	int i;

	for (i = 0; i < CPU_ISA_COUNT; i++)
		if (!strcmp(name, isa_names[i]))
			break;
	return (enum cpu_isa)i;
}

#if defined(__x86_64__)
#include <cpuid.h>

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18

static bool cpu_has_amx(void)
{
	unsigned a, b, c, d;

	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
		return false;
	/* EDX: AMX-BF16 22, AMX-TILE 24, AMX-INT8 25. */
	if (!(d >> 22 & 1) || !(d >> 24 & 1) || !(d >> 25 & 1))
		return false;
	return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

bool cpu_isa_supported(enum cpu_isa isa)
{
	__builtin_cpu_init();
	switch (isa) {
	case CPU_ISA_REF:
		return true;
	case CPU_ISA_AVX2:
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
	case CPU_ISA_AVX512:
		return cpu_isa_supported(CPU_ISA_AVX2) && __builtin_cpu_supports("avx512f") &&
		       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
		       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
		       __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
	case CPU_ISA_AMX:
		return cpu_isa_supported(CPU_ISA_AVX512) && cpu_has_amx();
	default:
		return false;
	}
}

bool cpu_has_fast_bf16_dot(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_is("amd");
}

#else

bool cpu_isa_supported(enum cpu_isa isa)
{
	return isa == CPU_ISA_REF;
}

bool cpu_has_fast_bf16_dot(void)
{
	return false;
}

#endif

enum cpu_isa cpu_isa_best(void)
{
	int isa = CPU_ISA_COUNT - 1;

	while (!cpu_isa_supported((enum cpu_isa)isa))
		isa--;
	return (enum cpu_isa)isa;
}

int cpu_cores_available(void)
{
	return topology_cores();
}
