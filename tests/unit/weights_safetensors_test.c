/* Safetensors: what a header may say, what it may not, and sets of shards. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cm.h"
#include "weights/safetensors.h"

static char dir[64];

static int make_dir(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/fathom-st-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

static char *in_dir(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void write_bytes(const char *name, const void *data, size_t n)
{
	FILE *f = fopen(in_dir(name), "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, n, f), n);
	fclose(f);
}

/* A file with this header and `data` bytes of data 0, 1, 2, ... */
static void write_file(const char *name, const char *header, size_t data)
{
	size_t len = strlen(header);
	uint8_t *all = calloc(1, 8 + len + data);

	for (int i = 0; i < 8; i++)
		all[i] = (uint8_t)((uint64_t)len >> 8 * i);
	memcpy(all + 8, header, len);
	for (size_t i = 0; i < data; i++)
		all[8 + len + i] = (uint8_t)i;
	write_bytes(name, all, 8 + len + data);
	free(all);
}

static void refused(const char *name, const char *says)
{
	struct safetensors *s;
	struct error err;

	if (safetensors_open_file(&s, in_dir(name), &err) == OK)
		fail_msg("accepted; expected '%s'", says);
	if (!strstr(err.msg, says) || !strstr(err.msg, dir))
		fail_msg("message '%s'; expected '%s' and the path", err.msg, says);
}

#define ENTRY(name, dtype, shape, from, to)                                                        \
	"\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to \
	"]}"

static void test_good(void **state)
{
	struct safetensors *s;
	const struct st_tensor *t;
	struct error err;
	uint64_t shape[2] = {2, 3};
	uint16_t two[2];
	void *all;

	write_file("good", "{\"__metadata__\":{\"format\":\"pt\"}," ENTRY("b", "F32", "[]", 12, 16) ","
		ENTRY("a", "BF16", "[2,3]", 0, 12) "," ENTRY("empty", "F8_E4M3", "[0,7]", 16, 16) "}  ", 16);
	assert_int_equal(safetensors_open_file(&s, in_dir("good"), &err), OK);
	assert_int_equal(safetensors_count(s), 3);
	t = safetensors_find(s, "a");
	assert_non_null(t);
	assert_int_equal(t->bytes, 12);
	assert_int_equal(safetensors_read(s, t, two, 4, 4, &err), OK);
	assert_int_equal(two[0], 0x0504);
	assert_null(safetensors_find(s, "c"));
	assert_int_equal(safetensors_find(s, "b")->rank, 0);
	assert_int_equal(safetensors_load(&all, &t, s, "a", DT_BF16, 2, shape, &err), OK);
	assert_int_equal(((uint8_t *)all)[11], 11);
	free(all);
	shape[1] = 4;
	assert_int_equal(safetensors_load(&all, &t, s, "a", DT_BF16, 2, shape, &err), E_FORMAT);
	assert_non_null(strstr(err.msg, "dimension 1 is 3, expected 4"));
	assert_int_equal(safetensors_load(&all, &t, s, "a", DT_F32, 2, NULL, &err), E_FORMAT);
	assert_int_equal(safetensors_load(&all, &t, s, "none", DT_F32, 2, NULL, &err), E_FORMAT);
	safetensors_close(s);
}

static void test_lengths(void **state)
{
	static const uint8_t huge[16] = {0, 0, 0, 0, 0, 0, 0, 0x80};
	static const uint8_t over[16] = {9, 0, 0, 0, 0, 0, 0, 0, '{', '}'};

	write_bytes("short", "abc", 3);
	refused("short", "3 bytes, a safetensors file has at least 8");
	write_bytes("huge", huge, 16);
	refused("huge", "header of 9223372036854775808 bytes");
	write_bytes("over", over, 16);
	refused("over", "header of 9:");
	write_bytes("empty", "", 0);
	refused("empty", "0 bytes");
	refused("absent", "No such file");
	refused(".", "");
}

