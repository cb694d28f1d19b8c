/*
 * TLS by OpenSSL 3 over our own socket BIO: the library's writes without MSG_NOSIGNAL, and a
 * process that serves must not die of SIGPIPE nor change how the process takes it.
 */
#include "http/tls_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"

struct http_tls {
	SSL_CTX *ctx;
	BIO_METHOD *bio;
	bool client;
	bool verify;
};

struct http_tls_session {
	SSL *ssl;
	int fd;
};

static const char *ssl_reason(void)
{
	unsigned long code = ERR_peek_last_error();
	const char *text = code ? ERR_reason_error_string(code) : NULL;

	return text ? text : "unknown TLS error";
}

static int bio_put(BIO *b, const char *data, int len)
{
	struct http_tls_session *s = BIO_get_data(b);
	ssize_t n;

	BIO_clear_retry_flags(b);
	do
		n = send(s->fd, data, (size_t)len, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		BIO_set_retry_write(b);
	return (int)n;
}

static int bio_get(BIO *b, char *data, int len)
{
	struct http_tls_session *s = BIO_get_data(b);
	ssize_t n;

	BIO_clear_retry_flags(b);
	do
		n = recv(s->fd, data, (size_t)len, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		BIO_set_retry_read(b);
	if (n == 0)
		BIO_set_flags(b, BIO_FLAGS_IN_EOF);
	return (int)n;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	if (cmd == BIO_CTRL_EOF)
		return BIO_test_flags(b, BIO_FLAGS_IN_EOF) != 0;
	return cmd == BIO_CTRL_FLUSH || cmd == BIO_CTRL_PUSH || cmd == BIO_CTRL_POP;
}

static int bio_create(BIO *b)
{
	BIO_set_init(b, 1);
	return 1;
}

static BIO_METHOD *bio_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "fathom socket");

	if (m) {
		BIO_meth_set_write(m, bio_put);
		BIO_meth_set_read(m, bio_get);
		BIO_meth_set_ctrl(m, bio_ctrl);
		BIO_meth_set_create(m, bio_create);
	}
	return m;
}

static enum status load_files(SSL_CTX *ctx, const struct http_tls_config *c, struct error *err)
{
	const char *key = c->key_file ? c->key_file : c->cert_file;

	if (c->cert_file) {
		if (SSL_CTX_use_certificate_chain_file(ctx, c->cert_file) != 1)
			return error_set(err, E_FORMAT, "%s: cannot be used as certificate: %s",
				c->cert_file, ssl_reason());
		if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
			return error_set(
				err, E_FORMAT, "%s: cannot be used as key: %s", key, ssl_reason());
		if (SSL_CTX_check_private_key(ctx) != 1)
			return error_set(
				err, E_FORMAT, "%s: is not the key of %s", key, c->cert_file);
	}
	if (c->ca_file) {
		if (SSL_CTX_load_verify_file(ctx, c->ca_file) != 1)
			return error_set(err, E_FORMAT,
				"%s: cannot be used as list of authorities: %s", c->ca_file,
				ssl_reason());
		if (!c->client)
			SSL_CTX_set_client_CA_list(ctx, SSL_load_client_CA_file(c->ca_file));
	} else if (c->client && c->verify != HTTP_TLS_VERIFY_NONE) {
		if (SSL_CTX_set_default_verify_paths(ctx) != 1)
			return error_set(err, E_IO, "TLS: no authorities of the system");
	}
	if (c->ciphers && SSL_CTX_set_cipher_list(ctx, c->ciphers) != 1)
		return error_set(err, E_INVAL, "TLS ciphers '%s': %s", c->ciphers, ssl_reason());
	return OK;
}

static int verify_mode(const struct http_tls_config *c)
{
	if (c->verify == HTTP_TLS_VERIFY_NONE)
		return SSL_VERIFY_NONE;
	if (c->verify == HTTP_TLS_VERIFY_OPTIONAL)
		return SSL_VERIFY_PEER;
	return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
}

