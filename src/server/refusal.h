/*
 * Why a request is not served: HTTP status and vLLM's error object. Parsers fill it and return E_INVAL, so
 * that TRY carries it to the route, which answers with it.
 */
#ifndef SERVER_REFUSAL_H
#define SERVER_REFUSAL_H

#include "base/buf.h"
#include "base/error.h"

struct refusal {
	unsigned status;
	const char *type;  /* static */
	char param[96];    /* "": null */
	char message[480]; /* never a path, an address or more than a little of the request */
};

/* 400 BadRequestError: a value that cannot be served. param: the field, or NULL. */
enum status refuse(struct refusal *no, const char *param, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* 400 "Bad Request": not JSON, or a field of another type. */
enum status refuse_shape(struct refusal *no, const char *param, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
enum status refuse_status(struct refusal *no, unsigned status, const char *type, const char *param,
	const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* What a lower module found wrong with the request. */
enum status refuse_error(struct refusal *no, const char *param, const struct error *err);

/* {"error":{"message":...,"type":...,"param":...,"code":...}} */
void refusal_put(struct buf *out, const struct refusal *no);
/* The same for the Anthropic API: {"type":"error","error":{"type":...,"message":...}} */
void refusal_put_anthropic(struct buf *out, const struct refusal *no);

#endif
