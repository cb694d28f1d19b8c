/*
 * tokenizer.json in other shapes than DeepSeek's: small documents made here, 256 byte tokens and a
 * few merges, with one component changed a case. What is refused must be named.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "cm.h"
#include "text/detok.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

static struct error err;

/* A document whose merges build "ab" (256), "abc" (257), " a" (258), "12" (259), "123" (260). */
static json_t *document(void)
{
	static const char *const merges[] = {"a b", "ab c", "\xC4\xA0 a", "1 2", "12 3"};
	static const char *const joined[] = {"ab", "abc",
		"\xC4\xA0"
		"a",
		"12", "123"};
	json_t *vocab = json_object(), *list = json_array();
	struct buf name = {0};
	int i;

	for (i = 0; i < 256; i++) {
		buf_reset(&name);
		buf_put_utf8(&name, byte_to_char((uint8_t)i));
		json_object_set_new(vocab, name.data, json_integer(i));
	}
	for (i = 0; i < 5; i++) {
		json_object_set_new(vocab, joined[i], json_integer(256 + i));
		json_array_append_new(list, json_string(merges[i]));
	}
	buf_deinit(&name);
	return json_pack("{s:{s:s,s:o,s:o},s:{s:s,s:b,s:b},s:[],s:{s:s}}", "model", "type", "BPE",
		"vocab", vocab, "merges", list, "pre_tokenizer", "type", "ByteLevel",
		"add_prefix_space", 0, "use_regex", 1, "added_tokens", "decoder", "type",
		"ByteLevel");
}

/* JSON with single quotes. */
static json_t *parse(const char *text)
{
	char *copy = strdup(text), *p;
	json_error_t je;
	json_t *v;

	for (p = copy; *p; p++)
		*p = *p == '\'' ? '"' : *p;
	v = json_loads(copy, JSON_DECODE_ANY, &je);
	if (!v)
		fail_msg("%s: %s", copy, je.text);
	free(copy);
	return v;
}

/* The document with member `path` ("a.b") set to a value, or removed where the value is NULL. */
static enum status load(struct tokenizer **t, const char *path, const char *value)
{
	json_t *doc = document(), *at = doc;
	char key[100];
	const char *dot;
	char *text;
	enum status st;

	if (path) {
		while ((dot = strchr(path, '.'))) {
			snprintf(key, sizeof(key), "%.*s", (int)(dot - path), path);
			at = json_object_get(at, key);
			path = dot + 1;
		}
		if (value)
			json_object_set_new(at, path, parse(value));
		else
			json_object_del(at, path);
	}
	text = json_dumps(doc, 0);
	st = tokenizer_load(t, text, strlen(text), "test.json", &err);
	free(text);
	json_decref(doc);
	return st;
}

/* Pieces and tokens as text, joined by '|'. */
static void show(const struct tokenizer *t, const char *text, unsigned flags, struct buf *dst)
{
	struct tokenizer_scratch *sc = tokenizer_scratch_create();
	struct token_buf ids = {0};
	size_t i, n;

	if (tokenizer_encode(t, sc, text, strlen(text), flags, &ids, &err) != OK)
		fail_msg("%s", err.msg);
	buf_reset(dst);
	for (i = 0; i < ids.len; i++) {
		const char *bytes = tokenizer_token_bytes(t, ids.data[i], &n);

		if (i)
			buf_putc(dst, '|');
		buf_append(dst, bytes, n);
	}
	token_buf_deinit(&ids);
	tokenizer_scratch_destroy(sc);
}

#define SPLIT(pattern) "{'type':'Split','pattern':" pattern ",'behavior':'Isolated','invert':false}"
#define LAST "{'type':'ByteLevel','add_prefix_space':false,'trim_offsets':true,'use_regex':false}"
#define SEQUENCE(steps) "{'type':'Sequence','pretokenizers':[" steps "]}"

