/* Upper and lower case of code points, full mappings of up to three. */
#ifndef TEXT_UNICODE_CASE_H
#define TEXT_UNICODE_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct unicode_case {
	uint32_t from;
	uint32_t to[3]; /* 0: no more */
};

extern const struct unicode_case unicode_upper[], unicode_lower[]; /* by rising `from` */
extern const size_t unicode_n_upper, unicode_n_lower;

/* NULL: the code point stands for itself. */
const struct unicode_case *unicode_case_find(uint32_t cp, bool upper);

#endif
