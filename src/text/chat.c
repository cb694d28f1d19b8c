/*
 * Conversations to prompts (text/chat.h): normalize the messages, render the model's template, mark
 * where text came from the messages.
 *
 * Normalization (chat_normalize.c) works on a deep copy; the caller's JSON never changes.
 */
#include "text/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "text/chat_normalize.h"
#include "text/jinja.h"
#include "text/jinja_str.h"

#define MAX_VARS 8

struct chat_template {
	struct jinja_template *jinja;
	struct jinja_template *with_tools; /* shows tools to the model; NULL: jinja does, or nobody */
	char *source;			   /* owned */
	char what[100]; /* as long as in messages of the template language */
};

/*
 * In front of a template that writes calls but does not show tools: a system message behind the last
 * one, as the card of DeepSeek-V3.1 has it. One line, so that messages count lines as the template's
 * file does. The two halves enclose how a call is written.
 */
static const char show_tools[] =
	"{%- set tools_ns = namespace(text='## Tools\\nYou have access to the following tools:\\n', at=0) -%}"
	"{%- for tool in tools -%}"
	"{%- set tools_ns.text = tools_ns.text + '\\n### ' + tool.function.name + '\\nDescription: ' + "
	"(tool.function.description or '') + '\\n\\nParameters: ' + (tool.function.parameters | tojson) + "
	"'\\n' -%}"
	"{%- endfor -%}"
	"{%- for message in messages -%}{%- if message['role'] == 'system' -%}"
	"{%- set tools_ns.at = loop.index -%}"
	"{%- endif -%}{%- endfor -%}"
	"{%- set messages = (messages[:tools_ns.at] if tools_ns.at else [{'role': 'system', 'content': ''}]) + "
	"[{'role': 'system', 'content': tools_ns.text + \"\\nIMPORTANT: ALWAYS adhere to this exact format for "
	"tool use:\\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>";
static const char show_tools_end[] =
	"<｜tool▁call▁end｜>{{additional_tool_calls}}<｜tool▁calls▁end｜>\\n\\nWhere:\\n"
	"- `tool_call_name` must be an exact match to one of the available tools\\n"
	"- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\\n"
	"- For multiple tool calls, chain them directly without separators or spaces\"}] + "
	"messages[tools_ns.at:] -%}";
static const char call_v31[] = "tool_call_name<｜tool▁sep｜>tool_call_arguments";
static const char call_v3[] =
	"function<｜tool▁sep｜>tool_call_name\\n```json\\ntool_call_arguments\\n```";

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool chat_template_mentions(const struct chat_template *t, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = t->source; (at = strstr(at, word)); at++) {
		bool inside = at > t->source && is_word(at[-1]) && is_word(*word);

		if (!inside && !(is_word(at[n]) && is_word(word[n - 1])))
			return true;
	}
	return false;
}

static enum status compile_with_tools(
	struct chat_template *t, const char *source, const char *what, struct error *err)
{
	struct buf all = {0};
	enum status st;

	if (chat_template_mentions(t, "tools") || !strstr(source, "<｜tool▁call▁begin｜>"))
		return OK;
	buf_puts(&all, show_tools);
	buf_puts(&all, chat_template_mentions(t, "```json") ? call_v3 : call_v31);
	buf_puts(&all, show_tools_end);
	buf_puts(&all, source);
	st = jinja_compile(&t->with_tools, all.data, all.len, what, err);
	buf_deinit(&all);
	return st;
}

enum status chat_template_compile(
	struct chat_template **out, const char *source, const char *what, struct error *err)
{
	struct jinja_template *jinja;
	struct chat_template *t;
	enum status st;

	if (!source[strspn(source, " \t\r\n")])
		return error_set(err, E_FORMAT, "%.100s: the chat template is empty", what);
	TRY(jinja_compile(&jinja, source, strlen(source), what, err));
	t = mem_alloc(sizeof(*t));
	*t = (struct chat_template){.jinja = jinja, .source = mem_strdup(source)};
	snprintf(t->what, sizeof(t->what), "%s", what);
	st = compile_with_tools(t, source, what, err);
	if (st != OK)
		chat_template_destroy(t);
	else
		*out = t;
	return st;
}

const char *chat_template_name(const struct chat_template *t)
{
	return t->what;
}

void chat_template_destroy(struct chat_template *t)
{
	if (!t)
		return;
	jinja_destroy(t->jinja);
	if (t->with_tools)
		jinja_destroy(t->with_tools);
	free(t->source);
	free(t);
}

