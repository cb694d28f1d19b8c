/* The TLS functions of a build without the `tls` feature: nothing opens, so nothing else is
 * reached. */
#include "http/tls_int.h"

enum status http_tls_open(
	struct http_tls **out, const struct http_tls_config *config, struct error *err)
{
	return error_set(err, E_UNSUPPORTED, "TLS: this build has none (meson option tls)");
}

void http_tls_close(struct http_tls *t)
{
}

struct http_tls_session *http_tls_session_create(struct http_tls *t, int fd, const char *host)
{
	BUG_ON(true);
}

void http_tls_session_destroy(struct http_tls_session *s)
{
}

enum http_io_result http_tls_handshake(struct http_tls_session *s, struct error *err)
{
	BUG_ON(true);
}

enum http_io_result http_tls_read(struct http_tls_session *s, void *data, size_t cap, size_t *got)
{
	BUG_ON(true);
}

enum http_io_result http_tls_write(
	struct http_tls_session *s, const void *data, size_t len, size_t *put)
{
	BUG_ON(true);
}

bool http_tls_pending(struct http_tls_session *s)
{
	BUG_ON(true);
}

void http_tls_shutdown(struct http_tls_session *s)
{
}
