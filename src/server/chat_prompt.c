/* Chat prompts (server/chat_prompt.h). */
#include "server/chat_prompt.h"

#include <string.h>

#include "base/json.h"
#include "server/fields.h"
#include "server/openai_sampling.h"
#include "server/openai_tools.h"
#include "text/chat.h"

#define MAX_MESSAGES 16384
#define MAX_KWARGS 64

static enum status check_messages(json_t **out, const json_t *body, struct refusal *no)
{
	static const char *const roles[] = { "system", "developer", "user", "assistant", "tool", NULL };
	json_t *list = NULL;

	TRY(field_array(&list, body, "messages", no));
	if (!list)
		return refuse_shape(no, "messages", "messages: field required");
	if (json_array_size(list) == 0 || json_array_size(list) > MAX_MESSAGES)
		return refuse(no, "messages", "messages: found %zu, expected 1 to %d", json_array_size(list),
			MAX_MESSAGES);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *m = json_array_get(list, i);
		const char *role = json_string_value(json_object_get(m, "role"));
		size_t k = 0;

		if (!json_is_object(m) || !role)
			return refuse_shape(no, "messages", "messages[%zu]: expected an object with a role", i);
		while (roles[k] && strcmp(roles[k], role) != 0)
			k++;
		if (!roles[k])
			return refuse(no, "messages", "messages[%zu]: unknown role %.40s", i, role);
	}
	*out = list;
	return OK;
}

static enum status check_effort(const char *effort, struct refusal *no)
{
	static const char *const efforts[] = { "none", "minimal", "low", "medium", "high", "xhigh", "max" };

	for (size_t i = 0; i < sizeof(efforts) / sizeof(*efforts); i++) {
		if (!effort || strcmp(effort, efforts[i]) == 0)
			return OK;
	}
	return refuse(no, "reasoning_effort",
		"reasoning_effort: found %.40s, expected none, minimal, low, medium, high, xhigh or max", effort);
}

/* What the request, the server and the template language set; "false" is true to a template. */
static enum status check_kwargs(const json_t *kwargs, struct refusal *no)
{
	const char *name;
	const json_t *value;
	bool ignored;

	if (json_object_size(kwargs) > MAX_KWARGS)
		return refuse(no, "chat_template_kwargs", "chat_template_kwargs: more than %d variables", MAX_KWARGS);
	json_object_foreach((json_t *)kwargs, name, value)
	{
		if (chat_variable_is_reserved(name))
			return refuse(no, "chat_template_kwargs", "chat_template_kwargs.%.40s: cannot be set here", name);
	}
	if (field_bool(&ignored, kwargs, "thinking", no) == OK &&
		field_bool(&ignored, kwargs, "enable_thinking", no) == OK)
		return OK;
	return refuse(no, "chat_template_kwargs",
		"chat_template_kwargs: thinking and enable_thinking must be true or false");
}

/* The server's default variables, then the request's over them. Owned; NULL when there are none. */
static enum status merge_kwargs(json_t **out, const struct serving *s, const json_t *body, struct refusal *no)
{
	json_t *kwargs = NULL, *all;
	const char *effort = NULL;

	TRY(field_object(&kwargs, body, "chat_template_kwargs", no));
	TRY(check_kwargs(kwargs, no));
	TRY(field_string(&effort, body, "reasoning_effort", no));
	TRY(check_effort(effort, no));
	all = s->o->chat_kwargs ? json_copy(s->o->chat_kwargs) : json_object();
	if (kwargs)
		json_object_update(all, kwargs);
	if (!json_object_get(all, "thinking") && !json_object_get(all, "enable_thinking") && effort)
		json_object_set_new(all, "thinking", json_boolean(strcmp(effort, "none") != 0));
	/* Two names of one switch: a template reads one of them. */
	if (!json_object_get(all, "thinking") && json_object_get(all, "enable_thinking"))
		json_object_set(all, "thinking", json_object_get(all, "enable_thinking"));
	if (!json_object_get(all, "enable_thinking") && json_object_get(all, "thinking"))
		json_object_set(all, "enable_thinking", json_object_get(all, "thinking"));
	*out = all;
	return OK;
}

