/*
 * fathom inspect: what a checkpoint holds and what this machine can do with it. Reads headers only;
 * the probe of the memory bandwidth takes about a second.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/jsonl.h"
#include "cli/machine.h"
#include "kernel/probe.h"
#include "kv/kv.h"
#include "text/tokenizer.h"
#include "weights/description.h"
#include "weights/safetensors.h"
#include "weights/weights.h"

struct values {
	bool json;
	bool probe;
	int64_t threads;
	int64_t memory_limit;
};

static const struct opt opts[] = {
	{ .name = "probe", .type = OPT_SWITCH, .offset = offsetof(struct values, probe),
		.help = "Measure this machine's read bandwidth, which limits the speed of generation "
			"(default: yes)." },
	{ .name = "threads", .type = OPT_INT, .value = "N", .min = 0, .max = 4096,
		.offset = offsetof(struct values, threads),
		.help = "Threads of the probe (default 0: one per core)." },
	{ .name = "memory-limit", .type = OPT_SIZE, .value = "BYTES", .min = 1, .max = 1e15,
		.offset = offsetof(struct values, memory_limit),
		.help = "Memory that the model may take (default: the memory available)." },
	{ .name = "json", .type = OPT_SWITCH, .offset = offsetof(struct values, json),
		.help = "Print one JSON object instead of a table." },
	{ 0 },
};

const struct opt_table inspect_table = {
	.command = "inspect",
	.arguments = "MODEL",
	.summary = "Show what a checkpoint holds, and whether and how fast it can run here",
	.details = "MODEL is a checkpoint directory. Only file headers are read.\n",
	.min_args = 1,
	.max_args = 1,
	.opts = opts,
};

struct facts {
	struct model_config config;
	struct weights_budget budget; /* of the main layers */
	size_t n_tensors;
	size_t dtype_tensors[DT_COUNT];
	uint64_t dtype_bytes[DT_COUNT];
	uint64_t file_bytes;
	double parameters; /* of the main model */
	double mtp_parameters;
	double active; /* parameters that one token uses, without the embedding table */
	size_t kv_token_bytes;
	bool fits;          /* with one sequence of the default context */
	size_t needed_bytes;
	size_t available_bytes;
	double bytes_per_s; /* 0: not probed */
	bool tokenizer, chat_template;
	struct error tokenizer_problem; /* without `tokenizer`: why it cannot be used */
};

static bool ends_with(const char *s, const char *tail)
{
	size_t n = strlen(s), t = strlen(tail);

	return n >= t && strcmp(s + n - t, tail) == 0;
}

/* Scales and offsets of a quantized matrix are not parameters. */
static bool is_parameter(const char *name)
{
	static const char *const tails[] = { "_scale_inv", "_scale", "_scale_second", "_offset",
		"_offset_second", ".deq_scale", ".quant_bias", ".input_scale", ".input_offset", ".scale_bias" };

	for (size_t i = 0; i < sizeof(tails) / sizeof(*tails); i++) {
		if (ends_with(name, tails[i]))
			return false;
	}
	return true;
}

static double elements(const struct st_tensor *t)
{
	double n = 1;

	for (uint32_t i = 0; i < t->rank; i++)
		n *= (double)t->shape[i];
	return n;
}

/* Adds one tensor's parameters to where they belong. */
static void count_tensor(struct facts *f, const struct st_tensor *t, const struct description *d)
{
	const struct model_config *c = &f->config;
	double n = elements(t) * description_rows_per_byte(d, t->name);
	char mtp[64];

	f->n_tensors++;
	f->dtype_tensors[t->dtype]++;
	f->dtype_bytes[t->dtype] += t->bytes;
	f->file_bytes += t->bytes;
	if (!is_parameter(t->name))
		return;
	snprintf(mtp, sizeof(mtp), "model.layers.%u.", c->num_hidden_layers);
	if (strncmp(t->name, mtp, strlen(mtp)) == 0) {
		/* Copies of the embedding and the head are not parameters of their own. */
		if (!strstr(t->name, ".embed_tokens.") && !strstr(t->name, ".shared_head.head."))
			f->mtp_parameters += n;
		return;
	}
	f->parameters += n;
	if (strstr(t->name, "embed_tokens"))
		return;
	if (strstr(t->name, ".mlp.experts."))
		n *= (double)c->num_experts_per_tok / c->n_routed_experts;
	f->active += n;
}

static enum status read_tensors(struct facts *f, const char *dir, struct error *err)
{
	struct description *d;
	struct safetensors *set;
	enum status st;

