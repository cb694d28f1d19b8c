/* Bodies of requests (load/load_request.h). */
#include "load/load_request.h"

#include <stdlib.h>

const char *load_request_route(enum load_backend backend)
{
	return backend == LOAD_CHAT ? "/v1/chat/completions" : "/v1/completions";
}

/* Prompts are checked when the dataset is made, so that a string that jansson refuses is a bug. */
static json_t *text(const struct load_prompt *p)
{
	json_t *v = json_stringn(p->text, p->len);

	BUG_ON(!v);
	return v;
}

static void put_completion(json_t *body, const struct load_request_shape *s, const struct load_prompt *p)
{
	json_object_set_new(body, "prompt", text(p));
	json_object_set_new(body, "repetition_penalty", json_real(1.0));
	json_object_set_new(body, "max_tokens", json_integer(p->output_tokens));
	if (s->logprobs >= 0)
		json_object_set_new(body, "logprobs", json_integer(s->logprobs));
}

static void put_chat(json_t *body, const struct load_request_shape *s, const struct load_prompt *p)
{
	json_t *part = json_object(), *content = json_array(), *message = json_object(), *messages = json_array();

	json_object_set_new(part, "type", json_string("text"));
	json_object_set_new(part, "text", text(p));
	json_array_append_new(content, part);
	json_object_set_new(message, "role", json_string("user"));
	json_object_set_new(message, "content", content);
	json_array_append_new(messages, message);
	json_object_set_new(body, "messages", messages);
	json_object_set_new(body, "max_completion_tokens", json_integer(p->output_tokens));
	if (s->logprobs >= 0) {
		json_object_set_new(body, "logprobs", json_true());
		json_object_set_new(body, "top_logprobs", json_integer(s->logprobs));
	}
}

void load_request_put(struct buf *out, const struct load_request_shape *s, const struct load_prompt *p)
{
	json_t *body = json_object(), *options = json_object();
	char *json;

	json_object_set_new(body, "model", json_string(s->model));
	if (s->backend == LOAD_CHAT)
		put_chat(body, s, p);
	else
		put_completion(body, s, p);
	json_object_set_new(options, "include_usage", json_true());
	json_object_set_new(body, "stream", json_true());
	json_object_set_new(body, "stream_options", options);
	if (s->ignore_eos)
		json_object_set_new(body, "ignore_eos", json_true());
	if (s->fields)
		json_object_update(body, s->fields);
	json = json_dumps(body, JSON_COMPACT);
	BUG_ON(!json);
	buf_reset(out);
	buf_puts(out, json);
	free(json);
	json_decref(body);
}
