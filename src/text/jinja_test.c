/* Tests: what may stand behind `is`. */
#include <string.h>

#include "text/jinja_run.h"

enum test_id {
	T_DEFINED,
	T_UNDEFINED,
	T_NONE,
	T_STRING,
	T_MAPPING,
	T_SEQUENCE,
	T_ITERABLE,
	T_NUMBER,
	T_INTEGER,
	T_FLOAT,
	T_BOOLEAN,
	T_TRUE,
	T_FALSE,
	T_CALLABLE,
	T_ODD,
	T_EVEN,
	T_DIVISIBLEBY,
	T_SAMEAS,
	T_EQ,
	T_NE,
	T_LT,
	T_LE,
	T_GT,
	T_GE,
	T_IN,
	T_LOWER,
	T_UPPER,
};

static const struct {
	const char *name;
	enum test_id id;
} tests[] = {
	{"defined", T_DEFINED},
	{"undefined", T_UNDEFINED},
	{"none", T_NONE},
	{"string", T_STRING},
	{"mapping", T_MAPPING},
	{"sequence", T_SEQUENCE},
	{"iterable", T_ITERABLE},
	{"number", T_NUMBER},
	{"integer", T_INTEGER},
	{"float", T_FLOAT},
	{"boolean", T_BOOLEAN},
	{"true", T_TRUE},
	{"false", T_FALSE},
	{"callable", T_CALLABLE},
	{"odd", T_ODD},
	{"even", T_EVEN},
	{"divisibleby", T_DIVISIBLEBY},
	{"sameas", T_SAMEAS},
	{"eq", T_EQ},
	{"equalto", T_EQ},
	{"==", T_EQ},
	{"ne", T_NE},
	{"!=", T_NE},
	{"lt", T_LT},
	{"lessthan", T_LT},
	{"<", T_LT},
	{"le", T_LE},
	{"<=", T_LE},
	{"gt", T_GT},
	{"greaterthan", T_GT},
	{">", T_GT},
	{"ge", T_GE},
	{">=", T_GE},
	{"in", T_IN},
	{"lower", T_LOWER},
	{"upper", T_UPPER},
};

int jinja_test_find(struct jinja_str name)
{
	size_t i;

	for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		if (name.len == strlen(tests[i].name) &&
			memcmp(name.s, tests[i].name, name.len) == 0)
			return (int)i;
	}
	return -1;
}

/* Text has letters of one case only. */
static enum status is_case(struct jinja_run *r, enum jinja_case c, struct jinja_value v, bool *out)
{
	struct jinja_sb same = {.run = r}, other = {.run = r};
	struct jinja_str s;

	TRY(jinja_to_str(r, v, &s));
	TRY(jinja_sb_put_case(&same, s, c));
	TRY(jinja_sb_put_case(&other, s, c == JINJA_UPPER ? JINJA_LOWER : JINJA_UPPER));
	*out = jinja_str_equal((struct jinja_str){.s = same.s, .len = same.len}, s) &&
	       !jinja_str_equal((struct jinja_str){.s = other.s, .len = other.len}, s);
	return OK;
}

static enum status divisible(
	struct jinja_run *r, struct jinja_value v, int64_t by, int64_t rest, bool *out)
{
	struct jinja_value m;

	TRY(jinja_binary(r, '%', v, jinja_int(by), &m));
	return jinja_equal(r, out, m, jinja_int(rest));
}

/* Tests with an argument. */
static enum status run_with(struct jinja_run *r, enum test_id id, struct jinja_value v,
	struct jinja_value arg, bool *out)
{
	static const uint8_t ops[] = {[T_EQ] = JINJA_OP_EQ,
		[T_NE] = JINJA_OP_NE,
		[T_LT] = '<',
		[T_LE] = JINJA_OP_LE,
		[T_GT] = '>',
		[T_GE] = JINJA_OP_GE,
		[T_IN] = JINJA_OP_IN};
	int64_t n;

	if (id == T_DIVISIBLEBY) {
		TRY(jinja_need_int(r, "divisibleby", arg, &n));
		return divisible(r, v, n, 0, out);
	}
	if (id != T_SAMEAS)
		return jinja_compare(r, ops[id], v, arg, out);
	*out = v.type == arg.type;
	if (*out && (v.type == JINJA_LIST || v.type == JINJA_DICT))
		*out = v.list == arg.list;
	else if (*out)
		return jinja_equal(r, out, v, arg);
	return OK;
}

static bool has_type(enum test_id id, struct jinja_value v)
{
	bool text = v.type == JINJA_STRING, list = v.type == JINJA_LIST;

	switch (id) {
	case T_DEFINED:
		return v.type != JINJA_UNDEFINED;
	case T_UNDEFINED:
		return v.type == JINJA_UNDEFINED;
	case T_NONE:
		return v.type == JINJA_NONE;
	case T_STRING:
		return text;
	case T_MAPPING:
		return v.type == JINJA_DICT;
	case T_SEQUENCE: /* an undefined value has the methods of most things */
		return text || list || v.type == JINJA_DICT || v.type == JINJA_UNDEFINED;
	case T_ITERABLE:
		return text || list || v.type == JINJA_DICT || v.type == JINJA_UNDEFINED ||
		       v.type == JINJA_LOOP;
	case T_NUMBER:
		return jinja_is_number(v);
	case T_INTEGER:
		return v.type == JINJA_INT;
	case T_FLOAT:
		return v.type == JINJA_FLOAT;
	case T_BOOLEAN:
		return v.type == JINJA_BOOL;
	case T_TRUE:
		return v.type == JINJA_BOOL && v.b;
	case T_FALSE:
		return v.type == JINJA_BOOL && !v.b;
	default:
		return v.type == JINJA_MACRO || v.type == JINJA_METHOD ||
		       v.type == JINJA_FUNCTION || v.type == JINJA_UNDEFINED;
	}
}

enum status jinja_test_run(struct jinja_run *r, unsigned id, struct jinja_value v,
	const struct jinja_args *args, bool *out)
{
	enum test_id test = tests[id].id;
	bool needs = test >= T_DIVISIBLEBY && test <= T_IN;
	struct jinja_value arg;

	TRY(jinja_bind(r, tests[id].name, args, needs ? "other" : "", needs, &arg));
	if (needs)
		return run_with(r, test, v, arg, out);
	if (test == T_ODD || test == T_EVEN)
		return divisible(r, v, 2, test == T_ODD, out);
	if (test == T_LOWER || test == T_UPPER)
		return is_case(r, test == T_LOWER ? JINJA_LOWER : JINJA_UPPER, v, out);
	*out = has_type(test, v);
	return OK;
}
