/* Error objects (server/refusal.h). */
#include "server/refusal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/json_put.h"
#include "text/unicode.h"

/* Keeps a message UTF-8: what is none becomes '?', and a code point that snprintf cut at the end goes. Messages may quote bytes
 * of a body. */
static void mend(char *s)
{
	size_t len = strlen(s);

	for (size_t at = 0; at < len;) {
		int n = utf8_check(s + at, len - at);

		if (n == 0) {
			s[at] = 0;
			return;
		}
		if (n < 0) {
			n = -n;
			memset(s + at, '?', (size_t)n);
		}
		at += (size_t)n;
	}
}

static enum status fill(struct refusal *no, unsigned status, const char *type, const char *param,
	const char *fmt, va_list ap)
{
	no->status = status;
	no->type = type;
	snprintf(no->param, sizeof(no->param), "%s", param ? param : "");
	mend(no->param);
	vsnprintf(no->message, sizeof(no->message), fmt, ap);
	mend(no->message);
	return E_INVAL;
}

enum status refuse(struct refusal *no, const char *param, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fill(no, 400, "BadRequestError", param, fmt, ap);
	va_end(ap);
	return E_INVAL;
}

enum status refuse_shape(struct refusal *no, const char *param, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fill(no, 400, "Bad Request", param, fmt, ap);
	va_end(ap);
	return E_INVAL;
}

enum status refuse_status(struct refusal *no, unsigned status, const char *type, const char *param,
	const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fill(no, status, type, param, fmt, ap);
	va_end(ap);
	return E_INVAL;
}

enum status refuse_error(struct refusal *no, const char *param, const struct error *err)
{
	return refuse(no, param, "%s", err->msg);
}

void refusal_put(struct buf *out, const struct refusal *no)
{
	buf_puts(out, "{\"error\":{\"message\":");
	json_put_text(out, no->message);
	buf_puts(out, ",\"type\":");
	json_put_text(out, no->type);
	buf_puts(out, ",\"param\":");
	json_put_text(out, *no->param ? no->param : NULL);
	buf_printf(out, ",\"code\":%u}}", no->status);
}

void refusal_put_anthropic(struct buf *out, const struct refusal *no)
{
	static const struct {
		unsigned status;
		const char *type;
	} types[] = {
		{ 401, "authentication_error" }, { 403, "permission_error" }, { 404, "not_found_error" },
		{ 413, "request_too_large" }, { 429, "rate_limit_error" }, { 503, "overloaded_error" },
	};
	const char *type = no->status < 500 ? "invalid_request_error" : "api_error";

	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		if (types[i].status == no->status)
			type = types[i].type;
	}
	buf_printf(out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", type);
	json_put_text(out, no->message);
	buf_puts(out, "}}");
}
