/*
 * fathom bench load: time from nothing to a model that is ready, beside the time that reading the files takes
 * right before and right after; the peak of memory beside the packed size.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/jsonl.h"
#include "cli/machine.h"

#define READ_BYTES ((size_t)8 << 20)
#define REPEAT 3u

struct values {
	struct machine_values machine; /* first */
	int64_t repeat;
	bool json;
};

static const struct opt opts[] = {
	{ .name = "repeat", .type = OPT_INT, .value = "N", .min = 1, .max = 1000,
		.offset = offsetof(struct values, repeat),
		.help = "Loads, of which medians are shown (default 3)." },
	{ .name = "json", .type = OPT_SWITCH, .offset = offsetof(struct values, json),
		.help = "Print one JSON object instead of a table." },
	{ 0 },
};

static const struct opt_list common[] = { { "model and machine", machine_opts }, { 0 } };

const struct opt_table bench_load_table = {
	.command = "bench load",
	.arguments = "MODEL",
	.summary = "Time until a checkpoint is ready, beside reading its files; peak of memory",
	.details = "Files are read once before, so that the page cache holds them if it can. Reading is measured right\n"
		   "before and right after each load. The peak is of what the process itself holds: weights, read\n"
		   "buffers, and the pages of cache and workspace in use.\n",
	.min_args = 1,
	.max_args = 1,
	.opts = opts,
	.common = common,
};

struct file {
	int fd;
	uint64_t first; /* number of its first block */
};

/* The checkpoint's files of weights and what reads them. */
struct reader {
	struct file *files; /* owned, in order of `first` */
	size_t n, cap;
	uint64_t bytes, blocks;
	atomic_uint_least64_t next;
	atomic_uint_least64_t read;
	uint8_t *buffers; /* owned, [threads][READ_BYTES] */
	size_t buffers_bytes;
	uint8_t *whole;   /* room for all blocks, while they are kept */
};

/* Seconds of reading all files: over and over into the same buffers; into memory that nobody has touched. */
struct reading {
	double over, fresh;
};

struct load {
	struct reading read; /* the faster ones of before and after */
	double ready_seconds;
	size_t peak_bytes;   /* 0: the system does not tell */
};

struct bench_load {
	struct reader reader;
	struct kernel *kn; /* threads that read */
	struct runtime_budget budget;
	struct load *loads; /* owned */
	uint32_t n;
};

static enum status add_file(struct reader *r, const char *dir, const char *name, struct error *err)
{
	char path[4096];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not wait */
	if (fd < 0 || fstat(fd, &st) != 0) {
		if (fd >= 0)
			close(fd);
		return error_set(err, E_IO, "%.150s: cannot be read", path);
	}
	if (!S_ISREG(st.st_mode)) {
		close(fd);
		return error_set(err, E_FORMAT, "%.150s: not a regular file", path);
	}
	r->files = mem_grow(r->files, &r->cap, r->n + 1, sizeof(*r->files));
	r->files[r->n++] = (struct file){ fd, r->blocks };
	r->bytes += (uint64_t)st.st_size;
	r->blocks += ((uint64_t)st.st_size + READ_BYTES - 1) / READ_BYTES;
	return OK;
}

static enum status open_files(struct reader *r, const char *dir, struct error *err)
{
	static const char end[] = ".safetensors";
	DIR *d = opendir(dir);
	struct dirent *e;
	enum status st = OK;

	if (!d)
		return error_set(err, E_IO, "%.150s: not a directory that can be read", dir);
	while (st == OK && (e = readdir(d))) {
		size_t n = strlen(e->d_name);

		if (n > strlen(end) && strcmp(e->d_name + n - strlen(end), end) == 0)
			st = add_file(r, dir, e->d_name, err);
	}
	closedir(d);
	return st;
}

static void read_thread(void *arg, int thread, int n_threads)
{
	struct reader *r = arg;
	uint64_t i, sum = 0;

	while ((i = atomic_fetch_add(&r->next, 1)) < r->blocks) {
		uint8_t *to = r->whole ? r->whole + i * READ_BYTES : r->buffers + (size_t)thread * READ_BYTES;
		size_t f = r->n - 1;
		ssize_t n;

		while (r->files[f].first > i)
			f--;
		n = pread(r->files[f].fd, to, READ_BYTES, (off_t)((i - r->files[f].first) * READ_BYTES));
		sum += n > 0 ? (uint64_t)n : 0;
	}
	atomic_fetch_add(&r->read, sum);
}

static enum status read_all(double *seconds, struct bench_load *b, struct error *err)
{
	struct reader *r = &b->reader;
	double begin = clock_s();

