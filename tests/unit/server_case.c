/* The server's code between a request's body and its events (server_case.h). */
#include "server_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "server/answer.h"
#include "server/structured.h"
#include "text/chat.h"

#define DIR TEST_DATA "/deepseek-v3.1"

struct serving serving;

static struct tokenizer *tok;
static struct serving_options options;
static struct error err;

/* --- the engine: one job, whose tokens the test publishes ---------------------------------------------------- */

struct engine_job {
	void *user;
	struct constraint *constraint;
};

static struct {
	const int32_t *ids;
	uint32_t n;
	enum engine_finish finish, last; /* now; once all tokens are there */
	struct engine_job *job;
	bool news;
} engine;

enum status engine_job_create(struct engine_job **out, const struct engine_request *request, struct error *e)
{
	*out = mem_alloc(sizeof(**out));
	**out = (struct engine_job){ request->user, request->constraint };
	return OK;
}

void engine_job_destroy(struct engine_job *job)
{
	constraint_destroy(job->constraint);
	free(job);
}

void *engine_job_user(const struct engine_job *job)
{
	return job->user;
}

uint32_t engine_job_tokens(const struct engine_job *job)
{
	return engine.n;
}

const int32_t *engine_job_ids(const struct engine_job *job)
{
	return engine.ids;
}

enum engine_finish engine_job_finish(const struct engine_job *job)
{
	return engine.finish;
}

uint32_t engine_job_cached(const struct engine_job *job)
{
	return 0;
}

uint32_t engine_job_preemptions(const struct engine_job *job)
{
	return 0;
}

struct engine_job_times engine_job_get_times(const struct engine_job *job)
{
	return (struct engine_job_times){ 0 };
}

const struct error *engine_job_error(const struct engine_job *job)
{
	return &err;
}

struct engine_logprobs engine_job_logprobs(const struct engine_job *job, uint32_t i)
{
	return (struct engine_logprobs){ 0 };
}

struct engine_logprobs engine_job_prompt_logprobs(const struct engine_job *job, uint32_t i)
{
	return (struct engine_logprobs){ 0 };
}

enum status engine_submit(struct engine *e, struct engine_job *job, struct error *er)
{
	engine.job = job;
	return OK;
}

void engine_cancel(struct engine *e, struct engine_job *job)
{
	engine.last = ENGINE_ABORT;
}

struct engine_job *engine_next(struct engine *e)
{
	bool news = engine.news;

	engine.news = false;
	return news ? engine.job : NULL;
}

/* --- the transport ------------------------------------------------------------------------------------------ */

static struct {
	json_t *whole, *events; /* owned */
	bool ended;
	unsigned n_ids;
} sent;

const char *http_request_header(const struct http_request *r, const char *name)
{
	return NULL;
}

void http_request_drop_body(struct http_request *r)
{
}

void http_request_on_close(struct http_request *r, http_close_fn *fn, void *arg)
{
}

/* The same ids for the same answer, so that streams can be compared with it. */
void call_random_id(char *out)
{
	snprintf(out, CALL_RANDOM_ID, "%032x", sent.n_ids++);
}

static json_t *read_json(const struct buf *text)
{
	json_error_t e;
	json_t *v = json_loadb(text->data, text->len, 0, &e);

	if (!v)
		fail_msg("no JSON: %s: %s", e.text, text->data);
	return v;
}

void call_json(struct call *c, struct buf *body)
{
	sent.whole = read_json(body);
	sent.ended = true;
	buf_deinit(body);
	free(c);
}

void call_refuse(struct call *c, const struct refusal *no)
{
	fail_msg("refused: %s", no->message);
}

void call_stream_begin(struct call *c)
{
	c->streaming = true;
}

void call_stream_event(struct call *c, const struct buf *json)
{
	assert_true(c->streaming);
	json_array_append_new(sent.events, read_json(json));
}

void call_stream_named(struct call *c, const char *event, const struct buf *json)
{
	json_t *v = read_json(json);

	assert_true(c->streaming);
	assert_string_equal(json_string_value(json_object_get(v, "type")), event);
	json_array_append_new(sent.events, v);
}

void call_stream_error(struct call *c, const struct refusal *no)
{
	fail_msg("failed: %s", no->message);
}

void call_stream_comment(struct call *c)
{
}

void call_stream_end(struct call *c)
{
	sent.ended = true;
	free(c);
}

void call_drop(struct call *c)
{
	fail_msg("dropped");
}

/* --- answers as one line: R:reasoning C:content [name|arguments] and how it ended --------------------------- */

struct line {
	struct buf text;
	char last; /* R, C, a call or nothing */
};

const char *server_case_string(const json_t *obj, const char *key)
{
	const char *s = json_string_value(json_object_get(obj, key));

	return s ? s : "";
}

