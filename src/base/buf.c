#include "base/buf.h"

#include <string.h>

struct tc_buf tc_buf_writer(void *bytes, size_t size)
{
    return (struct tc_buf){.bytes = bytes, .size = size};
}

struct tc_buf tc_buf_reader(const void *bytes, size_t size)
{
    /* One cursor type for both directions; the get calls never write through it. */
    return (struct tc_buf){.bytes = (uint8_t *)(uintptr_t)bytes, .size = size};
}

static uint8_t *reserve(struct tc_buf *buf, size_t count)
{
    if (buf->bad || count > buf->size - buf->at) {
        buf->bad = true;
        return NULL;
    }
    if (!count)
        return buf->bytes; /* which may be NULL, and NULL + 0 is undefined */
    uint8_t *place = buf->bytes + buf->at;
    buf->at += count;
    return place;
}

static void put_number(struct tc_buf *buf, uint64_t value, unsigned bytes)
{
    uint8_t *place = reserve(buf, bytes);
    for (unsigned i = 0; place && i < bytes; i++)
        place[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

static uint64_t get_number(struct tc_buf *buf, unsigned bytes)
{
    const uint8_t *place = reserve(buf, bytes);
    uint64_t value = 0;
    for (unsigned i = 0; place && i < bytes; i++)
        value = value << 8 | place[i];
    return value;
}

void tc_buf_put8(struct tc_buf *buf, uint8_t value)
{
    put_number(buf, value, 1);
}

void tc_buf_put16(struct tc_buf *buf, uint16_t value)
{
    put_number(buf, value, 2);
}

void tc_buf_put32(struct tc_buf *buf, uint32_t value)
{
    put_number(buf, value, 4);
}

void tc_buf_put64(struct tc_buf *buf, uint64_t value)
{
    put_number(buf, value, 8);
}

void tc_buf_put(struct tc_buf *buf, const void *bytes, size_t count)
{
    uint8_t *place = reserve(buf, count);
    if (place && count)
        memcpy(place, bytes, count);
}

void tc_buf_put_text(struct tc_buf *buf, const char *text)
{
    size_t length = strlen(text);
    if (length > UINT16_MAX) {
        tc_buf_spoil(buf);
        return;
    }
    tc_buf_put16(buf, (uint16_t)length);
    tc_buf_put(buf, text, length);
}

uint8_t tc_buf_get8(struct tc_buf *buf)
{
    return (uint8_t)get_number(buf, 1);
}

uint16_t tc_buf_get16(struct tc_buf *buf)
{
    return (uint16_t)get_number(buf, 2);
}

uint32_t tc_buf_get32(struct tc_buf *buf)
{
    return (uint32_t)get_number(buf, 4);
}

uint64_t tc_buf_get64(struct tc_buf *buf)
{
    return get_number(buf, 8);
}

void tc_buf_get(struct tc_buf *buf, void *bytes, size_t count)
{
    const uint8_t *place = reserve(buf, count);
    if (place && count)
        memcpy(bytes, place, count);
    else if (count)
        memset(bytes, 0, count);
}

const uint8_t *tc_buf_take(struct tc_buf *buf, size_t count)
{
    return reserve(buf, count);
}

void tc_buf_get_text(struct tc_buf *buf, char *text, size_t text_size)
{
    size_t length = tc_buf_get16(buf);
    const uint8_t *place = reserve(buf, length);
    text[0] = '\0';
    if (!place || length >= text_size || memchr(place, '\0', length)) {
        tc_buf_spoil(buf);
        return;
    }
    memcpy(text, place, length);
    text[length] = '\0';
}

size_t tc_buf_left(const struct tc_buf *buf)
{
    return buf->bad ? 0 : buf->size - buf->at;
}

void tc_buf_spoil(struct tc_buf *buf)
{
    buf->bad = true;
}

bool tc_buf_ok(const struct tc_buf *buf)
{
    return !buf->bad;
}

bool tc_buf_done(const struct tc_buf *buf)
{
    return !buf->bad && buf->at == buf->size;
}
