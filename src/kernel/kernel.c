/*
 * The CPU device: tier tables, threads and scratch (kernel/kernel.h). Ops live in cpu/<op>.c.
 *
 * Invariant: after kernel_create() and kernel_reserve() nothing is allocated.
 */
#include "kernel/kernel.h"

#include <stdlib.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "base/clock.h"
#include "base/mem.h"
#include "kernel/cpu/device.h"

static const struct cpu_tier {
	const struct gemm_ukernels *gemm;
	const struct row_ukernels *row;
	const struct mla_ukernels *mla;
	const struct rope_ukernels *rope;
	const struct peak_ukernels *peak;
} tiers[CPU_ISA_COUNT] = {
	[CPU_ISA_REF] = {&gemm_ukernels_ref, &row_ukernels_ref, &mla_ukernels_ref,
		&rope_ukernels_ref, &peak_ukernels_ref},
	[CPU_ISA_AVX2] = {&gemm_ukernels_avx2, &row_ukernels_avx2, &mla_ukernels_avx2,
		&rope_ukernels_avx2, &peak_ukernels_avx2},
	[CPU_ISA_AVX512] = {&gemm_ukernels_avx512, &row_ukernels_avx512, &mla_ukernels_avx512,
		&rope_ukernels_avx512, &peak_ukernels_avx512},
	[CPU_ISA_AMX] = {&gemm_ukernels_amx, &row_ukernels_avx512, &mla_ukernels_amx,
		&rope_ukernels_avx512, &peak_ukernels_amx},
};

static const char *const op_names[KERNEL_OP_COUNT] = {
#define KERNEL_OP(NAME, name) [KERNEL_OP_##NAME] = name,
	KERNEL_OPS(KERNEL_OP)
#undef KERNEL_OP
};

const char *kernel_op_name(enum kernel_op op)
{
	return op_names[op];
}

void kernel_observe(struct kernel *kn, kernel_observe_fn *fn, void *arg)
{
	kn->observe = fn;
	kn->observe_arg = arg;
}

struct op_scope op_scope_begin(struct kernel *kn, enum kernel_op op, const void *args, uint32_t n)
{
	struct op_scope s = {.event = {.op = op, .args = args, .n = n}};

	if (!kn->observe)
		return s;
	s.kn = kn;
	for (int i = 0; i < kn->threads; i++)
		kn->busy[i].ns = 0;
	s.begin_ns = clock_ns();
	return s;
}

void op_scope_end(struct op_scope *s)
{
	struct kernel *kn = s->kn;

	if (!kn)
		return;
	s->event.ns = clock_ns() - s->begin_ns;
	for (int i = 0; i < kn->threads; i++)
		s->event.busy_ns += kn->busy[i].ns;
	kn->observe(kn->observe_arg, &s->event);
}

enum status kernel_set_isa(struct kernel *kn, enum cpu_isa isa, struct error *err)
{
	const struct cpu_tier *tier = &tiers[isa];

	if (!cpu_isa_supported(isa))
		return error_set(err, E_UNSUPPORTED, "this CPU does not have the ISA tier %s",
			cpu_isa_name(isa));
	kn->isa = isa;
	kn->gemm = tier->gemm;
	kn->row = tier->row;
	kn->mla = tier->mla;
	if (isa == CPU_ISA_AVX512 && !cpu_has_fast_bf16_dot()) {
		kn->gemm = &gemm_ukernels_avx512_wide;
		kn->mla = &mla_ukernels_avx512_wide;
	}
	kn->rope = tier->rope;
	kn->peak = tier->peak;
	return OK;
}

enum status kernel_create(
	struct kernel **out, const struct kernel_config *config, struct error *err)
{
	struct kernel *kn = mem_alloc(sizeof(*kn));
	void *mem;
	enum status st;

	TRY_GOTO(out_free, kernel_set_isa(kn, config->isa, err));
	kn->read = tiers[cpu_isa_best()].peak->read;
	TRY_GOTO(out_free, pool_create(&kn->pool, config->threads, config->pin, err));
	kn->threads = pool_threads(kn->pool);
	TRY_GOTO(out_pool, mem_map(&mem, sizeof(*kn->gemm_scratch) * (size_t)kn->threads,
				   "scratch of products", err));
	kn->gemm_scratch = mem;
	kn->busy = aligned_alloc(_Alignof(struct thread_busy), sizeof(*kn->busy) * (size_t)kn->threads);
	BUG_ON(!kn->busy);
	*out = kn;
	return OK;

out_pool:
	pool_destroy(kn->pool);
out_free:
	free(kn);
	return st;
}

