/* JSON written straight into a buffer, in one line: answers keep the order of keys that vLLM has. */
#ifndef SERVER_JSON_PUT_H
#define SERVER_JSON_PUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

void json_put_string(struct buf *out, const char *s, size_t len); /* valid UTF-8, quoted here */
void json_put_text(struct buf *out, const char *s);               /* the same; null for NULL */
/* A number that reads back as the same double, always with a point or exponent; finite. */
void json_put_real(struct buf *out, double v);
/* Of a logarithm of a probability: -infinity becomes -9999.0, as clients of vLLM expect. */
void json_put_logprob(struct buf *out, double v);
void json_put_ids(struct buf *out, const int32_t *ids, size_t n);

#endif
