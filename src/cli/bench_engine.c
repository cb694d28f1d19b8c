/*
 * fathom bench latency and bench throughput: the engine without a server, fed with random prompts, as vLLM's
 * commands of these names do; of a checkpoint, or of random weights of a named shape. Both print the part of
 * the steps' time that is not the model's.
 */
#include <errno.h>
#include <math.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/available.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/random.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/jsonl.h"
#include "cli/machine.h"
#include "cli/shape.h"
#include "engine/engine.h"
#include "load/load_summary.h"
#include "text/grammar.h"

#define MAX_RANDOM_ID 10000u /* as vLLM's latency benchmark; lower ids are common tokens */

struct values {
	struct machine_values machine; /* first */
	struct shape_values shape;
	int64_t input_len;
	int64_t output_len;
	int64_t batch_size;
	int64_t num_prompts;
	int64_t warmup;
	int64_t iters;
	int64_t max_num_seqs;
	const char *output_json;
	const char *json_schema;
	const char *tokenizer;
};

#define COMMON_ROWS                                                                                \
	SHAPE_ROWS(offsetof(struct values, shape), "in place of MODEL"),                           \
	{ .name = "input-len", .type = OPT_SIZE, .value = "N", .min = 1, .max = 1 << 24,           \
		.offset = offsetof(struct values, input_len),                                      \
		.help = "Tokens of each prompt (default 32; throughput 1024)." },                  \
	{ .name = "output-len", .type = OPT_SIZE, .value = "N", .min = 1, .max = 1 << 24,          \
		.offset = offsetof(struct values, output_len),                                     \
		.help = "Tokens of each answer (default 128)." },                                  \
	{ .name = "output-json", .type = OPT_STRING, .value = "FILE",                              \
		.offset = offsetof(struct values, output_json),                                    \
		.help = "Write the figures to FILE, with vLLM's keys." }

static const struct opt latency_opts[] = {
	COMMON_ROWS,
	{ .name = "batch-size", .type = OPT_INT, .value = "N", .min = 1, .max = 4096,
		.offset = offsetof(struct values, batch_size),
		.help = "Requests that begin together (default 8)." },
	{ .name = "num-iters-warmup", .type = OPT_INT, .value = "N", .min = 0, .max = 10000,
		.offset = offsetof(struct values, warmup), .help = "Batches before measuring (default 10)." },
	{ .name = "num-iters", .type = OPT_INT, .value = "N", .min = 1, .max = 10000,
		.offset = offsetof(struct values, iters), .help = "Batches measured (default 30)." },
	{ 0 },
};

static const struct opt throughput_opts[] = {
	COMMON_ROWS,
	{ .name = "num-prompts", .type = OPT_INT, .value = "N", .min = 1, .max = 1 << 20,
		.offset = offsetof(struct values, num_prompts),
		.help = "Requests, all submitted at the start (default 1000)." },
	{ .name = "max-num-seqs", .type = OPT_INT, .value = "N", .min = 1, .max = 4096,
		.offset = offsetof(struct values, max_num_seqs),
		.help = "Sequences computed at a time (default 256)." },
	{ .name = "json-schema", .type = OPT_STRING, .value = "FILE", .offset = offsetof(struct values, json_schema),
		.help = "JSON schema that every answer follows; what it costs is the difference to a run without." },
	{ .name = "tokenizer", .type = OPT_STRING, .value = "DIR", .offset = offsetof(struct values, tokenizer),
		.help = "With --json-schema: directory of the tokenizer (default MODEL; --shape needs one)." },
	{ 0 },
};

static const struct opt_list common[] = { { "model and machine", machine_opts }, { 0 } };

const struct opt_table bench_latency_table = {
	.command = "bench latency",
	.arguments = "[MODEL]",
	.summary = "Time of one batch of requests, without a server",
	.details = "MODEL is a checkpoint directory; --shape needs none. The prefix cache is off; answers do not end\n"
		   "early.\n",
	.max_args = 1,
	.opts = latency_opts,
	.common = common,
};

const struct opt_table bench_throughput_table = {
	.command = "bench throughput",
	.arguments = "[MODEL]",
	.summary = "Requests and tokens per second of the engine, without a server",
	.details = "MODEL is a checkpoint directory; --shape needs none. The prefix cache is off; answers do not end\n"
		   "early.\n",
	.max_args = 1,
	.opts = throughput_opts,
	.common = common,
};

struct bench_engine {
	struct engine *e;
	sem_t news;
	struct engine_job **jobs; /* owned [room] */
	int32_t *prompt;          /* owned [input_len] */
	uint64_t drawn;           /* random ids so far */
	struct engine_stats before;
	struct tokenizer *tok;
	struct grammar_vocab *vocab;
	struct grammar *grammar; /* of every answer; or NULL */
};

