/*
 * Answers as clients get them, whatever the steps of the engine: each bug that other servers had (spec: model,
 * section 12) as an exact sequence of tokens, cut into steps in every way, by all three APIs; what a stream adds
 * up to is the whole answer. Then random sequences, whose bytes are all accounted for.
 */
#include "server_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/random.h"
#include "chat_case.h"

#define ALL_SPLITS_TO 14 /* tokens; longer answers are cut in two places */

/* Every way to cut n tokens, or every way to cut them in two places. Number k of them; false: no more. */
static bool split(uint32_t *ends, size_t *n_ends, size_t n, size_t k)
{
	*n_ends = 0;
	if (n > ALL_SPLITS_TO) {
		uint32_t first = (uint32_t)(k / n), second = (uint32_t)(k % n);

		if (first)
			ends[(*n_ends)++] = first;
		if (second > first)
			ends[(*n_ends)++] = second;
		return k < n * n;
	}
	for (uint32_t i = 1; i < n; i++) {
		if (k >> (i - 1) & 1)
			ends[(*n_ends)++] = i;
	}
	return n == 0 ? k == 0 : k < (size_t)1 << (n - 1);
}

/* The ends of a line that the APIs have: finish_reason, stop_reason, status. */
static const char *end_of(enum server_case_api api, const char *finish)
{
	static const char *const ends[][N_APIS] = { { "stop", "end_turn", "completed" }, { "length", "max_tokens", "incomplete" },
		{ "tool_calls", "tool_use", "completed" }, { "named", "tool_use", "completed" } };

	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
		if (strcmp(ends[i][0], finish) == 0)
			return api == CHAT && i == 3 ? "stop" : ends[i][api];
	}
	fail_msg("no end %s", finish);
	return NULL;
}

struct expected {
	const char *bug, *text;
	unsigned how;
	const char *parts, *finish;
	const char *chat;  /* parts in the order of chat; NULL: the same */
	const char *input; /* parts with arguments as Messages has them; NULL: the same */
};

/* Ids of calls and marks of what was cut are not in the table. */
static char *plain(const char *line)
{
	struct buf out = { 0 };

	buf_puts(&out, "");
	for (const char *p = line; *p; p++) {
		if (p[0] == ']' && p[1] == '#')
			buf_putc(&out, *p), p += 3;
		else if (strncmp(p, "(incomplete)", 12) == 0)
			p += 11;
		else
			buf_putc(&out, *p);
	}
	return out.data;
}

static void check_splits(const struct expected *e, enum server_case_api api, const struct token_buf *ids, const char *more)
{
	char *whole = server_case_answer(api, e->how, false, ids, NULL, 0, more), *got = plain(whole);
	const char *parts = api == CHAT && e->chat ? e->chat : api == MESSAGES && e->input ? e->input : e->parts;
	uint32_t ends[MAX_TOKENS];
	char want[400];
	size_t n_ends;

	snprintf(want, sizeof(want), "%s %s", parts, end_of(api, e->finish));
	if (strcmp(got, want) != 0)
		fail_msg("%s, API %d: got '%s', expected '%s'", e->bug, api, got, want);
	free(got);
	for (size_t k = 0; split(ends, &n_ends, ids->len, k); k++) {
		got = server_case_answer(api, e->how, true, ids, ends, n_ends, more);
		if (strcmp(got, whole) != 0)
			fail_msg("%s, API %d, split %zu: the stream adds up to '%s', the whole answer is '%s'", e->bug, api, k,
				got, whole);
		free(got);
	}
	free(whole);
}

static void check(const struct expected *e, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct token_buf ids = server_case_encode(e[i].text, e[i].how);

		for (enum server_case_api api = 0; api < N_APIS; api++) {
			if (api == CHAT || !(e[i].how & AFTER_RESULT))
				check_splits(&e[i], api, &ids, "");
		}
		token_buf_deinit(&ids);
	}
}

/* Then .chat and .input where they differ. */
#define ROW(b, t, h, p, f, ...) { .bug = b, .text = t, .how = h, .parts = p, .finish = f, __VA_ARGS__ }
#define CHECK(...) \
	do { \
		static const struct expected list[] = { __VA_ARGS__ }; \
		check(list, sizeof(list) / sizeof(*list)); \
	} while (0)

/* --- section 12 --------------------------------------------------------------------------------------------- */