bool chat_template_shows_tools(const struct chat_template *t)
{
	return t->with_tools || chat_template_mentions(t, "tools");
}

/* Variables of one rendering; all values are owned. */
struct vars {
	struct jinja_var *v; /* owned */
	size_t n;
};

static void vars_add(struct vars *vars, const char *name, json_t *owned, bool marked)
{
	vars->v[vars->n++] = (struct jinja_var){name, owned, marked};
}

static json_t *text_or_empty(const char *s)
{
	return json_string(s ? s : "");
}

/* Of kwargs only what the template reads; the rest would be without effect. */
static void vars_init(struct vars *vars, const struct chat_template *t, const struct chat_input *in, json_t *messages,
	json_t *tools, const struct tokenizer_config *config)
{
	size_t extra = in->kwargs ? json_object_size(in->kwargs) : 0;
	const char *name;
	json_t *value;

	*vars = (struct vars){.v = mem_alloc(sizeof(*vars->v) * (MAX_VARS + extra))};
	vars_add(vars, "messages", json_incref(messages), in->literal_content);
	vars_add(vars, "tools", json_incref(tools), in->literal_content);
	vars_add(vars, "add_generation_prompt",
		json_boolean(in->add_generation_prompt && !in->continue_final), false);
	vars_add(vars, "thinking", json_boolean(in->thinking), false);
	vars_add(vars, "enable_thinking", json_boolean(in->thinking), false);
	vars_add(vars, "bos_token", text_or_empty(config->bos_token), false);
	vars_add(vars, "eos_token", text_or_empty(config->eos_token), false);
	if (!in->kwargs)
		return;
	json_object_foreach(in->kwargs, name, value)
	{
		size_t i = 0;

		while (i < vars->n && strcmp(vars->v[i].name, name) != 0)
			i++;
		if (i < vars->n) /* "thinking" and "enable_thinking" */
			json_decref(vars->v[i].value);
		else if (!*name || !chat_template_mentions(t, name))
			continue;
		else
			vars->n++;
		vars->v[i] = (struct jinja_var){name, json_incref(value), in->literal_content};
	}
}

static void vars_deinit(struct vars *vars)
{
	for (size_t i = 0; i < vars->n; i++)
		json_decref(vars->v[i].value);
	free(vars->v);
}

static size_t json_text_bytes(const json_t *v)
{
	return v ? json_dumpb(v, NULL, 0, JSON_ENCODE_ANY) : 0;
}

static void add_barrier(struct chat_prompt *p, size_t *cap, size_t at)
{
	p->barriers = mem_grow(p->barriers, cap, p->n_barriers + 1, sizeof(*p->barriers));
	p->barriers[p->n_barriers++] = at;
}

/*
 * A token may neither begin inside marked text nor reach into it: a barrier where a marked run
 * begins, and one behind each marked byte that could begin a token.
 */
static void set_barriers(
	struct chat_prompt *p, const struct jinja_output *made, const struct tokenizer *tok)
{
	const char *marks = made->marks.data;
	size_t cap = 0, last = 0;

	if (!made->marks.len)
		return;
	for (size_t i = 0; i < p->text.len; i++) {
		if (!marks[i])
			continue;
		if (i > 0 && !marks[i - 1] && i > last)
			add_barrier(p, &cap, last = i);
		if (i + 1 < p->text.len && tokenizer_starts_added(tok, p->text.data[i]))
			add_barrier(p, &cap, last = i + 1);
	}
}

/*
 * An open last message ends without what the template puts behind it: the end token or, where a
 * template ends messages with another one, whatever follows the message's content.
 */
static enum status cut_end(struct buf *text, json_t *message, const char *eos, struct error *err)
{
	struct jinja_str content = {0}, all = {.s = text->data, .len = text->len};
	json_t *value = json_object_get(message, "content");
	size_t n = eos ? strlen(eos) : 0, at;

	if (n && text->len >= n && memcmp(text->data + text->len - n, eos, n) == 0) {
		text->len -= n;
	} else {
		if (json_is_string(value))
			content = jinja_str_strip((struct jinja_str){.s = json_string_value(value),
							  .len = json_string_length(value)},
				NULL, true, true);
		at = content.len ? jinja_str_rfind(all, content, all.len) : SIZE_MAX;
		if (at == SIZE_MAX)
			return error_set(err, E_UNSUPPORTED,
				"the last message cannot be continued: the chat template puts "
				"neither the "
				"end token nor this message's content at the end");
		text->len = at + content.len;
	}
	text->data[text->len] = 0;
	return OK;
}

