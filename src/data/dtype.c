#include "data/dtype.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define DEPTH_MAX 32u /* structures within structures */

/* A name or title as it stands in the text that is made. */
struct span {
    size_t at, size;
};

struct maker {
    struct tc_literal *in;
    bool json; /* a shape of a shape is an object there */
    struct tc_text out;
    struct span *names; /* of the structures that are open, the innermost last */
    size_t count, capacity;
};

/* What stands for a type while its field is read: a list is in the text already, a word comes behind its shape. */
struct type {
    size_t at; /* where its text begins */
    bool word_only;
    struct tc_word word;
    uint64_t size; /* of one, without its shape */
    unsigned ndim;
    uint64_t dims[TC_DIMENSIONS_MAX];
};

static int type(struct maker *make, unsigned depth, struct type *out);

static int wrong(struct maker *make, const char *why)
{
    return tc_literal_wrong(make->in, why);
}

static int emit_bytes(struct maker *make, const char *bytes, size_t count)
{
    if (make->out.used + count >= TC_DTYPE_TEXT_MAX)
        return wrong(make, "dtype longer than 128 KiB");
    return tc_text_add(&make->out, bytes, count, make->in->err);
}

static int emit(struct maker *make, const char *text)
{
    return emit_bytes(make, text, strlen(text));
}

static int emit_string(struct maker *make, const char *text)
{
    int rc = emit(make, "\"");
    for (const char *c = text; rc == 0 && *c; c++) {
        char piece[8];
        if (*c == '"' || *c == '\\')
            snprintf(piece, sizeof piece, "\\%c", *c);
        else if ((unsigned char)*c < 0x20)
            snprintf(piece, sizeof piece, "\\u%04x", (unsigned)*c);
        else
            snprintf(piece, sizeof piece, "%c", *c);
        rc = emit(make, piece);
    }
    return rc ? rc : emit(make, "\"");
}

/* ---- names ---- */

static int keep_name(struct maker *make, size_t at)
{
    if (make->count == make->capacity) {
        size_t capacity = make->capacity ? 2 * make->capacity : 64;
        struct span *grown = reallocarray(make->names, capacity, sizeof *grown);
        if (!grown)
            return tc_fail(make->in->err, TC_E_NOMEM, "out of memory");
        make->names = grown;
        make->capacity = capacity;
    }
    make->names[make->count++] = (struct span){at, make->out.used - at};
    return 0;
}

static int compare(const void *left, const void *right, void *bytes)
{
    const struct span *a = left, *b = right;
    if (a->size != b->size)
        return a->size < b->size ? -1 : 1;
    return memcmp((const char *)bytes + a->at, (const char *)bytes + b->at, a->size);
}

/* Names and titles of one structure share a space; they are done with. */
static int check_names(struct maker *make, size_t first)
{
    size_t count = make->count - first;
    make->count = first;
    if (count < 2)
        return 0;
    struct span *names = make->names + first;
    qsort_r(names, count, sizeof *names, compare, make->out.bytes);
    for (size_t i = 1; i < count; i++)
        if (compare(&names[i - 1], &names[i], make->out.bytes) == 0) {
            char name[64], shown[80];
            snprintf(name, sizeof name, "%.*s", (int)names[i].size, make->out.bytes + names[i].at);
            return tc_fail(make->in->err, make->in->reason, "%s: the field name %s occurs twice", make->in->what,
                           tc_escape(shown, sizeof shown, name));
        }
    return 0;
}

static int one_name(struct maker *make)
{
    int rc = tc_literal_string(make->in);
    size_t at = make->out.used;
    if (rc == 0)
        rc = emit_string(make, make->in->string.bytes);
    return rc ? rc : keep_name(make, at);
}

/* A field's name, or (title, name). */
static int field_name(struct maker *make)
{
    int close = tc_literal_open(make->in);
    int rc = close ? emit(make, "[") : 0;
    if (rc == 0)
        rc = one_name(make);
    if (rc == 0 && close) {
        rc = tc_literal_take(make->in, ',') ? emit(make, ",") : wrong(make, "expected a field's name after its title");
        if (rc == 0)
            rc = one_name(make);
        if (rc == 0)
            rc = tc_literal_more(make->in, close);
        if (rc > 0)
            return wrong(make, "expected the end of a field's name");
    }
    return rc ? rc : emit(make, close ? "]," : ",");
}

