/*
 * What the parts of `fathom verify` share: the golden file, and what one tier made of it.
 *
 * verify.c is the command, verify_golden.c reads the file and verify_routes.c the one beside it,
 * verify_run.c computes, verify_report.c prints.
 *
 * A golden file holds, for prompts N = 0, 1, ...: prompt.N.ids I32 [T], prompt.N.logits F32
 * [T, vocab], optionally prompt.N.margin F32 [T] (the smallest distance between a chosen and a refused
 * expert or group), prompt.N.mtp_logits F32 [T - 1, vocab] with mtp_margin; and optionally
 * prompt.1.residual F32 [layers, T, hidden], greedy.ids I32 [G] with greedy.margin F32 [G] (greedy
 * continuation of prompt 1; first minus second logit), draft.ids I32 [D] (chained MTP drafts after
 * prompt 1 and the first greedy token).
 *
 * A token whose routing is nearly tied takes another expert under any rounding, and drags the tokens
 * after it. Hence routes.safetensors in the same folder may name the reference's experts: prompt.N.experts
 * I32 [MoE layers, T, k] and, where there are mtp_logits, prompt.N.mtp_experts I32 [T - 1, k], ascending
 * in a row. Prompts are then computed with them, no position is left out, and the tail has closer limits.
 * The routers are judged by what they would have chosen: where that differs, their margin must be below
 * VERIFY_MARGIN, or as much more as the limit is more than 0.035. Greedy steps and drafts choose freely.
 */
#ifndef CLI_VERIFY_H
#define CLI_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "cli/machine.h"
#include "weights/config.h"

#define VERIFY_MAX_PROMPTS 64u
#define VERIFY_MARGIN 0.02f /* below: the routing of a position is nearly tied, any rounding may flip it */
#define VERIFY_TRACED 1u    /* the prompt with residual, greedy and drafts */

struct golden_prompt {
	uint32_t n;
	int32_t *ids;      /* [n] */
	float *logits;     /* [n, vocab] */
	float *margin;     /* [n] or NULL */
	float *mtp_logits; /* [n - 1, vocab] or NULL */
	float *mtp_margin; /* [n - 1] or NULL */
	int32_t *experts;     /* [MoE layers, n, k] or NULL: no routes */
	int32_t *mtp_experts; /* [n - 1, k] or NULL */
};

struct golden {
	struct golden_prompt prompts[VERIFY_MAX_PROMPTS];
	uint32_t n_prompts;
	uint32_t max_tokens; /* of a prompt with its continuation */
	bool mtp;
	bool routes; /* all prompts have experts */
	float *residual;      /* [layers, n of prompt 1, hidden] or NULL */
	int32_t *greedy;      /* [n_greedy] */
	float *greedy_margin; /* [n_greedy] or NULL */
	uint32_t n_greedy;
	int32_t *draft; /* [n_draft] */
	uint32_t n_draft;
};

/* Dtypes, shapes and ids are checked against the model's configuration. */
enum status golden_load(struct golden *g, const char *path, const struct model_config *config,
	struct error *err);
void golden_deinit(struct golden *g); /* also after a failed load */

/* The path of the routes file that belongs to a golden file; it need not exist. */
void routes_path(struct buf *out, const char *golden_path);
/* Adds the experts of all prompts of a loaded file; dtypes, shapes and ids are checked likewise. */
enum status golden_load_routes(struct golden *g, const char *path, const struct model_config *config,
	struct error *err);

/* How far the rows of one or more prompts are from the golden ones. */
struct row_stats {
	uint32_t rows; /* compared */
	uint32_t used; /* of them with a clear routing; the figures below are over these */
	double median; /* of the rms difference of a row's logits */
	double p90;
	double max;
	double kl;     /* mean KL divergence from the golden distribution, nats */
	double argmax; /* fraction of rows with the same likeliest token */
};

/* With routes: what the routers themselves would have done. */
struct route_stats {
	uint32_t rows;
	uint32_t differ; /* of them would have taken other experts in some layer */
	double margin;   /* largest margin with which a router would have */
};

struct verify_result {
	enum cpu_isa isa;
	int threads;
	struct row_stats main[VERIFY_MAX_PROMPTS], mtp[VERIFY_MAX_PROMPTS];
	struct row_stats main_all, mtp_all;
	struct route_stats routes, mtp_routes;
	uint32_t greedy_prefix; /* first steps as expected: those of free running */
	uint32_t greedy_clear;  /* steps whose margins are clear of the error */
	uint32_t greedy_same;   /* of them as expected */
	uint32_t draft_clear;
	uint32_t draft_same;
	double *layers; /* owned [n_layers]: median relative error of the residual; NULL: not asked */
	uint32_t n_layers;
	uint64_t digest; /* FNV-1a over the bits of all logits */
	double seconds;
};
void verify_result_deinit(struct verify_result *r);

struct verify_options {
	bool decode; /* prompts are computed as generated tokens */
	bool layers;
};

/* Computes everything in `g` with an opened runtime. */
enum status verify_run(struct verify_result *out, struct runtime *rt, const struct golden *g,
	const struct verify_options *o, bool progress, struct error *err);

/* Of the median rms error of all prompts' rows. */
struct verify_limits {
	double main;
	double mtp;
};

/* What is wrong with a result; false when nothing. */
bool verify_failed(const struct verify_result *r, const struct verify_limits *limits, struct error *err);

struct verify_report {
	const char *model;
	const char *path;   /* of the golden file */
	const char *routes; /* path of the routes file, or NULL: routed freely */
	struct verify_limits limits;
	bool digest;
	const struct golden *golden;
};
void verify_put_table(struct buf *out, const struct verify_report *rep,
	const struct verify_result *results, uint32_t n);
void verify_put_json(struct buf *out, const struct verify_report *rep,
	const struct verify_result *results, uint32_t n);

#endif
