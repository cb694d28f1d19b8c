/*
 * A conversation with an open session: history, chat template, printing of answers as they come.
 * What `run` drives, once or line by line.
 *
 * Reasoning is told from the answer as the server does it (text/chat_parse.h).
 */
#ifndef CLI_TALK_H
#define CLI_TALK_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "cli/session.h"
#include "text/chat_parse.h"

struct talk {
	struct session s;
	json_t *messages;    /* owned: OpenAI chat messages */
	bool thinking;       /* ask for it */
	bool show_reasoning;
	bool terminal;       /* stdout is one: dim reasoning, no control characters */
	bool stats;
	struct chat_format format;
};

/* Opens prompter and template (MODEL's or template_path's), then the session. */
enum status talk_open(struct talk *t, const char *dir, const char *template_path,
	const struct session_values *v, struct error *err);
void talk_close(struct talk *t); /* also after a failed open of a zeroed talk */

/* Forgets all turns and begins with this system message, if not NULL. */
enum status talk_begin(struct talk *t, const char *system, struct error *err);

/*
 * One turn: appends the user's message, prints the answer, appends that. On failure the conversation
 * is as before. Stops early once *stop is not zero (may be NULL).
 */
enum status talk_turn(struct talk *t, const char *text, size_t len,
	const volatile sig_atomic_t *stop, enum session_end *end, struct error *err);

/*
 * From here until the release, the first Ctrl-C sets the flag returned; the second ends the program, so
 * that a long prompt can be left, too.
 */
const volatile sig_atomic_t *talk_catch_interrupt(void);
void talk_release_interrupt(void);

/* Reads messages line by line from the terminal until /exit or the end of input. */
enum status conversation(struct talk *t, const char *system, struct error *err);

#endif
