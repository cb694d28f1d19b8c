/*
 * fathom bench model: speed of the forward pass with random weights of a named shape, each figure
 * beside the limits that probes measured right before and after it, in one tier or in several.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/available.h"
#include "base/mem.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/machine.h"
#include "cli/shape.h"

struct values {
	struct machine_values machine; /* first */
	struct shape_values shape;
	struct opt_sizes prompt;
	struct opt_sizes context;
	struct opt_sizes seqs;
	int64_t repeat;
	int64_t buffer;
	bool profile;
	bool json;
};

static const struct opt opts[] = {
	SHAPE_ROWS(offsetof(struct values, shape), "default v3.1"),
	{ .name = "prompt", .type = OPT_SIZES, .value = "TOKENS,...", .min = 1, .max = 1 << 20,
		.offset = offsetof(struct values, prompt), .help = "Prefill of these lengths (default 512)." },
	{ .name = "context", .type = OPT_SIZES, .value = "TOKENS,...", .min = 0, .max = 1 << 20,
		.offset = offsetof(struct values, context),
		.help = "Decode after this many cached tokens (default 0)." },
	{ .name = "seqs", .type = OPT_SIZES, .value = "N,...", .min = 1, .max = 1024,
		.offset = offsetof(struct values, seqs),
		.help = "Decode of this many sequences at once (default 1)." },
	{ .name = "repeat", .type = OPT_INT, .value = "N", .min = 1, .max = 10000,
		.offset = offsetof(struct values, repeat),
		.help = "Measurements of each row, of which the median is shown (default: 3 prompts, 16 "
			"decode steps)." },
	{ .name = "buffer", .type = OPT_SIZE, .value = "BYTES", .min = 1 << 20, .max = 1e12,
		.offset = offsetof(struct values, buffer),
		.help = "Memory that the probe of bandwidth reads (default: four times the last cache, at least "
			"1G, at most a quarter of what is free)." },
	{ .name = "profile", .type = OPT_SWITCH, .offset = offsetof(struct values, profile),
		.help = "Also print where each row's time goes, op by op." },
	{ .name = "json", .type = OPT_SWITCH, .offset = offsetof(struct values, json),
		.help = "Print one JSON object instead of a table." },
	{ 0 },
};

static const struct opt_list common[] = { { "model and machine", machine_opts_isas }, { 0 } };

const struct opt_table bench_model_table = {
	.command = "bench model",
	.arguments = "",
	.summary = "Speed of the forward pass, beside this machine's limits; needs no checkpoint",
	.details = "Each prompt and step is compared with what the machine could do right before and after it: read the\n"
		   "weights (distinct experts counted) and the cache, or compute, whichever takes longer.\n"
		   "docs/performance.md explains the columns.\n",
	.opts = opts,
	.common = common,
};

static struct values defaults(void)
{
	struct values v = {
		.machine = machine_defaults(),
		.shape = shape_defaults(),
		.prompt = { .v = { 512 }, .n = 1 },
		.context = { .v = { 0 }, .n = 1 },
		.seqs = { .v = { 1 }, .n = 1 },
	};

	v.shape.shape = "v3.1";
	return v;
}