static void wake(void *arg)
{
	sem_post(arg);
}

static enum status open_engine(struct bench_engine *b, const char *dir, const struct values *v, uint32_t seqs,
	struct error *err)
{
	struct engine_options o = engine_options_default();
	struct model_config c;

	TRY(machine_runtime_options(&o.runtime, &v->machine, err));
	o.runtime.cache_may_shrink = true;
	o.runtime.max_seqs = seqs;
	if (o.runtime.max_batch_tokens < seqs)
		o.runtime.max_batch_tokens = seqs;
	if (!o.runtime.max_context_tokens) {
		o.runtime.max_context_tokens = (uint32_t)(v->input_len + v->output_len);
		o.runtime.max_context_name = "--input-len plus --output-len";
	}
	if (v->input_len + v->output_len > (int64_t)o.runtime.max_context_tokens)
		return error_set(err, E_INVAL, "--max-model-len %u: --input-len and --output-len need %lld",
			o.runtime.max_context_tokens, (long long)(v->input_len + v->output_len));
	o.prefix_cache = false;
	o.max_jobs = seqs > v->num_prompts ? seqs : (uint32_t)v->num_prompts;
	o.wake = wake;
	o.wake_arg = &b->news;
	if (dir)
		return engine_create(&b->e, dir, &o, err);
	TRY(shape_config(&c, &v->shape, err));
	o.random = &c;
	o.random_format = shape_format(&v->shape);
	o.random_seed = (uint64_t)v->shape.seed;
	if (!o.runtime.memory_limit_bytes)
		o.runtime.memory_limit_bytes = available_memory_bytes() / 16 * 15;
	while (engine_create(&b->e, NULL, &o, err) != OK) {
		if (err->code != E_NOMEM || !shape_halve_experts(&c, &v->shape))
			return err->code;
	}
	shape_report_experts(&c, &v->shape);
	return OK;
}

/* The grammar of --json-schema. */
static enum status open_grammar(struct bench_engine *b, const char *dir, const struct values *v, struct error *err)
{
	const struct grammar_json_options options = { 0 };
	json_t *schema;
	enum status st;
	int32_t eos;

	if (!v->json_schema)
		return OK;
	TRY(tokenizer_open(&b->tok, v->tokenizer ? v->tokenizer : dir, err));
	eos = tokenizer_config_of(b->tok)->eos_id;
	TRY(grammar_vocab_create(&b->vocab, b->tok, engine_config(b->e)->vocab_size, &eos, 1, err));
	TRY(json_load_path(&schema, v->json_schema, GRAMMAR_MAX_SOURCE_BYTES, err));
	st = grammar_from_schema(&b->grammar, b->vocab, schema, &options, err);
	json_decref(schema);
	return st == OK ? OK : error_prefix(err, "--json-schema %.120s", v->json_schema);
}

static enum status submit(struct bench_engine *b, const struct values *v, uint32_t i, struct error *err)
{
	uint32_t vocab = engine_config(b->e)->vocab_size, ids = vocab < MAX_RANDOM_ID ? vocab : MAX_RANDOM_ID;
	struct engine_request r = {
		.prompt = b->prompt,
		.n_prompt = (uint32_t)v->input_len,
		.max_tokens = (uint32_t)v->output_len,
		.sampling = { .temperature = 1, .top_p = 1, .seed = i },
		.rules = logits_rules_none(),
		.n_logprobs = -1,
		.n_prompt_logprobs = -1,
		.constraint = b->grammar ? grammar_matcher_create(b->grammar) : NULL,
		.constraint_after = -1,
	};
	enum status st;

	for (uint32_t t = 0; t < r.n_prompt; t++)
		b->prompt[t] = (int32_t)(random_u64((uint64_t)v->shape.seed, b->drawn++) % ids);
	st = engine_job_create(&b->jobs[i], &r, err);
	if (st != OK) {
		constraint_destroy(r.constraint);
		return st;
	}
	return engine_submit(b->e, b->jobs[i], err);
}

/* n requests at once, until all have ended. */
static enum status batch(struct bench_engine *b, const struct values *v, uint32_t n, struct progress *bar,
	struct error *err)
{
	uint32_t submitted = 0, ended = 0;
	struct engine_job *job;
	enum status st = OK;