	atomic_store(&r->next, 0);
	atomic_store(&r->read, 0);
	kernel_parallel(b->kn, read_thread, r);
	*seconds = clock_s() - begin;
	if (atomic_load(&r->read) != r->bytes)
		return error_set(err, E_IO, "read %llu of the %llu bytes of the checkpoint's files",
			(unsigned long long)atomic_load(&r->read), (unsigned long long)r->bytes);
	return OK;
}

static enum status read_files(struct reading *out, struct bench_load *b, struct error *err)
{
	size_t bytes = b->reader.blocks * READ_BYTES;
	enum status st;
	void *mem;

	TRY(read_all(&out->over, b, err));
	TRY(mem_map(&mem, bytes, "contents of the files", err));
	b->reader.whole = mem;
	st = read_all(&out->fresh, b, err);
	b->reader.whole = NULL;
	mem_unmap(mem, bytes);
	return st;
}

static double smaller(double a, double b)
{
	return a < b ? a : b;
}

/* Lets the peak begin again from what is held now. */
static bool reset_peak(void)
{
	FILE *f = fopen("/proc/self/clear_refs", "w");
	bool ok = f && fputs("5", f) >= 0;

	return f ? fclose(f) == 0 && ok : false;
}

/* A line of /proc/self/status in bytes; 0 when it is not there. */
static size_t status_bytes(const char *name)
{
	FILE *f = fopen("/proc/self/status", "r");
	unsigned long long kib = 0;
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, name, strlen(name)) == 0)
			sscanf(line + strlen(name), " %llu", &kib);
	}
	if (f)
		fclose(f);
	return (size_t)kib << 10;
}

static void keep_budget(void *arg, const struct runtime_budget *budget)
{
	*(struct runtime_budget *)arg = *budget;
}

static enum status load_once(struct load *out, struct bench_load *b, const char *dir, const struct values *v,
	struct error *err)
{
	struct runtime_options o;
	struct runtime rt = { 0 };
	size_t held = status_bytes("VmRSS:");
	bool peak = reset_peak();
	double begin = clock_s();
	enum status st;

	TRY(machine_runtime_options(&o, &v->machine, err));
	o.report = keep_budget;
	o.report_arg = &b->budget;
	st = runtime_open(&rt, dir, &o, err);
	out->ready_seconds = clock_s() - begin;
	out->peak_bytes = peak ? status_bytes("VmHWM:") - held : 0;
	runtime_close(&rt);
	return st;
}

static enum status measure(struct bench_load *b, const char *dir, const struct values *v, struct error *err)
{
	struct kernel_config config = { .isa = cpu_isa_best(), .threads = (int)v->machine.threads,
		.pin = v->machine.pin };
	struct reading before, after;
	void *mem;

	TRY(kernel_create(&b->kn, &config, err));
	b->reader.buffers_bytes = READ_BYTES * (size_t)kernel_threads(b->kn);
	TRY(mem_map(&mem, b->reader.buffers_bytes, "read buffers", err));
	b->reader.buffers = mem;
	TRY(read_all(&before.over, b, err)); /* into the page cache */
	TRY(read_files(&before, b, err));
	b->loads = mem_alloc(sizeof(*b->loads) * (size_t)v->repeat);
	for (; b->n < (uint32_t)v->repeat; b->n++) {
		struct load *l = &b->loads[b->n];

		TRY(load_once(l, b, dir, v, err));
		TRY(read_files(&after, b, err));
		l->read = (struct reading){ smaller(before.over, after.over), smaller(before.fresh, after.fresh) };
		before = after;
	}
	return OK;
}

static int by_ratio(const void *a, const void *b)
{
	const struct load *x = a, *y = b;
	double p = x->ready_seconds / x->read.fresh, q = y->ready_seconds / y->read.fresh;

	return (p > q) - (p < q);
}

/* The load with the median ratio, whose figures belong together; loads end up in order of ratios. */
static const struct load *median_load(struct bench_load *b)
{
	qsort(b->loads, b->n, sizeof(*b->loads), by_ratio);
	return &b->loads[(b->n - 1) / 2];
}

static size_t peak_bytes(const struct bench_load *b)
{
	size_t peak = 0;

	for (uint32_t i = 0; i < b->n; i++)
		peak = b->loads[i].peak_bytes > peak ? b->loads[i].peak_bytes : peak;
	return peak;
}

