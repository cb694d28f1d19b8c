/*
 * Text of templates: a builder that keeps marks, and the operations on strings. Positions and
 * lengths that templates see count code points; those here count bytes.
 */
#ifndef TEXT_JINJA_STR_H
#define TEXT_JINJA_STR_H

#include "text/jinja_value.h"

/* Grows in the arena of the rendering. Marks exist from the first marked byte on. */
struct jinja_sb {
	struct jinja_run *run;
	char *s;
	uint8_t *mark;
	size_t len, cap;
};

enum status jinja_sb_put(struct jinja_sb *sb, struct jinja_str s);
enum status jinja_sb_puts(struct jinja_sb *sb, const char *s);
/* Text of at most 16 bytes in place of the character at s[i], with its mark. */
enum status jinja_sb_put_as(struct jinja_sb *sb, struct jinja_str s, size_t i, const char *text);
/* A string value of what was built; the builder may go on, earlier values keep their text. */
enum status jinja_sb_value(struct jinja_sb *sb, struct jinja_value *out);

static inline struct jinja_str jinja_str_sub(struct jinja_str s, size_t start, size_t end)
{
	return (struct jinja_str){
		.s = s.s + start, .mark = s.mark ? s.mark + start : NULL, .len = end - start};
}

bool jinja_is_space(uint32_t cp); /* str.isspace() */
unsigned jinja_utf8_encode(uint32_t cp, char *dst);
size_t jinja_str_points(struct jinja_str s);
/* Byte offset of code point n, or len when there are fewer. */
size_t jinja_str_offset(struct jinja_str s, size_t n);
/* chars NULL: white space. */
struct jinja_str jinja_str_strip(
	struct jinja_str s, const struct jinja_str *chars, bool left, bool right);
/* Offset of the first needle at or after `from`, or SIZE_MAX. */
size_t jinja_str_find(struct jinja_str s, struct jinja_str needle, size_t from);
size_t jinja_str_rfind(struct jinja_str s, struct jinja_str needle, size_t end);
bool jinja_str_equal(struct jinja_str a, struct jinja_str b);

enum jinja_case { JINJA_UPPER, JINJA_LOWER };
/* Appends s with its case changed. */
enum status jinja_sb_put_case(struct jinja_sb *sb, struct jinja_str s, enum jinja_case c);
/* a followed by b. */
enum status jinja_str_append(struct jinja_run *r, struct jinja_value *out,
	const struct jinja_str *a, struct jinja_str b);
/* At most max replacements; max < 0: all. */
enum status jinja_str_replace(struct jinja_run *r, struct jinja_value *out, struct jinja_str s,
	struct jinja_str old, struct jinja_str new, int64_t max);
/* sep NULL: runs of white space. max < 0: all. */
enum status jinja_str_split(struct jinja_run *r, struct jinja_value *out, struct jinja_str s,
	const struct jinja_str *sep, int64_t max, bool from_right);

#endif
