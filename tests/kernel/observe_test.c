/* What ops tell an observer; a device that changes its tier. */
#include "cm.h"

#include <string.h>

#include "emulate.h"
#include "kernel/kernel.h"
#include "kernel/observe.h"
#include "noise.h"

enum { ROWS = 5, N = 96, K = 192, THREADS = 2 };

/* A product and what it reads and writes. */
struct product {
	struct noise_weight w;
	struct act a;
	struct gemm_job job;
};

static void product_init(struct product *p)
{
	struct noise s = {7};
	size_t n;

	noise_weight_init(&p->w, &s, WEIGHT_BF16, N, K);
	n = ROWS * act_stride_bytes(ACT_BF16, K);
	p->a = act_view(guarded_alloc(n), ACT_BF16, ROWS, K);
	for (size_t i = 0; i < n / 2; i++)
		((uint16_t *)(void *)p->a.data)[i] = f32_to_bf16(noise_f32(&s));
	p->job = (struct gemm_job){.a = &p->a, .m = ROWS, .w = p->w.w,
		.out_f32 = guarded_alloc(sizeof(float) * ROWS * N), .out_stride = N};
}

static void product_deinit(struct product *p)
{
	guarded_free(p->job.out_f32);
	guarded_free(p->a.data);
	noise_weight_deinit(&p->w);
}

static struct kernel *device(enum cpu_isa isa)
{
	struct kernel_config config = {.isa = isa, .threads = THREADS};
	struct kernel *kn = NULL;
	struct error err;

	assert_int_equal(kernel_create(&kn, &config, &err), OK);
	return kn;
}

struct seen {
	struct kernel_event last;
	uint32_t n;
};

static void on_event(void *arg, const struct kernel_event *e)
{
	struct seen *seen = arg;

	seen->last = *e;
	seen->n++;
}

static void check_time(const struct kernel_event *e)
{
	assert_true(e->ns > 0);
	assert_true(e->busy_ns > 0);
	assert_true(e->busy_ns <= e->ns * THREADS);
}

static void test_events(void **state)
{
	struct kernel *kn = device(CPU_ISA_REF);
	struct seen seen = {0};
	struct product p;
	float x[64] = {1}, add[64] = {2};

	product_init(&p);
	kernel_gemm(kn, &p.job, 1);
	kernel_observe(kn, on_event, &seen);
	assert_int_equal(seen.n, 0);
	kernel_gemm(kn, &p.job, 1);
	assert_int_equal(seen.n, 1);
	assert_int_equal(seen.last.op, KERNEL_OP_GEMM);
	assert_ptr_equal(seen.last.args, &p.job);
	assert_int_equal(seen.last.n, 1);
	check_time(&seen.last);
	/* Times are of one op, not of all so far. */
	kernel_add(kn, x, add, 64);
	assert_int_equal(seen.n, 2);
	assert_int_equal(seen.last.op, KERNEL_OP_ADD);
	check_time(&seen.last);
	assert_true(x[0] == 3);
	/* Nothing to compute is an op all the same: it returns early. */
	kernel_gemm(kn, &p.job, 0);
	assert_int_equal(seen.n, 3);
	assert_int_equal(seen.last.n, 0);
	assert_int_equal(seen.last.busy_ns, 0);
	kernel_observe(kn, NULL, NULL);
	kernel_gemm(kn, &p.job, 1);
	assert_int_equal(seen.n, 3);
	product_deinit(&p);
	kernel_destroy(kn);
}

static void test_names(void **state)
{
	for (int i = 0; i < KERNEL_OP_COUNT; i++) {
		assert_non_null(kernel_op_name((enum kernel_op)i));
		for (int j = 0; j < i; j++)
			assert_string_not_equal(
				kernel_op_name((enum kernel_op)i), kernel_op_name((enum kernel_op)j));
	}
}

/* A device that has come to a tier gives the bits of one that began in it. */
static void test_set_isa(void **state)
{
	struct kernel *changing = device(CPU_ISA_REF);
	float expected[ROWS * N];
	struct error err;
	struct product p;

	product_init(&p);
	for (int i = CPU_ISA_COUNT - 1; i >= 0; i--) {
		enum cpu_isa isa = (enum cpu_isa)i;
		struct kernel *kn;

		if (!tier_present(isa))
			continue;
		kn = device(isa);
		kernel_gemm(kn, &p.job, 1);
		memcpy(expected, p.job.out_f32, sizeof(expected));
		memset(p.job.out_f32, 0, sizeof(expected));
		assert_int_equal(kernel_set_isa(changing, isa, &err), OK);
		assert_int_equal(kernel_isa(changing), isa);
		kernel_gemm(changing, &p.job, 1);
		assert_memory_equal(p.job.out_f32, expected, sizeof(expected));
		kernel_destroy(kn);
	}
	product_deinit(&p);
	kernel_destroy(changing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_set_isa),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
