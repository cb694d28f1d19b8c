/* Any bytes as a tokenizer.json: refused with a message, or a tokenizer that encodes and decodes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/detok.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct tokenizer *t)
{
	static const char text[] = "Hello, world! 12345 \xE4\xB8\xAD\xE6\x96\x87 <a>\n\n  x";
	struct tokenizer_scratch *sc = tokenizer_scratch_create();
	struct token_buf ids = {0};
	struct buf out = {0};
	struct error err = {0};

	if (tokenizer_encode(t, sc, text, sizeof(text) - 1, TOKENIZER_PARSE_ADDED, &ids, &err) != OK) {
		if (!err.msg[0])
			abort();
	} else if (detok_decode(t, ids.data, ids.len, false, &out, &err) != OK) {
		abort(); /* ids that encoding made always decode */
	}
	buf_deinit(&out);
	token_buf_deinit(&ids);
	tokenizer_scratch_destroy(sc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tokenizer *t;
	struct error err = {0};

	if (tokenizer_load(&t, (const char *)data, size, "input", &err) != OK) {
		if (!err.msg[0])
			abort();
		return 0;
	}
	use(t);
	tokenizer_close(t);
	return 0;
}