static const struct {
	const char *header, *says;
	size_t data;
} bad[] = {
	{"[]", "header is array, expected an object", 0},
	{"{", "", 0},
	{"{\"a\":1}", "tensor a", 0},
	{"{" ENTRY("a", "F32", "[1]", 0, 4) "," ENTRY("a", "F32", "[1]", 4, 8) "}", "", 8},
	{"{" ENTRY("a", "Q4_0", "[1]", 0, 4) "}", "dtype Q4_0 is unknown", 4},
	{"{" ENTRY("a", "F32", "[-1]", 0, 4) "}", "shape[0] is not a size", 4},
	{"{" ENTRY("a", "F32", "[1.5]", 0, 4) "}", "shape[0] is not a size", 4},
	{"{" ENTRY("a", "F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", "9 dimensions", 4},
	{"{" ENTRY("a", "F32", "[4294967296,4294967296]", 0, 4) "}", "overflows", 4},
	{"{" ENTRY("a", "F32", "[2]", 0, 4) "}", "4 bytes, its shape and dtype need 8", 4},
	{"{" ENTRY("a", "F32", "[1]", 4, 0) "}", "data_offsets 4 to 0", 4},
	{"{" ENTRY("a", "F32", "[2]", 0, 8) "}", "data_offsets 0 to 8, the file has 4 bytes", 4},
	{"{" ENTRY("a", "F32", "[1]", 0, 4) "}", "its tensors end", 8},
	{"{" ENTRY("a", "F32", "[1]", 4, 8) "}", "tensor a begins", 8},
	{"{" ENTRY("a", "F32", "[2]", 0, 8) "," ENTRY("b", "F32", "[2]", 4, 12) "}", "inside the one", 12},
	{"{" ENTRY("a", "F32", "[1]", 0, 4) "," ENTRY("b", "F32", "[1]", 8, 12) "}", "expected byte", 12},
	{"{" ENTRY("a", "F32", "[1]", 0, 9223372036854775807) "}", "data_offsets", 4},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", "data_offsets has 1", 4},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,\"4\"]}}", "data_offsets[1]", 4},
	{"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", "dtype", 4},
};

static void test_bad_headers(void **state)
{
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		write_file("bad", bad[i].header, bad[i].data);
		refused("bad", bad[i].says);
	}
}

static void test_deep_header(void **state)
{
	size_t n = 1 << 20;
	char *text = malloc(n + 1);

	memset(text, '[', n);
	text[n] = 0;
	write_file("deep", text, 0);
	refused("deep", "deep");
	free(text);
}

static void refused_dir(const char *index, const char *says)
{
	struct safetensors *s;
	struct error err;

	if (index)
		write_bytes("model.safetensors.index.json", index, strlen(index));
	if (safetensors_open_dir(&s, dir, &err) == OK)
		fail_msg("accepted; expected '%s'", says);
	if (!strstr(err.msg, says))
		fail_msg("message '%s'; expected '%s'", err.msg, says);
}