bool chat_variable_is_reserved(const char *name)
{
	/* Of struct chat_input and the tokenizer; arguments of the function that renders templates elsewhere; functions. */
	static const char *const reserved[] = {"messages", "tools", "add_generation_prompt", "continue_final_message",
		"bos_token", "eos_token", "chat_template", "tokenize", "range", "namespace", "dict", "raise_exception"};

	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
		if (strcmp(reserved[i], name) == 0)
			return true;
	return false;
}

static enum status check_kwargs(json_t *kwargs, struct error *err)
{
	const char *name;
	json_t *value;

	if (!kwargs)
		return OK;
	if (!json_is_object(kwargs))
		return error_set(err, E_INVAL, "chat_template_kwargs: found %s, expected an object",
			json_type_name(kwargs));
	json_object_foreach(kwargs, name, value)
	{
		if (chat_variable_is_reserved(name))
			return error_set(err, E_INVAL, "chat_template_kwargs.%s: cannot be set here", name);
	}
	return OK;
}

static enum status check_input(const struct chat_input *in, struct error *err)
{
	const char *role;
	json_t *last;

	if (!json_is_array(in->messages))
		return error_set(err, E_INVAL, "messages: found %s, expected an array",
			json_type_name(in->messages));
	if (in->tools && !json_is_array(in->tools) && !json_is_null(in->tools))
		return error_set(err, E_INVAL, "tools: found %s, expected an array",
			json_type_name(in->tools));
	TRY(check_kwargs(in->kwargs, err));
	if (!in->continue_final)
		return OK;
	last = json_array_get(in->messages, json_array_size(in->messages) - 1);
	role = json_string_value(json_object_get(last, "role"));
	if (!role || strcmp(role, "assistant") != 0)
		return error_set(err, E_INVAL,
			"the last message has role %.20s: only an assistant's can be continued",
			role ? role : "none");
	return OK;
}

/* What the template sees: copies that are normalized, or the input as it is. */
static enum status prepare(
	json_t **messages, json_t **tools, const struct chat_input *in, struct error *err)
{
	enum status st;

	if (in->as_is) {
		*messages = json_incref(in->messages);
		*tools = in->tools ? json_incref(in->tools) : json_null();
		return OK;
	}
	TRY(chat_normalize(messages, in->messages, in->continue_final, err));
	*tools = json_null();
	if (!json_is_array(in->tools))
		return OK;
	st = chat_normalize_tools(tools, in->tools, err);
	if (st != OK)
		json_decref(*messages);
	return st;
}

enum status chat_render(struct chat_prompt *out, const struct chat_template *t,
	const struct tokenizer *tok, const struct chat_input *in, struct error *err)
{
	const struct tokenizer_config *config = tokenizer_config_of(tok);
	struct jinja_output made = {0};
	const struct jinja_template *jinja = t->jinja;
	struct jinja_limits limits;
	json_t *messages, *tools;
	struct vars vars;
	enum status st;

	TRY(check_input(in, err));
	TRY(prepare(&messages, &tools, in, err));
	if (!in->as_is && t->with_tools && json_array_size(tools) > 0)
		jinja = t->with_tools;
	vars_init(&vars, t, in, messages, tools, config);
	limits = jinja_limits_for(
		json_text_bytes(messages) + json_text_bytes(tools) + json_text_bytes(in->kwargs));
	TRY_GOTO(out, jinja_render(&made, jinja, vars.v, vars.n, &limits, err));
	if (in->continue_final)
		TRY_GOTO(out,
			cut_end(&made.text, json_array_get(messages, json_array_size(messages) - 1),
				config->eos_token, err));
	*out = (struct chat_prompt){.text = made.text};
	made.text = (struct buf){0};
	if (in->literal_content)
		set_barriers(out, &made, tok);
out:
	jinja_output_deinit(&made);
	vars_deinit(&vars);
	json_decref(messages);
	json_decref(tools);
	return st;
}

void chat_prompt_deinit(struct chat_prompt *p)
{
	buf_deinit(&p->text);
	free(p->barriers);
	*p = (struct chat_prompt){0};
}

enum status chat_encode(struct token_buf *out, const struct chat_prompt *p,
	const struct tokenizer *tok, struct tokenizer_scratch *sc, struct error *err)
{
	if (!p->text.len)
		return OK;
	return tokenizer_encode_barred(
		tok, sc, p->text.data, p->text.len, p->barriers, p->n_barriers, out, err);
}
