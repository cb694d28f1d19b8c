/* Figures of a run (load/load_summary.h). */
#include "load/load_summary.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

#define MAX_SECONDS 10000000.0

const char *const load_metric_names[LOAD_METRICS] = { "ttft", "tpot", "itl", "e2el" };

double load_percentile(const double *sorted, size_t n, double p)
{
	double at, part;
	size_t i;

	if (!n)
		return 0;
	at = p / 100 * (double)(n - 1);
	i = (size_t)at;
	if (i >= n - 1)
		return sorted[n - 1];
	part = at - (double)i;
	return sorted[i] + (sorted[i + 1] - sorted[i]) * part;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void finish(struct load_series *s)
{
	double sum = 0, squares = 0;

	if (!s->n)
		return;
	qsort(s->sorted_ms, s->n, sizeof(*s->sorted_ms), by_value);
	for (size_t i = 0; i < s->n; i++)
		sum += s->sorted_ms[i];
	s->mean_ms = sum / (double)s->n;
	for (size_t i = 0; i < s->n; i++)
		squares += (s->sorted_ms[i] - s->mean_ms) * (s->sorted_ms[i] - s->mean_ms);
	s->std_ms = sqrt(squares / (double)s->n);
	s->median_ms = load_percentile(s->sorted_ms, s->n, 50);
}

/* 0 for an answer of one token. */
static double tpot_s(const struct load_record *r)
{
	return r->output_tokens > 1 ? (r->latency_s - r->ttft_s) / (double)(r->output_tokens - 1) : 0;
}

static void add_series(struct load_summary *s, const struct load_record *r)
{
	struct load_series *of = s->of;

	of[LOAD_TTFT].sorted_ms[of[LOAD_TTFT].n++] = r->ttft_s * 1e3;
	of[LOAD_E2EL].sorted_ms[of[LOAD_E2EL].n++] = r->latency_s * 1e3;
	if (r->output_tokens > 1)
		of[LOAD_TPOT].sorted_ms[of[LOAD_TPOT].n++] = tpot_s(r) * 1e3;
	for (size_t i = 0; i < r->n_gaps; i++)
		of[LOAD_ITL].sorted_ms[of[LOAD_ITL].n++] = r->gap_s[i] * 1e3;
}

static bool is_good(const struct load_record *r, const struct load_slo *slo)
{
	return !(r->ttft_s * 1e3 > slo->ttft_ms) && !(tpot_s(r) * 1e3 > slo->tpot_ms) &&
	       !(r->latency_s * 1e3 > slo->e2el_ms);
}

/* Chunks and open requests in whole seconds since the first start. */
static void find_peaks(struct load_summary *s, const struct load_record *records, uint32_t n)
{
	double begin = INFINITY, end = 0;
	uint32_t *chunks, *open;
	size_t seconds;

	for (uint32_t i = 0; i < n; i++) {
		if (records[i].ok) {
			begin = fmin(begin, records[i].start_s);
			end = fmax(end, records[i].start_s + records[i].latency_s);
		}
	}
	if (!s->completed || !(end - begin < MAX_SECONDS))
		return;
	seconds = (size_t)(end - begin) + 2;
	chunks = mem_alloc(seconds * sizeof(*chunks));
	open = mem_alloc(seconds * sizeof(*open));
	for (uint32_t i = 0; i < n; i++) {
		const struct load_record *r = &records[i];
		double at = r->start_s - begin, chunk = at + r->ttft_s;

		if (!r->ok)
			continue;
		for (size_t k = (size_t)at; k <= (size_t)(at + r->latency_s) && k < seconds; k++)
			open[k]++;
		for (size_t k = 0; k <= r->n_gaps; k++) {
			chunks[(size_t)chunk < seconds ? (size_t)chunk : seconds - 1]++;
			chunk += k < r->n_gaps ? r->gap_s[k] : 0;
		}
	}
	for (size_t k = 0; k < seconds; k++) {
		s->peak_output_tokens = fmax(s->peak_output_tokens, chunks[k]);
		s->peak_requests = open[k] > s->peak_requests ? open[k] : s->peak_requests;
	}
	free(chunks);
	free(open);
}

static double per_second(double count, double seconds)
{
	return seconds > 0 ? count / seconds : 0;
}

void load_summary_make(struct load_summary *out, const struct load_record *records, uint32_t n,
	double duration_s, const struct load_slo *slo)
{
	struct load_summary s = { .duration_s = duration_s };
	size_t gaps = 0;
	uint32_t good = 0;

	for (uint32_t i = 0; i < n; i++)
		gaps += records[i].n_gaps;
	for (int m = 0; m < LOAD_METRICS; m++)
		s.of[m].sorted_ms = mem_alloc(((m == LOAD_ITL ? gaps : n) + 1) * sizeof(double));
	for (uint32_t i = 0; i < n; i++) {
		const struct load_record *r = &records[i];

		if (!r->ok) {
			s.failed++;
			continue;
		}
		s.completed++;
		s.input_tokens += r->prompt_tokens;
		s.output_tokens += r->output_tokens;
		add_series(&s, r);
		good += is_good(r, slo);
	}
	for (int m = 0; m < LOAD_METRICS; m++)
		finish(&s.of[m]);
	find_peaks(&s, records, n);
	s.request_throughput = per_second(s.completed, duration_s);
	s.goodput = per_second(good, duration_s);
	s.output_throughput = per_second((double)s.output_tokens, duration_s);
	s.total_throughput = per_second((double)(s.input_tokens + s.output_tokens), duration_s);
	*out = s;
}

void load_summary_deinit(struct load_summary *s)
{
	for (int m = 0; m < LOAD_METRICS; m++)
		free(s->of[m].sorted_ms);
	*s = (struct load_summary){0};
}
