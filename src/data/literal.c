#include "data/literal.h"

#include <stdlib.h>
#include <string.h>

int tc_text_add(struct tc_text *text, const char *bytes, size_t count, struct tc_err *err)
{
    size_t needed = text->used + count + 1;
    if (needed > text->capacity) {
        size_t capacity = text->capacity ? text->capacity : 128;
        while (capacity < needed)
            capacity *= 2;
        char *grown = realloc(text->bytes, capacity);
        if (!grown)
            return tc_fail(err, TC_E_NOMEM, "out of memory");
        text->bytes = grown;
        text->capacity = capacity;
    }
    if (count)
        memcpy(text->bytes + text->used, bytes, count);
    text->used += count;
    text->bytes[text->used] = '\0';
    return 0;
}

void tc_text_free(struct tc_text *text)
{
    free(text->bytes);
    *text = (struct tc_text){0};
}

struct tc_literal tc_literal_of(const char *text, const char *what, int reason, struct tc_err *err)
{
    const uint8_t *bytes = (const uint8_t *)text;
    return (struct tc_literal){.start = bytes,
                               .at = bytes,
                               .end = bytes + strlen(text),
                               .utf8 = true,
                               .reason = reason,
                               .what = what,
                               .err = err};
}

void tc_literal_free(struct tc_literal *in)
{
    tc_text_free(&in->string);
}

int tc_literal_wrong(struct tc_literal *in, const char *why)
{
    return tc_fail(in->err, in->reason, "%s: %s at byte %zu", in->what, why, (size_t)(in->at - in->start));
}

int tc_literal_peek(struct tc_literal *in)
{
    while (in->at < in->end && (*in->at == ' ' || *in->at == '\n' || *in->at == '\t' || *in->at == '\r'))
        in->at++;
    return in->at < in->end ? *in->at : TC_LITERAL_END;
}

bool tc_literal_take(struct tc_literal *in, int wanted)
{
    if (tc_literal_peek(in) != wanted)
        return false;
    if (wanted != TC_LITERAL_END)
        in->at++;
    return true;
}

int tc_literal_open(struct tc_literal *in)
{
    return tc_literal_take(in, '(') ? ')' : tc_literal_take(in, '[') ? ']' : 0;
}

int tc_literal_more(struct tc_literal *in, int close)
{
    if (tc_literal_take(in, close))
        return 0;
    if (!tc_literal_take(in, ','))
        return tc_literal_wrong(in, "expected a comma or a closing bracket");
    return tc_literal_take(in, close) ? 0 : 1;
}

/* One character of a string as a code point; TC_LITERAL_END when the bytes are not UTF-8. */
static int32_t take_code(struct tc_literal *in)
{
    uint8_t first = *in->at++;
    if (!in->utf8 || first < 0x80)
        return first;
    unsigned extra = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first > 0xf4 || (size_t)(in->end - in->at) < extra)
        return TC_LITERAL_END;
    int32_t code = first & (0x3f >> extra);
    for (unsigned i = 0; i < extra; i++) {
        if ((*in->at & 0xc0) != 0x80)
            return TC_LITERAL_END;
        code = code << 6 | (*in->at++ & 0x3f);
    }
    static const int32_t least[] = {0, 0x80, 0x800, 0x10000};
    return code < least[extra] || code > 0x10ffff ? TC_LITERAL_END : code;
}

static int32_t take_hex(struct tc_literal *in, unsigned digits)
{
    uint32_t code = 0;
    for (unsigned i = 0; i < digits; i++) {
        const char *hex = "0123456789abcdefABCDEF";
        const char *place = in->at < in->end && *in->at ? strchr(hex, *in->at) : NULL;
        if (!place || code > 0x10ffff)
            return TC_LITERAL_END;
        unsigned value = (unsigned)(place - hex);
        code = code << 4 | (value > 15 ? value - 6 : value);
        in->at++;
    }
    return code > 0x10ffff ? TC_LITERAL_END : (int32_t)code;
}

static int32_t take_escape(struct tc_literal *in)
{
    static const char names[] = "ntrbf\\'\"/", meanings[] = "\n\t\r\b\f\\'\"/";
    if (in->at == in->end)
        return TC_LITERAL_END;
    uint8_t letter = *in->at++;
    if (letter == 'x' || letter == 'u' || letter == 'U')
        return take_hex(in, letter == 'x' ? 2 : letter == 'u' ? 4 : 8);
    const char *place = letter ? strchr(names, letter) : NULL;
    return place ? meanings[place - names] : TC_LITERAL_END;
}

static size_t encode_utf8(char out[4], uint32_t code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)((0xf00 >> length & 0xff) | code);
    return length;
}

int tc_literal_string(struct tc_literal *in)
{
    in->string.used = 0;
    int quote = tc_literal_peek(in);
    if (quote == 'u' && in->end - in->at > 1) {
        in->at++;
        quote = *in->at;
    }
    if (quote != '\'' && quote != '"')
        return tc_literal_wrong(in, "expected a string");
    in->at++;
    int rc = tc_text_add(&in->string, "", 0, in->err);
    while (rc == 0) {
        if (in->at == in->end || *in->at < 0x20)
            return tc_literal_wrong(in, "string without end");
        bool escaped = *in->at == '\\';
        if (!escaped && *in->at == quote)
            break;
        in->at += escaped;
        int32_t code = escaped ? take_escape(in) : take_code(in);
        if (code <= 0 || (code >= 0xd800 && code < 0xe000))
            return tc_literal_wrong(in, "a character that cannot be");
        char bytes[4];
        rc = tc_text_add(&in->string, bytes, encode_utf8(bytes, (uint32_t)code), in->err);
    }
    in->at++;
    return rc;
}

int tc_literal_number(struct tc_literal *in, uint64_t *value)
{
    int c = tc_literal_peek(in);
    if (in->minus_one && c == '-' && in->end - in->at >= 2 && in->at[1] == '1') {
        in->at += 2;
        *value = TC_LITERAL_FREE;
        return 0;
    }
    if (c < '0' || c > '9')
        return tc_literal_wrong(in, "expected a number");
    for (*value = 0; in->at < in->end && *in->at >= '0' && *in->at <= '9'; in->at++) {
        *value = *value * 10 + (uint64_t)(*in->at - '0');
        if (*value > INT64_MAX / 10)
            return tc_literal_wrong(in, "number too large");
    }
    if (in->at < in->end && *in->at == 'L') /* Python 2 wrote long integers so */
        in->at++;
    return 0;
}

int tc_literal_numbers(struct tc_literal *in, int close, uint64_t *values, unsigned most, unsigned *count, bool *comma)
{
    *count = 0;
    *comma = false;
    if (tc_literal_take(in, close))
        return 0;
    int rc;
    do {
        if (*count == most)
            return tc_literal_wrong(in, "too many dimensions");
        rc = tc_literal_number(in, &values[*count]);
        if (rc)
            return rc;
        ++*count;
        *comma |= tc_literal_peek(in) == ',';
        rc = tc_literal_more(in, close);
    } while (rc > 0);
    return rc;
}