/* vLLM #48020 and #36056: a whole call in one delta is dropped. */
static void test_whole_call_in_one_step(void **state)
{
	CHECK(ROW("one call", CALLS CALL "f" SEP "{\"a\": 1}" CALL_END CALLS_END, 0, "[f|{\"a\": 1}]", "tool_calls",
			.input = "[f|{\"a\":1}]"),
		ROW("two calls", CALL "f" SEP "{}" CALL_END CALL "f" SEP "{}" CALL_END, 0, "[f|{}][f|{}]",
			"tool_calls"),
		ROW("no list", CALL "f" SEP "{}" CALL_END, 0, "[f|{}]", "tool_calls"),
		ROW("one alone", CALL "f" SEP "{}" CALL_END CALL "f" SEP "{}" CALL_END, ALONE, "[f|{}]",
			"tool_calls"));
}

/* vLLM #30866: the first token is missing when tools are there. */
static void test_first_token(void **state)
{
	CHECK(ROW("text", "Hello, how are you?", 0, "C:Hello, how are you?", "stop"),
		ROW("one token", "Hello", 0, "C:Hello", "stop"), ROW("nothing", "", 0, "", "stop"),
		ROW("thought", "First" TE "Second", THINKING, "R:FirstC:Second", "stop"),
		ROW("text and call", "Look" CALLS CALL "f" SEP "{}" CALL_END CALLS_END, 0, "C:Look[f|{}]", "tool_calls"));
}

/* SGLang #18236: arguments arrive as {}. */
static void test_arguments_are_not_empty(void **state)
{
	CHECK(ROW("arguments", CALL "f" SEP "{\"city\": \"Paris\"}" CALL_END, 0, "[f|{\"city\": \"Paris\"}]",
			"tool_calls", .input = "[f|{\"city\":\"Paris\"}]"),
		ROW("none", CALLS CALL "f" SEP CALL_END CALLS_END, 0, "[f|{}]", "tool_calls"),
		ROW("no separator", CALLS CALL "f" CALL_END CALLS_END, 0, "[f|{}]", "tool_calls"));
}

/* SGLang #9446: a call inside of reasoning stays reasoning. */
static void test_call_while_thinking(void **state)
{
	CHECK(ROW("list", "I look." CALLS CALL "f" SEP "{}" CALL_END CALLS_END, THINKING, "R:I look.[f|{}]", "tool_calls"),
		ROW("call alone", "I look." CALL "f" SEP "{}" CALL_END, THINKING, "R:I look.[f|{}]", "tool_calls"),
		ROW("thought is over", "So" TE CALLS CALL "f" SEP "{}" CALL_END CALLS_END, THINKING, "R:So[f|{}]", "tool_calls"));
}

/* deepseek-ai/DeepSeek-V3 #944: finish_reason tool_calls with an empty list; so do newlines in arguments. */
static void test_no_empty_list(void **state)
{
	CHECK(ROW("empty list", CALLS CALLS_END, 0, "", "stop"), ROW("text and empty list", "No." CALLS CALLS_END, 0, "C:No.", "stop"),
		ROW("no separator", CALLS CALL "f" CALLS_END, 0, "C:f", "stop"),
		ROW("newlines", CALL "f" SEP "{\n\"a\":\n1\n}\n" CALL_END, 0, "[f|{\n\"a\":\n1\n}\n]", "tool_calls",
			.input = "[f|{\"a\":1}]"));
}

/* vLLM's closing branch: the tail of arguments that do not end in "} is lost. */
static void test_end_of_arguments(void **state)
{
	CHECK(ROW("number", CALL "f" SEP "{\"n\": 17}" CALL_END CALLS_END, 0, "[f|{\"n\": 17}]", "tool_calls",
			.input = "[f|{\"n\":17}]"),
		ROW("boolean", CALL "f" SEP "{\"n\": true}" CALL_END CALLS_END, 0, "[f|{\"n\": true}]", "tool_calls",
			.input = "[f|{\"n\":true}]"),
		ROW("nested", CALL "f" SEP "{\"n\": {\"m\": 1}}" CALL_END, 0, "[f|{\"n\": {\"m\": 1}}]", "tool_calls",
			.input = "[f|{\"n\":{\"m\":1}}]"),
		ROW("list", CALL "f" SEP "{\"n\": [1]}\n" CALL_END, 0, "[f|{\"n\": [1]}\n]", "tool_calls",
			.input = "[f|{\"n\":[1]}]"),
		ROW("no object", CALL "f" SEP "17" CALL_END, 0, "[f|17]", "tool_calls", .input = "[f|{\"INVALID_JSON\":\"17\"}]"),
		ROW("no JSON", CALL "f" SEP "not JSON" CALL_END, 0, "[f|not JSON]", "tool_calls",
			.input = "[f|{\"INVALID_JSON\":\"not JSON\"}]"),
		ROW("cut", CALL "f" SEP "{\"a\": [1,", CUT, "[f|{\"a\": [1,]", "length",
			.input = "[f|{\"INVALID_JSON\":\"{\\\"a\\\": [1,\"}]"));
}

