/*
 * fathom bench tokenize: speed of encoding on one core, with the scanner that the tokenizer chose and
 * with PCRE2, and how the time of one long word grows with its length. Needs a model's tokenizer only.
 *
 * Each run starts with an empty cache of pieces, so that repeats of the text do not flatter it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/clock.h"
#include "base/random.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "text/tokenizer.h"

#define RUNS 3
#define WORD_BYTES ((size_t)1 << 20)

struct values {
	int64_t bytes;
	bool json;
};

static const struct opt opts[] = {
	{ .name = "bytes", .type = OPT_SIZE, .offset = offsetof(struct values, bytes), .min = 1000,
		.max = 1e9, .value = "N", .help = "Bytes of mixed text (default: 10M)." },
	{ .name = "json", .type = OPT_SWITCH, .offset = offsetof(struct values, json),
		.help = "Print one JSON object." },
	{ 0 },
};

const struct opt_table bench_tokenize_table = {
	.command = "bench tokenize",
	.arguments = "MODEL",
	.summary = "Measure the speed of the tokenizer",
	.details = "MODEL is a directory with tokenizer.json. The text mixes English, Chinese, code, digits\n"
		   "and emoji, made from a fixed seed.\n",
	.min_args = 1,
	.max_args = 1,
	.opts = opts,
};

/* A word, number or sign of one of several kinds. */
static void put_piece(struct buf *b, uint64_t r)
{
	static const char *const fixed[] = {"for (int i = 0; i < n; i++)\n\t", "\xF0\x9F\x98\x80 ", "\n\n",
		"don't ", "https://example.org/a?b=c ", "\xC3\xA9t\xC3\xA9 ", "==> ", "  return x;\n"};
	uint64_t kind = r % 16;

	r /= 16;
	if (kind < 9) {
		for (uint64_t n = 1 + r % 9; n; n--, r /= 7)
			buf_putc(b, (char)('a' + (r ^ r >> 9) % 26));
		buf_putc(b, ' ');
	} else if (kind < 12) {
		for (uint64_t n = 1 + r % 6; n; n--, r /= 11)
			buf_put_utf8(b, 0x4E00 + (uint32_t)(r % 3000));
	} else if (kind < 13) {
		buf_printf(b, "%u, ", (unsigned)(r % 1000000));
	} else {
		buf_puts(b, fixed[r % (sizeof(fixed) / sizeof(*fixed))]);
	}
}

static void make_text(struct buf *b, size_t bytes)
{
	for (uint64_t i = 0; b->len < bytes; i++)
		put_piece(b, random_u64(1, i));
}

/* Best seconds of some runs. */
static enum status measure(double *seconds, const struct tokenizer *tok, const char *text, size_t len,
	unsigned flags, struct error *err)
{
	struct token_buf ids = {0};
	enum status st = OK;

	*seconds = 1e30;
	for (int i = 0; i < RUNS && st == OK; i++) {
		struct tokenizer_scratch *sc = tokenizer_scratch_create();
		double t = clock_s();

		ids.len = 0;
		st = tokenizer_encode(tok, sc, text, len, flags, &ids, err);
		t = clock_s() - t;
		*seconds = t < *seconds ? t : *seconds;
		tokenizer_scratch_destroy(sc);
	}
	token_buf_deinit(&ids);
	return st;
}

struct result {
	double scanner, pcre2; /* bytes per second */
	double growth;         /* time of a word over that of its half */
};

static enum status run(
	struct result *r, const struct tokenizer *tok, const struct values *v, struct error *err)
{
	struct buf text = {0};
	double scanner, pcre2, whole, half;
	char *word = malloc(WORD_BYTES);
	enum status st;

	if (!word)
		return error_set(err, E_NOMEM, "no memory for a word of %zu bytes", WORD_BYTES);
	make_text(&text, (size_t)v->bytes);
	memset(word, 'a', WORD_BYTES);
	TRY_GOTO(out, measure(&scanner, tok, text.data, text.len, TOKENIZER_PARSE_ADDED, err));
	TRY_GOTO(out, measure(&pcre2, tok, text.data, text.len,
			      TOKENIZER_PARSE_ADDED | TOKENIZER_PLAIN_SPLIT, err));
	TRY_GOTO(out, measure(&whole, tok, word, WORD_BYTES, 0, err));
	TRY_GOTO(out, measure(&half, tok, word, WORD_BYTES / 2, 0, err));
	*r = (struct result){(double)text.len / scanner, (double)text.len / pcre2, whole / half};
out:
	buf_deinit(&text);
	free(word);
	return st;
}

static void print(struct buf *out, const struct result *r, const struct values *v)
{
	if (v->json) {
		buf_printf(out,
			"{\"bytes_per_s\": %.0f, \"pcre2_bytes_per_s\": %.0f, \"ratio\": %.3f, "
			"\"word_growth\": %.3f}\n",
			r->scanner, r->pcre2, r->scanner / r->pcre2, r->growth);
		return;
	}
	buf_printf(out, "mixed text         %8.1f MB/s on one core\n", r->scanner * 1e-6);
	buf_printf(out, "the same by PCRE2  %8.1f MB/s (%.2f times slower)\n", r->pcre2 * 1e-6,
		r->scanner / r->pcre2);
	buf_printf(out, "a word of 1 MiB    %8.2f times the time of its half\n", r->growth);
}

int cmd_bench_tokenize(int argc, char **argv)
{
	struct values v = { .bytes = 10000000 };
	struct opt_result o;
	struct tokenizer *tok;
	struct buf out = { 0 };
	struct result r = {0};
	struct error err;
	enum status st;
	int rc = cli_parse(&o, &bench_tokenize_table, argc, argv, &v);

	if (rc >= 0)
		return rc;
	st = tokenizer_open(&tok, o.args[0], &err);
	if (st == OK) {
		st = run(&r, tok, &v, &err);
		tokenizer_close(tok);
	}
	opt_result_deinit(&o);
	if (st != OK)
		return cli_fail(&err);
	print(&out, &r, &v);
	rc = cli_out_exit(&out);
	buf_deinit(&out);
	return rc;
}
