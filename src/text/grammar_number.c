/*
 * Numbers between bounds as nodes over their decimal digits (text/grammar_ir.h), and the formats of strings.
 *
 * A magnitude is a whole part without leading zeros and a fraction. Comparing digit by digit gives, for each
 * bound, the texts that agree with it for a while and then leave it on the right side. Multiples of a whole number
 * are told by the remainder of the digits so far.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/grammar_ir.h"

#define MAX_BOUND 1e15L /* of a real: whole numbers and their neighbours are exact below */
#define MAX_WHOLE 19u   /* digits of a number without a bound */
#define MOST 9999999999999999999.0L /* of so many digits */
#define MAX_FRACTION 20u
#define MAX_DECIMALS 32 /* name every double between the bounds that are taken */
#define DIGITS 40
#define MAX_DIVISOR 128u /* without its trailing zeros */

struct magnitude {
	char whole[DIGITS];    /* no leading zeros but "0" */
	char fraction[DIGITS]; /* no trailing zeros */
};

struct interval { /* of magnitudes */
	struct magnitude lo, hi;
	bool has_hi, lo_open; /* only 0 is open: next to other bounds there is a next double */
};

static struct g_node *digits(struct grammar_ir *ir, char lo, char hi)
{
	struct g_range r = { (unsigned char)lo, (unsigned char)hi };

	return lo > hi ? g_never(ir) : g_class(ir, &r, 1, false);
}

static struct g_node *any_digits(struct grammar_ir *ir, uint32_t min, uint32_t max)
{
	return g_repeat(ir, digits(ir, '0', '9'), min, max);
}

/* --- whole numbers of n digits ---------------------------------------------------------------------------- */

/* Digit strings of the length of lo and hi, between them; NULL as a bound: none. */
static struct g_node *between(struct grammar_ir *ir, const char *lo, const char *hi, size_t n)
{
	struct g_node *out = NULL;
	char from = lo ? *lo : '0', to = hi ? *hi : '9';

	if (n == 0)
		return g_empty(ir);
	if (!lo && !hi)
		return any_digits(ir, (uint32_t)n, (uint32_t)n);
	if (lo && hi && from == to)
		return g_seq(ir, digits(ir, from, from), between(ir, lo + 1, hi + 1, n - 1));
	if (lo) {
		out = g_seq(ir, digits(ir, from, from), between(ir, lo + 1, NULL, n - 1));
		from++;
	}
	if (hi) {
		out = g_alt(ir, out, g_seq(ir, digits(ir, to, to), between(ir, NULL, hi + 1, n - 1)));
		to--;
	}
	if (from <= to)
		out = g_alt(ir, out, g_seq(ir, digits(ir, from, to), any_digits(ir, (uint32_t)n - 1, (uint32_t)n - 1)));
	return out;
}

/* Whole numbers from lo to hi (NULL: no end), both without leading zeros; lo <= hi. */
static struct g_node *whole_between(struct grammar_ir *ir, const char *lo, const char *hi)
{
	size_t n_lo = strlen(lo), n_hi = hi ? strlen(hi) : 0;
	char least[DIGITS] = "1";
	struct g_node *out;

	if (hi && n_lo == n_hi)
		return between(ir, lo, hi, n_lo);
	out = between(ir, lo, NULL, n_lo);
	if (!hi)
		return n_lo >= MAX_WHOLE ? out : g_alt(ir, out, g_seq(ir, digits(ir, '1', '9'),
			any_digits(ir, (uint32_t)n_lo, MAX_WHOLE - 1)));
	if (n_hi > n_lo + 1)
		out = g_alt(ir, out, g_seq(ir, digits(ir, '1', '9'),
			any_digits(ir, (uint32_t)n_lo, (uint32_t)n_hi - 2)));
	memset(least + 1, '0', n_hi - 1);
	least[n_hi] = 0;
	return g_alt(ir, out, between(ir, least, hi, n_hi));
}

