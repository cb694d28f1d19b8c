/*
 * Speed of encoding on one core: 10 MB of mixed text (English, Chinese, code, digits, emoji) from a
 * fixed seed, by the hand-written scanner and by PCRE2; then single words of 0.5 and 1 MB of one
 * kind, whose time ratio tells how time grows (2: linear).
 *
 * Usage: tokenize_bench MODEL_DIR
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/random.h"
#include "text/tokenizer.h"

#define TEXT_BYTES ((size_t)10000000)
#define WORD_BYTES ((size_t)1 << 20)
#define RUNS 5

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
	"// TODO: check_bounds(a[i], \"max\");\n"};
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

/* Best seconds of some runs, each with an empty cache of pieces; exits on failure. */
static double measure(const struct tokenizer *tok, const struct buf *text, size_t len,
	unsigned flags, size_t *n_ids)
{
	double best = 1e9;
	int i;

	for (i = 0; i < RUNS; i++) {
		struct tokenizer_scratch *sc = tokenizer_scratch_create();
		struct token_buf ids = {0};
		struct error err;
		double t = clock_s();

		if (tokenizer_encode(tok, sc, text->data, len, flags, &ids, &err) != OK) {
			fprintf(stderr, "%s\n", err.msg);
			exit(1);
		}
		t = clock_s() - t;
		best = t < best ? t : best;
		*n_ids = ids.len;
		token_buf_deinit(&ids);
		tokenizer_scratch_destroy(sc);
	}
	return best;
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

int main(int argc, char **argv)
{
	static const char *const kinds[] = {"one letter", "letters", "spaces", "newlines", "digits",
		"punctuation", "Han", "accents", "emoji"};
	struct buf text = {0};
	uint64_t counter = 0;
	struct tokenizer *tok;
	struct error err;
	size_t n_ids, n_plain, i;
	double scanner, plain;

	if (argc != 2 || tokenizer_open(&tok, argv[1], &err) != OK) {
		fprintf(stderr, "%s\n", argc == 2 ? err.msg : "usage: tokenize_bench MODEL_DIR");
		return 2;
	}
	while (text.len < TEXT_BYTES)
		put_stretch(&text, &counter);
	scanner = measure(tok, &text, text.len, TOKENIZER_PARSE_ADDED, &n_ids);
	plain = measure(
		tok, &text, text.len, TOKENIZER_PARSE_ADDED | TOKENIZER_PLAIN_SPLIT, &n_plain);
	printf("mixed text, %.1f MB, %zu tokens\n", (double)text.len * 1e-6, n_ids);
	printf("  scanner %7.1f MB/s\n", (double)text.len * 1e-6 / scanner);
	printf("  PCRE2   %7.1f MB/s, %.2f times slower\n", (double)text.len * 1e-6 / plain,
		plain / scanner);
	printf("one word            MB/s   time of 1 MB over 0.5 MB\n");
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t half = WORD_BYTES / 2;
		double whole_s, half_s;

		buf_reset(&text);
		put_word(&text, kinds[i]);
		while ((text.data[half] & 0xC0) == 0x80)
			half++;
		whole_s = measure(tok, &text, text.len, 0, &n_ids);
		half_s = measure(tok, &text, half, 0, &n_ids);
		printf("  %-12s   %7.1f   %.2f\n", kinds[i], (double)text.len * 1e-6 / whole_s,
			whole_s / half_s);
	}
	buf_deinit(&text);
	tokenizer_close(tok);
	return n_ids && n_plain ? 0 : 1;
}
