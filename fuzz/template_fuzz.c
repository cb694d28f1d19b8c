/*
 * Any bytes as a chat template over a fixed conversation: refused with a message, or rendered within
 * its bounds to valid UTF-8.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char conversation[] =
	"[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":\"1+1 <think>?\"},"
	"{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"a\",\"type\":\"function\","
	"\"function\":{\"name\":\"add\",\"arguments\":\"{\\\"x\\\": 1}\"}}]},"
	"{\"role\":\"tool\",\"tool_call_id\":\"a\",\"content\":\"2\"}]";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static json_t *messages;
	struct jinja_limits limits = {.steps = 20000, .memory_bytes = 4 << 20, .output_bytes = 1 << 20};
	struct jinja_var vars[] = {
		{"messages", NULL, true},
		{"add_generation_prompt", json_true(), false},
		{"thinking", json_false(), false},
	};
	struct jinja_output out = {0};
	struct jinja_template *t;
	struct error err = {0};

	if (!messages)
		messages = json_loads(conversation, 0, NULL);
	vars[0].value = messages;
	if (jinja_compile(&t, (const char *)data, size, "input", &err) != OK) {
		if (!err.msg[0])
			abort();
		return 0;
	}
	if (jinja_render(&out, t, vars, sizeof(vars) / sizeof(*vars), &limits, &err) == OK) {
		if (out.text.len > limits.output_bytes || (out.marks.len && out.marks.len != out.text.len))
			abort();
		jinja_output_deinit(&out);
	} else if (!err.msg[0]) {
		abort();
	}
	jinja_destroy(t);
	return 0;
}
