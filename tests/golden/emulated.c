/*
 * Linked into the whole program with AMX kernels on the emulation of tiles (tests/kernel/emulate.c): it has the
 * tier amx wherever AVX-512 is, and nothing to say elsewhere.
 */
#include <stdio.h>
#include <unistd.h>

#include "../kernel/emulate.h"

#define SKIPPED 77 /* to meson */

__attribute__((constructor)) static void need_avx512(void)
{
	if (!tier_present(CPU_ISA_AMX)) {
		fflush(stdout);
		_exit(SKIPPED);
	}
}
