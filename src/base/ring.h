/*
 * Ring of fixed-size records from one producer thread to one consumer thread, without locks.
 *
 * Records are copied in and out. A record that ring_pop() returned happened after everything that
 * the producer did before its ring_push(). Nothing allocates after creation; neither side ever
 * waits: who wants to sleep pairs the ring with an eventfd.
 */
#ifndef BASE_RING_H
#define BASE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct ring;

/* capacity: records, a power of two up to 2^30; record_bytes: 1 to 65536. */
enum status ring_create(
	struct ring **out, uint32_t capacity, uint32_t record_bytes, struct error *err);
void ring_destroy(struct ring *r);

/* Producer: copies a record in; false, taking nothing, when the ring is full. */
bool ring_push(struct ring *r, const void *record);

/* Consumer: copies the oldest record out; false, touching nothing, when the ring is empty. */
bool ring_pop(struct ring *r, void *record);

/* Records inside, for metrics: exact on either side's thread as far as its own work goes. */
uint32_t ring_count(const struct ring *r);

#endif
