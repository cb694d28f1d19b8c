/* What the files of option tables share: opt.c (words), opt_file.c (files), opt_print.c (help, values). */
#ifndef BASE_OPT_INT_H
#define BASE_OPT_INT_H

#include "base/opt.h"

#define OPT_MAX_NAME 64

/* i-th option of all lists, or NULL. */
const struct opt *opt_at(const struct opt_table *t, int i);
/* By its name with dashes; NULL when the table has none. */
const struct opt *opt_find(const struct opt_table *t, const char *name);
/* What its value is called: its choices, its `value`, or VALUE. */
const char *opt_value_name(const struct opt *o);
bool opt_is_switch(const struct opt *o);
void opt_set_switch(const struct opt *o, void *values, bool on);
/* `text` is kept where the type keeps texts. A switch takes none. */
enum status opt_store(const struct opt *o, const char *text, void *values, struct error *err);
/* E_INVAL with a suggestion. */
enum status opt_unknown(const struct opt_table *t, const char *name, struct error *err);
/* `word` with its leading dashes, "=..." or ".key" behind it: E_UNSUPPORTED for rows of table->refused. */
enum status opt_check_refused(const struct opt_table *t, const char *word, struct error *err);

/* opt_file.c: a file's values; the texts that they refer to go to the arena. */
enum status opt_file_apply(struct arena *texts, const struct opt_table *t, const char *path, void *values,
	struct error *err);

#endif
