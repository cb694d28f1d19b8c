/*
 * The hand-written scanner against the PCRE2 chain, and the merges against their definition, on
 * random text that is rich in borders: classes meet, runs end at the end of text, pieces are cut by
 * digits and CJK. Then the shipped model's tokenizer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/random.h"
#include "cm.h"
#include "text/detok.h"
#include "text/tokenizer_int.h"
#include "text/unicode.h"

static struct tokenizer *deepseek, *demo;
static struct tokenizer_scratch *scratch;
static struct error err;

/* Patterns that join their letter with a code point of the same class. */
static const struct {
	const char *pattern;
	char letter;
	uint8_t classes;
} class_patterns[] = {{"[\\p{L}\\p{M}]+", 'a', UNI_L | UNI_M}, {"\\p{N}+", '1', UNI_N},
	{"[\\p{P}\\p{S}]+", '!', UNI_P | UNI_S}, {"\\s+", ' ', UNI_SPACE}};
static struct splitter class_splitters[4];
static struct split_scratch class_scratch;

static int setup(void **state)
{
	if (tokenizer_open(&deepseek, TEST_DATA "/deepseek-v3.1", &err) != OK ||
		tokenizer_open(&demo, TEST_DATA "/../../models/demo", &err) != OK) {
		fprintf(stderr, "%s\n", err.msg);
		return -1;
	}
	for (size_t i = 0; i < 4; i++) {
		const char *pattern = class_patterns[i].pattern;

		if (splitter_add(&class_splitters[i], pattern, strlen(pattern), "test", &err) != OK)
			return -1;
	}
	scratch = tokenizer_scratch_create();
	return 0;
}

static int teardown(void **state)
{
	for (size_t i = 0; i < 4; i++)
		splitter_deinit(&class_splitters[i]);
	split_scratch_deinit(&class_scratch);
	tokenizer_scratch_destroy(scratch);
	tokenizer_close(deepseek);
	tokenizer_close(demo);
	return 0;
}

/* Code points at which the rules meet. */
static const uint32_t alphabet[] = {' ', ' ', ' ', '\t', '\n', '\n', '\r', 'a', 'b', 'Z', 'e', '0',
	'1', '9', '.', ',', '_', '\'', '"', '(', '$', '+', '`', '<', 0x00A0, 0x3000, 0x0085, 0x2028,
	0x200B, 0x200D, 0xFEFF, 0x00E9, 0x0301, 0x0660, 0x00B2, 0x2167, 0x00DF, 0x0416, 0x4E00,
	0x4E2D, 0x9FA5, 0x9FA6, 0x3400, 0x3040, 0x3042, 0x309F, 0x30A0, 0x30FF, 0x3001, 0xFF0C,
	0xFF21, 0xAC00, 0x0E01, 0x0E31, 0x1F600, 0x1F1E9, 0xFE0F, 0x20E3, 0x0000, 0x0007, 0x007F,
	0xE000, 0x10FFFF, 0x2581, 0xFF5C, 0x1D7CE};

/* Whether PCRE2, whose tables may be older, puts cp into the same classes. */
static bool known(uint32_t cp)
{
	struct buf text = {0};
	bool same = true;
	size_t i;

	for (i = 0; i < 4; i++) {
		buf_reset(&text);
		buf_putc(&text, class_patterns[i].letter);
		buf_put_utf8(&text, cp);
		assert_int_equal(
			split_run(&class_splitters[i], &class_scratch, text.data, text.len, &err),
			OK);
		same &= (class_scratch.n_ends == 1) ==
			((unicode_class_of(cp) & class_patterns[i].classes) != 0);
	}
	buf_deinit(&text);
	return same;
}

static void random_text(struct buf *b, uint64_t seed)
{
	uint64_t n = 1 + random_u64(seed, 0) % 40, i, r;
	uint32_t cp = 'a';

	buf_reset(b);
	for (i = 1; i <= n; i++) {
		r = random_u64(seed, i);
		if (r % 4) /* often the same again: runs */
			cp = alphabet[(r >> 8) % (sizeof(alphabet) / sizeof(alphabet[0]))];
		if (r % 64 == 1)
			do
				cp = (uint32_t)(r >>= 3) % 0x110000;
			while ((cp >= 0xD800 && cp <= 0xDFFF) || !known(cp));
		buf_put_utf8(b, cp);
	}
}

static void show(const struct buf *b, char *dst, size_t cap)
{
	size_t i, n = 0;

	for (i = 0; i < b->len && n + 5 < cap; i++)
		n += (size_t)snprintf(dst + n, cap - n, "\\x%02x", (uint8_t)b->data[i]);
}

static void test_scanner(void **state)
{
	struct split_scratch sc = {0};
	struct buf text = {0};
	uint32_t *ends = malloc(1000 * sizeof(*ends));
	char shown[1000];
	uint64_t seed;

	assert_true(deepseek->splitter.deepseek);
	for (seed = 0; seed < 200000; seed++) {
		size_t pos = 0, n = 0, max = 1 + seed % 5;

		random_text(&text, seed);
		while (pos < text.len) /* a few pieces a call: results may not depend on it */
			n += split_deepseek(text.data, text.len, &pos, ends + n, max);
		assert_int_equal(
			split_run(&deepseek->splitter, &sc, text.data, text.len, &err), OK);
		if (n != sc.n_ends || memcmp(ends, sc.ends, n * sizeof(*ends)) != 0) {
			show(&text, shown, sizeof(shown));
			fail_msg("seed %llu: %zu and %zu pieces of %s", (unsigned long long)seed, n,
				sc.n_ends, shown);
		}
	}
	split_scratch_deinit(&sc);
	buf_deinit(&text);
	free(ends);
}

