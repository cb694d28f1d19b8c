/*
 * Answers taken apart: the bugs that other servers had (spec: model, section 12) as token sequences, markers
 * out of place, three dialects, random sequences against an account of their bytes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "cm.h"
#include "base/random.h"
#include "text/chat_parse.h"
#include "chat_case.h"

#define DIR TEST_DATA "/deepseek-v3.1"

static struct tokenizer *tok;
static struct tokenizer_scratch *scratch;
static struct chat_format v31, v3;
static struct error err;

static int setup(void **state)
{
	if (tokenizer_open(&tok, DIR, &err) != OK) {
		fprintf(stderr, "%s\n", err.msg);
		return -1;
	}
	scratch = tokenizer_scratch_create();
	chat_format_init(&v31, tok, CHAT_DEEPSEEK_V31);
	chat_format_init(&v3, tok, CHAT_DEEPSEEK_V3);
	return 0;
}

static int teardown(void **state)
{
	tokenizer_scratch_destroy(scratch);
	tokenizer_close(tok);
	return 0;
}

static void encode(struct token_buf *ids, const struct tokenizer *t, const char *text, unsigned flags)
{
	struct tokenizer_scratch *sc = tokenizer_scratch_create();

	if (tokenizer_encode(t, sc, text, strlen(text), flags, ids, &err) != OK)
		fail_msg("%s", err.msg);
	tokenizer_scratch_destroy(sc);
}

/* Parts as one line: R:reasoning, C:content, [name|arguments] of a call, [name|arguments... of one that no
 * marker ended. Pieces of one part join; every piece must be UTF-8. */
struct line {
	struct buf text;
	enum chat_event_kind last;
	bool any;
};

static void take(void *arg, const struct chat_event *e)
{
	struct line *l = arg;
	bool again = l->any && l->last == e->kind;

	if (e->kind != CHAT_CALL && e->kind != CHAT_CALL_END)
		assert_true(e->len > 0);
	if (e->len) {
		json_t *utf8 = json_stringn(e->text, e->len);

		assert_non_null(utf8);
		json_decref(utf8);
	}
	if (e->kind == CHAT_REASONING && !again)
		buf_puts(&l->text, "R:");
	if (e->kind == CHAT_CONTENT && !again)
		buf_puts(&l->text, "C:");
	if (e->kind == CHAT_CALL)
		buf_putc(&l->text, '[');
	buf_append(&l->text, e->text ? e->text : "", e->len);
	if (e->kind == CHAT_CALL && e->id)
		buf_printf(&l->text, "(%.*s)", (int)e->id_len, e->id);
	if (e->kind == CHAT_CALL)
		buf_putc(&l->text, '|');
	if (e->kind == CHAT_CALL_END)
		buf_puts(&l->text, e->complete ? "]" : "...");
	l->last = e->kind;
	l->any = true;
}

static void run(struct line *l, const struct tokenizer *t, const struct chat_format *f,
	const struct chat_parse_options *o, const struct token_buf *ids, bool stopped)
{
	struct chat_parse p;

	chat_parse_init(&p, t, f, o, take, l);
	for (size_t i = 0; i < ids->len; i++)
		chat_parse_push(&p, ids->data[i]);
	chat_parse_end(&p, stopped);
	chat_parse_deinit(&p);
	if (!l->text.data)
		buf_puts(&l->text, "");
}

static void expect(const struct tokenizer *t, const struct chat_format *f, bool thinking, const char *answer,
	bool stopped, const char *want)
{
	struct chat_parse_options o = { .reasoning = true, .thinking = thinking, .calls = true };
	struct token_buf ids = { 0 };
	struct line l = { 0 };

	encode(&ids, t, answer, TOKENIZER_PARSE_ADDED);
	run(&l, t, f, &o, &ids, stopped);
	if (strcmp(l.text.data, want) != 0)
		fail_msg("'%s' became '%s', expected '%s'", answer, l.text.data, want);
	buf_deinit(&l.text);
	token_buf_deinit(&ids);
}

enum { THINKING = 1, CUT = 2 };

