/* Operators: arithmetic, comparison, slices. Integers have 64 bits; beyond is an error, not a wrap.
 */
#include <math.h>
#include <string.h>

#include "text/jinja_run.h"

static enum status too_large(struct jinja_run *r)
{
	return jinja_fail(r, E_LIMIT, "integer beyond 64 bits");
}

static const char *op_text(unsigned op, char dst[3])
{
	if (op == JINJA_OP_FLOORDIV || op == JINJA_OP_POW)
		return op == JINJA_OP_POW ? "**" : "//";
	dst[0] = (char)op;
	dst[1] = 0;
	return dst;
}

static int64_t floor_mod(int64_t a, int64_t b)
{
	int64_t m = b == -1 ? 0 : a % b;

	return m && (m < 0) != (b < 0) ? m + b : m;
}

static enum status int_pow(struct jinja_run *r, int64_t base, int64_t exp, struct jinja_value *out)
{
	int64_t v = 1;

	while (exp) {
		if ((exp & 1) && __builtin_mul_overflow(v, base, &v))
			return too_large(r);
		exp >>= 1;
		if (exp && __builtin_mul_overflow(base, base, &base))
			return too_large(r);
	}
	*out = jinja_int(v);
	return OK;
}

static enum status float_op(
	struct jinja_run *r, unsigned op, double a, double b, struct jinja_value *out)
{
	double v;

	if (b == 0 && (op == '/' || op == '%' || op == JINJA_OP_FLOORDIV))
		return jinja_fail(r, E_INVAL, "division by zero");
	switch (op) {
	case '+':
		v = a + b;
		break;
	case '-':
		v = a - b;
		break;
	case '*':
		v = a * b;
		break;
	case '/':
		v = a / b;
		break;
	case JINJA_OP_POW:
		if ((a == 0 && b < 0) || (a < 0 && floor(b) != b))
			return jinja_fail(r, E_INVAL, "%g ** %g has no real value", a, b);
		v = pow(a, b);
		break;
	default:
		v = fmod(a, b);
		if (v != 0 && (v < 0) != (b < 0))
			v += b;
		else if (v == 0)
			v = copysign(0, b);
		if (op == JINJA_OP_FLOORDIV) {
			v = (a - v) / b;
			v = v != 0 ? (v - floor(v) > 0.5 ? floor(v) + 1 : floor(v))
				   : copysign(0, a / b);
		}
	}
	*out = jinja_float(v);
	return OK;
}

static enum status int_op(
	struct jinja_run *r, unsigned op, int64_t a, int64_t b, struct jinja_value *out)
{
	int64_t v = 0, m;
	bool over = false;

	switch (op) {
	case '+':
		over = __builtin_add_overflow(a, b, &v);
		break;
	case '-':
		over = __builtin_sub_overflow(a, b, &v);
		break;
	case '*':
		over = __builtin_mul_overflow(a, b, &v);
		break;
	case JINJA_OP_POW:
		if (b >= 0)
			return int_pow(r, a, b, out);
		return float_op(r, op, (double)a, (double)b, out);
	case '/':
		return float_op(r, op, (double)a, (double)b, out);
	default:
		if (!b)
			return jinja_fail(r, E_INVAL, "division by zero");
		m = floor_mod(a, b);
		if (op == '%')
			v = m;
		else if (b == -1)
			over = __builtin_sub_overflow((int64_t)0, a, &v);
		else /* not (a - m) / b: that can leave 64 bits */
			v = a / b - (a % b != 0 && (a < 0) != (b < 0));
	}
	if (over)
		return too_large(r);
	*out = jinja_int(v);
	return OK;
}

static enum status repeat(
	struct jinja_run *r, struct jinja_value v, int64_t times, struct jinja_value *out)
{
	struct jinja_sb sb = {.run = r};
	size_t i, n;

	if (times < 0)
		times = 0;
	if (v.type == JINJA_STRING) {
		while (times-- > 0 && v.str->len)
			TRY(jinja_sb_put(&sb, *v.str));
		return jinja_sb_value(&sb, out);
	}
	n = v.list->n;
	TRY(jinja_list_new(r, out, 0));
	out->list->tuple = v.list->tuple;
	while (times-- > 0 && n) {
		for (i = 0; i < n; i++)
			TRY(jinja_list_push(r, out->list, v.list->items[i]));
	}
	return OK;
}

static enum status concat(
	struct jinja_run *r, struct jinja_value a, struct jinja_value b, struct jinja_value *out)
{
	size_t i;

	if (a.type == JINJA_STRING)
		return jinja_str_append(r, out, a.str, *b.str);
	TRY(jinja_list_new(r, out, a.list->n + b.list->n));
	out->list->tuple = a.list->tuple;
	for (i = 0; i < a.list->n; i++)
		TRY(jinja_list_push(r, out->list, a.list->items[i]));
	for (i = 0; i < b.list->n; i++)
		TRY(jinja_list_push(r, out->list, b.list->items[i]));
	return OK;
}

static enum status undefined_operand(struct jinja_run *r, struct jinja_value v)
{
	if (!v.name)
		return jinja_fail(r, E_INVAL, "value is undefined");
	return jinja_fail(r, E_INVAL, "'%.*s' is undefined",
		v.name->len > 60 ? 60 : (int)v.name->len, v.name->s);
}

