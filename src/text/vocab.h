/*
 * The tokens of one tokenizer: id -> spelling in the file, bytes and flags; spelling -> id. Filled
 * by the loader, then only read. Also the byte <-> printable code point alphabet of byte-level BPE.
 */
#ifndef TEXT_VOCAB_H
#define TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define VOCAB_MAX_ID ((1 << 22) - 1) /* a table of this many fits anywhere */

struct vocab_token {
	uint32_t name_off, name_len;   /* in names */
	uint32_t bytes_off, bytes_len; /* in bytes */
	uint8_t flags;		       /* enum token_flag */
};

struct vocab {
	struct vocab_token *tokens; /* [n_ids] flags 0: no such token */
	int32_t n_ids;
	size_t cap;
	struct buf names, bytes;
	int32_t *slots; /* [slot_mask + 1] hash of spelling -> id, -1 free */
	uint32_t slot_mask, n_slots_used;
};

void vocab_deinit(struct vocab *v);
/* False: id or spelling is taken by something else. The same pair again only adds flags. */
bool vocab_add(struct vocab *v, int32_t id, const char *name, size_t len, unsigned flags);
int32_t vocab_find(const struct vocab *v, const char *name, size_t len);
static inline const char *vocab_name(const struct vocab *v, int32_t id, size_t *len)
{
	*len = v->tokens[id].name_len;
	return v->names.data + v->tokens[id].name_off;
}

/* The code point that stands for a byte in spellings of byte-level BPE, and back (-1: none). */
uint32_t byte_to_char(uint8_t byte);
int byte_of_char(uint32_t cp);

#endif