/* ---- types and their shapes ---- */

/* The word, if it is one, into the text, and the shape behind lead; the bytes of all. */
static int put_type(struct maker *make, const struct type *of, const char *lead, uint64_t *size)
{
    int rc = of->word_only ? emit_string(make, of->word.text) : 0;
    *size = of->size;
    if (rc == 0 && of->ndim)
        rc = emit(make, lead);
    for (unsigned i = 0; rc == 0 && i < of->ndim; i++) {
        char piece[24];
        if (__builtin_mul_overflow(*size, of->dims[i], size) || *size > TC_ITEM_SIZE_MAX)
            return wrong(make, "element larger than 2 GiB");
        snprintf(piece, sizeof piece, "%s%llu", i ? "," : "[", (unsigned long long)of->dims[i]);
        rc = emit(make, piece);
    }
    return rc == 0 && of->ndim ? emit(make, "]") : rc;
}

/* A type with its shape becomes one type, {"dtype":T,"shape":[5]}: to numpy (2,) of (5,) is another than (2, 5). */
static int enclose(struct maker *make, struct type *of)
{
    static const char head[] = "{\"dtype\":";
    size_t length = strlen(head);
    int rc = put_type(make, of, ",\"shape\":", &of->size);
    size_t end = make->out.used;
    if (rc == 0)
        rc = emit(make, head); /* there is space for it now */
    if (rc)
        return rc;
    memmove(make->out.bytes + of->at + length, make->out.bytes + of->at, end - of->at);
    memcpy(make->out.bytes + of->at, head, length);
    of->ndim = 0;
    of->word_only = false;
    return emit(make, "}");
}

/* As in numpy a number is one dimension, 1 none, and behind a word of no width that width. */
static int shape(struct maker *make, struct type *of)
{
    uint64_t dims[TC_DIMENSIONS_MAX];
    unsigned ndim = 1;
    bool comma, unsized = of->size == 0 && (of->word_only || of->ndim);
    int close = tc_literal_open(make->in);
    bool sequence = close != 0;
    int rc = sequence ? tc_literal_numbers(make->in, close, dims, TC_DIMENSIONS_MAX, &ndim, &comma)
                      : tc_literal_number(make->in, dims);
    if (rc)
        return rc;
    if (unsized && (sequence || of->ndim))
        return wrong(make, "a field of no width has no shape");
    if (unsized) {
        const char *why = tc_word_resize(&of->word, dims[0]);
        of->size = of->word.size;
        return why ? wrong(make, why) : 0;
    }
    if (!sequence && dims[0] == 1)
        return 0;
    if (ndim && of->ndim)
        rc = enclose(make, of);
    memcpy(of->dims + of->ndim, dims, ndim * sizeof of->dims[0]);
    of->ndim += ndim;
    return rc;
}

/* Padding: numpy leaves out what has no name and is bytes of no type. */
static bool is_padding(const struct maker *make, size_t name_at, const struct type *of)
{
    return memcmp(make->out.bytes + name_at, "\"\",", 3) == 0 &&
           (of->ndim || (of->word_only && of->word.text[1] == 'V'));
}

static int field(struct maker *make, unsigned depth, uint64_t *size)
{
    struct type of;
    size_t names = make->count;
    int close = tc_literal_open(make->in);
    if (!close)
        return wrong(make, "expected a field");
    int rc = emit(make, "[");
    size_t name_at = make->out.used;
    if (rc == 0)
        rc = field_name(make);
    if (rc)
        return rc;
    if (!tc_literal_take(make->in, ','))
        return wrong(make, "expected a field's dtype");
    rc = type(make, depth, &of);
    if (rc == 0)
        rc = tc_literal_more(make->in, close);
    if (rc > 0) {
        rc = shape(make, &of);
        if (rc == 0)
            rc = tc_literal_more(make->in, close);
        if (rc > 0)
            return wrong(make, "expected the end of a field");
    }
    if (rc)
        return rc;
    if (is_padding(make, name_at, &of))
        make->count = names;
    rc = put_type(make, &of, ",", size);
    return rc ? rc : emit(make, "]");
}

