/*
 * Loading the tiny checkpoints: elements of packed matrices against the files, the interleaved and the
 * divided ones included; budgets and limits.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cm.h"
#include "base/random.h"
#include "weights/safetensors.h"
#include "weights/weights.h"

#define SAMPLES 400

struct checkpoint {
	char dir[256];
	struct safetensors *files;
	struct model_weights *w;
	struct kernel *kn;
};

static void must(enum status st, const struct error *err)
{
	if (st != OK)
		fail_msg("%s", err->msg);
}

static struct checkpoint open_checkpoint(const char *name, struct shard_plan plan)
{
	struct kernel_config kc = {.isa = CPU_ISA_REF, .threads = 2};
	struct weights_options o = weights_options_default();
	struct checkpoint c;
	struct error err;

	o.plan = plan;
	snprintf(c.dir, sizeof(c.dir), "%s/golden/%s", TEST_DATA, name);
	must(kernel_create(&c.kn, &kc, &err), &err);
	must(safetensors_open_dir(&c.files, c.dir, &err), &err);
	must(weights_load(&c.w, c.dir, c.kn, &o, &err), &err);
	return c;
}

static void close_checkpoint(struct checkpoint *c)
{
	weights_destroy(c->w);
	safetensors_close(c->files);
	kernel_destroy(c->kn);
}

/* Element (row, col) of a tensor as stored, dequantized. */
static double stored(const struct checkpoint *c, const char *name, uint64_t row, uint64_t col)
{
	const struct st_tensor *t = safetensors_find(c->files, name);
	uint64_t cols = t->rank == 2 ? t->shape[1] : 1, at = row * cols + col;
	uint8_t raw[4] = {0};
	char scale_name[160];
	struct error err;
	float f;

	must(safetensors_read(c->files, t, raw, at * dtype_bytes(t->dtype), dtype_bytes(t->dtype), &err),
		&err);
	memcpy(&f, raw, 4);
	if (t->dtype == DT_F32)
		return f;
	if (t->dtype == DT_BF16)
		return bf16_to_f32((uint16_t)(raw[0] | raw[1] << 8));
	assert_int_equal(t->dtype, DT_F8_E4M3);
	snprintf(scale_name, sizeof(scale_name), "%s_scale_inv", name);
	return f8e4m3_to_f32(raw[0]) * stored(c, scale_name, row / 128, col / 128);
}

/* Where element (row, col) of the packed matrix is in the tensor. */
typedef void place_fn(const struct model_config *c, uint32_t *row, uint32_t *col);

static void same(const struct model_config *c, uint32_t *row, uint32_t *col)
{
}

static void gate_half(const struct model_config *c, uint32_t *row, uint32_t *col)
{
	*row = *row / 32 * 64 + *row % 32;
}

static void up_half(const struct model_config *c, uint32_t *row, uint32_t *col)
{
	*row = *row / 32 * 64 + 32 + *row % 32;
}

static void check_matrix(
	const struct checkpoint *c, const struct weight *w, const char *name, place_fn *packed_place)
{
	const struct st_tensor *t = safetensors_find(c->files, name);
	double exact = w->format == WEIGHT_F8_BLOCK ? 1e-6 : 1.0 / 256;

	if (!t)
		fail_msg("no tensor %s", name);
	for (uint32_t i = 0; i < SAMPLES; i++) {
		uint32_t row = (uint32_t)(random_u64(1, i) % t->shape[0]);
		uint32_t col = (uint32_t)(random_u64(2, i) % t->shape[1]), r = row, k = col;
		double want = stored(c, name, row, col), got;

		packed_place(&c->w->config, &r, &k);
		got = weight_get(w, r, k);
		if (fabs(got - want) > fabs(want) * exact)
			fail_msg("%s [%u, %u]: %g, stored %g", name, row, col, got, want);
	}
}

static void check_kv_b(const struct checkpoint *c, const struct attention_weights *a, uint32_t layer)
{
	const struct model_config *m = &c->w->config;
	uint32_t nope = m->qk_nope_head_dim, v = m->v_head_dim, lora = m->kv_lora_rank;
	char name[128];

	snprintf(name, sizeof(name), "model.layers.%u.self_attn.kv_b_proj.weight", layer);
	for (uint32_t i = 0; i < SAMPLES; i++) {
		uint32_t h = (uint32_t)(random_u64(3, i) % m->num_attention_heads);
		uint32_t col = (uint32_t)(random_u64(4, i) % lora);
		uint32_t kr = (uint32_t)(random_u64(5, i) % nope), vr = (uint32_t)(random_u64(6, i) % v);
		double k = stored(c, name, h * (nope + v) + kr, col);

		/* Nothing is rounded: BF16 stays, and heads begin at blocks of scales in all files. */
		assert_int_equal(a->kv_b_kt.format, a->kv_b_k.format);
		assert_true(fabs(weight_get(&a->kv_b_k, h * nope + kr, col) - k) <= fabs(k) * 1e-6);
		assert_true(fabs(weight_get(&a->kv_b_kt, h * lora + col, kr) - k) <= fabs(k) * 1e-6);
		k = stored(c, name, h * (nope + v) + nope + vr, col);
		assert_true(fabs(weight_get(&a->kv_b_v, h * v + vr, col) - k) <= fabs(k) * 1e-6);
	}
}

