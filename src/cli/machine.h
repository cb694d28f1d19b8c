/*
 * Options of every command that computes with a model: ISA tier, threads, cache and memory.
 *
 * A command embeds struct machine_values as the FIRST member of its values and names a list of
 * machine options in its table; machine_runtime_options() makes the engine's options of them.
 */
#ifndef CLI_MACHINE_H
#define CLI_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/opt.h"
#include "engine/runtime.h"

struct machine_values {
	const char *isa;
	int64_t threads;
	bool pin;
	int64_t block_size;
	int64_t max_model_len;
	int64_t max_num_batched_tokens;
	int64_t memory_limit;
	bool progress;
	const char *log_level;
	const char *quantization; /* NULL: as stored */
};

/* The row of --quantization, for tables that list machine options one by one. `at`: its offset. */
#define MACHINE_QUANTIZATION(at)                                                                   \
	{ .name = "quantization", .letter = 'q', .type = OPT_CHOICE, .choices = WEIGHTS_QUANTIZATIONS, .offset = (at), \
		.help = "w8a8_dynamic: make float linear layers (FP8, BF16) INT8 while loading, with a scale for each " \
			"row, and quantize their inputs by token; kv_b_proj, router and head stay. fp8 and ascend ask " \
			"for checkpoints that are so. Default: what the checkpoint says." }

struct machine_values machine_defaults(void);

extern const struct opt machine_opts[];
/* The same, where --isa also takes "all". */
extern const struct opt machine_opts_all[];

/* For random weights: --isa takes a list of tiers, for machine_isas(), and there is nothing to quantize. */
extern const struct opt machine_opts_isas[];

/* CPU_ISA_COUNT for "auto". E_UNSUPPORTED when this machine lacks the tier. */
enum status machine_isa(enum cpu_isa *out, const char *name, struct error *err);

/* Tiers in the order asked for. */
struct machine_isas {
	enum cpu_isa isa[CPU_ISA_COUNT];
	int n;
};
/* "auto", "all" or names with commas between. */
enum status machine_isas(struct machine_isas *out, const char *list, struct error *err);

enum weights_quantization machine_quantization(const struct machine_values *v);

/* Sets the log level too. */
enum status machine_runtime_options(struct runtime_options *out, const struct machine_values *v,
	struct error *err);

#endif
