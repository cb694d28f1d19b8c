/* The verdict on a result, as a table and as JSON (cli/verify.h). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "cli/jsonl.h"
#include "cli/verify.h"

/* The tail may be these times the limit of the median. Where routing is free, a few positions in
 * a hundred may have taken another expert: only the 90th percentile is judged. */
#define FREE_P90 5
#define GIVEN_P90 2
#define GIVEN_MAX 5
#define MARGIN_LIMIT 0.035 /* of the median, to which VERIFY_MARGIN belongs */

static bool rows_failed(const struct row_stats *s, const struct route_stats *routes, const char *what,
	double limit, const struct verify_result *r, struct error *err)
{
	double p90 = limit * (routes->rows ? GIVEN_P90 : FREE_P90);
	double max = routes->rows ? limit * GIVEN_MAX : INFINITY;

	if (s->rows == 0)
		return false;
	if (s->used == 0)
		error_set(err, E_FORMAT, "%s: %s: none of %u rows has a routing margin of %g or more",
			cpu_isa_name(r->isa), what, s->rows, (double)VERIFY_MARGIN);
	else if (!(s->median <= limit))
		error_set(err, E_LIMIT, "%s: %s: median rms error %.4g, limit %g", cpu_isa_name(r->isa), what,
			s->median, limit);
	else if (!(s->p90 <= p90))
		error_set(err, E_LIMIT, "%s: %s: 90th percentile of the rms error %.4g, limit %g",
			cpu_isa_name(r->isa), what, s->p90, p90);
	else if (!(s->max <= max))
		error_set(err, E_LIMIT, "%s: %s: largest rms error %.4g, limit %g", cpu_isa_name(r->isa), what,
			s->max, max);
	else
		return false;
	return true;
}

/* Routers see the same error as the logits: where more of it is allowed, so is a wider tie. */
static bool routes_failed(const struct route_stats *s, const char *what, double limit,
	const struct verify_result *r, struct error *err)
{
	double most = (double)VERIFY_MARGIN * (limit > MARGIN_LIMIT ? limit / MARGIN_LIMIT : 1);

	if (s->margin < most)
		return false;
	error_set(err, E_LIMIT, "%s: %s: a router would choose other experts than the given ones by a margin of "
		"%.4g, limit %.3g", cpu_isa_name(r->isa), what, s->margin, most);
	return true;
}

bool verify_failed(const struct verify_result *r, const struct verify_limits *limits, struct error *err)
{
	if (rows_failed(&r->main_all, &r->routes, "logits", limits->main, r, err) ||
		rows_failed(&r->mtp_all, &r->mtp_routes, "MTP logits", limits->mtp, r, err) ||
		routes_failed(&r->routes, "logits", limits->main, r, err) ||
		routes_failed(&r->mtp_routes, "MTP logits", limits->mtp, r, err))
		return true;
	if (r->greedy_same < r->greedy_clear)
		error_set(err, E_LIMIT, "%s: %u of %u greedy tokens with a clear margin differ",
			cpu_isa_name(r->isa), r->greedy_clear - r->greedy_same, r->greedy_clear);
	else if (r->draft_same < r->draft_clear)
		error_set(err, E_LIMIT, "%s: MTP draft %u is not the expected one", cpu_isa_name(r->isa),
			r->draft_same);
	else
		return false;
	return true;
}

static void put_row(struct buf *out, const struct verify_result *r, const char *what,
	const struct row_stats *s)
{
	if (s->rows == 0)
		return;
	buf_printf(out, "%-7s %-12s %6u %6u", cpu_isa_name(r->isa), what, s->rows, s->used);
	if (s->used)
		buf_printf(out, " %9.5f %9.5f %9.5f %10.2e %7.1f %%", s->median, s->p90, s->max, s->kl,
			s->argmax * 100);
	buf_putc(out, '\n');
}

static void put_routes(struct buf *out, const struct verify_report *rep, const struct verify_result *r)
{
	const struct route_stats *parts[] = { &r->routes, &r->mtp_routes };

	if (!rep->golden->routes) {
		buf_printf(out, "%-7s routing      free; used: rows with a margin of %g or more\n",
			cpu_isa_name(r->isa), (double)VERIFY_MARGIN);
		return;
	}
	for (int i = 0; i < 2; i++) {
		if (parts[i]->rows == 0)
			continue;
		buf_printf(out, "%-7s %-12s as given; free, %u of %u rows would differ", cpu_isa_name(r->isa),
			i ? "routing MTP" : "routing", parts[i]->differ, parts[i]->rows);
		if (parts[i]->differ)
			buf_printf(out, ", by a margin of %.4f at most", parts[i]->margin);
		buf_putc(out, '\n');
	}
}

