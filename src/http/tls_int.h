/* One TLS session over a non-blocking socket; tls_openssl.c, or tls_none.c in builds without. */
#ifndef HTTP_TLS_INT_H
#define HTTP_TLS_INT_H

#include <stddef.h>

#include "http/tls.h"

enum http_io_result {
	HTTP_IO_OK,
	HTTP_IO_WANT_READ,  /* nothing moved; again when the socket is readable */
	HTTP_IO_WANT_WRITE, /* nothing moved; again when it is writable */
	HTTP_IO_EOF,
	HTTP_IO_ERROR,
};

struct http_tls_session;

/* host: the name that a client's peer must prove and is asked for; NULL for a server. NULL when
 * memory is out. */
struct http_tls_session *http_tls_session_create(struct http_tls *t, int fd, const char *host);
void http_tls_session_destroy(struct http_tls_session *s);
enum http_io_result http_tls_handshake(struct http_tls_session *s, struct error *err);
enum http_io_result http_tls_read(struct http_tls_session *s, void *data, size_t cap, size_t *got);
enum http_io_result http_tls_write(
	struct http_tls_session *s, const void *data, size_t len, size_t *put);
bool http_tls_pending(struct http_tls_session *s); /* read bytes that no poll will report */
void http_tls_shutdown(struct http_tls_session *s);

#endif
