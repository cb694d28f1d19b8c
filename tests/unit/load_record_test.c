/* Accounting of streams: which events count, what the times become, how failures are told. */
#include "cm.h"

#include <math.h>
#include <string.h>

#include "load/load_record.h"

static void feed(struct load_record *r, enum load_backend b, const char *data, double now)
{
	load_record_event(r, b, data, strlen(data), now);
}

static void end(struct load_record *r, unsigned http, const char *answer)
{
	load_record_end(r, http, answer, strlen(answer), OK, &(struct error){ 0 });
}

#define NEAR(a, b) assert_true(fabs((a) - (b)) < 1e-9)

static void test_completion(void **state)
{
	struct load_record r = { 0 };

	load_record_begin(&r, 100);
	feed(&r, LOAD_COMPLETIONS, "{\"choices\":[{\"text\":\"\"}],\"usage\":null}", 100.5); /* empty text counts */
	feed(&r, LOAD_COMPLETIONS, "{\"choices\":[{\"text\":\"a b\"}]}", 100.75);
	feed(&r, LOAD_COMPLETIONS, "{\"choices\":[{\"text\":\" c\"}]}", 101.75);
	/* Neither usage nor the end move the latency. */
	feed(&r, LOAD_COMPLETIONS, "{\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":5}}", 105);
	feed(&r, LOAD_COMPLETIONS, "[DONE]", 106);
	end(&r, 200, "");
	assert_true(r.ok);
	NEAR(r.ttft_s, 0.5);
	NEAR(r.latency_s, 1.75);
	assert_int_equal(r.n_gaps, 2);
	NEAR(r.gap_s[0], 0.25);
	NEAR(r.gap_s[1], 1);
	assert_int_equal(r.output_tokens, 5);
	assert_int_equal(r.prompt_tokens, 9);
	assert_string_equal(r.text.data, "a b c");
	load_record_deinit(&r);
}

static void test_chat(void **state)
{
	struct load_record r = { .prompt_tokens = 4 };

	load_record_begin(&r, 0);
	feed(&r, LOAD_CHAT, "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}", 1);
	feed(&r, LOAD_CHAT, "{\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}", 2);
	feed(&r, LOAD_CHAT, "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}", 3);
	feed(&r, LOAD_CHAT, "{\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":0}}", 4);
	end(&r, 200, "");
	assert_true(r.ok && r.has_usage);
	NEAR(r.latency_s, 3);
	assert_string_equal(r.text.data, "hi");
	assert_int_equal(r.prompt_tokens, 4); /* the dataset knows better */
	load_record_deinit(&r);
}

static void check_failure(const char *event, unsigned http, const char *answer, const char *says)
{
	struct load_record r = { 0 };

	load_record_begin(&r, 0);
	if (event)
		feed(&r, LOAD_COMPLETIONS, event, 1);
	end(&r, http, answer);
	assert_false(r.ok);
	assert_non_null(strstr(r.error, says));
	load_record_deinit(&r);
}

static void test_failures(void **state)
{
	struct load_record r = { 0 };
	struct error err;

	check_failure(NULL, 200, "", "no choices");
	check_failure(NULL, 200, "{\"choices\":[]}", "not a stream");
	check_failure("{\"choices\":[]}", 200, "", "no choices");
	check_failure("{\"choices\":[{\"text\":\"a\"}]", 200, "", "not valid JSON");
	check_failure("{\"error\":{\"message\":\"boom\"}}", 200, "", "boom");
	check_failure("{\"error\":\"plain\"}", 200, "", "plain");
	check_failure("{\"choices\":[{}],\"usage\":{\"completion_tokens\":-1}}", 200, "", "completion_tokens");
	check_failure("{\"choices\":[{}],\"usage\":{\"completion_tokens\":99999999999}}", 200, "", "completion_tokens");
	check_failure(NULL, 429, "{\"error\":{\"message\":\"slow down\"}}", "HTTP 429: slow down");
	check_failure(NULL, 400, "{\"object\":\"error\",\"message\":\"bad\"}", "HTTP 400: bad");
	check_failure(NULL, 502, "<html>", "HTTP 502: <html>");
	check_failure(NULL, 500, "", "HTTP 500");
	/* A connection that breaks in the middle, whatever came before. */
	load_record_begin(&r, 0);
	feed(&r, LOAD_COMPLETIONS, "{\"choices\":[{\"text\":\"a\"}]}", 1);
	error_set(&err, E_PEER, "cut");
	load_record_end(&r, 200, "", 0, E_PEER, &err);
	assert_false(r.ok);
	assert_string_equal(r.error, "cut");
	load_record_deinit(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_completion),
		cmocka_unit_test(test_chat),
		cmocka_unit_test(test_failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
