#include "data/array.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One parser reads both spellings of a dtype: numpy's Python literal ([('x', '<f8', (3,))]) and the JSON that is kept
 * ([["x","<f8",[3]]]). They differ in brackets and quotes alone, and a field's parts are told apart by their place. */
#define DEPTH_MAX 32u           /* structs within structs */
#define NAME_MAX_BYTES 1024u    /* of one field's name or title, with NUL */
#define ITEM_SIZE_MAX INT32_MAX /* numpy's own limit */
#define END (-1)
#define FREE UINT64_MAX /* a dimension that the file's size decides */

struct reader {
    const uint8_t *start, *at, *end;
    bool utf8;        /* else Latin-1, as in versions 1 and 2 */
    bool loose;       /* typed by a person: "f8", "float64", -1 in a shape */
    int reason;       /* of errors */
    const char *what; /* is read */
    struct tc_err *err;
};

/* The dtype in its one spelling, as it is read. */
struct writer {
    size_t used;
    bool full;
    char text[TC_DTYPE_TEXT_MAX];
};

static int wrong(struct reader *in, const char *why)
{
    return tc_fail(in->err, in->reason, "%s: %s at byte %zu", in->what, why, (size_t)(in->at - in->start));
}

static void emit(struct writer *out, const char *text)
{
    size_t length = strlen(text);
    if (length >= sizeof out->text - out->used) {
        out->full = true;
        return;
    }
    memcpy(out->text + out->used, text, length + 1);
    out->used += length;
}

static void emit_string(struct writer *out, const char *text)
{
    emit(out, "\"");
    /* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Branch): as in word() */
    for (const char *c = text; *c; c++) {
        char piece[8];
        if (*c == '"' || *c == '\\')
            snprintf(piece, sizeof piece, "\\%c", *c);
        else if ((unsigned char)*c < 0x20)
            snprintf(piece, sizeof piece, "\\u%04x", (unsigned)*c);
        else
            snprintf(piece, sizeof piece, "%c", *c);
        emit(out, piece);
    }
    emit(out, "\"");
}

static int peek(struct reader *in)
{
    while (in->at < in->end && (*in->at == ' ' || *in->at == '\n' || *in->at == '\t' || *in->at == '\r'))
        in->at++;
    return in->at < in->end ? *in->at : END;
}

static bool take(struct reader *in, int wanted)
{
    if (peek(in) != wanted)
        return false;
    if (wanted != END)
        in->at++;
    return true;
}

/* After an item of a sequence: 1 when another follows, 0 when it is closed (also after a last comma). */
static int more(struct reader *in, int close)
{
    if (take(in, close))
        return 0;
    if (!take(in, ','))
        return wrong(in, "expected a comma or a closing bracket");
    return take(in, close) ? 0 : 1;
}

/* One character of a string as a code point; END when the bytes are not UTF-8. */
static int32_t take_code(struct reader *in)
{
    uint8_t first = *in->at++;
    if (!in->utf8 || first < 0x80)
        return first;
    unsigned extra = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first > 0xf4 || (size_t)(in->end - in->at) < extra)
        return END;
    int32_t code = first & (0x3f >> extra);
    for (unsigned i = 0; i < extra; i++) {
        if ((*in->at & 0xc0) != 0x80)
            return END;
        code = code << 6 | (*in->at++ & 0x3f);
    }
    static const int32_t least[] = {0, 0x80, 0x800, 0x10000};
    return code < least[extra] || code > 0x10ffff ? END : code;
}

static int32_t take_hex(struct reader *in, unsigned digits)
{
    uint32_t code = 0;
    for (unsigned i = 0; i < digits; i++) {
        const char *hex = "0123456789abcdefABCDEF";
        const char *place = in->at < in->end && *in->at ? strchr(hex, *in->at) : NULL;
        if (!place || code > 0x10ffff)
            return END;
        unsigned value = (unsigned)(place - hex);
        code = code << 4 | (value > 15 ? value - 6 : value);
        in->at++;
    }
    return code > 0x10ffff ? END : (int32_t)code;
}

