/*
 * The calls of `fathom bench kernel` (cli/bench_kernel.h), as the model makes them.
 *
 * Contents: small numbers that are valid BF16, FP8 and F32 alike. They are made up, sizes and places are not.
 */
#include "cli/bench_kernel.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/random.h"

#define HIDDEN 7168u
#define HEADS 128u
#define NOPE 128u
#define ROPE 64u
#define V_DIM 128u
#define KV_LORA 512u
#define EXPERTS 256u
#define TOP_K 8u
#define BLOCK_TOKENS 64u
#define SCALE 0.0721688f /* 192^-1/2 */

/* The next n bytes of the cold buffer, from its beginning again where the rest is too short. */
static uint8_t *take_cold(struct kernel_call *c, size_t bytes)
{
	uint8_t *p;

	bytes = (bytes + 4095) / 4096 * 4096;
	if (bytes > c->cold_bytes - c->at)
		c->at = 0;
	p = c->cold + c->at;
	c->at += bytes;
	return p;
}

static size_t matrix_bytes(const struct weight *w)
{
	return weight_panels_bytes(w) + weight_scales_bytes(w);
}

static struct weight take_weight(struct kernel_call *c, uint32_t n, uint32_t k)
{
	struct weight w;

	weight_layout_groups(&w, c->format, n, k, c->group);
	weight_bind(&w, take_cold(c, matrix_bytes(&w)));
	return w;
}

/* What the model lets a product with SiLU write: BF16, or F32 that is still to be quantized. */
static enum act_kind mid_kind(const struct kernel_call *c)
{
	return act_kind_for(c->format) == ACT_I8 ? ACT_F32 : ACT_BF16;
}

static void run_product(struct kernel_call *c)
{
	const struct kernel_case *k = c->what;
	struct act a, mid;
	uint32_t n_jobs = k->n2 ? 2 : 1;

	for (uint32_t i = 0; i < n_jobs; i++) {
		struct weight w = take_weight(c, i ? k->n2 : k->n, k->k);

		c->jobs[i] = (struct gemm_job){ .a = &a, .m = c->m, .w = w, .epilogue = k->epilogue,
			.out_f32 = (float *)(void *)c->out + (size_t)i * c->m * k->n, .out_stride = w.n };
	}
	a = act_for(c->in, &c->jobs[0].w, c->m);
	if (k->epilogue == GEMM_SILU_MUL) {
		mid = act_view(c->mid, mid_kind(c), c->m, k->n / 2);
		c->jobs[0].out_act = &mid;
	}
	kernel_gemm(c->kn, c->jobs, n_jobs);
}

/* The router reads F32. */
static void run_router(struct kernel_call *c)
{
	struct act a = act_view(c->in, ACT_F32, c->m, c->what->k);

	kernel_gemm(c->kn, &(struct gemm_job){ .a = &a, .m = c->m, .w = take_weight(c, c->what->n, c->what->k),
				   .out_f32 = (float *)(void *)c->out, .out_stride = c->what->n },
		1);
}

/* One matrix per head. */
static void run_heads(struct kernel_call *c)
{
	uint32_t n = c->what->n, k = c->what->k;
	struct weight w = take_weight(c, HEADS * n, k);
	size_t stride = (size_t)HEADS * k;

	for (uint32_t h = 0; h < HEADS; h++) {
		c->views[h] = (struct act){ .kind = ACT_BF16, .rows = c->m, .k = k, .stride_bytes = stride * 2,
			.data = c->in + (size_t)h * k * 2 };
		c->jobs[h] = (struct gemm_job){ .a = &c->views[h], .m = c->m, .w = weight_rows(&w, h * n, n),
			.epilogue = GEMM_STORE_BF16, .out_bf16 = (uint16_t *)(void *)c->out + (size_t)h * n,
			.out_stride = (size_t)HEADS * n };
	}
	kernel_gemm(c->kn, c->jobs, HEADS);
}