static const struct {
	const char *answer, *want;
	unsigned how;
} answers[] = {
	{ "", "", 0 },
	{ "Hello.", "C:Hello.", 0 },
	{ "I see." TE "Hello.", "R:I see.C:Hello.", THINKING },
	{ TB "I see." TE "Hello.", "R:I see.C:Hello.", THINKING },
	{ TB "I see." TE "Hello.", "R:I see.C:Hello.", 0 },
	{ "I see.", "R:I see.", THINKING | CUT },
	{ CALLS CALL "f" SEP "{}" CALL_END CALLS_END, "[f|{}]", 0 },
	{ CALLS CALL "f" SEP "{\"a\": 1}" CALL_END CALL "g" SEP "{}" CALL_END CALLS_END, "[f|{\"a\": 1}][g|{}]", 0 },
	/* a call made while thinking is a call */
	{ "I look." CALLS CALL "f" SEP "{}" CALL_END CALLS_END, "R:I look.[f|{}]", THINKING },
	{ "I look." CALL "f" SEP "{}" CALL_END, "R:I look.[f|{}]", THINKING },
	{ "I look." TE CALLS CALL "f" SEP "{}" CALL_END CALLS_END, "R:I look.[f|{}]", THINKING },
	/* text that shares a step with the first marker stays */
	{ "Let me look.\n\n" CALLS CALL "f" SEP "{}" CALL_END CALLS_END, "C:Let me look.\n\n[f|{}]", 0 },
	/* arguments with newlines, <, markers, and ends other than "} */
	{ CALLS CALL "f" SEP "{\n  \"a\": \"x < y\",\n  \"b\": [1,\n2]\n}\n" CALL_END CALLS_END,
		"[f|{\n  \"a\": \"x < y\",\n  \"b\": [1,\n2]\n}\n]", 0 },
	{ CALL "f" SEP "{\"n\": 17}" CALL_END CALLS_END, "[f|{\"n\": 17}]", 0 },
	{ CALL "f" SEP "{\"n\": true}" CALL_END CALLS_END, "[f|{\"n\": true}]", 0 },
	{ CALL "f" SEP "{\"n\": {\"m\": {}}}" CALL_END CALLS_END, "[f|{\"n\": {\"m\": {}}}]", 0 },
	{ CALL "f" SEP "{\"n\": \"" TB TE SEP CALLS "\"}" CALL_END, "[f|{\"n\": \"" TB TE SEP CALLS "\"}]", 0 },
	{ CALL "f" SEP "not JSON" CALL_END, "[f|not JSON]", 0 },
	/* no arguments */
	{ CALLS CALL "f" SEP CALL_END CALLS_END, "[f|{}]", 0 },
	{ CALLS CALL "f" CALL_END CALLS_END, "[f|{}]", 0 },
	{ CALL " f\n" SEP " \n" CALL_END, "[f| \n{}]", 0 },
	/* cut, or ended by the wrong marker */
	{ CALLS CALL "f" SEP "{\"a\": ", "[f|{\"a\": ...", CUT },
	{ CALLS CALL "f" SEP, "[f|...", CUT },
	{ CALLS CALL "f" SEP, "[f|{}...", 0 },
	{ CALLS CALL "f" SEP "{}" CALLS_END, "[f|{}...", 0 },
	{ CALLS CALL "f" SEP "{}" CALL "g" SEP "{}" CALL_END, "[f|{}...[g|{}]", 0 },
	{ CALLS CALL "get_wea", "", CUT },
	{ CALLS CALL " a " CALL "f" SEP "{}" CALL_END, "C:a [f|{}]", 0 },
	{ CALLS CALL "a" CALLS_END, "C:a", 0 },
	/* text between and after calls */
	{ CALLS "\n" CALL "f" SEP "{}" CALL_END "\n" CALL "g" SEP "{}" CALL_END " \n" CALLS_END "\n\n",
		"[f|{}][g|{}]", 0 },
	{ CALLS CALL "f" SEP "{}" CALL_END CALLS_END "\nDone now.\n", "[f|{}]C:Done now.\n", 0 },
	{ CALLS CALLS_END "No.", "C:No.", 0 },
	{ CALL "f" SEP "{}" CALL_END CALLS_END CALLS CALL "g" SEP "{}" CALL_END CALLS_END, "[f|{}][g|{}]", 0 },
	/* markers that mean nothing where they stand */
	{ "a" TE "b" TB "c" SEP "d" CALL_END "e" CALLS_END "f", "C:abcdef", 0 },
	{ "a" TB "b" SEP CALL_END CALLS_END "c" TE "d", "R:abcC:d", THINKING },
	{ "\n" TB "a" TE "b", "C:\nR:aC:b", 0 },
	{ CALL "a" TB TE CALLS "b" SEP "{}" CALL_END, "[ab|{}]", 0 },
};

