/*
 * Attention calls with made-up contents, for the tests. A value follows from
 * (what, sequence id, position, index) alone, so the same token can be computed in any chunk, batch
 * and block size and its bits compared.
 */
#ifndef TESTS_KERNEL_MLA_CASE_H
#define TESTS_KERNEL_MLA_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/kernel.h"

struct mla_shape {
	uint32_t heads;
	uint32_t nope;
	uint32_t rope;
	uint32_t v_dim;
	uint32_t kv_lora;
	enum weight_format format; /* of kv_b */
	/* Decode: keys repeat every 512 positions while every eighth column of the values changes
	 * sign, so that sums over whole splits cancel and their rounding, hence their order, shows.
	 */
	bool cancel;
	bool scales_exact; /* F8_BLOCK: scales are powers of two */
};

/* Rows of one sequence in a call. */
struct mla_chunk {
	uint32_t id;
	uint32_t pos0;
	uint32_t rows;
};

enum mla_form { MLA_PROMPT, MLA_DECODE };

/* Everything a call needs, in memory of its own; unused cache slots hold NaN. */
struct mla_case {
	enum mla_form form;
	struct mla_shape shape;
	float scale;
	uint32_t n_chunks;
	uint32_t rows;
	struct mla_seq *seqs;
	struct kv_view cache;
	struct weight kv_b_k;
	struct weight kv_b_v;
	struct act q_nope;
	uint16_t *q_rope;
	uint16_t *q_lat;
	struct act out_act; /* prompt */
	uint16_t *out;	    /* [rows, heads, mla_case_width()], after mla_case_run() */
	void *mem[16];	    /* owned */
	uint32_t n_mem;
};

/* Values of one head's output. */
uint32_t mla_case_width(const struct mla_case *c);

void mla_case_init(struct mla_case *c, enum mla_form form, const struct mla_shape *shape,
	uint32_t block_tokens, const struct mla_chunk *chunks, uint32_t n_chunks);
void mla_case_deinit(struct mla_case *c);

/* Runs the op; returns false if it wrote outside its output. */
bool mla_case_run(struct mla_case *c, struct kernel *kn);

/* The formula in double, without intermediate rounding. out: [rows, heads, mla_case_width()]. */
void mla_case_naive(const struct mla_case *c, double *out);

/* Scratch for cases up to these sizes. */
struct kernel_limits mla_case_limits(const struct mla_shape *shape, uint32_t max_rows);

#endif