/* SGLang's stream: text that shares a step with the first marker is dropped. */
static void test_text_beside_a_marker(void **state)
{
	CHECK(ROW("before", "Let me look.\n\n" CALLS CALL "f" SEP "{}" CALL_END CALLS_END, 0, "C:Let me look.\n\n[f|{}]", "tool_calls"),
		ROW("after", CALLS CALL "f" SEP "{}" CALL_END CALLS_END "Done.", 0, "[f|{}]C:Done.", "tool_calls", .chat = "C:Done.[f|{}]"),
		ROW("between", CALL "f" SEP "{}" CALL_END "and" CALL "f" SEP "{}" CALL_END, 0, "[f|{}]C:and[f|{}]", "tool_calls",
			.chat = "C:and[f|{}][f|{}]"),
		ROW("all at once", "So" TE "a" CALL "f" SEP "{}" CALL_END "b", THINKING, "R:SoC:a[f|{}]C:b", "tool_calls",
			.chat = "R:SoC:ab[f|{}]"),
		ROW("text first", " " TB "a" TE "b", 0, "C: R:aC:b", "stop", .chat = "R:aC: b"));
}

/* SGLang #9552 and #14690, vLLM #26897: the parser of another version. */
static void test_older_form(void **state)
{
	CHECK(ROW("older", CALLS CALL "function" SEP "f\n```json\n{\"a\": 1}\n```" CALL_END CALLS_END, V3_FORM, "[f|{\"a\": 1}]",
			"tool_calls", .input = "[f|{\"a\":1}]"),
		ROW("newer form, older model", CALLS CALL "f" SEP "{}" CALL_END CALLS_END, V3_FORM, "[f|{}]", "tool_calls"),
		ROW("older form, newer model", CALL "function" SEP "f\n```json\n{}\n```" CALL_END, 0,
			"[function|f\n```json\n{}\n```]", "tool_calls",
			.input = "[function|{\"INVALID_JSON\":\"f\\n```json\\n{}\\n```\"}]"));
}

/* SGLang #17551: after a result nothing opened <think>, yet all is taken for reasoning. */
static void test_after_a_result(void **state)
{
	CHECK(ROW("result", "It is 17.", THINKING | AFTER_RESULT, "C:It is 17.", "stop"),
		ROW("result, then thought", TB "Hm" TE "It is 17.", THINKING | AFTER_RESULT, "R:HmC:It is 17.", "stop"),
		ROW("result, then call", CALL "f" SEP "{}" CALL_END, THINKING | AFTER_RESULT, "[f|{}]", "tool_calls"));
}

/* deepseek-ai/DeepSeek-V3 #1376: calls cannot be required while thinking. tools_test has the model's own. */
static void test_required(void **state)
{
	CHECK(ROW("required", CALLS CALL "f" SEP "{}" CALL_END CALLS_END, REQUIRED, "[f|{}]", "tool_calls"),
		ROW("required, thinking", "So" TE CALLS CALL "f" SEP "{}" CALL_END CALLS_END, THINKING | REQUIRED, "R:So[f|{}]",
			"tool_calls"),
		ROW("named", CALLS CALL "f" SEP "{}" CALL_END CALLS_END, NAMED, "[f|{}]", "named"),
		ROW("named, thinking", "So" TE CALLS CALL "f" SEP "{}" CALL_END CALLS_END, THINKING | NAMED, "R:So[f|{}]", "named"),
		ROW("cut while thinking", "So I think", THINKING | REQUIRED | CUT, "R:So I think", "length"));
}

/* deepseek-ai/DeepSeek-V3 #849 and #1241: a stray sign is the weights' doing, and is not hidden. */
static void test_stray_sign(void **state)
{
	CHECK(ROW("content", "time极.Second", 0, "C:time极.Second", "stop"),
		ROW("arguments", CALL "f" SEP "{\"a\": \"极\"}" CALL_END, 0, "[f|{\"a\": \"极\"}]", "tool_calls",
			.input = "[f|{\"a\":\"极\"}]"));
}

/* --- what else could differ ---------------------------------------------------------------------------------- */

/* Code points of several tokens, and what is cut inside of one. */
static void test_code_points(void **state)
{
	CHECK(ROW("content", "é🦘中", 0, "C:é🦘中", "stop"), ROW("reasoning", "🦘" TE "🦘", THINKING, "R:🦘C:🦘", "stop"),
		ROW("arguments", CALL "f" SEP "{\"a\": \"🦘\"}" CALL_END, 0, "[f|{\"a\": \"🦘\"}]", "tool_calls",
			.input = "[f|{\"a\":\"🦘\"}]"));
}

