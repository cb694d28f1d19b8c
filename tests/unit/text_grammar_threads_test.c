/*
 * Grammars as a server uses them, also under -Db_sanitize=thread: one thread finds, compiles and evicts them and makes
 * and destroys their matchers, others step these, go back, fork, and make some of their own.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "cm.h"
#include "base/mem.h"
#include "text/grammar.h"
#include "text/grammar_cache.h"

#define THREADS 4
#define ROUNDS 120
#define STEPS 120
#define REACH 16 /* of the expression: a is this many letters before the end */

static struct tokenizer *tok;
static struct grammar_vocab *vocab;
static int32_t ab[2];
static uint32_t n_ids;

struct lane {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t turn;
	struct grammar *g;    /* a reference */
	struct constraint *c; /* of g */
	bool given, over, wrong;
	unsigned seed;
	uint32_t *mask;
};

static int setup(void **state)
{
	static const int32_t eos = 1;
	struct error err;

	if (tokenizer_open(&tok, TEST_DATA "/deepseek-v3.1", &err) != OK)
		return -1;
	n_ids = (uint32_t)tokenizer_n_ids(tok);
	ab[0] = tokenizer_token_find(tok, "a", 1);
	ab[1] = tokenizer_token_find(tok, "z", 1);
	return grammar_vocab_create(&vocab, tok, n_ids, &eos, 1, &err) == OK ? 0 : -1;
}

static int teardown(void **state)
{
	grammar_vocab_destroy(vocab);
	tokenizer_close(tok);
	return 0;
}

static unsigned draw(struct lane *l)
{
	return l->seed = l->seed * 1664525u + 1013904223u, l->seed >> 12;
}

/* Random letters with steps back; the place is known from the letters alone. */
static bool walk(struct lane *l, struct constraint *c)
{
	bool is_a[STEPS + CONSTRAINT_MAX_ROLLBACK];
	uint32_t n = 0;

	for (int i = 0; i < STEPS; i++) {
		uint32_t back = draw(l) % 5 ? 0 : draw(l) % CONSTRAINT_MAX_ROLLBACK;

		back = back < n ? back : n;
		constraint_rollback(c, back);
		n -= back;
		for (uint32_t k = 0; k <= back; k++, n++) {
			is_a[n] = draw(l) % 2;
			if (!constraint_accept(c, ab[!is_a[n]]))
				return false;
		}
		if (i % 16 == 0) {
			constraint_fill(c, l->mask, n_ids);
			if (!(l->mask[ab[0] / 32] >> (ab[0] % 32) & 1))
				return false;
		}
		if (grammar_matcher_accepts(c) != (n >= REACH && is_a[n - REACH]))
			return false;
	}
	return true;
}

static void use(struct lane *l)
{
	struct constraint *own = grammar_matcher_create(l->g), *fork;

	l->wrong |= !walk(l, l->c) || !walk(l, own);
	fork = grammar_matcher_fork(own);
	constraint_rollback(fork, CONSTRAINT_MAX_ROLLBACK / 2);
	l->wrong |= !constraint_accept(fork, ab[0]);
	constraint_destroy(own);
	constraint_destroy(fork);
}

static void *run(void *arg)
{
	struct lane *l = arg;

	pthread_mutex_lock(&l->lock);
	while (!l->over) {
		if (l->given) {
			pthread_mutex_unlock(&l->lock);
			use(l);
			pthread_mutex_lock(&l->lock);
			l->given = false;
		}
		pthread_cond_signal(&l->turn);
		pthread_cond_wait(&l->turn, &l->lock);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

/* One of three grammars of one language; the cache holds two. */
static struct grammar *find(struct grammar_cache *cache, int which)
{
	char text[64], key[16];
	struct grammar *g;
	struct error err;

	snprintf(key, sizeof(key), "%d", which);
	g = grammar_cache_find(cache, key, strlen(key));
	if (g)
		return g;
	snprintf(text, sizeof(text), "[a-z]*[a-m][a-z]{%d}%s", REACH - 1, which == 0 ? "" : which == 1 ? "|0" : "|1");
	assert_int_equal(grammar_from_regex(&g, vocab, text, strlen(text), &err), OK);
	grammar_cache_put(cache, key, strlen(key), g);
	return g;
}

static void give_back(struct lane *l)
{
	constraint_destroy(l->c);
	grammar_unref(l->g);
	l->c = NULL;
	l->g = NULL;
}

static void test_threads(void **state)
{
	struct grammar_cache *cache = grammar_cache_create((size_t)3 << 20);
	struct lane *lanes = mem_alloc(THREADS * sizeof(*lanes));
	size_t most = 0;

	for (int i = 0; i < THREADS; i++) {
		lanes[i].seed = (unsigned)i + 1;
		lanes[i].mask = mem_alloc(constraint_words(n_ids) * sizeof(*lanes[i].mask));
		pthread_mutex_init(&lanes[i].lock, NULL);
		pthread_cond_init(&lanes[i].turn, NULL);
		pthread_create(&lanes[i].thread, NULL, run, &lanes[i]);
	}
	for (int round = 0; round < ROUNDS; round++) {
		struct lane *l = &lanes[round % THREADS];

		pthread_mutex_lock(&l->lock);
		while (l->given)
			pthread_cond_wait(&l->turn, &l->lock);
		if (l->g) {
			most = grammar_bytes(l->g) > most ? grammar_bytes(l->g) : most;
			give_back(l);
		}
		l->g = find(cache, round / 24 % 3);
		l->c = grammar_matcher_create(l->g);
		l->given = true;
		pthread_cond_signal(&l->turn);
		pthread_mutex_unlock(&l->lock);
	}
	for (int i = 0; i < THREADS; i++) {
		struct lane *l = &lanes[i];

		pthread_mutex_lock(&l->lock);
		while (l->given)
			pthread_cond_wait(&l->turn, &l->lock);
		l->over = true;
		pthread_cond_signal(&l->turn);
		pthread_mutex_unlock(&l->lock);
		pthread_join(l->thread, NULL);
		assert_false(l->wrong);
		give_back(l);
		free(l->mask);
		pthread_mutex_destroy(&l->lock);
		pthread_cond_destroy(&l->turn);
	}
	assert_true(most > (size_t)4 << 20); /* automata took the place of others */
	grammar_cache_destroy(cache);
	free(lanes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
