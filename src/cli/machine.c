/* Options of the commands that compute (cli/machine.h). */
#include "cli/machine.h"

#include <string.h>

#include "base/log.h"

#define ISA_HELP "Instruction set tier (default auto: the best this machine has)."

#define ROWS(...)                                                                                  \
	{ .name = "isa", .offset = offsetof(struct machine_values, isa), __VA_ARGS__ },            \
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
	{ .name = "progress", .type = OPT_SWITCH,                                                  \
		.offset = offsetof(struct machine_values, progress),                               \
		.help = "Progress bars of long work, on a terminal (default: yes)." },               \
	{ .name = "log-level", .type = OPT_CHOICE, .choices = LOG_LEVEL_CHOICES,                   \
		.offset = offsetof(struct machine_values, log_level),                              \
		.help = "What to report on stderr (default warn)." },

#define QUANTIZATION MACHINE_QUANTIZATION(offsetof(struct machine_values, quantization)),

#define TIERS "ref|avx2|avx512|amx"

const struct opt machine_opts[] = {
	ROWS(.type = OPT_CHOICE, .choices = "auto|" TIERS, .help = ISA_HELP) QUANTIZATION{ 0 }
};

const struct opt machine_opts_all[] = {
	ROWS(.type = OPT_CHOICE, .choices = "auto|all|" TIERS, .help = ISA_HELP " all: every tier it has.") QUANTIZATION{ 0 }
};

const struct opt machine_opts_isas[] = {
	ROWS(.type = OPT_STRING, .value = "TIER,...",
		.help = "Instruction set tiers, of ref, avx2, avx512 and amx (default auto: the best this machine "
			"has). all: every tier it has."){ 0 }
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

/* The tier named by the n letters at `name`. */
static enum status isa_of_list(enum cpu_isa *out, const char *name, size_t n, struct error *err)
{
	for (int i = 0; i < CPU_ISA_COUNT; i++) {
		const char *known = cpu_isa_name((enum cpu_isa)i);

		if (strlen(known) == n && strncmp(known, name, n) == 0)
			return machine_isa(out, known, err);
	}
	return error_set(err, E_INVAL, "--isa: found '%.*s', expected auto or all alone, or some of ref, avx2, avx512, amx",
		(int)(n < 40 ? n : 40), name);
}

enum status machine_isas(struct machine_isas *out, const char *list, struct error *err)
{
	struct machine_isas l = { .isa = { cpu_isa_best() }, .n = 1 };

	if (strcmp(list, "auto") != 0) {
		l.n = 0;
		for (int i = 0; strcmp(list, "all") == 0 && i < CPU_ISA_COUNT; i++) {
			if (cpu_isa_supported((enum cpu_isa)i))
				l.isa[l.n++] = (enum cpu_isa)i;
		}
	}
	for (const char *at = list; l.n == 0 || *at == ',';) {
		size_t n;

		at += *at == ',';
		n = strcspn(at, ",");
		if (l.n == CPU_ISA_COUNT)
			return error_set(err, E_INVAL, "--isa: found more than %d tiers", CPU_ISA_COUNT);
		TRY(isa_of_list(&l.isa[l.n++], at, n, err));
		at += n;
	}
	*out = l;
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
	if (v->memory_limit)
		o.memory_limit_name = "--memory-limit";
	*out = o;
	return OK;
}
