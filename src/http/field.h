/* Character classes and small grammars of HTTP: tokens, hosts, lists, percent-encoding. */
#ifndef HTTP_FIELD_H
#define HTTP_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

bool http_is_token(const char *s, size_t len);	     /* not empty */
bool http_is_field_value(const char *s, size_t len); /* no control character but tab */
/* Value of a Host field, or the authority of a URL without user: nothing that could pass for a
 * path. */
bool http_is_host(const char *s, size_t len);
/* Whether the comma-separated list holds this token, whatever its case. */
bool http_list_has(const char *list, const char *token);
/* Decodes %XX; false on a broken escape or on one that makes a control character. Appends. */
bool http_percent_decode(struct buf *out, const char *s, size_t len);
/* Decimal, or hexadecimal, digits alone that fit in 63 bits. */
bool http_parse_decimal(const char *s, size_t len, uint64_t *out);
bool http_parse_hex(const char *s, size_t len, uint64_t *out);
/* Value of a query parameter, decoded ('+' is a space), appended; false: absent or broken. */
bool http_query_get(const char *query, const char *name, struct buf *out);
const char *http_status_text(unsigned status);

#endif
