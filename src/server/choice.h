/* One choice of an answer: from the tokens of its job to text, reasoning and the reason of its end. */
#ifndef SERVER_CHOICE_H
#define SERVER_CHOICE_H

#include "server/answer.h"

void choice_init(struct choice *c, struct answer *a, uint32_t index);
/* Destroys the job: the engine must have given it back, or be gone. */
void choice_deinit(struct choice *c);
/* Takes the tokens that are new; `finish` was read from the job before. Sets done, unless it is an error. */
void choice_take(struct choice *c, enum engine_finish finish);

/* The first call that has news for the client; n_calls: none has. */
size_t choice_calls_from(const struct choice *c);
/* The text of a part, [part->len]; not of a call. */
const char *choice_part_text(const struct choice *c, const struct choice_part *part);
/* Of a stream, all news have left. */
void choice_forget(struct choice *c);

#endif
