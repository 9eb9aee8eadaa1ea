/* word.h - an element type in one word, with the meaning that numpy.dtype(word) gives it: "<f8", "float64", "d", "|i4",
 * "<M8[D/2]".
 *
 * Every word that numpy reads as one type is read, save where numpy's own arithmetic overflows, where a unit is
 * divided by what it does not have as many parts of, or by nothing, where what it makes cannot be read back, and where it
 * takes a character for a number ("\1"). Several types in a word ("3f8", "f8,i4") are refused: they are written as a list of
 * fields. Widths of long, pointers and long double are this machine's, as in numpy. */
#ifndef TC_DATA_WORD_H
#define TC_DATA_WORD_H

#include <stdint.h>

#define TC_WORD_MAX 32u            /* bytes of the one spelling with NUL */
#define TC_ITEM_SIZE_MAX INT32_MAX /* numpy's own limit */

struct tc_word {
    char text[TC_WORD_MAX]; /* as numpy writes it: "<f8", "|S3", "<M8[12h]" */
    uint64_t size;          /* bytes of an element */
};

/* NULL, or why it is none. */
const char *tc_word_read(struct tc_word *word, const char *text);
/* A kind ('S', 'U', 'V') of count characters or bytes, in the order of the word that it replaces. */
const char *tc_word_resize(struct tc_word *word, uint64_t count);

#endif
