/*
 * A vocabulary as tries of bytes (text/grammar_int.h).
 *
 * Control tokens are in neither trie: text never becomes one, and a mask never offers one as text.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/grammar_int.h"

#define MAX_LIVE_BYTES ((size_t)1 << 30)

struct spelled {
	const char *bytes;
	uint32_t len;
	int32_t id;
};

static int spelled_cmp(const void *pa, const void *pb)
{
	const struct spelled *a = pa, *b = pb;
	int c = memcmp(a->bytes, b->bytes, a->len < b->len ? a->len : b->len);

	if (c)
		return c;
	return a->len != b->len ? (a->len < b->len ? -1 : 1) : a->id < b->id ? -1 : a->id > b->id;
}

/* Length of the code point at s that needs no escape in a JSON string; 0 when there is none. */
static size_t plain_char(const unsigned char *s, size_t len)
{
	size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xC2 && s[0] < 0xE0 ? 2 : s[0] >= 0xE0 && s[0] < 0xF0 ? 3 :
		s[0] >= 0xF0 && s[0] < 0xF5 ? 4 : 0;

	if (n == 0 || n > len || s[0] < 0x20 || s[0] == '"' || s[0] == '\\')
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xC0) != 0x80)
			return 0;
	}
	if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF0 && s[1] < 0x90) ||
		(s[0] == 0xF4 && s[1] > 0x8F))
		return 0;
	return n;
}

static bool is_plain(const struct spelled *t)
{
	size_t at = 0, n;

	if (t->len > PLAIN_MAX_BYTES)
		return false;
	for (; at < t->len; at += n) {
		n = plain_char((const unsigned char *)t->bytes + at, t->len - at);
		if (n == 0)
			return false;
	}
	return true;
}

/* Adds the nodes of sorted tokens; open[d] is the last node at depth d, whose subtree may still grow. */
static void build_trie(struct trie *t, const struct spelled *list, size_t n, int32_t *same)
{
	uint32_t open[GRAMMAR_MAX_TOKEN_BYTES];
	size_t total = 0;
	uint32_t depth = 0;

	for (size_t i = 0; i < n; i++)
		total += list[i].len;
	t->nodes = mem_alloc((total + 1) * sizeof(*t->nodes));
	for (size_t i = 0; i < n; i++) {
		uint32_t keep = 0;

		while (i && keep < depth && keep < list[i].len && list[i].bytes[keep] == list[i - 1].bytes[keep])
			keep++;
		for (uint32_t d = keep; d < depth; d++)
			t->nodes[open[d]].skip = t->n;
		for (depth = keep; depth < list[i].len; depth++) {
			open[depth] = t->n;
			t->nodes[t->n++] = (struct trie_node){ 0, -1, (uint8_t)list[i].bytes[depth], (uint8_t)depth };
		}
		same[list[i].id] = t->nodes[open[depth - 1]].id;
		t->nodes[open[depth - 1]].id = list[i].id;
	}
	for (uint32_t d = 0; d < depth; d++)
		t->nodes[open[d]].skip = t->n;
}

static void split_tokens(struct grammar_vocab *v)
{
	struct spelled *list = mem_alloc((v->n_ids + 1) * sizeof(*list)), *rest;
	size_t n = 0, n_plain = 0;

	for (uint32_t id = 0; id < v->n_ids; id++) {
		size_t len;
		const char *bytes = tokenizer_token_bytes(v->tok, (int32_t)id, &len);
		unsigned flags = tokenizer_token_flags(v->tok, (int32_t)id);

		v->same[id] = -1;
		if (bytes && len && len < GRAMMAR_MAX_TOKEN_BYTES && (flags & TOKEN_PRESENT) &&
			!(flags & (TOKEN_ADDED | TOKEN_SPECIAL)) && !grammar_vocab_is_eos(v, (int32_t)id))
			list[n++] = (struct spelled){ bytes, (uint32_t)len, (int32_t)id };
	}
	qsort(list, n, sizeof(*list), spelled_cmp);
	rest = mem_alloc((n + 1) * sizeof(*rest));
	for (size_t i = 0, n_rest = 0; i < n; i++) {
		if (is_plain(&list[i])) {
			v->plain_mask[list[i].id / 32] |= 1u << (list[i].id % 32);
			v->plain_bytes = list[i].len > v->plain_bytes ? list[i].len : v->plain_bytes;
			list[n_plain++] = list[i];
		} else {
			rest[n_rest++] = list[i];
		}
	}
	build_trie(&v->plain, list, n_plain, v->same);
	build_trie(&v->rest, rest, n - n_plain, v->same);
	free(rest);
	free(list);
}

enum status grammar_vocab_create(struct grammar_vocab **out, const struct tokenizer *tok, uint32_t n_ids,
	const int32_t *eos, uint32_t n_eos, struct error *err)
{
	struct grammar_vocab *v;
	uint32_t known = (uint32_t)tokenizer_n_ids(tok);

	n_ids = n_ids < known ? n_ids : known;
	if (n_ids == 0)
		return error_set(err, E_INVAL, "the vocabulary is empty");
	v = mem_alloc(sizeof(*v));
	*v = (struct grammar_vocab){ .tok = tok, .n_ids = n_ids, .n_eos = n_eos };
	v->eos = mem_alloc((n_eos + 1) * sizeof(*v->eos));
	for (uint32_t i = 0; i < n_eos; i++)
		v->eos[i] = eos[i];
	v->live_bytes = mem_alloc(sizeof(*v->live_bytes));
	v->max_live_bytes = MAX_LIVE_BYTES;
	v->same = mem_alloc(n_ids * sizeof(*v->same));
	v->plain_mask = mem_alloc(constraint_words(n_ids) * sizeof(*v->plain_mask));
	split_tokens(v);
	*out = v;
	return OK;
}

void grammar_vocab_destroy(struct grammar_vocab *v)
{
	if (!v)
		return;
	free(v->plain.nodes);
	free(v->rest.nodes);
	free(v->plain_mask);
	free(v->same);
	free(v->eos);
	free(v->live_bytes);
	free(v);
}

void grammar_vocab_limit(struct grammar_vocab *v, size_t bytes)
{
	v->max_live_bytes = bytes;
}

bool grammar_vocab_is_eos(const struct grammar_vocab *v, int32_t id)
{
	for (uint32_t i = 0; i < v->n_eos; i++) {
		if (v->eos[i] == id)
			return true;
	}
	return false;
}