static void put_text(struct line *l, char kind, const char *text)
{
	if (!*text)
		return;
	if (l->last != kind)
		buf_printf(&l->text, "%c:", kind);
	l->last = kind;
	buf_puts(&l->text, text);
}

static void put_call(struct line *l, const char *id, const char *name, const char *arguments)
{
	buf_printf(&l->text, "[%s|", name);
	buf_puts(&l->text, arguments);
	buf_printf(&l->text, "]#%s", id + strlen(id) - 2);
	l->last = '[';
}

/* Chat has one reasoning, one content and the calls: their order is not told. */
static void line_of_message(struct line *l, const json_t *m, const json_t *choice)
{
	json_t *call;
	size_t i;

	put_text(l, 'R', server_case_string(m, "reasoning"));
	assert_string_equal(server_case_string(m, "reasoning"), server_case_string(m, "reasoning_content"));
	put_text(l, 'C', server_case_string(m, "content"));
	json_array_foreach(json_object_get(m, "tool_calls"), i, call)
	{
		const json_t *f = json_object_get(call, "function");

		put_call(l, server_case_string(call, "id"), server_case_string(f, "name"), server_case_string(f, "arguments"));
	}
	buf_printf(&l->text, " %s", server_case_string(choice, "finish_reason"));
}

static void add_text(json_t *to, const char *key, const json_t *from)
{
	struct buf all = { 0 };

	buf_puts(&all, server_case_string(to, key));
	buf_puts(&all, server_case_string(from, key));
	json_object_set_new(to, key, json_string(all.data));
	buf_deinit(&all);
}

static void chat_line(struct line *l, bool stream)
{
	json_t *m = json_object(), *calls = json_array(), *event, *call, *choice = NULL;
	size_t i, k;

	if (!stream) {
		choice = json_array_get(json_object_get(sent.whole, "choices"), 0);
		line_of_message(l, json_object_get(choice, "message"), choice);
	}
	json_object_set_new(m, "tool_calls", calls);
	json_array_foreach(sent.events, i, event)
	{
		json_t *delta;

		assert_true(!*server_case_string(choice, "finish_reason"));
		choice = json_array_get(json_object_get(event, "choices"), 0);
		delta = json_object_get(choice, "delta");
		add_text(m, "reasoning", delta);
		add_text(m, "reasoning_content", delta);
		add_text(m, "content", delta);
		json_array_foreach(json_object_get(delta, "tool_calls"), k, call)
		{
			size_t at = (size_t)json_integer_value(json_object_get(call, "index"));

			if (at == json_array_size(calls)) {
				json_array_append(calls, call);
				continue;
			}
			assert_int_equal(at + 1, json_array_size(calls));
			assert_null(json_object_get(call, "id"));
			add_text(json_object_get(json_array_get(calls, at), "function"), "arguments",
				json_object_get(call, "function"));
		}
	}
	if (stream)
		line_of_message(l, m, choice);
	json_decref(m);
}

static void line_of_blocks(struct line *l, const json_t *content, const json_t *end)
{
	json_t *block;
	size_t i;

	json_array_foreach(content, i, block)
	{
		const char *type = server_case_string(block, "type");
		char *input;

		assert_true(l->last == 0 || l->last != (strcmp(type, "text") == 0 ? 'C' : 'R') || strcmp(type, "tool_use") == 0);
		put_text(l, 'R', server_case_string(block, "thinking"));
		put_text(l, 'C', server_case_string(block, "text"));
		if (strcmp(type, "tool_use") != 0)
			continue;
		input = json_dumps(json_object_get(block, "input"), JSON_COMPACT | JSON_ENCODE_ANY);
		put_call(l, server_case_string(block, "id"), server_case_string(block, "name"), input);
		free(input);
	}
	buf_printf(&l->text, " %s", server_case_string(end, "stop_reason"));
}

/* A model's broken object is passed on as it is, and wrapped in whole answers. */
static json_t *read_input(const char *text)
{
	json_t *v = json_loads(*text ? text : "{}", 0, NULL);

	return v ? v : json_pack("{s:s}", "INVALID_JSON", text);
}

