/*
 * The op table: everything a model computes, on one device.
 *
 * A `struct kernel` is a device with its threads and ISA tier. The model calls the kernel_*
 * functions below; each is one entry of `struct kernel_ops`, which the CPU backend fills and a GPU
 * backend can fill too. Every op is one fork and join over the compute pool.
 *
 * Contract of all ops (DESIGN.md section 4):
 *  - The result of a row (token) depends on that row's inputs alone: not on the other rows, not on
 *    how many there are, not on the thread count, not on the cache block size.
 *  - K loops run in one order, in blocks that do not depend on M. Threads split output rows and
 *    tokens, never a sum.
 *  - Ops do not allocate, lock or fail. Sizes are the caller's promise (BUG_ON at the door).
 *  - Accumulators, norms, softmax and routing are F32. Products take BF16 inputs where weights are
 *    BF16 or FP8, 8-bit integers where weights are integers: those sums are exact, so that all tiers
 *    give the same bits.
 * One caller at a time: the engine thread.
 */
#ifndef KERNEL_KERNEL_H
#define KERNEL_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cpu.h"
#include "base/error.h"
#include "kernel/weight.h"

struct kernel;

struct kernel_config {
	enum cpu_isa isa; /* a tier the machine has */
	int threads;      /* 0: one per core available to the process */
	bool pin;
};

enum status kernel_create(struct kernel **out, const struct kernel_config *config,
	struct error *err);
void kernel_destroy(struct kernel *kn);
enum cpu_isa kernel_isa(const struct kernel *kn);
/* Computes in another tier from now on: weights, caches and scratch are the same for all of them. */
enum status kernel_set_isa(struct kernel *kn, enum cpu_isa isa, struct error *err);
int kernel_threads(const struct kernel *kn);

/* Runs fn(arg, thread, n_threads) on every compute thread, for ops, loading and first touch. F32
 * denormals count as zero meanwhile. */
void kernel_parallel(struct kernel *kn, void (*fn)(void *arg, int thread, int n_threads), void *arg);

/*
 * Scratch that the ops below need beyond their arguments, for the largest call to come. Called once
 * when the model's sizes are known, before any op that takes an mla_ or moe_ argument.
 */
struct kernel_limits {
	uint32_t max_rows;    /* tokens of a batch */
	uint32_t heads;
	uint32_t kv_lora;
	uint32_t rope;
	uint32_t nope;
	uint32_t v_dim;
	uint32_t max_context; /* tokens of one sequence */
};
enum status kernel_reserve(struct kernel *kn, const struct kernel_limits *limits, struct error *err);
size_t kernel_scratch_bytes(const struct kernel *kn);

/* --- activations ------------------------------------------------------------------------------ */

/* Inputs of products, converted once and shared by every product that reads them. */
enum act_kind {
	ACT_F32,  /* the router's input; what is still to be quantized */
	ACT_BF16, /* for BF16 and FP8 weights */
	ACT_I8,   /* for integer weights: bytes q + 128, then the row's scale (F32) in its last 64 bytes */
};

/*
 * How ACT_I8 is made of F32 values (spec: ascend, 2d), with halves rounded to even:
 *  - static, input_scale > 0: q = x / input_scale + input_offset, held in -128 .. 127. The row's scale
 *    is 1, as the weights' scales contain input_scale.
 *  - by row, input_scale 0: q = x / s, s = max|x| / 127. The row's scale is s.
 */
struct act {
	enum act_kind kind;
	uint32_t rows;
	uint32_t k;           /* values in a row */
	size_t stride_bytes;  /* between rows; a multiple of 64 */
	uint8_t *data;        /* [rows][stride_bytes]; columns k..k_padded are readable */
	float input_scale;    /* ACT_I8 */
	float input_offset;
};

/* The kind of input that products with this weight format read. */
enum act_kind act_kind_for(enum weight_format format);
/* Row stride for k values of a kind, with K padding. */
size_t act_stride_bytes(enum act_kind kind, uint32_t k);
/* A view over `mem` (64-byte aligned, rows * stride bytes, zeroed once by its owner). */
struct act act_view(void *mem, enum act_kind kind, uint32_t rows, uint32_t k);
/* A view for what products with w read: its kind, K and quantization. */
struct act act_for(void *mem, const struct weight *w, uint32_t rows);
/* Whether both read the same bytes. */
bool act_same(const struct weight *a, const struct weight *b);
/* The scale of an ACT_I8 row. */
float *act_row_scale(const struct act *a, size_t row);

/* --- embedding and norms ---------------------------------------------------------------------- */