static const struct {
	const char *path, *value, *text, *want;
} shapes[] = {
	{NULL, NULL, "abc abcd a 123", "abc| |abc|d| a| |123"},
	/* without a regular expression, merges may cross what would be pieces */
	{"pre_tokenizer", LAST, "abc abc123", "abc| |abc|123"},
	/* one step, no sequence around ByteLevel */
	{"pre_tokenizer", SEQUENCE(LAST), "abc", "abc"},
	{"pre_tokenizer", SEQUENCE(SPLIT("{'Regex':'\\\\d'}") "," LAST), "ab123", "ab|1|2|3"},
	{"pre_tokenizer", SEQUENCE("{'type':'Digits','individual_digits':true}," LAST), "ab123",
		"ab|1|2|3"},
	{"pre_tokenizer", SEQUENCE("{'type':'Digits','individual_digits':false}," LAST), "ab123",
		"ab|123"},
	{"pre_tokenizer", SEQUENCE(SPLIT("{'String':'b'}") "," LAST), "abc", "a|b|c"},
	{"pre_tokenizer", SEQUENCE(SPLIT("{'String':'.*'}") "," LAST), "ab.*c", "ab|.|*|c"},
	/* the pattern of Llama 3 and of many since, with a possessive quantifier */
	{"pre_tokenizer",
		SEQUENCE(SPLIT("{'Regex':'(?i:[sdmt]|ll|ve|re)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?+"
			       "\\\\p{L}+|\\\\p{N}{1,3}"
			       "| "
			       "?[^\\\\s\\\\p{L}\\\\p{N}]++[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]|\\\\s+("
			       "?!\\\\S)|\\\\s+'}") "," LAST),
		"abc 1234  a", "abc| |123|4| | a"},
	/* two steps: the second sees the pieces of the first */
	{"pre_tokenizer", SEQUENCE(SPLIT("{'Regex':'b'}") "," SPLIT("{'Regex':'^c'}") "," LAST),
		"abcc", "a|b|c|c"},
	{"model.ignore_merges", "true", "abc", "abc"},
	{"model.merges", "[['a','b'],['ab','c']]", "abc", "abc"},
	{"model.merges", "[]", "abc", "a|b|c"},
	{"decoder", "{'type':'ByteLevel'}", "abc", "abc"},
	{"decoder", "{'type':'Sequence','decoders':[{'type':'ByteLevel'}]}", "abc", "abc"},
	{"normalizer", "{'type':'Sequence','normalizers':[]}", "abc", "abc"},
	{"post_processor", "{'type':'ByteLevel'}", "abc", "abc"},
	{"truncation", "{'max_length':5}", "abc", "abc"},
	{"added_tokens", "[{'id':300,'content':'<x>','special':true}]", "a<x>b<x", "a|<x>|b|<|x"},
	{"added_tokens", "[{'id':300,'content':'<x>'},{'id':301,'content':'<x>y'}]", "<x>y<x>z",
		"<x>y|<x>|z"},
	{"added_tokens", "[{'id':300,'content':'<x>','lstrip':true,'rstrip':true}]", "a  <x> \n b",
		"a|<x>|b"},
	{"added_tokens", "[{'id':300,'content':'cat','single_word':true}]", "cat cats _cat, cat",
		"cat| |c|a|t|s| |_|c|a|t|,| |cat"},
	/* a token of the vocabulary that is also an added one */
	{"added_tokens", "[{'id':257,'content':'abc'}]", "xabcx", "x|abc|x"},
	/* not normalized tokens are cut out first */
	{"added_tokens",
		"[{'id':300,'content':'bc','normalized':false,'special':false},"
		"{'id':301,'content':'abcd','normalized':true}]",
		"abcd", "a|bc|d"},
};

static void test_shapes(void **state)
{
	struct buf got = {0};
	size_t i;

	for (i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct tokenizer *t;

		if (load(&t, shapes[i].path, shapes[i].value) != OK)
			fail_msg("%s = %s: %s", shapes[i].path, shapes[i].value, err.msg);
		show(t, shapes[i].text, TOKENIZER_PARSE_ADDED, &got);
		if (strcmp(got.data, shapes[i].want) != 0)
			fail_msg("%s = %s: '%s' gave %s, expected %s", shapes[i].path,
				shapes[i].value, shapes[i].text, got.data, shapes[i].want);
		tokenizer_close(t);
	}
	buf_deinit(&got);
}

