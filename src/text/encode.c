/*
 * Text to token ids: added tokens are cut out, the rest is split into pieces, each piece becomes
 * ids through a cache in front of the merges. All that is written lies in the caller's scratch.
 */
#include <string.h>

#include "text/tokenizer_int.h"
#include "text/unicode.h"

#define CACHE_BITS 13
#define CACHE_PIECE_BYTES 20
#define CACHE_IDS 10
#define BATCH_PIECES 2048

struct cache_entry {
	uint8_t piece[CACHE_PIECE_BYTES]; /* padded with zeros */
	uint8_t len, n_ids;		  /* len 0: free */
	uint8_t pad[2];
	int32_t ids[CACHE_IDS];
};
_Static_assert(sizeof(struct cache_entry) == 64, "one cache line");

struct tokenizer_scratch {
	struct cache_entry *cache; /* [1 << CACHE_BITS] direct mapped */
	uint64_t serial;	   /* of the tokenizer whose pieces are cached */
	struct bpe_scratch bpe;
	struct split_scratch split;
	uint32_t ends[BATCH_PIECES];
};

/* One call of encode. */
struct encoder {
	const struct tokenizer *t;
	struct tokenizer_scratch *sc;
	struct token_buf *out;
	const char *text_end; /* of the whole text: bytes up to here may be read */
	unsigned flags;
	const size_t *barriers; /* offsets from text0 */
	size_t n_barriers, next_barrier[2];
	const char *text0;
	struct error *err;
};

struct tokenizer_scratch *tokenizer_scratch_create(void)
{
	struct tokenizer_scratch *sc = mem_alloc(sizeof(*sc));

	sc->cache = mem_alloc(sizeof(*sc->cache) << CACHE_BITS);
	return sc;
}

void tokenizer_scratch_destroy(struct tokenizer_scratch *sc)
{
	if (!sc)
		return;
	bpe_scratch_deinit(&sc->bpe);
	split_scratch_deinit(&sc->split);
	free(sc->cache);
	free(sc);
}

/* The token that is this piece as a whole, or -1. */
static int32_t whole_piece(const struct tokenizer *t, const uint8_t *piece, size_t len)
{
	struct buf name = {0};
	int32_t id;
	size_t i;

	for (i = 0; i < len; i++)
		buf_put_utf8(&name, byte_to_char(piece[i]));
	id = vocab_find(&t->vocab, name.data, name.len);
	buf_deinit(&name);
	return id;
}

static void piece_encode(struct encoder *e, const uint8_t *piece, size_t len)
{
	int32_t id = e->t->ignore_merges && len <= 256 ? whole_piece(e->t, piece, len) : -1;

	if (id >= 0)
		token_buf_push(e->out, id);
	else
		bpe_encode(&e->t->bpe, &e->sc->bpe, piece, len, e->out);
}

/* The piece as three words, zero-padded; len <= CACHE_PIECE_BYTES. */
static inline void piece_words(
	const struct encoder *e, const char *piece, size_t len, uint64_t w[3])
{
	if (e->text_end - piece >= 24) {
		memcpy(w, piece, 24);
		if (len <= 8) {
			w[0] &= ~0ull >> (64 - 8 * len);
			w[1] = w[2] = 0;
		} else if (len <= 16) {
			w[1] &= ~0ull >> (128 - 8 * len);
			w[2] = 0;
		} else {
			w[2] &= ~0ull >> (192 - 8 * len);
		}
	} else {
		w[0] = w[1] = w[2] = 0;
		memcpy(w, piece, len);
	}
}

static inline void piece_cached(struct encoder *e, const char *piece, size_t len)
{
	struct token_buf *out = e->out;
	struct cache_entry *c;
	uint64_t w[3], h;
	size_t before;

	if (len > CACHE_PIECE_BYTES) {
		piece_encode(e, (const uint8_t *)piece, len);
		return;
	}
	piece_words(e, piece, len, w);
	h = (w[0] ^ (w[1] << 7 | w[1] >> 57) ^ w[2] << 29 ^ len) * 0x9E3779B97F4A7C15u;
	h = (h ^ h >> 29) * 0xBF58476D1CE4E5B9u;
	c = &e->sc->cache[h >> (64 - CACHE_BITS)];
	if (c->len == len && memcmp(c->piece, w, CACHE_PIECE_BYTES) == 0) {
		token_buf_reserve(out, CACHE_IDS);
		memcpy(out->data + out->len, c->ids, sizeof(c->ids));
		out->len += c->n_ids;
		return;
	}
	before = out->len;
	piece_encode(e, (const uint8_t *)piece, len);
	if (out->len - before <= CACHE_IDS) {
		memcpy(c->piece, w, CACHE_PIECE_BYTES);
		c->len = (uint8_t)len;
		c->n_ids = (uint8_t)(out->len - before);
		memcpy(c->ids, out->data + before, c->n_ids * sizeof(*c->ids));
	}
}