static void put_result(struct buf *out, const struct verify_report *rep, const struct verify_result *r)
{
	const struct golden *g = rep->golden;
	char what[32];

	for (uint32_t i = 0; i < g->n_prompts; i++) {
		snprintf(what, sizeof(what), "prompt %u", i);
		put_row(out, r, what, &r->main[i]);
		snprintf(what, sizeof(what), "prompt %u MTP", i);
		put_row(out, r, what, &r->mtp[i]);
	}
	put_row(out, r, "all", &r->main_all);
	put_row(out, r, "all MTP", &r->mtp_all);
	put_routes(out, rep, r);
	for (uint32_t l = 0; l < r->n_layers; l++)
		buf_printf(out, "%-7s layer %-3u    relative error of the residual %.5f\n",
			cpu_isa_name(r->isa), l, r->layers[l]);
	if (g->n_greedy)
		buf_printf(out, "%-7s greedy       %u tokens, the first %u as expected; %u with a clear "
			"margin, %u of them as expected\n", cpu_isa_name(r->isa), g->n_greedy,
			r->greedy_prefix, r->greedy_clear, r->greedy_same);
	if (g->n_draft)
		buf_printf(out, "%-7s MTP drafts   %u tokens, %u with a clear margin, %u as expected\n",
			cpu_isa_name(r->isa), g->n_draft, r->draft_clear, r->draft_same);
	if (rep->digest)
		buf_printf(out, "%-7s digest       %016llx\n", cpu_isa_name(r->isa),
			(unsigned long long)r->digest);
}

void verify_put_table(struct buf *out, const struct verify_report *rep,
	const struct verify_result *results, uint32_t n)
{
	struct error err;

	buf_printf(out, "%-7s %-12s %6s %6s %9s %9s %9s %10s %9s\n", "tier", "rows", "all", "used", "median",
		"p90", "max", "KL", "argmax");
	for (uint32_t i = 0; i < n; i++)
		put_result(out, rep, &results[i]);
	for (uint32_t i = 0; i < n; i++) {
		buf_printf(out, "%-7s %s (limit of the median %g", cpu_isa_name(results[i].isa),
			verify_failed(&results[i], &rep->limits, &err) ? "FAILED" : "ok", rep->limits.main);
		if (rep->limits.mtp != rep->limits.main)
			buf_printf(out, ", MTP %g", rep->limits.mtp);
		buf_puts(out, ")\n");
	}
}

/* An infinite error, from a logit that is not finite, has no JSON number: null. */
static void set_real(json_t *v, const char *key, double x)
{
	json_object_set_new(v, key, isfinite(x) ? json_real(x) : json_null());
}

static json_t *row_json(const struct row_stats *s)
{
	json_t *v = json_pack("{s:i, s:i}", "rows", (int)s->rows, "used", (int)s->used);

	if (s->used == 0)
		return v;
	set_real(v, "median", s->median);
	set_real(v, "p90", s->p90);
	set_real(v, "max", s->max);
	set_real(v, "kl", s->kl);
	set_real(v, "argmax", s->argmax);
	return v;
}

static json_t *routes_json(const struct route_stats *s)
{
	return json_pack("{s:i, s:i, s:f}", "rows", (int)s->rows, "differ", (int)s->differ, "margin", s->margin);
}

static json_t *result_json(const struct verify_report *rep, const struct verify_result *r)
{
	const struct golden *g = rep->golden;
	json_t *v = json_object(), *prompts = json_array(), *layers = json_array();
	struct error err;
	char digest[20];
	bool failed = verify_failed(r, &rep->limits, &err);

	for (uint32_t i = 0; i < g->n_prompts; i++) {
		json_t *p = row_json(&r->main[i]);

		if (r->mtp[i].rows)
			json_object_set_new(p, "mtp", row_json(&r->mtp[i]));
		json_array_append_new(prompts, p);
	}
	for (uint32_t l = 0; l < r->n_layers; l++)
		json_array_append_new(layers,
			isfinite(r->layers[l]) ? json_real(r->layers[l]) : json_null());
	snprintf(digest, sizeof(digest), "%016llx", (unsigned long long)r->digest);
	json_object_set_new(v, "isa", json_string(cpu_isa_name(r->isa)));
	json_object_set_new(v, "threads", json_integer(r->threads));
	json_object_set_new(v, "ok", json_boolean(!failed));
	if (failed)
		json_object_set_new(v, "reason", json_string(err.msg));
	json_object_set_new(v, "prompts", prompts);
	json_object_set_new(v, "all", row_json(&r->main_all));
	if (r->mtp_all.rows)
		json_object_set_new(v, "all_mtp", row_json(&r->mtp_all));
	if (r->routes.rows)
		json_object_set_new(v, "routes", routes_json(&r->routes));
	if (r->mtp_routes.rows)
		json_object_set_new(v, "routes_mtp", routes_json(&r->mtp_routes));
	json_object_set_new(v, "greedy", json_pack("{s:i, s:i, s:i, s:i}", "tokens", (int)g->n_greedy,
		"prefix", (int)r->greedy_prefix, "clear", (int)r->greedy_clear, "same", (int)r->greedy_same));
	json_object_set_new(v, "drafts", json_pack("{s:i, s:i, s:i}", "tokens", (int)g->n_draft, "clear",
		(int)r->draft_clear, "same", (int)r->draft_same));
	if (r->n_layers)
		json_object_set(v, "layers", layers);
	json_decref(layers);
	json_object_set_new(v, "digest", json_string(digest));
	json_object_set_new(v, "seconds", json_real(r->seconds));
	return v;
}

void verify_put_json(struct buf *out, const struct verify_report *rep,
	const struct verify_result *results, uint32_t n)
{
	json_t *tiers = json_array();

	for (uint32_t i = 0; i < n; i++)
		json_array_append_new(tiers, result_json(rep, &results[i]));
	json_put_pretty(out, json_pack("{s:s, s:s, s:s?, s:f, s:f, s:o}", "model", rep->model, "golden",
		rep->path, "routes", rep->routes, "limit", rep->limits.main, "mtp_limit", rep->limits.mtp,
		"tiers", tiers));
}
