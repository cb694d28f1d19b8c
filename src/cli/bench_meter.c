/* Repetitions beside their limits (cli/bench_meter.h). */
#include "cli/bench_meter.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"

#define NEAR_HIGHEST 0.9
#define READ_TRIES 8

static double larger(double a, double b)
{
	return a > b ? a : b;
}

static struct bench_rates larger_rates(struct bench_rates a, struct bench_rates b)
{
	return (struct bench_rates){
		.bytes = larger(a.bytes, b.bytes),
		.bf16_flops = larger(a.bf16_flops, b.bf16_flops),
		.int8_ops = larger(a.int8_ops, b.int8_ops),
	};
}

/* The host of a virtual machine may take pages away that lie idle for seconds, as the probe's do while a prompt is
 * computed: then it is their return that is measured, and the next probe finds others. */
static double read_rate(const struct bench_meter *m)
{
	double rate = kernel_probe_read_bytes_per_s(m->probe);

	for (int i = 1; i < READ_TRIES && rate < m->highest.bytes / 2; i++)
		rate = larger(rate, kernel_probe_read_bytes_per_s(m->probe));
	return rate;
}

void bench_meter_probe(struct bench_meter *m)
{
	m->last = (struct bench_rates){
		.bf16_flops = kernel_probe_bf16_flops(m->kn),
		.int8_ops = kernel_probe_int8_ops(m->kn),
		.bytes = read_rate(m),
	};
	m->highest = larger_rates(m->highest, m->last);
}

void bench_meter_begin(const struct bench_meter *m, struct bench_sample *s)
{
	s->limit = m->last;
	s->seconds = clock_s();
}

void bench_meter_end(struct bench_meter *m, struct bench_sample *s)
{
	s->seconds = clock_s() - s->seconds;
	bench_meter_probe(m);
	s->limit = larger_rates(s->limit, m->last);
}

