/* nearest.h - what a mistyped word was probably meant to be. */
#ifndef TC_CLI_NEAREST_H
#define TC_CLI_NEAREST_H

#include <stddef.h>

/* A search; begins with {.word = WORD}. */
struct tc_nearest {
    const char *word; /* borrowed; terminated, or of size bytes where size is not 0 */
    size_t size;
    const char *found; /* the nearest of those tried, at most two edits away and not all of the word; else NULL */
    unsigned edits;    /* of found */
};

/* Compare with one more word, which is borrowed. An edit is a letter put in, left out, replaced, or swapped with its
 * neighbour (optimal string alignment). */
void tc_nearest_try(struct tc_nearest *nearest, const char *candidate);

#endif
