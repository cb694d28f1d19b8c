/*
 * Speed of the ops at DeepSeek-V3.1's shapes, for each tier that the machine has, beside the limits
 * that probes measured in the same run: `meson test --benchmark`, or kernel_bench [TIER ...].
 *
 * Two fractions per line: of the read bandwidth (bytes of weights or cache that a call must read)
 * and of the multiply-add peak. The larger one says which limit is near. Every call reads weights
 * that the call before did not, as a forward does, so nothing is served from caches.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "kernel/kernel.h"
#include "kernel/probe.h"
#include "mla_case.h"

#define WEIGHTS_BYTES ((size_t)1 << 30) /* matrices to rotate through */
#define MEASURE_S 0.3
#define SLOW_S 2.0 /* larger m are left out after a call this long (ref) */
#define MAX_ROWS 512u

struct bench {
	struct kernel *kn;
	double bytes_per_s;
	double flops;     /* of BF16 */
	double int8_ops;
	void *mem; /* [WEIGHTS_BYTES], small BF16 numbers, which are small FP8 numbers too */
	float *out;
};

static void report_of(const struct bench *b, const char *what, double seconds, double bytes, double flop,
	double peak)
{
	printf("%-7s %-36s %10.3f ms %7.1f GB/s %4.0f %%  %9.1f GFLOP/s %4.0f %%\n",
		cpu_isa_name(kernel_isa(b->kn)), what, seconds * 1e3, bytes / seconds * 1e-9,
		100 * bytes / seconds / b->bytes_per_s, flop / seconds * 1e-9,
		100 * flop / seconds / peak);
	fflush(stdout);
}

static void report(
	const struct bench *b, const char *what, double seconds, double bytes, double flop)
{
	report_of(b, what, seconds, bytes, flop, b->flops);
}

static int compare(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;

	return (a > b) - (a < b);
}

/* Seconds of the median call, after one that is not counted. */
static double median(void (*call)(void *arg, int i), void *arg)
{
	double t[512], sum = 0;
	int n = 0;

	call(arg, 0);
	do {
		double begin = clock_s();

		call(arg, n + 1);
		t[n] = clock_s() - begin;
		sum += t[n++];
	} while (sum < MEASURE_S && n < 512);
	qsort(t, (size_t)n, sizeof(*t), compare);
	return t[n / 2];
}

struct gemm_shape {
	const char *name;
	uint32_t n;
	uint32_t k;
};

static const struct gemm_shape shapes[] = {
	{"expert gate_up", 4096, 7168},
	{"expert down", 7168, 2048},
	{"o_proj", 7168, 16384},
};

struct gemm_call {
	struct bench *b;
	struct weight w;
	size_t bytes; /* of one matrix */
	struct act a;
	uint32_t m;
};

static void gemm_run(void *arg, int i)
{
	struct gemm_call *c = arg;
	struct gemm_job job = {
		.a = &c->a, .m = c->m, .w = c->w, .out_f32 = c->b->out, .out_stride = c->w.n};
	size_t copies = WEIGHTS_BYTES / c->bytes;

	weight_bind(&job.w, (char *)c->b->mem + (size_t)i % copies * c->bytes);
	kernel_gemm(c->b->kn, &job, 1);
}

static void bench_gemm(struct bench *b, void *act_mem, enum weight_format format, uint32_t group,
	const struct gemm_shape *s)
{
	static const uint32_t rows[] = {1, 4, 16, 128, 512};
	double peak = weight_traits(format)->integer ? b->int8_ops : b->flops;
	struct gemm_call c = {.b = b};

	weight_layout_groups(&c.w, format, s->n, s->k, group);
	c.bytes = weight_panels_bytes(&c.w) + weight_scales_bytes(&c.w);
	c.a = act_for(act_mem, &c.w, MAX_ROWS);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char what[64];
		double t;

		c.m = rows[i];
		t = median(gemm_run, &c);
		snprintf(
			what, sizeof(what), "%s%s %s m=%u", weight_format_name(format),
			group ? " groups" : "", s->name, c.m);
		report_of(b, what, t, (double)c.bytes, 2.0 * c.m * s->n * s->k, peak);
		if (t > SLOW_S)
			break;
	}
}

static const struct mla_shape v31 = {
	.heads = 128,
	.nope = 128,
	.rope = 64,
	.v_dim = 128,
	.kv_lora = 512,
	.format = WEIGHT_BF16,
};

struct mla_call {
	struct mla_case c;
	struct kernel *kn;
};

static void mla_run(void *arg, int i)
{
	struct mla_call *m = arg;

	BUG_ON(!mla_case_run(&m->c, m->kn));
}

/* n_seqs sequences of `rows` tokens behind a context of pos0. */
static void bench_mla(
	struct bench *b, enum mla_form form, uint32_t n_seqs, uint32_t pos0, uint32_t rows)
{
	struct mla_call m = {.kn = b->kn};
	struct mla_chunk *chunks = mem_alloc(sizeof(*chunks) * n_seqs);
	double pairs = (double)n_seqs * rows * (pos0 + (rows + 1) / 2.0),
	       keys = (double)n_seqs * (pos0 + rows);
	double h = v31.heads, bytes, flop;
	char what[64];

