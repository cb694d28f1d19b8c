/*
 * Who waits and who runs, both in one order: by priority (equal under FCFS), then by arrival. The last of
 * the running is therefore the one to preempt, and a preempted sequence goes before whatever came later.
 */
#include <string.h>

#include "sched/sched_int.h"

bool seq_before(const struct sched_seq *a, const struct sched_seq *b)
{
	return a->priority != b->priority ? a->priority < b->priority : a->arrival < b->arrival;
}

/* Looks for the place from the end that is likely near: a new sequence goes to the back, one that ran
 * before to the front. */
void waiting_add(struct sched *s, struct sched_seq *q)
{
	struct sched_seq *head = &s->waiting, *at;

	if (q->ran) {
		at = head->next;
		while (at != head && seq_before(at, q))
			at = at->next;
	} else {
		at = head;
		while (at->prev != head && seq_before(q, at->prev))
			at = at->prev;
	}
	q->next = at;
	q->prev = at->prev;
	at->prev->next = q;
	at->prev = q;
	q->state = SCHED_WAITING;
	q->looked = false;
	s->n_waiting++;
	s->waiting_tokens += q->n_known;
}

void waiting_remove(struct sched *s, struct sched_seq *q)
{
	BUG_ON(q->state != SCHED_WAITING);
	q->prev->next = q->next;
	q->next->prev = q->prev;
	q->prev = q->next = NULL;
	s->n_waiting--;
	s->waiting_tokens -= q->n_known;
}

void running_add(struct sched *s, struct sched_seq *q)
{
	uint32_t i = s->n_running;

	BUG_ON(s->n_running == s->config.max_num_seqs);
	for (; i > 0 && seq_before(q, s->running[i - 1]); i--)
		s->running[i] = s->running[i - 1];
	s->running[i] = q;
	s->n_running++;
	q->state = SCHED_RUNNING;
}

void running_remove(struct sched *s, struct sched_seq *q)
{
	uint32_t i = s->n_running;

	do
		BUG_ON(i == 0);
	while (s->running[--i] != q);
	s->n_running--;
	memmove(s->running + i, s->running + i + 1, sizeof(*s->running) * (s->n_running - i));
}
