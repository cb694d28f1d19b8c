/* Growing byte string. data is always NUL-terminated once anything was appended; len excludes it. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
	char *data; /* owned; NULL while empty and never written */
	size_t len;
	size_t cap;
};

void buf_deinit(struct buf *b);
void buf_reset(struct buf *b); /* len = 0, keeps the memory */
void buf_append(struct buf *b, const void *src, size_t len);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_put_u64(struct buf *b, uint64_t v); /* in decimal */
void buf_put_utf8(struct buf *b, uint32_t code_point); /* code_point <= 0x10FFFF */

#endif
