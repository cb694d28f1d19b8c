/* Raw completion of a text: what `complete` and `run --raw` do with an open session. */
#ifndef CLI_COMPLETE_H
#define CLI_COMPLETE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"
#include "cli/session.h"

struct completion {
	bool add_bos;
	bool echo; /* the prompt in front of the answer */
	bool json; /* one object at the end instead of a stream */
	int logprobs; /* with json: this many alternatives a token; negative: none */
	bool stats;
};

/*
 * Tokenizes `text`, opens the rest of the session (its prompter is open), generates and prints.
 * `what` names the text in messages.
 */
enum status complete_text(struct session *s, const char *dir, const struct session_values *v,
	const struct buf *text, const char *what, const struct completion *c, struct error *err);

#endif