void kernel_destroy(struct kernel *kn)
{
	if (!kn)
		return;
	if (kn->scratch.map)
		mem_unmap(kn->scratch.map, kn->scratch.map_bytes);
	mem_unmap(kn->gemm_scratch, sizeof(*kn->gemm_scratch) * (size_t)kn->threads);
	free(kn->busy);
	pool_destroy(kn->pool);
	free(kn);
}

enum cpu_isa kernel_isa(const struct kernel *kn)
{
	return kn->isa;
}

int kernel_threads(const struct kernel *kn)
{
	return kn->threads;
}

struct parallel_job {
	pool_fn *fn;
	void *arg;
	struct thread_busy *busy; /* [threads]; NULL: nobody asks */
};

/* Denormals count as zero while a thread computes: in a softmax they would cost a factor of ten. */
static void parallel_thread(void *arg, int thread, int n_threads)
{
	const struct parallel_job *job = arg;
	uint64_t begin = job->busy ? clock_ns() : 0;
#ifdef __SSE2__
	unsigned saved = _mm_getcsr();

	_mm_setcsr(saved | 0x8040); /* FTZ, DAZ */
	job->fn(job->arg, thread, n_threads);
	_mm_setcsr(saved);
#else
	job->fn(job->arg, thread, n_threads);
#endif
	if (job->busy)
		job->busy[thread].ns += clock_ns() - begin;
}

void kernel_parallel(
	struct kernel *kn, void (*fn)(void *arg, int thread, int n_threads), void *arg)
{
	struct parallel_job job = {fn, arg, kn->observe ? kn->busy : NULL};

	pool_run(kn->pool, parallel_thread, &job);
}

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

enum status kernel_reserve(struct kernel *kn, const struct kernel_limits *limits, struct error *err)
{
	struct kernel_scratch s = {0};
	size_t threads = (size_t)kn->threads;

	s.thread_bytes = larger(mla_prompt_thread_bytes(limits), mla_decode_thread_bytes(limits));
	s.thread_bytes = (s.thread_bytes + 63) / 64 * 64;
	s.shared_bytes = mla_decode_shared_bytes(limits, kn->threads);
	s.map_bytes = threads * s.thread_bytes + s.shared_bytes;
	TRY(mem_map(&s.map, s.map_bytes, "scratch of attention", err));
	s.thread_mem = s.map;
	s.shared = s.thread_mem + threads * s.thread_bytes;
	if (kn->scratch.map)
		mem_unmap(kn->scratch.map, kn->scratch.map_bytes);
	kn->scratch = s;
	kn->limits = *limits;
	return OK;
}

size_t kernel_scratch_bytes(const struct kernel *kn)
{
	return kn->scratch.map_bytes + sizeof(*kn->gemm_scratch) * (size_t)kn->threads;
}

enum act_kind act_kind_for(enum weight_format format)
{
	BUG_ON(format == WEIGHT_NONE);
	return weight_traits(format)->integer ? ACT_I8 : ACT_BF16;
}

#define ACT_I8_FILL 128u /* the largest filling of K */
#define ACT_I8_TAIL 64u	 /* the row's scale */

size_t act_stride_bytes(enum act_kind kind, uint32_t k)
{
	size_t padded = ((size_t)k + WEIGHT_K_STEP - 1) / WEIGHT_K_STEP * WEIGHT_K_STEP;

	if (kind == ACT_I8)
		return ((size_t)k + ACT_I8_FILL - 1) / ACT_I8_FILL * ACT_I8_FILL + ACT_I8_TAIL;
	return padded * (kind == ACT_F32 ? 4 : 2);
}

struct act act_view(void *mem, enum act_kind kind, uint32_t rows, uint32_t k)
{
	BUG_ON((uintptr_t)mem % 64);
	return (struct act){
		.kind = kind,
		.rows = rows,
		.k = k,
		.stride_bytes = act_stride_bytes(kind, k),
		.data = mem,
	};
}

struct act act_for(void *mem, const struct weight *w, uint32_t rows)
{
	struct act a = act_view(mem, act_kind_for(w->format), rows, w->k);

	a.input_scale = w->input_scale;
	a.input_offset = w->input_offset;
	return a;
}

bool act_same(const struct weight *a, const struct weight *b)
{
	return a->k == b->k && act_kind_for(a->format) == act_kind_for(b->format) &&
	       a->input_scale == b->input_scale && a->input_offset == b->input_offset;
}

float *act_row_scale(const struct act *a, size_t row)
{
	return (float *)(a->data + row * a->stride_bytes + a->stride_bytes - ACT_I8_TAIL);
}
