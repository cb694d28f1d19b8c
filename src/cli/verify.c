/*
 * fathom verify: a checkpoint's logits against a golden file, in one or all ISA tiers. Exit code 1
 * when a tier exceeds the limit.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/verify.h"

#define DEFAULT_LIMIT 0.035	 /* rounding every product's input to BF16 gives 0.013 to 0.023 */
#define DEFAULT_LIMIT_INTEGER 0.12 /* 8-bit inputs: 0.07 to 0.1; the MTP layer's start from such a state */
#define DEFAULT_MTP_INTEGER 0.2

struct values {
	struct machine_values machine; /* first */
	double limit;
	double mtp_limit; /* negative: not given */
	int routes;       /* 1, 0 or -1: if there is a file */
	bool decode;
	bool layers;
	bool digest;
	bool json;
};

static const struct opt opts[] = {
	{ .name = "limit", .type = OPT_DOUBLE, .value = "X", .min = 0, .max = 1e6,
		.offset = offsetof(struct values, limit),
		.help = "Largest median rms error of a position's logits; with free routing over positions "
			"whose routing margin is at least 0.02 (default 0.035; 0.12 for W8A8 and W4A8)." },
	{ .name = "mtp-limit", .type = OPT_DOUBLE, .value = "X", .min = 0, .max = 1e6,
		.offset = offsetof(struct values, mtp_limit),
		.help = "The same for MTP logits (default: as --limit; 0.2 for W8A8 and W4A8)." },
	{ .name = "routes", .type = OPT_TRISTATE, .offset = offsetof(struct values, routes),
		.help = "Compute prompts with the experts that routes.safetensors beside GOLDEN names, or let "
			"the model choose (default: use the file if there is one)." },
	{ .name = "decode", .type = OPT_SWITCH, .offset = offsetof(struct values, decode),
		.help = "Compute prompts as generated tokens are: attention in absorbed form." },
	{ .name = "layers", .type = OPT_SWITCH, .offset = offsetof(struct values, layers),
		.help = "Show the error of the residual stream after each layer, if the file has it." },
	{ .name = "digest", .type = OPT_SWITCH, .offset = offsetof(struct values, digest),
		.help = "Show a 64-bit FNV-1a hash of all logits, to compare two runs bit for bit." },
	{ .name = "json", .type = OPT_SWITCH, .offset = offsetof(struct values, json),
		.help = "Print one JSON object instead of a table." },
	{ 0 },
};

static const struct opt_list common[] = { { "model and machine", machine_opts_all }, { 0 } };

const struct opt_table verify_table = {
	.command = "verify",
	.arguments = "MODEL [GOLDEN]",
	.summary = "Compare a checkpoint's logits with a golden file",
	.details = "GOLDEN is a safetensors file of reference logits (default MODEL/golden.safetensors).\n"
		   "Fails when the median of all prompts or of their MTP logits exceeds the limit, the 90th\n"
		   "percentile five times the limit, or a greedy token or MTP draft with a clear margin "
		   "differs.\n"
		   "\n"
		   "A token between two experts takes either one under any rounding and drags the tokens after it.\n"
		   "With routes.safetensors prompts take the reference's experts: all positions count, the 90th\n"
		   "percentile may be twice and the maximum five times the limit, and where a router would have\n"
		   "chosen otherwise its margin must be below 0.02, or 0.57 of a limit above 0.035. Greedy tokens and\n"
		   "drafts always choose freely.\n"
		   "tools/golden_routes.py writes the file.\n",
	.min_args = 1,
	.max_args = 2,
	.opts = opts,
	.common = common,
};

static enum status run_tier(struct verify_result *out, const struct values *v, const char *dir,
	const struct golden *g, const char *isa, struct error *err)
{
	struct verify_options vo = { .decode = v->decode, .layers = v->layers };
	struct machine_values m = v->machine;
	struct runtime_options o;
	struct runtime rt = { 0 };
	enum status st;

	m.isa = isa;
	TRY(machine_runtime_options(&o, &m, err));
	if (!o.max_context_tokens) {
		o.max_context_tokens = g->max_tokens;
		o.max_context_name = "longest golden prompt";
	}
	if (o.max_context_tokens < g->max_tokens)
		return error_set(err, E_LIMIT, "--max-model-len %u: the golden prompts need %u",
			o.max_context_tokens, g->max_tokens);
	if (o.max_batch_tokens > g->max_tokens)
		o.max_batch_tokens = g->max_tokens;
	o.max_outputs = o.max_batch_tokens;
	o.mtp = g->mtp || g->n_draft;
	TRY(runtime_open(&rt, dir, &o, err));
	st = verify_run(out, &rt, g, &vo, v->machine.progress, err);
	runtime_close(&rt);
	return st;
}

