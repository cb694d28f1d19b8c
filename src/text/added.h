/*
 * Finds added tokens in text: leftmost match, longest at a position. One set per pass; tokens that
 * are not "normalized" are cut out first, the others from what remains, as the reference library
 * does.
 */
#ifndef TEXT_ADDED_H
#define TEXT_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct added_token {
	int32_t id;
	bool lstrip, rstrip, single_word;
};

struct added_node;

struct added_set {
	struct added_node *nodes; /* [n_nodes] a trie; node 0 is the root */
	size_t n_nodes, node_cap;
	struct added_token *tokens; /* [n_tokens] */
	size_t n_tokens, token_cap;
	bool first[256]; /* bytes that start a token */
	int only_first;	 /* the one such byte, or -1 */
};

struct added_match {
	size_t start, end;	       /* of the text it replaces, stripped white space included */
	size_t next;		       /* where to search on */
	size_t token_start, token_end; /* of the token alone */
	int32_t id;
};

void added_set_deinit(struct added_set *s);
/* text is not empty. The same text again replaces the token. */
void added_set_put(struct added_set *s, const char *text, size_t len, struct added_token token);

/*
 * The first match at or after `from` in text[0..len). `floor`: white space before it belongs to an
 * earlier match.
 */
bool added_set_find(const struct added_set *s, const char *text, size_t len, size_t from,
	size_t floor, struct added_match *m);

#endif
