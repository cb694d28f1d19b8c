/*
 * fathom bench serve: the client side of a benchmark. Finds model and tokenizer, makes the prompts, probes
 * the server with the first one, then runs the traffic once for every load and reports each run.
 */
#include "cli/bench_serve.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "load/load_plot.h"

#define MAX_POINTS (BENCH_SERVE_MAX_POINTS * BENCH_SERVE_MAX_POINTS)
#define READY_POLL_US 500000

struct bench_serve {
	const struct bench_serve_values *v;
	struct bench_serve_settings s;
	struct load_target target;
	struct load_tokens *tokens; /* NULL: neither a tokenizer nor routes for it */
	char *model;                /* owned */
	const char *tokenizer;      /* its name in results */
	struct load_dataset dataset;
	struct load_plot_point points[MAX_POINTS];
	uint32_t n_points;
	uint32_t completed;
	struct buf out;
};

/* True while the server may still come up: waits a moment. */
static bool wait_more(double until_s)
{
	if (clock_s() >= until_s)
		return false;
	usleep(READY_POLL_US);
	return true;
}

/* Any answer will do: which routes there are is not the question yet. */
static enum status wait_for_server(struct bench_serve *b, double until_s, struct error *err)
{
	struct buf answer = { 0 };
	unsigned http;
	enum status st;

	do {
		buf_reset(&answer);
		st = load_target_ask(&b->target, "GET", "/v1/models", NULL, 0, &http, &answer, err);
	} while (st != OK && wait_more(until_s));
	buf_deinit(&answer);
	return st;
}

/* The first entry of /v1/models. */
static enum status find_model(struct bench_serve *b, struct error *err)
{
	const char *id;
	json_t *v;
	enum status st;

	if (b->v->model) {
		b->model = mem_strdup(b->v->model);
		return OK;
	}
	st = load_target_json(&v, &b->target, "GET", "/v1/models", NULL, 0, err);
	if (st != OK)
		return error_prefix(err, "no --model, and");
	st = json_get_string(&id, json_array_get(json_object_get(v, "data"), 0), "/v1/models: data[0]", "id", err);
	if (st == OK)
		b->model = mem_strdup(id);
	json_decref(v);
	return st;
}

static const char *sent_model(const struct bench_serve *b)
{
	return b->v->served_model_name ? b->v->served_model_name : b->model;
}

static bool has_tokenizer(const char *dir)
{
	struct buf path = { 0 };
	bool has;

	buf_printf(&path, "%s/tokenizer.json", dir);
	has = access(path.data, R_OK) == 0;
	buf_deinit(&path);
	return has;
}

static enum status open_tokens(struct bench_serve *b, struct error *err)
{
	const char *dir = b->v->tokenizer ? b->v->tokenizer : has_tokenizer(b->model) ? b->model : NULL;
	bool custom = strcmp(b->v->dataset_name, "custom") == 0;
	enum status st;

	b->tokenizer = dir ? dir : b->model;
	if (dir)
		return load_tokens_open_dir(&b->tokens, dir, err);
	st = load_tokens_open_server(&b->tokens, &b->target, sent_model(b), err);
	if (st == OK)
		return OK;
	b->tokens = NULL;
	if (!custom)
		return error_prefix(err, "no --tokenizer, and");
	/* Prompts of a file can be sent without knowing their lengths. */
	log_warn("bench", "lengths of prompts come from the server's usage: %s", err->msg);
	return OK;
}

static struct load_traffic_config traffic(const struct bench_serve *b)
{
	return (struct load_traffic_config){
		.target = (struct load_target *)&b->target,
		.route = b->s.route,
		.shape = { .backend = b->s.backend, .model = sent_model(b), .ignore_eos = b->s.ignore_eos,
			.logprobs = (int)b->v->logprobs, .fields = b->s.fields },
		.prompts = b->dataset.prompts,
		.n = b->dataset.n,
		.arrival = b->s.arrival,
		.id_prefix = b->s.id_prefix,
		.tokens = b->tokens,
		.keep_text = b->v->save_detailed,
		.progress = b->v->progress && !b->v->disable_tqdm,
	};
}

static enum status probe(struct bench_serve *b, double until_s, struct error *err)
{
	struct load_traffic_config c = traffic(b);
	enum status st;

	do
		st = load_traffic_probe(&c, err);
	while (st != OK && wait_more(until_s));
	return st == OK ? OK : error_prefix(err, "first request: POST %s%s", b->s.url, b->s.route);
}

static enum status warm_up(struct bench_serve *b, uint32_t concurrency, struct error *err)
{
	struct load_traffic_config c = traffic(b);
	struct load_traffic t;

	if (!b->v->num_warmups)
		return OK;
	c.n = (uint32_t)b->v->num_warmups;
	c.same_prompt = true;
	c.arrival = (struct load_arrival){ .rate = INFINITY, .burstiness = 1 };
	c.max_concurrency = concurrency;
	TRY(load_traffic_run(&t, &c, err));
	load_traffic_deinit(&t);
	return OK;
}