/* A stop string ends text, wherever it is cut, and never a call. */
static void test_stop_strings(void **state)
{
	static const struct expected list[] = {
		ROW("in content", "one; two; three", 0, "C:one", "stop"),
		ROW("in reasoning", "one; two" TE "three", THINKING, "R:one", "stop"),
		ROW("begun only", "one;" CALL "f" SEP "{\"a\": \"; t\"}" CALL_END, 0, "C:one;[f|{\"a\": \"; t\"}]", "tool_calls"),
		ROW("between parts", "one;" TE " two", THINKING, "R:one;C: two", "stop"),
	};

	for (size_t i = 0; i < sizeof(list) / sizeof(*list); i++) {
		struct token_buf ids = server_case_encode(list[i].text, list[i].how);

		check_splits(&list[i], CHAT, &ids, ",\"stop\":[\"; two\",\"; t\"]");
		token_buf_deinit(&ids);
	}
}

/* --- random sequences ---------------------------------------------------------------------------------------- */

/* Everything that a client sees, in order. No word has a }. */
static void account(struct buf *out, const char *text)
{
	chat_case_account(out, text, strlen(text));
}

static void account_response(struct buf *out, const json_t *response)
{
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(response, "output"), i, item)
	{
		account(out, server_case_string(item, "name"));
		account(out, server_case_string(item, "arguments"));
		account(out, server_case_string(json_array_get(json_object_get(item, "content"), 0), "text"));
	}
}

static void one_random(uint64_t seed, const struct token_buf *words)
{
	int32_t marks[CHAT_CASE_MARKS];
	unsigned how = (random_u64(seed, 1) % 2 ? THINKING : 0) | (random_u64(seed, 2) % 2 ? CUT : 0);
	struct token_buf ids = { 0 };
	struct buf want = { 0 }, got = { 0 };
	size_t n = 1 + random_u64(seed, 3) % 30, n_ends;

	chat_case_marks(marks, &serving.format);
	for (size_t i = 0; i < n; i++)
		token_buf_push(&ids, random_u64(seed, 100 + i) % 2 ? marks[random_u64(seed, 200 + i) % CHAT_CASE_MARKS] :
			words->data[random_u64(seed, 200 + i) % words->len]);
	chat_case_account_tokens(&want, serving.tok, &serving.format, &ids, how & CUT);
	if (!(how & CUT))
		token_buf_push(&ids, serving.defaults.eos[0]);
	for (enum server_case_api api = 0; api < N_APIS; api++) {
		char *whole = server_case_answer(api, how, false, &ids, NULL, 0, ""), *streamed;

		if (api == RESPONSES)
			account_response(&got, server_case_whole());
		for (size_t k = 0; k < 3; k++) {
			uint32_t ends[MAX_TOKENS];

			n_ends = 0;
			for (uint32_t i = 1; i < ids.len; i++) {
				if (random_u64(seed, 1000 * (k + 1) + i) % (k + 2) == 0)
					ends[n_ends++] = i;
			}
			streamed = server_case_answer(api, how, true, &ids, ends, n_ends, k == 2 ? ",\"stream_interval\":3" : "");
			if (strcmp(streamed, whole) != 0)
				fail_msg("seed %llu, API %d: the stream adds up to '%s', the whole answer is '%s'",
					(unsigned long long)seed, api, streamed, whole);
			free(streamed);
		}
		free(whole);
	}
	if (got.len != want.len || (want.len && memcmp(got.data, want.data, want.len) != 0))
		fail_msg("seed %llu: got '%s', expected '%s'", (unsigned long long)seed, got.data ? got.data : "",
			want.data ? want.data : "");
	buf_deinit(&want);
	buf_deinit(&got);
	token_buf_deinit(&ids);
}

static void test_random(void **state)
{
	struct token_buf words = server_case_encode("get weather 中文 \n\n {\"city\": 17, ``` functions x [ ]", CUT);

	for (uint64_t seed = 0; seed < 1500; seed++)
		one_random(seed, &words);
	token_buf_deinit(&words);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_call_in_one_step),
		cmocka_unit_test(test_first_token),
		cmocka_unit_test(test_arguments_are_not_empty),
		cmocka_unit_test(test_call_while_thinking),
		cmocka_unit_test(test_no_empty_list),
		cmocka_unit_test(test_end_of_arguments),
		cmocka_unit_test(test_text_beside_a_marker),
		cmocka_unit_test(test_older_form),
		cmocka_unit_test(test_after_a_result),
		cmocka_unit_test(test_required),
		cmocka_unit_test(test_stray_sign),
		cmocka_unit_test(test_code_points),
		cmocka_unit_test(test_stop_strings),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, server_case_open, server_case_close);
}
