/* Grammars of RFC 9110 and 9112, by hand: each accepts what the RFC does, or less. */
#include "http/field.h"

#include <string.h>
#include <strings.h>

static bool is_alnum(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool http_is_token(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!is_alnum((unsigned char)s[i]) && (!s[i] || !strchr("!#$%&'*+-.^_`|~", s[i])))
			return false;
	return len > 0;
}

bool http_is_field_value(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if ((c < 0x20 && c != '\t') || c == 0x7F)
			return false;
	}
	return true;
}

bool http_is_host(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!is_alnum((unsigned char)s[i]) &&
			(!s[i] || !strchr("-._~%!$&'()*+;=:[]", s[i])))
			return false;
	return true;
}

bool http_list_has(const char *list, const char *token)
{
	size_t want = strlen(token);

	while (*list) {
		size_t len;

		list += strspn(list, " \t,");
		len = strcspn(list, ",");
		while (len && (list[len - 1] == ' ' || list[len - 1] == '\t'))
			len--;
		if (len == want && strncasecmp(list, token, len) == 0)
			return true;
		list += strcspn(list, ",");
	}
	return false;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool http_percent_decode(struct buf *out, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		int high, low;

		if (s[i] != '%') {
			buf_putc(out, s[i]);
			continue;
		}
		if (len - i < 3 || (high = hex_digit(s[i + 1])) < 0 ||
			(low = hex_digit(s[i + 2])) < 0)
			return false;
		high = high * 16 + low;
		if (high < 0x20 || high == 0x7F)
			return false;
		buf_putc(out, (char)high);
		i += 2;
	}
	return true;
}

static bool parse_digits(const char *s, size_t len, unsigned base, uint64_t *out)
{
	uint64_t n = 0;

	if (!len)
		return false;
	for (size_t i = 0; i < len; i++) {
		int d = hex_digit(s[i]);

		if (d < 0 || (unsigned)d >= base || n > (INT64_MAX - (uint64_t)d) / base)
			return false;
		n = n * base + (uint64_t)d;
	}
	*out = n;
	return true;
}

bool http_parse_decimal(const char *s, size_t len, uint64_t *out)
{
	return parse_digits(s, len, 10, out);
}

bool http_parse_hex(const char *s, size_t len, uint64_t *out)
{
	return parse_digits(s, len, 16, out);
}

bool http_query_get(const char *query, const char *name, struct buf *out)
{
	size_t want = strlen(name), before = out->len;

	while (*query) {
		size_t len = strcspn(query, "&");

		if (len >= want && strncmp(query, name, want) == 0 &&
			(len == want || query[want] == '=')) {
			size_t from = len == want ? len : want + 1;
			bool ok = true;

			for (size_t i = from; ok && i < len; i++) {
				size_t n = query[i] == '%' ? (len - i < 3 ? len - i : 3) : 1;

				if (query[i] == '+')
					buf_putc(out, ' ');
				else
					ok = http_percent_decode(out, query + i, n);
				i += n - 1;
			}
			if (!ok)
				out->len = before;
			return ok;
		}
		query += len;
		query += *query == '&';
	}
	return false;
}

const char *http_status_text(unsigned status)
{
	static const struct {
		unsigned status;
		const char *text;
	} table[] = {
		{100, "Continue"},
		{200, "OK"},
		{201, "Created"},
		{202, "Accepted"},
		{204, "No Content"},
		{301, "Moved Permanently"},
		{302, "Found"},
		{304, "Not Modified"},
		{307, "Temporary Redirect"},
		{308, "Permanent Redirect"},
		{400, "Bad Request"},
		{401, "Unauthorized"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{406, "Not Acceptable"},
		{408, "Request Timeout"},
		{409, "Conflict"},
		{411, "Length Required"},
		{413, "Content Too Large"},
		{414, "URI Too Long"},
		{415, "Unsupported Media Type"},
		{417, "Expectation Failed"},
		{422, "Unprocessable Content"},
		{429, "Too Many Requests"},
		{431, "Request Header Fields Too Large"},
		{499, "Client Closed Request"},
		{500, "Internal Server Error"},
		{501, "Not Implemented"},
		{502, "Bad Gateway"},
		{503, "Service Unavailable"},
		{504, "Gateway Timeout"},
		{505, "HTTP Version Not Supported"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
		if (table[i].status == status)
			return table[i].text;
	return "Status";
}
