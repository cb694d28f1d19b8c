/*
 * Text to ids and back, for the lengths of prompts and answers: by a tokenizer.json at hand, else by the
 * server's own /tokenize and /detokenize.
 *
 *   TRY(load_tokens_open_dir(&t, "models/demo", err));       or load_tokens_open_server(&t, target, model, err)
 *   TRY(load_tokens_encode(t, text, len, &ids, err));
 */
#ifndef LOAD_LOAD_TOKENS_H
#define LOAD_LOAD_TOKENS_H

#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "load/load_target.h"
#include "text/token.h"

struct load_tokens;

enum status load_tokens_open_dir(struct load_tokens **out, const char *dir, struct error *err);
/* Fails where the server has no such routes. target and model must outlive it. */
enum status load_tokens_open_server(struct load_tokens **out, struct load_target *target, const char *model,
	struct error *err);
void load_tokens_close(struct load_tokens *t);

/* Without BOS or EOS; text that spells a control token becomes it. Appends. */
enum status load_tokens_encode(struct load_tokens *t, const char *text, size_t len, struct token_buf *ids,
	struct error *err);
/* The text of ids that load_tokens_encode or load_tokens_words gave. Appends. */
enum status load_tokens_decode(struct load_tokens *t, const int32_t *ids, size_t n, struct buf *text,
	struct error *err);

/* Tokens that a server puts around the prompt of a completion: the BOS. */
uint32_t load_tokens_added(const struct load_tokens *t);
/* Ids to make random prompts of, rising; nearly all are words whose text in a row becomes them again. */
const int32_t *load_tokens_words(const struct load_tokens *t, size_t *n);

#endif
