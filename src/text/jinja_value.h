/*
 * Values of a running template. Strings are valid UTF-8 and never change; lists and dictionaries
 * never change once built, namespaces do. All lie in the arena of the rendering.
 */
#ifndef TEXT_JINJA_VALUE_H
#define TEXT_JINJA_VALUE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct jinja_run;
struct jinja_node;
struct jinja_scope;
struct jinja_sb;

enum jinja_type {
	JINJA_UNDEFINED,
	JINJA_NONE,
	JINJA_BOOL,
	JINJA_INT,
	JINJA_FLOAT,
	JINJA_STRING,
	JINJA_LIST, /* tuples too */
	JINJA_DICT,
	JINJA_NAMESPACE,
	JINJA_LOOP,
	JINJA_MACRO,
	JINJA_METHOD,
	JINJA_FUNCTION,
};

struct jinja_str {
	const char *s;
	const uint8_t *mark; /* [len], or NULL: nothing is marked. See jinja.h */
	size_t len;
	/* NULL, or a builder that this text was the whole of: while it still is, text may be
	 * appended in place, so that templates which collect a text piece by piece take linear time
	 * and memory. */
	struct jinja_sb *sb;
};

struct jinja_value {
	uint8_t type; /* enum jinja_type */
	union {
		bool b;
		int64_t i;
		double f;
		const struct jinja_str *str;
		struct jinja_list *list;
		struct jinja_dict *dict; /* DICT and NAMESPACE */
		struct jinja_loop *loop;
		const struct jinja_macro *macro;
		const struct jinja_bound *method;
		unsigned function;	      /* enum jinja_function_id */
		const struct jinja_str *name; /* UNDEFINED: of what is missing, or NULL */
	};
};

struct jinja_list {
	struct jinja_value *items; /* [n] */
	size_t n, cap;
	bool tuple;
};

struct jinja_pair {
	struct jinja_value key, value;
};

struct jinja_dict {
	struct jinja_pair *pairs; /* [n] in order of insertion, keys distinct */
	size_t n, cap;
};

/* The `loop` variable. */
struct jinja_loop {
	const struct jinja_list *items;
	size_t index0;
	struct jinja_value *changed; /* last argument list of loop.changed() */
};

struct jinja_macro {
	const struct jinja_node *node;
	struct jinja_scope *scope; /* where it was defined */
};

/* A method and what it was taken from. */
struct jinja_bound {
	struct jinja_value self;
	unsigned id; /* index into the table of methods */
};

static inline struct jinja_value jinja_undefined(const struct jinja_str *name)
{
	return (struct jinja_value){.type = JINJA_UNDEFINED, .name = name};
}

static inline struct jinja_value jinja_none(void)
{
	return (struct jinja_value){.type = JINJA_NONE};
}

static inline struct jinja_value jinja_bool(bool b)
{
	return (struct jinja_value){.type = JINJA_BOOL, .b = b};
}

static inline struct jinja_value jinja_int(int64_t i)
{
	return (struct jinja_value){.type = JINJA_INT, .i = i};
}

static inline struct jinja_value jinja_float(double f)
{
	return (struct jinja_value){.type = JINJA_FLOAT, .f = f};
}

/* True and false count as numbers, as in Python. */
static inline bool jinja_is_integral(struct jinja_value v)
{
	return v.type == JINJA_INT || v.type == JINJA_BOOL;
}

static inline bool jinja_is_number(struct jinja_value v)
{
	return jinja_is_integral(v) || v.type == JINJA_FLOAT;
}

static inline int64_t jinja_as_int(struct jinja_value v)
{
	return v.type == JINJA_BOOL ? v.b : v.i;
}

static inline double jinja_as_float(struct jinja_value v)
{
	return v.type == JINJA_FLOAT ? v.f : (double)jinja_as_int(v);
}

/* Python's name of the type: "str", "NoneType". */
const char *jinja_type_name(struct jinja_value v);
bool jinja_truth(struct jinja_value v);

enum status jinja_str_new(struct jinja_run *r, struct jinja_value *out, struct jinja_str s);
enum status jinja_list_new(struct jinja_run *r, struct jinja_value *out, size_t cap);
enum status jinja_list_push(struct jinja_run *r, struct jinja_list *l, struct jinja_value v);
enum status jinja_dict_new(struct jinja_run *r, struct jinja_value *out, enum jinja_type type);
/* Adds or replaces. */
enum status jinja_dict_set(struct jinja_run *r, struct jinja_dict *d, struct jinja_value key,
	struct jinja_value value);
/* A list or dict cannot be a key; looking for one is an error. */
bool jinja_is_key(struct jinja_value v);
/* NULL in *out: no such key. */
enum status jinja_dict_find(struct jinja_run *r, struct jinja_value **out,
	const struct jinja_dict *d, struct jinja_value key);

enum status jinja_equal(struct jinja_run *r, bool *out, struct jinja_value a, struct jinja_value b);
/* Order as in Python; an error for types that have none. *out < 0, 0, > 0; 2: not comparable (NaN).
 */
enum status jinja_order(struct jinja_run *r, int *out, struct jinja_value a, struct jinja_value b);
/* Whether `container` holds v. */
enum status jinja_contains(
	struct jinja_run *r, bool *out, struct jinja_value container, struct jinja_value v);
/* The values that a loop over v sees. */
enum status jinja_iterate(struct jinja_run *r, const struct jinja_list **out, struct jinja_value v);

enum status jinja_from_json(
	struct jinja_run *r, struct jinja_value *out, json_t *json, bool marked);

#endif
