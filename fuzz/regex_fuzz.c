/* Any bytes as a regular expression: refused with a message, or compiled and walked. */
#include "grammar_case.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return grammar_case_text(grammar_from_regex, data, size);
}