/* Each token takes TOP_K experts, all equally likely. Counts rows of each, then lists their tokens. */
static uint32_t route(struct kernel_call *c, uint32_t first[EXPERTS + 1])
{
	uint8_t *chosen = c->mid; /* overwritten by the products */
	uint32_t at = 0;

	memset(chosen, 0, (size_t)c->m * EXPERTS);
	for (uint32_t t = 0; t < c->m; t++) {
		uint64_t draw = (c->calls * c->m + t) << 16;

		for (uint32_t n = 0; n < TOP_K;) {
			uint8_t *e = &chosen[(size_t)t * EXPERTS + random_u64(1, draw++) % EXPERTS];

			n += !*e;
			*e = 1;
		}
	}
	for (uint32_t e = 0; e < EXPERTS; e++) {
		first[e] = at;
		for (uint32_t t = 0; t < c->m; t++)
			if (chosen[(size_t)t * EXPERTS + e])
				c->ids[at++] = (int32_t)t;
	}
	first[EXPERTS] = at;
	return at;
}

static void run_experts_up(struct kernel_call *c)
{
	const struct kernel_case *k = c->what;
	uint32_t first[EXPERTS + 1], total = route(c, first), n = 0;
	struct act mid = act_view(c->mid, mid_kind(c), total + c->m, k->n / 2), a;

	for (uint32_t e = 0; e <= EXPERTS; e++) {
		bool shared = e == EXPERTS;
		uint32_t rows = shared ? c->m : first[e + 1] - first[e];

		if (rows)
			c->jobs[n++] = (struct gemm_job){ .a = &a, .rows = shared ? NULL : c->ids + first[e], .m = rows,
				.w = take_weight(c, k->n, k->k), .epilogue = GEMM_SILU_MUL, .out_act = &mid,
				.out_row0 = shared ? total : first[e] };
	}
	a = act_for(c->in, &c->jobs[0].w, c->m);
	kernel_gemm(c->kn, c->jobs, n);
}

static void run_experts_down(struct kernel_call *c)
{
	const struct kernel_case *k = c->what;
	uint32_t first[EXPERTS + 1], total = route(c, first), n = 0;

	for (uint32_t e = 0; e <= EXPERTS; e++) {
		uint32_t row0 = e == EXPERTS ? total : first[e];
		uint32_t rows = e == EXPERTS ? c->m : first[e + 1] - row0;
		struct weight w;

		if (!rows)
			continue;
		w = take_weight(c, k->n, k->k);
		c->views[n] = act_for(c->in, &w, rows);
		c->views[n].data += row0 * c->views[n].stride_bytes;
		c->jobs[n] = (struct gemm_job){ .a = &c->views[n], .m = rows, .w = w,
			.out_f32 = (float *)(void *)c->out + (size_t)row0 * k->n, .out_stride = k->n };
		n++;
	}
	kernel_gemm(c->kn, c->jobs, n);
}

/* n sequences of `rows` new tokens each, all behind the context, in blocks that follow those of the last call. */
static struct kv_view place_cache(struct kernel_call *c, uint32_t n, uint32_t rows)
{
	size_t block = kernel_kv_row_bytes(KV_LORA, ROPE) * BLOCK_TOKENS, pool = c->cold_bytes / block;
	uint32_t blocks = (c->context + rows + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
	size_t next = c->at / block;

	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t b = 0; b < blocks; b++)
			c->ids[(size_t)i * blocks + b] = (int32_t)(next++ % pool);
		c->seqs[i] = (struct mla_seq){ .row0 = i * rows, .rows = rows, .pos0 = c->context,
			.blocks = c->ids + (size_t)i * blocks };
	}
	c->at = next % pool * block;
	return (struct kv_view){ c->cold, block, BLOCK_TOKENS, KV_LORA, ROPE };
}

static void run_mla_decode(struct kernel_call *c)
{
	struct kv_view cache = place_cache(c, c->m, 1);
	uint16_t *q = (uint16_t *)(void *)c->in;

	kernel_mla_decode(c->kn, &(struct mla_decode_args){
		.q_lat = q,
		.q_rope = q + (size_t)c->m * HEADS * KV_LORA,
		.heads = HEADS,
		.scale = SCALE,
		.cache = cache,
		.seqs = c->seqs,
		.n_seqs = c->m,
		.out_lat = (uint16_t *)(void *)c->out,
	});
}

