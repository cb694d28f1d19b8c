/*
 * Stop strings in a text that comes in pieces: where one ends, and how much of the text's end could still
 * be the beginning of one, so that a stream can hold it back.
 *
 * One Knuth-Morris-Pratt automaton for each string: a byte costs amortized constant time whatever the
 * strings are. The set is shared by all choices of a request; each choice has its own state.
 */
#ifndef SERVER_STOP_TEXT_H
#define SERVER_STOP_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stop_string {
	char *text;     /* owned */
	uint32_t *fail; /* [len + 1] owned: longest proper border of each prefix */
	size_t len;     /* at least 1 */
};

struct stop_set {
	struct stop_string *strings; /* [n] owned */
	size_t n;
};

void stop_set_add(struct stop_set *set, const char *text, size_t len);
void stop_set_deinit(struct stop_set *set);

struct stop_match {
	const struct stop_set *set;
	uint32_t *state; /* [set->n] owned: bytes matched of each */
};

void stop_match_init(struct stop_match *m, const struct stop_set *set);
void stop_match_deinit(struct stop_match *m);

/*
 * Takes bytes until a stop string is complete: returns its index and sets *used to the bytes taken; -1
 * and len when there is none. Not active: strings are followed but do not end the text (min_tokens).
 */
int stop_match_push(struct stop_match *m, const char *text, size_t len, bool active, size_t *used);
/* Bytes at the end of what was pushed that may belong to a stop string. */
size_t stop_match_held(const struct stop_match *m);

#endif
