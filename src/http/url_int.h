/* URL of an origin: scheme, host, port; addresses of a host. */
#ifndef HTTP_URL_INT_H
#define HTTP_URL_INT_H

#include <netdb.h>
#include <stdbool.h>

#include "base/error.h"

struct http_origin {
	bool tls;
	char host[256]; /* without brackets */
	char port[6];
	char authority[272]; /* for the Host field: as in the URL */
};

enum status http_origin_parse(struct http_origin *out, const char *url, struct error *err);

/* Stream addresses of a name or a number, for freeaddrinfo(); port may be NULL. Returns as getaddrinfo() does. */
int http_resolve(struct addrinfo **out, const char *host, const char *port, int flags);

#endif
