/*
 * TLS settings of a listener or a client: certificate, key, trust, ciphers; TLS 1.2 and later. One
 * object serves any number of connections and must outlive them. A build without the `tls` feature
 * refuses to open one.
 */
#ifndef HTTP_TLS_H
#define HTTP_TLS_H

#include <stdbool.h>

#include "base/error.h"

enum http_tls_verify {
	HTTP_TLS_VERIFY_NONE,	  /* do not ask the peer for a certificate, or do not look at it */
	HTTP_TLS_VERIFY_OPTIONAL, /* server: a certificate that comes must be good */
	HTTP_TLS_VERIFY_REQUIRED, /* a good certificate must come; for a client, for its host name
				   */
};

struct http_tls_config {
	bool client;
	const char *cert_file; /* PEM, chain included; a server must have one */
	const char *key_file;  /* PEM without passphrase; NULL: in cert_file */
	const char *ca_file;   /* PEM of those to trust; NULL: a client takes the system's */
	const char *ciphers;   /* OpenSSL cipher list for TLS 1.2; NULL: OpenSSL's */
	enum http_tls_verify verify;
};

struct http_tls;

/* Reads all files; E_UNSUPPORTED in a build without TLS. */
enum status http_tls_open(
	struct http_tls **out, const struct http_tls_config *config, struct error *err);
void http_tls_close(struct http_tls *t);

#endif
