/* Stop strings (server/stop_text.h). */
#include "server/stop_text.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void stop_set_add(struct stop_set *set, const char *text, size_t len)
{
	struct stop_string *s;
	uint32_t border = 0;

	set->strings = mem_realloc(set->strings, (set->n + 1) * sizeof(*set->strings));
	s = &set->strings[set->n++];
	s->len = len;
	s->text = mem_alloc(len + 1);
	memcpy(s->text, text, len);
	s->fail = mem_alloc((len + 1) * sizeof(*s->fail));
	for (size_t i = 1; i < len; i++) {
		while (border && text[i] != text[border])
			border = s->fail[border];
		border += text[i] == text[border];
		s->fail[i + 1] = border;
	}
}

void stop_set_deinit(struct stop_set *set)
{
	for (size_t i = 0; i < set->n; i++) {
		free(set->strings[i].text);
		free(set->strings[i].fail);
	}
	free(set->strings);
	*set = (struct stop_set){ 0 };
}

void stop_match_init(struct stop_match *m, const struct stop_set *set)
{
	*m = (struct stop_match){ .set = set };
	if (set->n)
		m->state = mem_alloc(set->n * sizeof(*m->state));
}

void stop_match_deinit(struct stop_match *m)
{
	free(m->state);
	*m = (struct stop_match){ 0 };
}

/* One byte into one automaton; true when the string is complete. */
static bool step(const struct stop_string *s, uint32_t *state, char c)
{
	uint32_t at = *state;

	if (at == s->len)
		at = s->fail[at];
	while (at && s->text[at] != c)
		at = s->fail[at];
	at += s->text[at] == c;
	*state = at;
	return at == s->len;
}

int stop_match_push(struct stop_match *m, const char *text, size_t len, bool active, size_t *used)
{
	for (size_t i = 0; i < len && m->set->n; i++) {
		int found = -1;

		for (size_t k = 0; k < m->set->n; k++) {
			if (step(&m->set->strings[k], &m->state[k], text[i]) && found < 0)
				found = (int)k;
		}
		if (found >= 0 && active) {
			*used = i + 1;
			return found;
		}
	}
	*used = len;
	return -1;
}

size_t stop_match_held(const struct stop_match *m)
{
	size_t held = 0;

	for (size_t k = 0; k < m->set->n; k++) {
		size_t at = m->state[k];

		if (at == m->set->strings[k].len) /* complete while it did not count */
			at = m->set->strings[k].fail[at];
		if (at > held)
			held = at;
	}
	return held;
}
