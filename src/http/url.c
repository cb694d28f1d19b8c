/* http://HOST[:PORT] and https://; no user, no path but "/". Hosts by the system's resolver. */
#include "http/url_int.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "http/field.h"

static enum status refuse(const char *url, const char *why, struct error *err)
{
	return error_set(err, E_INVAL, "URL '%s': %s", url, why);
}

enum status http_origin_parse(struct http_origin *out, const char *url, struct error *err)
{
	struct http_origin o = {0};
	const char *at, *host, *end, *port;
	uint64_t number;
	size_t len;

	o.tls = strncasecmp(url, "https://", 8) == 0;
	if (!o.tls && strncasecmp(url, "http://", 7) != 0)
		return refuse(url, "expected http:// or https://", err);
	at = url + (o.tls ? 8 : 7);
	len = strcspn(at, "/?#");
	if (at[len] && strcmp(at + len, "/") != 0)
		return refuse(url, "a path where only the host is expected", err);
	if (!len || len >= sizeof(o.authority) || !http_is_host(at, len))
		return refuse(url, "not a host", err);
	memcpy(o.authority, at, len);
	host = o.authority;
	if (*host == '[') {
		host++;
		end = strchr(host, ']');
		port = end ? end + 1 : NULL;
	} else {
		end = host + strcspn(host, ":");
		port = end;
	}
	if (!end || end == host || (size_t)(end - host) >= sizeof(o.host) ||
		(*port && *port != ':'))
		return refuse(url, "not a host", err);
	memcpy(o.host, host, (size_t)(end - host));
	if (!*port)
		port = o.tls ? ":443" : ":80";
	port++;
	if (!http_parse_decimal(port, strlen(port), &number) || !number || number > 65535)
		return refuse(url, "port is not a number from 1 to 65535", err);
	snprintf(o.port, sizeof(o.port), "%u", (unsigned)number);
	*out = o;
	return OK;
}

int http_resolve(struct addrinfo **out, const char *host, const char *port, int flags)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags};
	int rc = getaddrinfo(host, port, &hints, out);

	/* Known everywhere (RFC 6761, 6.3), also where there is no /etc/hosts. */
	if (rc != 0 && strcasecmp(host, "localhost") == 0)
		rc = getaddrinfo("127.0.0.1", port, &hints, out);
	return rc;
}