	for (uint32_t i = 0; i < n_seqs; i++)
		chunks[i] = (struct mla_chunk){.id = i, .pos0 = pos0, .rows = rows};
	mla_case_init(&m.c, form, &v31, 64, chunks, n_seqs);
	bytes = keys * (double)kernel_kv_row_bytes(v31.kv_lora, v31.rope);
	if (form == MLA_DECODE) {
		flop = 2 * pairs * h * (2.0 * v31.kv_lora + v31.rope);
	} else {
		/* Keys and values are made from the latents once per call. */
		flop = 2 * pairs * h * (v31.nope + v31.rope + v31.v_dim) +
		       2 * keys * h * (v31.nope + v31.v_dim) * (double)v31.kv_lora;
		bytes += (double)(weight_panels_bytes(&m.c.kv_b_k) +
				  weight_panels_bytes(&m.c.kv_b_v));
	}
	snprintf(what, sizeof(what), "mla %s %u x %u at %u",
		form == MLA_DECODE ? "decode" : "prompt", n_seqs, rows, pos0);
	report(b, what, median(mla_run, &m), bytes, flop);
	mla_case_deinit(&m.c);
	free(chunks);
}

static enum status bench_tier(
	enum cpu_isa isa, void *mem, void *act_mem, float *out, struct error *err)
{
	struct kernel_config config = {.isa = isa, .pin = true};
	struct bench b = {.mem = mem, .out = out};
	struct kernel_limits limits = mla_case_limits(&v31, MAX_ROWS);
	struct kernel_probe *probe;
	enum status st = OK;

	TRY(kernel_create(&b.kn, &config, err));
	TRY_GOTO(out, kernel_reserve(b.kn, &limits, err));
	b.flops = kernel_probe_bf16_flops(b.kn);
	b.int8_ops = kernel_probe_int8_ops(b.kn);
	TRY_GOTO(out, kernel_probe_create(&probe, b.kn, 0, err));
	b.bytes_per_s = kernel_probe_read_best(probe);
	kernel_probe_destroy(probe);
	printf("%-7s %d threads, limits: %.1f GB/s, %.1f GFLOP/s, of integers %.1f\n", cpu_isa_name(isa),
		kernel_threads(b.kn), b.bytes_per_s * 1e-9, b.flops * 1e-9, b.int8_ops * 1e-9);
	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
		bench_gemm(&b, act_mem, WEIGHT_BF16, 0, &shapes[i]);
		bench_gemm(&b, act_mem, WEIGHT_F8_BLOCK, 0, &shapes[i]);
		bench_gemm(&b, act_mem, WEIGHT_I8, 0, &shapes[i]);
		bench_gemm(&b, act_mem, WEIGHT_I4, 0, &shapes[i]);
		bench_gemm(&b, act_mem, WEIGHT_I4, 256, &shapes[i]);
	}
	bench_mla(&b, MLA_DECODE, 1, 4095, 1);
	bench_mla(&b, MLA_DECODE, 8, 4095, 1);
	if (isa != CPU_ISA_REF) { /* minutes */
		bench_mla(&b, MLA_PROMPT, 1, 0, 512);
		bench_mla(&b, MLA_PROMPT, 1, 3584, 512);
	}
out:
	kernel_destroy(b.kn);
	return st;
}

static bool wanted(const char *tier, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], tier))
			return true;
	return argc == 1;
}

int main(int argc, char **argv)
{
	size_t act_bytes = MAX_ROWS * act_stride_bytes(ACT_BF16, 16384),
	       out_bytes = MAX_ROWS * 7168 * sizeof(float);
	void *mem, *act_mem, *out;
	struct error err;

	for (int i = 1; i < argc; i++)
		if (cpu_isa_parse(argv[i]) == CPU_ISA_COUNT) {
			fprintf(stderr,
				"kernel_bench: found tier %s, expected ref, avx2, avx512 or amx\n",
				argv[i]);
			return 2;
		}
	if (mem_map(&mem, WEIGHTS_BYTES, "weights", &err) != OK ||
		mem_map(&act_mem, act_bytes, "inputs", &err) != OK ||
		mem_map(&out, out_bytes, "outputs", &err) != OK)
		goto fail;
	/* Neither BF16 values nor FP8 bytes may be NaN, infinite or tiny. */
	for (size_t i = 0; i < WEIGHTS_BYTES / 2; i++)
		((uint16_t *)mem)[i] =
			(uint16_t)(0x3C20 | (i * 2654435761u >> 24 & 0x5F) | (i * 40503u & 0x8000));
	for (size_t i = 0; i < act_bytes / 2; i++)
		((uint16_t *)act_mem)[i] =
			(uint16_t)(0x3F00 | (i * 2654435761u >> 24 & 0x7F) | (i * 40503u & 0x8000));
	for (int isa = CPU_ISA_COUNT - 1; isa >= 0; isa--)
		if (cpu_isa_supported((enum cpu_isa)isa) &&
			wanted(cpu_isa_name((enum cpu_isa)isa), argc, argv))
			if (bench_tier((enum cpu_isa)isa, mem, act_mem, out, &err) != OK)
				goto fail;
	mem_unmap(mem, WEIGHTS_BYTES);
	mem_unmap(act_mem, act_bytes);
	mem_unmap(out, out_bytes);
	return 0;
fail:
	fprintf(stderr, "kernel_bench: %s\n", err.msg);
	return 1;
}
