/*
 * Options of a synthetic model: real layer shapes, random weights, no checkpoint. What the benchmarks of
 * speed share.
 */
#ifndef CLI_SHAPE_H
#define CLI_SHAPE_H

#include <stdint.h>

#include "base/error.h"
#include "base/opt.h"
#include "weights/weights.h"

/* First member of the struct of values after struct machine_values: offsets count from there. */
struct shape_values {
	const char *shape; /* NULL: none was named */
	const char *format;
	int64_t dense_layers;
	int64_t moe_layers;
	int64_t vocab;
	int64_t experts; /* 0: as the shape */
	int64_t seed;
};

/* No shape, bf16, one layer of each kind, 16384 tokens, seed 1. */
struct shape_values shape_defaults(void);

/* Rows of an option table for a `struct shape_values` at `offset`; `more` describes the default of --shape. */
#define SHAPE_ROWS(at, more)                                                                       \
	{ .name = "shape", .type = OPT_CHOICE, .choices = "v3.1|kimi-k2|moonlight|v2-lite",        \
		.offset = (at) + offsetof(struct shape_values, shape),                             \
		.help = "Model to imitate with random weights (" more ")." },                      \
	{ .name = "format", .type = OPT_CHOICE, .choices = "bf16|fp8|w8a8|w4a8",                            \
		.offset = (at) + offsetof(struct shape_values, format),                            \
		.help = "Weight format (default bf16); w4a8: experts of 4 bits, the rest w8a8." },                                        \
	{ .name = "dense-layers", .type = OPT_INT, .value = "N", .min = 0, .max = 128,             \
		.offset = (at) + offsetof(struct shape_values, dense_layers),                      \
		.help = "Layers with a dense MLP (default 1)." },                                  \
	{ .name = "moe-layers", .type = OPT_INT, .value = "N", .min = 0, .max = 128,               \
		.offset = (at) + offsetof(struct shape_values, moe_layers),                        \
		.help = "Layers with experts (default 1)." },                                      \
	{ .name = "vocab", .type = OPT_SIZE, .value = "N", .min = 32, .max = 1 << 20,              \
		.offset = (at) + offsetof(struct shape_values, vocab),                             \
		.help = "Vocabulary (default 16384)." },                                           \
	{ .name = "experts", .type = OPT_INT, .value = "N", .min = 1, .max = 4096,                 \
		.offset = (at) + offsetof(struct shape_values, experts),                           \
		.help = "Routed experts of a layer (default: as the shape, or as many as memory holds; a " \
			"token still chooses as many)." },                                         \
	{ .name = "seed", .type = OPT_INT, .value = "N", .min = 0, .max = 9007199254740992.0,      \
		.offset = (at) + offsetof(struct shape_values, seed),                              \
		.help = "Seed of weights and tokens (default 1)." }

/* The named shape, cut to the layers, vocabulary and experts asked for. */
enum status shape_config(struct model_config *out, const struct shape_values *v, struct error *err);
enum weight_format shape_format(const struct shape_values *v);
/*
 * Half the experts, as long as a token still has a choice among them: the work of one token stays the
 * same. False when there is nothing to halve, or --experts says how many.
 */
bool shape_halve_experts(struct model_config *c, const struct shape_values *v);
/* Says so on stderr when there are fewer experts than the shape has. */
void shape_report_experts(const struct model_config *c, const struct shape_values *v);

#endif