static void put_table(struct buf *out, struct bench_load *b)
{
	const struct load *l = median_load(b), *best = &b->loads[0], *worst = &b->loads[b->n - 1];
	double files = (double)b->reader.bytes, packed = (double)b->budget.weights_bytes;
	double peak = (double)peak_bytes(b);

	buf_puts(out, "files       ");
	cli_put_bytes(out, files);
	buf_puts(out, ", packed ");
	cli_put_bytes(out, packed);
	buf_printf(out, ", %d threads\nread files  %.3f s, %.2f GB/s, into the same buffers again and again\n",
		kernel_threads(b->kn), l->read.over, files * 1e-9 / l->read.over);
	buf_printf(out, "            %.3f s, %.2f GB/s, into fresh memory, as a load has to\n", l->read.fresh,
		files * 1e-9 / l->read.fresh);
	buf_printf(out, "ready       %.3f s, %.2f times the former, %.2f times the latter (%.2f to %.2f in %u loads)\n",
		l->ready_seconds, l->ready_seconds / l->read.over, l->ready_seconds / l->read.fresh,
		best->ready_seconds / best->read.fresh, worst->ready_seconds / worst->read.fresh, b->n);
	if (peak == 0) {
		buf_puts(out, "peak        the system does not tell\n");
		return;
	}
	buf_puts(out, "peak        ");
	cli_put_bytes(out, peak);
	buf_printf(out, ", %.3f times the packed size; without the read buffers (", peak / packed);
	cli_put_bytes(out, (double)b->budget.buffer_bytes);
	buf_printf(out, ") %.3f times\n", (peak - (double)b->budget.buffer_bytes) / packed);
}

static void put_json(struct buf *out, struct bench_load *b)
{
	const struct load *l = median_load(b);
	json_t *loads = json_array(), *v;
	size_t peak = peak_bytes(b);

	for (uint32_t i = 0; i < b->n; i++)
		json_array_append_new(loads, json_pack("{s:f, s:f, s:f}", "read_seconds", b->loads[i].read.over,
						     "read_fresh_seconds", b->loads[i].read.fresh,
						     "ready_seconds", b->loads[i].ready_seconds));
	v = json_pack("{s:I, s:I, s:I, s:i, s:f, s:f, s:f, s:f, s:f, s:o}", "file_bytes",
		(json_int_t)b->reader.bytes, "packed_bytes", (json_int_t)b->budget.weights_bytes,
		"buffer_bytes", (json_int_t)b->budget.buffer_bytes, "threads", kernel_threads(b->kn),
		"read_seconds", l->read.over, "read_fresh_seconds", l->read.fresh, "ready_seconds",
		l->ready_seconds, "ratio", l->ready_seconds / l->read.over, "ratio_fresh",
		l->ready_seconds / l->read.fresh, "loads", loads);
	json_object_set_new(v, "peak_bytes", peak ? json_integer((json_int_t)peak) : json_null());
	json_put_pretty(out, v);
}

/* What a load would refuse, before anything is read. */
static enum status check(const char *dir, const struct values *v, struct error *err)
{
	struct weights_options o = weights_options_default();
	struct weights_budget budget;

	o.mtp = false; /* as load_once() */
	o.quantization = machine_quantization(&v->machine);
	o.memory_limit_bytes = (size_t)v->machine.memory_limit;
	if (v->machine.memory_limit)
		o.memory_limit_name = "--memory-limit";
	return weights_plan(&budget, dir, &o, err);
}

static enum status bench_load(const char *dir, const struct values *v, struct error *err)
{
	struct bench_load b = { 0 };
	struct buf out = { 0 };
	enum status st;

	TRY_GOTO(out, check(dir, v, err));
	TRY_GOTO(out, open_files(&b.reader, dir, err));
	TRY_GOTO(out, measure(&b, dir, v, err));
	if (v->json)
		put_json(&out, &b);
	else
		put_table(&out, &b);
	st = cli_out(&out, err);
out:
	for (size_t i = 0; i < b.reader.n; i++)
		close(b.reader.files[i].fd);
	free(b.reader.files);
	if (b.reader.buffers)
		mem_unmap(b.reader.buffers, b.reader.buffers_bytes);
	kernel_destroy(b.kn);
	free(b.loads);
	buf_deinit(&out);
	return st;
}

int cmd_bench_load(int argc, char **argv)
{
	struct values v = { .machine = machine_defaults(), .repeat = REPEAT };
	struct opt_result words;
	struct error err;
	int rc = cli_parse(&words, &bench_load_table, argc, argv, &v);

	if (rc >= 0)
		return rc;
	rc = bench_load(words.args[0], &v, &err) == OK ? CLI_OK : cli_fail(&err);
	opt_result_deinit(&words);
	return rc;
}
