/*
 * fathom bench kernel: kernels one at a time at the shapes of DeepSeek-V3.1, with weights that no cache
 * holds, each repetition beside the limits of its moment (cli/bench_meter.h).
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/progress.h"
#include "cli/bench_kernel.h"
#include "cli/bench_meter.h"
#include "cli/bench_profile.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/jsonl.h"
#include "cli/machine.h"

#define REPETITION_S 0.03 /* calls in a repetition: so long, to outlast its probes' noise */
#define ROW_S 1.0         /* repetitions of a row: so long */
#define REPEAT_MIN 3u
#define REPEAT_MAX 16u
#define CALLS_MAX 4096u
#define SLOW_S 2.0

struct values {
	const char *isa;
	int64_t threads;
	bool pin;
	const char *format;
	struct opt_sizes m;
	struct opt_sizes context;
	int64_t repeat;
	int64_t buffer;
	bool json;
	bool progress;
};

static const struct opt opts[] = {
	{ .name = "isa", .type = OPT_STRING, .value = "TIER,...", .offset = offsetof(struct values, isa),
		.help = "Instruction set tiers, of ref, avx2, avx512 and amx (default auto: the best this machine "
			"has). all: every tier it has." },
	{ .name = "threads", .type = OPT_INT, .value = "N", .min = 0, .max = 4096,
		.offset = offsetof(struct values, threads),
		.help = "Compute threads (default 0: one per core)." },
	{ .name = "pin", .type = OPT_SWITCH, .offset = offsetof(struct values, pin),
		.help = "Keep each thread on its core (default: yes)." },
	{ .name = "format", .type = OPT_CHOICE, .choices = "all|bf16|fp8|w8a8|w4a8|w4a8-256",
		.offset = offsetof(struct values, format),
		.help = "Weight format (default all); w4a8-256: with a scale for each 256 inputs. Kernels whose "
			"weights are always BF16 have one row." },
	{ .name = "m", .type = OPT_SIZES, .value = "ROWS,...", .min = 1, .max = 2048,
		.offset = offsetof(struct values, m),
		.help = "Rows of a call, sequences of mla_decode (default 1,2,4,8,32,512; where a kernel never has "
			"so many, they are left out)." },
	{ .name = "context", .type = OPT_SIZES, .value = "TOKENS,...", .min = 0, .max = 131072,
		.offset = offsetof(struct values, context),
		.help = "Cached tokens before those rows, of attention (default 0,1024,8192)." },
	{ .name = "repeat", .type = OPT_INT, .value = "N", .min = 1, .max = 10000,
		.offset = offsetof(struct values, repeat),
		.help = "Repetitions of each row, of about 30 ms or one call (default: as many as take a second, 3 "
			"to 16)." },
	{ .name = "buffer", .type = OPT_SIZE, .value = "BYTES", .min = 1 << 20, .max = 1e12,
		.offset = offsetof(struct values, buffer),
		.help = "Memory that the probe of bandwidth reads, and weights each time pass through (default: four times the last cache, at least "
			"1G, at most a quarter of what is free)." },
	{ .name = "json", .type = OPT_SWITCH, .offset = offsetof(struct values, json),
		.help = "Print one JSON object instead of a table." },
	{ .name = "progress", .type = OPT_SWITCH, .offset = offsetof(struct values, progress),
		.help = "Progress bars of long work, on a terminal (default: yes)." },
	{ 0 },
};

const struct opt_table bench_kernel_table = {
	.command = "bench kernel",
	.arguments = "list | all | NAME...",
	.summary = "Speed of single kernels at the shapes of DeepSeek-V3.1, beside this machine's limits",
	.details = "`list` names the kernels. Every call reads weights, or a cache, that the calls before did not.\n"
		   "Where a call takes more than 2 s, larger m of that kernel are left out.\n"
		   "docs/performance.md explains the columns.\n",
	.min_args = 1,
	.max_args = -1,
	.opts = opts,
};

static const struct format_row {
	const char *name;
	enum weight_format format;
	uint32_t group;
} formats[] = {
	{ "bf16", WEIGHT_BF16, 0 },
	{ "fp8", WEIGHT_F8_BLOCK, 0 },
	{ "w8a8", WEIGHT_I8, 0 },
	{ "w4a8", WEIGHT_I4, 0 },
	{ "w4a8-256", WEIGHT_I4, 256 },
};
#define N_FORMATS (sizeof(formats) / sizeof(*formats))
#define MAX_CASES 32u

struct row {
	const struct kernel_case *what;
	const struct format_row *format;
	enum cpu_isa isa;
	uint32_t m, context;
	uint32_t n_samples;
	uint32_t calls; /* in a sample */
	struct bench_sample *samples; /* owned; of one call */
	struct bench_figures figures;
};

