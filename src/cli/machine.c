/* Options of the commands that compute (cli/machine.h). */
#include "cli/machine.h"

#include <string.h>

#include "base/log.h"

#define ROWS(isa_choices, isa_more)                                                                \
	{ .name = "isa", .type = OPT_CHOICE, .choices = isa_choices,                               \
		.offset = offsetof(struct machine_values, isa),                                    \
		.help = "Instruction set tier (default auto: the best this machine has)." isa_more }, \
	{ .name = "threads", .type = OPT_INT, .value = "N", .min = 0, .max = 4096,                 \
		.offset = offsetof(struct machine_values, threads),                                \
		.help = "Compute threads (default 0: one per core)." },                            \
	{ .name = "pin", .type = OPT_SWITCH, .offset = offsetof(struct machine_values, pin),       \
		.help = "Keep each thread on its core (default: yes)." },                          \
	{ .name = "max-model-len", .type = OPT_SIZE, .value = "TOKENS", .min = 1,                  \
		.max = 1 << 30, .offset = offsetof(struct machine_values, max_model_len),          \
		.help = "Context of one sequence, prompt and answer (default: the model's, at most " \
			"8192)." },                                                                \
	{ .name = "block-size", .type = OPT_INT, .value = "TOKENS", .min = 1,                      \
		.max = KV_MAX_BLOCK_TOKENS, .offset = offsetof(struct machine_values, block_size), \
		.help = "Tokens in one cache block, a power of two (default 64). Changes no result." }, \
	{ .name = "max-num-batched-tokens", .type = OPT_SIZE, .value = "TOKENS", .min = 1,         \
		.max = 1 << 20, .offset = offsetof(struct machine_values, max_num_batched_tokens), \
		.help = "Prompt tokens computed at a time (default 512). Changes no result." },    \
	{ .name = "memory-limit", .type = OPT_SIZE, .value = "BYTES", .min = 1, .max = 1e15,       \
		.offset = offsetof(struct machine_values, memory_limit),                           \
		.help = "Refuse to hold more than this, such as 20G (default: the memory available)." }, \
	MACHINE_QUANTIZATION(offsetof(struct machine_values, quantization)),                       \
	{ .name = "progress", .type = OPT_SWITCH,                                                  \
		.offset = offsetof(struct machine_values, progress),                               \
		.help = "Progress bars of long work, on a terminal (default: yes)." },               \
	{ .name = "log-level", .type = OPT_CHOICE, .choices = LOG_LEVEL_CHOICES,                   \
		.offset = offsetof(struct machine_values, log_level),                              \
		.help = "What to report on stderr (default warn)." },

const struct opt machine_opts[] = { ROWS("auto|ref|avx2|avx512|amx", ""){ 0 } };

const struct opt machine_opts_all[] = {
	ROWS("auto|all|ref|avx2|avx512|amx", " all: every tier it has."){ 0 }
};

struct machine_values machine_defaults(void)
{
	struct runtime_options o = runtime_options_default();

	return (struct machine_values){
		.isa = "auto",
		.log_level = "warn",
		.pin = o.pin,
		.block_size = o.block_tokens,
		.max_num_batched_tokens = o.max_batch_tokens,
		.progress = true,
	};
}

enum status machine_isa(enum cpu_isa *out, const char *name, struct error *err)
{
	enum cpu_isa isa = CPU_ISA_COUNT;

	if (strcmp(name, "auto") != 0) {
		isa = cpu_isa_parse(name);
		BUG_ON(isa == CPU_ISA_COUNT); /* the option's choices */
		if (!cpu_isa_supported(isa))
			return error_set(err, E_UNSUPPORTED, "--isa %s: this machine has %s at most", name,
				cpu_isa_name(cpu_isa_best()));
	}
	*out = isa;
	return OK;
}

enum weights_quantization machine_quantization(const struct machine_values *v)
{
	return v->quantization ? weights_quantization_parse(v->quantization) : QUANTIZATION_STORED;
}

enum status machine_runtime_options(struct runtime_options *out, const struct machine_values *v,
	struct error *err)
{
	struct runtime_options o = runtime_options_default();

	log_set_level(log_level_parse(v->log_level));
	TRY(machine_isa(&o.isa, v->isa, err));
	o.threads = (int)v->threads;
	o.pin = v->pin;
	o.progress = v->progress;
	o.quantization = machine_quantization(v);
	o.block_tokens = (uint32_t)v->block_size;
	o.max_context_tokens = (uint32_t)v->max_model_len;
	o.max_batch_tokens = (uint32_t)v->max_num_batched_tokens;
	o.memory_limit_bytes = (size_t)v->memory_limit;
	*out = o;
	return OK;
}
