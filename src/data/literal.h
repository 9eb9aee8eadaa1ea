/* literal.h - a reader of the few literals that describe arrays: strings, whole numbers, and the brackets around them.
 *
 * Python's and JSON's spelling differ in brackets and quotes alone here, so one reader serves both. Errors name the
 * place: "WHAT: why at byte N". */
#ifndef TC_DATA_LITERAL_H
#define TC_DATA_LITERAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TC_LITERAL_END (-1)
#define TC_LITERAL_FREE UINT64_MAX /* the number -1, where the reader allows it */

/* A text that grows. */
struct tc_text {
    char *bytes; /* owned; NUL behind used bytes, NULL while nothing was added */
    size_t used, capacity;
};

/* TC_E_NOMEM. */
int tc_text_add(struct tc_text *text, const char *bytes, size_t count, struct tc_err *err);
void tc_text_free(struct tc_text *text);

struct tc_literal {
    const uint8_t *start, *at, *end; /* borrowed */
    bool utf8;                       /* else Latin-1 */
    bool minus_one;                  /* a number may be -1 */
    int reason;                      /* of errors */
    const char *what;                /* is read */
    struct tc_err *err;
    struct tc_text string; /* the last string that was read, in UTF-8 */
};

/* For UTF-8 text with NUL. */
struct tc_literal tc_literal_of(const char *text, const char *what, int reason, struct tc_err *err);
void tc_literal_free(struct tc_literal *in);

/* Fails with why and the place. */
int tc_literal_wrong(struct tc_literal *in, const char *why);

/* The next character behind white space, or TC_LITERAL_END. take: go beyond it when it is the wanted one. */
int tc_literal_peek(struct tc_literal *in);
bool tc_literal_take(struct tc_literal *in, int wanted);
/* The bracket that closes a sequence whose opening one was just taken; 0 when none opens here. */
int tc_literal_open(struct tc_literal *in);
/* After an item of a sequence: 1 when another follows, 0 when it is closed (also after a last comma). */
int tc_literal_more(struct tc_literal *in, int close);

/* A string into in->string; Python 2's u'...' too. */
int tc_literal_string(struct tc_literal *in);
int tc_literal_number(struct tc_literal *in, uint64_t *value);
/* Numbers of a sequence that was opened, at most count of them. comma: whether a comma stood behind the first. */
int tc_literal_numbers(struct tc_literal *in, int close, uint64_t *values, unsigned most, unsigned *count, bool *comma);

#endif