static void test_answers(void **state)
{
	for (size_t i = 0; i < sizeof(answers) / sizeof(*answers); i++)
		expect(tok, &v31, answers[i].how & THINKING, answers[i].answer, !(answers[i].how & CUT),
			answers[i].want);
}

static const struct {
	const char *answer, *want;
	bool cut;
} older[] = {
	{ CALLS CALL "function" SEP "f\n```json\n{\"a\": 1}\n```" CALL_END "\n" CALL "function" SEP
		"g\n```json\n{}\n```" CALL_END CALLS_END, "[f|{\"a\": 1}][g|{}]", false },
	{ CALL "function" SEP "f\n{\"a\": \"`x`\n\"}" CALL_END, "[f|{\"a\": \"`x`\n\"}]", false },
	{ CALL "function" SEP "f\n```\n{\"a\": \"```\n b\"}\n```\n" CALL_END, "[f|{\"a\": \"```\n b\"}]", false },
	{ CALL "function" SEP "f```json{\"a\": 1}```" CALL_END, "[f|{\"a\": 1}]", false },
	{ CALL "function" SEP "f" CALL_END, "[f|{}]", false },
	{ CALL "function" SEP "f\n```json\n\n```" CALL_END, "[f|{}]", false },
	{ CALL "function" SEP "f\n```js", "[f|...", true },
	{ CALL "function" SEP "f\n```json\n{\"a\": [ ", "[f|{\"a\": [ ...", true },
	{ CALL "function" SEP "get_wea", "", true },
	/* V3.1's form under the older dialect */
	{ CALLS CALL "f" SEP "{\"a\": 1}" CALL_END CALL "function" SEP "g\n```json\n{}\n```" CALL_END CALLS_END,
		"[f|{\"a\": 1}][g|{}]", false },
};

static void test_older(void **state)
{
	for (size_t i = 0; i < sizeof(older) / sizeof(*older); i++)
		expect(tok, &v3, false, older[i].answer, !older[i].cut, older[i].want);
	/* and under V3.1's it is what it says */
	expect(tok, &v31, false, CALL "function" SEP "f\n```json\n{}\n```" CALL_END, true,
		"[function|f\n```json\n{}\n```]");
}

/* The tokenizer with other spellings of the markers. */
static struct tokenizer *kimi_tokenizer(void)
{
	static const char *const names[][2] = {
		{ CALLS, "<|tool_calls_section_begin|>" }, { CALLS_END, "<|tool_calls_section_end|>" },
		{ CALL, "<|tool_call_begin|>" }, { CALL_END, "<|tool_call_end|>" },
		{ SEP, "<|tool_call_argument_begin|>" },
	};
	json_t *root = json_load_file(DIR "/tokenizer.json", 0, NULL), *v;
	struct tokenizer *t;
	char *text;
	size_t i;

	json_array_foreach(json_object_get(root, "added_tokens"), i, v)
	{
		for (size_t k = 0; k < sizeof(names) / sizeof(*names); k++) {
			if (strcmp(json_string_value(json_object_get(v, "content")), names[k][0]) == 0)
				json_object_set_new(v, "content", json_string(names[k][1]));
		}
	}
	text = json_dumps(root, 0);
	if (tokenizer_load(&t, text, strlen(text), "tokenizer.json", &err) != OK)
		fail_msg("%s", err.msg);
	free(text);
	json_decref(root);
	return t;
}