static void messages_line(struct line *l, bool stream)
{
	json_t *content = json_array(), *event, *block = NULL, *end = NULL;
	struct buf input = { 0 };
	size_t i;

	if (!stream)
		line_of_blocks(l, json_object_get(sent.whole, "content"), sent.whole);
	json_array_foreach(sent.events, i, event)
	{
		const char *type = server_case_string(event, "type");
		const json_t *delta = json_object_get(event, "delta");

		if (strcmp(type, "content_block_start") == 0) {
			assert_null(block);
			block = json_object_get(event, "content_block");
			json_array_append(content, block);
			buf_reset(&input);
			buf_puts(&input, "");
		} else if (strcmp(type, "content_block_delta") == 0) {
			add_text(block, "text", delta);
			add_text(block, "thinking", delta);
			buf_puts(&input, server_case_string(delta, "partial_json"));
		} else if (strcmp(type, "content_block_stop") == 0) {
			if (strcmp(server_case_string(block, "type"), "tool_use") == 0)
				json_object_set_new(block, "input", read_input(input.data));
			block = NULL;
		} else if (strcmp(type, "message_delta") == 0) {
			end = json_object_get(event, "delta");
		}
	}
	assert_null(block);
	if (stream)
		line_of_blocks(l, content, end);
	buf_deinit(&input);
	json_decref(content);
}

static void line_of_items(struct line *l, const json_t *response)
{
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(response, "output"), i, item)
	{
		const char *type = server_case_string(item, "type");
		const json_t *part = json_array_get(json_object_get(item, "content"), 0);
		bool call = strcmp(type, "function_call") == 0;
		char kind = strcmp(type, "reasoning") == 0 ? 'R' : 'C';

		assert_true(call || l->last != kind);
		if (call)
			put_call(l, server_case_string(item, "call_id"), server_case_string(item, "name"), server_case_string(item, "arguments"));
		else
			put_text(l, kind, server_case_string(part, "text"));
		if (strcmp(server_case_string(item, "status"), "completed") != 0)
			buf_printf(&l->text, "(%s)", server_case_string(item, "status"));
	}
	buf_printf(&l->text, " %s", server_case_string(response, "status"));
}

/* Deltas must add up to the items, and the items to the response. */
static void responses_line(struct line *l, bool stream)
{
	json_t *items = json_array(), *event, *made = json_object(), *response;
	size_t i;

	json_array_foreach(sent.events, i, event)
	{
		const char *type = server_case_string(event, "type");
		json_t *item = json_object_get(event, "item");

		assert_int_equal(json_integer_value(json_object_get(event, "sequence_number")), i);
		if (strcmp(type, "response.output_item.added") == 0) {
			json_object_clear(made);
		} else if (strcmp(type, "response.output_item.done") == 0) {
			const json_t *part = json_array_get(json_object_get(item, "content"), 0);

			assert_string_equal(server_case_string(made, "delta"),
				part ? server_case_string(part, "text") : server_case_string(item, "arguments"));
			json_array_append(items, item);
		} else {
			add_text(made, "delta", event);
		}
	}
	response = stream ? json_object_get(json_array_get(sent.events, json_array_size(sent.events) - 1), "response") :
			    sent.whole;
	if (stream)
		assert_true(json_equal(items, json_object_get(response, "output")));
	line_of_items(l, response);
	json_decref(items);
	json_decref(made);
}

/* --- one answer --------------------------------------------------------------------------------------------- */

static const struct api {
	const struct answer_form *form;
	const char *question, *thinking, *tools, *required, *named, *alone;
	void (*line)(struct line *l, bool stream);
} apis[N_APIS] = {
	{ &openai_chat_form, "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]",
		"\"chat_template_kwargs\":{\"thinking\":true}",
		"\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]", "\"tool_choice\":\"required\"",
		"\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}", "\"parallel_tool_calls\":false",
		chat_line },
	{ &anthropic_form, "\"max_tokens\":100,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]",
		"\"thinking\":{\"type\":\"enabled\"}", "\"tools\":[{\"name\":\"f\",\"input_schema\":{}}]",
		"\"tool_choice\":{\"type\":\"any\"}", "\"tool_choice\":{\"type\":\"tool\",\"name\":\"f\"}",
		"\"tool_choice\":{\"type\":\"auto\",\"disable_parallel_tool_use\":true}", messages_line },
	{ &openai_responses_form, "\"input\":\"x\"", "\"reasoning\":{\"effort\":\"high\"}",
		"\"tools\":[{\"type\":\"function\",\"name\":\"f\"}]", "\"tool_choice\":\"required\"",
		"\"tool_choice\":{\"type\":\"function\",\"name\":\"f\"}", "\"parallel_tool_calls\":false", responses_line },
};

static const char after_result[] =
	"\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\","
	"\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
	"{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"17\"}]";

