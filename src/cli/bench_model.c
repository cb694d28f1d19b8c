/*
 * fathom bench model: speed of the forward pass with random weights of a named shape, each figure
 * beside the limit that probes measured right before and after it: read bandwidth for decode, the
 * tier's BF16 product peak for prefill.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/available.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/machine.h"

struct values {
	struct machine_values machine; /* first */
	const char *shape;
	const char *format;
	int64_t dense_layers;
	int64_t moe_layers;
	int64_t vocab;
	int64_t experts;
	struct opt_sizes prompt;
	struct opt_sizes context;
	struct opt_sizes seqs;
	int64_t repeat;
	int64_t seed;
	bool json;
};

static const struct opt opts[] = {
	{ .name = "shape", .type = OPT_CHOICE, .choices = "v3.1|kimi-k2|moonlight|v2-lite",
		.offset = offsetof(struct values, shape), .help = "Model to imitate (default v3.1)." },
	{ .name = "format", .type = OPT_CHOICE, .choices = "bf16|fp8",
		.offset = offsetof(struct values, format), .help = "Weight format (default bf16)." },
	{ .name = "dense-layers", .type = OPT_INT, .value = "N", .min = 0, .max = 128,
		.offset = offsetof(struct values, dense_layers),
		.help = "Layers with a dense MLP (default 1)." },
	{ .name = "moe-layers", .type = OPT_INT, .value = "N", .min = 0, .max = 128,
		.offset = offsetof(struct values, moe_layers), .help = "Layers with experts (default 1)." },
	{ .name = "vocab", .type = OPT_SIZE, .value = "N", .min = 32, .max = 1 << 20,
		.offset = offsetof(struct values, vocab), .help = "Vocabulary (default 16384)." },
	{ .name = "experts", .type = OPT_INT, .value = "N", .min = 1, .max = 4096,
		.offset = offsetof(struct values, experts),
		.help = "Routed experts of a layer (default: as the shape; fewer take less memory, a token "
			"still uses as many)." },
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
	{ .name = "seed", .type = OPT_INT, .value = "N", .min = 0, .max = 9007199254740992.0,
		.offset = offsetof(struct values, seed), .help = "Seed of weights and tokens (default 1)." },
	{ .name = "json", .type = OPT_SWITCH, .offset = offsetof(struct values, json),
		.help = "Print one JSON object instead of a table." },
	{ 0 },
};

static const struct opt_list common[] = { { "model and machine", machine_opts }, { 0 } };

const struct opt_table bench_model_table = {
	.command = "bench model",
	.arguments = "",
	.summary = "Speed of the forward pass, beside this machine's limits; needs no checkpoint",
	.details = "Decode is compared with the read bandwidth: weights actually read (distinct experts "
		   "counted) and\ncache. Prefill is compared with the peak of BF16 products.\n",
	.opts = opts,
	.common = common,
};

static struct values defaults(void)
{
	return (struct values){
		.machine = machine_defaults(),
		.shape = "v3.1",
		.format = "bf16",
		.dense_layers = 1,
		.moe_layers = 1,
		.vocab = 16384,
		.prompt = { .v = { 512 }, .n = 1 },
		.context = { .v = { 0 }, .n = 1 },
		.seqs = { .v = { 1 }, .n = 1 },
		.seed = 1,
	};
}

static uint32_t largest(const struct opt_sizes *s)
{
	int64_t max = 0;

	for (int i = 0; i < s->n; i++)
		max = s->v[i] > max ? s->v[i] : max;
	return (uint32_t)max;
}

/* The named shape, cut to the layers, vocabulary and experts asked for. */
static enum status make_config(struct model_config *c, const struct values *v, struct error *err)
{
	TRY(config_shape(c, v->shape, err));
	if (v->dense_layers + v->moe_layers == 0)
		return error_set(err, E_INVAL, "--dense-layers 0 --moe-layers 0: expected at least one layer");
	c->num_hidden_layers = (uint32_t)(v->dense_layers + v->moe_layers);
	c->first_k_dense_replace = (uint32_t)v->dense_layers;
	c->vocab_size = (uint32_t)v->vocab;
	c->num_nextn_predict_layers = 0;
	c->bos_token_id = -1;
	c->n_eos = 0;
	if (v->experts) {
		if (v->experts % c->n_group || (uint32_t)v->experts < c->num_experts_per_tok)
			return error_set(err, E_INVAL, "--experts %lld: expected a multiple of %u, at least %u",
				(long long)v->experts, c->n_group, c->num_experts_per_tok);
		c->n_routed_experts = (uint32_t)v->experts;
	}
	return config_finish(c, "--shape", err);
}