enum status jinja_binary(struct jinja_run *r, unsigned op, struct jinja_value a,
	struct jinja_value b, struct jinja_value *out)
{
	char text[3];

	if (a.type == JINJA_UNDEFINED || b.type == JINJA_UNDEFINED)
		return undefined_operand(r, a.type == JINJA_UNDEFINED ? a : b);
	if (jinja_is_integral(a) && jinja_is_integral(b))
		return int_op(r, op, jinja_as_int(a), jinja_as_int(b), out);
	if (jinja_is_number(a) && jinja_is_number(b))
		return float_op(r, op, jinja_as_float(a), jinja_as_float(b), out);
	if (op == '+' && a.type == b.type &&
		(a.type == JINJA_STRING ||
			(a.type == JINJA_LIST && a.list->tuple == b.list->tuple)))
		return concat(r, a, b, out);
	if (op == '*' && (a.type == JINJA_STRING || a.type == JINJA_LIST) && jinja_is_integral(b))
		return repeat(r, a, jinja_as_int(b), out);
	if (op == '*' && (b.type == JINJA_STRING || b.type == JINJA_LIST) && jinja_is_integral(a))
		return repeat(r, b, jinja_as_int(a), out);
	if (op == '%' && a.type == JINJA_STRING)
		return jinja_fail(r, E_UNSUPPORTED, "formatting with %% is not supported");
	return jinja_fail(r, E_INVAL, "operator %s cannot join %s and %s", op_text(op, text),
		jinja_type_name(a), jinja_type_name(b));
}

enum status jinja_compare(
	struct jinja_run *r, unsigned op, struct jinja_value a, struct jinja_value b, bool *out)
{
	int c;

	switch (op) {
	case JINJA_OP_EQ:
		return jinja_equal(r, out, a, b);
	case JINJA_OP_NE:
		TRY(jinja_equal(r, out, a, b));
		*out = !*out;
		return OK;
	case JINJA_OP_IN:
		return jinja_contains(r, out, b, a);
	case JINJA_OP_NOT_IN:
		TRY(jinja_contains(r, out, b, a));
		*out = !*out;
		return OK;
	default:
		TRY(jinja_order(r, &c, a, b));
		*out = c != 2 && (op == '<'		     ? c < 0
					 : op == '>'	     ? c > 0
					 : op == JINJA_OP_LE ? c <= 0
							     : c >= 0);
		return OK;
	}
}

/* A bound of a slice, clipped as Python does; `def` when it is left out. */
static enum status slice_bound(struct jinja_run *r, struct jinja_value v, int64_t n, int64_t step,
	int64_t def, int64_t *out)
{
	int64_t i, low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;

	if (v.type == JINJA_NONE) {
		*out = def;
		return OK;
	}
	TRY(jinja_need_int(r, "slice", v, &i));
	if (i < 0)
		i = i < -n ? low : i + n;
	*out = i < low ? low : i > high ? high : i;
	return OK;
}

enum status jinja_slice(struct jinja_run *r, struct jinja_value v, const struct jinja_value at[3],
	struct jinja_value *out)
{
	int64_t n, start, stop, step = 1, i;
	const struct jinja_list *items;
	struct jinja_sb sb = {.run = r};

	if (v.type == JINJA_UNDEFINED)
		return undefined_operand(r, v);
	if (v.type != JINJA_STRING && v.type != JINJA_LIST)
		return jinja_fail(r, E_INVAL, "%s cannot be sliced", jinja_type_name(v));
	if (at[2].type != JINJA_NONE)
		TRY(jinja_need_int(r, "slice", at[2], &step));
	if (!step)
		return jinja_fail(r, E_INVAL, "slice step is zero");
	if (v.type == JINJA_STRING)
		TRY(jinja_charge_bytes(r, v.str->len));
	n = v.type == JINJA_STRING ? (int64_t)jinja_str_points(*v.str) : (int64_t)v.list->n;
	TRY(slice_bound(r, at[0], n, step, step < 0 ? n - 1 : 0, &start));
	TRY(slice_bound(r, at[1], n, step, step < 0 ? -1 : n, &stop));
	if (v.type == JINJA_STRING && step == 1) {
		size_t from = jinja_str_offset(*v.str, (size_t)start), to = from;

		if (stop > start)
			to += jinja_str_offset(
				jinja_str_sub(*v.str, from, v.str->len), (size_t)(stop - start));
		return jinja_str_new(r, out, jinja_str_sub(*v.str, from, to));
	}
	TRY(jinja_iterate(r, &items, v));
	if (v.type == JINJA_LIST) {
		TRY(jinja_list_new(r, out, 0));
		out->list->tuple = v.list->tuple;
	}
	for (i = start; step > 0 ? i < stop : i > stop;) {
		if (v.type == JINJA_LIST)
			TRY(jinja_list_push(r, out->list, items->items[i]));
		else
			TRY(jinja_sb_put(&sb, *items->items[i].str));
		if (__builtin_add_overflow(i, step, &i))
			break;
	}
	return v.type == JINJA_LIST ? OK : jinja_sb_value(&sb, out);
}
