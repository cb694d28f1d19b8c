/*
 * Options from a YAML file (base/opt.h), over libyaml.
 *
 * Invariants: what the file holds beyond the table is an error, never ignored; so are tags and merged maps, which a
 * reader of plain values would take for something else. Nesting is bounded before libyaml composes the whole, whose
 * time grows with size times depth; aliases that make a small file large are bounded, because nodes are counted
 * where they are used.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/opt_int.h"

#define MAX_FILE_BYTES ((size_t)1 << 20)
#define MAX_JSON_NODES 10000
#define MAX_JSON_DEPTH 32
#define MAX_DEPTH (MAX_JSON_DEPTH + 2) /* the root, a value, what is in it */

struct reader {
	struct arena *texts;
	const struct opt_table *table;
	const char *path;
	void *values;
	yaml_document_t doc;
	int json_nodes;
};

/* "FILE:LINE" in front of a message. */
static enum status at_line(const struct reader *r, const yaml_node_t *node, struct error *err)
{
	return error_prefix(err, "%.100s:%zu", r->path, node->start_mark.line + 1);
}

static bool is_plain(const yaml_node_t *node)
{
	return node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static const char *text_of(const yaml_node_t *node)
{
	return (const char *)node->data.scalar.value;
}

static bool plain_is(const yaml_node_t *node, const char *const *words)
{
	while (*words && strcasecmp(*words, text_of(node)) != 0)
		words++;
	return *words != NULL;
}

/* The words of YAML 1.1, which vLLM's reader knows. */
static bool plain_bool(const yaml_node_t *node, bool *out)
{
	static const char *const yes[] = { "true", "yes", "on", NULL }, *const no[] = { "false", "no", "off", NULL };

	if (!is_plain(node) || (!plain_is(node, yes) && !plain_is(node, no)))
		return false;
	*out = plain_is(node, yes);
	return true;
}

static bool plain_null(const yaml_node_t *node)
{
	static const char *const words[] = { "null", "~", "", NULL };

	return is_plain(node) && plain_is(node, words);
}

static enum status wrong(const struct opt *o, const char *found, const char *expected, struct error *err)
{
	return error_set(err, E_INVAL, "--%s: found %s, expected %s", o->name, found, expected);
}

static const char *expected_of(const struct opt *o)
{
	if (opt_is_switch(o))
		return "true or false";
	return opt_value_name(o);
}

static enum status take_scalar(struct reader *r, const struct opt *o, const yaml_node_t *node, struct error *err)
{
	size_t len = node->data.scalar.length;
	bool on;

	if (plain_null(node))
		return wrong(o, "null", expected_of(o), err);
	if (plain_bool(node, &on)) {
		if (opt_is_switch(o)) {
			opt_set_switch(o, r->values, on);
			return OK;
		}
		if (o->type == OPT_STRING || o->type == OPT_STRINGS)
			return wrong(o, on ? "true" : "false", "text (a word such as yes in quotes)", err);
	}
	if (opt_is_switch(o))
		return error_set(err, E_INVAL, "--%s: found '%.40s', expected true or false", o->name,
			text_of(node));
	if (memchr(text_of(node), 0, len))
		return wrong(o, "a NUL character", expected_of(o), err);
	return opt_store(o, arena_strndup(r->texts, text_of(node), len), r->values, err);
}

/* --- values that are JSON ------------------------------------------------------------------------------- */

static enum status to_json(json_t **out, struct reader *r, const struct opt *o, int index, int depth,
	struct error *err);

/* Numbers are what JSON calls so; other plain words are text, as those in quotes are. */
static enum status scalar_json(json_t **out, const struct opt *o, const yaml_node_t *node, struct error *err)
{
	size_t len = node->data.scalar.length;
	json_t *v = NULL;
	bool on;

	if (plain_null(node))
		v = json_null();
	else if (plain_bool(node, &on))
		v = json_boolean(on);
	else if (is_plain(node))
		v = json_loadb(text_of(node), len, JSON_DECODE_ANY, NULL);
	if (!v)
		v = json_stringn(text_of(node), len);
	if (!v)
		return wrong(o, "text that is not UTF-8", "JSON", err);
	*out = v;
	return OK;
}

static enum status add_item(json_t *list, struct reader *r, const struct opt *o, int item, int depth,
	struct error *err)
{
	json_t *v;

	TRY(to_json(&v, r, o, item, depth, err));
	json_array_append_new(list, v);
	return OK;
}

static enum status add_pair(json_t *map, struct reader *r, const struct opt *o, const yaml_node_pair_t *pair,
	int depth, struct error *err)
{
	const yaml_node_t *key = yaml_document_get_node(&r->doc, pair->key);
	json_t *v;

	if (key->type != YAML_SCALAR_NODE)
		return wrong(o, "a key that is a list or a map", "text", err);
	if (json_object_get(map, text_of(key)))
		return error_set(err, E_INVAL, "--%s: found the key '%.40s' twice", o->name, text_of(key));
	TRY(to_json(&v, r, o, pair->value, depth, err));
	if (json_object_set_new(map, text_of(key), v) != 0)
		return wrong(o, "a key that is not UTF-8", "text", err);
	return OK;
}

static enum status to_json(json_t **out, struct reader *r, const struct opt *o, int index, int depth,
	struct error *err)
{
	const yaml_node_t *node = yaml_document_get_node(&r->doc, index);
	enum status st = OK;
	json_t *v;

	if (depth > MAX_JSON_DEPTH || ++r->json_nodes > MAX_JSON_NODES)
		return error_set(err, E_LIMIT, "--%s: more than %d levels or %d values", o->name, MAX_JSON_DEPTH,
			MAX_JSON_NODES);
	if (node->type == YAML_SCALAR_NODE)
		return scalar_json(out, o, node, err);
	if (node->type == YAML_SEQUENCE_NODE) {
		const yaml_node_item_t *item = node->data.sequence.items.start;

		v = json_array();
		for (; st == OK && item < node->data.sequence.items.top; item++)
			st = add_item(v, r, o, *item, depth + 1, err);
	} else {
		const yaml_node_pair_t *pair = node->data.mapping.pairs.start;

		v = json_object();
		for (; st == OK && pair < node->data.mapping.pairs.top; pair++)
			st = add_pair(v, r, o, pair, depth + 1, err);
	}
	if (st == OK)
		*out = v;
	else
		json_decref(v);
	return st;
}

static enum status take_json(struct reader *r, const struct opt *o, int index, struct error *err)
{
	enum status st;
	char *text;
	json_t *v;

	TRY(to_json(&v, r, o, index, 0, err));
	text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
	BUG_ON(!text);
	st = opt_store(o, arena_strndup(r->texts, text, strlen(text)), r->values, err);
	free(text);
	json_decref(v);
	return st;
}

/* --- keys ------------------------------------------------------------------------------------------------ */

static enum status take_list(struct reader *r, const struct opt *o, const yaml_node_t *list, struct error *err)
{
	const yaml_node_item_t *item = list->data.sequence.items.start;

	if (item == list->data.sequence.items.top)
		return wrong(o, "an empty list", expected_of(o), err);
	for (; item < list->data.sequence.items.top; item++) {
		const yaml_node_t *node = yaml_document_get_node(&r->doc, *item);

		if (node->type != YAML_SCALAR_NODE)
			return wrong(o, "a list or a map in the list", expected_of(o), err);
		TRY(take_scalar(r, o, node, err));
	}
	return OK;
}

static enum status take_value(struct reader *r, const struct opt *o, int index, struct error *err)
{
	const yaml_node_t *node = yaml_document_get_node(&r->doc, index);
	void *at = (char *)r->values + o->offset;

	if (o->type == OPT_SIZES)
		((struct opt_sizes *)at)->n = 0;
	if (o->type == OPT_STRINGS)
		((struct opt_strings *)at)->n = 0;
	if (node->type == YAML_SCALAR_NODE)
		TRY(take_scalar(r, o, node, err));
	else if (o->type == OPT_JSON)
		TRY(take_json(r, o, index, err));
	else if (node->type == YAML_SEQUENCE_NODE && (o->type == OPT_STRINGS || o->type == OPT_SIZES))
		TRY(take_list(r, o, node, err));
	else
		return wrong(o, node->type == YAML_SEQUENCE_NODE ? "a list" : "a map", expected_of(o), err);
	if (o->type == OPT_STRINGS)
		((struct opt_strings *)at)->preset = true;
	return OK;
}

/* no-NAME: false turns the switch on. */
static enum status take_negated(struct reader *r, const struct opt *o, const yaml_node_t *node,
	struct error *err)
{
	bool on;

	if (node->type != YAML_SCALAR_NODE || !plain_bool(node, &on))
		return error_set(err, E_INVAL, "--no-%s: expected true or false", o->name);
	opt_set_switch(o, r->values, !on);
	return OK;
}

static enum status find_key(const struct opt **out, bool *negated, const struct reader *r,
	const yaml_node_t *key, struct error *err)
{
	char word[OPT_MAX_NAME + 2] = "--", *name = word + 2;
	size_t len = key->data.scalar.length;

	if (key->type != YAML_SCALAR_NODE || len == 0 || len >= OPT_MAX_NAME || memchr(text_of(key), 0, len))
		return error_set(err, E_INVAL, "a key that is no option of %s", r->table->command);
	for (size_t i = 0; i <= len; i++)
		name[i] = text_of(key)[i] == '_' ? '-' : text_of(key)[i];
	TRY(opt_check_refused(r->table, word, err));
	*out = opt_find(r->table, name);
	*negated = false;
	if (!*out && strncmp(name, "no-", 3) == 0) {
		*out = opt_find(r->table, name + 3);
		*negated = true;
		if (*out && !opt_is_switch(*out))
			*out = NULL;
	}
	if (!*out)
		return opt_unknown(r->table, name, err);
	if ((*out)->type == OPT_FILE)
		return error_set(err, E_INVAL, "--%s: a file of options names no other one", name);
	return OK;
}

static enum status take_pair(struct reader *r, const yaml_node_pair_t *pair, const struct opt **seen,
	size_t *n_seen, struct error *err)
{
	const yaml_node_t *key = yaml_document_get_node(&r->doc, pair->key);
	const struct opt *o = NULL;
	bool negated = false;

	TRY(find_key(&o, &negated, r, key, err));
	for (size_t i = 0; i < *n_seen; i++) {
		if (seen[i] == o)
			return error_set(err, E_INVAL, "--%s: found twice", o->name);
	}
	seen[(*n_seen)++] = o;
	if (negated)
		return take_negated(r, o, yaml_document_get_node(&r->doc, pair->value), err);
	return take_value(r, o, pair->value, err);
}

static enum status take_map(struct reader *r, struct error *err)
{
	const yaml_node_t *root = yaml_document_get_root_node(&r->doc);
	const struct opt **seen;
	size_t n_seen = 0;
	enum status st = OK;
	int n = 0;

	if (!root || (root->type == YAML_SCALAR_NODE && plain_null(root)))
		return OK;
	if (root->type != YAML_MAPPING_NODE) {
		error_set(err, E_FORMAT, "expected a map from option names to values");
		return at_line(r, root, err);
	}
	while (opt_at(r->table, n))
		n++;
	seen = mem_alloc((size_t)(n + 1) * sizeof(*seen));
	for (const yaml_node_pair_t *p = root->data.mapping.pairs.start; p < root->data.mapping.pairs.top; p++) {
		st = take_pair(r, p, seen, &n_seen, err);
		if (st != OK) {
			st = at_line(r, yaml_document_get_node(&r->doc, p->key), err);
			break;
		}
	}
	free(seen);
	return st;
}

/* --- the file -------------------------------------------------------------------------------------------- */

static enum status read_file(struct buf *out, const char *path, struct error *err)
{
	FILE *f = fopen(path, "re");
	enum status st = OK;
	char part[4096];
	size_t n;

	if (!f)
		return error_set(err, E_IO, "%.120s: cannot open: %s", path, strerror(errno));
	while ((n = fread(part, 1, sizeof(part), f)) > 0 && out->len <= MAX_FILE_BYTES)
		buf_append(out, part, n);
	if (ferror(f))
		st = error_set(err, E_IO, "%.120s: read failed: %s", path, strerror(errno));
	else if (out->len > MAX_FILE_BYTES)
		st = error_set(err, E_LIMIT, "%.120s: more than %zu bytes", path, MAX_FILE_BYTES);
	fclose(f);
	return st;
}

static enum status yaml_wrong(const struct reader *r, const yaml_parser_t *p, struct error *err)
{
	return error_set(err, E_FORMAT, "%.100s:%zu: not valid YAML: %.80s", r->path, p->problem_mark.line + 1,
		p->problem ? p->problem : "out of memory");
}

/* --- what is refused before anything is composed -------------------------------------------------------- */

struct walk {
	struct {
		bool map, at_key; /* at_key: the next node is one */
	} levels[MAX_DEPTH];
	int depth;
};

static const char *tag_of(const yaml_event_t *e)
{
	const yaml_char_t *tag = e->type == YAML_SCALAR_EVENT ? e->data.scalar.tag :
		e->type == YAML_SEQUENCE_START_EVENT ? e->data.sequence_start.tag :
		e->type == YAML_MAPPING_START_EVENT ? e->data.mapping_start.tag : NULL;

	return (const char *)tag;
}

static bool is_merge(const yaml_event_t *e)
{
	return e->type == YAML_SCALAR_EVENT && e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
		strcmp((const char *)e->data.scalar.value, "<<") == 0;
}

/* A node in its place: a key or the value of one, an item, or the root. */
static enum status check_node(struct walk *w, const yaml_event_t *e, struct error *err)
{
	bool key = false;

	if (w->depth && w->levels[w->depth - 1].map) {
		key = w->levels[w->depth - 1].at_key;
		w->levels[w->depth - 1].at_key = !key;
	}
	if (key && is_merge(e))
		return error_set(err, E_UNSUPPORTED, "found the key '<<', expected keys alone: maps are not merged");
	if (tag_of(e))
		return error_set(err, E_UNSUPPORTED, "found the tag '%.60s', expected values without tags", tag_of(e));
	return OK;
}

static enum status check_event(struct walk *w, const yaml_event_t *e, struct error *err)
{
	bool map = e->type == YAML_MAPPING_START_EVENT;

	switch (e->type) {
	case YAML_SCALAR_EVENT:
	case YAML_ALIAS_EVENT:
		return check_node(w, e, err);
	case YAML_SEQUENCE_START_EVENT:
	case YAML_MAPPING_START_EVENT:
		TRY(check_node(w, e, err));
		if (w->depth == MAX_DEPTH)
			return error_set(err, E_LIMIT, "more than %d levels", MAX_DEPTH);
		w->levels[w->depth].map = w->levels[w->depth].at_key = map;
		w->depth++;
		return OK;
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		w->depth--;
		return OK;
	default:
		return OK;
	}
}

static enum status check_events(struct reader *r, yaml_parser_t *p, struct error *err)
{
	struct walk w = { .depth = 0 };
	enum status st = OK;
	bool end = false;

	while (st == OK && !end) {
		yaml_event_t e;

		if (!yaml_parser_parse(p, &e))
			return yaml_wrong(r, p, err);
		st = check_event(&w, &e, err);
		if (st != OK)
			st = error_prefix(err, "%.100s:%zu", r->path, e.start_mark.line + 1);
		end = e.type == YAML_STREAM_END_EVENT;
		yaml_event_delete(&e);
	}
	return st;
}

/* --- the document --------------------------------------------------------------------------------------- */

static enum status take_document(struct reader *r, yaml_parser_t *p, struct error *err)
{
	yaml_document_t more;
	enum status st;

	if (!yaml_parser_load(p, &r->doc))
		return yaml_wrong(r, p, err);
	st = take_map(r, err);
	yaml_document_delete(&r->doc);
	TRY(st);
	if (!yaml_parser_load(p, &more))
		return yaml_wrong(r, p, err);
	if (yaml_document_get_root_node(&more))
		st = error_set(err, E_FORMAT, "%.100s:%zu: a second document, expected one", r->path,
			more.start_mark.line + 1);
	yaml_document_delete(&more);
	return st;
}

static enum status with_parser(struct reader *r, const struct buf *text,
	enum status (*take)(struct reader *r, yaml_parser_t *p, struct error *err), struct error *err)
{
	yaml_parser_t parser;
	enum status st;

	if (!yaml_parser_initialize(&parser))
		return error_set(err, E_NOMEM, "%.120s: no memory to parse it", r->path);
	yaml_parser_set_input_string(&parser, (const unsigned char *)(text->data ? text->data : ""), text->len);
	st = take(r, &parser, err);
	yaml_parser_delete(&parser);
	return st;
}

enum status opt_file_apply(struct arena *texts, const struct opt_table *t, const char *path, void *values,
	struct error *err)
{
	struct reader r = { .texts = texts, .table = t, .path = path, .values = values };
	struct buf text = { 0 };
	enum status st;

	TRY_GOTO(out, read_file(&text, path, err));
	TRY_GOTO(out, with_parser(&r, &text, check_events, err));
	st = with_parser(&r, &text, take_document, err);
out:
	buf_deinit(&text);
	return st;
}