static int32_t take_escape(struct reader *in)
{
    static const char names[] = "ntrbf\\'\"/", meanings[] = "\n\t\r\b\f\\'\"/";
    if (in->at == in->end)
        return END;
    uint8_t letter = *in->at++;
    if (letter == 'x' || letter == 'u' || letter == 'U')
        return take_hex(in, letter == 'x' ? 2 : letter == 'u' ? 4 : 8);
    const char *place = letter ? strchr(names, letter) : NULL;
    return place ? meanings[place - names] : END;
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

static int string(struct reader *in, char out[NAME_MAX_BYTES])
{
    int quote = peek(in);
    if (quote != '\'' && quote != '"')
        return wrong(in, "expected a string");
    in->at++;
    size_t used = 0;
    for (;;) {
        if (in->at == in->end || *in->at < 0x20)
            return wrong(in, "string without end");
        bool escaped = *in->at == '\\';
        if (!escaped && *in->at == quote)
            break;
        in->at += escaped;
        int32_t code = escaped ? take_escape(in) : take_code(in);
        if (code <= 0 || (code >= 0xd800 && code < 0xe000))
            return wrong(in, "a character that cannot be");
        if (used + 4 >= NAME_MAX_BYTES)
            return wrong(in, "name too long");
        used += encode_utf8(out + used, (uint32_t)code);
    }
    in->at++;
    out[used] = '\0';
    return 0;
}

static int number(struct reader *in, uint64_t *value)
{
    int c = peek(in);
    if (in->loose && c == '-' && in->end - in->at >= 2 && in->at[1] == '1') {
        in->at += 2;
        *value = FREE;
        return 0;
    }
    if (c < '0' || c > '9')
        return wrong(in, "expected a number");
    for (*value = 0; in->at < in->end && *in->at >= '0' && *in->at <= '9'; in->at++) {
        *value = *value * 10 + (uint64_t)(*in->at - '0');
        if (*value > INT64_MAX / 10)
            return wrong(in, "number too large");
    }
    if (in->at < in->end && *in->at == 'L') /* Python 2 wrote long integers so */
        in->at++;
    return 0;
}

static int shape(struct reader *in, int close, uint64_t dims[TC_DIMENSIONS_MAX], unsigned *ndim)
{
    *ndim = 0;
    if (take(in, close))
        return 0;
    int rc;
    do {
        if (*ndim == TC_DIMENSIONS_MAX)
            return wrong(in, "too many dimensions");
        rc = number(in, &dims[*ndim]);
        if (rc)
            return rc;
        ++*ndim;
        rc = more(in, close);
    } while (rc > 0);
    return rc;
}

static bool width_allowed(char kind, uint64_t width)
{
    switch (kind) {
    case 'b':
        return width == 1;
    case 'i':
    case 'u':
        return width == 1 || width == 2 || width == 4 || width == 8;
    case 'f':
        return width == 2 || width == 4 || width == 8 || width == 12 || width == 16;
    case 'c':
        return width == 8 || width == 16 || width == 24 || width == 32;
    case 'm':
    case 'M':
        return width == 8;
    default:
        return true; /* S, U, V: characters or bytes, any number */
    }
}

/* "[ns]", "[25s]" or nothing, to the end of text. */
static bool unit_allowed(const char *text)
{
    static const char *const units[] = {"Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"};
    if (!*text)
        return true;
    if (*text++ != '[')
        return false;
    text += strspn(text, "0123456789");
    size_t length = strspn(text, "YMWDhmsunpfa");
    if (strcmp(text + length, "]") != 0)
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strlen(units[i]) == length && strncmp(text, units[i], length) == 0)
            return true;
    return false;
}