/* *owned: a template of the request, to be destroyed. */
static enum status choose_template(const struct chat_template **out, struct chat_template **owned,
	const struct serving *s, const json_t *body, struct refusal *no)
{
	const char *source = NULL;
	struct error err;

	TRY(field_string(&source, body, "chat_template", no));
	*owned = NULL;
	*out = s->o->chat;
	if (source && !s->o->trust_request_chat_template)
		return refuse(no, "chat_template",
			"Chat template is passed with request, but --trust-request-chat-template is not set. "
			"Refused request with untrusted chat template.");
	if (source && chat_template_compile(owned, source, "chat_template", &err) != OK)
		return refuse_error(no, "chat_template", &err);
	if (source)
		*out = *owned;
	else if (!s->o->chat)
		return refuse(no, "messages", "the model has no chat template: start the server with "
			"--chat-template, or use /v1/completions");
	return OK;
}

/* What the server's own template cannot render is wrong with the request; where the template lies is no
 * client's business. */
static enum status refuse_render(struct refusal *no, const struct serving *s, const struct chat_template *t,
	const struct error *err)
{
	const char *name = chat_template_name(t);
	size_t n = strlen(name);

	if (t != s->o->chat || strncmp(err->msg, name, n) != 0 || strncmp(err->msg + n, ": ", 2) != 0)
		return refuse_error(no, "messages", err);
	return refuse(no, "messages", "the chat template cannot render messages and tools: %s", err->msg + n + 2);
}

static enum status render(struct token_buf *ids, const struct serving *s, struct tokenizer_scratch *scratch,
	const struct chat_template *t, const struct chat_input *in, bool add_special, struct refusal *no)
{
	const struct tokenizer_config *config = tokenizer_config_of(s->tok);
	struct chat_prompt prompt = { .n_barriers = 0 };
	struct error err;
	enum status st;

	if (chat_render(&prompt, t, s->tok, in, &err) != OK)
		return refuse_render(no, s, t, &err);
	TRY_GOTO(out, openai_check_text(s, prompt.text.len, no));
	if (add_special && config->add_bos && config->bos_id >= 0)
		token_buf_push(ids, config->bos_id);
	if (chat_encode(ids, &prompt, s->tok, scratch, &err) != OK)
		st = refuse_error(no, "messages", &err);
out:
	chat_prompt_deinit(&prompt);
	return st;
}

enum status chat_prompt_make(struct token_buf *ids, const struct serving *s, struct tokenizer_scratch *scratch,
	const json_t *body, struct refusal *no)
{
	struct chat_input in = { .add_generation_prompt = true, .literal_content = s->o->literal_content };
	const struct chat_template *t;
	struct chat_template *owned = NULL;
	bool add_special = false;
	enum status st;

	TRY(check_messages(&in.messages, body, no));
	TRY(field_bool(&in.add_generation_prompt, body, "add_generation_prompt", no));
	TRY(field_bool(&in.continue_final, body, "continue_final_message", no));
	TRY(field_bool(&add_special, body, "add_special_tokens", no));
	if (in.continue_final && in.add_generation_prompt && field_get(body, "add_generation_prompt"))
		return refuse(no, "continue_final_message",
			"Cannot set both `continue_final_message` and `add_generation_prompt` to True.");
	TRY(openai_tools_shown(&in.tools, body, no));
	TRY_GOTO(out, merge_kwargs(&in.kwargs, s, body, no));
	TRY_GOTO(out, choose_template(&t, &owned, s, body, no));
	st = render(ids, s, scratch, t, &in, add_special, no);
out:
	if (owned)
		chat_template_destroy(owned);
	json_decref(in.tools);
	json_decref(in.kwargs);
	return st;
}
