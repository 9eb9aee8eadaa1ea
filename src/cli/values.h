/* values.h - what the sources of values share: one place turns a text into a value and knows which source wins. */
#ifndef TC_CLI_VALUES_H
#define TC_CLI_VALUES_H

#include "cli/cli.h"

size_t tc_option_count(const struct tc_verb *verb);
const struct tc_verb *tc_values_verb(const struct tc_values *values);

enum tc_origin tc_values_origin(const struct tc_values *values, const struct tc_option *option);

/* Give option the value in text (copied; NULL for a FLAG or COUNT given as a flag), unless a higher source gave one.
 * where ("--port", "TREECAST_PORT", "FILE:3: port") stands before the line of an error. */
int tc_values_set(struct tc_values *values, const struct tc_option *option, enum tc_origin origin, const char *where,
                  const char *text, struct tc_err *err);

#endif
