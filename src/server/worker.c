/* The server's second thread (server/worker.h): two lists under one lock, and a bell. */
#include "server/worker.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/mem.h"

struct work_list {
	struct work *first, **end;
};

struct worker {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stopping, busy;
	struct work_list todo, finished; /* under the lock */
	struct http_bell *bell;
	struct tokenizer_scratch *scratch; /* the thread's */
};

/* --- the lists ------------------------------------------------------------------------------------------ */

static void list_init(struct work_list *l)
{
	l->first = NULL;
	l->end = &l->first;
}

static void list_put(struct work_list *l, struct work *work)
{
	work->next = NULL;
	*l->end = work;
	l->end = &work->next;
}

static void list_put_first(struct work_list *l, struct work *work)
{
	work->next = l->first;
	l->first = work;
	if (!work->next)
		l->end = &work->next;
}

static struct work *list_take(struct work_list *l)
{
	struct work *work = l->first;

	if (!work)
		return NULL;
	l->first = work->next;
	if (!l->first)
		l->end = &l->first;
	return work;
}

static bool list_remove(struct work_list *l, const struct work *work)
{
	for (struct work **link = &l->first; *link; link = &(*link)->next) {
		if (*link != work)
			continue;
		*link = work->next;
		if (!*link)
			l->end = link;
		return true;
	}
	return false;
}

/* --- the thread ----------------------------------------------------------------------------------------- */

static void make(struct work *work, struct tokenizer_scratch *scratch)
{
	work->st = work->make(work, scratch, &work->no);
	work->made = true;
}

static void *run(void *arg)
{
	struct worker *w = arg;
	struct work *work;

	pthread_mutex_lock(&w->lock);
	while (!w->stopping) {
		work = list_take(&w->todo);
		w->busy = work != NULL;
		if (!work) {
			pthread_cond_wait(&w->changed, &w->lock);
			continue;
		}
		pthread_mutex_unlock(&w->lock);
		make(work, w->scratch);
		pthread_mutex_lock(&w->lock);
		list_put(&w->finished, work);
		http_bell_ring(w->bell);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* --- the loop ------------------------------------------------------------------------------------------- */

static void finish(struct work *work)
{
	http_request_drop_body(work->call->r);
	if (!work->gone && work->st == OK) {
		work->answer(work);
		return;
	}
	if (work->gone)
		call_drop(work->call);
	else
		call_refuse(work->call, &work->no);
	work->drop(work);
}

static void finish_all(void *arg)
{
	struct worker *w = arg;
	struct work *work;

	for (;;) {
		pthread_mutex_lock(&w->lock);
		work = list_take(&w->finished);
		pthread_mutex_unlock(&w->lock);
		if (!work)
			return;
		if (work->call) {
			BUG_ON(!work->made && !work->gone);
			work->call->s->load--;
			finish(work);
		} else {
			work->drop(work);
		}
	}
}

static void submit(struct worker *w, struct work *work, void (*put)(struct work_list *l, struct work *work))
{
	pthread_mutex_lock(&w->lock);
	put(&w->todo, work);
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

/* Its body no longer counts among those that are held, so it must not wait on. */
static void peer_gone(void *arg, enum http_close_reason reason)
{
	struct work *work = arg;
	struct worker *w = work->call->s->worker;

	work->gone = true;
	pthread_mutex_lock(&w->lock);
	if (list_remove(&w->todo, work)) {
		list_put(&w->finished, work);
		http_bell_ring(w->bell);
	}
	pthread_mutex_unlock(&w->lock);
}

void work_begin(struct work *work)
{
	struct serving *s = work->call->s;

	if (work->call->r->body_bytes < WORKER_FROM_BYTES) {
		work->on_loop = s->worker != NULL; /* tests have none */
		make(work, s->scratch);
		work->on_loop = false;
		if (!work->again) {
			finish(work);
			return;
		}
		work->again = work->made = false;
	}
	s->load++;
	http_request_on_close(work->call->r, peer_gone, work);
	submit(s->worker, work, list_put);
}

bool worker_is_idle(struct worker *w)
{
	bool idle;

	pthread_mutex_lock(&w->lock);
	idle = !w->busy && !w->todo.first;
	pthread_mutex_unlock(&w->lock);
	return idle;
}

/* --- JSON ----------------------------------------------------------------------------------------------- */

struct freeing {
	struct work work; /* first; without a call */
	struct serving *s;
	struct work_json v; /* owned */
};

static void free_json(struct serving *s, const struct work_json *v)
{
	json_decref(v->body);
	json_decref(v->request);
	atomic_fetch_sub_explicit(&s->json_bytes, v->json_bytes, memory_order_relaxed);
}

static enum status free_value(struct work *work, struct tokenizer_scratch *scratch, struct refusal *no)
{
	struct freeing *f = (struct freeing *)work;

	free_json(f->s, &f->v);
	f->v = (struct work_json){ 0 };
	return OK;
}

static void end_freeing(struct work *work)
{
	struct freeing *f = (struct freeing *)work;

	free_json(f->s, &f->v); /* what the thread did not come to */
	free(f);
}

void work_free_json(struct serving *s, const struct work_json *v)
{
	struct freeing *f;

	if ((!v->body && !v->request) || !s->worker || v->body_bytes < WORKER_FROM_BYTES) {
		free_json(s, v);
		return;
	}
	f = mem_alloc(sizeof(*f));
	*f = (struct freeing){ .work = { .make = free_value, .drop = end_freeing }, .s = s, .v = *v };
	submit(s->worker, &f->work, list_put_first); /* memory comes back before more is taken */
}

/* --- start and end -------------------------------------------------------------------------------------- */

static void free_worker(struct worker *w)
{
	tokenizer_scratch_destroy(w->scratch);
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

enum status worker_create(struct worker **out, struct http_loop *loop, struct error *err)
{
	struct worker *w = mem_alloc(sizeof(*w));
	enum status st;

	list_init(&w->todo);
	list_init(&w->finished);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->changed, NULL);
	w->scratch = tokenizer_scratch_create();
	TRY_GOTO(no_bell, http_bell_create(&w->bell, loop, finish_all, w, err));
	if (pthread_create(&w->thread, NULL, run, w) != 0) {
		st = error_set(err, E_NOMEM, "cannot start the thread that reads long bodies");
		goto no_thread;
	}
	*out = w;
	return OK;
no_thread:
	http_bell_destroy(w->bell);
no_bell:
	free_worker(w);
	return st;
}

void worker_destroy(struct worker *w)
{
	struct work *work;

	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	/* What is dropped may leave JSON to be freed. */
	while (w->todo.first || w->finished.first) {
		while ((work = list_take(&w->todo)))
			list_put(&w->finished, work);
		finish_all(w);
	}
	http_bell_destroy(w->bell);
	free_worker(w);
}
