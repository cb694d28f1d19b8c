/* Prometheus metrics (server/metrics.h). */
#include "server/metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

static const double first_token_bounds[] = { .001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5,
	7.5, 10, 20, 40, 80, 160, 640, 2560 };
static const double token_bounds[] = { .01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10,
	20, 40, 80 };
static const double request_bounds[] = { .3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240,
	480, 960, 1920, 7680 };
static const double length_bounds[] = { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000,
	50000, 100000 };
static const double n_bounds[] = { 1, 2, 5, 10, 20 };
static const double preemption_bounds[] = { 1, 2, 3, 4, 5, 10, 20 };
/* As the engine counts them. */
static const double step_bounds[] = { 1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384 };
_Static_assert(COUNT(step_bounds) == ENGINE_STEP_BUCKETS - 1, "buckets of steps");

struct family {
	const char *name, *help;
	size_t offset;
	const double *bounds;
	size_t n;
};

#define FAMILY(field, name, bounds, help)                                                          \
	{ name, help, offsetof(struct metrics, field), bounds, COUNT(bounds) }

static const struct family families[] = {
	FAMILY(ttft, "time_to_first_token_seconds", first_token_bounds, "Time to first token in seconds."),
	FAMILY(inter_token, "inter_token_latency_seconds", token_bounds, "Time between tokens in seconds."),
	FAMILY(per_output_token, "request_time_per_output_token_seconds", token_bounds,
		"Mean time per output token after the first, of each request."),
	FAMILY(e2e, "e2e_request_latency_seconds", request_bounds, "Time from arrival to the last token."),
	FAMILY(queue, "request_queue_time_seconds", request_bounds, "Time from arrival to the first step."),
	FAMILY(inference, "request_inference_time_seconds", request_bounds,
		"Time from the first step to the last token."),
	FAMILY(prefill, "request_prefill_time_seconds", request_bounds,
		"Time from the first step to the first token."),
	FAMILY(decode, "request_decode_time_seconds", request_bounds,
		"Time from the first to the last token."),
	FAMILY(prompt_tokens, "request_prompt_tokens", length_bounds, "Prompt tokens of each request."),
	FAMILY(generation_tokens, "request_generation_tokens", length_bounds,
		"Generated tokens of each request."),
	FAMILY(max_generation_tokens, "request_max_num_generation_tokens", length_bounds,
		"Generated tokens of the longest answer to each prompt."),
	FAMILY(prefill_tokens, "request_prefill_kv_computed_tokens", length_bounds,
		"Prompt tokens of each request that were not in the cache."),
	FAMILY(preemptions, "request_num_preemptions", preemption_bounds, "Preemptions of each request."),
	FAMILY(steps, "iteration_tokens_total", step_bounds, "Tokens of each step."),
	FAMILY(max_tokens, "request_params_max_tokens", length_bounds, "max_tokens of each request."),
	FAMILY(n, "request_params_n", n_bounds, "n of each request."),
};

static void observe(struct metrics *m, struct histogram *h, double v)
{
	const struct family *f = families;
	size_t i = 0;

	while ((const char *)m + f->offset != (const char *)h)
		f++;
	while (i < f->n && v > f->bounds[i])
		i++;
	h->counts[i == f->n ? METRICS_MAX_BOUNDS : i]++;
	h->sum += v;
	h->n++;
}

void metrics_token_gap(struct metrics *m, double seconds)
{
	observe(m, &m->inter_token, seconds);
}

void metrics_count_n(struct metrics *m, uint32_t n)
{
	observe(m, &m->n, n);
}

static const char *const reasons[METRICS_REASONS] = { "stop", "length", "abort", "error" };

static void observe_times(struct metrics *m, const struct engine_job_times *t, uint32_t n_generated)
{
	observe(m, &m->queue, t->scheduled - t->submitted);
	if (n_generated == 0)
		return;
	observe(m, &m->ttft, t->first_token - t->submitted);
	observe(m, &m->prefill, t->first_token - t->scheduled);
	observe(m, &m->decode, t->last_token - t->first_token);
	observe(m, &m->inference, t->last_token - t->scheduled);
	observe(m, &m->e2e, t->last_token - t->submitted);
	if (n_generated > 1)
		observe(m, &m->per_output_token, (t->last_token - t->first_token) / (n_generated - 1));
}

void metrics_longest(struct metrics *m, uint32_t n_generated)
{
	observe(m, &m->max_generation_tokens, n_generated);
}