/* out[i] = row ids[i] of table. table: BF16 [vocab, hidden]; out: F32 [n, hidden]. */
void kernel_embed(struct kernel *kn, float *out, const uint16_t *table, const int32_t *ids, uint32_t n,
	uint32_t hidden);

/*
 * RMSNorm of rows, statistics in F32: y = x / sqrt(mean(x^2) + eps) * weight (+ bias when given).
 * If `add` is not NULL, x[i] += add[i] is stored first (the residual step after a reduction).
 * Row i of x starts at x + i * x_stride (elements) and has n values. Any of out_f32 (row stride n)
 * and out_act (k = n) may be NULL; both are filled when given.
 */
struct rmsnorm_args {
	float *x;           /* [rows, n], stride x_stride */
	size_t x_stride;
	const float *add;   /* [rows, n] or NULL, stride n */
	const float *weight; /* [n] */
	const float *bias;  /* [n] or NULL */
	float eps;
	uint32_t rows;
	uint32_t n;
	float *out_f32;
	struct act *out_act;
};
void kernel_rmsnorm(struct kernel *kn, const struct rmsnorm_args *args);

/* x += add, [n] values in all: the last residual step, where no norm follows. */
void kernel_add(struct kernel *kn, float *x, const float *add, size_t n);

/* F32 rows (stride in elements) to an act. */
void kernel_act_from_f32(struct kernel *kn, struct act *out, const float *x, size_t x_stride);

/* --- products --------------------------------------------------------------------------------- */

enum gemm_epilogue {
	GEMM_STORE_F32,  /* out_f32[i * out_stride + row] */
	GEMM_STORE_BF16, /* out_bf16[i * out_stride + row], rounded to nearest even */
	/* Gate/up interleaved weight, n a multiple of 64: out_act row i = SiLU(gate) * up, width n / 2, as
	 * BF16 or F32. */
	GEMM_SILU_MUL,
};

/*
 * Y = A W^T for m rows of A. `rows` gathers: input row of product row i is rows[i] (NULL: i).
 * The weight may be a slice made by weight_rows(). Jobs of one call must not write the same output.
 */
struct gemm_job {
	const struct act *a;
	const int32_t *rows;
	uint32_t m;
	struct weight w;
	enum gemm_epilogue epilogue;
	float *out_f32;
	uint16_t *out_bf16;
	size_t out_stride; /* elements */
	struct act *out_act;
	uint32_t out_row0; /* GEMM_SILU_MUL: first row of out_act */
};

/*
 * All jobs as one list of (job, slab of panels) tasks with one join: the fused projections of a
 * layer, the heads of an absorbed product, the experts of a MoE layer with the shared one.
 */
void kernel_gemm(struct kernel *kn, const struct gemm_job *jobs, uint32_t n_jobs);

/* --- positions and latent cache --------------------------------------------------------------- */

/* cos/sin of position * frequency, F32 products (spec: model, 3.3): computed per position on use. */
struct rope_table {
	const float *freq; /* [rope / 2], YaRN already applied */
	uint32_t rope;     /* dimensions, even */
	float mscale;      /* factor on cos and sin */
};

/* Paged latent cache of one layer: rows of kv_lora normed latents, then rope rotated key values. */
struct kv_view {
	uint8_t *base;        /* block b starts at base + b * block_stride_bytes */
	size_t block_stride_bytes;
	uint32_t block_tokens; /* power of two */
	uint32_t kv_lora;
	uint32_t rope;
};

/* Bytes of one cached token in one layer (BF16). */
size_t kernel_kv_row_bytes(uint32_t kv_lora, uint32_t rope);

/* One sequence's rows in an attention call. Its cache already holds positions 0 .. pos0 + rows - 1
 * once kernel_kv_write has run for them. */
struct mla_seq {
	uint32_t row0;          /* first row in q and out */
	uint32_t rows;          /* consecutive positions pos0, pos0 + 1, ... */
	uint32_t pos0;
	const int32_t *blocks;  /* [ceil((pos0 + rows) / block_tokens)] */
};

/*
 * Per token: c = rmsnorm(kv[0 .. kv_lora)), k = rope(kv[kv_lora ..), position), stored as BF16 in
 * the sequence's block. kv: F32 [rows, kv_lora + rope], stride kv_stride elements.
 */
struct kv_write_args {
	const float *kv;
	size_t kv_stride;
	const float *norm_weight; /* kv_a_layernorm [kv_lora] */
	const float *norm_bias;   /* or NULL */
	float eps;
	struct rope_table rope;
	struct kv_view cache;
	const struct mla_seq *seqs;
	uint32_t n_seqs;
};
void kernel_kv_write(struct kernel *kn, const struct kv_write_args *args);