/* --- fractions ------------------------------------------------------------------------------------------- */

static struct g_node *digits_from(struct grammar_ir *ir, uint32_t min)
{
	return any_digits(ir, min, MAX_FRACTION);
}

struct bounds { /* digits after the point; lo NULL: from 0; hi NULL: no end */
	const char *lo, *hi;
	bool lo_open;
};

static struct g_node *fraction_between(struct grammar_ir *ir, struct bounds v, bool first);

/* One digit, then what its place between the next digits of both bounds allows. */
static struct g_node *next_digit(struct grammar_ir *ir, struct bounds v)
{
	char from = v.lo && *v.lo ? *v.lo : '0', to = v.hi ? *v.hi : '9';
	const char *lo = v.lo && *v.lo ? v.lo + 1 : v.lo;
	struct g_node *out = NULL;

	if (v.lo && v.hi && from > to)
		return g_never(ir);
	if (v.lo && v.hi && from == to)
		return g_seq(ir, digits(ir, from, from),
			fraction_between(ir, (struct bounds){ lo, v.hi + 1, v.lo_open }, false));
	if (v.lo) {
		out = g_seq(ir, digits(ir, from, from),
			fraction_between(ir, (struct bounds){ lo, NULL, v.lo_open }, false));
		from++;
	}
	if (v.hi) {
		out = g_alt(ir, out, g_seq(ir, digits(ir, to, to),
			fraction_between(ir, (struct bounds){ NULL, v.hi + 1, false }, false)));
		to--;
	}
	return from > to ? out : g_alt(ir, out, g_seq(ir, digits(ir, from, to), digits_from(ir, 0)));
}

/* Digits that, as a fraction, lie between the bounds; first: there must be one. */
static struct g_node *fraction_between(struct grammar_ir *ir, struct bounds v, bool first)
{
	struct g_node *out;

	if (v.lo && !*v.lo && !v.lo_open)
		v.lo = NULL;
	if (!v.lo && !v.hi)
		return digits_from(ir, first);
	if (v.hi && !*v.hi) /* no more than 0 */
		return v.lo ? g_never(ir) : g_repeat(ir, digits(ir, '0', '0'), first, MAX_FRACTION);
	if (!v.hi && !*v.lo) /* more than 0 */
		return g_seq(ir, g_seq(ir, g_repeat(ir, digits(ir, '0', '0'), 0, MAX_FRACTION), digits(ir, '1', '9')),
			digits_from(ir, 0));
	out = next_digit(ir, v);
	return first || v.lo ? out : g_alt(ir, out, g_empty(ir));
}

/* "." and digits, at least one; or nothing where `bare` is allowed. */
static struct g_node *fraction(struct grammar_ir *ir, struct g_node *inside, bool bare)
{
	struct g_node *out = g_seq(ir, g_text(ir, "."), inside);

	return bare ? g_alt(ir, g_empty(ir), out) : out;
}

/* --- magnitudes ------------------------------------------------------------------------------------------ */

static int whole_cmp(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);

	return n != m ? (n < m ? -1 : 1) : strcmp(a, b);
}

/* The decimal digits of v >= 0, as few as name it. */
static void magnitude_of(struct magnitude *m, double v)
{
	char text[64];
	char *point;
	size_t n;

	for (int k = 0; k <= MAX_DECIMALS; k++) {
		snprintf(text, sizeof(text), "%.*f", k, v);
		if (strtod(text, NULL) == v)
			break;
	}
	point = strchr(text, '.');
	m->fraction[0] = 0;
	if (point) {
		*point = 0;
		snprintf(m->fraction, sizeof(m->fraction), "%.32s", point + 1);
		for (n = strlen(m->fraction); n && m->fraction[n - 1] == '0'; n--)
			m->fraction[n - 1] = 0;
	}
	snprintf(m->whole, sizeof(m->whole), "%.20s", text);
}