static void begin(const struct api *api, unsigned how, bool stream, const char *more)
{
	struct http_request *r = mem_alloc(sizeof(*r));
	struct call *c = mem_alloc(sizeof(*c));
	struct buf body = { 0 };

	json_decref(sent.whole);
	json_decref(sent.events);
	sent.whole = NULL;
	sent.events = json_array();
	sent.ended = false;
	sent.n_ids = 0;
	buf_printf(&body, "{%s,\"stream\":%s%s", how & AFTER_RESULT ? after_result : api->question,
		stream ? "true" : "false", more);
	if (how & THINKING)
		buf_printf(&body, ",%s", api->thinking);
	if (!(how & NO_TOOLS))
		buf_printf(&body, ",%s", api->tools);
	if (how & REQUIRED)
		buf_printf(&body, ",%s", api->required);
	if (how & NAMED)
		buf_printf(&body, ",%s", api->named);
	if (how & ALONE)
		buf_printf(&body, ",%s", api->alone);
	buf_putc(&body, '}');
	*r = (struct http_request){ .body = body.data, .body_bytes = body.len };
	*c = (struct call){ .s = &serving, .r = r, .id = "x" };
	engine.n = 0;
	engine.finish = ENGINE_RUNNING;
	answer_begin(c, api->form);
	buf_deinit(&body);
	free(r);
}

static void publish(uint32_t n, uint32_t all)
{
	engine.n = n;
	engine.finish = n == all || engine.last == ENGINE_ABORT ? engine.last : ENGINE_RUNNING;
	engine.news = true;
	answer_take_news(&serving);
}

char *server_case_answer(enum server_case_api which, unsigned how, bool stream, const struct token_buf *ids,
	const uint32_t *ends, size_t n_ends, const char *more)
{
	const struct api *api = &apis[which];
	struct line l = { 0 };

	serving.format = (struct chat_format){ 0 };
	chat_format_init(&serving.format, tok, how & V3_FORM ? CHAT_DEEPSEEK_V3 : CHAT_DEEPSEEK_V31);
	engine.ids = ids->data;
	engine.last = how & CUT ? ENGINE_LENGTH : ENGINE_STOP;
	begin(api, how, stream, more);
	for (size_t i = 0; i <= n_ends && engine.finish == ENGINE_RUNNING; i++)
		publish(i < n_ends ? ends[i] : (uint32_t)ids->len, (uint32_t)ids->len);
	if (engine.finish == ENGINE_RUNNING) /* cancelled by the last step */
		publish(engine.n, (uint32_t)ids->len);
	assert_true(sent.ended);
	api->line(&l, stream);
	return l.text.data;
}

struct token_buf server_case_encode(const char *text, unsigned how)
{
	struct token_buf ids = { 0 };

	if (tokenizer_encode(tok, serving.scratch, text, strlen(text), TOKENIZER_PARSE_ADDED, &ids, &err) != OK)
		fail_msg("%s", err.msg);
	if (!(how & CUT))
		token_buf_push(&ids, serving.defaults.eos[0]);
	assert_true(ids.len <= MAX_TOKENS);
	return ids;
}

/* --- the server ---------------------------------------------------------------------------------------------- */

static char *read_file(const char *path)
{
	struct buf text = { 0 };
	char part[4096];
	FILE *f = fopen(path, "r");
	size_t n;

	assert_non_null(f);
	while ((n = fread(part, 1, sizeof(part), f)) > 0)
		buf_append(&text, part, n);
	fclose(f);
	return text.data;
}

int server_case_open(void **state)
{
	static const char *const names[] = { "model" };
	struct chat_template *chat;
	char *source = read_file(DIR "/chat_template.jinja");

	log_set_level(LOG_LEVEL_WARN);

	assert_int_equal(tokenizer_open(&tok, DIR, &err), OK);
	assert_int_equal(chat_template_compile(&chat, source, "template", &err), OK);
	free(source);
	options = (struct serving_options){ .names = names, .n_names = 1, .tokenizer = tok, .chat = chat, .stream_interval = 1,
		.response_role = "assistant" };
	serving = (struct serving){ .o = &options, .tok = tok, .scratch = tokenizer_scratch_create(),
		.vocab = (uint32_t)tokenizer_n_ids(tok), .n_ids = (uint32_t)tokenizer_n_ids(tok), .max_model_len = 10000,
		.max_token_bytes = 128 };
	assert_int_equal(sampling_defaults_init(&serving.defaults, NULL, NULL, &err), OK);
	serving.defaults.eos[0] = 1;
	serving.defaults.n_eos = 1;
	chat_format_init(&serving.format, tok, CHAT_DEEPSEEK_V31);
	return structured_create(&serving.structured, tok, serving.n_ids, serving.defaults.eos, 1, &err) == OK ? 0 : -1;
}

int server_case_close(void **state)
{
	json_decref(sent.whole);
	json_decref(sent.events);
	structured_destroy(serving.structured);
	chat_template_destroy((struct chat_template *)options.chat);
	tokenizer_scratch_destroy(serving.scratch);
	tokenizer_close(tok);
	return 0;
}

const json_t *server_case_whole(void)
{
	return sent.whole;
}
