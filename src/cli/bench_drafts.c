/*
 * fathom bench drafts: how often the MTP layer's draft is what the model itself chooses next, on given
 * texts. That share is what speculative decoding lives on: 1 + share tokens a step, with one draft.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/json.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/jsonl.h"
#include "cli/machine.h"
#include "engine/sampler.h"

struct values {
	struct machine_values machine; /* first */
	double at_least;
	bool json;
};

static const struct opt opts[] = {
	{ .name = "at-least", .type = OPT_DOUBLE, .value = "SHARE", .min = 0, .max = 1,
		.offset = offsetof(struct values, at_least),
		.help = "Fail when a smaller share of the drafts is right (default 0)." },
	{ .name = "json", .type = OPT_SWITCH, .offset = offsetof(struct values, json),
		.help = "Print one JSON object." },
	{ 0 },
};

static const struct opt_list common[] = { { "model and machine", machine_opts }, { 0 } };

const struct opt_table bench_drafts_table = {
	.command = "bench drafts",
	.arguments = "MODEL",
	.summary = "Share of the MTP layer's drafts that the model itself would choose",
	.details = "Reads JSON lines from stdin: {\"ids\": [...], \"answer_at\": N}, the ids of a prompt and its\n"
		   "answer and where the answer begins; its tokens count (default: all).\n",
	.min_args = 1,
	.max_args = 1,
	.opts = opts,
	.common = common,
};

struct drafts {
	struct runtime *rt;
	struct kv_table table;
	int32_t *ids;  /* owned [max_context_tokens] */
	uint32_t n;
	uint32_t answer_at;
	int32_t *own;   /* owned [max_context_tokens]: the model's choice after each position */
	int32_t *draft; /* owned [max_context_tokens]: the MTP layer's after the next one */
	uint64_t total, right;
	uint64_t texts;
};

static enum status read_ids(struct drafts *d, json_t *line, const char *what, struct error *err)
{
	uint32_t vocab = d->rt->weights->config.vocab_size, most = d->rt->max_context_tokens;
	json_int_t at = 1;
	json_t *ids, *v;

	TRY(json_get_array(&ids, line, what, "ids", err));
	if (json_array_size(ids) < 3 || json_array_size(ids) > most)
		return error_set(err, E_FORMAT, "%s: ids: found %zu, expected 3 to %u (--max-model-len)", what,
			json_array_size(ids), most);
	d->n = (uint32_t)json_array_size(ids);
	for (uint32_t i = 0; i < d->n; i++) {
		json_t *id = json_array_get(ids, i);

		if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= vocab)
			return error_set(err, E_FORMAT, "%s: ids[%u]: expected an integer from 0 to %u", what, i,
				vocab - 1);
		d->ids[i] = (int32_t)json_integer_value(id);
	}
	v = json_object_get(line, "answer_at");
	if (v) {
		at = json_integer_value(v);
		if (!json_is_integer(v) || at < 1 || at >= (json_int_t)d->n)
			return error_set(err, E_FORMAT, "%s: answer_at: expected an integer from 1 to %u", what,
				d->n - 1);
	}
	d->answer_at = (uint32_t)at;
	return OK;
}

static enum status fill(struct drafts *d, const int32_t *ids, uint32_t at, uint32_t n, struct error *err)
{
	struct runtime *rt = d->rt;

	batch_init(rt->batch, &rt->limits);
	return batch_add(rt->batch, &rt->limits, at, ids, n, 0, d->table.blocks, d->table.n_blocks, n, err);
}

/* Positions [at, at + n) of the text; the last position of all has no next token to draft from. */
static enum status chunk(struct drafts *d, uint32_t at, uint32_t n, struct error *err)
{
	uint32_t vocab = d->rt->weights->config.vocab_size, slots = at + n == d->n ? n - 1 : n;
	struct model_output out;

	TRY(fill(d, d->ids + at, at, n, err));
	TRY(model_forward(d->rt->model, d->rt->batch, &out, err));
	for (uint32_t i = 0; i < n; i++)
		d->own[at + i] = sampler_argmax(out.logits + i * out.logits_stride, vocab);
	if (slots == 0)
		return OK;
	TRY(fill(d, d->ids + at + 1, at, slots, err));
	TRY(model_mtp_forward(d->rt->model, d->rt->batch, out.hidden, &out, err));
	for (uint32_t i = 0; i < slots; i++)
		d->draft[at + i] = sampler_argmax(out.logits + i * out.logits_stride, vocab);
	return OK;
}

