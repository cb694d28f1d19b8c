/* The message parser: what it takes, what it refuses with which status, wherever the bytes are cut. */
#include "cm.h"

#include <stdlib.h>
#include <string.h>

#include "http/field.h"
#include "http/message.h"

static const struct http_message_limits limits = {.head_bytes = 400, .head_fields = 5};

#define H "Host: a\r\n"

static const struct {
	const char *text;
	unsigned error; /* 0: complete */
	const char *body;
} requests[] = {
	{"GET / HTTP/1.1\r\n" H "\r\n", 0, ""},
	{"\r\nGET / HTTP/1.1\r\n" H "\r\n", 0, ""},
	{"GET /a%20b?x=%00 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 0, ""},
	{"OPTIONS * HTTP/1.1\r\n" H "\r\n", 0, ""},
	{"GET http://a/x HTTP/1.1\r\nHOST:A\r\n\r\n", 0, ""},
	{"POST / HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc", 0, "abc"},
	{"POST / HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", 0, ""},
	{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n00a;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
		0, "abc0123456789"},
	{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\nC:\r\n\r\n", 0, ""},
	{"GET / HTTP/1.1\r\n" H "X: \xC3\xA4\t y \r\nEmpty:\r\n\r\n", 0, ""},
	/* HTTP/1.0 */
	{"GET / HTTP/1.0\r\n\r\n", 0, ""},
	{"GET http://b/x HTTP/1.0\r\n\r\n", 0, ""},
	{"GET http://b/x HTTP/1.0\r\n" H "\r\n", 400, NULL},
	{"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", 0, "abc"},
	{"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, NULL},
	{"GET / HTTP/1.0\r\n" H H "\r\n", 400, NULL},
	/* start line */
	{"\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n", 400, NULL},
	{"GET / HTTP/0.9\r\n" H "\r\n", 505, NULL},
	{"GET / HTTP/1.2\r\n" H "\r\n", 505, NULL},
	{"GET / HTTP/2.0\r\n" H "\r\n", 505, NULL},
	{"PRI * HTTP/2.0\r\n\r\n", 505, NULL},
	{"GET / HTTP/1.10\r\n" H "\r\n", 400, NULL},
	{"GET / http/1.1\r\n" H "\r\n", 400, NULL},
	{"GET / HTTP/1.1 \r\n" H "\r\n", 400, NULL},
	{"GET  / HTTP/1.1\r\n" H "\r\n", 400, NULL},
	{" GET / HTTP/1.1\r\n" H "\r\n", 400, NULL},
	{"GET /\r\n" H "\r\n", 400, NULL},
	{"GET\r\n", 400, NULL},
	{"G(T / HTTP/1.1\r\n" H "\r\n", 400, NULL},
	{"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n" H "\r\n", 400, NULL},
	{"GET /a b HTTP/1.1\r\n" H "\r\n", 400, NULL},
	{"GET /\xC3\xA4 HTTP/1.1\r\n" H "\r\n", 400, NULL},
	{"GET /a#b HTTP/1.1\r\n" H "\r\n", 400, NULL},
	{"GET /%00 HTTP/1.1\r\n" H "\r\n", 400, NULL},
	{"GET /%0a HTTP/1.1\r\n" H "\r\n", 400, NULL},
	{"GET /%4 HTTP/1.1\r\n" H "\r\n", 400, NULL},
	{"GET /%zz HTTP/1.1\r\n" H "\r\n", 400, NULL},
	{"GET x HTTP/1.1\r\n" H "\r\n", 400, NULL},
	{"GET * HTTP/1.1\r\n" H "\r\n", 400, NULL},
	{"CONNECT a:443 HTTP/1.1\r\n" H "\r\n", 400, NULL},
	{"GET http://b/x HTTP/1.1\r\n" H "\r\n", 400, NULL},
	{"GET http://u@a/x HTTP/1.1\r\n" H "\r\n", 400, NULL},
	{"GET ftp://a/x HTTP/1.1\r\n" H "\r\n", 400, NULL},
	/* line ends and control characters */
	{"GET / HTTP/1.1\n" H "\r\n", 400, NULL},
	{"GET / HTTP/1.1\r\nHost: a\n\r\n", 400, NULL},
	{"GET / HTTP/1.1\r\n" H "\n", 400, NULL},
	{"GET / HTTP/1.1\r\n" H "X: a\rb\r\n\r\n", 400, NULL},
	{"GET /\r HTTP/1.1\r\n" H "\r\n", 400, NULL},
	{"GET / HTTP/1.1\r\n" H "X: a\x01\r\n\r\n", 400, NULL},
	{"GET / HTTP/1.1\r\n" H "X: a\x7F\r\n\r\n", 400, NULL},
	/* fields */
	{"GET / HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n", 400, NULL},
	{"GET / HTTP/1.1\r\n X: a\r\n" H "\r\n", 400, NULL},
	{"GET / HTTP/1.1\r\n" H "X : a\r\n\r\n", 400, NULL},
	{"GET / HTTP/1.1\r\n" H "X\r\n\r\n", 400, NULL},
	{"GET / HTTP/1.1\r\n" H ": a\r\n\r\n", 400, NULL},
	{"GET / HTTP/1.1\r\n\r\n", 400, NULL},
	{"GET / HTTP/1.1\r\n" H H "\r\n", 400, NULL},
	{"GET / HTTP/1.1\r\nHost: a/b?c\r\n\r\n", 400, NULL},
	{"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, NULL},
	{"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400, NULL},
	{"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, NULL},
	{"GET / HTTP/1.1\r\n" H "Expect: tea\r\n\r\n", 417, NULL},
	{"GET / HTTP/1.1\r\n" H "A:1\r\nA:2\r\nA:3\r\nA:4\r\nA:5\r\n\r\n", 431, NULL},
	/* framing */
	{"POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400, NULL},
	{"POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400, NULL},
	{"POST / HTTP/1.1\r\n" H "Content-Length: 3, 3\r\n\r\nabc", 400, NULL},
	{"POST / HTTP/1.1\r\n" H "Content-Length: +3\r\n\r\nabc", 400, NULL},
	{"POST / HTTP/1.1\r\n" H "Content-Length: -3\r\n\r\nabc", 400, NULL},
	{"POST / HTTP/1.1\r\n" H "Content-Length: 0x3\r\n\r\nabc", 400, NULL},
	{"POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n", 400, NULL},
	{"POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", 400, NULL},
	{"POST / HTTP/1.1\r\n" H "Content-Length: 9223372036854775808\r\n\r\n", 400, NULL},
	{"POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 400, NULL},
	{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", 400, NULL},
	{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", 501, NULL},
	{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n", 501, NULL},
	{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400, NULL},
#define CHUNKED "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
	{CHUNKED "g\r\n", 400, NULL},
	{CHUNKED "\r\n", 400, NULL},
	{CHUNKED " 3\r\nabc\r\n", 400, NULL},
	{CHUNKED "0x3\r\nabc\r\n", 400, NULL},
	{CHUNKED "-3\r\nabc\r\n", 400, NULL},
	{CHUNKED ";x\r\n", 400, NULL},
	{CHUNKED "3\nabc\r\n", 400, NULL},
	{CHUNKED "3;a\nb\r\nabc\r\n", 400, NULL},
	{CHUNKED "3;a\x01\r\nabc\r\n", 400, NULL},
	{CHUNKED "3\r\nabcd\r\n", 400, NULL},
	{CHUNKED "3\r\nabc\n", 400, NULL},
	{CHUNKED "8000000000000000\r\n", 400, NULL},
	{CHUNKED "10000000000000000\r\n", 400, NULL},
	{CHUNKED "0\r\nA\r\n\r\n", 400, NULL},
	{CHUNKED "0\r\n A: b\r\n\r\n", 400, NULL},
	{CHUNKED "0\r\nA:1\r\nA:2\r\nA:3\r\nA:4\r\nA:5\r\nA:6\r\n\r\n", 431, NULL},
};

/* Feeds the text with cuts after every `step` bytes; returns the error, the body goes to body. */
static unsigned feed(struct http_message *m, const char *text, size_t len, size_t step,
	struct buf *body, size_t *rest)
{
	size_t at = 0, end = step < len ? step : len, none;

	buf_reset(body);
	assert_int_equal(http_message_step(m, NULL, 0, &none), HTTP_PARSE_MORE);
	for (;;) {
		size_t used;
		/* A copy of the piece's own size, so that a sanitizer sees a step beyond it. */
		char *piece = malloc(end - at + 1);
		enum http_parse r;

		memcpy(piece, text + at, end - at);
		r = http_message_step(m, piece, end - at, &used);
		if (r == HTTP_PARSE_BODY)
			buf_append(body, m->piece, m->piece_bytes);
		free(piece);
		assert_true(used <= end - at);
		at += used;
		if (r == HTTP_PARSE_ERROR)
			return m->error;
		if (r == HTTP_PARSE_DONE) {
			*rest = len - at;
			return 0;
		}
		if (r == HTTP_PARSE_MORE) {
			assert_int_equal(at, end);
			if (end == len)
				return 1;
			end = end + step < len ? end + step : len;
		}
	}
}

static void check_request(const char *text, size_t len, unsigned error, const char *body)
{
	static const size_t steps[] = {1, 2, 3, 7, 1000};
	struct buf got = {0};

	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		struct http_message m;
		size_t rest = 0;
		unsigned e;

		http_message_init(&m, HTTP_REQUEST, &limits);
		e = feed(&m, text, len, steps[i], &got, &rest);
		if (e != error)
			fail_msg("%u expected, got %u (%s), cut every %zu: %s", error, e,
				m.why ? m.why : "", steps[i], text);
		assert_int_equal(rest, 0);
		if (body)
			assert_string_equal(got.data ? got.data : "", body);
		http_message_deinit(&m);
	}
	buf_deinit(&got);
}

static void test_requests(void **state)
{
	for (size_t i = 0; i < sizeof(requests) / sizeof(*requests); i++)
		check_request(requests[i].text, strlen(requests[i].text), requests[i].error,
			requests[i].body);
}

static void test_nul(void **state)
{
	static const char good[] = "POST /ab HTTP/1.1\r\nHost: ab\r\nX: yz\r\nTransfer-Encoding: "
				   "chunked\r\n\r\n3;ab\r\nabc\r\n0\r\nT: uv\r\n\r\n";
	size_t len = sizeof(good) - 1, body = (size_t)(strstr(good, "\r\nabc") + 2 - good);

	check_request(good, len, 0, "abc");
	for (size_t i = 0; i < len; i++) {
		char *bad = malloc(len);
		struct http_message m;
		struct buf got = {0};
		size_t rest;

		memcpy(bad, good, len);
		bad[i] = '\0';
		http_message_init(&m, HTTP_REQUEST, &limits);
		/* Refused wherever it stands, but in the body. */
		if (i >= body && i < body + 3)
			assert_int_equal(feed(&m, bad, len, 1000, &got, &rest), 0);
		else
			assert_int_not_equal(feed(&m, bad, len, 1000, &got, &rest), 0);
		http_message_deinit(&m);
		buf_deinit(&got);
		free(bad);
	}
}

/* Every prefix of a good request is merely not complete: no early success, no error. */
static void test_prefixes(void **state)
{
	static const char good[] = "POST /ab HTTP/1.1\r\nHost: ab\r\nTransfer-Encoding: chunked\r\n\r\n"
				   "3;ab\r\nabc\r\n0\r\nT: uv\r\n\r\n";

	for (size_t i = 0; i < sizeof(good) - 1; i++)
		check_request(good, i, 1, NULL);
	check_request(good, sizeof(good) - 1, 0, "abc");
}

static void test_parts(void **state)
{
	static const char text[] = "GET /v1/%6dodels?a=1&b=x%20y+z&c HTTP/1.1\r\nHost: h:1\r\n"
				   "X-A:  one \r\nx-a: two\r\nConnection: foo, Close\r\n"
				   "Expect: 100-Continue\r\n\r\nnext";
	struct http_message m;
	struct buf body = {0}, value = {0};
	size_t rest = 0;

	http_message_init(&m, HTTP_REQUEST, &limits);
	assert_int_equal(feed(&m, text, sizeof(text) - 1, 1000, &body, &rest), 0);
	assert_int_equal(rest, 4);
	assert_string_equal(m.method, "GET");
	assert_string_equal(m.target, "/v1/%6dodels?a=1&b=x%20y+z&c");
	assert_string_equal(m.path, "/v1/models");
	assert_string_equal(m.query, "a=1&b=x%20y+z&c");
	assert_int_equal(m.n_headers, 5);
	assert_string_equal(http_header_find(m.headers, m.n_headers, "X-a"), "one");
	assert_string_equal(m.headers[2].value, "two");
	assert_null(http_header_find(m.headers, m.n_headers, "X"));
	assert_true(m.close && m.expect_continue && !m.chunked && !m.has_length);
	assert_true(http_query_get(m.query, "b", &value));
	assert_string_equal(value.data, "x y z");
	assert_true(http_query_get(m.query, "c", &value));
	assert_false(http_query_get(m.query, "d", &value));
	assert_false(http_query_get("d=%1", "d", &value));
	http_message_deinit(&m);
	buf_deinit(&body);
	buf_deinit(&value);
}

/* A head of exactly the limit passes, one byte more does not, and is not kept. */
static void test_head_limit(void **state)
{
	for (size_t extra = 0; extra < 2; extra++) {
		struct http_message m;
		struct buf text = {0}, body = {0};
		size_t rest;

		buf_puts(&text, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
		while (text.len < limits.head_bytes - 4 + extra)
			buf_putc(&text, 'x');
		buf_puts(&text, "\r\n\r\n");
		http_message_init(&m, HTTP_REQUEST, &limits);
		assert_int_equal(feed(&m, text.data, text.len, 1, &body, &rest), extra ? 431 : 0);
		http_message_deinit(&m);
		/* Without a line end there is no more memory either. */
		buf_reset(&text);
		for (int i = 0; i < 100000; i++)
			buf_putc(&text, 'G');
		http_message_init(&m, HTTP_REQUEST, &limits);
		assert_int_equal(feed(&m, text.data, text.len, 1000, &body, &rest), 431);
		assert_true(m.head.cap <= 2 * limits.head_bytes + 16);
		http_message_deinit(&m);
		buf_deinit(&text);
		buf_deinit(&body);
	}
}

static void test_responses(void **state)
{
	static const struct {
		const char *text;
		bool head;
		unsigned status, error;
		const char *body;
	} rows[] = {
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", false, 200, 0, "ab"},
		{"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nab", false, 200, 0, "ab"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true, 200, 0, ""},
		{"HTTP/1.1 204 No Content\r\n\r\n", false, 204, 0, ""},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", false, 200, 0, "ab"},
		{"HTTP/1.1 200 OK\r\n\r\nab", false, 200, 1, "ab"},
		{"HTTP/1.1 20 OK\r\n\r\n", false, 0, 502, NULL},
		{"HTTP/3.1 200 OK\r\n\r\n", false, 0, 502, NULL},
		{"\r\nHTTP/1.1 200 OK\r\n\r\n", false, 0, 400, NULL},
	};
	struct buf body = {0};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct http_message m;
		size_t rest;

		http_message_init(&m, HTTP_RESPONSE, &limits);
		m.no_body = rows[i].head;
		assert_int_equal(feed(&m, rows[i].text, strlen(rows[i].text), 1, &body, &rest),
			rows[i].error);
		assert_int_equal(m.status, rows[i].status);
		if (rows[i].body)
			assert_string_equal(body.data ? body.data : "", rows[i].body);
		assert_int_equal(http_message_ends_with_connection(&m), rows[i].error == 1);
		http_message_deinit(&m);
	}
	buf_deinit(&body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_nul),
		cmocka_unit_test(test_prefixes),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_head_limit),
		cmocka_unit_test(test_responses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
