/* The server under load (load/load_target.h). */
#include "load/load_target.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>

#include "base/json.h"
#include "base/mem.h"

#define CONNECT_MS 60000u
#define ASK_US ((uint64_t)60 * 1000000)
#define MAX_ANSWER_BYTES ((size_t)256 << 20)
#define SPARE_FILES 64u /* not connections: standard streams, the loop, result files */
#define MAX_HEADERS 80u

static void raise_files(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

unsigned load_target_room(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur > 1u << 30)
		return 1u << 30;
	return r.rlim_cur > SPARE_FILES ? (unsigned)r.rlim_cur - SPARE_FILES : 1;
}

/* Cuts the URL into what the client connects to and the path in front of every route. */
static void split_url(const char *url, char **origin, char **prefix)
{
	const char *host = strstr(url, "://");
	size_t at = host ? (size_t)(host + 3 - url) : 0, end;

	at += strcspn(url + at, "/");
	end = strlen(url);
	while (end > at && url[end - 1] == '/')
		end--;
	*origin = mem_strdup(url);
	(*origin)[at] = 0;
	*prefix = mem_strdup(url + at);
	(*prefix)[end - at] = 0;
}

enum status load_target_open(struct load_target *t, const struct load_target_config *c, struct error *err)
{
	struct http_tls_config tls = { .client = true,
		.verify = c->insecure ? HTTP_TLS_VERIFY_NONE : HTTP_TLS_VERIFY_REQUIRED };
	struct http_client_config client = { .connect_ms = CONNECT_MS };
	struct load_target n = { .headers = c->headers, .n_headers = c->n_headers };
	char *origin;
	enum status st;

	BUG_ON(c->n_headers > MAX_HEADERS);
	raise_files();
	split_url(c->url, &origin, &n.prefix);
	if (strncasecmp(c->url, "https:", 6) == 0)
		TRY_GOTO(fail, http_tls_open(&n.tls, &tls, err));
	TRY_GOTO(fail, http_loop_create(&n.loop, err));
	client.url = origin;
	client.tls = n.tls;
	TRY_GOTO(fail, http_client_create(&n.client, n.loop, &client, err));
	free(origin);
	*t = n;
	return OK;
fail:
	free(origin);
	load_target_close(&n);
	return st;
}

void load_target_close(struct load_target *t)
{
	http_client_destroy(t->client);
	if (t->loop)
		http_loop_destroy(t->loop);
	if (t->tls)
		http_tls_close(t->tls);
	free(t->prefix);
	*t = (struct load_target){0};
}

struct question {
	struct load_target *target;
	const struct http_call_config *config;
	struct http_call *call;
	struct buf *answer;
	unsigned http;
	size_t begin;
	enum status st;
	struct error *err;
};

static void end(struct question *q, enum status st)
{
	q->st = st;
	q->call = NULL;
	http_loop_stop(q->target->loop);
}

static void on_head(void *arg, unsigned status, const struct http_header *headers, size_t n)
{
	((struct question *)arg)->http = status;
}

static void on_data(void *arg, const char *data, size_t len)
{
	struct question *q = arg;

	if (len > MAX_ANSWER_BYTES - (q->answer->len - q->begin)) {
		http_call_cancel(q->call);
		end(q, error_set(q->err, E_LIMIT, "answer of more than %zu bytes", MAX_ANSWER_BYTES));
		return;
	}
	buf_append(q->answer, data, len);
}

static void on_done(void *arg, enum status st, const struct error *err)
{
	struct question *q = arg;

	if (st != OK)
		error_set(q->err, st, "%s", err->msg);
	end(q, st);
}

static const struct http_call_handlers handlers = { .head = on_head, .data = on_data, .done = on_done };

/* From the loop: it sees first which kept connections have been closed while it did not run. */
static void on_begin(void *arg)
{
	struct question *q = arg;

	q->call = http_call_start(q->target->client, q->config, &handlers, q);
}

static void on_late(void *arg)
{
	struct question *q = arg;

	if (q->call)
		http_call_cancel(q->call);
	end(q, error_set(q->err, E_PEER, "no answer within %u s", (unsigned)(ASK_US / 1000000)));
}

enum status load_target_ask(struct load_target *t, const char *method, const char *route, const char *body,
	size_t len, unsigned *http, struct buf *answer, struct error *err)
{
	struct http_header headers[MAX_HEADERS + 1];
	struct http_call_config call = { .method = method, .headers = headers, .body = body, .body_bytes = len };
	struct question q = { .target = t, .config = &call, .answer = answer, .begin = answer->len, .err = err };
	struct http_timer *begin = http_timer_create(t->loop, on_begin, &q);
	struct http_timer *late = http_timer_create(t->loop, on_late, &q);
	struct buf target = { 0 };

	headers[call.n_headers++] = (struct http_header){ "Content-Type", "application/json" };
	for (size_t i = 0; i < t->n_headers; i++)
		headers[call.n_headers++] = t->headers[i];
	buf_printf(&target, "%s%s", t->prefix, route);
	call.target = target.data;
	http_timer_set(begin, 0);
	http_timer_set(late, ASK_US);
	http_loop_run(t->loop);
	http_timer_destroy(begin);
	http_timer_destroy(late);
	buf_deinit(&target);
	if (q.st != OK)
		return error_prefix(err, "%s %s", method, route);
	*http = q.http;
	return OK;
}

enum status load_target_json(json_t **out, struct load_target *t, const char *method, const char *route,
	const char *body, size_t len, struct error *err)
{
	struct buf answer = { 0 };
	unsigned http;
	enum status st;

	TRY_GOTO(out, load_target_ask(t, method, route, body, len, &http, &answer, err));
	if (http != 200)
		st = error_set(err, E_PEER, "%s %s: HTTP %u, expected 200", method, route, http);
	else
		st = json_load_text(out, answer.data ? answer.data : "", answer.len, route, err);
	if (st == OK && !json_is_object(*out)) {
		st = error_set(err, E_FORMAT, "%s %s: found %s, expected an object", method, route,
			json_type_name(*out));
		json_decref(*out);
	}
out:
	buf_deinit(&answer);
	return st;
}
