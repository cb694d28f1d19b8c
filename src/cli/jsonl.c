/* Reading and writing JSON lines (cli/jsonl.h). */
#include "cli/jsonl.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "cli/cli.h"

/* Enough to tell any two F32 apart. */
#define REAL_DIGITS 9

static bool is_blank(const struct buf *line)
{
	for (size_t i = 0; i < line->len; i++) {
		if (line->data[i] != ' ' && line->data[i] != '\t' && line->data[i] != '\r')
			return false;
	}
	return true;
}

enum status jsonl_next(json_t **out, struct jsonl *in, struct error *err)
{
	json_error_t je;
	bool got;

	json_decref(in->value);
	in->value = NULL;
	do {
		TRY(cli_read_line(&in->line, &got, err));
		if (!got) {
			*out = NULL;
			return OK;
		}
		in->number++;
	} while (is_blank(&in->line));
	snprintf(in->what, sizeof(in->what), "line %zu", in->number);
	in->value = json_loadb(in->line.data, in->line.len,
		JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &je);
	if (!in->value)
		return error_set(err, E_FORMAT, "%s: not valid JSON at column %d: %s", in->what, je.column,
			je.text);
	if (!json_is_object(in->value))
		return error_set(err, E_FORMAT, "%s: found %s, expected an object", in->what,
			json_type_name(in->value));
	*out = in->value;
	return OK;
}

void jsonl_deinit(struct jsonl *in)
{
	json_decref(in->value);
	buf_deinit(&in->line);
}

static void put(struct buf *out, json_t *value, size_t flags)
{
	char *text = json_dumps(value, flags | JSON_REAL_PRECISION(REAL_DIGITS) | JSON_ENCODE_ANY);

	BUG_ON(!text);
	buf_puts(out, text);
	buf_putc(out, '\n');
	free(text);
	json_decref(value);
}

void jsonl_put(struct buf *out, json_t *value)
{
	put(out, value, JSON_COMPACT);
}

void json_put_pretty(struct buf *out, json_t *value)
{
	put(out, value, JSON_INDENT(2));
}
