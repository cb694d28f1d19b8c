/* Messages of a request to the ids of a prompt: for chat completions and /tokenize. */
#ifndef SERVER_CHAT_PROMPT_H
#define SERVER_CHAT_PROMPT_H

#include <jansson.h>
#include <stdbool.h>

#include "server/refusal.h"
#include "server/serving_int.h"
#include "text/token.h"

/*
 * Reads messages, tools, add_generation_prompt, continue_final_message, add_special_tokens,
 * chat_template, chat_template_kwargs and reasoning_effort of the body. Appends to ids.
 */
enum status chat_prompt_make(struct token_buf *ids, const struct serving *s, struct tokenizer_scratch *scratch,
	const json_t *body, struct refusal *no);

#endif