/*
 * Half the experts, as long as a token still has its choice among them: the work of one token stays the
 * same. False when there is nothing to halve.
 */
static bool halve_experts(struct model_config *c, struct error *err)
{
	uint32_t half = c->n_routed_experts / 2;

	if (half < 2 * c->num_experts_per_tok || half % c->n_group || c->first_k_dense_replace == c->num_hidden_layers)
		return false;
	c->n_routed_experts = half;
	return config_finish(c, "--shape", err) == OK;
}

static enum status open_runtime(struct runtime *rt, const struct values *v, struct model_config *config,
	struct error *err)
{
	enum weight_format format = strcmp(v->format, "fp8") == 0 ? WEIGHT_F8_BLOCK : WEIGHT_BF16;
	uint32_t experts = config->n_routed_experts;
	uint32_t prompt = largest(&v->prompt), seqs = largest(&v->seqs);
	uint32_t context = largest(&v->context) + bench_decode_steps((uint32_t)v->repeat);
	struct runtime_options o;

	TRY(machine_runtime_options(&o, &v->machine, err));
	if (!o.max_context_tokens)
		o.max_context_tokens = prompt > context ? prompt : context;
	if (o.max_context_tokens < prompt || o.max_context_tokens < context)
		return error_set(err, E_INVAL, "--max-model-len %u: --prompt and --context need %u",
			o.max_context_tokens, prompt > context ? prompt : context);
	if (seqs > o.max_batch_tokens)
		return error_set(err, E_INVAL, "--seqs %u: expected at most --max-num-batched-tokens %u", seqs,
			o.max_batch_tokens);
	o.max_seqs = seqs;
	o.max_outputs = seqs;
	/* The rest is for page tables and for what else the machine does. */
	if (!o.memory_limit_bytes)
		o.memory_limit_bytes = available_memory_bytes() / 16 * 15;
	while (runtime_open_random(rt, config, format, (uint64_t)v->seed, &o, err) != OK) {
		if (err->code != E_NOMEM)
			return err->code;
		if (v->experts || !halve_experts(config, err))
			return error_prefix(err, "fewer --experts, --moe-layers or --seqs take less memory");
	}
	if (config->n_routed_experts != experts)
		fprintf(stderr, "fathom: %u of %u experts, as many as memory holds (--experts N chooses)\n",
			config->n_routed_experts, experts);
	return OK;
}

static enum status measure(struct bench *b, const struct values *v, struct error *err)
{
	for (int i = 0; i < v->prompt.n; i++)
		TRY(bench_prefill(b, (uint32_t)v->prompt.v[i], err));
	for (int c = 0; c < v->context.n; c++) {
		for (int s = 0; s < v->seqs.n; s++)
			TRY(bench_decode(b, (uint32_t)v->context.v[c], (uint32_t)v->seqs.v[s], err));
	}
	return OK;
}

static enum status bench_model(const struct values *v, struct error *err)
{
	struct runtime rt = { 0 };
	struct model_config config;
	struct bench b = { .rt = &rt, .repeat = (uint32_t)v->repeat, .seed = (uint64_t)v->seed,
		.progress = v->machine.progress };
	struct buf out = { 0 };
	enum status st;

	TRY(make_config(&config, v, err));
	TRY(open_runtime(&rt, v, &config, err));
	TRY_GOTO(out, measure(&b, v, err));
	if (v->json)
		bench_put_json(&out, &b, v->shape, v->format);
	else
		bench_put_table(&out, &b, v->shape, v->format);
	st = cli_out(&out, err);
out:
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
