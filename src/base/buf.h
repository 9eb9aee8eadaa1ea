/* buf.h - the only packer and unpacker: a cursor over bytes that cannot leave its bounds.
 *
 * Numbers are big-endian. A cursor that was asked for more than it has fails once and for good: every later call
 * does nothing (a get returns 0), and tc_buf_ok says so. So a parser reads a whole message and asks once at the end. */
#ifndef TC_BASE_BUF_H
#define TC_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Over memory that the caller keeps (borrowed until the cursor's last use). */
struct tc_buf {
    uint8_t *bytes;
    size_t size; /* bytes that may be read or written */
    size_t at;   /* the next byte */
    bool bad;    /* a call went beyond size, or a value broke its own bounds */
};

struct tc_buf tc_buf_writer(void *bytes, size_t size);
struct tc_buf tc_buf_reader(const void *bytes, size_t size);

void tc_buf_put8(struct tc_buf *buf, uint8_t value);
void tc_buf_put16(struct tc_buf *buf, uint16_t value);
void tc_buf_put32(struct tc_buf *buf, uint32_t value);
void tc_buf_put64(struct tc_buf *buf, uint64_t value);
void tc_buf_put(struct tc_buf *buf, const void *bytes, size_t count);
void tc_buf_put_text(struct tc_buf *buf, const char *text); /* 16-bit length, then the bytes without NUL */

uint8_t tc_buf_get8(struct tc_buf *buf);
uint16_t tc_buf_get16(struct tc_buf *buf);
uint32_t tc_buf_get32(struct tc_buf *buf);
uint64_t tc_buf_get64(struct tc_buf *buf);
void tc_buf_get(struct tc_buf *buf, void *bytes, size_t count);         /* zeros when it fails */
const uint8_t *tc_buf_take(struct tc_buf *buf, size_t count);           /* borrowed from the cursor's memory, or NULL */
void tc_buf_get_text(struct tc_buf *buf, char *text, size_t text_size); /* fails for a NUL inside or no space */
size_t tc_buf_left(const struct tc_buf *buf);

/* For parsers: the message breaks a rule of its own. */
void tc_buf_spoil(struct tc_buf *buf);

/* All calls were within bounds; tc_buf_done: and every byte was read. */
bool tc_buf_ok(const struct tc_buf *buf);
bool tc_buf_done(const struct tc_buf *buf);

#endif