	while (submitted < n && st == OK) {
		st = submit(b, v, submitted, err);
		submitted += st == OK;
	}
	while (ended < submitted) {
		while (sem_wait(&b->news) != 0 && errno == EINTR)
			;
		while ((job = engine_next(b->e))) {
			if (engine_job_finish(job) == ENGINE_RUNNING)
				continue;
			if (engine_job_finish(job) == ENGINE_ERROR && st == OK) {
				*err = *engine_job_error(job);
				st = err->code;
			}
			ended++;
			if (bar)
				progress_update(bar, ended);
		}
	}
	for (uint32_t i = 0; i < n; i++) {
		engine_job_destroy(b->jobs[i]);
		b->jobs[i] = NULL;
	}
	return st;
}

/* Steps since b->before: how many, how long, and the part outside the forward pass. */
static void steps_since(const struct bench_engine *b, uint64_t *steps, double *seconds, double *outside)
{
	struct engine_stats now = engine_get_stats(b->e);
	double step = (double)(now.step_ns - b->before.step_ns);
	double forward = (double)(now.forward_ns - b->before.forward_ns);

	*steps = now.steps - b->before.steps;
	*seconds = *steps ? step * 1e-9 / (double)*steps : 0;
	*outside = step > 0 ? 1 - forward / step : 0;
}

static void put_steps(struct buf *out, json_t *figures, const struct bench_engine *b)
{
	double seconds, outside;
	uint64_t steps;

	steps_since(b, &steps, &seconds, &outside);
	buf_printf(out, "Steps: %llu of %.3f ms, %.2f %% of it outside the model\n", (unsigned long long)steps,
		seconds * 1e3, 100 * outside);
	json_object_set_new(figures, "steps", json_integer((json_int_t)steps));
	json_object_set_new(figures, "step_seconds", json_real(seconds));
	json_object_set_new(figures, "share_outside_model", json_real(outside));
}

static enum status write_json(const char *path, json_t *figures, struct error *err)
{
	struct buf text = { 0 };
	bool ok = false;
	FILE *f;

	json_put_pretty(&text, json_incref(figures));
	f = fopen(path, "we");
	if (f) {
		ok = fwrite(text.data, 1, text.len, f) == text.len;
		ok = fclose(f) == 0 && ok;
	}
	buf_deinit(&text);
	return ok ? OK : error_set(err, E_IO, "--output-json %.120s: %s", path, strerror(errno));
}

/* Prints, writes the file if one was named, and frees the figures. */
static enum status deliver(struct buf *out, json_t *figures, const struct values *v, struct error *err)
{
	enum status st = cli_out(out, err);

	if (st == OK && v->output_json)
		st = write_json(v->output_json, figures, err);
	json_decref(figures);
	buf_deinit(out);
	return st;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static enum status report_latency(const struct bench_engine *b, double *seconds, const struct values *v,
	struct error *err)
{
	static const int points[] = { 10, 25, 50, 75, 90, 99 };
	json_t *figures = json_object(), *all = json_array(), *percentiles = json_object();
	uint32_t n = (uint32_t)v->iters;
	double sum = 0, squares = 0;
	struct buf out = { 0 };
	char key[8];

	for (uint32_t i = 0; i < n; i++) {
		sum += seconds[i];
		json_array_append_new(all, json_real(seconds[i]));
	}
	for (uint32_t i = 0; i < n; i++)
		squares += (seconds[i] - sum / n) * (seconds[i] - sum / n);
	qsort(seconds, n, sizeof(*seconds), by_value);
	buf_printf(&out, "Avg latency: %.6f seconds\nStd latency: %.6f seconds\n", sum / n, sqrt(squares / n));
	for (size_t i = 0; i < sizeof(points) / sizeof(*points); i++) {
		double p = load_percentile(seconds, n, points[i]);

		snprintf(key, sizeof(key), "%d", points[i]);
		buf_printf(&out, "%d%% percentile latency: %.6f seconds\n", points[i], p);
		json_object_set_new(percentiles, key, json_real(p));
	}
	json_object_set_new(figures, "avg_latency", json_real(sum / n));
	json_object_set_new(figures, "std_latency", json_real(sqrt(squares / n)));
	json_object_set_new(figures, "latencies", all);
	json_object_set_new(figures, "percentiles", percentiles);
	put_steps(&out, figures, b);
	return deliver(&out, figures, v, err);
}

static enum status latency(struct bench_engine *b, const struct values *v, struct error *err)
{
	uint32_t n = (uint32_t)v->batch_size, total = (uint32_t)(v->warmup + v->iters);
	double *seconds = mem_alloc(sizeof(*seconds) * (size_t)v->iters);
	struct progress bar;
	enum status st = OK;