static enum status open_runtime(struct runtime *rt, const struct values *v, struct model_config *config,
	size_t probe_bytes, struct error *err)
{
	uint32_t prompt = (uint32_t)opt_sizes_max(&v->prompt), seqs = (uint32_t)opt_sizes_max(&v->seqs);
	uint32_t context = (uint32_t)opt_sizes_max(&v->context) + bench_decode_steps((uint32_t)v->repeat);
	struct machine_values machine = v->machine;
	struct runtime_options o;

	machine.isa = "auto"; /* measure() chooses */
	TRY(machine_runtime_options(&o, &machine, err));
	if (!o.max_context_tokens) {
		o.max_context_tokens = prompt > context ? prompt : context;
		o.max_context_name = prompt > context ? "--prompt" : "--context plus decode steps";
	}
	if (o.max_context_tokens < prompt || o.max_context_tokens < context)
		return error_set(err, E_INVAL, "--max-model-len %u: --prompt and --context need %u",
			o.max_context_tokens, prompt > context ? prompt : context);
	if (seqs > o.max_batch_tokens)
		return error_set(err, E_INVAL, "--seqs %u: expected at most --max-num-batched-tokens %u", seqs,
			o.max_batch_tokens);
	o.max_seqs = seqs;
	o.max_outputs = seqs;
	/* The rest is for the probe, for page tables and for what else the machine does. */
	if (!o.memory_limit_bytes) {
		size_t most = available_memory_bytes() / 16 * 15;

		o.memory_limit_bytes = most > probe_bytes ? most - probe_bytes : 1;
	}
	while (runtime_open_random(rt, config, shape_format(&v->shape), (uint64_t)v->shape.seed, &o, err) != OK) {
		if (err->code != E_NOMEM)
			return err->code;
		if (!shape_halve_experts(config, &v->shape))
			return error_prefix(err, "fewer --experts, --moe-layers or --seqs take less memory");
	}
	shape_report_experts(config, &v->shape);
	return OK;
}

static enum status measure_tier(struct bench *b, const struct values *v, struct error *err)
{
	for (int i = 0; i < v->prompt.n; i++)
		TRY(bench_prefill(b, (uint32_t)v->prompt.v[i], err));
	for (int c = 0; c < v->context.n; c++) {
		for (int s = 0; s < v->seqs.n; s++)
			TRY(bench_decode(b, (uint32_t)v->context.v[c], (uint32_t)v->seqs.v[s], err));
	}
	return OK;
}

/* Packed weights are the same for all tiers. */
static enum status measure(struct bench *b, const struct values *v, const struct machine_isas *isas,
	size_t probe_bytes, struct error *err)
{
	struct runtime *rt = b->rt;

	b->meter.kn = rt->kn;
	TRY(kernel_probe_create(&b->meter.probe, rt->kn, probe_bytes, err));
	if (v->profile)
		b->profiler = bench_profiler_create(rt->kn, rt->weights);
	for (int i = 0; i < isas->n; i++) {
		TRY(kernel_set_isa(rt->kn, isas->isa[i], err));
		TRY(measure_tier(b, v, err));
	}
	return OK;
}

static enum status bench_model(const struct values *v, struct error *err)
{
	struct runtime rt = { 0 };
	struct model_config config;
	struct bench *b = mem_alloc(sizeof(*b));
	size_t probe_bytes = v->buffer ? (size_t)v->buffer : kernel_probe_bytes();
	struct machine_isas isas;
	struct buf out = { 0 };
	enum status st;

	b->rt = &rt;
	b->repeat = (uint32_t)v->repeat;
	b->seed = (uint64_t)v->shape.seed;
	b->progress = v->machine.progress;
	TRY_GOTO(out, machine_isas(&isas, v->machine.isa, err));
	TRY_GOTO(out, shape_config(&config, &v->shape, err));
	TRY_GOTO(out, open_runtime(&rt, v, &config, probe_bytes, err));
	TRY_GOTO(out, measure(b, v, &isas, probe_bytes, err));
	if (v->json)
		bench_put_json(&out, b, v->shape.shape, v->shape.format);
	else
		bench_put_table(&out, b, v->shape.shape, v->shape.format);
	st = cli_out(&out, err);
out:
	bench_deinit(b);
	free(b);
	runtime_close(&rt);
	buf_deinit(&out);
	return st;
}

int cmd_bench_model(int argc, char **argv)
{
	struct values v = defaults();
	struct opt_result words;
	struct error err;
	int rc = cli_parse(&words, &bench_model_table, argc, argv, &v);

	if (rc >= 0)
		return rc;
	opt_result_deinit(&words);
	return bench_model(&v, &err) == OK ? CLI_OK : cli_fail(&err);
}