static void whole_add(char *out, const char *whole, int by)
{
	snprintf(out, DIGITS, "%lld", strtoll(whole, NULL, 10) + by);
}

/* A fraction that may be absent: then it is 0, which must lie in the interval. */
static struct g_node *with_fraction(struct grammar_ir *ir, const char *whole, struct bounds v)
{
	bool bare = !v.lo || (!*v.lo && !v.lo_open);
	struct g_node *inside = fraction_between(ir, v, true);

	return g_seq(ir, g_text(ir, whole), fraction(ir, inside, bare));
}

static struct g_node *real_between(struct grammar_ir *ir, const struct interval *v)
{
	struct g_node *out = NULL;
	char from[DIGITS], to[DIGITS];

	if (v->has_hi && whole_cmp(v->lo.whole, v->hi.whole) == 0)
		return with_fraction(ir, v->lo.whole, (struct bounds){ v->lo.fraction, v->hi.fraction, v->lo_open });
	out = with_fraction(ir, v->lo.whole, (struct bounds){ v->lo.fraction, NULL, v->lo_open });
	whole_add(from, v->lo.whole, 1);
	if (v->has_hi) {
		out = g_alt(ir, out, with_fraction(ir, v->hi.whole, (struct bounds){ NULL, v->hi.fraction, false }));
		whole_add(to, v->hi.whole, -1);
	}
	if (!v->has_hi || whole_cmp(from, to) <= 0)
		out = g_alt(ir, out, g_seq(ir, whole_between(ir, from, v->has_hi ? to : NULL),
			fraction(ir, any_digits(ir, 1, MAX_FRACTION), true)));
	return out;
}

/* Magnitudes from lo to hi; an empty interval gives no text. */
static struct g_node *magnitudes(struct grammar_ir *ir, double lo, bool lo_open, double hi, bool hi_open)
{
	struct interval v = { .has_hi = isfinite(hi), .lo_open = lo_open && lo == 0 };

	if (lo == hi && (lo_open || hi_open))
		return g_never(ir);
	/* digits beyond a double's precision must not round to an open bound */
	lo = lo_open && lo > 0 ? nextafter(lo, INFINITY) : lo;
	hi = hi_open && v.has_hi ? nextafter(hi, 0) : hi;
	if (lo > hi)
		return g_never(ir);
	magnitude_of(&v.lo, lo);
	if (v.has_hi)
		magnitude_of(&v.hi, hi);
	return real_between(ir, &v);
}

/* The same of whole numbers; hi may be infinite. */
static struct g_node *whole_magnitudes(struct grammar_ir *ir, long double lo, long double hi)
{
	char from[DIGITS], to[DIGITS];

	if (lo > hi)
		return g_never(ir);
	snprintf(from, sizeof(from), "%.0Lf", lo);
	if (isfinite(hi))
		snprintf(to, sizeof(to), "%.0Lf", hi);
	return whole_between(ir, from, isfinite(hi) ? to : NULL);
}

/* --- bounds ---------------------------------------------------------------------------------------------- */

static const char *min_name(const struct number_bounds *b)
{
	return b->min_open ? "exclusiveMinimum" : "minimum";
}

static const char *max_name(const struct number_bounds *b)
{
	return b->max_open ? "exclusiveMaximum" : "maximum";
}

static enum status check_bound(const char *name, long double v, struct error *err)
{
	if (fabsl(v) > MAX_BOUND && !isinf(v))
		return error_set(err, E_UNSUPPORTED, "%s %.15Lg: beyond 1e15, bounds of integers alone are supported", name, v);
	if (v != 0 && fabsl(v) < 1e-15L)
		return error_set(err, E_UNSUPPORTED, "%s %.15Lg: bounds closer to 0 than 1e-15 are not supported", name, v);
	return OK;
}