double bench_limit_seconds(const struct bench_work *w, const struct bench_rates *limit, bool *by_bytes)
{
	double read = w->bytes / limit->bytes;
	double compute = w->bf16_flops / limit->bf16_flops + w->int8_ops / limit->int8_ops;

	if (by_bytes)
		*by_bytes = read >= compute;
	return larger(read, compute);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, uint32_t n)
{
	qsort(v, n, sizeof(*v), by_value);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* The median of the double at byte `offset` of each sample. */
static double median_of(const struct bench_sample *samples, uint32_t n, size_t offset, double *room)
{
	for (uint32_t i = 0; i < n; i++)
		room[i] = *(const double *)(const void *)((const char *)&samples[i] + offset);
	return median(room, n);
}

static double share_of(const struct bench_sample *s, bool *by_bytes)
{
	return bench_limit_seconds(&s->work, &s->limit, by_bytes) / s->seconds;
}

/* What the row's shares say, once it is known which limit is the row's. */
static void put_shares(struct bench_figures *out, const struct bench_sample *samples, uint32_t n, double *room)
{
	uint32_t near = 0;

	for (uint32_t i = 0; i < n; i++) {
		/* Of the kinds of arithmetic, the one with more work decides. */
		bool ints = out->work.int8_ops > out->work.bf16_flops;
		const struct bench_rates *l = &samples[i].limit, *h = &out->highest;
		double rate = out->by_bytes ? l->bytes : ints ? l->int8_ops : l->bf16_flops;
		double highest = out->by_bytes ? h->bytes : ints ? h->int8_ops : h->bf16_flops;

		if (rate >= NEAR_HIGHEST * highest)
			room[near++] = share_of(&samples[i], NULL);
	}
	out->share_at_highest = median(room, near);
	for (uint32_t i = 0; i < n; i++)
		room[i] = share_of(&samples[i], NULL);
	out->share = median(room, n);
	out->share_lowest = room[0];
}

void bench_figures_of(struct bench_figures *out, const struct bench_sample *samples, uint32_t n)
{
	double *room = mem_alloc(sizeof(*room) * n);
	struct bench_figures f = { .seconds = median_of(samples, n, offsetof(struct bench_sample, seconds), room) };
	uint32_t bytes = 0;

	f.limit.bytes = median_of(samples, n, offsetof(struct bench_sample, limit.bytes), room);
	f.limit.bf16_flops = median_of(samples, n, offsetof(struct bench_sample, limit.bf16_flops), room);
	f.limit.int8_ops = median_of(samples, n, offsetof(struct bench_sample, limit.int8_ops), room);
	for (uint32_t i = 0; i < n; i++) {
		bool by_bytes;

		share_of(&samples[i], &by_bytes);
		bytes += by_bytes;
		f.work.bytes += samples[i].work.bytes / n;
		f.work.bf16_flops += samples[i].work.bf16_flops / n;
		f.work.int8_ops += samples[i].work.int8_ops / n;
		f.highest = larger_rates(f.highest, samples[i].limit);
	}
	f.by_bytes = 2 * bytes >= n;
	put_shares(&f, samples, n, room);
	free(room);
	*out = f;
}

static double flops_of(const struct bench_work *w)
{
	return w->bf16_flops + w->int8_ops;
}

/* The arithmetic limit of a mix: its operations over the time that they take at their rates. */
static double flops_limit(const struct bench_work *w, const struct bench_rates *r)
{
	struct bench_work arithmetic = { .bf16_flops = w->bf16_flops, .int8_ops = w->int8_ops };

	return flops_of(w) / bench_limit_seconds(&arithmetic, r, NULL);
}

void bench_figures_put_head(struct buf *out)
{
	buf_printf(out, "%9s %10s %17s %9s %8s %22s", "GB", "GFLOP", "limit", "of limit", "lowest", "at the highest");
}

void bench_figures_put(struct buf *out, const struct bench_figures *f)
{
	double limit = f->by_bytes ? f->limit.bytes : flops_limit(&f->work, &f->limit);
	double highest = f->by_bytes ? f->highest.bytes : flops_limit(&f->work, &f->highest);

	buf_printf(out, "%9.4f %10.3f %9.1f %-7s %7.1f %% %6.1f %% %6.1f %% at %9.1f", f->work.bytes * 1e-9,
		flops_of(&f->work) * 1e-9, limit * 1e-9, f->by_bytes ? "GB/s" : "GFLOP/s", 100 * f->share,
		100 * f->share_lowest, 100 * f->share_at_highest, highest * 1e-9);
}

void bench_meter_put(struct buf *out, const struct bench_meter *m)
{
	buf_printf(out, "highest seen: %.1f GB/s, %.1f GFLOP/s of BF16, %.1f Gop/s of 8-bit integers\n",
		m->highest.bytes * 1e-9, m->highest.bf16_flops * 1e-9, m->highest.int8_ops * 1e-9);
}

json_t *bench_rates_json(const struct bench_rates *r)
{
	return json_pack("{s:f, s:f, s:f}", "bytes_per_s", r->bytes, "bf16_flops_per_s", r->bf16_flops,
		"int8_ops_per_s", r->int8_ops);
}

void bench_figures_json(
	json_t *to, const struct bench_figures *f, const struct bench_sample *samples, uint32_t n)
{
	json_t *all = json_array();

	for (uint32_t i = 0; i < n; i++)
		json_array_append_new(all, json_pack("{s:f, s:f, s:o}", "seconds", samples[i].seconds, "fraction",
						   share_of(&samples[i], NULL), "limit",
						   bench_rates_json(&samples[i].limit)));
	json_object_update_new(to, json_pack("{s:f, s:f, s:f, s:f, s:f, s:s, s:f, s:f, s:f, s:o, s:o, s:o}", "seconds",
		f->seconds, "bytes", f->work.bytes, "bf16_flops", f->work.bf16_flops, "int8_ops",
		f->work.int8_ops, "flops", flops_of(&f->work), "limited_by",
		f->by_bytes ? "bandwidth" : "arithmetic", "fraction", f->share, "fraction_lowest",
		f->share_lowest, "fraction_at_highest", f->share_at_highest, "limit", bench_rates_json(&f->limit),
		"highest", bench_rates_json(&f->highest), "repetitions", all));
}
