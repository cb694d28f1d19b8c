/*
 * Lexer of templates, after jinja2/lexer.py: line ends become "\n", one final line end is dropped,
 * `-` strips white space beside a tag, trim_blocks drops the line end after a tag or comment,
 * lstrip_blocks the blanks before one that starts its line, `+` switches both off.
 */
#include "text/jinja_lex.h"

#include <stdlib.h>
#include <string.h>

#include "text/jinja_str.h"
#include "text/unicode.h"

struct lexer {
	struct jinja_tokens *out;
	struct arena *arena;
	const char *s;
	size_t len, pos;
	size_t counted; /* line ends before this offset are in `line` */
	uint32_t line;
	unsigned depth; /* open brackets */
	char open[64];
	bool line_starting;
	const char *what;
	struct error *err;
};

static uint32_t line_at(struct lexer *l, size_t pos)
{
	for (; l->counted < pos; l->counted++)
		l->line += l->s[l->counted] == '\n';
	return l->line;
}

#define lex_fail(l, pos, fmt, ...)                                                                 \
	error_set((l)->err, E_FORMAT, "%s: line %u: " fmt, (l)->what, line_at(l, pos),             \
		##__VA_ARGS__)

static enum status push(
	struct lexer *l, enum jinja_token_kind kind, size_t pos, struct jinja_token token)
{
	struct jinja_tokens *t = l->out;

	if (t->len == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 256;
		struct jinja_token *data = arena_try_alloc(l->arena, cap, sizeof(*data));

		if (!data)
			return error_set(l->err, E_LIMIT, "%s: template too large", l->what);
		if (t->len)
			memcpy(data, t->data, t->len * sizeof(*data));
		t->data = data;
		t->cap = cap;
	}
	token.kind = (uint8_t)kind;
	token.line = line_at(l, pos);
	t->data[t->len++] = token;
	return OK;
}

static enum status push_data(struct lexer *l, size_t start, size_t end)
{
	if (end <= start)
		return OK;
	return push(l, JINJA_T_DATA, start,
		(struct jinja_token){.str = {.s = l->s + start, .len = end - start}});
}

static size_t skip_space(const struct lexer *l, size_t pos)
{
	uint32_t cp;
	unsigned n;

	while (pos < l->len) {
		n = utf8_decode(l->s + pos, &cp);
		if (!jinja_is_space(cp))
			break;
		pos += n;
	}
	return pos;
}

static size_t rstrip(const struct lexer *l, size_t start, size_t end)
{
	struct jinja_str s = {.s = l->s + start, .len = end - start};

	return start + jinja_str_strip(s, NULL, false, true).len;
}

/* Where the text before a tag at `at` ends. */
static size_t text_end(const struct lexer *l, size_t start, size_t at)
{
	char sign = at + 2 < l->len ? l->s[at + 2] : 0;
	size_t line = at;

	if (sign == '-')
		return rstrip(l, start, at);
	if (sign == '+' || l->s[at + 1] == '{')
		return at;
	while (line > start && l->s[line - 1] != '\n')
		line--;
	if ((line > start || l->line_starting) && skip_space(l, line) >= at)
		return line;
	return at;
}

/* Behind a closing delimiter of two characters at `at`; `sign` stands before it. */
static size_t close_at(struct lexer *l, size_t at, char sign, bool trim)
{
	size_t pos = at + 2;

	if (sign == '-')
		pos = skip_space(l, pos);
	else if (sign != '+' && trim && pos < l->len && l->s[pos] == '\n')
		pos++;
	l->line_starting = l->s[pos - 1] == '\n';
	return pos;
}

static bool starts(const struct lexer *l, size_t pos, const char *text)
{
	size_t n = strlen(text);

	return l->len - pos >= n && memcmp(l->s + pos, text, n) == 0;
}

static enum status lex_comment(struct lexer *l, size_t at)
{
	size_t start = at + 2, end;

	if (start < l->len && (l->s[start] == '-' || l->s[start] == '+'))
		start++;
	for (end = start; end < l->len && !starts(l, end, "#}"); end++)
		;
	if (end == l->len)
		return lex_fail(l, at, "comment without an end, expected '#}'");
	l->pos = close_at(l, end, end > start ? l->s[end - 1] : 0, true);
	return OK;
}

/* Behind a `{% word %}` tag at `at`, or 0; *close is its closing delimiter, *sign what precedes. */
static size_t word_tag(
	const struct lexer *l, size_t at, const char *word, size_t *close, char *sign)
{
	size_t pos = at + 2;

	if (pos < l->len && (l->s[pos] == '-' || l->s[pos] == '+'))
		pos++;
	pos = skip_space(l, pos);
	if (!starts(l, pos, word))
		return 0;
	pos = skip_space(l, pos + strlen(word));
	*sign = 0;
	if (pos < l->len && (l->s[pos] == '-' || l->s[pos] == '+'))
		*sign = l->s[pos++];
	if (!starts(l, pos, "%}"))
		return 0;
	*close = pos;
	return pos + 2;
}

static enum status lex_raw(struct lexer *l, size_t at, size_t close, char sign)
{
	size_t start = close_at(l, close, sign, false), end;

	for (end = start; end < l->len; end++) {
		if (starts(l, end, "{%") && word_tag(l, end, "endraw", &close, &sign))
			break;
	}
	if (end == l->len)
		return lex_fail(l, at, "raw block without an end, expected '{%% endraw %%}'");
	TRY(push_data(l, start, text_end(l, start, end)));
	l->pos = close_at(l, close, sign, true);
	return OK;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_name_byte(char c, bool first)
{
	return (uint8_t)((c | 0x20) - 'a') < 26 || c == '_' || (uint8_t)c >= 0x80 ||
	       (!first && is_digit(c));
}

/* Value of a digit in bases to 36, or 99. */
static unsigned digit_value(char c)
{
	if (is_digit(c))
		return (unsigned)(c - '0');
	c |= 0x20;
	return c >= 'a' && c <= 'z' ? (unsigned)(c - 'a') + 10 : 99;
}

static size_t digits_end(const struct lexer *l, size_t pos, unsigned base)
{
	while (pos < l->len &&
		(digit_value(l->s[pos]) < base || (l->s[pos] == '_' && pos + 1 < l->len &&
							  digit_value(l->s[pos + 1]) < base)))
		pos++;
	return pos;
}

static enum status lex_int(struct lexer *l, size_t start, size_t end, unsigned base)
{
	int64_t v = 0;
	size_t i;

	for (i = base == 10 ? start : start + 2; i < end; i++) {
		if (l->s[i] == '_')
			continue;
		if (__builtin_mul_overflow(v, (int64_t)base, &v) ||
			__builtin_add_overflow(v, (int64_t)digit_value(l->s[i]), &v))
			return lex_fail(l, start, "integer beyond 64 bits");
	}
	l->pos = end;
	return push(l, JINJA_T_INT, start, (struct jinja_token){.num.i = v});
}

static enum status lex_number(struct lexer *l, size_t start)
{
	size_t end, i, n = 0;
	unsigned base = 10;
	char text[64], c;
	bool real = false;

	if (l->s[start] == '0' && start + 1 < l->len) {
		c = l->s[start + 1] | 0x20;
		base = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
	}
	if (base != 10)
		return lex_int(l, start, digits_end(l, start + 2, base), base);
	end = digits_end(l, start, 10);
	if (start && l->s[start - 1] == '.') /* x.1.0 is two subscripts */
		return lex_int(l, start, end, 10);
	if (end + 1 < l->len && l->s[end] == '.' && is_digit(l->s[end + 1])) {
		real = true;
		end = digits_end(l, end + 1, 10);
	}
	if (end < l->len && (l->s[end] | 0x20) == 'e') {
		i = end + 1;
		i += i < l->len && (l->s[i] == '+' || l->s[i] == '-');
		if (i < l->len && is_digit(l->s[i])) {
			real = true;
			end = digits_end(l, i, 10);
		}
	}
	if (!real)
		return lex_int(l, start, end, 10);
	for (i = start; i < end && n + 1 < sizeof(text); i++) {
		if (l->s[i] != '_')
			text[n++] = l->s[i];
	}
	if (i < end)
		return lex_fail(l, start, "number of more than %zu characters", sizeof(text) - 1);
	text[n] = 0;
	l->pos = end;
	return push(l, JINJA_T_FLOAT, start, (struct jinja_token){.num.f = strtod(text, NULL)});
}

/* Resolves one escape at s[i] == '\\'; appends to dst, returns characters read or 0: wrong. */
static size_t unescape(const char *s, size_t len, size_t i, char *dst, size_t *n)
{
	static const char plain[] = "abfnrtv\\'\"", mapped[] = "\a\b\f\n\r\t\v\\'\"";
	char c = s[i + 1];
	const char *hit = c ? strchr(plain, c) : NULL;
	unsigned want = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0, k;
	uint32_t cp = 0;

	if (hit) {
		dst[(*n)++] = mapped[hit - plain];
		return 2;
	}
	if (c == '\n')
		return 2;
	if (c == 'N')
		return 0;
	if (want) {
		for (k = 0; k < want; k++) {
			if (i + 2 + k >= len || digit_value(s[i + 2 + k]) > 15)
				return 0;
			cp = cp << 4 | digit_value(s[i + 2 + k]);
		}
	} else if (c >= '0' && c <= '7') {
		for (; want < 3 && i + 1 + want < len && s[i + 1 + want] >= '0' &&
			s[i + 1 + want] <= '7';
			want++)
			cp = cp << 3 | digit_value(s[i + 1 + want]);
		want--;
	} else { /* unknown: the backslash stays */
		dst[(*n)++] = '\\';
		return 1;
	}
	if (cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF))
		return 0;
	*n += jinja_utf8_encode(cp, dst + *n);
	return 2 + want;
}

static enum status lex_string(struct lexer *l, size_t start)
{
	char quote = l->s[start], *dst;
	size_t end = start + 1, i, n = 0, step;

	while (end < l->len && l->s[end] != quote)
		end += l->s[end] == '\\' ? 2 : 1;
	if (end >= l->len)
		return lex_fail(l, start, "string without an end, expected %c", quote);
	/* No escape yields more bytes than it is long. */
	dst = arena_try_alloc(l->arena, end - start, 1);
	if (!dst)
		return error_set(l->err, E_LIMIT, "%s: template too large", l->what);
	for (i = start + 1; i < end; i += step) {
		step = 1;
		if (l->s[i] != '\\') {
			dst[n++] = l->s[i];
			continue;
		}
		step = unescape(l->s, end, i, dst, &n);
		if (!step)
			return lex_fail(l, i, "escape '%.2s' in a string is not supported or wrong",
				l->s + i);
	}
	l->pos = end + 1;
	return push(l, JINJA_T_STRING, start, (struct jinja_token){.str = {.s = dst, .len = n}});
}

static enum status lex_operator(struct lexer *l, size_t at)
{
	static const struct {
		char text[3];
		uint8_t op;
	} pairs[] = {{"==", JINJA_OP_EQ}, {"!=", JINJA_OP_NE}, {">=", JINJA_OP_GE},
		{"<=", JINJA_OP_LE}, {"//", JINJA_OP_FLOORDIV}, {"**", JINJA_OP_POW}};
	char c = l->s[at];
	size_t i;

	for (i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		if (starts(l, at, pairs[i].text)) {
			l->pos = at + 2;
			return push(l, JINJA_T_OP, at, (struct jinja_token){.op = pairs[i].op});
		}
	}
	if (!c || !strchr("+-/*%~[](){}<>=.:|,", c))
		return lex_fail(l, at, "unexpected character '%c'", c > ' ' && c < 127 ? c : '?');
	if (strchr("([{", c)) {
		if (l->depth == sizeof(l->open))
			return lex_fail(l, at, "more than %zu open brackets", sizeof(l->open));
		l->open[l->depth++] = c == '(' ? ')' : c == '[' ? ']' : '}';
	} else if (strchr(")]}", c)) {
		if (!l->depth)
			return lex_fail(l, at, "unexpected '%c'", c);
		if (l->open[--l->depth] != c)
			return lex_fail(
				l, at, "unexpected '%c', expected '%c'", c, l->open[l->depth]);
	}
	l->pos = at + 1;
	return push(l, JINJA_T_OP, at, (struct jinja_token){.op = (uint8_t)c});
}

/* The tokens of one tag up to its closing delimiter. */
static enum status lex_tag(struct lexer *l, size_t at, bool block)
{
	const char *close = block ? "%}" : "}}";
	size_t pos, end;
	char c;

	TRY(push(l, block ? JINJA_T_TAG_BEGIN : JINJA_T_OUT_BEGIN, at, (struct jinja_token){0}));
	l->depth = 0;
	for (;;) {
		pos = l->pos = skip_space(l, l->pos);
		if (pos == l->len)
			return lex_fail(l, at, "tag without an end, expected '%s'", close);
		c = l->s[pos];
		if (!l->depth) {
			size_t sign = c == '-' || (c == '+' && block);

			if (starts(l, pos + sign, close)) {
				TRY(push(l, block ? JINJA_T_TAG_END : JINJA_T_OUT_END, pos,
					(struct jinja_token){0}));
				l->pos = close_at(l, pos + sign, sign ? c : 0, block);
				return OK;
			}
		}
		if (is_digit(c)) {
			TRY(lex_number(l, pos));
		} else if (c == '\'' || c == '"') {
			TRY(lex_string(l, pos));
		} else if (is_name_byte(c, true)) {
			for (end = pos + 1; end < l->len && is_name_byte(l->s[end], false);)
				end++;
			l->pos = end;
			TRY(push(l, JINJA_T_NAME, pos,
				(struct jinja_token){.str = {.s = l->s + pos, .len = end - pos}}));
		} else {
			TRY(lex_operator(l, pos));
		}
	}
}

static enum status lex_next(struct lexer *l)
{
	size_t start = l->pos, at = start, close = 0;
	char sign = 0;

	for (;; at++) {
		const char *hit = memchr(l->s + at, '{', l->len - at);

		at = hit ? (size_t)(hit - l->s) : l->len;
		if (at + 1 >= l->len) {
			l->pos = l->len;
			return push_data(l, start, l->len);
		}
		if (l->s[at + 1] == '{' || l->s[at + 1] == '%' || l->s[at + 1] == '#')
			break;
	}
	TRY(push_data(l, start, text_end(l, start, at)));
	if (l->s[at + 1] == '#')
		return lex_comment(l, at);
	if (l->s[at + 1] == '%' && word_tag(l, at, "raw", &close, &sign) && sign != '+')
		return lex_raw(l, at, close, sign);
	l->pos = at + 2;
	if (l->pos < l->len && (l->s[l->pos] == '-' || l->s[l->pos] == '+'))
		l->pos++;
	return lex_tag(l, at, l->s[at + 1] == '%');
}

enum status jinja_lex(struct jinja_tokens *out, struct arena *arena, const char *source, size_t len,
	const char *what, struct error *err)
{
	struct lexer l = {.out = out,
		.arena = arena,
		.line = 1,
		.line_starting = true,
		.what = what,
		.err = err};
	char *s = arena_try_alloc(arena, len + 1, 1);
	size_t i;

	if (!s)
		return error_set(err, E_LIMIT, "%s: template too large", what);
	for (i = 0; i < len; i++) {
		if (source[i] == '\r' && i + 1 < len && source[i + 1] == '\n')
			continue;
		s[l.len++] = source[i] == '\r' ? '\n' : source[i];
	}
	if (l.len && s[l.len - 1] == '\n')
		l.len--;
	l.s = s;
	while (l.pos < l.len)
		TRY(lex_next(&l));
	return push(&l, JINJA_T_END, l.len, (struct jinja_token){0});
}
