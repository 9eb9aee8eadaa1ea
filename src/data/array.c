#include "data/array.h"

#include <stdlib.h>
#include <string.h>

#include "data/literal.h"

static int truth(struct tc_literal *in, bool *value)
{
    int c = tc_literal_peek(in);
    const char *text = c == 'T' ? "True" : "False";
    if ((size_t)(in->end - in->at) < strlen(text) || memcmp(in->at, text, strlen(text)) != 0)
        return tc_literal_wrong(in, "expected True or False");
    in->at += strlen(text);
    *value = c == 'T';
    return 0;
}

/* A tuple, as numpy demands: (6) is a number. */
static int read_shape(struct tc_literal *in, struct tc_array *array)
{
    bool comma;
    if (!tc_literal_take(in, '('))
        return tc_literal_wrong(in, "expected a shape");
    int rc = tc_literal_numbers(in, ')', array->shape, TC_DIMENSIONS_MAX, &array->ndim, &comma);
    return rc == 0 && array->ndim == 1 && !comma ? tc_literal_wrong(in, "a shape of one number has a comma, (6,)") : rc;
}

static int entry(struct tc_literal *in, struct tc_array *array, unsigned *seen)
{
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    int rc = tc_literal_string(in);
    if (rc)
        return rc;
    unsigned i = 0;
    while (i < 3 && strcmp(in->string.bytes, keys[i]) != 0)
        i++;
    if (i == 3 || (*seen & 1u << i))
        return tc_literal_wrong(in, "unknown or repeated key");
    *seen |= 1u << i;
    if (!tc_literal_take(in, ':'))
        return tc_literal_wrong(in, "expected ':'");
    if (i == 0)
        return tc_dtype_read(in, &array->dtype, &array->item_size);
    return i == 1 ? truth(in, &array->fortran) : read_shape(in, array);
}

static int read_header(struct tc_literal *in, struct tc_array *array)
{
    unsigned seen = 0;
    if (!tc_literal_take(in, '{'))
        return tc_literal_wrong(in, "expected '{'");
    int rc = tc_literal_take(in, '}') ? 0 : 1;
    while (rc > 0) {
        rc = entry(in, array, &seen);
        if (rc == 0)
            rc = tc_literal_more(in, '}');
    }
    if (rc)
        return rc;
    if (!tc_literal_take(in, TC_LITERAL_END))
        return tc_literal_wrong(in, "something after the header");
    return seen == 7 ? 0 : tc_literal_wrong(in, "descr, fortran_order or shape is missing");
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
    if (reason == TC_E_FORMAT && array->offset <= file_size && file_size - array->offset > size)
        return tc_fail(err, reason,
                       "%llu bytes follow the array of %llu (a second array in the file? save each in its own)",
                       (unsigned long long)(file_size - array->offset - size), (unsigned long long)size);
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
    struct tc_literal in = {.start = head,
                            .at = head + start,
                            .end = head + start + length,
                            .utf8 = version == 3,
                            .reason = TC_E_FORMAT,
                            .what = ".npy header",
                            .err = err};
    int rc = read_header(&in, array);
    tc_literal_free(&in);
    if (rc == 0)
        rc = fit(array, file_size, TC_E_FORMAT, err);
    return settle(array, rc);
}

int tc_array_check(struct tc_array *array, uint64_t file_size, struct tc_err *err)
{
    char *dtype;
    uint64_t item_size;
    struct tc_literal in = tc_literal_of(array->dtype, "dtype", TC_E_FORMAT, err);
    int rc = tc_dtype_read_alone(&in, &dtype, &item_size);
    tc_literal_free(&in);
    if (rc)
        return rc;
    free(array->dtype);
    array->dtype = dtype;
    if (item_size != array->item_size)
        return tc_fail(err, TC_E_FORMAT, "elements of %llu bytes are said to have %llu", (unsigned long long)item_size,
                       (unsigned long long)array->item_size);
    return fit(array, file_size, TC_E_FORMAT, err);
}

/* The one free dimension, where there is one, is what the others leave over. */
static int solve(struct tc_array *array, uint64_t file_size, struct tc_err *err)
{
    unsigned unknown = array->ndim;
    for (unsigned i = 0; i < array->ndim; i++) {
        if (array->shape[i] != TC_LITERAL_FREE)
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

static int typed_shape(struct tc_array *array, const char *text, struct tc_err *err)
{
    bool comma;
    struct tc_literal in = tc_literal_of(text, "shape", TC_E_USAGE, err);
    in.minus_one = true;
    int close = tc_literal_take(&in, '(') ? ')' : TC_LITERAL_END;
    int rc = tc_literal_numbers(&in, close, array->shape, TC_DIMENSIONS_MAX, &array->ndim, &comma);
    return rc == 0 && !tc_literal_take(&in, TC_LITERAL_END) ? tc_literal_wrong(&in, "something after the shape") : rc;
}

int tc_array_describe_raw(struct tc_array *array, const char *dtype, const char *shape, uint64_t file_size,
                          struct tc_err *err)
{
    memset(array, 0, sizeof *array);
    struct tc_literal in = tc_literal_of(dtype, "dtype", TC_E_USAGE, err);
    int rc = tc_dtype_read_alone(&in, &array->dtype, &array->item_size);
    tc_literal_free(&in);
    if (rc == 0 && array->item_size == 0 && file_size > 0)
        rc = tc_fail(err, TC_E_USAGE, "dtype: elements of no bytes; a text or void has a length, as in S10, U10, V16");
    if (rc == 0)
        rc = typed_shape(array, shape && *shape ? shape : "-1", err);
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
