/* Opening a model and generating answers (cli/session.h). */
#include "cli/session.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/progress.h"

#define NO_TOP_K (-2)

static const struct opt sampling_opts[] = {
	{ .name = "max-tokens", .letter = 'n', .type = OPT_INT, .value = "N", .min = 1, .max = 1 << 30,
		.offset = offsetof(struct session_values, max_tokens),
		.help = "Tokens of an answer at most (default: complete 16, run as the context allows)." },
	{ .name = "temperature", .type = OPT_DOUBLE, .value = "T", .min = 0, .max = 2,
		.offset = offsetof(struct session_values, temperature),
		.help = "Sampling temperature; 0 takes the likeliest token. Defaults of this and of the "
			"next three: the model's generation_config.json, then 1, off, 1 and 0." },
	{ .name = "top-k", .type = OPT_INT, .value = "K", .min = -1, .max = 1 << 30,
		.offset = offsetof(struct session_values, top_k),
		.help = "Sample among the K likeliest tokens; 0 or -1: all." },
	{ .name = "top-p", .type = OPT_DOUBLE, .value = "P", .min = 0, .max = 1,
		.offset = offsetof(struct session_values, top_p),
		.above = true, .help = "Sample among the likeliest tokens that hold this much probability." },
	{ .name = "min-p", .type = OPT_DOUBLE, .value = "P", .min = 0, .max = 1,
		.offset = offsetof(struct session_values, min_p),
		.help = "Sample among tokens at least this likely relative to the likeliest." },
	{ .name = "repetition-penalty", .type = OPT_DOUBLE, .value = "R", .min = 0, .max = 100, .above = true,
		.offset = offsetof(struct session_values, repetition_penalty),
		.help = "Divide the logits of tokens that prompt or answer have by this (default: generation_config.json's, then 1)." },
	{ .name = "frequency-penalty", .type = OPT_DOUBLE, .value = "F", .min = -2, .max = 2,
		.offset = offsetof(struct session_values, frequency_penalty),
		.help = "Subtract this for each time that the answer has a token (default 0)." },
	{ .name = "presence-penalty", .type = OPT_DOUBLE, .value = "P", .min = -2, .max = 2,
		.offset = offsetof(struct session_values, presence_penalty),
		.help = "Subtract this once from every token that the answer has (default 0)." },
	{ .name = "min-tokens", .type = OPT_INT, .value = "N", .min = 0, .max = 1 << 30,
		.offset = offsetof(struct session_values, min_tokens),
		.help = "No end of the answer before N tokens (default 0)." },
	{ .name = "seed", .type = OPT_INT, .value = "N", .min = 0, .max = 9007199254740992.0,
		.offset = offsetof(struct session_values, seed),
		.help = "Seed of sampling: the same seed gives the same answer (default: a new one)." },
	{ .name = "ignore-eos", .type = OPT_SWITCH, .offset = offsetof(struct session_values, ignore_eos),
		.help = "Go on after the end-of-sequence token (default: no)." },
	{ .name = "stats", .type = OPT_SWITCH, .offset = offsetof(struct session_values, stats),
		.help = "Tokens per second of prompt and answer, on stderr (default: no)." },
	{ 0 },
};

const struct opt_list session_opts[] = {
	{ "sampling", sampling_opts },
	{ "model and machine", machine_opts },
	{ 0 },
};

struct session_values session_defaults(void)
{
	return (struct session_values){
		.machine = machine_defaults(),
		.temperature = NAN,
		.top_p = NAN,
		.min_p = NAN,
		.top_k = NO_TOP_K,
		.seed = -1,
		.max_tokens = -1,
		.repetition_penalty = NAN,
	};
}

static double first_given(double flag, double file, double otherwise)
{
	return !isnan(flag) ? flag : !isnan(file) ? file : otherwise;
}

static enum status choose_sampling(struct sampling_params *p, const struct session_values *v,
	const struct generation_config *g, struct error *err)
{
	uint64_t fresh = 0;

	if (v->seed < 0 && getrandom(&fresh, sizeof(fresh), 0) != sizeof(fresh))
		fresh = clock_ns();
	*p = (struct sampling_params){
		.temperature = first_given(v->temperature, g->temperature, 1),
		.top_p = first_given(v->top_p, g->top_p, 1),
		.min_p = first_given(v->min_p, g->min_p, 0),
		.top_k = v->top_k != NO_TOP_K ? (int32_t)v->top_k : g->top_k >= 0 ? g->top_k : -1,
		.seed = v->seed >= 0 ? (uint64_t)v->seed : fresh >> 11, /* one that --seed accepts */
	};
	return sampling_params_check(p, err);
}

static void add_stop(struct session *s, int32_t id)
{
	if (id < 0 || s->n_stop == SESSION_MAX_STOP)
		return;
	for (uint32_t i = 0; i < s->n_stop; i++) {
		if (s->stop[i] == id)
			return;
	}
	s->stop[s->n_stop++] = id;
	s->rules.n_stop_ids = s->n_stop;
}

void session_stop_at(struct session *s, int32_t id)
{
	add_stop(s, id);
}

static enum status choose_stops(struct session *s, const struct generation_config *g, struct error *err)
{
	const struct model_config *c = &s->rt.weights->config;