static enum status text(struct drafts *d, struct error *err)
{
	uint32_t most = d->rt->limits.max_tokens;

	kv_table_shrink(&d->table, d->rt->pool, 0);
	TRY(kv_table_grow(&d->table, d->rt->pool, d->n, err));
	for (uint32_t at = 0; at < d->n; at += most)
		TRY(chunk(d, at, d->n - at < most ? d->n - at : most, err));
	/* Slot i drafts what follows position i + 1. */
	for (uint32_t i = d->answer_at > 1 ? d->answer_at - 2 : 0; i + 2 < d->n; i++) {
		if (d->draft[i] < 0 || d->own[i + 1] < 0)
			return error_set(err, E_INTERNAL, "logits at position %u are not finite: the weights hold NaN",
				i + 1);
		d->total++;
		d->right += d->draft[i] == d->own[i + 1];
	}
	d->texts++;
	return OK;
}

static enum status all_texts(struct drafts *d, struct error *err)
{
	struct jsonl in = { 0 };
	json_t *line;
	enum status st;

	for (;;) {
		TRY_GOTO(out, jsonl_next(&line, &in, err));
		if (!line)
			break;
		TRY_GOTO(out, read_ids(d, line, in.what, err));
		TRY_GOTO(out, text(d, err));
	}
	if (d->total == 0)
		st = error_set(err, E_FORMAT, "stdin: no texts");
out:
	jsonl_deinit(&in);
	return st;
}

static enum status report(const struct drafts *d, const struct values *v, struct error *err)
{
	double share = (double)d->right / (double)d->total;
	struct buf out = { 0 };
	enum status st;

	if (v->json)
		json_put_pretty(&out, json_pack("{s:I, s:I, s:I, s:f}", "texts", (json_int_t)d->texts, "drafts",
			(json_int_t)d->total, "right", (json_int_t)d->right, "share", share));
	else
		buf_printf(&out, "%llu of %llu drafts are the model's own next choice: %.1f %% (%llu texts)\n",
			(unsigned long long)d->right, (unsigned long long)d->total, 100 * share,
			(unsigned long long)d->texts);
	st = cli_out(&out, err);
	buf_deinit(&out);
	if (st == OK && share < v->at_least)
		return error_set(err, E_LIMIT, "%.3f of the drafts are right, --at-least %g", share, v->at_least);
	return st;
}

static enum status bench_drafts(const struct values *v, const char *dir, struct error *err)
{
	struct runtime_options o;
	struct runtime rt = { 0 };
	struct drafts d = { .rt = &rt };
	enum status st;

	TRY(machine_runtime_options(&o, &v->machine, err));
	o.mtp = true;
	o.max_outputs = o.max_batch_tokens;
	TRY(runtime_open(&rt, dir, &o, err));
	kv_table_init(&d.table);
	d.ids = mem_alloc(sizeof(*d.ids) * rt.max_context_tokens);
	d.own = mem_alloc(sizeof(*d.own) * rt.max_context_tokens);
	d.draft = mem_alloc(sizeof(*d.draft) * rt.max_context_tokens);
	if (!rt.weights->mtp) {
		st = error_set(err, E_UNSUPPORTED, "MODEL %.120s: has no MTP layer", dir);
		goto out;
	}
	TRY_GOTO(out, kv_table_reserve(&d.table, rt.limits.max_blocks, err));
	TRY_GOTO(out, all_texts(&d, err));
	st = report(&d, v, err);
out:
	kv_table_deinit(&d.table, rt.pool);
	free(d.ids);
	free(d.own);
	free(d.draft);
	runtime_close(&rt);
	return st;
}

int cmd_bench_drafts(int argc, char **argv)
{
	struct values v = { .machine = machine_defaults() };
	struct opt_result words;
	struct error err;
	int rc = cli_parse(&words, &bench_drafts_table, argc, argv, &v);

	if (rc >= 0)
		return rc;
	rc = bench_drafts(&v, words.args[0], &err) == OK ? CLI_OK : cli_fail(&err);
	opt_result_deinit(&words);
	return rc;
}