static const char *alias(const char *text)
{
    static const char *const table[][2] = {
        {"bool", "b1"},      {"?", "b1"},           {"int8", "i1"},        {"int16", "i2"},       {"int32", "i4"},
        {"int64", "i8"},     {"int", "i8"},         {"uint8", "u1"},       {"uint16", "u2"},      {"uint32", "u4"},
        {"uint64", "u8"},    {"float16", "f2"},     {"half", "f2"},        {"float32", "f4"},     {"single", "f4"},
        {"float64", "f8"},   {"double", "f8"},      {"float", "f8"},       {"float128", "f16"},   {"longdouble", "f16"},
        {"complex64", "c8"}, {"complex128", "c16"}, {"complex", "c16"},    {"complex256", "c32"}, {"byte", "i1"},
        {"ubyte", "u1"},     {"datetime64", "M8"},  {"timedelta64", "m8"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(text, table[i][0]) == 0)
            return table[i][1];
    return text;
}

/* A dtype in one word: order, kind, width, unit. Rewrites text in its one spelling. */
static int word(struct reader *in, char text[NAME_MAX_BYTES], uint64_t *size)
{
    static const char native = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '<' : '>';
    const char *at = in->loose ? alias(text) : text;
    /* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Branch): alias() returns a text */
    char order = *at && strchr("<>|=", *at) ? *at++ : '\0';
    char kind = *at ? *at++ : '?';
    if (kind == 'O')
        return tc_fail(in->err, in->reason, "%s: object arrays hold Python pointers; save another dtype", in->what);
    char *unit;
    uint64_t width = *at >= '0' && *at <= '9' ? strtoull(at, &unit, 10) : UINT64_MAX;
    if (!strchr("biufcmMSUV", kind) || (kind == 'm' || kind == 'M' ? width == UINT64_MAX : width > ITEM_SIZE_MAX / 4) ||
        !width_allowed(kind, width) || (kind == 'm' || kind == 'M' ? !unit_allowed(unit) : *unit != '\0'))
        return wrong(in, "unknown dtype");
    if (in->loose && (order == '\0' || order == '='))
        order = native;
    if (kind == 'S' || kind == 'V' || (width == 1 && kind != 'U'))
        order = order ? '|' : '\0';
    else if (order != '<' && order != '>')
        order = '\0';
    if (!order)
        return wrong(in, "dtype without byte order");
    char rest[64];
    if (snprintf(rest, sizeof rest, "%llu%s", (unsigned long long)width, unit) >= (int)sizeof rest)
        return wrong(in, "unknown dtype");
    snprintf(text, NAME_MAX_BYTES, "%c%c%s", order, kind, rest);
    *size = kind == 'U' ? 4 * width : width;
    return 0;
}

static int type(struct reader *in, struct writer *out, unsigned depth, uint64_t *size);

/* A field's name, or (title, name). An empty name is padding. */
static int field_name(struct reader *in, struct writer *out)
{
    char text[NAME_MAX_BYTES];
    int close = take(in, '(') ? ')' : take(in, '[') ? ']' : 0;
    if (close) {
        int rc = string(in, text);
        if (rc)
            return rc;
        emit(out, "[");
        emit_string(out, text);
        emit(out, ",");
        if (!take(in, ','))
            return wrong(in, "expected a field's name after its title");
    }
    int rc = string(in, text);
    if (rc)
        return rc;
    emit_string(out, text);
    if (close && !take(in, close))
        return wrong(in, "expected the end of a field's name");
    emit(out, close ? "]," : ",");
    return 0;
}

static int field_shape(struct reader *in, struct writer *out, uint64_t *size)
{
    uint64_t dims[TC_DIMENSIONS_MAX];
    unsigned ndim;
    int close = take(in, '(') ? ')' : take(in, '[') ? ']' : 0;
    if (!close)
        return wrong(in, "expected a field's shape");
    int rc = shape(in, close, dims, &ndim);
    if (rc)
        return rc;
    for (unsigned i = 0; i < ndim; i++) {
        char piece[24];
        if (dims[i] == FREE)
            return wrong(in, "a field's shape has no -1");
        snprintf(piece, sizeof piece, "%s%llu", i ? "," : ",[", (unsigned long long)dims[i]);
        emit(out, piece);
        if (__builtin_mul_overflow(*size, dims[i], size) || *size > ITEM_SIZE_MAX)
            return wrong(in, "element larger than 2 GiB");
    }
    emit(out, ndim ? "]" : "");
    return 0;
}

static int field(struct reader *in, struct writer *out, unsigned depth, uint64_t *size)
{
    int close = take(in, '(') ? ')' : take(in, '[') ? ']' : 0;
    if (!close)
        return wrong(in, "expected a field");
    emit(out, "[");
    int rc = field_name(in, out);
    if (rc)
        return rc;
    if (!take(in, ','))
        return wrong(in, "expected a field's dtype");
    rc = type(in, out, depth, size);
    if (rc)
        return rc;
    rc = more(in, close);
    if (rc > 0) {
        rc = field_shape(in, out, size);
        if (rc == 0)
            rc = more(in, close);
        if (rc > 0)
            return wrong(in, "expected the end of a field");
    }
    emit(out, "]");
    return rc;
}

static int fields(struct reader *in, struct writer *out, unsigned depth, uint64_t *size)
{
    if (depth == DEPTH_MAX)
        return wrong(in, "structs too deep");
    *size = 0;
    emit(out, "[");
    int rc = take(in, ']') ? 0 : 1;
    for (bool first = true; rc > 0; first = false) {
        uint64_t one = 0;
        emit(out, first ? "" : ",");
        rc = field(in, out, depth + 1, &one);
        if (rc)
            return rc;
        *size += one;
        if (*size > ITEM_SIZE_MAX)
            return wrong(in, "element larger than 2 GiB");
        rc = more(in, ']');
    }
    emit(out, "]");
    return rc;
}

static int type(struct reader *in, struct writer *out, unsigned depth, uint64_t *size)
{
    if (take(in, '['))
        return fields(in, out, depth, size);
    char text[NAME_MAX_BYTES];
    int rc = string(in, text);
    if (rc == 0)
        rc = word(in, text, size);
    if (rc == 0)
        emit_string(out, text);
    return rc;
}

/* A whole dtype into array. One word loses its quotes. */
static int read_dtype(struct reader *in, struct tc_array *array)
{
    struct writer *out = calloc(1, sizeof *out);
    if (!out)
        return tc_fail(in->err, TC_E_NOMEM, "out of memory");
    int rc = type(in, out, 0, &array->item_size);
    if (rc == 0 && out->full)
        rc = wrong(in, "dtype too long");
    if (rc == 0) {
        bool quoted = out->text[0] == '"';
        array->dtype = quoted ? strndup(out->text + 1, out->used - 2) : strdup(out->text);
        if (!array->dtype)
            rc = tc_fail(in->err, TC_E_NOMEM, "out of memory");
    }
    free(out);
    return rc;
}

/* A dtype that stands alone: one bare word, or a structured one in either spelling. */
static int read_dtype_text(struct reader *in, struct tc_array *array)
{
    if (peek(in) == '[') {
        int rc = read_dtype(in, array);
        return rc ? rc : take(in, END) ? 0 : wrong(in, "something after the dtype");
    }
    char text[NAME_MAX_BYTES];
    size_t length = (size_t)(in->end - in->at);
    if (length >= sizeof text)
        return wrong(in, "dtype too long");
    memcpy(text, in->at, length);
    text[length] = '\0';
    int rc = word(in, text, &array->item_size);
    if (rc)
        return rc;
    array->dtype = strdup(text);
    return array->dtype ? 0 : tc_fail(in->err, TC_E_NOMEM, "out of memory");
}

static int truth(struct reader *in, bool *value)
{
    int c = peek(in);
    const char *text = c == 'T' ? "True" : "False";
    if ((size_t)(in->end - in->at) < strlen(text) || memcmp(in->at, text, strlen(text)) != 0)
        return wrong(in, "expected True or False");
    in->at += strlen(text);
    *value = c == 'T';
    return 0;
}

static int entry(struct reader *in, struct tc_array *array, unsigned *seen)
{
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    char key[NAME_MAX_BYTES];
    int rc = string(in, key);
    if (rc)
        return rc;
    unsigned i = 0;
    while (i < 3 && strcmp(key, keys[i]) != 0)
        i++;
    if (i == 3 || (*seen & 1u << i))
        return wrong(in, "unknown or repeated key");
    *seen |= 1u << i;
    if (!take(in, ':'))
        return wrong(in, "expected ':'");
    if (i == 0)
        return read_dtype(in, array);
    if (i == 1)
        return truth(in, &array->fortran);
    return take(in, '(') ? shape(in, ')', array->shape, &array->ndim) : wrong(in, "expected a shape");
}

static int read_header(struct reader *in, struct tc_array *array)
{
    unsigned seen = 0;
    if (!take(in, '{'))
        return wrong(in, "expected '{'");
    int rc = take(in, '}') ? 0 : 1;
    while (rc > 0) {
        rc = entry(in, array, &seen);
        if (rc == 0)
            rc = more(in, '}');
    }
    if (rc)
        return rc;
    if (!take(in, END))
        return wrong(in, "something after the header");
    return seen == 7 ? 0 : wrong(in, "descr, fortran_order or shape is missing");
}

/* Bytes of the data; -1 when no machine could hold that many. As in numpy, a zero excuses no overflow beside it. */
static int data_size(const struct tc_array *array, uint64_t *size)
{
    uint64_t product = array->item_size ? array->item_size : 1;
    bool empty = array->item_size == 0;
    for (unsigned i = 0; i < array->ndim; i++) {
        if (array->shape[i] == 0)
            empty = true;
        else if (__builtin_mul_overflow(product, array->shape[i], &product) || product > INT64_MAX)
            return -1;
    }
    *size = empty ? 0 : product;
    return 0;
}

static int fit(const struct tc_array *array, uint64_t file_size, int reason, struct tc_err *err)
{
    uint64_t size;
    if (data_size(array, &size))
        return tc_fail(err, reason, "the shape overflows");
    if (array->offset > file_size || file_size - array->offset != size)
        return tc_fail(err, reason, "the shape says %llu bytes of data after %llu, the file has %llu in all",
                       (unsigned long long)size, (unsigned long long)array->offset, (unsigned long long)file_size);
    return 0;
}

/* The way out of every maker: the array, or nothing. */
static int settle(struct tc_array *array, int rc)
{
    if (rc)
        tc_array_free(array);
    else
        array->described = true;
    return rc;
}

int tc_array_read_npy(struct tc_array *array, const void *bytes, size_t size, uint64_t file_size, struct tc_err *err)
{
    const uint8_t *head = bytes;
    memset(array, 0, sizeof *array);
    if (size < 10 || memcmp(head, "\x93NUMPY", 6) != 0)
        return tc_fail(err, TC_E_FORMAT, "not a .npy file");
    unsigned version = head[6];
    if (version < 1 || version > 3 || head[7] != 0)
        return tc_fail(err, TC_E_FORMAT, ".npy version %u.%u is not known", version, head[7]);
    size_t start = version == 1 ? 10 : 12;
    if (size < start)
        return tc_fail(err, TC_E_FORMAT, "the .npy header is cut off");
    size_t length = head[8] | (size_t)head[9] << 8;
    if (version > 1)
        length |= (size_t)head[10] << 16 | (size_t)head[11] << 24;
    if (length > TC_NPY_HEAD_MAX - start)
        return tc_fail(err, TC_E_FORMAT, "the .npy header is longer than %u bytes", TC_NPY_HEAD_MAX);
    if (length > size - start)
        return tc_fail(err, TC_E_FORMAT, "the .npy header is cut off");
    array->offset = start + length;
    struct reader in = {.start = head,
                        .at = head + start,
                        .end = head + start + length,
                        .utf8 = version == 3,
                        .reason = TC_E_FORMAT,
                        .what = ".npy header",
                        .err = err};
    int rc = read_header(&in, array);
    if (rc == 0)
        rc = fit(array, file_size, TC_E_FORMAT, err);
    return settle(array, rc);
}

int tc_array_check(struct tc_array *array, uint64_t file_size, struct tc_err *err)
{
    struct tc_array own = {0};
    const uint8_t *text = (const uint8_t *)array->dtype;
    struct reader in = {.start = text,
                        .at = text,
                        .end = text + strlen(array->dtype),
                        .utf8 = true,
                        .reason = TC_E_FORMAT,
                        .what = "dtype",
                        .err = err};
    int rc = read_dtype_text(&in, &own);
    if (rc) {
        free(own.dtype); /* a whole one may stand before what is wrong */
        return rc;
    }
    free(array->dtype);
    array->dtype = own.dtype;
    if (own.item_size != array->item_size)
        return tc_fail(err, TC_E_FORMAT, "elements of %llu bytes are said to have %llu",
                       (unsigned long long)own.item_size, (unsigned long long)array->item_size);
    return fit(array, file_size, TC_E_FORMAT, err);
}

/* The one free dimension, where there is one, is what the others leave over. */
static int solve(struct tc_array *array, uint64_t file_size, struct tc_err *err)
{
    unsigned unknown = array->ndim;
    for (unsigned i = 0; i < array->ndim; i++) {
        if (array->shape[i] != FREE)
            continue;
        if (unknown != array->ndim)
            return tc_fail(err, TC_E_USAGE, "only one dimension may be -1");
        unknown = i;
    }
    if (unknown == array->ndim)
        return 0;
    uint64_t rest;
    array->shape[unknown] = 1;
    if (data_size(array, &rest) || rest == 0 || file_size % rest != 0)
        return tc_fail(err, TC_E_USAGE, "no dimension -1 makes %llu bytes", (unsigned long long)file_size);
    array->shape[unknown] = file_size / rest;
    return 0;
}

static struct reader typed(const char *text, const char *what, struct tc_err *err)
{
    const uint8_t *bytes = (const uint8_t *)text;
    return (struct reader){.start = bytes,
                           .at = bytes,
                           .end = bytes + strlen(text),
                           .utf8 = true,
                           .loose = true,
                           .reason = TC_E_USAGE,
                           .what = what,
                           .err = err};
}

int tc_array_describe_raw(struct tc_array *array, const char *dtype, const char *text, uint64_t file_size,
                          struct tc_err *err)
{
    memset(array, 0, sizeof *array);
    struct reader in = typed(dtype, "dtype", err);
    int rc = read_dtype_text(&in, array);
    if (rc)
        return settle(array, rc);
    in = typed(text && *text ? text : "-1", "shape", err);
    int close = take(&in, '(') ? ')' : END;
    rc = shape(&in, close, array->shape, &array->ndim);
    if (rc == 0 && !take(&in, END))
        rc = wrong(&in, "something after the shape");
    if (rc == 0)
        rc = solve(array, file_size, err);
    if (rc == 0)
        rc = fit(array, file_size, TC_E_USAGE, err);
    return settle(array, rc);
}

int tc_array_copy(struct tc_array *out, const struct tc_array *array, struct tc_err *err)
{
    char *dtype = array->dtype ? strdup(array->dtype) : NULL;
    if (array->dtype && !dtype) {
        memset(out, 0, sizeof *out);
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    }
    *out = *array;
    out->dtype = dtype;
    return 0;
}

void tc_array_free(struct tc_array *array)
{
    if (!array)
        return;
    free(array->dtype);
    memset(array, 0, sizeof *array);
}