static void run_mla_prompt(struct kernel_call *c)
{
	struct kv_view cache = place_cache(c, 1, c->m);
	struct act q = act_view(c->in, ACT_BF16, c->m, HEADS * NOPE);
	struct act out = act_view(c->out, ACT_BF16, c->m, HEADS * V_DIM);

	kernel_mla_prompt(c->kn, &(struct mla_prompt_args){
		.q_nope = &q,
		.q_rope = (uint16_t *)(void *)(c->in + c->m * q.stride_bytes),
		.heads = HEADS,
		.nope = NOPE,
		.v_dim = V_DIM,
		.scale = SCALE,
		.kv_b_k = take_weight(c, HEADS * NOPE, KV_LORA),
		.kv_b_v = take_weight(c, HEADS * V_DIM, KV_LORA),
		.cache = cache,
		.seqs = c->seqs,
		.n_seqs = 1,
		.out = &out,
	});
}

#define MAX_M 2048u
#define MAX_SEQS 64u

const struct kernel_case kernel_cases[] = {
	{ "q_kv_a", "q_a_proj and kv_a_proj of the same rows", MAX_M, true, false, 1536, HIDDEN, KV_LORA + ROPE,
		GEMM_STORE_F32, run_product },
	{ "q_b", "q_b_proj", MAX_M, true, false, HEADS * (NOPE + ROPE), 1536, 0, GEMM_STORE_F32, run_product },
	{ "absorb_k", "queries times kv_b_proj's keys, head by head", MAX_SEQS, false, false, KV_LORA, NOPE, 0,
		GEMM_STORE_BF16, run_heads },
	{ "absorb_v", "latents times kv_b_proj's values, head by head", MAX_SEQS, false, false, V_DIM, KV_LORA,
		0, GEMM_STORE_BF16, run_heads },
	{ "o_proj", "o_proj", MAX_M, true, false, HIDDEN, HEADS * V_DIM, 0, GEMM_STORE_F32, run_product },
	{ "dense_up", "gate and up of a dense layer, with SiLU", MAX_M, true, false, 2 * 18432, HIDDEN, 0,
		GEMM_SILU_MUL, run_product },
	{ "dense_down", "down of a dense layer", MAX_M, true, false, HIDDEN, 18432, 0, GEMM_STORE_F32, run_product },
	{ "expert_up", "gate and up of one expert, with SiLU", MAX_M, true, false, 2 * 2048, HIDDEN, 0,
		GEMM_SILU_MUL, run_product },
	{ "expert_down", "down of one expert", MAX_M, true, false, HIDDEN, 2048, 0, GEMM_STORE_F32, run_product },
	{ "experts_up", "gate and up of a MoE layer: 8 of 256 experts for each row, and the shared one", MAX_M,
		true, false, 2 * 2048, HIDDEN, 0, GEMM_SILU_MUL, run_experts_up },
	{ "experts_down", "down of a MoE layer, likewise", MAX_M, true, false, HIDDEN, 2048, 0, GEMM_STORE_F32,
		run_experts_down },
	{ "router", "router, from F32", MAX_M, false, false, EXPERTS, HIDDEN, 0, GEMM_STORE_F32, run_router },
	{ "head", "logits", MAX_SEQS, false, false, 129280, HIDDEN, 0, GEMM_STORE_F32, run_product },
	{ "mla_decode", "absorbed attention of one new token in each of m sequences", MAX_SEQS, false, true, 0, 0, 0,
		GEMM_STORE_F32, run_mla_decode },
	{ "mla_prompt", "expanded attention of m tokens of one prompt", MAX_M, false, true, 0, 0, 0, GEMM_STORE_F32,
		run_mla_prompt },
	{ .name = NULL },
};

const struct kernel_case *kernel_case_find(const char *name)
{
	for (const struct kernel_case *k = kernel_cases; k->name; k++)
		if (strcmp(k->name, name) == 0)
			return k;
	return NULL;
}