/* false where the server has no such counters, or no /metrics. */
static bool read_drafts(struct bench_serve *b, struct draft_stats *out)
{
	struct buf text = { 0 };
	struct error err;
	unsigned http;
	bool any = false;

	if (load_target_ask(&b->target, "GET", "/metrics", NULL, 0, &http, &text, &err) == OK && http == 200)
		any = draft_stats_read(out, text.data ? text.data : "", text.len);
	buf_deinit(&text);
	return any;
}

static enum status profile(struct bench_serve *b, const char *route, struct error *err)
{
	struct buf text = { 0 };
	unsigned http = 0;
	enum status st = OK;

	if (b->v->profile)
		st = load_target_ask(&b->target, "POST", route, NULL, 0, &http, &text, err);
	if (st == OK && b->v->profile && http != 200)
		st = error_set(err, E_PEER, "--profile: POST %s: HTTP %u, expected 200", route, http);
	buf_deinit(&text);
	return st;
}

static enum status write_file(const char *path, const struct buf *text, bool append, struct error *err)
{
	FILE *f = fopen(path, append ? "ae" : "we");
	bool ok;

	if (!f)
		return error_set(err, E_IO, "%s: cannot open: %s", path, strerror(errno));
	ok = fwrite(text->data, 1, text->len, f) == text->len;
	ok = fclose(f) == 0 && ok;
	return ok ? OK : error_set(err, E_IO, "%s: write failed: %s", path, strerror(errno));
}

static enum status make_folder(const char *dir, struct error *err)
{
	char *path = mem_strdup(dir);
	enum status st = OK;

	for (char *p = path + 1; st == OK; p++) {
		char c = *p;

		if (c && c != '/')
			continue;
		*p = 0;
		if (mkdir(path, 0777) != 0 && errno != EEXIST)
			st = error_set(err, E_IO, "--result-dir %s: %s", dir, strerror(errno));
		*p = c;
		if (!c)
			break;
	}
	free(path);
	return st;
}

static enum status save(const struct bench_serve *b, const struct load_report *r, struct error *err)
{
	struct buf path = { 0 }, text = { 0 };
	char *json;
	json_t *v;
	enum status st = OK;

	if (!b->v->save_result && !b->v->save_detailed)
		return OK;
	if (b->v->result_dir && *b->v->result_dir) {
		TRY(make_folder(b->v->result_dir, err));
		buf_printf(&path, "%s/", b->v->result_dir);
	}
	if (b->v->result_filename)
		buf_puts(&path, b->v->result_filename);
	else
		load_report_put_file_name(&path, r);
	v = load_report_json(r, b->v->save_detailed);
	json = json_dumps(v, 0);
	BUG_ON(!json);
	buf_printf(&text, "%s\n", json);
	st = write_file(path.data, &text, b->v->append_result, err);
	free(json);
	json_decref(v);
	buf_deinit(&text);
	buf_deinit(&path);
	return st;
}

static void tell_failures(const struct load_traffic *t, const struct load_summary *s)
{
	for (uint32_t i = 0; s->failed && i < t->n; i++) {
		if (t->records[i].ok)
			continue;
		log_warn("bench", "failed %u of %u, the first: request %u: %s", s->failed, t->n, i, t->records[i].error);
		break;
	}
	if (t->guessed)
		log_warn("bench", "answers without usage %u, counted as a token for each chunk", t->guessed);
}

static void add_point(struct bench_serve *b, const struct load_report *r)
{
	struct load_plot_point *p = &b->points[b->n_points++];
	double high = 0;

	for (int i = 0; i < r->n_percentiles; i++)
		high = fmax(high, r->percentiles[i]);
	p->load = b->s.n_concurrency > 1 || (r->max_concurrency && isinf(r->arrival.rate)) ? r->max_concurrency :
		  isfinite(r->arrival.rate) ? r->arrival.rate : r->summary->request_throughput;
	p->output_throughput = r->summary->output_throughput;
	for (int m = 0; m < LOAD_METRICS; m++) {
		const struct load_series *s = &r->summary->of[m];

		p->median_ms[m] = s->median_ms;
		p->high_ms[m] = load_percentile(s->sorted_ms, s->n, high);
	}
}

