/*
 * Probes (kernel/probe.h) over the loops of cpu/peak.h. Callers: benchmarks and `inspect`.
 *
 * The best pass counts: whatever disturbs a pass makes it slower, never faster.
 */
#include "kernel/probe.h"

#include <stdatomic.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/available.h"
#include "kernel/cpu/device.h"

#define READ_BYTES ((size_t)512 << 20)
#define READ_BYTES_MIN ((size_t)32 << 20)
#define READ_UNIT 512u /* bytes: 64 words */
#define PASSES 6
#define PASS_NS 20000000u

struct read_run {
	struct kernel *kn;
	uint64_t *mem;
	size_t bytes;
	atomic_uint_least64_t sum;
};

static void read_part(const struct read_run *r, int thread, int n_threads, size_t *first, size_t *n)
{
	size_t begin, end;

	cpu_split(r->bytes / READ_UNIT, thread, n_threads, &begin, &end);
	*first = begin * (READ_UNIT / sizeof(*r->mem));
	*n = (end - begin) * (READ_UNIT / sizeof(*r->mem));
}

/* First touch by the thread that reads; not all zero, which hardware could keep compressed. */
static void read_fill(void *arg, int thread, int n_threads)
{
	struct read_run *r = arg;
	size_t first, n;

	read_part(r, thread, n_threads, &first, &n);
	for (size_t i = first; i < first + n; i++)
		r->mem[i] = (uint64_t)i * 0x9E3779B97F4A7C15u;
}

static void read_thread(void *arg, int thread, int n_threads)
{
	struct read_run *r = arg;
	size_t first, n;

	read_part(r, thread, n_threads, &first, &n);
	atomic_fetch_xor_explicit(
		&r->sum, r->kn->peak->read(r->mem + first, n), memory_order_relaxed);
}

double kernel_probe_read_bytes_per_s(struct kernel *kn, struct error *err)
{
	struct read_run r = {.kn = kn};
	uint64_t best = UINT64_MAX;
	size_t bytes = READ_BYTES, available = available_memory_bytes();
	void *mem;

	/* A quarter of what is there at most: a probe must not push anything out. */
	while (bytes > READ_BYTES_MIN && bytes > available / 4)
		bytes /= 2;
	if (mem_map(&mem, bytes, "buffer of the bandwidth probe", err) != OK)
		return 0;
	r.mem = mem;
	r.bytes = bytes;
	kernel_parallel(kn, read_fill, &r);
	for (int i = 0; i < PASSES; i++) {
		uint64_t t = clock_ns();

		kernel_parallel(kn, read_thread, &r);
		t = clock_ns() - t;
		best = t < best ? t : best;
	}
	mem_unmap(mem, bytes);
	/* An even number of equal passes; also keeps the sums alive. */
	BUG_ON(atomic_load(&r.sum) != 0);
	return (double)bytes * 1e9 / (double)(best ? best : 1);
}

struct flops_run {
	struct kernel *kn;
	double (*multiply_add)(uint32_t rounds);
	uint32_t rounds;
	uint32_t calls;
	atomic_uint_least64_t multiply_adds;
};

static void flops_thread(void *arg, int thread, int n_threads)
{
	struct flops_run *r = arg;
	double n = 0;

	for (uint32_t i = 0; i < r->calls; i++)
		n += r->multiply_add(r->rounds);
	atomic_fetch_add_explicit(&r->multiply_adds, (uint64_t)n, memory_order_relaxed);
}

static double probe_flops(struct kernel *kn, double (*multiply_add)(uint32_t rounds))
{
	struct flops_run r = {.kn = kn, .multiply_add = multiply_add, .rounds = 16, .calls = 1};
	double best = 0;

	for (int pass = 0; pass < PASSES;) {
		uint64_t t = clock_ns();
		double rate;

		atomic_store(&r.multiply_adds, 0);
		kernel_parallel(kn, flops_thread, &r);
		t = clock_ns() - t;
		rate = 2e9 * (double)atomic_load(&r.multiply_adds) / (double)(t ? t : 1);
		best = rate > best ? rate : best;
		/* Longer passes, until one outlasts starting and joining the threads by far. */
		if (t >= PASS_NS)
			pass++;
		else if (r.rounds < PEAK_ROUNDS)
			r.rounds *= 2;
		else
			r.calls *= 2;
	}
	return best;
}

double kernel_probe_bf16_flops(struct kernel *kn)
{
	return probe_flops(kn, kn->peak->multiply_add);
}

double kernel_probe_int8_ops(struct kernel *kn)
{
	return probe_flops(kn, kn->peak->multiply_add_i8);
}