	TRY(description_open(&d, dir, err));
	TRY_GOTO(out, safetensors_open_dir(&set, dir, err));
	for (size_t i = 0; i < safetensors_count(set); i++)
		count_tensor(f, safetensors_at(set, i), d);
	safetensors_close(set);
out:
	description_close(d);
	return st;
}

/* One sequence of the context that run and complete choose by themselves. */
static size_t cache_bytes(const struct facts *f)
{
	uint32_t most = f->config.max_position_embeddings;

	return f->kv_token_bytes * (most < 8192 ? most : 8192);
}

static enum status read_budget(struct facts *f, const char *dir, const struct values *v,
	struct error *err)
{
	struct weights_options o = weights_options_default();

	o.mtp = false; /* run and complete do not load it */
	o.memory_limit_bytes = (size_t)v->memory_limit;
	f->available_bytes = weights_memory_limit(&o);
	o.memory_limit_bytes = SIZE_MAX; /* the verdict is made here */
	TRY(weights_plan(&f->budget, dir, &o, err));
	f->kv_token_bytes = kernel_kv_row_bytes(f->config.kv_lora_rank, f->config.qk_rope_head_dim) *
			    f->config.num_hidden_layers;
	f->needed_bytes = f->budget.packed_bytes + f->budget.buffer_bytes + cache_bytes(f);
	f->fits = f->needed_bytes <= f->available_bytes;
	return OK;
}

static enum status probe(struct facts *f, const struct values *v, struct error *err)
{
	struct kernel_config c = { .isa = cpu_isa_best(), .threads = (int)v->threads, .pin = true };
	struct kernel_probe *p;
	struct kernel *kn;
	enum status st;

	TRY(kernel_create(&kn, &c, err));
	st = kernel_probe_create(&p, kn, 0, err);
	if (st == OK) {
		f->bytes_per_s = kernel_probe_read_best(p);
		kernel_probe_destroy(p);
	}
	kernel_destroy(kn);
	return st;
}

static void read_tokenizer(struct facts *f, const char *dir)
{
	struct tokenizer *tok;

	f->tokenizer = tokenizer_open(&tok, dir, &f->tokenizer_problem) == OK;
	if (!f->tokenizer)
		return;
	f->chat_template = tokenizer_config_of(tok)->chat_template != NULL;
	tokenizer_close(tok);
}

static double token_limit(const struct facts *f)
{
	return f->budget.token_bytes ? f->bytes_per_s / (double)f->budget.token_bytes : 0;
}

static void put_count(struct buf *out, const char *label, double n)
{
	buf_printf(out, "%-22s %.*f %s\n", label, 2, n >= 1e9 ? n * 1e-9 : n * 1e-6,
		n >= 1e9 ? "billion" : "million");
}

static void put_size(struct buf *out, const char *label, double bytes, const char *rest)
{
	buf_printf(out, "%-22s ", label);
	cli_put_bytes(out, bytes);
	buf_printf(out, "%s\n", rest);
}

static void put_formats(struct buf *out, const struct facts *f)
{
	for (int i = 0; i < DT_COUNT; i++) {
		char label[32], rest[64];

		if (!f->dtype_tensors[i])
			continue;
		snprintf(label, sizeof(label), "  %s", dtype_name((enum dtype)i));
		snprintf(rest, sizeof(rest), " in %zu tensors", f->dtype_tensors[i]);
		put_size(out, label, (double)f->dtype_bytes[i], rest);
	}
}

static void put_table(struct buf *out, const struct facts *f)
{
	const struct model_config *c = &f->config;
	uint32_t dense = c->n_routed_experts ? c->first_k_dense_replace : c->num_hidden_layers;

	buf_printf(out, "%-22s %s\n", "model type", c->model_type);
	buf_printf(out, "%-22s %u (%u dense, %u with experts)%s\n", "layers", c->num_hidden_layers, dense,
		c->num_hidden_layers - dense, c->num_nextn_predict_layers ? " and an MTP layer" : "");
	if (c->n_routed_experts)
		buf_printf(out, "%-22s %u of %u, and %u shared\n", "experts of a token",
			c->num_experts_per_tok, c->n_routed_experts, c->n_shared_experts);
	put_count(out, "parameters", f->parameters);
	put_count(out, "used by one token", f->active);
	if (f->mtp_parameters > 0)
		put_count(out, "MTP layer", f->mtp_parameters);
	buf_printf(out, "%-22s %u tokens%s\n", "context", c->max_position_embeddings,
		c->yarn.on ? " (YaRN)" : "");
	buf_printf(out, "%-22s %u\n", "vocabulary", c->vocab_size);
	buf_printf(out, "%-22s %s\n", "tokenizer", f->tokenizer ? "yes" : f->tokenizer_problem.msg);
	buf_printf(out, "%-22s %s\n", "chat template", f->chat_template ? "yes" : "no");
	buf_printf(out, "%-22s %zu\n", "tensors", f->n_tensors);
	put_formats(out, f);
	put_size(out, "in memory", (double)f->budget.packed_bytes, "");
	put_size(out, "read per token", (double)f->budget.token_bytes, " of weights");
	put_size(out, "cache per token", (double)f->kv_token_bytes, "");
	buf_printf(out, "%-22s %s: ", "fits here", f->fits ? "yes" : "NO");
	cli_put_bytes(out, (double)f->needed_bytes);
	buf_puts(out, " needed with one sequence, ");
	cli_put_bytes(out, (double)f->available_bytes);
	buf_puts(out, " available\n");
	if (f->bytes_per_s > 0) {
		buf_printf(out, "%-22s %.1f GB/s, measured\n", "read bandwidth", f->bytes_per_s * 1e-9);
		buf_printf(out, "%-22s %.2f tokens/s of one sequence, by this bandwidth\n", "speed limit",
			token_limit(f));
	}
}