static const struct {
	const char *path, *value;
	enum status status;
	const char *part; /* of the message */
} refused[] = {
	{"model", NULL, E_FORMAT, "test.json: model: found nothing, expected an object"},
	{"model.type", "'Unigram'", E_UNSUPPORTED,
		"test.json: model: type 'Unigram', expected BPE"},
	{"model.byte_fallback", "true", E_UNSUPPORTED, "byte_fallback is true"},
	{"model.dropout", "0.1", E_UNSUPPORTED, "dropout"},
	{"model.continuing_subword_prefix", "'##'", E_UNSUPPORTED,
		"continuing_subword_prefix: found ##"},
	{"model.vocab", NULL, E_FORMAT, "test.json: vocab: found nothing, expected an object"},
	{"model.vocab", "{}", E_FORMAT, "no token for byte 0x00"},
	{"model.vocab.a", NULL, E_FORMAT, "no token for byte 0x61"},
	{"model.vocab.new", "-1", E_FORMAT, "id of token 'new': found -1, expected 0 to"},
	{"model.vocab.new", "1e3", E_FORMAT,
		"id of token 'new': found number, expected an integer"},
	{"model.vocab.new", "99999999999", E_FORMAT,
		"id of token 'new': found 99999999999, expected 0 to"},
	{"model.vocab.new", "97", E_FORMAT, "id 97 of token 'new' belongs to another token"},
	{"model.merges", NULL, E_FORMAT, "test.json: merges: found nothing, expected an array"},
	{"model.merges", "['a']", E_FORMAT, "merges[0]"},
	{"model.merges", "['a b c']", E_FORMAT, "merges[0]"},
	{"model.merges", "[['a']]", E_FORMAT, "merges[0]"},
	{"model.merges", "[7]", E_FORMAT, "merges[0]"},
	{"model.merges", "['a b','zz y']", E_FORMAT, "merges[1]: token 'zz' is not in vocab"},
	{"model.merges", "['a d']", E_FORMAT, "merges[0]: token 'ad' is not in vocab"},
	{"pre_tokenizer", "null", E_FORMAT,
		"pre_tokenizer: found null, expected ByteLevel or a Sequence"},
	{"pre_tokenizer", "{'type':'Whitespace'}", E_UNSUPPORTED,
		"pre_tokenizer: type 'Whitespace' is not supported"},
	{"pre_tokenizer", SEQUENCE(SPLIT("{'Regex':'a'}")), E_UNSUPPORTED, "no ByteLevel step"},
	{"pre_tokenizer", SEQUENCE(LAST "," SPLIT("{'Regex':'a'}")), E_UNSUPPORTED,
		"'Split' after ByteLevel"},
	{"pre_tokenizer", SEQUENCE(SPLIT("{'Regex':'(a'}") "," LAST), E_FORMAT,
		"regular expression wrong at byte 2"},
	{"pre_tokenizer", SEQUENCE(SPLIT("{}") "," LAST), E_FORMAT, "Split: pattern: expected"},
	{"pre_tokenizer",
		SEQUENCE("{'type':'Split','pattern':{'Regex':'a'},'behavior':'Removed'}," LAST),
		E_UNSUPPORTED, "Split: behavior 'Removed', expected Isolated"},
	{"pre_tokenizer.add_prefix_space", "true", E_UNSUPPORTED, "add_prefix_space is true"},
	{"normalizer", "{'type':'NFC'}", E_UNSUPPORTED, "normalizer: type 'NFC' is not supported"},
	{"normalizer", "{'type':'Sequence','normalizers':[{'type':'NFKC'}]}", E_UNSUPPORTED,
		"normalizer: type 'NFKC'"},
	{"decoder", NULL, E_UNSUPPORTED, "decoder: type 'nothing' is not supported"},
	{"decoder", "{'type':'WordPiece'}", E_UNSUPPORTED,
		"decoder: type 'WordPiece' is not supported"},
	{"post_processor", "{'type':'BertProcessing'}", E_UNSUPPORTED,
		"post_processor: type 'BertProcessing'"},
	{"added_tokens", "{}", E_FORMAT, "added_tokens: found object, expected an array"},
	{"added_tokens", "[1]", E_FORMAT, "added_tokens[0]: found integer, expected an object"},
	{"added_tokens", "[{'id':300,'content':''}]", E_FORMAT,
		"added_tokens[0]: content is empty"},
	{"added_tokens", "[{'id':-1,'content':'x'}]", E_FORMAT, "id: found -1, expected 0 to"},
	{"added_tokens", "[{'id':97,'content':'x'}]", E_FORMAT,
		"added_tokens[0]: id 97 or content 'x' belongs to another"},
	{"added_tokens", "[{'id':300,'content':'<x>','special':1}]", E_FORMAT,
		"special: found integer, expected true or false"},
};

