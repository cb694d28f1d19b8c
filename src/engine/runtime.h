/*
 * Everything one process needs to compute: device, weights, cache pool, communication group, model.
 *
 * The fields are public: commands that measure or verify a model use them directly. One thread.
 */
#ifndef ENGINE_RUNTIME_H
#define ENGINE_RUNTIME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cpu.h"
#include "base/error.h"
#include "comm/comm.h"
#include "kernel/kernel.h"
#include "kv/kv.h"
#include "model/batch.h"
#include "model/model.h"
#include "weights/weights.h"

/* What a process will hold, known before anything large is allocated. */
struct runtime_budget {
	size_t weights_bytes; /* packed */
	size_t buffer_bytes;  /* while loading */
	size_t cache_bytes;
	uint64_t cache_tokens;
	size_t workspace_bytes; /* of a step, and what its sequences take beside the cache */
	size_t limit_bytes;
};

struct runtime_options {
	enum cpu_isa isa;    /* CPU_ISA_COUNT: the best supported */
	int threads;         /* 0: one per core */
	bool pin;
	bool mtp;            /* load the MTP layer if there is one */
	bool progress;
	enum weights_quantization quantization;
	uint32_t block_tokens;
	uint32_t max_context_tokens; /* of one sequence; 0: what config.json allows, 8192 at most */
	const char *max_context_name; /* in errors: the flag that sets it */
	uint32_t max_seqs;
	uint32_t max_batch_tokens;
	uint32_t max_outputs;        /* logits rows of one forward */
	size_t cache_bytes;          /* 0: for max_seqs sequences of max_context_tokens */
	bool cache_may_shrink;       /* then to what memory leaves, but not below one sequence */
	size_t memory_limit_bytes;   /* 0: the memory available to the process */
	const char *memory_limit_name; /* in errors: the flag, or "free memory" */
	/* Called with the budget before the weights are read, when not NULL. */
	void (*report)(void *arg, const struct runtime_budget *budget);
	void *report_arg;
};

/* Best ISA, all cores, no MTP, blocks of 64 tokens, one sequence, chunks of 512, one output row. */
struct runtime_options runtime_options_default(void);

struct runtime {
	struct kernel *kn;
	struct comm_group *tp;
	struct model_weights *weights;
	struct kv_pool *pool; /* room for at least one sequence of max_context_tokens */
	struct model *model;
	struct batch_limits limits;
	struct batch *batch;  /* batch_bytes(&limits) */
	uint32_t max_context_tokens;
	uint32_t n_blocks; /* of the pool */
};

/* Loads the checkpoint directory `dir`. E_NOMEM, before anything is read, when the budget exceeds the
 * limit. */
enum status runtime_open(struct runtime *rt, const char *dir, const struct runtime_options *options,
	struct error *err);
/* The same with random weights of a shape (bench model). */
enum status runtime_open_random(struct runtime *rt, const struct model_config *config,
	enum weight_format format, uint64_t seed, const struct runtime_options *options,
	struct error *err);
void runtime_close(struct runtime *rt); /* also after a failed open of a zeroed runtime */

#endif
