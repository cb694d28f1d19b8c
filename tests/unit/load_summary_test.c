/* Figures of runs: percentiles as numpy's, throughput, goodput, peaks; speculation counters; the drawing. */
#include "cm.h"

#include <math.h>
#include <string.h>

#include "load/draft_stats.h"
#include "load/load_plot.h"
#include "load/load_summary.h"

#define NEAR(a, b) assert_true(fabs((a) - (b)) < 1e-9)

static const struct load_slo none = { NAN, NAN, NAN };

static void test_percentiles(void **state)
{
	static const double v[] = { 1, 2, 4, 8, 16 }; /* numpy.percentile(v, p) */

	NEAR(load_percentile(v, 5, 0), 1);
	NEAR(load_percentile(v, 5, 25), 2);
	NEAR(load_percentile(v, 5, 50), 4);
	NEAR(load_percentile(v, 5, 90), 12.8);
	NEAR(load_percentile(v, 5, 99), 15.68);
	NEAR(load_percentile(v, 5, 100), 16);
	NEAR(load_percentile(v, 4, 50), 3);
	NEAR(load_percentile(v, 1, 99), 1);
	NEAR(load_percentile(v, 0, 99), 0);
}

/* Three answers and a failure. */
static void make(struct load_record r[4], double gaps[3])
{
	gaps[0] = 0.1;
	gaps[1] = 0.3;
	gaps[2] = 1.0;
	r[0] = (struct load_record){ .ok = true, .start_s = 50, .ttft_s = 0.2, .latency_s = 0.6, .gap_s = gaps, .n_gaps = 2,
		.prompt_tokens = 10, .output_tokens = 5 };
	r[1] = (struct load_record){ .ok = true, .start_s = 50.5, .ttft_s = 0.4, .latency_s = 1.4, .gap_s = gaps + 2,
		.n_gaps = 1, .prompt_tokens = 20, .output_tokens = 2 };
	r[2] = (struct load_record){ .ok = true, .start_s = 52.5, .ttft_s = 0.9, .latency_s = 0.9, .prompt_tokens = 30,
		.output_tokens = 1 };
	r[3] = (struct load_record){ .start_s = 40, .ttft_s = 99, .latency_s = 99, .prompt_tokens = 1000 };
}

static void test_figures(void **state)
{
	struct load_record r[4];
	struct load_summary s;
	double gaps[3];

	make(r, gaps);
	load_summary_make(&s, r, 4, 4, &none);
	assert_int_equal(s.completed, 3);
	assert_int_equal(s.failed, 1);
	assert_int_equal(s.input_tokens, 60);
	assert_int_equal(s.output_tokens, 8);
	NEAR(s.request_throughput, 0.75);
	NEAR(s.output_throughput, 2);
	NEAR(s.total_throughput, 17);
	NEAR(s.goodput, 0.75);
	NEAR(s.of[LOAD_TTFT].mean_ms, 500);
	NEAR(s.of[LOAD_TTFT].median_ms, 400);
	NEAR(s.of[LOAD_TTFT].std_ms, sqrt(260000.0 / 3)); /* of the population */
	/* Answers of one token have no time per token. */
	assert_int_equal(s.of[LOAD_TPOT].n, 2);
	NEAR(s.of[LOAD_TPOT].mean_ms, (100 + 1000) / 2.0);
	assert_int_equal(s.of[LOAD_ITL].n, 3);
	NEAR(s.of[LOAD_ITL].median_ms, 300);
	NEAR(s.of[LOAD_E2EL].mean_ms, 2900 / 3.0);
	/* Second 0: chunks at 50.2, 50.3, 50.6, 50.9. */
	NEAR(s.peak_output_tokens, 4);
	assert_int_equal(s.peak_requests, 2);
	load_summary_deinit(&s);
}

static double goodput(const struct load_slo *slo)
{
	struct load_record r[4];
	struct load_summary s;
	double gaps[3], out;

	make(r, gaps);
	load_summary_make(&s, r, 4, 1, slo);
	out = s.goodput;
	load_summary_deinit(&s);
	return out;
}