/*
 * Splits and rotates queries: q F32 [rows, heads, nope + rope] becomes q_nope (act per head: row
 * stride of `nope_act` is one token, head h at column h * nope) and q_rope BF16 [rows, heads, rope].
 * pos: [rows].
 */
struct q_rope_args {
	const float *q;
	uint32_t rows;
	uint32_t heads;
	uint32_t nope;
	struct rope_table rope;
	const int32_t *pos;
	struct act *nope_act;  /* BF16 [rows, heads * nope_padded], nope_padded = multiple of 32 */
	uint16_t *q_rope;      /* [rows, heads, rope] */
};
void kernel_q_rope(struct kernel *kn, const struct q_rope_args *args);

/*
 * Attention in expanded form, for prompt tokens: keys and values of each head are made from the
 * cached latents by kv_b once per call, in tiles of keys at fixed positions, softmax in F32
 * (spec: model, 3.2 and 3.4). Causal. out: BF16 or F32 act [rows of the batch, heads * v_dim]; only
 * the rows of `seqs` are written.
 */
struct mla_prompt_args {
	const struct act *q_nope; /* as written by kernel_q_rope */
	const uint16_t *q_rope;
	uint32_t heads;
	uint32_t nope;
	uint32_t v_dim;
	float scale;
	struct weight kv_b_k; /* [heads * nope, kv_lora] */
	struct weight kv_b_v; /* [heads * v_dim, kv_lora] */
	struct kv_view cache;
	const struct mla_seq *seqs;
	uint32_t n_seqs;
	struct act *out;
};
void kernel_mla_prompt(struct kernel *kn, const struct mla_prompt_args *args);

/*
 * Attention in absorbed form, for generated tokens: q_lat [rows, heads, kv_lora] BF16 is
 * K_h^T q_nope, out_lat [rows, heads, kv_lora] BF16 is the weighted sum of latents, to be
 * multiplied by V_h. Keys are split at fixed positions and merged in order.
 */
struct mla_decode_args {
	const uint16_t *q_lat;
	const uint16_t *q_rope; /* [rows, heads, rope] */
	uint32_t heads;
	float scale;
	struct kv_view cache;
	const struct mla_seq *seqs;
	uint32_t n_seqs;
	uint16_t *out_lat;
};
void kernel_mla_decode(struct kernel *kn, const struct mla_decode_args *args);

/* --- mixture of experts ----------------------------------------------------------------------- */

enum route_score { ROUTE_SIGMOID, ROUTE_SOFTMAX };
enum route_group { ROUTE_GROUP_NONE, ROUTE_GROUP_TOP2_SUM, ROUTE_GROUP_MAX };

/*
 * Chooses experts (spec: model, 3.5). logits: F32 [rows, experts]. ids come out in ascending order
 * of expert index with their gates: [rows, top_k]. margin (may be NULL) gets for each row the
 * smallest distance between a chosen and a refused expert or group, in choice scores.
 *
 * With `given`, ids holds on entry the experts that a row has to take, ascending, or a negative id in
 * the first place where the row chooses. Gates come from the row's own scores all the same. margin is
 * that of the row's own choice, and negated where this differs from the given one.
 */
struct route_args {
	const float *logits;
	uint32_t rows;
	uint32_t experts;
	uint32_t top_k;
	uint32_t groups;
	uint32_t top_groups;
	enum route_score score;
	enum route_group group;
	bool renormalize;
	float scaling;
	const float *bias; /* e_score_correction_bias [experts] or NULL */
	int32_t *ids;
	float *gates;
	float *margin;
	bool given;
};
void kernel_route(struct kernel *kn, const struct route_args *args);

/*
 * out[t] = shared[t] + sum over the token's experts of gate * y, added by a fixed binary tree over
 * expert indices (absent leaves skipped), so that the bits do not depend on placement
 * (spec: distributed, section 2 "Canonical order").
 */
struct moe_combine_args {
	float *out;              /* [rows, hidden] */
	const float *shared;     /* [rows, hidden] or NULL */
	const float *y;          /* [rows * top_k or fewer, hidden]: expert outputs, grouped by expert */
	const int32_t *slot;     /* [rows, top_k]: row of y for each chosen expert; negative: absent */
	const int32_t *ids;      /* [rows, top_k], ascending */
	const float *gates;      /* [rows, top_k] */
	uint32_t rows;
	uint32_t top_k;
	uint32_t experts;
	uint32_t hidden;
};
void kernel_moe_combine(struct kernel *kn, const struct moe_combine_args *args);

#endif
