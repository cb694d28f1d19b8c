/* Lets the checks create a device of the amx tier wherever its emulation runs. */
#include "emulate.h"

#include <stdio.h>

/* Named by the linker's --wrap. */
bool __real_cpu_isa_supported(enum cpu_isa isa);
bool __wrap_cpu_isa_supported(enum cpu_isa isa);

bool __wrap_cpu_isa_supported(enum cpu_isa isa)
{
	return __real_cpu_isa_supported(isa == CPU_ISA_AMX ? CPU_ISA_AVX512 : isa);
}

bool tier_present(enum cpu_isa isa)
{
	if (cpu_isa_supported(isa))
		return true;
	printf("skipped: this CPU does not have the tier %s\n", cpu_isa_name(isa));
	return false;
}

int tier_after(int isa)
{
	do
		isa++;
	while (isa < CPU_ISA_COUNT && !tier_present((enum cpu_isa)isa));
	return isa;
}
