/*
 * Probes (kernel/probe.h) over the loops of cpu/peak.h. Callers: benchmarks and `inspect`.
 *
 * A thread works until a common deadline and counts what it did, so that a thread whose core was taken
 * away does not keep the others waiting: as ops take their tasks, so do probes.
 */
#include "kernel/probe.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/available.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/topology.h"
#include "kernel/cpu/device.h"

#define READ_BYTES ((size_t)1 << 30)
#define READ_BYTES_MIN ((size_t)32 << 20)
#define READ_CHUNK ((size_t)2 << 20) /* between looks at the clock */
#define READ_UNIT ((size_t)512)	     /* 64 words */
#define READ_NS 25000000u
#define READ_BEST_OF 16
#define FLOPS_NS 8000000u
#define FLOPS_ROUNDS 2048u /* of a call: starting and summing up does not show */

/* A thread's part of the buffer and how far it has read. */
struct read_part {
	_Alignas(64) size_t at; /* words, in the part */
	uint64_t sum;		/* keeps the loop alive */
};

struct kernel_probe {
	struct kernel *kn;
	uint64_t *mem; /* owned */
	size_t bytes;
	struct read_part *parts; /* owned, [threads] */
};

size_t kernel_probe_bytes(void)
{
	size_t caches = topology_cache_bytes() * (size_t)topology_numa_nodes() * 4;
	size_t bytes = caches > READ_BYTES ? caches : READ_BYTES, available = available_memory_bytes() / 4;

	/* A probe must not push anything out. */
	bytes = bytes < available ? bytes : available;
	return bytes > READ_BYTES_MIN ? bytes : READ_BYTES_MIN;
}

static void part_of(const struct kernel_probe *p, int thread, int n_threads, size_t *first, size_t *n)
{
	size_t begin, end;

	cpu_split(p->bytes / READ_UNIT, thread, n_threads, &begin, &end);
	*first = begin * (READ_UNIT / sizeof(*p->mem));
	*n = (end - begin) * (READ_UNIT / sizeof(*p->mem));
}

/* First touch by the thread that reads; not all zero, which hardware could keep compressed. */
static void fill_thread(void *arg, int thread, int n_threads)
{
	struct kernel_probe *p = arg;
	size_t first, n;

	part_of(p, thread, n_threads, &first, &n);
	for (size_t i = first; i < first + n; i++)
		p->mem[i] = (uint64_t)i * 0x9E3779B97F4A7C15u;
}

enum status kernel_probe_create(
	struct kernel_probe **out, struct kernel *kn, size_t bytes, struct error *err)
{
	struct kernel_probe *p;
	void *mem;

	bytes = bytes ? bytes : kernel_probe_bytes();
	bytes -= bytes % READ_UNIT;
	BUG_ON(bytes / READ_UNIT < (size_t)kn->threads);
	TRY(mem_map(&mem, bytes, "buffer of the bandwidth probe", err));
	p = mem_alloc(sizeof(*p));
	*p = (struct kernel_probe){.kn = kn, .mem = mem, .bytes = bytes};
	p->parts = aligned_alloc(64, sizeof(*p->parts) * (size_t)kn->threads);
	BUG_ON(!p->parts);
	for (int i = 0; i < kn->threads; i++)
		p->parts[i] = (struct read_part){0};
	kernel_parallel(kn, fill_thread, p);
	/* With small pages a virtual machine may read at a fifth of its bandwidth: no limit for what has huge ones. */
	mem_collapse(mem, bytes);
	*out = p;
	return OK;
}

void kernel_probe_destroy(struct kernel_probe *p)
{
	if (!p)
		return;
	mem_unmap(p->mem, p->bytes);
	free(p->parts);
	free(p);
}

/* One probe at work: what all threads have done, bytes or multiply-adds. */
struct probe_run {
	struct kernel *kn;
	struct kernel_probe *probe;
	peak_fn *multiply_add;
	uint64_t deadline_ns;
	atomic_uint_least64_t done;
};

static void read_thread(void *arg, int thread, int n_threads)
{
	struct probe_run *r = arg;
	struct kernel_probe *p = r->probe;
	struct read_part *part = &p->parts[thread];
	size_t first, n, bytes = 0;

	part_of(p, thread, n_threads, &first, &n);
	do {
		size_t left = n - part->at, chunk = READ_CHUNK / sizeof(*p->mem);

		chunk = chunk < left ? chunk : left;
		part->sum ^= r->kn->read(p->mem + first + part->at, chunk);
		part->at = chunk < left ? part->at + chunk : 0;
		bytes += chunk * sizeof(*p->mem);
	} while (clock_ns() < r->deadline_ns);
	atomic_fetch_add_explicit(&r->done, bytes, memory_order_relaxed);
}

static void flops_thread(void *arg, int thread, int n_threads)
{
	struct probe_run *r = arg;
	double n = 0;

	do {
		n += r->multiply_add(FLOPS_ROUNDS);
	} while (clock_ns() < r->deadline_ns);
	atomic_fetch_add_explicit(&r->done, (uint64_t)n, memory_order_relaxed);
}

/* What the threads do per second. */
static double probe_rate(
	struct probe_run *r, void (*fn)(void *arg, int thread, int n_threads), uint64_t for_ns)
{
	uint64_t begin = clock_ns(), t;

	r->deadline_ns = begin + for_ns;
	kernel_parallel(r->kn, fn, r);
	t = clock_ns() - begin;
	return 1e9 * (double)atomic_load(&r->done) / (double)(t ? t : 1);
}

double kernel_probe_read_bytes_per_s(struct kernel_probe *p)
{
	struct probe_run r = {.kn = p->kn, .probe = p};

	return probe_rate(&r, read_thread, READ_NS);
}

double kernel_probe_read_best(struct kernel_probe *p)
{
	double best = 0;

	for (int i = 0; i < READ_BEST_OF; i++) {
		double rate = kernel_probe_read_bytes_per_s(p);

		best = rate > best ? rate : best;
	}
	return best;
}

static double probe_flops(struct kernel *kn, peak_fn *multiply_add)
{
	struct probe_run r = {.kn = kn, .multiply_add = multiply_add};

	return multiply_add ? 2 * probe_rate(&r, flops_thread, FLOPS_NS) : 0;
}

double kernel_probe_bf16_flops(struct kernel *kn)
{
	double a = probe_flops(kn, kn->peak->bf16[0]), b = probe_flops(kn, kn->peak->bf16[1]);

	return a > b ? a : b;
}

double kernel_probe_int8_ops(struct kernel *kn)
{
	return probe_flops(kn, kn->peak->i8);
}
