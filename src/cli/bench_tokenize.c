/*
 * fathom bench tokenize: speed of encoding on one core, with the scanner that the tokenizer chose and
 * with PCRE2, and how the time of one long word grows with its length. Needs a model's tokenizer only.
 *
 * Each run starts with an empty cache of pieces, so that repeats of the text do not flatter it.
 */
#include <math.h>
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
#define N_KINDS 9

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

static const char *const english[] = {"the", "of", "and", "to", "in", "that", "is", "was", "for",
	"model", "attention", "however", "their", "government", "between", "through",
	"international", "development", "knowledge", "language", "understanding", "because",
	"different", "Number", "People", "I'm", "don't", "first", "would", "about", "which",
	"there", "these", "system", "water", "simple", "question"};
static const char *const code[] = {"for (int i = 0; i < n; i++) {\n",
	"\treturn self.weights[i] * x\n", "#include <stdio.h>\n",
	"if err != nil {\n\t\treturn err\n\t}\n", "    def forward(self, x):\n",
	"const result = await fetch(`/api/v1/${id}`);\n", "std::vector<std::string> names;\n",
	"}\n\n", "SELECT name, COUNT(*) FROM users GROUP BY 1;\n",
	"// see check_bounds(a[i], \"max\")\n"};
static const char *const emoji[] = {"😀", "👍🏽", "🇩🇪", "👨‍👩‍👧", "❤️", "🎉"};

#define PICK(list, r) ((list)[(r) % (sizeof(list) / sizeof((list)[0]))])

/* Rank of a draw from n items whose frequency falls as one over their rank, as words' does. */
static uint64_t zipf(uint64_t r, double n)
{
	return (uint64_t)exp((double)(r >> 11) * 0x1p-53 * log(n)) - 1;
}

/* One of 60000 words: frequent ones from the list, the others built of syllables. */
static void put_word_of_rank(struct buf *b, uint64_t rank)
{
	static const char *const syllables[] = {"con", "ter", "ing", "ment", "al", "pre", "so",
		"li", "tion", "er", "un", "ra", "ble", "de", "mar", "ish", "qu", "o", "st", "vi",
		"ka", "the", "ly"};
	uint64_t r = random_u64(3, rank), n = 1 + r % 4;

	if (rank < sizeof(english) / sizeof(english[0])) {
		buf_puts(b, english[rank]);
		return;
	}
	for (r /= 4; n; n--, r /= 32)
		buf_puts(b, PICK(syllables, r % 32));
}

/* A stretch of one kind. */
static void put_stretch(struct buf *b, uint64_t *counter)
{
	uint64_t kind = random_u64(7, (*counter)++) % 10, n = 4 + random_u64(7, (*counter)++) % 40,
		 r;

	for (; n; n--) {
		r = random_u64(7, (*counter)++);
		if (kind < 5) {
			put_word_of_rank(b, zipf(r, 60000));
			buf_puts(b, r >> 32 & 7 ? " " : r >> 40 & 1 ? ", " : ". ");
		} else if (kind < 7) {
			buf_put_utf8(b, 0x4E00 + (uint32_t)(zipf(r, 8000) * 7919 % 20000));
			if (n % 9 == 0)
				buf_puts(b, "，");
		} else if (kind < 9) {
			buf_puts(b, PICK(code, r));
		} else {
			buf_printf(b, "%u ", (unsigned)(r >> 32 & 0xFFFFFF));
			if (r % 5 == 0)
				buf_puts(b, PICK(emoji, r >> 8));
		}
	}
	buf_putc(b, '\n');
}

