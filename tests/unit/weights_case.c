/* Changed copies of the tiny checkpoints (weights_case.h): read through fathom, written here. */
#include "weights_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cm.h"
#include "base/json.h"

static char dir[64];

int case_setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/fathom-weights-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

int case_teardown(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

const char *case_dir(void)
{
	return dir;
}

void case_write_file(const char *name, const void *data, size_t bytes)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, bytes, f), bytes);
	assert_int_equal(fclose(f), 0);
}

json_t *case_json(const char *golden, const char *name)
{
	char path[512];
	struct error err;
	json_t *root;

	snprintf(path, sizeof(path), "%s/golden/%s/%s", TEST_DATA, golden, name);
	return json_load_path(&root, path, 1 << 20, &err) == OK ? root : NULL;
}

void case_write_json(const char *name, json_t *root)
{
	char *text = json_dumps(root, 0);

	case_write_file(name, text, strlen(text));
	free(text);
	json_decref(root);
}

static void copy_json(const char *golden, const char *name)
{
	json_t *root = case_json(golden, name);

	if (root)
		case_write_json(name, root);
}

static void append(json_t *header, FILE *data, const struct case_tensor *t)
{
	json_int_t at = ftell(data);
	json_t *shape = json_array();

	for (uint32_t i = 0; i < t->rank; i++)
		json_array_append_new(shape, json_integer((json_int_t)t->shape[i]));
	json_object_set_new(header, t->name,
		json_pack("{s:s, s:o, s:[I, I]}", "dtype", t->dtype, "shape", shape, "data_offsets", at,
			at + (json_int_t)t->bytes));
	assert_int_equal(fwrite(t->data, 1, t->bytes, data), t->bytes);
}

static void read_tensor(struct case_tensor *t, const struct safetensors *s, const struct st_tensor *src)
{
	struct error err;

	*t = (struct case_tensor){.rank = src->rank, .bytes = src->bytes};
	snprintf(t->name, sizeof(t->name), "%s", src->name);
	snprintf(t->dtype, sizeof(t->dtype), "%s", dtype_name(src->dtype));
	memcpy(t->shape, src->shape, sizeof(t->shape));
	t->data = malloc(src->bytes);
	assert_int_equal(safetensors_read(s, src, t->data, 0, src->bytes, &err), OK);
}

void case_copy(const char *golden, case_edit_fn *edit, const void *arg, const struct case_tensor *extra)
{
	json_t *header = json_object();
	struct safetensors *s;
	char path[512], *text, *body;
	size_t body_bytes;
	uint64_t len;
	struct error err;
	FILE *data = open_memstream(&body, &body_bytes), *f;

	copy_json(golden, "config.json");
	copy_json(golden, "quant_model_description.json");
	snprintf(path, sizeof(path), "%s/golden/%s", TEST_DATA, golden);
	assert_int_equal(safetensors_open_dir(&s, path, &err), OK);
	for (size_t i = 0; i < safetensors_count(s); i++) {
		struct case_tensor t;

		read_tensor(&t, s, safetensors_at(s, i));
		if (!edit || edit(&t, arg))
			append(header, data, &t);
		free(t.data);
	}
	if (extra)
		append(header, data, extra);
	safetensors_close(s);
	fclose(data);
	text = json_dumps(header, JSON_COMPACT);
	len = strlen(text);
	snprintf(path, sizeof(path), "%s/model.safetensors", dir);
	f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(&len, 1, 8, f), 8); /* tests run on little-endian machines */
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fwrite(body, 1, body_bytes, f), body_bytes);
	assert_int_equal(fclose(f), 0);
	free(text);
	free(body);
	json_decref(header);
}

enum status case_load(struct model_weights **out, const char *from, enum weights_quantization q, struct shard_plan plan,
	struct error *err)
{
	struct kernel_config kc = {.isa = CPU_ISA_REF, .threads = 2};
	struct weights_options o = weights_options_default();
	struct kernel *kn;
	enum status st;

	o.plan = plan;
	o.quantization = q;
	assert_int_equal(kernel_create(&kn, &kc, err), OK);
	st = weights_load(out, from, kn, &o, err);
	kernel_destroy(kn);
	return st;
}

struct model_weights *case_must_load(const char *from, enum weights_quantization q, struct shard_plan plan)
{
	struct model_weights *w = NULL;
	struct error err;

	if (case_load(&w, from, q, plan, &err) != OK)
		fail_msg("%s", err.msg);
	return w;
}

void case_refused(enum status status, const char *says)
{
	struct model_weights *w;
	struct error err;
	enum status st = case_load(&w, case_dir(), QUANTIZATION_STORED, shard_plan_whole(), &err);

	if (st == OK)
		fail_msg("loaded; expected '%s'", says);
	if (st != status || !strstr(err.msg, says))
		fail_msg("status %d, '%s'; expected %d, '%s'", st, err.msg, status, says);
}