static int fields(struct maker *make, unsigned depth, uint64_t *size)
{
    if (depth == DEPTH_MAX)
        return wrong(make, "structs too deep");
    size_t names = make->count;
    *size = 0;
    int rc = emit(make, "[");
    if (rc)
        return rc;
    rc = tc_literal_take(make->in, ']') ? 0 : 1;
    for (bool first = true; rc > 0; first = false) {
        uint64_t one = 0;
        rc = emit(make, first ? "" : ",");
        if (rc == 0)
            rc = field(make, depth + 1, &one);
        if (rc)
            return rc;
        *size += one;
        if (*size > TC_ITEM_SIZE_MAX)
            return wrong(make, "element larger than 2 GiB");
        rc = tc_literal_more(make->in, ']');
    }
    if (rc == 0)
        rc = check_names(make, names);
    return rc ? rc : emit(make, "]");
}

static int word(struct maker *make, const char *text, struct type *out)
{
    const char *why = tc_word_read(&out->word, text);
    char shown[80];
    out->word_only = true;
    out->size = out->word.size;
    return why ? tc_fail(make->in->err, make->in->reason, "%s: %s: '%s'", make->in->what, why,
                         tc_escape(shown, sizeof shown, text))
               : 0;
}

static int member(struct maker *make, const char *name)
{
    int rc = tc_literal_string(make->in);
    if (rc == 0 && (strcmp(make->in->string.bytes, name) != 0 || !tc_literal_take(make->in, ':')))
        return wrong(make, "expected \"dtype\" and \"shape\"");
    return rc;
}

/* What enclose() has made. */
static int enclosed(struct maker *make, unsigned depth, struct type *out)
{
    int rc = member(make, "dtype");
    if (rc == 0)
        rc = type(make, depth + 1, out);
    if (rc == 0)
        rc = tc_literal_take(make->in, ',') ? member(make, "shape") : wrong(make, "expected a shape");
    if (rc == 0)
        rc = shape(make, out);
    return rc == 0 && !tc_literal_take(make->in, '}') ? wrong(make, "expected the end of a dtype") : rc;
}

/* A word, a list of fields, or one of them with a shape: (type, shape). */
static int type(struct maker *make, unsigned depth, struct type *out)
{
    *out = (struct type){.at = make->out.used};
    if (depth == DEPTH_MAX)
        return wrong(make, "structs too deep");
    if (tc_literal_take(make->in, '['))
        return fields(make, depth, &out->size);
    if (depth > 0 && make->json && tc_literal_take(make->in, '{'))
        return enclosed(make, depth, out);
    if (depth > 0 && tc_literal_take(make->in, '(')) {
        int rc = type(make, depth + 1, out);
        if (rc == 0)
            rc = tc_literal_take(make->in, ',') ? shape(make, out) : wrong(make, "expected a field's shape");
        if (rc == 0)
            rc = tc_literal_more(make->in, ')');
        return rc > 0 ? wrong(make, "expected the end of a dtype") : rc;
    }
    int rc = tc_literal_string(make->in);
    return rc ? rc : word(make, make->in->string.bytes, out);
}

/* The text's end: out is to be the word or the list. */
static int finish(struct maker *make, int rc, const struct type *of, char **dtype, uint64_t *size)
{
    *dtype = NULL;
    if (rc == 0)
        *dtype = strdup(of->word_only ? of->word.text : make->out.bytes);
    if (rc == 0 && !*dtype)
        rc = tc_fail(make->in->err, TC_E_NOMEM, "out of memory");
    *size = of->size;
    tc_text_free(&make->out);
    free(make->names);
    return rc;
}

int tc_dtype_read(struct tc_literal *in, char **dtype, uint64_t *size)
{
    struct maker make = {.in = in};
    struct type of;
    int rc = type(&make, 0, &of);
    return finish(&make, rc, &of, dtype, size);
}

int tc_dtype_read_alone(struct tc_literal *in, char **dtype, uint64_t *size)
{
    struct maker make = {.in = in, .json = true};
    struct type of = {0};
    if (tc_literal_peek(in) == '[') {
        int rc = type(&make, 0, &of);
        if (rc == 0 && !tc_literal_take(in, TC_LITERAL_END))
            rc = wrong(&make, "something after the dtype");
        return finish(&make, rc, &of, dtype, size);
    }
    in->string.used = 0;
    int rc = tc_text_add(&in->string, (const char *)in->at, (size_t)(in->end - in->at), in->err);
    if (rc == 0)
        rc = word(&make, in->string.bytes, &of);
    return finish(&make, rc, &of, dtype, size);
}
