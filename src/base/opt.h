/*
 * Option tables: parsing, checking and --help come from one table per command.
 *
 * Spellings are vLLM's: --max-tokens N, --max-tokens=N, --max_tokens N; switches take --no- in front.
 * Prefixes of names are refused with the full name in the message, unless the table says that they are
 * words too. A lone "--" ends the options; "-" and everything that does not begin with '-' is an argument.
 * Negative numbers are arguments too.
 *
 * The caller presets the struct of values; parsing overwrites what was given, so a sentinel tells
 * whether a flag was there. Numbers accept 4k (1000), 4K or 4Ki (1024), 25.6k, M and G likewise where
 * the type is OPT_SIZE.
 *
 * A table with an OPT_FILE option takes values from a YAML file too: a map whose keys are the names of
 * options, with - or _, true and false for switches, lists for options of several values, maps and lists
 * where the value is JSON. The command line wins, also over whole lists; whatever the table does not know,
 * has twice or of another type is an error with file, line and key. A file names no other file.
 */
#ifndef BASE_OPT_H
#define BASE_OPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

enum opt_type {
	OPT_SWITCH, /* bool; --name and --no-name */
	OPT_TRISTATE, /* int: 1 for --name, 0 for --no-name, as preset when neither was given */
	OPT_INT,    /* int64_t in [min, max] */
	OPT_SIZE,   /* int64_t in [min, max] with a unit */
	OPT_DOUBLE, /* double in [min, max], finite */
	OPT_STRING, /* const char *, borrowed from argv */
	OPT_CHOICE, /* const char *: one of `choices`, separated by '|' */
	OPT_SIZES,  /* struct opt_sizes: one or more OPT_SIZE values, "512,2048" or several words */
	OPT_STRINGS, /* struct opt_strings: one or more words, up to the next option; again: more of them */
	OPT_JSON,   /* const char *: JSON text, which the caller parses */
	OPT_FILE,   /* const char *: a file of options; one row of a table at most */
};

#define OPT_MAX_SIZES 16

struct opt_sizes {
	int64_t v[OPT_MAX_SIZES];
	int n;
};

/* Of one value at least. */
int64_t opt_sizes_min(const struct opt_sizes *s);
int64_t opt_sizes_max(const struct opt_sizes *s);

#define OPT_MAX_STRINGS 64

struct opt_strings {
	const char *v[OPT_MAX_STRINGS]; /* borrowed from argv */
	int n;
	bool preset; /* the next word replaces them all */
};

struct opt {
	const char *name; /* with dashes, without the leading ones */
	char letter;      /* short form or 0 */
	enum opt_type type;
	size_t offset;    /* of the value in the struct of values */
	double min, max;  /* numbers */
	bool above;       /* min itself is refused */
	const char *choices;
	const char *value; /* name of the value in --help */
	const char *help;  /* one or two sentences; the default is named here */
	bool secret;       /* opt_put_changed() does not show the value */
};

/* A word that is known and refused, with its dashes; "--word.key" too. */
struct opt_refused {
	const char *word, *why;
};

/* Options that several commands share. */
struct opt_list {
	const char *title; /* above them in --help */
	const struct opt *opts; /* ends with a name of NULL */
};

struct opt_table {
	const char *command;   /* "run" or "bench model" */
	const char *arguments; /* "MODEL [PROMPT]" */
	const char *summary;   /* one line */
	const char *details;   /* further lines for --help, or NULL */
	int min_args, max_args; /* max_args -1: any number */
	bool prefixes; /* the beginning of a name stands for it where no other name has it */
	const struct opt *opts; /* ends with a name of NULL */
	const struct opt_list *common; /* ends with a title of NULL; or NULL */
	const struct opt_refused *refused; /* ends with a word of NULL; or NULL */
	size_t values_bytes; /* of the struct of values; needed with an OPT_FILE */
};

struct opt_result {
	char **args; /* owned array of borrowed strings */
	int n_args;
	bool help;   /* --help or -h was given; nothing else was checked */
	struct arena texts; /* of a file; values refer to them until deinit */
};

/* argv[0] is the first word after the command. E_INVAL names the flag and what was expected. */
enum status opt_parse(struct opt_result *out, const struct opt_table *table, int argc, char **argv,
	void *values, struct error *err);
void opt_result_deinit(struct opt_result *r);

/* The text of --help, from the table alone. */
struct buf;
void opt_help(struct buf *out, const struct opt_table *table);

/* Appends 'name': value of the next option, from *next on, whose value is not the preset one, as vLLM logs
 * them; false when there is none. *next begins with 0. */
bool opt_put_changed(struct buf *out, const struct opt_table *table, int *next, const void *preset,
	const void *values);

/* Edit distance (insert, delete, replace, swap of neighbours), for suggestions; case is ignored. */
int opt_distance(const char *a, const char *b);
/* The largest distance at which a word is worth suggesting for `name`. */
int opt_near(const char *name);

#endif