/* Only HTTP/1.1 is spoken here; a client that offers h2 as well learns it in the handshake. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
	const unsigned char *in, unsigned in_len, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";

	if (SSL_select_next_proto((unsigned char **)out, out_len, ours, sizeof(ours) - 1, in,
		    in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	return SSL_TLSEXT_ERR_OK;
}

enum status http_tls_open(
	struct http_tls **out, const struct http_tls_config *config, struct error *err)
{
	static const unsigned char session_context[] = "fathom";
	struct http_tls *t;
	enum status st;

	if (!config->client && !config->cert_file)
		return error_set(err, E_INVAL, "TLS: a server needs a certificate file");
	if (!config->client && config->verify != HTTP_TLS_VERIFY_NONE && !config->ca_file)
		return error_set(
			err, E_INVAL, "TLS: client certificates need a file of authorities");
	t = mem_alloc(sizeof(*t));
	ERR_clear_error();
	t->client = config->client;
	t->verify = config->verify != HTTP_TLS_VERIFY_NONE;
	t->bio = bio_method();
	t->ctx = SSL_CTX_new(config->client ? TLS_client_method() : TLS_server_method());
	if (!t->bio || !t->ctx) {
		st = error_set(err, E_NOMEM, "TLS: %s", ssl_reason());
		goto fail;
	}
	SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION);
	SSL_CTX_set_options(t->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_mode(t->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
					 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					 SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_verify(t->ctx, verify_mode(config), NULL);
	if (!config->client) {
		SSL_CTX_set_session_id_context(
			t->ctx, session_context, sizeof(session_context) - 1);
		SSL_CTX_set_alpn_select_cb(t->ctx, choose_protocol, NULL);
	}
	TRY_GOTO(fail, load_files(t->ctx, config, err));
	*out = t;
	return OK;
fail:
	http_tls_close(t);
	return st;
}

void http_tls_close(struct http_tls *t)
{
	if (!t)
		return;
	SSL_CTX_free(t->ctx);
	BIO_meth_free(t->bio);
	free(t);
}

/* The name or address that the certificate must be for. */
static bool expect_host(SSL *ssl, const char *host)
{
	unsigned char address[16];

	if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
	return SSL_set_tlsext_host_name(ssl, host) == 1 && SSL_set1_host(ssl, host) == 1;
}

struct http_tls_session *http_tls_session_create(struct http_tls *t, int fd, const char *host)
{
	struct http_tls_session *s = mem_alloc(sizeof(*s));
	BIO *bio = BIO_new(t->bio);

	s->fd = fd;
	s->ssl = SSL_new(t->ctx);
	if (!bio || !s->ssl) {
		BIO_free(bio);
		http_tls_session_destroy(s);
		return NULL;
	}
	BIO_set_data(bio, s);
	SSL_set_bio(s->ssl, bio, bio);
	if (!t->client) {
		SSL_set_accept_state(s->ssl);
	} else {
		SSL_set_connect_state(s->ssl);
		if (t->verify && host && !expect_host(s->ssl, host)) {
			http_tls_session_destroy(s);
			return NULL;
		}
	}
	return s;
}

void http_tls_session_destroy(struct http_tls_session *s)
{
	if (!s)
		return;
	SSL_free(s->ssl);
	free(s);
}

static enum http_io_result result_of(struct http_tls_session *s, int rc)
{
	switch (SSL_get_error(s->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
		return HTTP_IO_WANT_READ;
	case SSL_ERROR_WANT_WRITE:
		return HTTP_IO_WANT_WRITE;
	case SSL_ERROR_ZERO_RETURN:
		return HTTP_IO_EOF;
	default:
		return HTTP_IO_ERROR;
	}
}

enum http_io_result http_tls_handshake(struct http_tls_session *s, struct error *err)
{
	enum http_io_result r;
	int rc;

	ERR_clear_error();
	rc = SSL_do_handshake(s->ssl);
	if (rc == 1)
		return HTTP_IO_OK;
	r = result_of(s, rc);
	if (r == HTTP_IO_ERROR) {
		long verify = SSL_get_verify_result(s->ssl);

		error_set(err, E_PEER, "TLS handshake: %s",
			verify != X509_V_OK ? X509_verify_cert_error_string(verify) : ssl_reason());
	}
	return r;
}

enum http_io_result http_tls_read(struct http_tls_session *s, void *data, size_t cap, size_t *got)
{
	ERR_clear_error();
	if (SSL_read_ex(s->ssl, data, cap, got) == 1)
		return HTTP_IO_OK;
	return result_of(s, 0);
}

enum http_io_result http_tls_write(
	struct http_tls_session *s, const void *data, size_t len, size_t *put)
{
	ERR_clear_error();
	if (SSL_write_ex(s->ssl, data, len, put) == 1)
		return HTTP_IO_OK;
	return result_of(s, 0);
}

bool http_tls_pending(struct http_tls_session *s)
{
	return SSL_has_pending(s->ssl) == 1;
}

void http_tls_shutdown(struct http_tls_session *s)
{
	ERR_clear_error();
	SSL_shutdown(s->ssl);
}
