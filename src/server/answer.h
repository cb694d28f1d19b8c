/*
 * The answer to one request for generation: its prompts, one engine job for each choice, and what has come
 * of each so far. A form (completion or chat) writes it down, whole or as a stream.
 *
 *   answer_begin(call, &openai_chat_form);     takes the call over: it is answered in the end, whatever comes
 *
 * All but the reading of long bodies and the compiling of grammars (server/worker.h) runs on the loop's thread. An
 * answer outlives its call until the engine has given back every job; a stop string or a peer that left cancels the
 * jobs.
 */
#ifndef SERVER_ANSWER_H
#define SERVER_ANSWER_H

#include <time.h>

#include "base/buf.h"

#include "server/openai_sampling.h"
#include "server/openai_tools.h"
#include "server/serving_int.h"
#include "server/worker.h"
#include "text/chat_parse.h"

struct answer_prompt {
	struct token_buf ids;
	struct buf text;     /* with echo alone */
	uint32_t max_tokens; /* of the engine's request */
	bool thinking;       /* the answer begins inside <think> */
};

enum stop_kind {
	STOP_NONE, /* null: end of sequence or length */
	STOP_AT_STRING,
	STOP_AT_ID,
};

/* One tool call of a choice. */
struct choice_call {
	char id[48]; /* ours; the model's own where it fits */
	struct buf name, arguments; /* owned */
	bool ended;           /* no more arguments come */
	bool complete;        /* a marker of its own ended it */
	bool announced;       /* stream: id and name have left */
	size_t arguments_sent;
};

/* A part as the model wrote it: text between two calls, reasoning, a call. */
struct choice_part {
	enum chat_event_kind kind; /* CHAT_REASONING, CHAT_CONTENT or CHAT_CALL */
	size_t from, len;          /* bytes of the choice's reasoning or text */
	size_t call;               /* index */
};

struct choice {
	struct answer *a;
	const struct answer_prompt *prompt;
	uint32_t index;
	struct engine_job *job; /* owned; NULL before it is submitted */
	bool ended;             /* the engine has given it back */
	bool done;              /* complete for the client */
	bool started;           /* stream: the first chunk has left */
	uint32_t seen;          /* tokens taken from the job */
	uint32_t sent;          /* stream: tokens that chunks have covered */
	uint32_t n_reasoning;   /* tokens of reasoning, without its markers */
	uint32_t reasoning_end; /* tokens up to its end, markers included */
	struct chat_parse parse;
	enum chat_event_kind held_kind; /* CHAT_REASONING or CHAT_CONTENT */
	struct stop_match match;
	struct buf held;      /* may belong to a stop string */
	struct buf text;      /* whole answers: all of it; streams: what no chunk has had yet */
	struct buf reasoning; /* the same */
	struct choice_call *calls; /* [n_calls] owned: all of them */
	size_t n_calls, call_cap;
	struct choice_part *parts; /* [n_parts] owned, in order; streams: the last one sent, then those with news */
	size_t n_parts, part_cap;
	size_t n_blocks;      /* streams of messages and responses: begun */
	const char *block;    /* kind of the last one while it is open; otherwise NULL */
	struct buf item;      /* responses: text of the open item */
	struct buf output;    /* responses: items that are complete, as JSON */
	uint64_t n_events;    /* responses */
	size_t text_offset;   /* of the next token, in code points */
	const char *finish;   /* NULL until done */
	enum stop_kind stop_kind;
	int stop;             /* index of the stop string, or the id */
	double last_news;     /* clock_s(), for the time between tokens */
};

