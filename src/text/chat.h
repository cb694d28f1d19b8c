/*
 * From a conversation to the text of a prompt: normalization, then the model's own chat template.
 *
 * A template is compiled once (text/jinja.h) and never changes after; any number of threads may
 * render it. Rendering is bounded in steps, depth and output bytes; a template can neither read
 * files nor call anything. A construct outside the subset is an error with line and name, at
 * compile time.
 *
 * Normalization cures what templates handle badly (spec: model, section 10, "Traps"): content given
 * as a list of text parts is flattened, role developer becomes system, an empty tool_calls list
 * counts as absent, null content becomes "" (beside tool calls "" becomes null), reasoning is taken
 * out of earlier assistant turns and put where the answer goes on with it, tool messages are sorted by the calls that they answer, arguments
 * given as objects become JSON text, calls without a type and tools without parameters get them.
 *
 * Templates of DeepSeek-V3 to V3.1 write calls and results but leave tools out; for these, tools become
 * a system message in the form of the model's card.
 */
#ifndef TEXT_CHAT_H
#define TEXT_CHAT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/error.h"
#include "text/tokenizer.h"

struct chat_template;

/* `source` is NUL-terminated and more than white space; `what` names it in messages. */
enum status chat_template_compile(
	struct chat_template **out, const char *source, const char *what, struct error *err);
void chat_template_destroy(struct chat_template *t);
/* Whether the source has this word or sign. */
bool chat_template_mentions(const struct chat_template *t, const char *word);
/* Whether a conversation's tools reach the model. */
bool chat_template_shows_tools(const struct chat_template *t);
/* What messages about it begin with. */
const char *chat_template_name(const struct chat_template *t);

/* Whether kwargs below may not have this variable. */
bool chat_variable_is_reserved(const char *name);

struct chat_input {
	json_t *messages; /* array of OpenAI chat messages, borrowed, unchanged */
	json_t *tools;    /* array or NULL */
	/* Further template variables (chat_template_kwargs), object or NULL. They may set thinking
	 * and enable_thinking anew; what the template does not read is left out. */
	json_t *kwargs;
	bool add_generation_prompt;
	bool thinking;
	/* Leave the last assistant message open: cut its final EOS, or what follows its content. */
	bool continue_final;
	bool literal_content; /* text of messages never becomes a control token: see barriers */
	bool as_is; /* no normalization: for comparison with other implementations */
};

struct chat_prompt {
	struct buf text;  /* owned */
	size_t *barriers; /* owned; for tokenizer_encode_barred(), only with literal_content */
	size_t n_barriers;
};

/* bos_token and eos_token come from the tokenizer's configuration. */
enum status chat_render(struct chat_prompt *out, const struct chat_template *t,
	const struct tokenizer *tok, const struct chat_input *in, struct error *err);
void chat_prompt_deinit(struct chat_prompt *p);

/* Token ids of a rendered prompt: with added tokens, without BOS, honouring barriers. */
enum status chat_encode(struct token_buf *out, const struct chat_prompt *p,
	const struct tokenizer *tok, struct tokenizer_scratch *sc, struct error *err);

#endif