static enum status report(struct bench_serve *b, const struct load_traffic_config *c, const struct load_traffic *t,
	const struct draft_stats *drafts, struct error *err)
{
	struct load_summary s;
	struct load_report r = { .backend = b->v->backend, .label = b->v->label, .model = b->model,
		.tokenizer = b->tokenizer, .metadata = b->s.metadata, .time = time(NULL), .num_prompts = c->n,
		.arrival = c->arrival, .max_concurrency = c->max_concurrency, .n_percentiles = b->s.n_percentiles,
		.has_slo = b->s.has_slo, .drafts = drafts, .traffic = t, .summary = &s };
	enum status st;

	memcpy(r.shown, b->s.shown, sizeof(r.shown));
	memcpy(r.percentiles, b->s.percentiles, sizeof(r.percentiles));
	load_summary_make(&s, t->records, t->n, t->duration_s, &b->s.slo);
	tell_failures(t, &s);
	b->completed += s.completed;
	if (b->v->json) {
		json_t *v = load_report_json(&r, b->v->save_detailed);
		char *text = json_dumps(v, 0);

		BUG_ON(!text);
		buf_printf(&b->out, "%s\n", text);
		free(text);
		json_decref(v);
	} else {
		load_report_put_table(&b->out, &r);
	}
	add_point(b, &r);
	st = cli_out(&b->out, err);
	if (st == OK)
		st = save(b, &r, err);
	load_summary_deinit(&s);
	return st;
}

static enum status run_point(struct bench_serve *b, double rate, uint32_t concurrency, struct error *err)
{
	struct load_traffic_config c = traffic(b);
	struct draft_stats before, after;
	struct load_traffic t;
	bool drafts;
	enum status st;

	c.arrival.rate = rate;
	c.max_concurrency = concurrency;
	TRY(warm_up(b, concurrency, err));
	drafts = read_drafts(b, &before);
	TRY(profile(b, "/start_profile", err));
	TRY(load_traffic_run(&t, &c, err));
	st = profile(b, "/stop_profile", err);
	drafts = drafts && read_drafts(b, &after) && draft_stats_since(&after, &before);
	if (st == OK)
		st = report(b, &c, &t, drafts ? &after : NULL, err);
	load_traffic_deinit(&t);
	return st;
}

static enum status draw(const struct bench_serve *b, struct error *err)
{
	struct load_plot p = { .title = b->model, .points = b->points, .n = b->n_points };
	struct buf svg = { 0 };
	enum status st;

	p.load_name = b->s.n_concurrency > 1 || (b->s.concurrency[0] && isinf(b->s.rates[0])) ? "concurrent requests" :
		      isfinite(b->s.rates[0]) ? "requests per second" : "requests per second, measured";
	for (int i = 0; i < b->s.n_percentiles; i++)
		p.high = fmax(p.high, b->s.percentiles[i]);
	memcpy(p.shown, b->s.shown, sizeof(p.shown));
	load_plot_put_svg(&svg, &p);
	st = write_file(b->v->plot, &svg, false, err);
	buf_deinit(&svg);
	return st;
}

static void warn_room(const struct bench_serve *b)
{
	uint32_t most = 0;

	for (int i = 0; i < b->s.n_concurrency; i++)
		most = b->s.concurrency[i] > most ? b->s.concurrency[i] : most;
	most = most && most < b->dataset.n ? most : b->dataset.n;
	if (most > load_target_room())
		log_warn("bench", "open files allow %u connections, %u may be needed (ulimit -n)", load_target_room(), most);
}

static enum status run(struct bench_serve *b, struct error *err)
{
	struct load_target_config target = { .url = b->s.url, .insecure = b->v->insecure, .headers = b->s.headers,
		.n_headers = b->s.n_headers };
	double until_s = clock_s() + (double)b->v->ready_s;

	TRY(load_target_open(&b->target, &target, err));
	if (b->v->ready_s)
		TRY(wait_for_server(b, until_s, err));
	TRY(find_model(b, err));
	TRY(open_tokens(b, err));
	b->s.dataset.tokens = b->tokens;
	TRY(load_dataset_make(&b->dataset, &b->s.dataset, err));
	warn_room(b);
	if (isnan(b->v->temperature))
		log_warn("bench", "no --temperature: the server's default holds");
	TRY(probe(b, until_s, err));
	for (int i = 0; i < b->s.n_rates; i++) {
		for (int k = 0; k < b->s.n_concurrency; k++)
			TRY(run_point(b, b->s.rates[i], b->s.concurrency[k], err));
	}
	if (b->v->plot)
		TRY(draw(b, err));
	return b->completed ? OK : error_set(err, E_PEER, "no request succeeded");
}

int cmd_bench_serve(int argc, char **argv)
{
	struct bench_serve_values v = bench_serve_preset;
	struct bench_serve *b;
	struct opt_result o;
	struct error err;
	int rc = cli_parse(&o, &bench_serve_table, argc, argv, &v);

	if (rc >= 0)
		return rc;
	b = mem_alloc(sizeof(*b));
	b->v = &v;
	if (bench_serve_settle(&b->s, &v, &err) != OK)
		rc = cli_usage_error(&err);
	else
		rc = run(b, &err) == OK ? CLI_OK : cli_fail(&err);
	load_dataset_deinit(&b->dataset);
	load_tokens_close(b->tokens);
	load_target_close(&b->target);
	bench_serve_settings_deinit(&b->s);
	buf_deinit(&b->out);
	free(b->model);
	free(b);
	opt_result_deinit(&o);
	return rc;
}
