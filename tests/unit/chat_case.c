/* What a sequence of tokens must show of itself. It follows by itself where the arguments of a call are. */
#include "chat_case.h"

#include <string.h>

void chat_case_marks(int32_t marks[CHAT_CASE_MARKS], const struct chat_format *f)
{
	const int32_t all[CHAT_CASE_MARKS] = { f->think_begin, f->think_end, f->calls_begin, f->calls_end, f->call_begin,
		f->call_end, f->sep };

	memcpy(marks, all, sizeof(all));
}

void chat_case_account(struct buf *out, const char *text, size_t len)
{
	while (len && (*text == ' ' || *text == '\n'))
		text++, len--;
	if (len == 2 && memcmp(text, "{}", 2) == 0)
		return;
	for (size_t i = 0; i < len; i++) {
		if (text[i] != ' ' && text[i] != '\n')
			buf_putc(out, text[i]);
	}
}

void chat_case_account_tokens(struct buf *out, const struct tokenizer *tok, const struct chat_format *f,
	const struct token_buf *ids, bool cut)
{
	bool arguments = false, name = false;
	int32_t marks[CHAT_CASE_MARKS];
	size_t name_at = 0, len;

	chat_case_marks(marks, f);
	for (size_t i = 0; i < ids->len; i++) {
		int32_t id = ids->data[i];
		bool ends = id == f->call_end || id == f->calls_end || id == f->call_begin, mark = false;

		for (size_t k = 0; k < CHAT_CASE_MARKS; k++)
			mark |= marks[k] == id;
		if (!mark || (arguments && !ends)) {
			const char *bytes = tokenizer_token_bytes(tok, id, &len);

			chat_case_account(out, bytes, len);
			continue;
		}
		arguments = name && id == f->sep;
		if (id == f->call_begin)
			name_at = out->len;
		name = id == f->call_begin || (name && !ends && !arguments);
	}
	if (name && cut)
		out->len = name_at;
}