static void test_kimi(void **state)
{
	static const char format[] = "<|tool_calls_section_begin|><|tool_call_begin|>%s"
		"<|tool_call_argument_begin|>{\"a\": 1}<|tool_call_end|><|tool_calls_section_end|>";
	static const char *const names[][2] = {
		{ "functions.f:0", "[f(functions.f:0)|{\"a\": 1}]" },
		{ " functions.a.b:12 ", "[a.b(functions.a.b:12)|{\"a\": 1}]" },
		{ "f", "[f(f)|{\"a\": 1}]" },
		{ "functions.:1", "[:1(functions.:1)|{\"a\": 1}]" },
		{ ":7", "[:7(:7)|{\"a\": 1}]" },
		{ "", "[|{\"a\": 1}]" },
	};
	struct tokenizer *t = kimi_tokenizer();
	struct chat_format f;
	char answer[500];

	assert_int_equal(chat_dialect_guess(t, NULL), CHAT_KIMI_K2);
	chat_format_init(&f, t, CHAT_KIMI_K2);
	assert_true(chat_format_has_calls(&f));
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		snprintf(answer, sizeof(answer), format, names[i][0]);
		expect(t, &f, false, answer, true, names[i][1]);
	}
	chat_format_init(&f, t, CHAT_DEEPSEEK_V31);
	assert_false(chat_format_has_calls(&f));
	tokenizer_close(t);
}

/* Text that spells markers, and markers that nobody asked to be told from text. */
static void test_literal(void **state)
{
	static const char text[] = TB "a" TE CALLS CALL "f" SEP "{}" CALL_END CALLS_END;
	struct chat_parse_options all = { .reasoning = true, .calls = true }, none = { .thinking = true };
	struct chat_parse_options no_calls = { .reasoning = true, .thinking = true };
	struct token_buf ids = { 0 };
	struct line l = { 0 };

	encode(&ids, tok, text, 0);
	run(&l, tok, &v31, &all, &ids, true);
	assert_string_equal(l.text.data, "C:" TB "a" TE CALLS CALL "f" SEP "{}" CALL_END CALLS_END);
	token_buf_deinit(&ids);
	encode(&ids, tok, text, TOKENIZER_PARSE_ADDED);
	buf_deinit(&l.text);
	l = (struct line){ 0 };
	run(&l, tok, &v31, &none, &ids, true);
	assert_string_equal(l.text.data, "C:" TB "a" TE CALLS CALL "f" SEP "{}" CALL_END CALLS_END);
	buf_deinit(&l.text);
	l = (struct line){ 0 };
	run(&l, tok, &v31, &no_calls, &ids, true);
	assert_string_equal(l.text.data, "R:aC:f{}");
	buf_deinit(&l.text);
	token_buf_deinit(&ids);
}

/* Code points that are cut: by tokens they wait, by markers and the end they are lost. */
static void test_utf8(void **state)
{
	struct chat_parse_options o = { .reasoning = true, .thinking = true, .calls = true };
	struct token_buf ids = { 0 }, half = { 0 };
	struct line l = { 0 };

	encode(&half, tok, "\xF0\x9F\xA6\x98", 0); /* no token has all four bytes */
	assert_true(half.len > 1);
	token_buf_push(&ids, half.data[0]);
	token_buf_push(&ids, v31.think_end);
	for (size_t i = 0; i < half.len; i++)
		token_buf_push(&ids, half.data[i]);
	token_buf_push(&ids, v31.call_begin);
	token_buf_push(&ids, half.data[0]);
	token_buf_push(&ids, v31.sep);
	for (size_t i = 0; i < half.len; i++)
		token_buf_push(&ids, half.data[i]);
	token_buf_push(&ids, half.data[0]);
	run(&l, tok, &v31, &o, &ids, false);
	assert_string_equal(l.text.data,
		"R:\xEF\xBF\xBD" "C:\xF0\x9F\xA6\x98[\xEF\xBF\xBD|\xF0\x9F\xA6\x98\xEF\xBF\xBD...");
	buf_deinit(&l.text);
	token_buf_deinit(&ids);
	token_buf_deinit(&half);
}

