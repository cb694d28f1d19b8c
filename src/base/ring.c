/*
 * Single-producer, single-consumer ring (base/ring.h). Callers: the seam between server and engine.
 *
 * Invariant: head - tail (modulo 2^32) is the number of records inside, at most the capacity. head
 * is written by the producer alone, tail by the consumer alone. Each side keeps its last view of
 * the other's counter on its own cache line and reads the shared one only when that view does not
 * suffice, so that a busy ring does not bounce lines for every record.
 */
#include "base/ring.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CAPACITY (1u << 30)
#define MAX_RECORD_BYTES (1u << 16)

struct ring {
	/* producer's line */
	_Alignas(64) _Atomic uint32_t head;
	uint32_t tail_seen;
	/* consumer's line */
	_Alignas(64) _Atomic uint32_t tail;
	uint32_t head_seen;
	/* constant */
	_Alignas(64) uint32_t mask;
	uint32_t record_bytes;
	unsigned char records[];
};

enum status ring_create(
	struct ring **out, uint32_t capacity, uint32_t record_bytes, struct error *err)
{
	struct ring *r;
	size_t bytes;

	if (capacity == 0 || capacity > MAX_CAPACITY || capacity & (capacity - 1))
		return error_set(err, E_INVAL,
			"ring: found %u records, expected a power of two up to %u", capacity,
			MAX_CAPACITY);
	if (record_bytes == 0 || record_bytes > MAX_RECORD_BYTES)
		return error_set(err, E_INVAL, "ring: found records of %u bytes, expected 1 to %u",
			record_bytes, MAX_RECORD_BYTES);
	bytes = (sizeof(*r) + (size_t)capacity * record_bytes + 63) / 64 * 64;
	r = aligned_alloc(64, bytes);
	if (!r)
		return error_set(err, E_NOMEM, "ring: no memory for %u records of %u bytes",
			capacity, record_bytes);
	memset(r, 0, sizeof(*r));
	r->mask = capacity - 1;
	r->record_bytes = record_bytes;
	*out = r;
	return OK;
}

void ring_destroy(struct ring *r)
{
	free(r);
}

static unsigned char *ring_at(struct ring *r, uint32_t index)
{
	return r->records + (size_t)(index & r->mask) * r->record_bytes;
}

bool ring_push(struct ring *r, const void *record)
{
	uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

	if (head - r->tail_seen > r->mask) {
		r->tail_seen = atomic_load_explicit(&r->tail, memory_order_acquire);
		if (head - r->tail_seen > r->mask)
			return false;
	}
	memcpy(ring_at(r, head), record, r->record_bytes);
	atomic_store_explicit(&r->head, head + 1, memory_order_release);
	return true;
}

bool ring_pop(struct ring *r, void *record)
{
	uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);

	if (r->head_seen == tail) {
		r->head_seen = atomic_load_explicit(&r->head, memory_order_acquire);
		if (r->head_seen == tail)
			return false;
	}
	memcpy(record, ring_at(r, tail), r->record_bytes);
	atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
	return true;
}

uint32_t ring_count(const struct ring *r)
{
	uint32_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
	uint32_t n = atomic_load_explicit(&r->head, memory_order_acquire) - tail;

	/* Between the two loads the producer may have filled what the consumer freed. */
	return n <= r->mask ? n : r->mask + 1;
}