/* results: room for CPU_ISA_COUNT. */
static enum status run_tiers(struct verify_result *results, uint32_t *n, const struct values *v,
	const char *dir, const struct golden *g, struct error *err)
{
	if (strcmp(v->machine.isa, "all") != 0) {
		TRY(run_tier(results, v, dir, g, v->machine.isa, err));
		*n = 1;
		return OK;
	}
	for (enum cpu_isa isa = CPU_ISA_REF; isa < CPU_ISA_COUNT; isa++) {
		if (!cpu_isa_supported(isa))
			continue;
		TRY(run_tier(&results[*n], v, dir, g, cpu_isa_name(isa), err));
		++*n;
	}
	return OK;
}

static enum status print(const struct verify_report *rep, const struct verify_result *results,
	uint32_t n, bool json, struct error *err)
{
	struct buf out = { 0 };
	enum status st;

	if (json)
		verify_put_json(&out, rep, results, n);
	else
		verify_put_table(&out, rep, results, n);
	st = cli_out(&out, err);
	buf_deinit(&out);
	return st;
}

/* Loads the routes file if there is one, or if one is asked for. */
static enum status load_routes(struct golden *g, struct buf *path, const struct values *v,
	const char *golden_path, const struct model_config *config, struct error *err)
{
	if (v->routes == 0)
		return OK;
	routes_path(path, golden_path);
	if (v->routes < 0 && access(path->data, F_OK) != 0)
		return OK;
	return golden_load_routes(g, path->data, config, err);
}

static struct verify_limits limits_of(const struct values *v, const struct model_config *c)
{
	struct verify_limits l = { v->limit, v->mtp_limit };

	if (l.main < 0)
		l.main = c->integer ? DEFAULT_LIMIT_INTEGER : DEFAULT_LIMIT;
	if (l.mtp < 0)
		l.mtp = c->integer && v->limit < 0 ? DEFAULT_MTP_INTEGER : l.main;
	return l;
}

static enum status verify(const struct values *v, const char *dir, const char *path, struct error *err)
{
	struct verify_result results[CPU_ISA_COUNT] = { 0 };
	struct golden g = { 0 };
	struct buf routes = { 0 };
	struct verify_report rep = { .model = dir, .path = path, .digest = v->digest, .golden = &g };
	struct weights_options wo = weights_options_default();
	struct model_config config;
	uint32_t n = 0;
	enum status st;

	wo.quantization = machine_quantization(&v->machine);
	TRY_GOTO(out, weights_config(&config, dir, &wo, err));
	rep.limits = limits_of(v, &config);
	TRY_GOTO(out, golden_load(&g, path, &config, err));
	TRY_GOTO(out, load_routes(&g, &routes, v, path, &config, err));
	rep.routes = g.routes ? routes.data : NULL;
	TRY_GOTO(out, run_tiers(results, &n, v, dir, &g, err));
	TRY_GOTO(out, print(&rep, results, n, v->json, err));
	for (uint32_t i = 0; i < n && st == OK; i++) {
		if (verify_failed(&results[i], &rep.limits, err))
			st = err->code;
	}
out:
	for (uint32_t i = 0; i < n; i++)
		verify_result_deinit(&results[i]);
	golden_deinit(&g);
	buf_deinit(&routes);
	return st;
}

int cmd_verify(int argc, char **argv)
{
	struct values v = { .machine = machine_defaults(), .limit = -1, .mtp_limit = -1,
		.routes = -1 };
	struct buf path = { 0 };
	struct opt_result words;
	struct error err;
	int rc = cli_parse(&words, &verify_table, argc, argv, &v);

	if (rc >= 0)
		return rc;
	if (words.n_args > 1)
		buf_puts(&path, words.args[1]);
	else
		buf_printf(&path, "%s/golden.safetensors", words.args[0]);
	rc = verify(&v, words.args[0], path.data, &err) == OK ? CLI_OK : cli_fail(&err);
	buf_deinit(&path);
	opt_result_deinit(&words);
	return rc;
}
