/* What arrays are called and described by: .npy headers, element types by hand, descriptions as JSON. */
#include <string.h>

#include "data/describe.h"
#include "fuzz.h"

static void must_hold(const struct tc_array *array, uint64_t file_size)
{
    if (!array->described)
        return;
    uint64_t bytes = array->item_size;
    MUST(array->dtype && strlen(array->dtype) < TC_DTYPE_TEXT_MAX && array->ndim <= TC_DIMENSIONS_MAX);
    for (unsigned i = 0; i < array->ndim; i++)
        MUST(!__builtin_mul_overflow(bytes, array->shape[i], &bytes));
    MUST(array->offset <= file_size && bytes == file_size - array->offset);
}

/* What is said of an array is read back as it was. */
static void must_return(const struct tc_array *array, uint64_t file_size)
{
    struct tc_array back = {0};
    char *json = tc_array_print(array, NULL);
    MUST(json && tc_array_parse(&back, json, strlen(json), file_size, NULL) == 0);
    MUST(back.described == array->described && back.ndim == array->ndim && back.offset == array->offset);
    MUST(!back.described || strcmp(back.dtype, array->dtype) == 0);
    MUST(memcmp(back.shape, array->shape, sizeof back.shape) == 0 && back.fortran == array->fortran);
    free(json);
    tc_array_free(&back);
}

/* First two bytes: how much longer the file is than what was read of it. */
void fuzz_npy(const uint8_t *bytes, size_t size)
{
    struct tc_array array = {0};
    struct tc_err err = {0};
    if (size < 2)
        return;
    uint64_t file_size = size - 2 + ((uint64_t)bytes[0] << 8 | bytes[1]);
    int status = tc_array_read_npy(&array, bytes + 2, size - 2, file_size, &err);
    MUST(status == 0 || (err.text[0] && !strpbrk(err.text, "\n\r\033")));
    if (status == 0) {
        must_hold(&array, file_size);
        must_return(&array, file_size);
    }
    tc_array_free(&array);
}

/* dtype, NUL, shape, NUL, the file's size. */
void fuzz_raw(const uint8_t *bytes, size_t size)
{
    struct tc_array array = {0};
    struct tc_err err = {0};
    char text[513] = "";
    if (size > sizeof text - 1)
        return;
    memcpy(text, bytes, size);
    const char *dtype = text, *shape = strlen(dtype) < size ? dtype + strlen(dtype) + 1 : "";
    uint64_t file_size = size ? (uint64_t)bytes[size - 1] * 24 : 0;
    int status = tc_array_describe_raw(&array, dtype, shape, file_size, &err);
    MUST(status == 0 || err.text[0]);
    if (status == 0) {
        must_hold(&array, file_size);
        must_return(&array, file_size);
    }
    tc_array_free(&array);
}

/* First byte even: a whole description; odd: the array part that an OFFER carries, for a file of 24 bytes. */
void fuzz_description(const uint8_t *bytes, size_t size)
{
    struct tc_description description = {0}, back = {0};
    struct tc_array array = {0};
    if (size < 1)
        return;
    if (bytes[0] & 1) {
        if (tc_array_parse(&array, (const char *)bytes + 1, size - 1, 24, NULL) == 0) {
            must_hold(&array, 24);
            must_return(&array, 24);
        }
        tc_array_free(&array);
        return;
    }
    if (tc_description_parse(&description, (const char *)bytes + 1, size - 1, NULL) == 0) {
        must_hold(&description.array, description.size);
        char *json = tc_description_print(&description, NULL);
        MUST(json && !strchr(json, '\n'));
        MUST(tc_description_parse(&back, json, strlen(json), NULL) == 0 && strcmp(back.name, description.name) == 0);
        MUST(back.size == description.size && tc_digest_equal(&back.digest, &description.digest));
        free(json);
        tc_array_free(&back.array);
    }
    tc_array_free(&description.array);
}
