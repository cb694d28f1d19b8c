/* server: bodies that are read in two steps, since their grammar is not compiled yet (server/worker.h). */
#include "server_case.h"

#include <string.h>

#include "server/answer.h"

#define TOOLS "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"g\"}}],\"tool_choice\":\"required\""
#define QUESTION "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]"

/* One call after the other: an answer is made of each, on the loop and, where that asks for it, on the thread. */
static struct {
	struct http_request r;
	struct call c;
	struct refusal no;
	bool again;
} made;

static enum status make(const char *body)
{
	struct answer *a;
	enum status st;

	memset(&made, 0, sizeof(made));
	made.r = (struct http_request){ .body = body, .body_bytes = strlen(body) };
	made.c = (struct call){ .s = &serving, .r = &made.r, .id = "x" };
	a = answer_create(&made.c, &openai_chat_form);
	a->work.on_loop = true;
	st = answer_make(a, serving.scratch, &made.no);
	made.again = a->work.again;
	if (made.again) {
		assert_int_equal(st, OK);
		assert_null(a->grammar); /* the second step takes all of them */
		assert_int_equal(a->n_prompts, 0);
		a->work.on_loop = a->work.again = false;
		st = answer_make(a, serving.scratch, &made.no);
		assert_false(a->work.again);
	}
	answer_free(a);
	return st;
}

static void test_steps(void **state)
{
	assert_int_equal(make("{" QUESTION "}"), OK);
	assert_false(made.again);
	for (int known = 0; known < 2; known++) {
		assert_int_equal(make("{" QUESTION "," TOOLS "}"), OK);
		assert_int_equal(made.again, !known);
		assert_int_equal(make("{" QUESTION ",\"guided_regex\":\"a\"}"), OK);
		assert_int_equal(made.again, !known);
	}
}

/* Two constraints, of which either may be known. */
static void test_two_constraints(void **state)
{
	static const char *const bodies[] = { "{" QUESTION "," TOOLS ",\"guided_regex\":\"b\"}",
		"{" QUESTION "," TOOLS ",\"guided_regex\":\"a\"}" };

	assert_int_equal(make("{" QUESTION "," TOOLS "}"), OK);
	assert_int_equal(make("{" QUESTION ",\"guided_regex\":\"a\"}"), OK);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(make(bodies[i]), E_INVAL);
		assert_int_equal(made.again, i == 0);
		assert_string_equal(made.no.param, "tool_choice");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_two_constraints),
	};

	return cmocka_run_group_tests(tests, server_case_open, server_case_close);
}
