/* TLS with certificates made here: the server against OpenSSL's own client and ours, refusals, client
 * certificates. */
#include "cm.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/client.h"
#include "http_case.h"

static char folder[] = "/tmp/fathom-tls-XXXXXX";
static char cert_path[64], key_path[64], other_key_path[64];

static void write_key(const char *path, EVP_PKEY *key)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(f);
}

/* A self-signed certificate for localhost and 127.0.0.1, which is its own authority. */
static int make_files(void **state)
{
	EVP_PKEY *key = EVP_EC_gen("P-256"), *other = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_EXTENSION *names = X509V3_EXT_conf_nid(
		NULL, NULL, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
	X509_NAME *name = X509_get_subject_name(cert);
	FILE *f;

	assert_non_null(mkdtemp(folder));
	snprintf(cert_path, sizeof(cert_path), "%s/cert.pem", folder);
	snprintf(key_path, sizeof(key_path), "%s/key.pem", folder);
	snprintf(other_key_path, sizeof(other_key_path), "%s/other.pem", folder);
	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
	X509_set_issuer_name(cert, name);
	X509_set_pubkey(cert, key);
	X509_add_ext(cert, names, -1);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	f = fopen(cert_path, "w");
	assert_non_null(f);
	assert_int_equal(PEM_write_X509(f, cert), 1);
	fclose(f);
	write_key(key_path, key);
	write_key(other_key_path, other);
	X509_EXTENSION_free(names);
	X509_free(cert);
	EVP_PKEY_free(key);
	EVP_PKEY_free(other);
	return 0;
}

static int remove_files(void **state)
{
	unlink(cert_path);
	unlink(key_path);
	unlink(other_key_path);
	rmdir(folder);
	return 0;
}

static struct http_tls *open_tls(struct http_tls_config config)
{
	struct http_tls *t;
	struct error err;

	if (http_tls_open(&t, &config, &err) != OK)
		fail_msg("%s", err.msg);
	return t;
}

static struct http_tls_config server_config(void)
{
	return (struct http_tls_config){.cert_file = cert_path, .key_file = key_path};
}

static void test_settings(void **state)
{
	static const struct {
		struct http_tls_config config;
		enum status st;
	} rows[] = {
		{{.cert_file = NULL}, E_INVAL},
		{{.cert_file = "/nonexistent"}, E_FORMAT},
		{{.cert_file = cert_path, .key_file = "/nonexistent"}, E_FORMAT},
		{{.cert_file = cert_path}, E_FORMAT},
		{{.cert_file = cert_path, .key_file = other_key_path}, E_FORMAT},
		{{.cert_file = cert_path, .key_file = key_path, .ciphers = "NONSENSE"}, E_INVAL},
		{{.cert_file = cert_path, .key_file = key_path, .verify = HTTP_TLS_VERIFY_REQUIRED}, E_INVAL},
		{{.cert_file = cert_path, .key_file = key_path, .ca_file = key_path}, E_FORMAT},
		{{.client = true, .ca_file = "/nonexistent"}, E_FORMAT},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct http_tls *t;
		struct error err = {0};

		if (http_tls_open(&t, &rows[i].config, &err) != rows[i].st)
			fail_msg("row %zu: %s", i, err.msg);
		assert_true(err.msg[0]);
	}
	http_tls_close(open_tls(server_config()));
	http_tls_close(open_tls((struct http_tls_config){.cert_file = cert_path, .key_file = key_path,
		.ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256"}));
}

/* OpenSSL's client, blocking: sends in pieces, reads to the end; false when the handshake fails. */
static bool talk(struct http_case *c, const char *request, size_t piece, int max_version,
	struct buf *in)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl;
	int fd = http_case_connect(c), n;
	bool ok;
	char data[65536];

	assert_int_equal(SSL_CTX_load_verify_file(ctx, cert_path), 1);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_max_proto_version(ctx, max_version);
	SSL_CTX_set_min_proto_version(ctx, max_version ? max_version : TLS1_2_VERSION);
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, fd);
	SSL_set1_host(ssl, "localhost");
	ok = SSL_connect(ssl) == 1;
	buf_reset(in);
	if (ok) {
		for (size_t at = 0; at < strlen(request); at += piece) {
			size_t left = strlen(request) - at;

			n = SSL_write(ssl, request + at, (int)(left < piece ? left : piece));
			assert_true(n > 0);
		}
		while ((n = SSL_read(ssl, data, sizeof(data))) > 0)
			buf_append(in, data, (size_t)n);
		/* The end is told, not a cut connection. */
		assert_int_equal(SSL_get_error(ssl, n), SSL_ERROR_ZERO_RETURN);
	}
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	close(fd);
	return ok;
}

static void test_server(void **state)
{
	static const char post[] = "POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
				   "GET /events?100 HTTP/1.1\r\nHost: a\r\n\r\n"
				   "GET /big?3000000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
	struct http_case c;
	struct buf in = {0};
	int fd;

	http_case_init(&c);
	c.tls = open_tls(server_config());
	http_case_open(&c);
	for (int version = 0; version <= TLS1_3_VERSION; version += version ? 1 : TLS1_2_VERSION) {
		for (size_t piece = 1; piece <= 1000; piece *= 1000) {
			assert_true(talk(&c, post, piece, version, &in));
			assert_non_null(strstr(in.data, "POST /e [] body"));
			assert_non_null(strstr(in.data, "data: {\"i\":99}\n\n"));
			assert_true(in.len > 3000000);
		}
	}
	/* Too old, or no TLS at all. */
	assert_false(talk(&c, post, 1, TLS1_1_VERSION, &in));
	fd = http_case_connect(&c);
	http_case_send(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	http_case_read_all(fd, &in);
	close(fd);
	assert_null(memmem(in.data, in.len, "HTTP/1.1", 8));
	http_case_wait_empty(&c);
	buf_deinit(&in);
	http_case_close(&c);
	http_tls_close(c.tls);
}

/* The header limit in time covers a handshake that does not come; silence is noticed under TLS too. */
static void test_server_timeouts(void **state)
{
	struct http_case c;
	struct buf in = {0};

	http_case_init(&c);
	c.limits.head_ms = 100;
	c.tls = open_tls(server_config());
	http_case_open(&c);
	http_case_ask(&c, "", &in);
	assert_int_equal(in.len, 0);
	http_case_ask(&c, "\x16\x03\x01", &in);
	assert_int_equal(in.len, 0);
	http_case_wait_empty(&c);
	buf_deinit(&in);
	http_case_close(&c);
	http_tls_close(c.tls);
}

struct result {
	struct http_case *c;
	struct http_client_config config;
	struct http_client *client;
	const char *target;
	struct http_call *call;
	struct buf body;
	unsigned events;
	enum status st;
	struct error err;
	atomic_uint done;
};

static void on_data(void *arg, const char *data, size_t len)
{
	struct result *r = arg;

	buf_append(&r->body, data, len);
}

static void on_event(void *arg, const char *event, const char *data, size_t len)
{
	struct result *r = arg;

	r->events++;
}

static void on_done(void *arg, enum status st, const struct error *err)
{
	struct result *r = arg;

	r->st = st;
	r->err = *err;
	atomic_fetch_add(&r->done, 1);
}

static const struct http_call_handlers handlers = {.data = on_data, .event = on_event, .done = on_done};

static void start(void *arg)
{
	struct result *r = arg;
	struct error err;

	if (!r->client)
		assert_int_equal(http_client_create(&r->client, r->c->loop, &r->config, &err), OK);
	r->call = http_call_start(r->client,
		&(struct http_call_config){.method = "GET", .target = r->target}, &handlers, r);
}

static void cancel(void *arg)
{
	struct result *r = arg;

	http_call_cancel(r->call);
}

static void close_client(void *arg)
{
	http_client_destroy(arg);
}

static void ask(struct result *r, const char *target)
{
	atomic_store(&r->done, 0);
	buf_reset(&r->body);
	r->target = target;
	http_case_call(r->c, start, r);
	http_case_wait(&r->done, 1);
}

static void test_client(void **state)
{
	static const struct {
		const char *host;
		bool trust;
		enum http_tls_verify verify;
		enum status st;
	} rows[] = {
		{"127.0.0.1", true, HTTP_TLS_VERIFY_REQUIRED, OK},
		{"localhost", true, HTTP_TLS_VERIFY_REQUIRED, OK},
		{"127.0.0.2", true, HTTP_TLS_VERIFY_REQUIRED, E_PEER}, /* not among its names */
		{"127.0.0.1", false, HTTP_TLS_VERIFY_REQUIRED, E_PEER},
		{"127.0.0.1", false, HTTP_TLS_VERIFY_NONE, OK},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct http_case c;
		struct result r = {.c = &c};
		char url[64];

		http_case_init(&c);
		c.host = strcmp(rows[i].host, "127.0.0.2") == 0 ? "127.0.0.2" : NULL;
		c.tls = open_tls(server_config());
		http_case_open(&c);
		snprintf(url, sizeof(url), "https://%s:%u", rows[i].host, c.port);
		r.config.url = url;
		r.config.tls = open_tls((struct http_tls_config){.client = true,
			.ca_file = rows[i].trust ? cert_path : NULL, .verify = rows[i].verify});
		ask(&r, "/big?1000000");
		if (r.st != rows[i].st)
			fail_msg("row %zu: %d %s", i, r.st, r.err.msg);
		if (r.st == OK) {
			assert_int_equal(r.body.len, 1000000);
			ask(&r, "/events?500");
			assert_int_equal(r.st, OK);
			assert_int_equal(r.events, 500);
			/* A disconnect in silence. */
			r.target = "/hold";
			http_case_call(&c, start, &r);
			http_case_wait(&c.handled, 3);
			http_case_call(&c, cancel, &r);
			http_case_wait(&c.closed, 1);
			assert_int_equal(atomic_load(&c.reason), HTTP_CLOSE_PEER);
		}
		http_case_call(&c, close_client, r.client);
		http_case_wait_empty(&c);
		http_case_close(&c);
		http_tls_close(c.tls);
		http_tls_close(r.config.tls);
		buf_deinit(&r.body);
	}
}

static void test_client_certificates(void **state)
{
	for (int way = 0; way < 4; way++) {
		struct http_tls_config server = server_config();
		struct http_case c;
		struct result r = {.c = &c};
		bool has = way & 1, needs = way & 2;
		char url[64];

		http_case_init(&c);
		server.ca_file = cert_path;
		server.verify = needs ? HTTP_TLS_VERIFY_REQUIRED : HTTP_TLS_VERIFY_OPTIONAL;
		c.tls = open_tls(server);
		http_case_open(&c);
		snprintf(url, sizeof(url), "https://127.0.0.1:%u", c.port);
		r.config.url = url;
		r.config.tls = open_tls((struct http_tls_config){.client = true, .ca_file = cert_path,
			.cert_file = has ? cert_path : NULL, .key_file = has ? key_path : NULL,
			.verify = HTTP_TLS_VERIFY_REQUIRED});
		ask(&r, "/e");
		assert_int_equal(r.st, needs && !has ? E_PEER : OK);
		http_case_call(&c, close_client, r.client);
		http_case_wait_empty(&c);
		http_case_close(&c);
		http_tls_close(c.tls);
		http_tls_close(r.config.tls);
		buf_deinit(&r.body);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_settings),
		cmocka_unit_test(test_server),
		cmocka_unit_test(test_server_timeouts),
		cmocka_unit_test(test_client),
		cmocka_unit_test(test_client_certificates),
	};

	return cmocka_run_group_tests(tests, make_files, remove_files);
}