static void check_layer(const struct checkpoint *c, const struct layer_weights *l, uint32_t layer)
{
	char name[128];

#define NAME(...) (snprintf(name, sizeof(name), "model.layers.%u." __VA_ARGS__), name)
	check_matrix(c, &l->attn.kv_a_proj, NAME("self_attn.kv_a_proj_with_mqa.weight", layer), same);
	check_matrix(c, &l->attn.o_proj, NAME("self_attn.o_proj.weight", layer), same);
	if (c->w->config.q_lora_rank) {
		check_matrix(c, &l->attn.q_a_proj, NAME("self_attn.q_a_proj.weight", layer), same);
		check_matrix(c, &l->attn.q_b_proj, NAME("self_attn.q_b_proj.weight", layer), same);
	} else {
		check_matrix(c, &l->attn.q_b_proj, NAME("self_attn.q_proj.weight", layer), same);
	}
	check_kv_b(c, &l->attn, layer);
	if (l->is_moe) {
		uint32_t e = c->w->config.n_routed_experts - 1;

		check_matrix(c, &l->gate, NAME("mlp.gate.weight", layer), same);
		check_matrix(c, &l->mlp.gate_up, NAME("mlp.shared_experts.gate_proj.weight", layer), gate_half);
		check_matrix(c, &l->experts[e].gate_up, NAME("mlp.experts.%u.gate_proj.weight", layer, e),
			gate_half);
		check_matrix(c, &l->experts[e].gate_up, NAME("mlp.experts.%u.up_proj.weight", layer, e),
			up_half);
		check_matrix(c, &l->experts[0].down, NAME("mlp.experts.0.down_proj.weight", layer), same);
	} else {
		check_matrix(c, &l->mlp.gate_up, NAME("mlp.up_proj.weight", layer), up_half);
		check_matrix(c, &l->mlp.down, NAME("mlp.down_proj.weight", layer), same);
	}
	for (uint32_t i = 0; i < c->w->config.hidden_size; i += 17)
		assert_float_equal(l->input_layernorm.weight[i],
			stored(c, NAME("input_layernorm.weight", layer), i, 0), 0);
}

static void test_elements(void **state)
{
	static const char *const names[] = {
		"v31-bf16", "v31-fp8", "v3-fp8", "moonlight-bf16", "v2lite-bf16"};

	for (size_t i = 0; i < 5; i++) {
		struct checkpoint c = open_checkpoint(names[i], shard_plan_whole());
		uint32_t n = c.w->config.num_hidden_layers;
		char eh_proj[64];

		for (uint32_t l = 0; l < n; l++)
			check_layer(&c, &c.w->layers[l], l);
		assert_int_equal(c.w->mtp != NULL, c.w->config.num_nextn_predict_layers);
		if (c.w->mtp) {
			check_layer(&c, &c.w->mtp->layer, n);
			snprintf(eh_proj, sizeof(eh_proj), "model.layers.%u.eh_proj.weight", n);
			check_matrix(&c, &c.w->mtp->eh_proj, eh_proj, same);
		}
		check_matrix(&c, &c.w->lm_head, "lm_head.weight", same);
		for (uint32_t j = 0; j < SAMPLES; j++) {
			uint64_t at = random_u64(7, j) % ((uint64_t)c.w->config.vocab_size *
								 c.w->config.hidden_size);

			assert_float_equal(bf16_to_f32(c.w->embed_tokens[at]),
				stored(&c, "model.embed_tokens.weight", at / c.w->config.hidden_size,
					at % c.w->config.hidden_size),
				0);
		}
		close_checkpoint(&c);
	}
}

