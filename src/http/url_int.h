/* URL of an origin: scheme, host, port. */
#ifndef HTTP_URL_INT_H
#define HTTP_URL_INT_H

#include <stdbool.h>

#include "base/error.h"

struct http_origin {
	bool tls;
	char host[256]; /* without brackets */
	char port[6];
	char authority[272]; /* for the Host field: as in the URL */
};

enum status http_origin_parse(struct http_origin *out, const char *url, struct error *err);

#endif