static void test_refused(void **state)
{
	size_t i;

	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct tokenizer *t;
		enum status st = load(&t, refused[i].path, refused[i].value);

		if (st != refused[i].status || !strstr(err.msg, refused[i].part) ||
			strncmp(err.msg, "test.json: ", 11) != 0)
			fail_msg("%s = %s: status %d: %s\n  expected %d: ...%s", refused[i].path,
				refused[i].value ? refused[i].value : "(removed)", st,
				st ? err.msg : "", refused[i].status, refused[i].part);
	}
	assert_int_equal(
		tokenizer_load(&(struct tokenizer *){NULL}, "{", 1, "test.json", &err), E_FORMAT);
	assert_int_equal(
		tokenizer_load(&(struct tokenizer *){NULL}, "[]", 2, "test.json", &err), E_FORMAT);
}

/* A pattern that backtracks without end stops with an error. */
static void test_evil_pattern(void **state)
{
	struct tokenizer_scratch *sc = tokenizer_scratch_create();
	struct token_buf ids = {0};
	struct tokenizer *t;
	char text[101];

	memset(text, 'a', sizeof(text));
	text[100] = '!';
	assert_int_equal(
		load(&t, "pre_tokenizer", SEQUENCE(SPLIT("{'Regex':'^(a+)+$'}") "," LAST)), OK);
	assert_int_equal(tokenizer_encode(t, sc, text, sizeof(text), 0, &ids, &err), E_LIMIT);
	assert_non_null(strstr(err.msg, "regular expression gave up at byte 0"));
	assert_int_equal(ids.len, 0);
	tokenizer_close(t);
	tokenizer_scratch_destroy(sc);
	token_buf_deinit(&ids);
}

static void test_barriers(void **state)
{
	static const struct {
		const char *text;
		size_t barriers[3], n;
		const char *want;
	} cases[] = {
		{"a<x>b", {0}, 0, "a|<x>|b"},
		{"a<x>b", {1, 4}, 2, "a|<x>|b"}, /* at its ends */
		{"a<x>b", {2}, 1, "a|<|x|>|b"},
		{"a<x>b", {3}, 1, "a|<|x|>|b"},
		{"<x><x><x>", {4}, 1, "<x>|<|x|>|<x>"},
		{"<<x>", {1}, 1, "<|<x>"},
		{"a <s> b", {2, 5}, 2,
			"a|<s>|b"}, /* white space that a token takes is not the token */
		{"a <s> b", {1, 6}, 2, "a|<s>|b"},
	};
	struct tokenizer_scratch *sc = tokenizer_scratch_create();
	struct token_buf ids = {0};
	struct buf got = {0};
	struct tokenizer *t;
	size_t i, k, n;

	assert_int_equal(load(&t, "added_tokens",
				 "[{'id':300,'content':'<x>'},"
				 "{'id':301,'content':'<s>','lstrip':true,'rstrip':true}]"),
		OK);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ids.len = 0;
		buf_reset(&got);
		assert_int_equal(
			tokenizer_encode_barred(t, sc, cases[i].text, strlen(cases[i].text),
				cases[i].barriers, cases[i].n, &ids, &err),
			OK);
		for (k = 0; k < ids.len; k++) {
			const char *bytes = tokenizer_token_bytes(t, ids.data[k], &n);

			if (k)
				buf_putc(&got, '|');
			buf_append(&got, bytes, n);
		}
		if (strcmp(got.data, cases[i].want) != 0)
			fail_msg("case %zu: %s, expected %s", i, got.data, cases[i].want);
	}
	tokenizer_close(t);
	tokenizer_scratch_destroy(sc);
	token_buf_deinit(&ids);
	buf_deinit(&got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_evil_pattern),
		cmocka_unit_test(test_barriers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