/* Bounds that no number of MAX_WHOLE digits reaches are none: infinite. */
static enum status reach_of(long double *min, long double *max, const struct number_bounds *b, struct error *err)
{
	*min = b->has_min && b->min >= -MOST ? b->min : -INFINITY;
	*max = b->has_max && b->max <= MOST ? b->max : INFINITY;
	if (b->has_min && b->min > MOST)
		return error_set(err, E_UNSUPPORTED, "%s %.15Lg: numbers have at most %u digits before the point", min_name(b),
			b->min, MAX_WHOLE);
	if (b->has_max && b->max < -MOST)
		return error_set(err, E_UNSUPPORTED, "%s %.15Lg: numbers have at most %u digits before the point", max_name(b),
			b->max, MAX_WHOLE);
	return OK;
}

/* The least and the largest whole number; a long double has the 64 bits that they need. */
static enum status whole_reach_of(long double *min, long double *max, const struct number_bounds *b, struct error *err)
{
	TRY(reach_of(min, max, b, err));
	*min = b->min_open ? floorl(*min) + 1 : ceill(*min);
	*max = b->max_open ? ceill(*max) - 1 : floorl(*max);
	*max = *max == 0 ? 0 : *max; /* -0 has a sign of its own */
	return OK;
}

static enum status integer_node(struct g_node **out, struct grammar_ir *ir, const struct number_bounds *b, struct error *err)
{
	struct g_node *node = NULL;
	long double min, max;

	TRY(whole_reach_of(&min, &max, b, err));
	if (max >= 0)
		node = whole_magnitudes(ir, min > 0 ? min : 0, max);
	if (min < 0) /* there is no -0 */
		node = g_alt(ir, node, g_seq(ir, g_text(ir, "-"), whole_magnitudes(ir, max < 0 ? -max : 1, -min)));
	*out = node ? node : g_never(ir);
	return OK;
}

enum status grammar_number_node(struct g_node **out, struct grammar_ir *ir, const struct number_bounds *b,
	bool integer, struct error *err)
{
	struct g_node *node = NULL;
	long double least, most;
	double min, max;

	if (integer)
		return integer_node(out, ir, b, err);
	TRY(reach_of(&least, &most, b, err));
	TRY(check_bound(min_name(b), least, err));
	TRY(check_bound(max_name(b), most, err));
	min = (double)least;
	max = most == 0 ? 0 : (double)most; /* -0 has a sign of its own */
	if (max >= 0)
		node = magnitudes(ir, min > 0 ? min : 0, min >= 0 && b->min_open, max, b->max_open);
	if (min < 0)
		node = g_alt(ir, node, g_seq(ir, g_text(ir, "-"), magnitudes(ir, max < 0 ? -max : 0, max <= 0 && b->max_open,
			-min, b->min_open)));
	*out = node ? node : g_never(ir);
	return OK;
}

/* --- multiples ------------------------------------------------------------------------------------------- */

/* Of one divisor, by remainder of the digits so far: rule + 1 for at least and at most so many digits more. */
struct multiples {
	struct multiples *next;
	struct grammar_ir *ir;
	uint32_t by;
	uint32_t *rules[MAX_WHOLE + 1][MAX_WHOLE + 1]; /* [at least][at most], NULL or [by] in the arena */
};

static struct multiples *multiples_of(struct grammar_ir *ir, uint32_t by)
{
	struct multiples *m = ir->multiples;

	while (m && m->by != by)
		m = m->next;
	if (m)
		return m;
	m = arena_try_alloc(&ir->arena, 1, sizeof(*m));
	if (!m) {
		ir->over = true;
		return NULL;
	}
	*m = (struct multiples){ .next = ir->multiples, .ir = ir, .by = by };
	return ir->multiples = m;
}

static uint32_t *rule_of(struct multiples *m, uint32_t min, uint32_t max, uint32_t remainder)
{
	uint32_t **row = &m->rules[min][max];

	if (!*row)
		*row = arena_try_alloc(&m->ir->arena, m->by, sizeof(**row));
	if (*row)
		return *row + remainder;
	m->ir->over = true;
	return NULL;
}