/* Ordinary text: no added tokens inside. */
static enum status encode_plain(struct encoder *e, const char *text, size_t len)
{
	struct tokenizer_scratch *sc = e->sc;
	size_t pos = 0, start = 0, i, n;

	if (e->t->splitter.deepseek && !(e->flags & TOKENIZER_PLAIN_SPLIT)) {
		while (pos < len) {
			n = split_deepseek(text, len, &pos, sc->ends, BATCH_PIECES);
			for (i = 0; i < n; start = sc->ends[i++])
				piece_cached(e, text + start, sc->ends[i] - start);
		}
		return OK;
	}
	TRY(split_run(&e->t->splitter, &sc->split, text, len, e->err));
	for (i = 0; i < sc->split.n_ends; start = sc->split.ends[i++])
		piece_cached(e, text + start, sc->split.ends[i] - start);
	return OK;
}

/* Cuts out the added tokens of pass 0, from what remains those of pass 1, and encodes the rest. */
static enum status encode_pass(struct encoder *e, const char *text, size_t len, int pass)
{
	const struct added_set *set = pass == 0 ? &e->t->plain : &e->t->normalized;
	size_t done = 0, from = 0, base = (size_t)(text - e->text0);
	struct added_match m;

	if (pass == 2)
		return len ? encode_plain(e, text, len) : OK;
	while (from < len) {
		if (!added_set_find(set, text, len, from, done, &m))
			break;
		if (e->n_barriers) { /* they count from text0, matches from text */
			size_t *b = &e->next_barrier[pass];

			while (*b < e->n_barriers && e->barriers[*b] <= base + m.token_start)
				++*b;
			if (*b < e->n_barriers && e->barriers[*b] < base + m.token_end) {
				from = m.token_start + 1;
				continue;
			}
		}
		TRY(encode_pass(e, text + done, m.start - done, pass + 1));
		token_buf_push(e->out, m.id);
		done = m.end;
		from = m.next;
	}
	return encode_pass(e, text + done, len - done, pass + 1);
}

static enum status encode(const struct tokenizer *t, struct tokenizer_scratch *sc, const char *text,
	size_t len, unsigned flags, const size_t *barriers, size_t n_barriers,
	struct token_buf *out, struct error *err)
{
	struct encoder e = {.t = t,
		.sc = sc,
		.out = out,
		.text_end = text + len,
		.flags = flags,
		.barriers = barriers,
		.n_barriers = n_barriers,
		.text0 = text,
		.err = err};
	size_t before = out->len, valid;
	enum status st;

	if (len > TOKENIZER_MAX_TEXT_BYTES)
		return error_set(err, E_LIMIT, "text: %zu bytes, at most %zu are encoded", len,
			TOKENIZER_MAX_TEXT_BYTES);
	if (!len)
		return OK;
	valid = utf8_valid_len(text, len);
	if (valid != len)
		return error_set(err, E_INVAL, "text: byte 0x%02X at offset %zu is not valid UTF-8",
			(unsigned)(uint8_t)text[valid], valid);
	if (sc->serial != t->serial) {
		memset(sc->cache, 0, sizeof(*sc->cache) << CACHE_BITS);
		sc->serial = t->serial;
	}
	token_buf_reserve(out, len / 4);
	st = encode_pass(&e, text, len, flags & TOKENIZER_PARSE_ADDED ? 0 : 2);
	if (st != OK)
		out->len = before;
	return st;
}

enum status tokenizer_encode(const struct tokenizer *t, struct tokenizer_scratch *sc,
	const char *text, size_t len, unsigned flags, struct token_buf *out, struct error *err)
{
	return encode(t, sc, text, len, flags, NULL, 0, out, err);
}

enum status tokenizer_encode_barred(const struct tokenizer *t, struct tokenizer_scratch *sc,
	const char *text, size_t len, const size_t *barriers, size_t n_barriers,
	struct token_buf *out, struct error *err)
{
	return encode(t, sc, text, len, TOKENIZER_PARSE_ADDED, barriers, n_barriers, out, err);
}
