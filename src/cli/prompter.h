/*
 * From text or messages to token ids: a model directory's tokenizer and chat template.
 *
 * The directory needs tokenizer.json only; the template comes from --chat-template, from
 * chat_template.jinja or from tokenizer_config.json, and is compiled when a chat is first rendered.
 */
#ifndef CLI_PROMPTER_H
#define CLI_PROMPTER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "text/chat.h"
#include "text/token.h"
#include "text/tokenizer.h"

struct prompter {
	struct tokenizer *tok;             /* owned */
	struct tokenizer_scratch *scratch; /* owned */
	struct chat_template *chat;        /* owned; NULL until used */
	const char *template_path;         /* borrowed; NULL: the model's own */
};

enum status prompter_open(struct prompter *p, const char *dir, const char *template_path,
	struct error *err);
void prompter_close(struct prompter *p); /* also after a failed open of a zeroed prompter */

/* Compiles the template if that was not done yet; E_UNSUPPORTED when the model has none. */
enum status prompter_need_chat(struct prompter *p, struct error *err);

/* Appends the ids of plain text, after BOS when add_bos. literal: no text becomes a control token. */
enum status prompter_text(struct token_buf *ids, struct prompter *p, const char *text, size_t len,
	bool add_bos, bool literal, struct error *err);

/* Renders a conversation: its text and ids. `prompt` starts zeroed and is the caller's to deinit. */
enum status prompter_chat(struct chat_prompt *prompt, struct token_buf *ids, struct prompter *p,
	const struct chat_input *in, struct error *err);

#endif
