/* Datasets: exact lengths, seeds, files and what is refused in them. */
#include "cm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load/dataset.h"

static struct load_tokens *tokens;

static int open_tokens(void **state)
{
	struct error err;

	return load_tokens_open_dir(&tokens, TEST_DATA "/deepseek-v3.1", &err);
}

static int close_tokens(void **state)
{
	load_tokens_close(tokens);
	return 0;
}

static uint32_t count(const struct load_prompt *p)
{
	struct token_buf ids = { 0 };
	struct error err;
	uint32_t n;

	assert_int_equal(load_tokens_encode(tokens, p->text, p->len, &ids, &err), OK);
	n = (uint32_t)ids.len + load_tokens_added(tokens);
	token_buf_deinit(&ids);
	return n;
}

static struct load_dataset make(const struct load_dataset_config *c)
{
	struct load_dataset d;
	struct error err;

	if (load_dataset_make(&d, c, &err) != OK)
		fail_msg("%s", err.msg);
	return d;
}

static void test_random(void **state)
{
	struct load_dataset_config c = { .name = "random", .n = 200, .seed = 5, .tokens = tokens, .input_tokens = 100,
		.output_tokens = 10, .input_ratio = 0.3, .prefix_tokens = 7 };
	struct load_dataset a = make(&c), b = make(&c), other;
	uint32_t low = UINT32_MAX, high = 0;

	c.seed = 6;
	other = make(&c);
	assert_int_equal(a.n, 200);
	for (uint32_t i = 0; i < a.n; i++) {
		uint32_t n = a.prompts[i].prompt_tokens;

		assert_int_equal(count(&a.prompts[i]), n);
		assert_int_equal(a.prompts[i].output_tokens, 10);
		assert_string_equal(a.prompts[i].text, b.prompts[i].text);
		low = n < low ? n : low;
		high = n > high ? n : high;
	}
	/* The prefix comes on top of 70 to 130. */
	assert_true(low >= 77 && low < 90 && high <= 137 && high > 124);
	assert_string_not_equal(a.prompts[0].text, other.prompts[0].text);
	load_dataset_deinit(&a);
	load_dataset_deinit(&b);
	load_dataset_deinit(&other);
}

static void test_random_fixed(void **state)
{
	static const uint32_t lengths[] = { 0, 1, 2, 3, 1024 };

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct load_dataset d = make(&(struct load_dataset_config){ .name = "random", .n = 20, .tokens = tokens,
			.input_tokens = lengths[i], .output_tokens = 1 });

		for (uint32_t k = 0; k < d.n; k++) {
			assert_int_equal(count(&d.prompts[k]), d.prompts[k].prompt_tokens);
			/* A prompt has at least one token behind the BOS. */
			assert_int_equal(d.prompts[k].prompt_tokens, lengths[i] < 2 ? 2 : lengths[i]);
		}
		load_dataset_deinit(&d);
	}
}

static void test_prefix_repetition(void **state)
{
	struct load_dataset_config c = { .name = "prefix_repetition", .n = 10, .tokens = tokens, .prefix_tokens = 20,
		.suffix_tokens = 5, .prefixes = 3, .output_tokens = 4 };
	struct load_dataset d = make(&c);
	struct error err;

	assert_int_equal(d.n, 9);
	for (uint32_t i = 0; i < d.n; i++)
		assert_int_equal(count(&d.prompts[i]), 25 + load_tokens_added(tokens));
	load_dataset_deinit(&d);
	c.n = 2;
	assert_int_equal(load_dataset_make(&d, &c, &err), E_INVAL);
}

static const char *write_file(const char *text)
{
	static char path[64];
	FILE *f;
	int fd;

	strcpy(path, "/tmp/load_dataset_XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	f = fdopen(fd, "w");
	fputs(text, f);
	fclose(f);
	return path;
}

static void test_custom(void **state)
{
	struct load_dataset_config c = { .name = "custom", .n = 5, .tokens = tokens, .output_tokens = 7, .in_order = true };
	struct load_dataset d;

	c.path = write_file("{\"prompt\":\"one\"}\n\n  \r\n{\"prompt\":\"two\",\"output_tokens\":3,\"more\":[]}");
	d = make(&c);
	assert_int_equal(d.n, 5); /* repeated */
	assert_string_equal(d.prompts[0].text, "one");
	assert_string_equal(d.prompts[1].text, "two");
	assert_int_equal(d.prompts[1].output_tokens, 7);
	assert_int_equal(count(&d.prompts[0]), d.prompts[0].prompt_tokens);
	load_dataset_deinit(&d);
	c.n = 1;
	d = make(&c);
	assert_int_equal(d.n, 1);
	load_dataset_deinit(&d);
	unlink(c.path);
}

/* The message names file and place, and says what was found. */
static void check_refused(const char *name, const char *text, const char *place, const char *says)
{
	struct load_dataset_config c = { .name = name, .n = 5, .tokens = tokens, .path = write_file(text) };
	struct load_dataset d;
	struct error err;

	assert_int_not_equal(load_dataset_make(&d, &c, &err), OK);
	if (!strstr(err.msg, c.path) || !strstr(err.msg, place) || !strstr(err.msg, says))
		fail_msg("%s", err.msg);
	unlink(c.path);
}

static void test_refused(void **state)
{
	struct load_dataset_config c = { .name = "custom", .n = 1, .path = "/nowhere/x" };
	struct load_dataset d;
	struct error err;

	check_refused("custom", "{\"prompt\":\"a\",\"output_tokens\":1}\n{\"prompt\":\n", "line 2", "not valid JSON");
	check_refused("custom", "\n[]\n", "line 2", "found array");
	check_refused("custom", "{\"prompt\":1}", "line 1", "prompt: found integer");
	check_refused("custom", "{\"text\":\"a\"}", "line 1", "prompt: found nothing");
	check_refused("custom", "{\"prompt\":\"\"}", "line 1", "empty");
	check_refused("custom", "{\"prompt\":\"a\"}", "line 1", "output_tokens");
	check_refused("custom", "{\"prompt\":\"a\",\"output_tokens\":0}", "line 1", "output_tokens: found 0");
	check_refused("custom", "{\"prompt\":\"a\",\"output_tokens\":1e3}", "line 1", "output_tokens: found number");
	check_refused("custom", "{\"prompt\":\"a\xff\",\"output_tokens\":1}", "line 1", "not valid JSON");
	check_refused("custom", "\n\n", "", "no prompt");
	check_refused("sharegpt", "{}", "", "expected an array");
	check_refused("sharegpt", "[{\"conversations\":[]},{\"conversation\":[]}]", "entry 1", "conversations: found nothing");
	check_refused("sharegpt", "[3]", "entry 0", "conversations");
	check_refused("sharegpt", "[{\"conversations\":[{\"value\":\"a\"},{\"value\":null}]}]", "entry 0",
		"conversations[1].value: found null");
	check_refused("sharegpt", "[{\"conversations\":[{\"value\":\"a\"},{\"value\":\"b\"}]}]", "", "no prompt");
	assert_int_equal(load_dataset_make(&d, &c, &err), E_IO);
	assert_non_null(strstr(err.msg, "/nowhere/x"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_random_fixed),
		cmocka_unit_test(test_prefix_repetition),
		cmocka_unit_test(test_custom),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, open_tokens, close_tokens);
}