struct bench_kernel {
	const struct values *v;
	const struct kernel_case *cases[MAX_CASES];
	uint32_t n_cases;
	struct kernel_call call;
	struct bench_meter meter;
	struct row *rows; /* owned */
	size_t n_rows, cap;
	struct bench_work work; /* of the calls since it was cleared */
};

static void put_list(struct buf *out)
{
	for (const struct kernel_case *k = kernel_cases; k->name; k++)
		buf_printf(out, "%-16s %s\n", k->name, k->what);
}

static enum status choose(struct bench_kernel *b, const struct opt_result *words, struct error *err)
{
	struct buf known = { 0 };

	for (int i = 0; i < words->n_args; i++) {
		const struct kernel_case *k = kernel_case_find(words->args[i]);
		bool all = strcmp(words->args[i], "all") == 0;

		if (!k && !all) {
			for (k = kernel_cases; k->name; k++)
				buf_printf(&known, "%s%s", k == kernel_cases ? "" : ", ", k->name);
			error_set(err, E_INVAL, "kernel '%.20s': expected %s", words->args[i],
				known.data);
			buf_deinit(&known);
			return err->code;
		}
		if (!all && opt_sizes_min(&b->v->m) > k->max_m)
			return error_set(err, E_INVAL, "--m %lld: %s never has more than %u rows",
				(long long)opt_sizes_min(&b->v->m), k->name, k->max_m);
		for (const struct kernel_case *c = all ? kernel_cases : k; c->name && b->n_cases < MAX_CASES; c++) {
			b->cases[b->n_cases++] = c;
			if (!all)
				break;
		}
	}
	return OK;
}

static void on_event(void *arg, const struct kernel_event *e)
{
	struct bench_work *sum = arg, w = bench_op_work(e);

	sum->bytes += w.bytes;
	sum->bf16_flops += w.bf16_flops;
	sum->int8_ops += w.int8_ops;
}

static void run_calls(struct bench_kernel *b, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		b->call.what->run(&b->call);
		b->call.calls++;
	}
}

/* One repetition; everything in it is of one call. */
static void measure_sample(struct bench_kernel *b, struct bench_sample *s, uint32_t calls)
{
	b->work = (struct bench_work){ 0 };
	bench_meter_begin(&b->meter, s);
	run_calls(b, calls);
	bench_meter_end(&b->meter, s);
	s->seconds /= calls;
	s->work = (struct bench_work){ b->work.bytes / calls, b->work.bf16_flops / calls, b->work.int8_ops / calls };
}

static uint32_t between(double x, uint32_t low, uint32_t high)
{
	return x < low ? low : x > high ? high : (uint32_t)x;
}

/* Returns the seconds of a call. */
static double measure_row(struct bench_kernel *b, struct row r)
{
	double begin, seconds;

	b->call.what = r.what;
	b->call.format = r.format->format;
	b->call.group = r.format->group;
	b->call.m = r.m;
	b->call.context = r.context;
	run_calls(b, 1); /* warm-up */
	begin = clock_s();
	run_calls(b, 1);
	seconds = clock_s() - begin;
	r.calls = between(REPETITION_S / seconds, 1, CALLS_MAX);
	r.n_samples = b->v->repeat ? (uint32_t)b->v->repeat
				   : between(ROW_S / (seconds * r.calls), REPEAT_MIN, REPEAT_MAX);
	r.samples = mem_alloc(sizeof(*r.samples) * r.n_samples);
	bench_meter_probe(&b->meter);
	for (uint32_t i = 0; i < r.n_samples; i++)
		measure_sample(b, &r.samples[i], r.calls);
	bench_figures_of(&r.figures, r.samples, r.n_samples);
	b->rows = mem_grow(b->rows, &b->cap, b->n_rows + 1, sizeof(*b->rows));
	b->rows[b->n_rows++] = r;
	return seconds;
}

/* All rows of one kernel in one format. */
static void measure_case(struct bench_kernel *b, struct row r)
{
	const struct values *v = b->v;

	for (int c = 0; c < (r.what->contexts ? v->context.n : 1); c++) {
		double seconds = 0;

		r.context = r.what->contexts ? (uint32_t)v->context.v[c] : 0;
		for (int i = 0; i < v->m.n && seconds < SLOW_S; i++) {
			r.m = (uint32_t)v->m.v[i];
			if (r.m <= r.what->max_m)
				seconds = measure_row(b, r);
		}
	}
}

static void measure_tier(struct bench_kernel *b, struct progress *bar, uint32_t *done)
{
	for (uint32_t i = 0; i < b->n_cases; i++) {
		for (size_t f = 0; f < (b->cases[i]->formats ? N_FORMATS : 1); f++) {
			struct row r = { .what = b->cases[i], .format = &formats[f], .isa = kernel_isa(b->call.kn) };

			if (!r.what->formats || strcmp(b->v->format, "all") == 0 ||
				strcmp(b->v->format, formats[f].name) == 0)
				measure_case(b, r);
		}
		progress_update(bar, ++*done);
	}
}