/* Texts that one of the split rules takes whole, or nearly so. */
static void put_word(struct buf *b, const char *kind)
{
	uint64_t r;

	while (b->len < WORD_BYTES) {
		r = random_u64(11, b->len);
		if (strcmp(kind, "one letter") == 0)
			buf_putc(b, 'a');
		else if (strcmp(kind, "letters") == 0)
			buf_putc(b, (char)('a' + r % 26));
		else if (strcmp(kind, "spaces") == 0)
			buf_putc(b, ' ');
		else if (strcmp(kind, "newlines") == 0)
			buf_putc(b, '\n');
		else if (strcmp(kind, "digits") == 0)
			buf_putc(b, (char)('0' + r % 10));
		else if (strcmp(kind, "punctuation") == 0)
			buf_putc(b, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"[r % 32]);
		else if (strcmp(kind, "Han") == 0)
			buf_put_utf8(b, 0x4E00 + (uint32_t)(r % 0x51A0));
		else if (strcmp(kind, "accents") == 0)
			buf_put_utf8(b, 0xC0 + (uint32_t)(r % 0x17));
		else
			buf_put_utf8(b, 0x1F600 + (uint32_t)(r % 0x50));
	}
}

static const char *const kinds[N_KINDS] = {"one letter", "letters", "spaces", "newlines", "digits",
	"punctuation", "Han", "accents", "emoji"};

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
	struct {
		double rate;   /* bytes per second */
		double growth; /* time of a word over that of its half */
	} words[N_KINDS];
};

static enum status run_word(
	struct result *r, int kind, const struct tokenizer *tok, struct buf *text, struct error *err)
{
	size_t half = WORD_BYTES / 2;
	double whole_s, half_s;

	buf_reset(text);
	put_word(text, kinds[kind]);
	while ((text->data[half] & 0xC0) == 0x80)
		half++;
	TRY(measure(&whole_s, tok, text->data, text->len, 0, err));
	TRY(measure(&half_s, tok, text->data, half, 0, err));
	r->words[kind].rate = (double)text->len / whole_s;
	r->words[kind].growth = whole_s / half_s;
	return OK;
}

static enum status run(
	struct result *r, const struct tokenizer *tok, const struct values *v, struct error *err)
{
	struct buf text = { 0 };
	uint64_t counter = 0;
	double scanner, pcre2;
	enum status st;

	while (text.len < (size_t)v->bytes)
		put_stretch(&text, &counter);
	TRY_GOTO(out, measure(&scanner, tok, text.data, text.len, TOKENIZER_PARSE_ADDED, err));
	TRY_GOTO(out, measure(&pcre2, tok, text.data, text.len,
			      TOKENIZER_PARSE_ADDED | TOKENIZER_PLAIN_SPLIT, err));
	r->scanner = (double)text.len / scanner;
	r->pcre2 = (double)text.len / pcre2;
	for (int i = 0; i < N_KINDS; i++)
		TRY_GOTO(out, run_word(r, i, tok, &text, err));
out:
	buf_deinit(&text);
	return st;
}

static void print(struct buf *out, const struct result *r, const struct values *v)
{
	if (v->json) {
		buf_printf(out, "{\"bytes_per_s\": %.0f, \"pcre2_bytes_per_s\": %.0f, \"ratio\": %.3f, \"words\": [",
			r->scanner, r->pcre2, r->scanner / r->pcre2);
		for (int i = 0; i < N_KINDS; i++)
			buf_printf(out, "%s{\"kind\": \"%s\", \"bytes_per_s\": %.0f, \"growth\": %.3f}",
				i ? ", " : "", kinds[i], r->words[i].rate, r->words[i].growth);
		buf_puts(out, "]}\n");
		return;
	}
	buf_printf(out, "mixed text         %8.1f MB/s on one core\n", r->scanner * 1e-6);
	buf_printf(out, "the same by PCRE2  %8.1f MB/s, %.2f times slower\n\n", r->pcre2 * 1e-6,
		r->scanner / r->pcre2);
	buf_puts(out, "one word of 1 MiB      MB/s  time over that of its half\n");
	for (int i = 0; i < N_KINDS; i++)
		buf_printf(out, "  %-14s  %9.1f  %.2f\n", kinds[i], r->words[i].rate * 1e-6,
			r->words[i].growth);
}

int cmd_bench_tokenize(int argc, char **argv)
{
	struct values v = { .bytes = 10000000 };
	struct opt_result o;
	struct tokenizer *tok;
	struct buf out = { 0 };
	struct result r = { 0 };
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
