/*
 * Any bytes as text for the shipped model's tokenizer: refused as not UTF-8, or encoded to ids that
 * decode to the same bytes, with the hand-written scanner and with PCRE2 alike.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/detok.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tokenizer *tok;
static struct tokenizer_scratch *scratch;

static void open_tokenizer(void)
{
	struct error err;

	if (tokenizer_open(&tok, MODEL, &err) != OK) {
		fprintf(stderr, "%s\n", err.msg);
		abort();
	}
	scratch = tokenizer_scratch_create();
}

static enum status encode(const uint8_t *data, size_t size, unsigned flags, struct token_buf *ids)
{
	struct error err = {0};
	enum status st = tokenizer_encode(tok, scratch, (const char *)data, size, flags, ids, &err);

	if (st != OK && !err.msg[0])
		abort();
	return st;
}

/* Whether every code point has the same class in every Unicode version since 14: PCRE2 may have older
 * tables than the scanner. */
static bool settled(const uint8_t *data, size_t size)
{
	uint32_t cp;

	if (utf8_valid_len((const char *)data, size) != size)
		return true;
	for (size_t i = 0; i < size; i += utf8_decode((const char *)data + i, &cp)) {
		utf8_decode((const char *)data + i, &cp);
		if (cp >= 0x500 && !(cp >= 0x2000 && cp < 0x2070) && !(cp >= 0x3000 && cp < 0x3100) &&
			!(cp >= 0x4E00 && cp < 0xA000) && !(cp >= 0xFF00 && cp < 0xFFF0) &&
			!(cp >= 0x1F600 && cp < 0x1F650))
			return false;
	}
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct token_buf fast = {0}, plain = {0};
	struct buf text = {0};
	struct error err;

	if (!tok)
		open_tokenizer();
	for (unsigned flags = 0; flags <= TOKENIZER_PARSE_ADDED; flags++) {
		enum status st = encode(data, size, flags, &fast);

		if (encode(data, size, flags | TOKENIZER_PLAIN_SPLIT, &plain) != st)
			abort();
		if (settled(data, size) &&
			(fast.len != plain.len ||
				(fast.len && memcmp(fast.data, plain.data, fast.len * sizeof(*fast.data)) != 0)))
			abort();
		if (st == OK && (detok_decode(tok, fast.data, fast.len, false, &text, &err) != OK ||
					text.len != size || (size && memcmp(text.data, data, size) != 0)))
			abort();
		fast.len = plain.len = 0;
		buf_reset(&text);
	}
	buf_deinit(&text);
	token_buf_deinit(&fast);
	token_buf_deinit(&plain);
	return 0;
}
