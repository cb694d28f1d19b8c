/*
 * Strings of templates. Marks travel with every byte.
 *
 * Why a mark per byte, and not a sentinel around client text: templates search, strip, split, slice
 * and count; a sentinel in the text would be found, cut in two or counted, and a client could write
 * one. A mark beside the text is seen by no operation and lost by none: what is taken from a string
 * takes its marks along, what is put in the place of a character (an escape, the other case) takes
 * that character's. Clean strings have no marks and cost nothing.
 */
#include "text/jinja_str.h"

#include <string.h>

#include "text/jinja_run.h"
#include "text/unicode.h"
#include "text/unicode_case.h"

bool jinja_is_space(uint32_t cp)
{
	/* Python counts the four information separators as white space, Unicode does not. */
	return (unicode_class_of(cp) & UNI_SPACE) || (cp >= 0x1C && cp <= 0x1F);
}

unsigned jinja_utf8_encode(uint32_t cp, char *dst)
{
	if (cp < 0x80) {
		dst[0] = (char)cp;
		return 1;
	}
	if (cp < 0x800) {
		dst[0] = (char)(0xC0 | cp >> 6);
		dst[1] = (char)(0x80 | (cp & 63));
		return 2;
	}
	if (cp < 0x10000) {
		dst[0] = (char)(0xE0 | cp >> 12);
		dst[1] = (char)(0x80 | (cp >> 6 & 63));
		dst[2] = (char)(0x80 | (cp & 63));
		return 3;
	}
	dst[0] = (char)(0xF0 | cp >> 18);
	dst[1] = (char)(0x80 | (cp >> 12 & 63));
	dst[2] = (char)(0x80 | (cp >> 6 & 63));
	dst[3] = (char)(0x80 | (cp & 63));
	return 4;
}

static enum status sb_grow(struct jinja_sb *sb, size_t need)
{
	size_t cap = sb->cap ? sb->cap : 64;
	uint8_t *mark = NULL;
	char *s;

	while (cap < need)
		cap *= 2;
	TRY(jinja_alloc(sb->run, &s, cap, 1));
	if (sb->len)
		memcpy(s, sb->s, sb->len);
	if (sb->mark) {
		TRY(jinja_alloc(sb->run, &mark, cap, 1));
		memcpy(mark, sb->mark, sb->len);
	}
	sb->s = s;
	sb->mark = mark;
	sb->cap = cap;
	return OK;
}

enum status jinja_sb_put(struct jinja_sb *sb, struct jinja_str s)
{
	struct jinja_run *r = sb->run;

	if (!s.len)
		return OK;
	TRY(jinja_charge_bytes(r, s.len));
	if (sb == r->out && r->to_page && s.len > r->limits.output_bytes - sb->len)
		return jinja_fail(
			r, E_LIMIT, "output of more than %zu bytes", r->limits.output_bytes);
	if (s.len > sb->cap - sb->len) {
		if (s.len > r->limits.memory_bytes)
			return jinja_fail(r, E_LIMIT, "more than %zu bytes of memory needed",
				r->limits.memory_bytes);
		TRY(sb_grow(sb, sb->len + s.len));
	}
	if (s.mark && !sb->mark)
		TRY(jinja_alloc(r, &sb->mark, sb->cap, 1));
	memcpy(sb->s + sb->len, s.s, s.len);
	if (s.mark)
		memcpy(sb->mark + sb->len, s.mark, s.len);
	sb->len += s.len;
	return OK;
}

enum status jinja_sb_puts(struct jinja_sb *sb, const char *s)
{
	return jinja_sb_put(sb, (struct jinja_str){.s = s, .len = strlen(s)});
}

enum status jinja_sb_put_as(struct jinja_sb *sb, struct jinja_str s, size_t i, const char *text)
{
	uint8_t mark[16];
	struct jinja_str one = {.s = text, .len = strlen(text)};

	if (s.mark) {
		memset(mark, s.mark[i], sizeof(mark));
		one.mark = mark;
	}
	return jinja_sb_put(sb, one);
}

enum status jinja_sb_value(struct jinja_sb *sb, struct jinja_value *out)
{
	return jinja_str_new(sb->run, out,
		(struct jinja_str){.s = sb->s ? sb->s : "", .mark = sb->mark, .len = sb->len});
}

