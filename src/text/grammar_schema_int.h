/* What the files that read JSON schemas share; internal to text/. */
#ifndef TEXT_GRAMMAR_SCHEMA_INT_H
#define TEXT_GRAMMAR_SCHEMA_INT_H

#include <jansson.h>

#include "text/grammar_int.h"

struct schema_todo {
	const json_t *schema;
	uint32_t rule;
};

/*
 * One document. Every schema in it becomes a rule, by its address, when something first refers to it: so
 * recursion ends, and a schema that many share is read once.
 */
struct schema {
	struct grammar_ir *ir;
	const json_t *root;
	const struct grammar_json_options *o;
	struct error *err;
	struct schema_todo *todo; /* owned [n_todo]; the first `done` are read */
	size_t n_todo, cap_todo, done;
	uint32_t *slots;          /* owned [mask + 1]: index + 1, by address */
	uint32_t mask;
	json_t *made;             /* owned list: merged schemas, which must keep their addresses */
	size_t joined;            /* keys and names that merging has copied */
};

/* The rule of a schema: true, false or an object. */
uint32_t schema_rule(struct schema *s, const json_t *schema);
/* Keeps a new value alive and returns it; NULL becomes an error of memory at the next check. */
const json_t *schema_keep(struct schema *s, json_t *value);

/* grammar_schema_merge.c: a schema that both describe. */
enum status schema_merge(struct schema *s, const json_t **out, const json_t *a, const json_t *b);
/* Without $ref and allOf; or *call is a rule that says all of it. */
enum status schema_flatten(struct schema *s, const json_t **out, bool *is_call, uint32_t *call, const json_t *in);
enum status schema_disjoint(struct schema *s, const json_t *list);
/* Target of a reference within the document. */
enum status schema_resolve(struct schema *s, const json_t **out, const char *ref);
bool schema_is_annotation(const char *key);
/* What a chain of references alone leads to. */
const json_t *schema_behind(struct schema *s, const json_t *v);
/* The values that a schema lists; a new list, or NULL when it lists none. */
json_t *schema_values(const json_t *v);
/* A number, exactly; 0 for what is none. */
static inline long double schema_number(const json_t *v)
{
	return json_is_integer(v) ? (long double)json_integer_value(v) : (long double)json_real_value(v);
}

/* Whether two values are one: 1 and 1.0 are. */
bool schema_same_value(const json_t *a, const json_t *b);
/* type: as the keyword; NULL: any. */
bool schema_fits_type(const json_t *v, const json_t *type);

/* grammar_schema_object.c */
enum status schema_object(struct schema *s, struct g_node **out, const json_t *schema);
enum status schema_array(struct schema *s, struct g_node **out, const json_t *schema);
enum status schema_count(struct schema *s, uint32_t *out, const json_t *schema, const char *key);

/* grammar_json.c: JSON without a schema. */
struct g_node *value_ws(struct schema *s);
struct g_node *value_string(struct schema *s);
struct g_node *value_chars(struct schema *s, uint32_t min, uint32_t max); /* of a string, without quotes */
struct g_node *value_number(struct schema *s);
struct g_node *value_integer(struct schema *s);
struct g_node *value_any(struct schema *s);
/* A value as it stands, with white space where it may be. */
enum status value_const(struct schema *s, struct g_node **out, const json_t *value);
/* A string in quotes, in its usual spelling. */
struct g_node *value_quoted(struct schema *s, const char *text, size_t len);
/* One of a list of values. */
enum status value_enum(struct schema *s, struct g_node **out, const json_t *list);
/* grammar_schema.c: strings with a pattern, a format or a length. */
enum status schema_string(struct schema *s, struct g_node **out, const json_t *schema);

#endif
