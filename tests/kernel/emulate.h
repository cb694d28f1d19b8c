/* Tiers that the checks can run here: those of the CPU, and amx by emulation. */
#ifndef TESTS_KERNEL_EMULATE_H
#define TESTS_KERNEL_EMULATE_H

#include <stdbool.h>

#include "base/cpu.h"

/* Says so on the terminal when a tier is skipped. */
bool tier_present(enum cpu_isa isa);
/* For loops that begin with CPU_ISA_REF, which is everywhere: the next one, at last CPU_ISA_COUNT. */
int tier_after(int isa);

#endif
