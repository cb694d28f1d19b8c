/*
 * A model ready to answer: what run and complete share. Options, tokenizer, runtime, one sequence,
 * and the loop that turns sampled ids into text.
 */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "cli/machine.h"
#include "cli/prompter.h"
#include "engine/generate.h"

struct session_values {
	struct machine_values machine; /* first: see cli/machine.h */
	/* NAN, -2 and -1: not given. */
	double temperature;
	double top_p;
	double min_p;
	int64_t top_k;
	int64_t seed;
	int64_t max_tokens;
	double repetition_penalty;
	double frequency_penalty;
	double presence_penalty;
	int64_t min_tokens;
	bool ignore_eos;
	bool stats;
};

struct session_values session_defaults(void);
/* Lists for an option table: sampling, then model and machine. */
extern const struct opt_list session_opts[];

#define SESSION_MAX_STOP 16

struct session {
	struct prompter prompter;
	struct runtime rt;
	struct generator *gen;
	struct sampling_params sampling;
	struct logits_rules rules;
	int32_t stop[SESSION_MAX_STOP]; /* ids that end an answer */
	uint32_t n_stop;
	uint32_t n_eos; /* the first of them: end of sequence; the others are hallucinated turns */
	uint32_t max_tokens; /* of an answer; UINT32_MAX: the context */
	bool progress;
	/* Of the last answer. */
	double prompt_s;
	double answer_s;
	uint32_t n_prompt;
	uint32_t n_cached;
	uint32_t n_answer;
};

/*
 * Opens everything. prompter must be open. defaults of sampling: the flag, then
 * generation_config.json, then vLLM's (temperature 1, no top-k, top-p or min-p).
 */
enum status session_open(struct session *s, const char *dir, const struct session_values *v,
	struct error *err);
void session_close(struct session *s); /* also after a failed open of a zeroed session */

/* One more id that ends answers. */
void session_stop_at(struct session *s, int32_t id);

enum session_end {
	SESSION_STOP,    /* a stop id: it was not passed on */
	SESSION_LENGTH,  /* max_tokens */
	SESSION_CONTEXT, /* the context is full */
	SESSION_INTERRUPTED,
};
const char *session_end_name(enum session_end end); /* "stop", "length", "abort" */

/* Called for each token of an answer. */
typedef enum status session_token_fn(void *arg, int32_t id, struct error *err);

/*
 * Computes the prompt and the answer's tokens. Stops early, without an error, once *interrupted is
 * not zero (it may be NULL).
 */
enum status session_answer(struct session *s, const struct token_buf *prompt,
	session_token_fn *fn, void *arg, const volatile sig_atomic_t *interrupted,
	enum session_end *end, struct error *err);

/* One line of speed on stderr, of the last answer. */
void session_print_stats(const struct session *s);

#endif
