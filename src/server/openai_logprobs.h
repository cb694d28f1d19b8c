/* Log probabilities as the OpenAI API and vLLM write them (spec: serving, section 1.9). */
#ifndef SERVER_OPENAI_LOGPROBS_H
#define SERVER_OPENAI_LOGPROBS_H

#include "server/answer.h"

/* The text of one token, or token_id:N when the request asks for that. Appends, not quoted. */
void logprobs_put_token(struct buf *out, const struct answer *a, int32_t id);

/* The value of a completion choice's `logprobs`: prompt tokens first when with_prompt, then tokens
 * [from, to). Moves c->text_offset. */
void logprobs_put_completion(struct buf *out, struct choice *c, bool with_prompt, uint32_t from, uint32_t to);
/* The value of a chat choice's `logprobs`. */
void logprobs_put_chat(struct buf *out, const struct choice *c, uint32_t from, uint32_t to);
/* The value of `prompt_logprobs`; null when they were not asked for. */
void logprobs_put_prompt(struct buf *out, const struct choice *c);

#endif
