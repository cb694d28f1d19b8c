/*
 * What a model wrote, taken apart: reasoning, content and tool calls (spec: model, section 11).
 *
 *	chat_format_init(&format, tok, dialect);              once for a model
 *	chat_parse_init(&p, tok, &format, &options, take, arg);
 *	chat_parse_push(&p, id);                              for each token; take() gets what it adds
 *	chat_parse_end(&p, true);
 *	chat_parse_deinit(&p);
 *
 * One machine on token ids: reasoning, content, name, arguments, between, done. A marker is a control
 * token, so text that merely looks like one stays text, and how many tokens come at a time makes no
 * difference. Each token adds to one part; text is given out as soon as it is complete UTF-8, and a
 * part's pieces add up to the whole part. No marker is given out, except inside of arguments, where
 * all but the markers that end a call are the model's data. Where markers come out of place:
 *
 * - reasoning ends at </think> and where a call begins; <think> opens it again only before any content;
 * - a call may begin without the marker that opens a list of calls;
 * - the end of the list or the next call ends the arguments;
 * - a name that its separator does not follow is content, unless the call ends right there: then it
 *   has no arguments; a name that the end of the room cuts is dropped;
 * - white space before the first call is content, between and after calls it is dropped; other text
 *   there is content;
 * - a marker that means nothing where it stands is dropped.
 */
#ifndef TEXT_CHAT_PARSE_H
#define TEXT_CHAT_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "text/chat.h"
#include "text/detok.h"
#include "text/tokenizer.h"

enum chat_dialect {
	CHAT_DEEPSEEK_V31, /* NAME sep ARGUMENTS */
	CHAT_DEEPSEEK_V3,  /* "function" sep NAME, a newline, ARGUMENTS between ``` fences */
	CHAT_KIMI_K2,	   /* functions.NAME:NUMBER sep ARGUMENTS; what is before sep is the call's id */
	CHAT_N_DIALECTS,
};

/* vLLM's names of them. */
extern const char *const chat_dialect_names[CHAT_N_DIALECTS];

#define CHAT_MAX_ENDS 4

/* Control tokens of one model; -1: its tokenizer has none. */
struct chat_format {
	enum chat_dialect dialect;
	int32_t think_begin, think_end;
	int32_t calls_begin, calls_end, call_begin, call_end, sep;
	int32_t assistant; /* its turn begins */
	/* Besides the end of the sequence: what a model writes only after its turn is over. */
	int32_t ends[CHAT_MAX_ENDS];
	size_t n_ends;
};

/* What this model's tokens and template (may be NULL) show. */
enum chat_dialect chat_dialect_guess(const struct tokenizer *tok, const struct chat_template *t);
void chat_format_init(
	struct chat_format *f, const struct tokenizer *tok, enum chat_dialect dialect);
/* Whether calls can be told from text. */
bool chat_format_has_calls(const struct chat_format *f);
/*
 * Whether the last control token of a prompt is <think>: then the answer begins with reasoning. always:
 * also where the prompt ends with the beginning of the assistant's turn, as for DeepSeek-R1, which
 * reasons without being told.
 */
bool chat_prompt_opens_thinking(const struct chat_format *f, const struct tokenizer *tok,
	const int32_t *ids, size_t n, bool always);

enum chat_event_kind {
	CHAT_REASONING, /* text */
	CHAT_CONTENT,	/* text */
	CHAT_CALL,	/* text: the name of a new call */
	CHAT_ARGUMENTS, /* text of the last call */
	CHAT_CALL_END,	/* of the last call */
};

struct chat_event {
	enum chat_event_kind kind;
	const char *text; /* [len] UTF-8 without NUL at the end; lives during the call */
	size_t len;
	const char *id; /* CHAT_CALL: [id_len] the model's name for this call, or NULL */
	size_t id_len;
	bool complete; /* CHAT_CALL_END: a marker ended it */
};

struct chat_parse_options {
	bool reasoning; /* tell it from content; otherwise think markers are text */
	bool thinking;	/* the answer begins with it */
	bool calls;	/* tell calls from content; otherwise their markers are dropped, or text where reasoning is */
	bool skip_special; /* leave out other special tokens */
};

enum chat_state {
	CHAT_IN_REASONING,
	CHAT_IN_CONTENT,
	CHAT_IN_NAME,
	CHAT_IN_ARGUMENTS,
	CHAT_BETWEEN, /* after the beginning of the list, and after a call */
	CHAT_DONE,    /* after the end of the list */
};

struct chat_parse {
	const struct chat_format *format;
	struct chat_parse_options options;
	void (*take)(void *arg, const struct chat_event *event);
	void *arg;
	struct detok detok;
	enum chat_state state;
	bool text_seen; /* since the last marker, other than white space */
	bool any_text;	/* the same of all content */
	uint32_t n_calls;
	bool in_function; /* V3: the name follows "function" sep */
	bool fenced;	  /* V3: arguments are between fences */
	bool fence_past;  /* the opening one is complete, or there is none */
	bool any_argument;
	bool reasoning_cut; /* the answer ended inside of reasoning */
	struct buf head; /* owned: the name so far */
	struct buf tail; /* owned: arguments that may be a fence */
	struct buf out;	 /* owned: scratch */
};

/* tok and format are borrowed. */
void chat_parse_init(struct chat_parse *p, const struct tokenizer *tok,
	const struct chat_format *format, const struct chat_parse_options *options,
	void (*take)(void *arg, const struct chat_event *event), void *arg);
void chat_parse_deinit(struct chat_parse *p);
void chat_parse_push(struct chat_parse *p, int32_t id);
/* Ends the answer. stopped: by the model's own end token; otherwise it was cut. */
void chat_parse_end(struct chat_parse *p, bool stopped);

#endif