/* The definition: while a pair has a merge, join the one of lowest rank, the leftmost of equals. */
static size_t merge_by_definition(const struct tokenizer *t, json_t *ranks, int32_t *ids, size_t n)
{
	for (;;) {
		json_int_t best = INT32_MAX;
		size_t at = 0, i;
		char key[32];

		for (i = 0; i + 1 < n; i++) {
			json_t *rank;

			snprintf(key, sizeof(key), "%d %d", ids[i], ids[i + 1]);
			rank = json_object_get(ranks, key);
			if (rank && json_integer_value(rank) < best) {
				best = json_integer_value(rank);
				at = i;
			}
		}
		if (best == INT32_MAX)
			return n;
		ids[at] = (int32_t)best + 259; /* merge i makes token i + 259 in this file */
		memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof(*ids));
		n--;
	}
}

static json_t *read_ranks(const struct tokenizer *t, const char *path)
{
	json_t *root = json_load_file(path, 0, NULL), *merge, *ranks = json_object();
	json_t *merges = json_object_get(json_object_get(root, "model"), "merges");
	char key[32];
	size_t i;

	json_array_foreach(merges, i, merge)
	{
		const char *s = json_string_value(merge), *space = strchr(s, ' ');

		snprintf(key, sizeof(key), "%d %d", vocab_find(&t->vocab, s, (size_t)(space - s)),
			vocab_find(&t->vocab, space + 1, strlen(space + 1)));
		json_object_set_new(ranks, key, json_integer((json_int_t)i));
	}
	json_decref(root);
	return ranks;
}

/* Short pieces, and long ones that take the other path. */
static void test_merges(void **state)
{
	static const char *const parts[] = {"a", "e", "th", "he", "in", "ing", "er", "re", "on",
		"an", " ", "the", "aa", "qq", "tion", "z", "ion", "\xE4\xB8", "\xAD"};
	json_t *ranks = read_ranks(deepseek, TEST_DATA "/deepseek-v3.1/tokenizer.json");
	struct token_buf got = {0};
	struct bpe_scratch sc = {0};
	int32_t want[1000];
	struct buf piece = {0};
	uint64_t seed, i;
	size_t k, n;

	for (seed = 0; seed < 2000; seed++) {
		buf_reset(&piece);
		for (i = 0; i < 1 + seed % 60; i++)
			buf_puts(&piece,
				parts[random_u64(seed, i) % (sizeof(parts) / sizeof(*parts))]);
		for (k = 0; k < piece.len; k++)
			want[k] = deepseek->bpe.byte_id[(uint8_t)piece.data[k]];
		n = merge_by_definition(deepseek, ranks, want, piece.len);
		got.len = 0;
		bpe_encode(&deepseek->bpe, &sc, (const uint8_t *)piece.data, piece.len, &got);
		if (got.len != n || memcmp(got.data, want, n * sizeof(*want)) != 0)
			fail_msg("seed %llu: '%s'", (unsigned long long)seed, piece.data);
	}
	bpe_scratch_deinit(&sc);
	token_buf_deinit(&got);
	buf_deinit(&piece);
	json_decref(ranks);
}

/* ids of text decode to text, whichever splitter made them. */
static void test_round_trip(void **state)
{
	const struct tokenizer *both[] = {deepseek, demo};
	struct token_buf ids = {0}, plain = {0};
	struct buf text = {0}, back = {0};
	uint64_t seed;
	size_t k;

	for (seed = 0; seed < 20000; seed++) {
		random_text(&text, seed + 1000000);
		for (k = 0; k < 2; k++) {
			ids.len = plain.len = 0;
			buf_reset(&back);
			assert_int_equal(tokenizer_encode(both[k], scratch, text.data, text.len,
						 TOKENIZER_PARSE_ADDED, &ids, &err),
				OK);
			assert_int_equal(tokenizer_encode(both[k], scratch, text.data, text.len,
						 TOKENIZER_PARSE_ADDED | TOKENIZER_PLAIN_SPLIT,
						 &plain, &err),
				OK);
			assert_int_equal(ids.len, plain.len);
			assert_memory_equal(ids.data, plain.data, ids.len * sizeof(*ids.data));
			assert_int_equal(
				detok_decode(both[k], ids.data, ids.len, false, &back, &err), OK);
			assert_int_equal(back.len, text.len);
			assert_memory_equal(back.data, text.data, text.len);
		}
	}
	token_buf_deinit(&ids);
	token_buf_deinit(&plain);
	buf_deinit(&text);
	buf_deinit(&back);
}

/* A vocabulary cut from the large one: the shared tokens are spelled the same. */
static void test_demo(void **state)
{
	const struct tokenizer_config *c = tokenizer_config_of(demo);
	static const char *const control[] = {"<think>", "</think>", "<｜User｜>",
		"<｜Assistant｜>", "<｜tool▁calls▁begin｜>", "<｜tool▁call▁end｜>"};
	int32_t base, added;
	size_t i;

	tokenizer_counts(demo, &base, &added);
	assert_true(base > 256 && added > 0);
	assert_true(c->bos_id >= 0 && c->eos_id >= 0 && c->chat_template != NULL);
	for (i = 0; i < sizeof(control) / sizeof(control[0]); i++) {
		int32_t id = tokenizer_token_find(demo, control[i], strlen(control[i]));

		assert_true(id >= 0);
		assert_true(tokenizer_token_flags(demo, id) & TOKEN_ADDED);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scanner),
		cmocka_unit_test(test_merges),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_demo),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
