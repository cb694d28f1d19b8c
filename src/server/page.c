/*
 * GET /: one page to talk to the model. page.html is part of the program, whole: it loads nothing from elsewhere,
 * and its policy lets it run the one script and the one style sheet that it came with, by their hashes, and reach
 * this server alone. The page holds no secret, so it is open; what it asks for is not.
 */
#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/sha.h>

#include "server/serving_int.h"

static const unsigned char page[] = {
#include "server/page.inc"
};

/* "sha256-" and base64; twice 16 hexadecimal digits and quotes. Filled once, by the thread that answers. */
struct page_names {
	char script[64], style[64];
	char policy[512];
	char tag[40];
};

static void sha256(unsigned char out[SHA256_DIGEST_LENGTH], const unsigned char *data, size_t len)
{
	BUG_ON(!EVP_Digest(data, len, out, NULL, EVP_sha256(), NULL));
}

/* The hash source of what is between <name> and </name>: the page has one of each. */
static void put_source(char out[64], const char *name)
{
	char begin[16], end[16];
	unsigned char sum[SHA256_DIGEST_LENGTH];
	const unsigned char *from, *to;

	snprintf(begin, sizeof(begin), "<%s>", name);
	snprintf(end, sizeof(end), "</%s>", name);
	from = memmem(page, sizeof(page), begin, strlen(begin));
	BUG_ON(!from);
	from += strlen(begin);
	to = memmem(from, (size_t)(page + sizeof(page) - from), end, strlen(end));
	BUG_ON(!to);
	sha256(sum, from, (size_t)(to - from));
	memcpy(out, "sha256-", 7);
	EVP_EncodeBlock((unsigned char *)out + 7, sum, sizeof(sum));
}

static const struct page_names *page_get_names(void)
{
	static struct page_names n;
	unsigned char sum[SHA256_DIGEST_LENGTH];

	if (*n.tag)
		return &n;
	put_source(n.script, "script");
	put_source(n.style, "style");
	snprintf(n.policy, sizeof(n.policy),
		"default-src 'none'; script-src '%s'; style-src '%s'; connect-src 'self'; img-src data:; "
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
		"require-trusted-types-for 'script'; trusted-types 'none'", n.script, n.style);
	sha256(sum, page, sizeof(page));
	n.tag[0] = '"';
	for (size_t i = 0; i < 16; i++)
		snprintf(n.tag + 1 + 2 * i, 3, "%02x", sum[i]);
	strcat(n.tag, "\"");
	return &n;
}

/* Whether If-None-Match names this tag: a list of tags, each perhaps weak, or "*". */
static bool has_tag(const char *list, const char *tag)
{
	size_t len = strlen(tag);

	while (list && *list) {
		list += strspn(list, ", \t");
		if (*list == '*')
			return true;
		if (strncmp(list, "W/", 2) == 0)
			list += 2;
		if (strncmp(list, tag, len) == 0)
			return true;
		list += *list == '"';
		list += strcspn(list, "\"");
		list += *list == '"';
	}
	return false;
}

void handle_page(struct call *c)
{
	const struct page_names *n = page_get_names();
	bool known = has_tag(http_request_header(c->r, "If-None-Match"), n->tag);
	const struct http_header headers[] = {
		{ "Content-Security-Policy", n->policy },
		{ "X-Content-Type-Options", "nosniff" },
		{ "Referrer-Policy", "no-referrer" },
		{ "Cross-Origin-Opener-Policy", "same-origin" },
		{ "Cache-Control", "no-cache" },
		{ "ETag", n->tag },
		{ "Content-Type", "text/html; charset=utf-8" },
	};

	call_headers(c, known ? 304 : 200, headers, sizeof(headers) / sizeof(*headers) - known, page, sizeof(page));
}
