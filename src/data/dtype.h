/* dtype.h - the type of an array's elements: one word, or a structure of fields.
 *
 * One parser reads both spellings of a structure: numpy's Python literal ([('x', '<f8', (3,))]) and the JSON that is
 * kept ([["x","<f8",[3]]]). It accepts what numpy's descr_to_dtype accepts of them, and refuses what that refuses:
 * names that occur twice, elements above 2 GiB. A shape of a shape, ('x', ('<f8', (2,)), (3,)), is an object in JSON:
 * ["x",{"dtype":"<f8","shape":[2]},[3]]. */
#ifndef TC_DATA_DTYPE_H
#define TC_DATA_DTYPE_H

#include "data/literal.h"
#include "data/word.h"

#define TC_DIMENSIONS_MAX 64u
#define TC_DTYPE_TEXT_MAX 131072u /* bytes with NUL: what a header of 64 KiB makes at most, in UTF-8 */

/* A quoted word or a list, from where in is: *dtype is its one spelling ("<f8" or JSON, to be freed), *size the bytes
 * of an element. Nothing is to be freed after a failure. */
int tc_dtype_read(struct tc_literal *in, char **dtype, uint64_t *size);
/* The same of a text that stands alone, where a word has no quotes. */
int tc_dtype_read_alone(struct tc_literal *in, char **dtype, uint64_t *size);

#endif