struct answer_form {
	const char *id_prefix, *call_prefix;
	bool repeats; /* answers hold fields of the request */
	const char *object, *chunk_object; /* chunk_object NULL: streams have no chunk of usage */
	/* Events for what is new of it. False: nothing to show yet, its tokens wait for the next chunk. */
	bool (*chunk)(struct choice *c);
	void (*whole)(struct buf *out, struct answer *a);
	/* The last events of a stream that fails. NULL: an error of the API's own shape. */
	void (*failed)(struct answer *a, const struct refusal *no);
	/* Of another API: its request as the body of a chat completion, and a refusal of that under the names that the
	 * client knows. NULL: the request is the body. */
	enum status (*convert)(json_t **out, const json_t *request, struct refusal *no);
	void (*rename)(const json_t *request, struct refusal *no);
	/* The body's fields; then its prompts, and what follows from their lengths. On the loop or the worker's thread
	 * (server/worker.h), maybe one on each. */
	enum status (*parse)(struct answer *a, struct tokenizer_scratch *scratch, struct refusal *no);
	enum status (*prompts)(struct answer *a, struct tokenizer_scratch *scratch, struct refusal *no);
};

struct answer {
	struct work work; /* first: until it is started */
	struct answer *next, **link;
	struct serving *s;
	struct call *call; /* NULL: answered, or the peer is gone */
	json_t *body;      /* owned: of a chat or a completion. NULL once the engine has the jobs */
	json_t *request;   /* owned: as it came, where that is another API's; or NULL. Kept where the form repeats it */
	size_t body_bytes; /* as it came */
	size_t json_bytes;   /* of its JSON, counted in s->json_bytes until it is freed */
	const struct answer_form *form;
	struct openai_sampling p;
	struct openai_tools tools;
	struct grammar *grammar; /* a reference: what the answer must follow; or NULL */
	bool parsed; /* its fields: the prompts may come later */
	bool split; /* chat: reasoning and calls are told from content */
	struct answer_prompt *prompts; /* [n_prompts] owned */
	uint32_t n_prompts;
	struct choice *choices; /* [n_choices] owned: prompt by prompt */
	uint32_t n_choices;
	uint32_t n_open;    /* not done */
	uint32_t n_running; /* with the engine */
	char id[CALL_MAX_ID + 16];
	time_t created;
	bool echo;
	bool prompt_only; /* max_tokens 0: the engine's one token is not shown */
	bool show_reasoning;
	struct buf echo_text; /* chat: in front of the content */
	const char *role;         /* chat */
	uint64_t written_ns;
	struct buf head;  /* of the answer or of each chunk, once it was put */
	struct buf event; /* scratch */
};

/* Parses the call's body in this form, then submits the jobs or refuses. */
void answer_begin(struct call *call, const struct answer_form *form);

/* Jobs with news from the engine. */
void answer_take_news(struct serving *s);
/* Comments on streams that were silent for a while. */
void answer_tick(struct serving *s);
/* Frees what is left once the engine is gone. */
void answer_free_all(struct serving *s);

extern const struct answer_form openai_chat_form, openai_completion_form, openai_responses_form, anthropic_form;

/* Of chats, and of what becomes one. */
enum status openai_chat_parse(struct answer *a, struct tokenizer_scratch *scratch, struct refusal *no);
enum status openai_chat_prompts(struct answer *a, struct tokenizer_scratch *scratch, struct refusal *no);

/* answer_begin() in steps, for who wants no engine: create, make, free. */
struct answer *answer_create(struct call *call, const struct answer_form *form);
enum status answer_make(struct answer *a, struct tokenizer_scratch *scratch, struct refusal *no);
void answer_free(struct answer *a);

/* --- for forms ------------------------------------------------------------------------------------- */

/* While parsing: zeroed prompts. */
void answer_set_prompts(struct answer *a, uint32_t n);
void answer_send(struct answer *a, const struct buf *json);
/* "id":...,"object":...,"created":...,"model":... of the answer or of a chunk. */
void answer_put_head(struct buf *out, struct answer *a);
void answer_send_named(struct answer *a, const char *event, const struct buf *json);
/* Of all choices, or of one alone. */
void answer_put_usage(struct buf *out, const struct answer *a, const struct choice *only);
/* The value of stop_reason. */
void answer_put_stop_reason(struct buf *out, const struct choice *c);

#endif
