/* Any bytes as a regular expression: refused with a message, or compiled and walked. */
#include "grammar_case.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err = { 0 };
	struct grammar *g = NULL;
	enum status st;

	if (!grammar_case_is_utf8(data, size))
		return 0;
	st = grammar_from_regex(&g, grammar_case_vocab(), (const char *)data, size, &err);
	grammar_case_end(st, g, &err, size);
	return 0;
}
