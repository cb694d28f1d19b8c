/* One loop of PEAK_CHAINS equal chains on vector registers, for the peaks of avx2 and avx512. */
#ifndef KERNEL_CPU_X86_PEAK_X86_H
#define KERNEL_CPU_X86_PEAK_X86_H

#define PEAK_CHAINS 12 /* two units of latency 6; with operands they fit into 16 registers */

/*
 * step(acc): text of the instructions that add to the register named acc; %[one] holds the operand, %[tmp] is
 * free. c: array of PEAK_CHAINS vectors; n: rounds, a uint32_t variable above 0; t: a vector.
 */
#define PEAK_LOOP(step, c, n, x, t)                                                                \
	__asm__ volatile("1:\n\t" step("%0") step("%1") step("%2") step("%3") step("%4") step("%5") \
				 step("%6") step("%7") step("%8") step("%9") step("%10") step("%11") \
			 "dec %[rounds]\n\tjnz 1b"                                                        \
			 : "+v"((c)[0]), "+v"((c)[1]), "+v"((c)[2]), "+v"((c)[3]), "+v"((c)[4]),   \
			 "+v"((c)[5]), "+v"((c)[6]), "+v"((c)[7]), "+v"((c)[8]), "+v"((c)[9]),     \
			 "+v"((c)[10]), "+v"((c)[11]), [rounds] "+r"(n), [tmp] "=&v"(t)                   \
			 : [one] "v"(x)                                                              \
			 : "cc")

#endif
