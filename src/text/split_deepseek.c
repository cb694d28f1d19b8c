/*
 * The pre-tokenizer of DeepSeek-V3 as a scanner. It does in one pass what three regular expressions
 * do in three: digits (up to three together) and CJK runs are cut out first, and what lies between
 * them is a segment of its own, whose end counts as the end of text for the white-space rules.
 *
 * Equality with the PCRE2 chain is tested on random and mixed text (tests/unit/text_split_test.c).
 */
#include <string.h>

#include "text/split.h"
#include "text/unicode.h"

#define LETTER (UNI_L | UNI_M)
#define PUNCT (UNI_P | UNI_S)
#define CUT (UNI_N | UNI_CJK) /* ends a segment */

struct scan {
	const char *text;
	size_t len;
};

/* Class of the code point at i and its length; class 0 and length 0 at the end of text. */
static inline uint8_t class_at(const struct scan *s, size_t i, unsigned *n)
{
	uint32_t cp;
	uint8_t c;

	if (i >= s->len) {
		*n = 0;
		return 0;
	}
	c = (uint8_t)s->text[i];
	if (c < 0x80) {
		*n = 1;
		return unicode_class_block[0][c];
	}
	*n = utf8_decode(s->text + i, &cp);
	return unicode_class_of(cp);
}

/* End of the longest run from i whose classes meet `any` and none of `none`. */
static inline size_t run_end(const struct scan *s, size_t i, uint8_t any, uint8_t none)
{
	for (;;) {
		unsigned n;
		uint8_t c = class_at(s, i, &n);

		if (!(c & any) || (c & none))
			return i;
		i += n;
	}
}

static inline bool is_newline(char c)
{
	return c == '\n' || c == '\r';
}

static size_t newlines_end(const struct scan *s, size_t i)
{
	while (i < s->len && is_newline(s->text[i]))
		i++;
	return i;
}

static inline bool is_ascii_letter(uint8_t c)
{
	return (uint8_t)((c | 0x20) - 'a') < 26;
}

/* End of the piece that starts with white space at i, where no letter or punctuation is attached.
 */
static size_t space_end(const struct scan *s, size_t i)
{
	size_t newline_end = 0, last = i, at = i;
	unsigned n;
	uint8_t c;

	for (;;) {
		c = class_at(s, at, &n);
		if (!(c & UNI_SPACE))
			break;
		last = at;
		at += n;
		if (is_newline(s->text[last]))
			newline_end = at;
	}
	if (newline_end)
		return newline_end;
	if (n == 0 || (c & CUT)) /* the segment ends here */
		return at;
	return last > i ? last : at; /* leave the last one to what follows */
}

/* Up to three digits. */
static size_t digits_end(const struct scan *s, size_t i)
{
	unsigned k, n;

	for (k = 0; k < 3; k++) {
		if (!(class_at(s, i, &n) & UNI_N))
			break;
		i += n;
	}
	return i;
}

/* End of the CJK code points from i that are of one of these classes. */
static inline size_t cjk_run_end(const struct scan *s, size_t i, uint8_t any)
{
	for (;;) {
		unsigned n;
		uint8_t c = class_at(s, i, &n);

		if (!(c & UNI_CJK) || !(c & any))
			return i;
		i += n;
	}
}

/*
 * End of the first piece of the CJK run at i, whose first code point has class c and length n. The
 * third expression cuts such a run again, for not all of it are letters: U+30FB, U+30A0, U+309B and
 * U+309C are signs, U+3040, U+3097 and U+3098 are unassigned, and the last of several unassigned
 * ones goes with the letters that follow.
 */
static size_t cjk_end(const struct scan *s, size_t i, uint8_t c, unsigned n)
{
	size_t start = i;

	if (c & (LETTER | PUNCT))
		return cjk_run_end(s, i + n, c & LETTER ? LETTER : PUNCT);
	for (;;) {
		size_t last = i;

		i += n;
		c = class_at(s, i, &n);
		if (!(c & UNI_CJK) || (c & PUNCT))
			return i;
		if (c & LETTER)
			return last > start ? last : cjk_run_end(s, i + n, LETTER);
	}
}

/* End of the piece at i, whose first code point has class c and length n, by the segment rules. */
static inline size_t piece_end(const struct scan *s, size_t i, uint8_t c, unsigned n, bool *matched)
{
	unsigned n2;
	uint8_t c2;

	*matched = true;
	if (c & LETTER)
		return run_end(s, i + n, LETTER, CUT);
	if (c & PUNCT) {
		if ((uint8_t)s->text[i] < 0x80 && i + 1 < s->len &&
			is_ascii_letter((uint8_t)s->text[i + 1])) {
			for (i++; i < s->len && is_ascii_letter((uint8_t)s->text[i]);)
				i++;
			return i;
		}
		return newlines_end(s, run_end(s, i + n, PUNCT, CUT));
	}
	if (!is_newline(s->text[i])) {
		c2 = class_at(s, i + n, &n2);
		if ((c2 & LETTER) && !(c2 & CUT))
			return run_end(s, i + n + n2, LETTER, CUT);
		if (s->text[i] == ' ' && (c2 & PUNCT) && !(c2 & CUT))
			return newlines_end(s, run_end(s, i + n + n2, PUNCT, CUT));
	}
	if (c & UNI_SPACE)
		return space_end(s, i);
	*matched = false;
	return i + n;
}

size_t split_deepseek(const char *text, size_t len, size_t *pos, uint32_t *ends, size_t max)
{
	struct scan s = {text, len};
	size_t i = *pos, k = 0;

	while (i < len && k < max) {
		unsigned n;
		uint8_t c = class_at(&s, i, &n);
		bool matched = true;

		if (c & UNI_N) {
			i = digits_end(&s, i);
		} else if (c & UNI_CJK) {
			i = cjk_end(&s, i, c, n);
		} else {
			size_t start = i, next;

			/* What no rule matches joins with its neighbours of the same kind. */
			while ((next = piece_end(&s, i, c, n, &matched)), !matched) {
				i = next;
				c = class_at(&s, i, &n);
				if (n == 0 || (c & CUT))
					break;
			}
			if (matched && i > start) {
				ends[k++] = (uint32_t)i;
				if (k == max)
					break;
			}
			if (matched)
				i = next;
		}
		ends[k++] = (uint32_t)i;
	}
	*pos = i;
	return k;
}