static void test_shards(void **state)
{
	static const char index[] =
		"{\"metadata\":{},\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}";
	struct safetensors *s;
	struct error err;

	refused_dir(NULL, "no .safetensors file");
	write_file("1.safetensors", "{" ENTRY("a", "F32", "[1]", 0, 4) "}", 4);
	write_file("2.safetensors", "{" ENTRY("b", "F32", "[1]", 0, 4) "}", 4);
	write_file("golden.safetensors", "{" ENTRY("a", "F32", "[1]", 0, 4) "}", 4);
	write_file("routes.safetensors", "{" ENTRY("a", "F32", "[1]", 0, 4) "}", 4);
	refused_dir(NULL, "2 .safetensors files and no .safetensors.index.json");
	write_bytes("model.safetensors.index.json", index, strlen(index));
	assert_int_equal(safetensors_open_dir(&s, dir, &err), OK);
	assert_int_equal(safetensors_count(s), 2);
	assert_non_null(strstr(safetensors_path(s, safetensors_find(s, "b")), "/2.safetensors"));
	safetensors_close(s);

	refused_dir("{\"weight_map\":{\"a\":\"1.safetensors\",\"c\":\"2.safetensors\"}}",
		"tensor c is not in 2.safetensors");
	refused_dir("{\"weight_map\":{\"a\":\"2.safetensors\",\"b\":\"1.safetensors\"}}", "expected");
	refused_dir("{\"weight_map\":{\"a\":\"3.safetensors\"}}", "3.safetensors: No such file");
	refused_dir("{\"weight_map\":{\"a\":\"../1.safetensors\"}}", "is not a file name");
	refused_dir("{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "is not a file name");
	refused_dir("{\"weight_map\":{\"a\":1}}", "weight_map of a is integer");
	refused_dir("{\"weight_map\":[]}", "weight_map");
	refused_dir("{\"weight_map\":{}}", "weight_map is empty");
	refused_dir("{\"weight_map\":{\"a\":\".\"}}", "not a regular file");
	refused_dir("{\"weight_map\":{\"a\":\"..\"}}", "is not a file name");
	refused_dir("{\"weight_map\":{\"a\":\"\"}}", "is not a file name");
	assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
	refused_dir("{\"weight_map\":{\"a\":\"fifo\"}}", "not a regular file");
	refused_dir("[]", "expected an object");
	write_file("2.safetensors", "{" ENTRY("a", "F32", "[1]", 0, 4) "}", 4);
	refused_dir("{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}",
		"tensor a is in");
}

/* Of several indices the usual name decides, or none is taken. */
static void test_which_index(void **state)
{
	static const char one[] = "{\"weight_map\":{\"a\":\"1.safetensors\"}}";
	static const char two[] = "{\"weight_map\":{\"b\":\"2.safetensors\"}}";
	struct safetensors *s;
	struct error err;

	write_file("1.safetensors", "{" ENTRY("a", "F32", "[1]", 0, 4) "}", 4);
	write_file("2.safetensors", "{" ENTRY("b", "F32", "[1]", 0, 4) "}", 4);
	write_bytes("quant_model_weight_w8a8_dynamic.safetensors.index.json", one, strlen(one));
	assert_int_equal(safetensors_open_dir(&s, dir, &err), OK);
	assert_non_null(safetensors_find(s, "a"));
	safetensors_close(s);
	write_bytes("model.fp16.safetensors.index.json", two, strlen(two));
	refused_dir(NULL, "2 .safetensors.index.json files");
	write_bytes("model.safetensors.index.json", two, strlen(two));
	assert_int_equal(safetensors_open_dir(&s, dir, &err), OK);
	assert_non_null(safetensors_find(s, "b"));
	safetensors_close(s);
}

/* As many tensors as V3.1 has, in one header: found by name, all of them. */
static void test_many(void **state)
{
	const uint32_t n = 92000;
	struct safetensors *s;
	struct error err;
	size_t at = 0, cap = (size_t)n * 96;
	char *text = malloc(cap), name[32];

	for (uint32_t i = 0; i < n; i++)
		at += (size_t)snprintf(text + at, cap - at,
			"%c\"t%u\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[%u,%u]}", i ? ',' : '{',
			i, 2 * i, 2 * i + 2);
	snprintf(text + at, cap - at, "}");
	write_file("many", text, 2 * n);
	free(text);
	assert_int_equal(safetensors_open_file(&s, in_dir("many"), &err), OK);
	assert_int_equal(safetensors_count(s), n);
	for (uint32_t i = 0; i < n; i++) {
		uint8_t two[2];

		snprintf(name, sizeof(name), "t%u", i);
		assert_int_equal(
			safetensors_read(s, safetensors_find(s, name), two, 0, 2, &err), OK);
		assert_int_equal(two[1], (uint8_t)(2 * i + 1));
	}
	safetensors_close(s);
}

/* A file that shrinks after it was opened. */
static void test_shrunk(void **state)
{
	struct safetensors *s;
	struct error err;
	uint8_t four[4];

	write_file("shrunk", "{" ENTRY("a", "F32", "[1]", 0, 4) "}", 4);
	assert_int_equal(safetensors_open_file(&s, in_dir("shrunk"), &err), OK);
	assert_int_equal(truncate(in_dir("shrunk"), (off_t)safetensors_find(s, "a")->offset + 1), 0);
	assert_int_equal(
		safetensors_read(s, safetensors_find(s, "a"), four, 0, 4, &err), E_IO);
	assert_non_null(strstr(err.msg, "shrunk: the file ends at byte"));
	safetensors_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_good, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_lengths, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_bad_headers, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_deep_header, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_shards, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_which_index, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_many, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_shrunk, make_dir, remove_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