/* From min to max more digits, none of them bound. One way for all their numbers keeps masks cheap. */
static struct g_node *rest_of(struct multiples *m, uint32_t min, uint32_t max, uint32_t remainder)
{
	struct g_node *out = min || remainder ? g_never(m->ir) : g_empty(m->ir);
	uint32_t *rule;

	if (max == 0)
		return out;
	rule = rule_of(m, min, max, remainder);
	if (!rule || *rule)
		return rule ? g_call(m->ir, *rule - 1) : out;
	*rule = g_rule_new(m->ir, NULL) + 1;
	for (uint32_t first = 0; first < 10 && first < m->by; first++) { /* digits of one remainder go one way */
		struct g_range r[10];
		size_t n = 0;

		for (uint32_t d = first; d < 10; d += m->by)
			r[n++] = (struct g_range){ '0' + d, '0' + d };
		out = g_alt(m->ir, out, g_seq(m->ir, g_class(m->ir, r, n, false),
			rest_of(m, min ? min - 1 : 0, max - 1, (10 * remainder + first) % m->by)));
	}
	g_rule_set(m->ir, *rule - 1, out);
	return g_call(m->ir, *rule - 1);
}

/* n digits between lo and hi; NULL: the digits so far are already above, or below. */
static struct g_node *multiples_between(struct multiples *m, const char *lo, const char *hi, uint32_t n, uint32_t remainder)
{
	char from = lo ? *lo : '0', to = hi ? *hi : '9';
	struct g_node *out = NULL;

	if (n == 0 || (!lo && !hi))
		return rest_of(m, n, n, remainder);
	for (char d = from; d <= to; d++)
		out = g_alt(m->ir, out, g_seq(m->ir, digits(m->ir, d, d), multiples_between(m, lo && d == from ? lo + 1 : NULL,
			hi && d == to ? hi + 1 : NULL, n - 1, (10 * remainder + (uint32_t)(d - '0')) % m->by)));
	return out ? out : g_never(m->ir);
}

/* From min to max digits, the first of them not 0. */
static struct g_node *multiples_of_length(struct multiples *m, uint32_t min, uint32_t max)
{
	struct g_node *out = NULL;

	for (char d = '1'; d <= '9' && min <= max; d++)
		out = g_alt(m->ir, out, g_seq(m->ir, digits(m->ir, d, d), rest_of(m, min - 1, max - 1, (uint32_t)(d - '0') % m->by)));
	return out ? out : g_never(m->ir);
}

/* Magnitudes of multiples of by * 10^zeros, from lo to hi, none of them 0; hi may be infinite. */
static struct g_node *multiple_magnitudes(struct grammar_ir *ir, uint32_t by, uint32_t zeros, long double lo, long double hi)
{
	uint64_t unit = (uint64_t)pow(10, zeros), least_one = lo > 1 ? (uint64_t)lo : 1;
	uint64_t from = least_one / unit + (least_one % unit != 0), to = isinf(hi) ? UINT64_MAX : (uint64_t)hi / unit;
	struct multiples *m = multiples_of(ir, by);
	char least[DIGITS], most[DIGITS];
	struct g_node *out;
	uint32_t n, last;

	if (!m || from > to)
		return g_never(ir);
	n = (uint32_t)snprintf(least, sizeof(least), "%llu", (unsigned long long)from);
	last = (uint32_t)snprintf(most, sizeof(most), "%llu", (unsigned long long)to);
	if (isinf(hi)) {
		out = g_alt(ir, multiples_between(m, least, NULL, n, 0), multiples_of_length(m, n + 1, MAX_WHOLE - zeros));
	} else if (n == last) {
		out = multiples_between(m, least, most, n, 0);
	} else {
		out = g_alt(ir, multiples_between(m, least, NULL, n, 0), multiples_of_length(m, n + 1, last - 1));
		memset(least, '0', last);
		least[0] = '1';
		out = g_alt(ir, out, multiples_between(m, least, most, last, 0));
	}
	memset(least, '0', zeros);
	return g_seq(ir, out, g_bytes(ir, least, zeros));
}

