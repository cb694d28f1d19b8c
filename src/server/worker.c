/* The server's second thread (server/worker.h): two lists under one lock, and a bell. */
#include "server/worker.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/mem.h"

struct job_list {
	struct worker_job *first, **end;
};

struct worker {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stopping;
	struct job_list todo, finished; /* under the lock */
	struct http_bell *bell;
	struct tokenizer_scratch *scratch; /* the thread's */
};

static void list_init(struct job_list *l)
{
	l->first = NULL;
	l->end = &l->first;
}

static void list_put(struct job_list *l, struct worker_job *job)
{
	job->next = NULL;
	*l->end = job;
	l->end = &job->next;
}

static struct worker_job *list_take(struct job_list *l)
{
	struct worker_job *job = l->first;

	if (!job)
		return NULL;
	l->first = job->next;
	if (!l->first)
		l->end = &l->first;
	return job;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct worker_job *job;

	pthread_mutex_lock(&w->lock);
	while (!w->stopping) {
		job = list_take(&w->todo);
		if (!job) {
			pthread_cond_wait(&w->changed, &w->lock);
			continue;
		}
		pthread_mutex_unlock(&w->lock);
		job->run(job, w->scratch);
		pthread_mutex_lock(&w->lock);
		list_put(&w->finished, job);
		http_bell_ring(w->bell);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void finish_all(void *arg)
{
	struct worker *w = arg;
	struct worker_job *job;

	for (;;) {
		pthread_mutex_lock(&w->lock);
		job = list_take(&w->finished);
		pthread_mutex_unlock(&w->lock);
		if (!job)
			return;
		job->done(job);
	}
}

void worker_submit(struct worker *w, struct worker_job *job)
{
	pthread_mutex_lock(&w->lock);
	list_put(&w->todo, job);
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

void worker_cancel(struct worker *w, struct worker_job *job)
{
	pthread_mutex_lock(&w->lock);
	for (struct worker_job **link = &w->todo.first; *link; link = &(*link)->next) {
		if (*link != job)
			continue;
		*link = job->next;
		if (!*link)
			w->todo.end = link;
		list_put(&w->finished, job);
		http_bell_ring(w->bell);
		break;
	}
	pthread_mutex_unlock(&w->lock);
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
	if (pthread_create(&w->thread, NULL, work, w) != 0) {
		st = error_set(err, E_NOMEM, "cannot start the thread that reads long prompts");
		goto no_thread;
	}
	*out = w;
	return OK;
no_thread:
	http_bell_destroy(w->bell);
no_bell:
	tokenizer_scratch_destroy(w->scratch);
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
	free(w);
	return st;
}

void worker_destroy(struct worker *w)
{
	struct worker_job *job;

	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	while ((job = list_take(&w->todo)))
		list_put(&w->finished, job);
	finish_all(w);
	http_bell_destroy(w->bell);
	tokenizer_scratch_destroy(w->scratch);
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