static void put_json(struct buf *out, const char *dir, const struct facts *f)
{
	const struct model_config *c = &f->config;
	json_t *formats = json_object(), *v;

	for (int i = 0; i < DT_COUNT; i++) {
		if (f->dtype_tensors[i])
			json_object_set_new(formats, dtype_name((enum dtype)i), json_pack("{s:I, s:I}",
				"tensors", (json_int_t)f->dtype_tensors[i], "bytes",
				(json_int_t)f->dtype_bytes[i]));
	}
	v = json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:b, s:i, s:i}", "model", dir, "model_type",
		c->model_type, "layers", (int)c->num_hidden_layers, "dense_layers",
		(int)(c->n_routed_experts ? c->first_k_dense_replace : c->num_hidden_layers), "experts",
		(int)c->n_routed_experts, "experts_per_token",
		(int)(c->n_routed_experts ? c->num_experts_per_tok : 0), "shared_experts",
		(int)c->n_shared_experts, "mtp", (int)(c->num_nextn_predict_layers > 0), "context_tokens",
		(int)c->max_position_embeddings, "vocab_size", (int)c->vocab_size);
	json_object_set_new(v, "parameters", json_integer((json_int_t)f->parameters));
	json_object_set_new(v, "active_parameters", json_integer((json_int_t)f->active));
	json_object_set_new(v, "mtp_parameters", json_integer((json_int_t)f->mtp_parameters));
	json_object_set_new(v, "tensors", json_integer((json_int_t)f->n_tensors));
	json_object_set_new(v, "formats", formats);
	json_object_set_new(v, "file_bytes", json_integer((json_int_t)f->file_bytes));
	json_object_set_new(v, "packed_bytes", json_integer((json_int_t)f->budget.packed_bytes));
	json_object_set_new(v, "token_bytes", json_integer((json_int_t)f->budget.token_bytes));
	json_object_set_new(v, "cache_token_bytes", json_integer((json_int_t)f->kv_token_bytes));
	json_object_set_new(v, "needed_bytes", json_integer((json_int_t)f->needed_bytes));
	json_object_set_new(v, "available_bytes", json_integer((json_int_t)f->available_bytes));
	json_object_set_new(v, "fits", json_boolean(f->fits));
	json_object_set_new(v, "tokenizer", json_boolean(f->tokenizer));
	json_object_set_new(v, "chat_template", json_boolean(f->chat_template));
	if (f->bytes_per_s > 0) {
		json_object_set_new(v, "read_bytes_per_s", json_real(f->bytes_per_s));
		json_object_set_new(v, "limit_tokens_per_s", json_real(token_limit(f)));
	}
	json_put_pretty(out, v);
}

static enum status inspect(struct facts *f, const char *dir, const struct values *v, struct error *err)
{
	TRY(config_load(&f->config, dir, err));
	TRY(read_tensors(f, dir, err));
	TRY(read_budget(f, dir, v, err));
	read_tokenizer(f, dir);
	return v->probe ? probe(f, v, err) : OK;
}

int cmd_inspect(int argc, char **argv)
{
	struct values v = { .probe = true };
	struct facts f = { 0 };
	struct buf out = { 0 };
	struct opt_result words;
	struct error err;
	int rc = cli_parse(&words, &inspect_table, argc, argv, &v);

	if (rc >= 0)
		return rc;
	if (inspect(&f, words.args[0], &v, &err) != OK) {
		rc = cli_fail(&err);
	} else {
		if (v.json)
			put_json(&out, words.args[0], &f);
		else
			put_table(&out, &f);
		rc = cli_out_exit(&out);
	}
	buf_deinit(&out);
	opt_result_deinit(&words);
	return rc;
}