/* The two ranks of a divided model hold the whole: rows of q_b and columns of o_proj side by side. */
static void test_shards(void **state)
{
	struct checkpoint c[2];
	uint32_t q_rows, o_cols;

	for (uint32_t r = 0; r < 2; r++)
		c[r] = open_checkpoint("v31-bf16",
			(struct shard_plan){.tp_rank = r, .tp_size = 2, .ep_rank = r, .ep_size = 2});
	q_rows = c[0].w->layers[0].attn.q_b_proj.n;
	o_cols = c[0].w->layers[0].attn.o_proj.k;
	for (uint32_t i = 0; i < SAMPLES; i++) {
		uint32_t r = i % 2, row = (uint32_t)(random_u64(8, i) % q_rows);
		uint32_t k = (uint32_t)(random_u64(9, i) % c[0].w->config.q_lora_rank);
		uint32_t o_row = (uint32_t)(random_u64(10, i) % c[0].w->config.hidden_size);
		uint32_t o_col = (uint32_t)(random_u64(11, i) % o_cols);

		assert_float_equal(weight_get(&c[r].w->layers[0].attn.q_b_proj, row, k),
			stored(&c[0], "model.layers.0.self_attn.q_b_proj.weight", r * q_rows + row, k), 0);
		assert_float_equal(weight_get(&c[r].w->layers[0].attn.o_proj, o_row, o_col),
			stored(&c[0], "model.layers.0.self_attn.o_proj.weight", o_row, r * o_cols + o_col), 0);
	}
	assert_int_equal(c[0].w->layers[1].experts[8].down.n, 0);
	assert_int_not_equal(c[1].w->layers[1].experts[8].down.n, 0);
	close_checkpoint(&c[0]);
	close_checkpoint(&c[1]);
}

/* A sample of a rank's rows row0 .. and columns col0 .. against the tensor; NAN-free, BF16 if cut. */
static void check_part(const struct checkpoint *whole, const struct weight *w, const char *name,
	uint32_t row0, uint32_t col0, uint32_t step)
{
	double exact = w->format == WEIGHT_F8_BLOCK ? 1e-6 : 1.0 / 256;
	uint32_t rows = w->n / step;

	for (uint32_t i = 0; i < SAMPLES; i++) {
		uint32_t r = (uint32_t)(random_u64(20, i) % rows), k = (uint32_t)(random_u64(21, i) % w->k);
		uint32_t packed = step == 2 ? r / 32 * 64 + r % 32 : r;
		double want = stored(whole, name, row0 + r, col0 + k), got = weight_get(w, packed, k);

		if (fabs(got - want) > fabs(want) * exact)
			fail_msg("%s [%u, %u]: %g, stored %g", name, row0 + r, col0 + k, got, want);
	}
}

/* FP8 among two and four ranks: cuts inside blocks of scales, which are then dequantized. */
static void test_fp8_shards(void **state)
{
	static const uint32_t sizes[] = {2, 4};

	for (size_t s = 0; s < 2; s++) {
		uint32_t heads = 0, width = 0, vocab = 0, cut = 0;

		for (uint32_t r = 0; r < sizes[s]; r++) {
			struct shard_plan plan = {
				.tp_rank = r, .tp_size = sizes[s], .ep_rank = 0, .ep_size = 1};
			struct checkpoint c = open_checkpoint("v31-fp8", plan);
			const struct layer_weights *l = &c.w->layers[0], *moe = &c.w->layers[1];

			check_part(&c, &l->attn.q_b_proj, "model.layers.0.self_attn.q_b_proj.weight",
				heads * 96, 0, 1);
			check_part(&c, &l->attn.o_proj, "model.layers.0.self_attn.o_proj.weight", 0,
				heads * 64, 1);
			check_part(&c, &l->mlp.gate_up, "model.layers.0.mlp.gate_proj.weight", width, 0, 2);
			check_part(&c, &l->mlp.down, "model.layers.0.mlp.down_proj.weight", 0, width, 1);
			check_part(&c, &moe->experts[7].down,
				"model.layers.1.mlp.experts.7.down_proj.weight", 0,
				r * moe->experts[7].down.k, 1);
			check_part(&c, &c.w->lm_head, "lm_head.weight", vocab, 0, 1);
			for (uint32_t i = 0; i < 64; i++)
				assert_true(fabs(weight_get(&l->attn.kv_b_kt, 7, i) -
						 stored(&c, "model.layers.0.self_attn.kv_b_proj.weight",
							 heads * 128 + i, 7)) < 1e-6);
			cut += l->mlp.down.format == WEIGHT_BF16;
			heads += l->attn.o_proj.k / 64;
			width += l->mlp.down.k;
			vocab += c.w->lm_head.n;
			close_checkpoint(&c);
		}
		assert_int_equal(heads, 4);
		assert_int_equal(width, 384);
		assert_int_equal(vocab, 320);
		/* Three blocks go to two ranks whole; four ranks cut them. */
		assert_int_equal(cut, sizes[s] == 2 ? 0 : 3);
	}
}

