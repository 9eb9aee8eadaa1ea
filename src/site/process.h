/* process.h - other programs: ask one and read its answer. posix_spawn, no shell. */
#ifndef TC_SITE_PROCESS_H
#define TC_SITE_PROCESS_H

#include <stddef.h>

#include "base/err.h"

/* Run argv (ended by NULL; argv[0] looked up in PATH) with standard input from /dev/null, and take what it prints, at most
 * size - 1 bytes, terminated. Blocks, at most seconds: then it is killed. TC_E_NOTFOUND: no such program; TC_E_TIMEOUT;
 * TC_E_FAILED when it exits with another code than 0, TC_E_LIMIT when it says more. */
int tc_process_ask(const char *const *argv, unsigned seconds, char *out, size_t size, struct tc_err *err);

#endif