void metrics_job(struct metrics *m, const struct engine_job *job, uint32_t n_prompt, uint32_t max_tokens,
	const char *reason)
{
	struct engine_job_times t = engine_job_get_times(job);
	uint32_t n_generated = engine_job_tokens(job);

	for (int i = 0; i < METRICS_REASONS; i++)
		m->success[i] += strcmp(reason, reasons[i]) == 0;
	observe(m, &m->prompt_tokens, n_prompt);
	observe(m, &m->generation_tokens, n_generated);
	observe(m, &m->max_tokens, max_tokens);
	observe(m, &m->preemptions, engine_job_preemptions(job));
	if (n_generated)
		observe(m, &m->prefill_tokens, n_prompt - engine_job_cached(job));
	if (t.scheduled > 0)
		observe_times(m, &t, n_generated);
}

/* NULL: there is no place. */
static struct metrics_http_row *http_row(struct metrics *m, const struct metrics_answered *a)
{
	struct metrics_http_row *row;

	for (uint32_t i = 0; i < m->n_http; i++) {
		row = &m->http[i];
		if (strcmp(row->route, a->route) == 0 && strcmp(row->method, a->method) == 0 &&
			row->status == a->status)
			return row;
	}
	if (m->n_http == METRICS_MAX_HTTP)
		return NULL;
	row = &m->http[m->n_http++];
	*row = (struct metrics_http_row){ .route = a->route, .method = a->method, .status = a->status };
	return row;
}

void metrics_http(struct metrics *m, const struct metrics_answered *a)
{
	struct metrics_http_row *row = http_row(m, a);

	if (!row)
		return;
	row->n++;
	row->seconds += a->seconds;
	row->request_bytes += a->request_bytes;
	row->response_bytes += a->response_bytes;
}

/* Label values: backslash, quote and newline are escaped. */
static void put_label(struct buf *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '\\' || *s == '"')
			buf_putc(out, '\\');
		if (*s == '\n')
			buf_puts(out, "\\n");
		else
			buf_putc(out, *s);
	}
}

static void put_help(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP vllm:%s %s\n# TYPE vllm:%s %s\n", name, help, name, type);
}

static void put_value(struct buf *out, const char *name, const char *type, const char *help, const char *labels,
	double v)
{
	put_help(out, name, type, help);
	buf_printf(out, "vllm:%s{%s} %.15g\n", name, labels, v);
}

static void put_histogram(struct buf *out, const struct metrics *m, const struct family *f, const char *labels)
{
	const struct histogram *h = (const void *)((const char *)m + f->offset);
	uint64_t sum = 0;

	put_help(out, f->name, "histogram", f->help);
	for (size_t i = 0; i < f->n; i++) {
		sum += h->counts[i];
		buf_printf(out, "vllm:%s_bucket{%s,le=\"%g\"} %llu\n", f->name, labels, f->bounds[i],
			(unsigned long long)sum);
	}
	buf_printf(out, "vllm:%s_bucket{%s,le=\"+Inf\"} %llu\nvllm:%s_sum{%s} %.9g\nvllm:%s_count{%s} %llu\n", f->name,
		labels, (unsigned long long)h->n, f->name, labels, h->sum, f->name, labels,
		(unsigned long long)h->n);
}

static void put_engine(struct buf *out, const struct engine_stats *s, const char *labels)
{
	double used = s->blocks ? (double)(s->blocks - s->blocks_free) / (double)s->blocks : 0;

	put_value(out, "num_requests_running", "gauge", "Requests in the batch.", labels, (double)s->running);
	put_value(out, "num_requests_waiting", "gauge", "Requests that wait.", labels, (double)s->waiting);
	put_value(out, "kv_cache_usage_perc", "gauge", "Part of the cache in use, 0 to 1.", labels, used);
	put_value(out, "prefix_cache_queries_total", "counter", "Prompt tokens looked up in the prefix cache.",
		labels, (double)s->prefix_query_tokens);
	put_value(out, "prefix_cache_hits_total", "counter", "Prompt tokens found there.", labels,
		(double)s->prefix_hit_tokens);
	put_value(out, "num_preemptions_total", "counter", "Requests put back into the queue.", labels,
		(double)s->preemptions);
	put_value(out, "prompt_tokens_total", "counter", "Prompt tokens, computed and found in the cache.", labels,
		(double)(s->prompt_tokens + s->prefix_hit_tokens));
	put_value(out, "prompt_tokens_cached_total", "counter", "Prompt tokens found in the cache.", labels,
		(double)s->prefix_hit_tokens);
	put_help(out, "prompt_tokens_by_source_total", "counter", "Prompt tokens, by where they came from.");
	buf_printf(out, "vllm:prompt_tokens_by_source_total{%s,source=\"local_compute\"} %llu\n"
		"vllm:prompt_tokens_by_source_total{%s,source=\"local_cache_hit\"} %llu\n", labels,
		(unsigned long long)s->prompt_tokens, labels, (unsigned long long)s->prefix_hit_tokens);
	put_value(out, "generation_tokens_total", "counter", "Tokens generated.", labels,
		(double)s->generated_tokens);
}

