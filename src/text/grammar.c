/* The ways to a grammar (text/grammar.h): read, compile, bound. */
#include "text/grammar.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "text/grammar_int.h"

#define MAX_CHOICES 10000u

static enum status check_bytes(size_t len, struct error *err)
{
	return len <= GRAMMAR_MAX_SOURCE_BYTES ? OK : error_set(err, E_LIMIT, "found %zu bytes, at most %zu are taken", len,
		GRAMMAR_MAX_SOURCE_BYTES);
}

/* Rule `root`, which is this node. */
static uint32_t root_of(struct grammar_ir *ir, struct g_node *node)
{
	uint32_t root = g_rule_new(ir, "root");

	g_rule_set(ir, root, node);
	return root;
}

enum status grammar_from_schema(struct grammar **out, const struct grammar_vocab *v, const json_t *schema,
	const struct grammar_json_options *o, struct error *err)
{
	size_t bytes = json_dumpb(schema, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
	struct grammar_ir ir;
	uint32_t root;
	enum status st;

	TRY(check_bytes(bytes, err));
	grammar_ir_init(&ir);
	st = grammar_read_schema(&root, &ir, schema, o, err);
	if (st == OK)
		st = grammar_build(out, v, &ir, root, err);
	grammar_ir_deinit(&ir);
	return st;
}

enum status grammar_from_regex(struct grammar **out, const struct grammar_vocab *v, const char *regex,
	size_t len, struct error *err)
{
	struct grammar_ir ir;
	struct g_node *node;
	enum status st;

	TRY(check_bytes(len, err));
	grammar_ir_init(&ir);
	st = grammar_read_regex(&node, &ir, regex, len, (struct regex_mode){ false }, err);
	if (st == OK)
		st = grammar_build(out, v, &ir, root_of(&ir, node), err);
	grammar_ir_deinit(&ir);
	return st;
}

enum status grammar_from_choice(struct grammar **out, const struct grammar_vocab *v, const json_t *list,
	struct error *err)
{
	size_t n = json_array_size(list), bytes = 0;
	struct g_word *words;
	struct grammar_ir ir;
	enum status st;

	if (n == 0 || n > MAX_CHOICES)
		return error_set(err, E_INVAL, "found %zu choices, expected 1 to %u", n, MAX_CHOICES);
	words = mem_alloc(n * sizeof(*words));
	grammar_ir_init(&ir);
	for (size_t i = 0; i < n; i++) {
		const json_t *s = json_array_get(list, i);

		if (!json_is_string(s)) {
			st = error_set(err, E_INVAL, "choice %zu: found %s, expected a string", i, json_type_name(s));
			goto out;
		}
		words[i] = (struct g_word){ json_string_value(s), json_string_length(s) };
		bytes += words[i].len;
	}
	TRY_GOTO(out, check_bytes(bytes, err));
	st = grammar_build(out, v, &ir, root_of(&ir, g_words(&ir, words, n)), err);
out:
	grammar_ir_deinit(&ir);
	free(words);
	return st;
}

enum status grammar_from_ebnf(struct grammar **out, const struct grammar_vocab *v, const char *text, size_t len,
	struct error *err)
{
	struct grammar_ir ir;
	uint32_t root;
	enum status st;

	TRY(check_bytes(len, err));
	grammar_ir_init(&ir);
	st = grammar_read_ebnf(&root, &ir, text, len, err);
	if (st == OK)
		st = grammar_build(out, v, &ir, root, err);
	grammar_ir_deinit(&ir);
	return st;
}

/* --- tools ----------------------------------------------------------------------------------------------- */

enum status grammar_tool_format_find(struct grammar_tool_format *out, const struct tokenizer *tok,
	struct error *err)
{
	static const char *const names[] = { "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>",
		"<｜tool▁calls▁end｜>" };
	int32_t ids[5];

	for (int i = 0; i < 5; i++) {
		ids[i] = tokenizer_token_find(tok, names[i], strlen(names[i]));
		if (ids[i] < 0)
			return error_set(err, E_UNSUPPORTED, "the vocabulary has no token %s", names[i]);
	}
	*out = (struct grammar_tool_format){ ids[0], ids[1], ids[2], ids[3], ids[4] };
	return OK;
}

static enum status one_tool(struct g_node **out, struct grammar_ir *ir, const struct grammar_tool_format *f,
	const json_t *function, const char *name, struct error *err)
{
	const struct grammar_json_options options = { .object = true };
	json_t *parameters = json_object_get(function, "parameters");
	uint32_t rule;
	struct g_node *n;
	enum status st;

	parameters = json_is_object(parameters) ? json_incref(parameters) : json_object();
	st = grammar_read_schema(&rule, ir, parameters, &options, err);
	json_decref(parameters);
	if (st != OK)
		return error_prefix(err, "tool %.60s", name);
	ir->rules[rule].tool = name;
	n = g_seq(ir, g_token(ir, f->call_begin), g_text(ir, name));
	n = g_seq(ir, g_seq(ir, n, g_token(ir, f->sep)), g_call(ir, rule));
	*out = g_seq(ir, n, g_token(ir, f->call_end));
	return OK;
}

static enum status read_tools(struct g_node **out, struct grammar_ir *ir, const struct grammar_tool_format *f,
	const json_t *tools, const char *only, struct error *err)
{
	*out = NULL;
	for (size_t i = 0; i < json_array_size(tools); i++) {
		const json_t *function = json_object_get(json_array_get(tools, i), "function");
		const char *name = json_string_value(json_object_get(function, "name"));
		struct g_node *tool = NULL;

		if (!name || !*name)
			return error_set(err, E_INVAL, "tools[%zu]: expected a function with a name", i);
		if (only && strcmp(only, name) != 0)
			continue;
		TRY(one_tool(&tool, ir, f, function, name, err));
		*out = g_alt(ir, *out, tool);
	}
	return *out ? OK : error_set(err, E_INVAL, "there is no tool %.60s", only ? only : "to call");
}

enum status grammar_from_tools(struct grammar **out, const struct grammar_vocab *v,
	const struct grammar_tool_format *format, const json_t *tools, const char *only, bool parallel,
	struct error *err)
{
	size_t bytes = json_dumpb(tools, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
	struct grammar_ir ir;
	struct g_node *call;
	enum status st;

	TRY(check_bytes(bytes, err));
	grammar_ir_init(&ir);
	TRY_GOTO(out, read_tools(&call, &ir, format, tools, only, err));
	call = g_repeat(&ir, call, 1, parallel ? G_NO_MAX : 1);
	call = g_seq(&ir, g_token(&ir, format->calls_begin), call);
	st = grammar_build(out, v, &ir, root_of(&ir, g_seq(&ir, call, g_token(&ir, format->calls_end))), err);
out:
	grammar_ir_deinit(&ir);
	return st;
}