struct fill {
	uint8_t *mem;
	size_t bytes;
	uint16_t exponent;
};

/* Neither BF16 values nor FP8 bytes are NaN, infinite or tiny; touched by the threads that read. */
static void fill_thread(void *arg, int thread, int n_threads)
{
	const struct fill *f = arg;
	uint16_t *out = (uint16_t *)(void *)f->mem;
	size_t n = f->bytes / sizeof(*out);

	for (size_t i = n / (size_t)n_threads * (size_t)thread, end = thread + 1 == n_threads
			? n : n / (size_t)n_threads * ((size_t)thread + 1); i < end; i++)
		out[i] = (uint16_t)(f->exponent | (i * 2654435761u >> 24 & 0x5F) | (i * 40503u & 0x8000));
}

static enum status map_filled(uint8_t **out, struct kernel_call *c, size_t bytes, uint16_t exponent,
	const char *what, struct error *err)
{
	struct fill f = { .bytes = bytes, .exponent = exponent };
	void *mem;

	TRY(mem_map(&mem, bytes, what, err));
	f.mem = mem;
	kernel_parallel(c->kn, fill_thread, &f);
	*out = mem;
	return OK;
}

/* The largest weight of the cases, as BF16; attention to prompts expands with two of its own. */
static size_t largest_weight(const struct kernel_case *const *cases, uint32_t n)
{
	size_t max = (size_t)HEADS * (NOPE + V_DIM) * KV_LORA * 2;

	for (uint32_t i = 0; i < n; i++) {
		size_t bytes = (size_t)cases[i]->n * cases[i]->k * 2;

		max = bytes > max ? bytes : max;
	}
	return max + 4096;
}

enum status kernel_call_map(struct kernel_call *c, const struct kernel_case *const *cases, uint32_t n,
	size_t cold_bytes, uint32_t max_m, uint32_t max_context, struct error *err)
{
	size_t seqs = max_m < MAX_SEQS ? max_m : MAX_SEQS, blocks = (max_context + max_m) / BLOCK_TOKENS + 1;
	size_t largest = largest_weight(cases, n);
	struct kernel_limits limits = { .max_rows = max_m, .heads = HEADS, .kv_lora = KV_LORA, .rope = ROPE,
		.nope = NOPE, .v_dim = V_DIM, .max_context = max_context + max_m };

	c->cold_bytes = cold_bytes > largest ? cold_bytes : largest;
	c->in_bytes = (size_t)max_m * 65536 + seqs * HEADS * (KV_LORA + ROPE) * 2;
	c->out_bytes = (size_t)max_m * (TOP_K + 1) * HIDDEN * sizeof(float) + seqs * 129280 * sizeof(float);
	c->mid_bytes = (size_t)max_m * (TOP_K + 1) * 2048 * sizeof(float);
	TRY(kernel_reserve(c->kn, &limits, err));
	TRY(map_filled(&c->cold, c, c->cold_bytes, 0x3C20, "weights", err));
	TRY(map_filled(&c->in, c, c->in_bytes, 0x3F00, "inputs", err));
	TRY(map_filled(&c->out, c, c->out_bytes, 0x3F00, "outputs", err));
	TRY(map_filled(&c->mid, c, c->mid_bytes, 0x3F00, "outputs", err));
	c->ids = mem_alloc(sizeof(*c->ids) * ((size_t)max_m * TOP_K + seqs * blocks));
	c->jobs = mem_alloc(sizeof(*c->jobs) * (EXPERTS + 1));
	c->views = mem_alloc(sizeof(*c->views) * (EXPERTS + 1));
	c->seqs = mem_alloc(sizeof(*c->seqs) * seqs);
	return OK;
}

static void unmap(void *p, size_t bytes)
{
	if (p)
		mem_unmap(p, bytes);
}

void kernel_call_unmap(struct kernel_call *c)
{
	unmap(c->cold, c->cold_bytes);
	unmap(c->in, c->in_bytes);
	unmap(c->out, c->out_bytes);
	unmap(c->mid, c->mid_bytes);
	free(c->ids);
	free(c->jobs);
	free(c->views);
	free(c->seqs);
}