static bool opens_when(const char *prompt, bool always)
{
	struct token_buf ids = { 0 };
	bool yes;

	encode(&ids, tok, prompt, TOKENIZER_PARSE_ADDED);
	yes = chat_prompt_opens_thinking(&v31, tok, ids.data, ids.len, always);
	token_buf_deinit(&ids);
	return yes;
}

static bool opens(const char *prompt)
{
	bool yes = opens_when(prompt, false);

	if (!strstr(prompt, "<｜Assistant｜>") || prompt[strlen(prompt) - 1] != '>')
		assert_int_equal(opens_when(prompt, true), yes);
	return yes;
}

static void test_prompts(void **state)
{
	assert_true(opens("<｜User｜>x<｜Assistant｜>" TB));
	assert_true(opens("<｜User｜>x<｜Assistant｜>" TB "\n"));
	assert_true(opens("<｜User｜>x<｜Assistant｜>" TB "So far I have thought of"));
	assert_false(opens("<｜User｜>x<｜Assistant｜>" TE));
	assert_false(opens("<｜User｜>x<｜Assistant｜>" TB "Yes." TE "So"));
	assert_false(opens("<｜User｜>" TB "<｜Assistant｜>"));
	/* after a tool's result the model goes on with content */
	assert_false(opens("<｜User｜>x<｜Assistant｜>" TB "a" CALL "f" SEP "{}" CALL_END CALLS_END
			   "<｜end▁of▁sentence｜><｜tool▁output▁begin｜>17<｜tool▁output▁end｜>"));
	assert_false(opens("<｜User｜>x<｜Assistant｜>"));
	assert_true(opens_when("<｜User｜>x<｜Assistant｜>", true));
	assert_false(opens_when("<｜User｜>x<｜Assistant｜>" TE, true));
	assert_false(opens("x"));
	assert_false(opens(""));
}

static void account(void *arg, const struct chat_event *e)
{
	chat_case_account(arg, e->text, e->len);
}

/* Every token but markers comes out once, in order. */
static void one_random(uint64_t seed, const struct token_buf *words)
{
	const struct chat_parse_options o = {
		.reasoning = true, .thinking = random_u64(seed, 1000) % 2, .calls = true };
	bool stopped = random_u64(seed, 1002) % 2;
	size_t n = random_u64(seed, 1001) % 40;
	struct buf want = { 0 }, got = { 0 };
	struct token_buf ids = { 0 };
	int32_t marks[CHAT_CASE_MARKS];
	struct chat_parse p;

	chat_case_marks(marks, &v31);
	for (size_t i = 0; i < n; i++)
		token_buf_push(&ids, random_u64(seed, i) % 2 ? marks[random_u64(seed, 100 + i) % CHAT_CASE_MARKS] :
			words->data[random_u64(seed, 100 + i) % words->len]);
	chat_case_account_tokens(&want, tok, &v31, &ids, !stopped);
	chat_parse_init(&p, tok, &v31, &o, account, &got);
	for (size_t i = 0; i < n; i++)
		chat_parse_push(&p, ids.data[i]);
	chat_parse_end(&p, stopped);
	chat_parse_deinit(&p);
	if (got.len != want.len || (want.len && memcmp(got.data, want.data, want.len) != 0))
		fail_msg("seed %llu: got '%s', expected '%s'", (unsigned long long)seed, got.data, want.data);
	buf_deinit(&want);
	buf_deinit(&got);
	token_buf_deinit(&ids);
}

static void test_random(void **state)
{
	struct token_buf words = { 0 };

	encode(&words, tok, "get weather 中文 \n\n {\"city\": 17, ``` functions 🙂 } x", 0);
	for (size_t i = 0; i < words.len;) { /* whole code points alone: the rest is test_utf8's */
		size_t len;
		const char *bytes = tokenizer_token_bytes(tok, words.data[i], &len);
		json_t *v = json_stringn(bytes, len);

		if (v)
			i++;
		else
			words.data[i] = words.data[--words.len];
		json_decref(v);
	}
	for (uint64_t seed = 0; seed < 20000; seed++)
		one_random(seed, &words);
	token_buf_deinit(&words);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_older),
		cmocka_unit_test(test_kimi),
		cmocka_unit_test(test_literal),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_prompts),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
