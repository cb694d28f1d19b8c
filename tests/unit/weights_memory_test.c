/* Memory: what control groups allow, and the peak of a load, which is the packed size and read buffers. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cm.h"
#include "base/available.h"
#include "base/json.h"
#include "weights/weights.h"
#include "weights/weights_int.h"
#include "weights_case.h"

static void make_folder(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", case_dir(), name);
	assert_int_equal(mkdir(path, 0700), 0);
}

static void put(const char *name, const char *text)
{
	case_write_file(name, text, strlen(text));
}

static size_t available(const char *groups)
{
	char path[256];

	put("groups", groups);
	snprintf(path, sizeof(path), "%s/groups", case_dir());
	return available_in_groups(path, case_dir());
}

static void test_cgroup_v2(void **state)
{
	make_folder("a");
	make_folder("a/b");
	assert_int_equal(available("0::/a/b\n"), SIZE_MAX);
	put("a/b/memory.max", "max\n");
	put("a/b/memory.current", "700\n");
	assert_int_equal(available("0::/a/b\n"), SIZE_MAX);
	/* A group above has the limit. */
	put("a/memory.max", "1000\n");
	put("a/memory.current", "900\n");
	assert_int_equal(available("0::/a/b\n"), 100);
	/* Page cache is not a use of memory. */
	put("a/memory.stat", "anon 100\nactive_file 300\ninactive_file 500\nshmem 7\n");
	assert_int_equal(available("0::/a/b\n"), 900);
	put("a/b/memory.max", "750\n");
	assert_int_equal(available("0::/a/b\n"), 50);
	put("a/b/memory.max", "600\n");
	assert_int_equal(available("0::/a/b\n"), 0);
	/* A path that is not mounted here: the root counts. */
	put("memory.max", "5000\n");
	put("memory.current", "1000\n");
	assert_int_equal(available("0::/elsewhere/deep\n"), 4000);
	assert_int_equal(available("0::/../..\n"), 4000);
	assert_int_equal(available("nonsense\n"), SIZE_MAX);
}

static void test_cgroup_v1(void **state)
{
	make_folder("memory");
	make_folder("memory/x");
	put("memory/x/memory.limit_in_bytes", "1000\n");
	put("memory/x/memory.usage_in_bytes", "800\n");
	put("memory/x/memory.stat", "active_file 1\ntotal_active_file 100\ntotal_inactive_file 50\n");
	assert_int_equal(available("9:name=systemd:/\n4:cpu,memory:/x\n"), 350);
	assert_int_equal(available("4:memorylike:/x\n"), SIZE_MAX);
}

/* A checkpoint mostly of zeros, which take no room on disk, with matrices far larger than read buffers. */
static const char big_config[] =
	"{\"model_type\": \"deepseek_v3\", \"vocab_size\": 8192, \"hidden_size\": 2048, "
	"\"num_hidden_layers\": 2, \"intermediate_size\": 8192, \"num_attention_heads\": 16, "
	"\"kv_lora_rank\": 512, \"qk_nope_head_dim\": 128, \"qk_rope_head_dim\": 64, "
	"\"v_head_dim\": 128, \"max_position_embeddings\": 4096}";

static void add(json_t *header, uint64_t *at, const char *name, uint64_t rows, uint64_t cols)
{
	uint64_t end = *at + 2 * rows * (cols ? cols : 1);
	json_t *shape = json_pack(cols ? "[I, I]" : "[I]", (json_int_t)rows, (json_int_t)cols);

	json_object_set_new(header, name, json_pack("{s:s, s:o, s:[I, I]}", "dtype", "BF16", "shape", shape,
		"data_offsets", (json_int_t)*at, (json_int_t)end));
	*at = end;
}

/* The last two matrices, whole rows after each other: up_proj and down_proj of the last layer. */
#define TAIL_VALUES (2ull * 8192 * 2048)

static uint16_t tail_value(uint64_t i)
{
	return (uint16_t)(0x3C00 + (i ^ i >> 11 ^ i >> 13) % 1024);
}

static void write_tail(int fd, uint64_t at)
{
	uint16_t *row = malloc(8192 * sizeof(*row));

	for (uint64_t i = 0; i < TAIL_VALUES; i += 8192) {
		for (uint64_t j = 0; j < 8192; j++)
			row[j] = tail_value(i + j);
		assert_int_equal(pwrite(fd, row, 8192 * sizeof(*row), (off_t)(at + i * sizeof(*row))),
			8192 * sizeof(*row));
	}
	free(row);
}

/* Matrices that are read in many pieces, one of them the second half of an interleaved pair. */
static void check_tail(const struct mlp_weights *m)
{
	for (uint32_t r = 0; r < 8192; r++)
		for (uint32_t c = r % 13; c < 2048; c += 13)
			assert_true(weight_get(&m->gate_up, r / 32 * 64 + 32 + r % 32, c) ==
				    bf16_to_f32(tail_value(r * 2048ull + c)));
	for (uint32_t r = 0; r < 2048; r++)
		for (uint32_t c = r % 13; c < 8192; c += 13)
			assert_true(weight_get(&m->down, r, c) ==
				    bf16_to_f32(tail_value(TAIL_VALUES / 2 + r * 8192ull + c)));
}

