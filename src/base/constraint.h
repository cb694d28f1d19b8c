/*
 * What limits the tokens of one sequence: the seam between whoever knows the language that an answer must
 * follow (text/grammar.h) and whoever samples (engine/).
 *
 * A constraint belongs to one sequence and is used by one thread at a time. Its state is the tokens that it
 * has accepted; rollback takes the last ones back, so that drafts can be tried.
 *
 *   constraint_fill(c, mask, n);            which ids may come next
 *   constraint_accept(c, id)                one of them came
 */
#ifndef BASE_CONSTRAINT_H
#define BASE_CONSTRAINT_H

#include <stdbool.h>
#include <stdint.h>

#define CONSTRAINT_MAX_ROLLBACK 32u
#define CONSTRAINT_MAX_WAYS 2048u /* to go on from one place of a text; a place of more may have no id at all */

struct constraint;

enum constraint_next {
	CONSTRAINT_MORE,     /* an id that is no end of sequence may come */
	CONSTRAINT_END_ONLY, /* nothing but the end of the sequence */
};

struct constraint_ops {
	/* Bit id % 32 of mask[id / 32] says whether id < n_ids may come next; the rest of the last word is 0. */
	enum constraint_next (*fill)(struct constraint *c, uint32_t *mask, uint32_t n_ids);
	/* False, and nothing changes, when the id may not come. */
	bool (*accept)(struct constraint *c, int32_t id);
	/* Takes the last n accepted ids back: at most their number, and no id that is not among the last
	 * CONSTRAINT_MAX_ROLLBACK. */
	void (*rollback)(struct constraint *c, uint32_t n);
	void (*destroy)(struct constraint *c);
};

struct constraint { /* first member of whatever implements it */
	const struct constraint_ops *ops;
};

static inline uint32_t constraint_words(uint32_t n_ids)
{
	return n_ids / 32 + (n_ids % 32 != 0);
}

static inline enum constraint_next constraint_fill(struct constraint *c, uint32_t *mask, uint32_t n_ids)
{
	return c->ops->fill(c, mask, n_ids);
}

static inline bool constraint_accept(struct constraint *c, int32_t id)
{
	return c->ops->accept(c, id);
}

static inline void constraint_rollback(struct constraint *c, uint32_t n)
{
	c->ops->rollback(c, n);
}

static inline void constraint_destroy(struct constraint *c)
{
	if (c)
		c->ops->destroy(c);
}

#endif