static void plan_refused(struct shard_plan plan, const char *says)
{
	struct weights_options o = weights_options_default();
	struct weights_budget b;
	struct error err;

	o.plan = plan;
	assert_int_equal(weights_plan(&b, TEST_DATA "/golden/v31-fp8", &o, &err), E_UNSUPPORTED);
	if (!strstr(err.msg, says))
		fail_msg("'%s'; expected '%s'", err.msg, says);
}

static void test_too_many_ranks(void **state)
{
	plan_refused((struct shard_plan){.tp_rank = 4, .tp_size = 5, .ep_size = 1},
		"cannot be divided among 5 ranks");
	plan_refused((struct shard_plan){.tp_size = 1, .ep_rank = 16, .ep_size = 17},
		"16 cannot be divided among 17 ranks");
}

static void test_split(void **state)
{
	struct shard_range a = shard_split(100, 32, 0, 3), b = shard_split(100, 32, 1, 3),
			   d = shard_split(100, 32, 2, 3), none = shard_split(10, 32, 2, 3);

	assert_int_equal(a.first, 0);
	assert_int_equal(a.count, 64);
	assert_int_equal(b.first, 64);
	assert_int_equal(b.count, 32);
	assert_int_equal(d.first, 96);
	assert_int_equal(d.count, 4);
	assert_int_equal(none.count, 0);
}

static void test_limit(void **state)
{
	struct weights_options o = weights_options_default();
	struct weights_budget b;
	struct error err;

	must(weights_plan(&b, TEST_DATA "/golden/v31-fp8", &o, &err), &err);
	assert_true(b.packed_bytes > 4000000 && b.token_bytes < b.packed_bytes);
	/* The whole file but its header and the MTP layer's copies of embedding and head. */
	assert_int_equal(b.file_bytes, 7276256 - 2 * 320 * 256 * 2);
	o.memory_limit_bytes = 100000;
	assert_int_equal(weights_plan(&b, TEST_DATA "/golden/v31-fp8", &o, &err), E_NOMEM);
	assert_non_null(strstr(err.msg, "0.0001 GB available"));
}

static void test_mtp_is_optional(void **state)
{
	struct kernel_config kc = {.isa = CPU_ISA_REF, .threads = 1};
	struct weights_options o = weights_options_default();
	struct model_weights *w;
	struct kernel *kn;
	struct error err;

	o.mtp = false;
	must(kernel_create(&kn, &kc, &err), &err);
	must(weights_load(&w, TEST_DATA "/golden/v31-bf16", kn, &o, &err), &err);
	assert_null(w->mtp);
	weights_destroy(w);
	kernel_destroy(kn);
}

static void test_random(void **state)
{
	static const enum weight_format formats[] = {
		WEIGHT_BF16, WEIGHT_F8_BLOCK, WEIGHT_I8, WEIGHT_I4};
	struct kernel_config kc = {.isa = CPU_ISA_REF, .threads = 2};
	struct weights_options o = weights_options_default();
	struct model_config config;
	struct model_weights *w;
	struct kernel *kn;
	struct error err;

	must(config_load(&config, TEST_DATA "/golden/v31-bf16", &err), &err);
	must(kernel_create(&kn, &kc, &err), &err);
	for (size_t f = 0; f < 4; f++) {
		const struct weight *m;
		double sum = 0, squares = 0, n = 0;

		must(weights_random(&w, &config, formats[f], 5, kn, &o, &err), &err);
		m = &w->layers[1].experts[3].gate_up;
		assert_int_equal(m->format, formats[f]);
		assert_int_equal(w->layers[0].attn.o_proj.format, f < 2 ? formats[f] : WEIGHT_I8);
		assert_int_equal(w->layers[0].attn.kv_b_v.format, f < 2 ? formats[f] : WEIGHT_BF16);
		assert_int_equal(w->config.integer, f >= 2);
		for (size_t i = 0; i < w->layers[1].gate.panel_bytes / 2; i++) /* 16 rows of 32 */
			assert_true(i / 512 % 2 == 0 || ((uint16_t *)w->layers[1].gate.panels)[i] == 0);
		for (uint32_t r = 0; r < m->n; r++)
			for (uint32_t k = 0; k < m->k; k++, n++) {
				double x = weight_get(m, r, k);

				sum += x;
				squares += x * x;
			}
		assert_true(fabs(sum / n) < 0.1 / sqrt(m->k));
		assert_true(fabs(sqrt(squares / n * m->k) - 1) < 0.05);
		weights_destroy(w);
	}
	o.memory_limit_bytes = 1000;
	assert_int_equal(weights_random(&w, &config, WEIGHT_BF16, 5, kn, &o, &err), E_NOMEM);
	kernel_destroy(kn);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_elements),
		cmocka_unit_test(test_shards),
		cmocka_unit_test(test_fp8_shards),
		cmocka_unit_test(test_too_many_ranks),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_mtp_is_optional),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
