/*
 * Compiled grammars by the text that they came from, the least recently used ones forgotten first. One
 * thread.
 */
#ifndef TEXT_GRAMMAR_CACHE_H
#define TEXT_GRAMMAR_CACHE_H

#include <stddef.h>

#include "text/grammar.h"

struct grammar_cache;

/* limit_bytes: of all grammars together, as far as nobody else holds them. */
struct grammar_cache *grammar_cache_create(size_t limit_bytes);
void grammar_cache_destroy(struct grammar_cache *c);

/* A new reference, or NULL. The key is compared whole: it says all that the grammar depends on. */
struct grammar *grammar_cache_find(struct grammar_cache *c, const char *key, size_t len);
/* Takes a reference of its own; where the key is there already, its grammar stays and none is taken. */
void grammar_cache_put(struct grammar_cache *c, const char *key, size_t len, struct grammar *g);

#endif