	for (uint32_t i = 0; i < g->n_eos; i++) {
		if ((uint32_t)g->eos_token_id[i] >= c->vocab_size)
			return error_set(err, E_FORMAT,
				"generation_config.json: eos_token_id: found %d, expected below vocab_size %u",
				g->eos_token_id[i], c->vocab_size);
		add_stop(s, g->eos_token_id[i]);
	}
	for (uint32_t i = 0; i < c->n_eos; i++)
		add_stop(s, c->eos_token_id[i]);
	add_stop(s, tokenizer_config_of(s->prompter.tok)->eos_id);
	s->n_eos = s->n_stop;
	return OK;
}

enum status session_open(struct session *s, const char *dir, const struct session_values *v,
	struct error *err)
{
	struct generation_config g;
	struct runtime_options o;

	TRY(generation_config_load(&g, dir, err));
	TRY(choose_sampling(&s->sampling, v, &g, err));
	TRY(machine_runtime_options(&o, &v->machine, err));
	TRY(runtime_open(&s->rt, dir, &o, err));
	TRY(generator_create(&s->gen, &s->rt, (uint32_t)tokenizer_n_ids(s->prompter.tok), err));
	s->progress = v->machine.progress;
	s->max_tokens = v->max_tokens < 0 ? UINT32_MAX : (uint32_t)v->max_tokens;
	s->rules = (struct logits_rules){
		.repetition_penalty = first_given(v->repetition_penalty, g.repetition_penalty, 1),
		.frequency_penalty = v->frequency_penalty,
		.presence_penalty = v->presence_penalty,
		.min_tokens = (uint32_t)v->min_tokens,
		.stop_ids = s->stop,
	};
	if (!v->ignore_eos)
		TRY(choose_stops(s, &g, err));
	return logits_rules_check(&s->rules, s->rt.weights->config.vocab_size, err);
}

void session_close(struct session *s)
{
	generator_destroy(s->gen);
	s->gen = NULL;
	runtime_close(&s->rt);
	prompter_close(&s->prompter);
}

const char *session_end_name(enum session_end end)
{
	switch (end) {
	case SESSION_STOP:
		return "stop";
	case SESSION_LENGTH:
	case SESSION_CONTEXT:
		return "length";
	case SESSION_INTERRUPTED:
		break;
	}
	return "abort";
}

static bool is_stop(const struct session *s, int32_t id)
{
	for (uint32_t i = 0; i < s->n_stop; i++) {
		if (s->stop[i] == id)
			return true;
	}
	return false;
}

struct prompt_watch {
	struct progress bar;
	const volatile sig_atomic_t *interrupted; /* or NULL */
};

static bool is_set(const volatile sig_atomic_t *flag)
{
	return flag && *flag;
}

static bool watch_prompt(void *arg, uint32_t done, uint32_t total)
{
	struct prompt_watch *w = arg;

	w->bar.total = total;
	progress_update(&w->bar, done);
	return !is_set(w->interrupted);
}

static enum status compute_prompt(struct session *s, const struct token_buf *prompt,
	const volatile sig_atomic_t *interrupted, bool *whole, struct error *err)
{
	struct prompt_watch w = { .interrupted = interrupted };
	double begin = clock_s();
	enum status st;

	if (prompt->len > UINT32_MAX)
		return error_set(err, E_LIMIT, "the prompt has %zu tokens, expected fewer than %u",
			prompt->len, UINT32_MAX);
	progress_begin(&w.bar, "prompt", prompt->len, PROGRESS_COUNT, s->progress);
	st = generator_prompt(s->gen, prompt->data, (uint32_t)prompt->len, watch_prompt, &w, whole, err);
	progress_end(&w.bar);
	if (st != OK)
		return st;
	s->n_prompt = (uint32_t)prompt->len;
	s->n_cached = generator_cached(s->gen);
	s->prompt_s = clock_s() - begin;
	return OK;
}

enum status session_answer(struct session *s, const struct token_buf *prompt,
	session_token_fn *fn, void *arg, const volatile sig_atomic_t *interrupted,
	enum session_end *end, struct error *err)
{
	enum status st = OK;
	bool whole;
	double begin;

	s->n_answer = 0;
	TRY(compute_prompt(s, prompt, interrupted, &whole, err));
	begin = clock_s();
	for (;;) {
		int32_t id;

		if (!whole || is_set(interrupted)) {
			*end = SESSION_INTERRUPTED;
			break;
		}
		if (s->n_answer == s->max_tokens) {
			*end = SESSION_LENGTH;
			break;
		}
		if (generator_room(s->gen) == 0) {
			*end = SESSION_CONTEXT;
			break;
		}
		TRY_GOTO(out, generator_next(s->gen, &s->sampling, &s->rules, &id, err));
		s->n_answer++;
		if (is_stop(s, id)) {
			*end = SESSION_STOP;
			break;
		}
		TRY_GOTO(out, fn(arg, id, err));
	}
out:
	s->answer_s = clock_s() - begin;
	return st;
}

void session_print_stats(const struct session *s)
{
	uint32_t computed = s->n_prompt - s->n_cached;

	fprintf(stderr, "prompt: %u tokens (%u from cache) in %.2f s, %.1f tokens/s; answer: %u tokens in "
		"%.2f s, %.1f tokens/s; seed %llu\n", s->n_prompt, s->n_cached, s->prompt_s,
		s->prompt_s > 0 ? computed / s->prompt_s : 0.0, s->n_answer, s->answer_s,
		s->answer_s > 0 ? s->n_answer / s->answer_s : 0.0, (unsigned long long)s->sampling.seed);
}
