/* array.h - what kind of array the bytes are: the .npy header, and element types by hand for raw files.
 *
 * Source of the format: numpy's NEP 1 and numpy.lib.format, versions 1.0, 2.0 and 3.0. The header is a Python literal;
 * a parser of our own accepts of it what numpy.load accepts from any writer of the format, and refuses the rest. */
#ifndef TC_DATA_ARRAY_H
#define TC_DATA_ARRAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "data/dtype.h"

struct tc_array {
    bool described; /* false: plain bytes, everything below is zero */
    char *dtype;    /* owned. "<f8", or JSON for a structured one: [["x","<f8"],["v","<i4",[3]]] */
    unsigned ndim;
    uint64_t shape[TC_DIMENSIONS_MAX];
    bool fortran;       /* order "F"; else "C" */
    uint64_t offset;    /* bytes from the file's start to the first element */
    uint64_t item_size; /* bytes of one element */
};

#define TC_NPY_HEAD_MAX (1u << 20) /* a longer header is refused */

/* Read the head of a .npy file: bytes holds the first size bytes of a file of file_size bytes (the whole header must be
 * among them; TC_NPY_HEAD_MAX is always enough). Fills array (to be freed). TC_E_FORMAT with a line that says what is
 * wrong: not .npy, version, truncated header, object arrays (they hold Python pointers), shape that overflows, data
 * shorter or longer than the shape says; what follows a first whole array is named as such. */
int tc_array_read_npy(struct tc_array *array, const void *bytes, size_t size, uint64_t file_size, struct tc_err *err);

/* Describe a raw file: dtype as numpy reads it ("<f8", "float64", "i4", "[('x', '<f8')]"), shape "3,4" or "(3, 4)",
 * in C order. One dimension may be -1: the size decides it; NULL or "" is the shape "-1". TC_E_USAGE when the two
 * cannot be read or do not fit file_size. */
int tc_array_describe_raw(struct tc_array *array, const char *dtype, const char *shape, uint64_t file_size,
                          struct tc_err *err);

/* For a description that came from elsewhere: dtype (not NULL) is one that is known, item_size is its size, and offset
 * and shape make file_size. The dtype is put into the spelling that the two above give it. TC_E_FORMAT. */
int tc_array_check(struct tc_array *array, uint64_t file_size, struct tc_err *err);

/* Copy; TC_E_NOMEM. free: NULL fields allowed, leaves an undescribed array. */
int tc_array_copy(struct tc_array *out, const struct tc_array *array, struct tc_err *err);
void tc_array_free(struct tc_array *array);

#endif
