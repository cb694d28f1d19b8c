/* A byte trie of added tokens; children are a linked list, for tokens share long prefixes. */
#include "text/added.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/unicode.h"

struct added_node {
	uint32_t child, sibling; /* node indices, 0: none */
	uint32_t token;		 /* index + 1, 0: none */
	uint8_t byte;
};

void added_set_deinit(struct added_set *s)
{
	free(s->nodes);
	free(s->tokens);
	*s = (struct added_set){0};
}

static uint32_t node_child(const struct added_set *s, uint32_t at, uint8_t byte)
{
	uint32_t i = s->nodes[at].child;

	while (i && s->nodes[i].byte != byte)
		i = s->nodes[i].sibling;
	return i;
}

static uint32_t node_add(struct added_set *s, uint32_t parent, uint8_t byte)
{
	uint32_t i = (uint32_t)s->n_nodes++;

	s->nodes = mem_grow(s->nodes, &s->node_cap, s->n_nodes, sizeof(*s->nodes));
	s->nodes[i] = (struct added_node){.byte = byte};
	if (i) {
		s->nodes[i].sibling = s->nodes[parent].child;
		s->nodes[parent].child = i;
	}
	return i;
}

void added_set_put(struct added_set *s, const char *text, size_t len, struct added_token token)
{
	uint32_t at = 0;
	size_t i;

	if (!s->n_nodes)
		node_add(s, 0, 0);
	for (i = 0; i < len; i++) {
		uint32_t next = node_child(s, at, (uint8_t)text[i]);

		at = next ? next : node_add(s, at, (uint8_t)text[i]);
	}
	if (!s->nodes[at].token) {
		s->tokens = mem_grow(s->tokens, &s->token_cap, s->n_tokens + 1, sizeof(*s->tokens));
		s->nodes[at].token = (uint32_t)++s->n_tokens;
	}
	s->tokens[s->nodes[at].token - 1] = token;
	s->only_first =
		s->n_tokens == 1 || s->only_first == (uint8_t)text[0] ? (uint8_t)text[0] : -1;
	s->first[(uint8_t)text[0]] = true;
}

/* Word characters as \w of the reference: letters, marks, digits and the underscore. */
static bool is_word(uint32_t cp)
{
	return cp == '_' || (unicode_class_of(cp) & (UNI_L | UNI_M | UNI_N));
}

static uint32_t char_before(const char *text, size_t at, size_t *start)
{
	uint32_t cp;

	do
		at--;
	while (((uint8_t)text[at] & 0xC0) == 0x80);
	utf8_decode(text + at, &cp);
	*start = at;
	return cp;
}

static size_t skip_first(const struct added_set *s, const char *text, size_t len, size_t at)
{
	const char *hit;

	if (s->only_first >= 0) {
		hit = at < len ? memchr(text + at, s->only_first, len - at) : NULL;
		return hit ? (size_t)(hit - text) : len;
	}
	while (at < len && !s->first[(uint8_t)text[at]])
		at++;
	return at;
}

/* Longest token at `at`, ending at or before `end`; 0 if none. */
static size_t longest(
	const struct added_set *s, const char *text, size_t end, size_t at, uint32_t *token)
{
	uint32_t node = 0;
	size_t i, best = 0;

	for (i = at; i < end; i++) {
		node = node_child(s, node, (uint8_t)text[i]);
		if (!node)
			break;
		if (s->nodes[node].token) {
			*token = s->nodes[node].token - 1;
			best = i + 1;
		}
	}
	return best;
}

bool added_set_find(const struct added_set *s, const char *text, size_t len, size_t from,
	size_t floor, struct added_match *m)
{
	size_t at = from, end, prev;
	uint32_t cp, token = 0;

	if (!s->n_tokens)
		return false;
	for (;; at++) {
		at = skip_first(s, text, len, at);
		if (at >= len)
			return false;
		end = longest(s, text, len, at, &token);
		if (!end)
			continue;
		if (!s->tokens[token].single_word)
			break;
		if ((at == 0 || !is_word(char_before(text, at, &prev))) &&
			(end == len || (utf8_decode(text + end, &cp), !is_word(cp))))
			break;
		at = end - 1; /* the reference discards the match and goes on behind it */
	}
	*m = (struct added_match){.start = at,
		.end = end,
		.next = end,
		.token_start = at,
		.token_end = end,
		.id = s->tokens[token].id};
	while (s->tokens[token].lstrip && m->start > floor &&
		(unicode_class_of(char_before(text, m->start, &prev)) & UNI_SPACE))
		m->start = prev;
	while (s->tokens[token].rstrip && m->end < len) {
		unsigned n = utf8_decode(text + m->end, &cp);

		if (!(unicode_class_of(cp) & UNI_SPACE))
			break;
		m->end += n;
		m->next = m->end;
	}
	return true;
}
