/*
 * Any bytes as JSON, read as a list of tools, a list of choices or a JSON schema: refused with a message, or compiled and
 * walked.
 */
#include "grammar_case.h"

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum status compile(struct grammar **g, const json_t *v, size_t size, struct error *err)
{
	const struct grammar_json_options options = { .compact = size % 3 == 0, .closed = size % 5 == 0 };
	const struct grammar_vocab *vocab = grammar_case_vocab();

	if (json_is_array(v) && json_is_object(json_array_get(v, 0)))
		return grammar_from_tools(g, vocab, grammar_case_format(), v, NULL, size % 2, err);
	if (json_is_array(v))
		return grammar_from_choice(g, vocab, v, err);
	return grammar_from_schema(g, vocab, v, &options, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err = { 0 };
	struct grammar *g = NULL;
	enum status st;
	json_t *v;

	if (json_load_text(&v, (const char *)data, size, "input", &err) != OK)
		return 0;
	st = compile(&g, v, size, &err);
	json_decref(v);
	grammar_case_end(st, g, &err, size);
	return 0;
}