	progress_begin(&bar, "latency", total, PROGRESS_COUNT, v->machine.progress);
	for (uint32_t i = 0; i < total; i++) {
		double begin = clock_s();

		if (i == v->warmup)
			b->before = engine_get_stats(b->e);
		TRY_GOTO(out, batch(b, v, n, NULL, err));
		if (i >= v->warmup)
			seconds[i - v->warmup] = clock_s() - begin;
		progress_update(&bar, i + 1);
	}
	progress_end(&bar);
	st = report_latency(b, seconds, v, err);
out:
	progress_end(&bar);
	free(seconds);
	return st;
}

static enum status throughput(struct bench_engine *b, const struct values *v, struct error *err)
{
	uint32_t n = (uint32_t)v->num_prompts;
	double prompts = (double)n * (double)v->input_len, answers = (double)n * (double)v->output_len;
	json_t *figures = json_object();
	struct buf out = { 0 };
	struct progress bar;
	double begin, s;
	enum status st;

	b->before = engine_get_stats(b->e);
	progress_begin(&bar, "throughput", n, PROGRESS_COUNT, v->machine.progress);
	begin = clock_s();
	st = batch(b, v, n, &bar, err);
	s = clock_s() - begin;
	progress_end(&bar);
	if (st != OK) {
		json_decref(figures);
		return st;
	}
	buf_printf(&out, "Throughput: %.2f requests/s, %.2f total tokens/s, %.2f output tokens/s\n", n / s,
		(prompts + answers) / s, answers / s);
	buf_printf(&out, "Total num prompt tokens:  %.0f\nTotal num output tokens:  %.0f\n", prompts, answers);
	json_object_set_new(figures, "elapsed_time", json_real(s));
	json_object_set_new(figures, "num_requests", json_integer(n));
	json_object_set_new(figures, "total_num_tokens", json_integer((json_int_t)(prompts + answers)));
	json_object_set_new(figures, "requests_per_second", json_real(n / s));
	json_object_set_new(figures, "tokens_per_second", json_real((prompts + answers) / s));
	put_steps(&out, figures, b);
	return deliver(&out, figures, v, err);
}

static enum status run(const struct values *v, const char *dir, bool is_latency, struct error *err)
{
	uint32_t seqs = (uint32_t)(is_latency ? v->batch_size : v->max_num_seqs);
	uint32_t room = (uint32_t)(is_latency ? v->batch_size : v->num_prompts);
	struct bench_engine b = { 0 };
	enum status st;

	sem_init(&b.news, 0, 0);
	b.jobs = mem_alloc(sizeof(*b.jobs) * room);
	memset(b.jobs, 0, sizeof(*b.jobs) * room);
	b.prompt = mem_alloc(sizeof(*b.prompt) * (size_t)v->input_len);
	TRY_GOTO(out, open_engine(&b, dir, v, seqs, err));
	TRY_GOTO(out, open_grammar(&b, dir, v, err));
	st = is_latency ? latency(&b, v, err) : throughput(&b, v, err);
out:
	engine_destroy(b.e);
	grammar_unref(b.grammar);
	grammar_vocab_destroy(b.vocab);
	tokenizer_close(b.tok);
	free(b.prompt);
	free(b.jobs);
	sem_destroy(&b.news);
	return st;
}

static int command(const struct opt_table *table, bool is_latency, int argc, char **argv)
{
	struct values v = {
		.machine = machine_defaults(),
		.shape = shape_defaults(),
		.input_len = is_latency ? 32 : 1024,
		.output_len = 128,
		.batch_size = 8,
		.num_prompts = is_latency ? 0 : 1000,
		.warmup = 10,
		.iters = 30,
		.max_num_seqs = 256,
	};
	struct opt_result words;
	struct error err;
	int rc = cli_parse(&words, table, argc, argv, &v);

	if (rc >= 0)
		return rc;
	if ((words.n_args == 1) == (v.shape.shape != NULL)) {
		error_set(&err, E_INVAL, "%s: expected %s", table->command,
			words.n_args ? "MODEL or --shape, not both" : "MODEL, or --shape for random weights");
		rc = cli_usage_error(&err);
	} else if (v.tokenizer ? !v.json_schema : v.json_schema && v.shape.shape) {
		error_set(&err, E_INVAL, v.tokenizer ? "--tokenizer is for --json-schema alone" :
			"--json-schema: --shape has no tokenizer; name one with --tokenizer DIR");
		rc = cli_usage_error(&err);
	} else {
		rc = run(&v, words.n_args ? words.args[0] : NULL, is_latency, &err) == OK ? CLI_OK : cli_fail(&err);
	}
	opt_result_deinit(&words);
	return rc;
}

int cmd_bench_latency(int argc, char **argv)
{
	return command(&bench_latency_table, true, argc, argv);
}

int cmd_bench_throughput(int argc, char **argv)
{
	return command(&bench_throughput_table, false, argc, argv);
}