/* A summary: sum and count of each row. */
static void put_http_sum(struct buf *out, const struct metrics_http_row *r, const char *name, double sum)
{
	buf_printf(out, "%s_sum{handler=\"%s\",method=\"%s\",code=\"%u\"} %.15g\n"
		"%s_count{handler=\"%s\",method=\"%s\",code=\"%u\"} %llu\n", name, r->route, r->method, r->status,
		sum, name, r->route, r->method, r->status, (unsigned long long)r->n);
}

static void put_http_help(struct buf *out, const char *name, const char *help)
{
	buf_printf(out, "# HELP %s %s\n# TYPE %s summary\n", name, help, name);
}

static void put_http(struct buf *out, const struct metrics *m)
{
	buf_puts(out, "# HELP http_requests_total Requests answered.\n# TYPE http_requests_total counter\n");
	for (uint32_t i = 0; i < m->n_http; i++)
		buf_printf(out, "http_requests_total{handler=\"%s\",method=\"%s\",status=\"%uxx\",code=\"%u\"} %llu\n",
			m->http[i].route, m->http[i].method, m->http[i].status / 100, m->http[i].status,
			(unsigned long long)m->http[i].n);
	put_http_help(out, "http_request_duration_seconds", "Time to the end of the answer.");
	for (uint32_t i = 0; i < m->n_http; i++)
		put_http_sum(out, &m->http[i], "http_request_duration_seconds", m->http[i].seconds);
	put_http_help(out, "http_request_size_bytes", "Bytes of request bodies.");
	for (uint32_t i = 0; i < m->n_http; i++)
		put_http_sum(out, &m->http[i], "http_request_size_bytes", (double)m->http[i].request_bytes);
	put_http_help(out, "http_response_size_bytes", "Bytes of answers, without their headers.");
	for (uint32_t i = 0; i < m->n_http; i++)
		put_http_sum(out, &m->http[i], "http_response_size_bytes", (double)m->http[i].response_bytes);
}

static void take_steps(struct metrics *m, const struct engine_stats *stats)
{
	m->steps.n = 0;
	for (int i = 0; i < ENGINE_STEP_BUCKETS; i++) {
		m->steps.counts[i == ENGINE_STEP_BUCKETS - 1 ? METRICS_MAX_BOUNDS : i] = stats->step_sizes[i];
		m->steps.n += stats->step_sizes[i];
	}
	m->steps.sum = (double)stats->step_tokens;
}

void metrics_put(struct buf *out, struct metrics *m, const struct engine_stats *stats, const char *model_name,
	uint32_t block_tokens, bool prefix_cache)
{
	struct buf labels = { 0 };

	buf_puts(&labels, "engine=\"0\",model_name=\"");
	put_label(&labels, model_name);
	buf_putc(&labels, '"');
	take_steps(m, stats);
	put_engine(out, stats, labels.data);
	put_help(out, "request_success_total", "counter", "Requests that ended, by reason.");
	for (int i = 0; i < METRICS_REASONS; i++)
		buf_printf(out, "vllm:request_success_total{%s,finished_reason=\"%s\"} %llu\n", labels.data,
			reasons[i], (unsigned long long)m->success[i]);
	for (size_t i = 0; i < COUNT(families); i++)
		put_histogram(out, m, &families[i], labels.data);
	put_help(out, "cache_config_info", "gauge", "The cache.");
	buf_printf(out, "vllm:cache_config_info{%s,block_size=\"%u\",num_gpu_blocks=\"%llu\","
		"enable_prefix_caching=\"%s\"} 1\n", labels.data, block_tokens, (unsigned long long)stats->blocks,
		prefix_cache ? "True" : "False");
	buf_printf(out, "# HELP fathom:heap_bytes Bytes of the heap in use, weights and cache aside, when no long body was read.\n"
		"# TYPE fathom:heap_bytes gauge\nfathom:heap_bytes %zu\n", m->heap_bytes);
	put_http(out, m);
	buf_deinit(&labels);
}