static enum status measure(struct bench_kernel *b, const struct machine_isas *isas, struct error *err)
{
	const struct values *v = b->v;
	struct kernel_config config = { .isa = isas->isa[0], .threads = (int)v->threads, .pin = v->pin };
	size_t bytes = v->buffer ? (size_t)v->buffer : kernel_probe_bytes();
	struct progress bar;
	uint32_t done = 0;

	TRY(kernel_create(&b->call.kn, &config, err));
	b->meter.kn = b->call.kn;
	TRY(kernel_probe_create(&b->meter.probe, b->call.kn, bytes, err));
	TRY(kernel_call_map(&b->call, b->cases, b->n_cases, bytes, (uint32_t)opt_sizes_max(&v->m),
		(uint32_t)opt_sizes_max(&v->context), err));
	kernel_observe(b->call.kn, on_event, &b->work);
	progress_begin(&bar, "kernels", b->n_cases * (uint32_t)isas->n, PROGRESS_COUNT, v->progress);
	for (int i = 0; i < isas->n; i++) {
		TRY(kernel_set_isa(b->call.kn, isas->isa[i], err));
		measure_tier(b, &bar, &done);
	}
	progress_end(&bar);
	return OK;
}

static void put_table(struct buf *out, const struct bench_kernel *b)
{
	buf_printf(out, "DeepSeek-V3.1's shapes, %d threads\n%-16s %-6s %-8s %5s %8s %11s ",
		kernel_threads(b->call.kn), "kernel", "isa", "format", "m", "context", "us");
	bench_figures_put_head(out);
	buf_puts(out, "\n");
	for (size_t i = 0; i < b->n_rows; i++) {
		const struct row *r = &b->rows[i];

		buf_printf(out, "%-16s %-6s %-8s %5u ", r->what->name, cpu_isa_name(r->isa), r->format->name, r->m);
		if (r->what->contexts)
			buf_printf(out, "%8u ", r->context);
		else
			buf_printf(out, "%8s ", "-");
		buf_printf(out, "%11.1f ", r->figures.seconds * 1e6);
		bench_figures_put(out, &r->figures);
		buf_puts(out, "\n");
	}
	bench_meter_put(out, &b->meter);
}

static void put_json(struct buf *out, const struct bench_kernel *b)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < b->n_rows; i++) {
		const struct row *r = &b->rows[i];
		json_t *v = json_pack("{s:s, s:s, s:s, s:I, s:I}", "kernel", r->what->name, "isa",
			cpu_isa_name(r->isa), "format", r->format->name, "m", (json_int_t)r->m,
			"calls_per_repetition", (json_int_t)r->calls);

		if (r->what->contexts)
			json_object_set_new(v, "context_tokens", json_integer(r->context));
		bench_figures_json(v, &r->figures, r->samples, r->n_samples);
		json_array_append_new(rows, v);
	}
	json_put_pretty(out, json_pack("{s:s, s:i, s:o, s:o}", "shape", "v3.1", "threads",
		kernel_threads(b->call.kn), "highest", bench_rates_json(&b->meter.highest), "rows", rows));
}

static enum status bench_kernel(const struct values *v, const struct opt_result *words, struct error *err)
{
	struct bench_kernel b = { .v = v };
	struct machine_isas isas;
	struct buf out = { 0 };
	enum status st;

	if (words->n_args == 1 && strcmp(words->args[0], "list") == 0) {
		put_list(&out);
		st = cli_out(&out, err);
		goto out;
	}
	TRY_GOTO(out, choose(&b, words, err));
	TRY_GOTO(out, machine_isas(&isas, v->isa, err));
	TRY_GOTO(out, measure(&b, &isas, err));
	if (v->json)
		put_json(&out, &b);
	else
		put_table(&out, &b);
	st = cli_out(&out, err);
out:
	for (size_t i = 0; i < b.n_rows; i++)
		free(b.rows[i].samples);
	free(b.rows);
	kernel_call_unmap(&b.call);
	kernel_probe_destroy(b.meter.probe);
	kernel_destroy(b.call.kn);
	buf_deinit(&out);
	return st;
}

int cmd_bench_kernel(int argc, char **argv)
{
	struct values v = {
		.isa = "auto",
		.pin = true,
		.format = "all",
		.m = { .v = { 1, 2, 4, 8, 32, 512 }, .n = 6 },
		.context = { .v = { 0, 1024, 8192 }, .n = 3 },
		.progress = true,
	};
	struct opt_result words;
	struct error err;
	int rc = cli_parse(&words, &bench_kernel_table, argc, argv, &v);

	if (rc >= 0)
		return rc;
	rc = bench_kernel(&v, &words, &err) == OK ? CLI_OK : cli_fail(&err);
	opt_result_deinit(&words);
	return rc;
}