size_t jinja_str_points(struct jinja_str s)
{
	size_t i, n = 0;

	for (i = 0; i < s.len; i++)
		n += (s.s[i] & 0xC0) != 0x80;
	return n;
}

size_t jinja_str_offset(struct jinja_str s, size_t n)
{
	size_t i = 0;

	for (; n && i < s.len; n--) {
		do
			i++;
		while (i < s.len && (s.s[i] & 0xC0) == 0x80);
	}
	return i;
}

static bool is_stripped(const char *p, size_t n, const struct jinja_str *chars)
{
	uint32_t cp;

	if (chars)
		return jinja_str_find(*chars, (struct jinja_str){.s = p, .len = n}, 0) != SIZE_MAX;
	utf8_decode(p, &cp);
	return jinja_is_space(cp);
}

struct jinja_str jinja_str_strip(
	struct jinja_str s, const struct jinja_str *chars, bool left, bool right)
{
	size_t start = 0, end = s.len, n;

	while (left && start < end) {
		n = jinja_str_offset(jinja_str_sub(s, start, end), 1);
		if (!is_stripped(s.s + start, n, chars))
			break;
		start += n;
	}
	while (right && start < end) {
		for (n = 1; (s.s[end - n] & 0xC0) == 0x80;)
			n++;
		if (!is_stripped(s.s + end - n, n, chars))
			break;
		end -= n;
	}
	return jinja_str_sub(s, start, end);
}

size_t jinja_str_find(struct jinja_str s, struct jinja_str needle, size_t from)
{
	const char *hit;

	if (from > s.len || needle.len > s.len - from)
		return SIZE_MAX;
	if (!needle.len)
		return from;
	hit = memmem(s.s + from, s.len - from, needle.s, needle.len);
	return hit ? (size_t)(hit - s.s) : SIZE_MAX;
}

size_t jinja_str_rfind(struct jinja_str s, struct jinja_str needle, size_t end)
{
	size_t i;

	if (needle.len > end)
		return SIZE_MAX;
	for (i = end - needle.len;; i--) {
		if (!needle.len || memcmp(s.s + i, needle.s, needle.len) == 0)
			return i;
		if (!i)
			return SIZE_MAX;
	}
}

bool jinja_str_equal(struct jinja_str a, struct jinja_str b)
{
	return a.len == b.len && (!a.len || memcmp(a.s, b.s, a.len) == 0);
}

enum status jinja_sb_put_case(struct jinja_sb *sb, struct jinja_str s, enum jinja_case c)
{
	size_t i, n;

	TRY(jinja_charge(sb->run, s.len / 4 + 1));
	for (i = 0; i < s.len; i += n) {
		struct jinja_str one;
		const struct unicode_case *m;
		uint32_t cp;
		char text[12];
		uint8_t mark[12];
		size_t k;

		n = utf8_decode(s.s + i, &cp);
		one = jinja_str_sub(s, i, i + n);
		m = unicode_case_find(cp, c == JINJA_UPPER);
		if (m) {
			for (one.len = k = 0; k < 3 && m->to[k]; k++)
				one.len += jinja_utf8_encode(m->to[k], text + one.len);
			memset(mark, s.mark ? s.mark[i] : 0, sizeof(mark));
			one.s = text;
			one.mark = s.mark ? mark : NULL;
		}
		TRY(jinja_sb_put(sb, one));
	}
	return OK;
}

enum status jinja_str_append(
	struct jinja_run *r, struct jinja_value *out, const struct jinja_str *a, struct jinja_str b)
{
	struct jinja_sb *sb = a->sb;
	struct jinja_str *p;

	if (!sb || sb->s != a->s || sb->len != a->len) {
		TRY(jinja_alloc(r, &sb, 1, sizeof(*sb)));
		sb->run = r;
		TRY(jinja_sb_put(sb, *a));
	}
	TRY(jinja_sb_put(sb, b));
	TRY(jinja_alloc(r, &p, 1, sizeof(*p)));
	*p = (struct jinja_str){
		.s = sb->s ? sb->s : "", .mark = sb->mark, .len = sb->len, .sb = sb};
	*out = (struct jinja_value){.type = JINJA_STRING, .str = p};
	return OK;
}

