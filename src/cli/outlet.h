/* outlet.h - a stream that does not hold up who prints to it: what its reader does not take is kept, and goes later. For
 * lines that are printed while a session runs. */
#ifndef TC_CLI_OUTLET_H
#define TC_CLI_OUTLET_H

#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"

struct tc_outlet;

/* To fd, which stays the caller's. NULL and TC_E_NOMEM. */
struct tc_outlet *tc_outlet_new(int fd, struct tc_err *err);
FILE *tc_outlet_file(const struct tc_outlet *outlet); /* borrowed; to be flushed after what belongs together */
bool tc_outlet_behind(struct tc_outlet *outlet);      /* its reader has not taken everything; tried once more */
/* The session is over: from now on the reader is waited for, and first for what was kept. */
void tc_outlet_wait(struct tc_outlet *outlet);
void tc_outlet_free(struct tc_outlet *outlet); /* NULL allowed */

#endif