static void test_goodput(void **state)
{
	NEAR(goodput(&(struct load_slo){ 400.001, NAN, NAN }), 2);
	NEAR(goodput(&(struct load_slo){ NAN, 500, NAN }), 2); /* one token: 0 */
	NEAR(goodput(&(struct load_slo){ 500, 500, NAN }), 1);
	NEAR(goodput(&(struct load_slo){ NAN, NAN, 500 }), 0);
}

static void test_nothing(void **state)
{
	struct load_summary s;

	load_summary_make(&s, &(struct load_record){ 0 }, 1, 0, &none);
	assert_int_equal(s.failed, 1);
	NEAR(s.request_throughput, 0);
	NEAR(s.of[LOAD_TTFT].mean_ms, 0);
	load_summary_deinit(&s);
}

static void test_drafts(void **state)
{
	static const char before[] = "# TYPE vllm:spec_decode_num_drafts_total counter\n"
		"vllm:spec_decode_num_drafts_total{engine=\"0\",model_name=\"a b}\"} 10\n"
		"vllm:spec_decode_num_draft_tokens_total 20\nvllm:spec_decode_num_accepted_tokens_total 5\n";
	static const char after[] = "vllm:spec_decode_num_drafts_total{engine=\"0\"} 12\n"
		"vllm:spec_decode_num_drafts_total{engine=\"1\"} 2\nvllm:spec_decode_num_draft_tokens_total 28\n"
		"vllm:spec_decode_num_accepted_tokens_total 11.0\nvllm:spec_decode_num_drafts_created 1e9\n"
		"vllm:spec_decode_num_accepted_tokens_per_pos_total{position=\"0\"} 4\n"
		"vllm:spec_decode_num_accepted_tokens_per_pos_total{position=\"1\"} 2\n"
		"vllm:spec_decode_num_accepted_tokens_per_pos_total{position=\"99\"} 2\n"
		"vllm:spec_decode_num_accepted_tokens_per_pos_total{position=\"-1\"} 2\n"
		"vllm:spec_decode_num_draft_tokens_total{ 7";
	struct draft_stats a, b;

	assert_true(draft_stats_read(&a, before, strlen(before)));
	assert_true(draft_stats_read(&b, after, strlen(after)));
	assert_true(draft_stats_since(&b, &a));
	NEAR(b.drafts, 4);
	NEAR(draft_stats_rate(&b), 75);
	NEAR(draft_stats_length(&b), 2.5);
	assert_int_equal(b.n_positions, 2);
	NEAR(draft_stats_at(&b, 0), 1);
	NEAR(draft_stats_at(&b, 1), 0.5);
	assert_false(draft_stats_read(&a, "other 1\n", 8));
	assert_true(draft_stats_read(&a, before, strlen(before)));
	b = a;
	assert_false(draft_stats_since(&b, &a));
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)); text++)
		n++;
	return n;
}

static void test_plot(void **state)
{
	const struct load_plot_point points[] = { { .load = 100, .median_ms = { 5, 1 }, .high_ms = { 9, 2 } },
		{ .load = 1, .median_ms = { 2, 1 }, .high_ms = { 3, 2 } } };
	struct load_plot p = { .title = "a<b&c", .load_name = "x", .high = 99, .shown = { true, true }, .points = points,
		.n = 2 };
	struct buf svg = { 0 };

	load_plot_put_svg(&svg, &p);
	assert_int_equal(count(svg.data, "<circle"), 8);
	assert_int_equal(count(svg.data, "<polyline"), 4);
	assert_int_equal(count(svg.data, "a&lt;b&amp;c"), 1);
	assert_int_equal(count(svg.data, "(log)"), 2);
	assert_int_equal(count(svg.data, "nan") + count(svg.data, "inf"), 0);
	buf_reset(&svg);
	p.n = 1; /* one point, and zeros */
	p.points = &(struct load_plot_point){ .load = 0 };
	load_plot_put_svg(&svg, &p);
	assert_int_equal(count(svg.data, "nan") + count(svg.data, "inf"), 0);
	buf_deinit(&svg);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_percentiles),
		cmocka_unit_test(test_figures),
		cmocka_unit_test(test_goodput),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_drafts),
		cmocka_unit_test(test_plot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