static void write_big(void)
{
	static const struct {
		const char *name;
		uint64_t rows, cols;
	} layer[] = {{"input_layernorm", 2048, 0}, {"post_attention_layernorm", 2048, 0},
		{"self_attn.q_proj", 16 * 192, 2048}, {"self_attn.kv_a_proj_with_mqa", 576, 2048},
		{"self_attn.kv_a_layernorm", 512, 0}, {"self_attn.kv_b_proj", 16 * 256, 512},
		{"self_attn.o_proj", 2048, 2048}, {"mlp.gate_proj", 8192, 2048},
		{"mlp.up_proj", 8192, 2048}, {"mlp.down_proj", 2048, 8192}};
	json_t *header = json_object();
	uint64_t at = 0, len;
	char path[256], *text;
	int fd;

	add(header, &at, "model.embed_tokens.weight", 8192, 2048);
	add(header, &at, "lm_head.weight", 8192, 2048);
	add(header, &at, "model.norm.weight", 2048, 0);
	for (int l = 0; l < 2; l++)
		for (size_t i = 0; i < sizeof(layer) / sizeof(*layer); i++) {
			char name[128];

			snprintf(name, sizeof(name), "model.layers.%d.%s.weight", l, layer[i].name);
			add(header, &at, name, layer[i].rows, layer[i].cols);
		}
	text = json_dumps(header, 0);
	len = strlen(text);
	put("config.json", big_config);
	snprintf(path, sizeof(path), "%s/model.safetensors", case_dir());
	fd = open(path, O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, &len, 8, 0), 8);
	assert_int_equal(pwrite(fd, text, len, 8), len);
	assert_int_equal(ftruncate(fd, (off_t)(8 + len + at)), 0);
	write_tail(fd, 8 + len + at - TAIL_VALUES * sizeof(uint16_t));
	close(fd);
	free(text);
	json_decref(header);
}

/* A field of /proc/self/status in bytes. */
static size_t status_bytes(const char *field)
{
	FILE *f = fopen("/proc/self/status", "r");
	size_t n = strlen(field);
	char line[256];
	unsigned long long kib = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, field, n) == 0)
			sscanf(line + n, ": %llu", &kib);
	fclose(f);
	return (size_t)kib * 1024;
}

static void check_peak(enum weights_quantization q, size_t least)
{
	struct kernel_config kc = {.isa = CPU_ISA_REF, .threads = 2};
	struct weights_options o = weights_options_default();
	struct weights_budget budget;
	struct model_weights *w;
	struct kernel *kn;
	struct error err;
	size_t before, peak, slack = (size_t)12 << 20;
	int fd;

	o.quantization = q;
	assert_int_equal(kernel_create(&kn, &kc, &err), OK);
	if (weights_plan(&budget, case_dir(), &o, &err) != OK)
		fail_msg("%s", err.msg);
	assert_true(budget.packed_bytes > least);
	/* Sets the peak back to the present size. */
	fd = open("/proc/self/clear_refs", O_WRONLY);
	if (fd < 0 || write(fd, "5", 1) != 1) {
		print_message("peak: this system cannot reset it\n");
		skip();
	}
	close(fd);
	before = status_bytes("VmRSS");
	if (weights_load(&w, case_dir(), kn, &o, &err) != OK)
		fail_msg("%s", err.msg);
	peak = status_bytes("VmHWM") - before;
	print_message("peak %zu MiB, packed %zu, buffers of %d threads\n", peak >> 20,
		w->bytes >> 20, kernel_threads(kn));
	assert_int_equal(w->bytes, budget.packed_bytes);
	assert_true(peak > budget.packed_bytes * 9 / 10);
	assert_true(peak < budget.packed_bytes + budget.buffer_bytes + slack);
	if (q == QUANTIZATION_STORED)
		check_tail(&w->layers[1].mlp);
	weights_destroy(w);

	/* One byte too few is refused, with both figures, before anything is read. */
	o.memory_limit_bytes = budget.packed_bytes;
	assert_int_equal(weights_load(&w, case_dir(), kn, &o, &err), E_NOMEM);
	assert_non_null(strstr(err.msg, "GB needed (weights 0."));
	assert_non_null(strstr(err.msg, "GB available"));
	kernel_destroy(kn);
}

static void test_peak(void **state)
{
	write_big();
	check_peak(QUANTIZATION_STORED, (size_t)250 << 20);
	/* Half of it in the layers, and not a moment more. */
	check_peak(QUANTIZATION_W8A8_DYNAMIC, (size_t)150 << 20);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, case_setup, case_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_cgroup_v2),
		CASE(test_cgroup_v1),
		CASE(test_peak),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