enum status jinja_str_replace(struct jinja_run *r, struct jinja_value *out, struct jinja_str s,
	struct jinja_str old, struct jinja_str new, int64_t max)
{
	struct jinja_sb sb = {.run = r};
	size_t at = 0, hit, n;

	TRY(jinja_charge_bytes(r, s.len));
	for (; max != 0; max--) {
		if (old.len) {
			hit = jinja_str_find(s, old, at);
			if (hit == SIZE_MAX)
				break;
			TRY(jinja_sb_put(&sb, jinja_str_sub(s, at, hit)));
			TRY(jinja_sb_put(&sb, new));
			at = hit + old.len;
		} else { /* between all code points */
			TRY(jinja_sb_put(&sb, new));
			if (at == s.len)
				break;
			n = jinja_str_offset(jinja_str_sub(s, at, s.len), 1);
			TRY(jinja_sb_put(&sb, jinja_str_sub(s, at, at + n)));
			at += n;
		}
	}
	TRY(jinja_sb_put(&sb, jinja_str_sub(s, at, s.len)));
	return jinja_sb_value(&sb, out);
}

static enum status push_str(struct jinja_run *r, struct jinja_list *l, struct jinja_str s)
{
	struct jinja_value v;

	TRY(jinja_str_new(r, &v, s));
	return jinja_list_push(r, l, v);
}

/* Splits at white space: the parts are not empty. */
static enum status split_space(
	struct jinja_run *r, struct jinja_list *l, struct jinja_str s, int64_t max, bool from_right)
{
	struct jinja_str rest = s, tail;
	size_t at, n;

	for (;;) {
		rest = jinja_str_strip(rest, NULL, !from_right, from_right);
		if (!rest.len)
			return OK;
		if (max == 0)
			return push_str(r, l, rest);
		max -= max > 0;
		at = from_right ? rest.len : 0;
		while (from_right ? at > 0 : at < rest.len) {
			if (from_right) {
				for (n = 1; (rest.s[at - n] & 0xC0) == 0x80;)
					n++;
				if (is_stripped(rest.s + at - n, n, NULL))
					break;
				at -= n;
			} else {
				n = jinja_str_offset(jinja_str_sub(rest, at, rest.len), 1);
				if (is_stripped(rest.s + at, n, NULL))
					break;
				at += n;
			}
		}
		tail = from_right ? jinja_str_sub(rest, at, rest.len) : jinja_str_sub(rest, 0, at);
		rest = from_right ? jinja_str_sub(rest, 0, at) : jinja_str_sub(rest, at, rest.len);
		TRY(push_str(r, l, tail));
	}
}

enum status jinja_str_split(struct jinja_run *r, struct jinja_value *out, struct jinja_str s,
	const struct jinja_str *sep, int64_t max, bool from_right)
{
	size_t at = 0, hit, i;

	if (sep && !sep->len)
		return jinja_fail(r, E_INVAL, "split: empty separator");
	TRY(jinja_charge_bytes(r, s.len));
	TRY(jinja_list_new(r, out, 0));
	if (!sep) {
		TRY(split_space(r, out->list, s, max, from_right));
	} else if (from_right) {
		for (at = s.len; max != 0; max--) {
			hit = jinja_str_rfind(s, *sep, at);
			if (hit == SIZE_MAX)
				break;
			TRY(push_str(r, out->list, jinja_str_sub(s, hit + sep->len, at)));
			at = hit;
		}
		TRY(push_str(r, out->list, jinja_str_sub(s, 0, at)));
	} else {
		for (; max != 0; max--) {
			hit = jinja_str_find(s, *sep, at);
			if (hit == SIZE_MAX)
				break;
			TRY(push_str(r, out->list, jinja_str_sub(s, at, hit)));
			at = hit + sep->len;
		}
		TRY(push_str(r, out->list, jinja_str_sub(s, at, s.len)));
	}
	for (i = 0; from_right && i < out->list->n / 2; i++) {
		struct jinja_value v = out->list->items[i];

		out->list->items[i] = out->list->items[out->list->n - 1 - i];
		out->list->items[out->list->n - 1 - i] = v;
	}
	return OK;
}