enum status grammar_multiple_node(struct g_node **out, struct grammar_ir *ir, const struct number_bounds *b, double by,
	struct error *err)
{
	struct g_node *node = NULL;
	long double min, max;
	uint32_t zeros = 0;

	if (!(by > 0))
		return error_set(err, E_INVAL, "multipleOf: found %g, expected a number above 0", by);
	for (; by == floor(by) && by >= 10 && fmod(by, 10) == 0 && zeros < 15; zeros++)
		by /= 10;
	if (by != floor(by) || by > MAX_DIVISOR)
		return error_set(err, E_UNSUPPORTED, "multipleOf %g is not supported: whole numbers up to %u are, and these with "
			"zeros behind them", by * pow(10, zeros), MAX_DIVISOR);
	TRY(whole_reach_of(&min, &max, b, err));
	if (min <= 0 && max >= 0)
		node = g_text(ir, "0");
	if (max > 0 && min <= max)
		node = g_alt(ir, node, multiple_magnitudes(ir, (uint32_t)by, zeros, min, max));
	if (min < 0 && min <= max)
		node = g_alt(ir, node, g_seq(ir, g_text(ir, "-"),
			multiple_magnitudes(ir, (uint32_t)by, zeros, -max, -min)));
	*out = node ? node : g_never(ir);
	return OK;
}

/* --- formats --------------------------------------------------------------------------------------------- */

#define YEAR "(?:0{3}[1-9]|0{2}[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
#define LEAP "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
#define DATE "(?:" YEAR "-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)" \
	"|02-(?:0[1-9]|1[0-9]|2[0-8]))|" LEAP "-02-29)"
#define TIME "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
#define LABEL "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
#define HOST LABEL "(?:\\." LABEL "){0,3}"
#define BYTE "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define IPV4 "(?:" BYTE "\\.){3}" BYTE
#define HEX4 "[0-9a-fA-F]{1,4}"
#define IPV6 "(?:(?:" HEX4 ":){7}" HEX4 "|(?:" HEX4 ":){1,7}:|(?:" HEX4 ":){1,6}:" HEX4 "|(?:" HEX4 ":){1,5}(?::" HEX4 "){1,2}" \
	"|(?:" HEX4 ":){1,4}(?::" HEX4 "){1,3}|(?:" HEX4 ":){1,3}(?::" HEX4 "){1,4}|(?:" HEX4 ":){1,2}(?::" HEX4 "){1,5}" \
	"|" HEX4 ":(?::" HEX4 "){1,6}|:(?:(?::" HEX4 "){1,7}|:))"
#define ATEXT "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,32}"
#define URI_CHAR "(?:[a-zA-Z0-9._~!$&'()*+,;=:@-]|%[0-9a-fA-F]{2})"

const char *grammar_format_regex(const char *format)
{
	static const struct { const char *name, *regex; } formats[] = {
		{ "date", DATE },
		{ "time", TIME },
		{ "date-time", DATE "T" TIME },
		{ "email", ATEXT "(?:\\." ATEXT "){0,3}@" LABEL "(?:\\." LABEL "){1,3}" },
		{ "uuid", "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}" },
		{ "ipv4", IPV4 },
		{ "ipv6", IPV6 },
		{ "uri", "[a-zA-Z][a-zA-Z0-9+.-]{0,15}://" HOST "(?::[1-9][0-9]{0,3})?(?:/" URI_CHAR "*)*"
			"(?:\\?(?:" URI_CHAR "|[/?])*)?(?:#(?:" URI_CHAR "|[/?])*)?" },
		{ "hostname", HOST },
	};

	for (size_t i = 0; i < sizeof(formats) / sizeof(*formats); i++) {
		if (strcmp(formats[i].name, format) == 0)
			return formats[i].regex;
	}
	return NULL;
}
