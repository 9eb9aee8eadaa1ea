/* program.h - other programs: ask one and read its answer, or start one and keep the ends of its pipes. posix_spawn, no
 * shell. */
#ifndef TC_SITE_PROGRAM_H
#define TC_SITE_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

/* Run argv (ended by NULL; argv[0] looked up in PATH) with standard input from /dev/null, and take what it prints, at most
 * size - 1 bytes, terminated. Blocks, at most seconds: then it is killed. TC_E_NOTFOUND: no such program; TC_E_TIMEOUT;
 * TC_E_FAILED when it exits with another code than 0, TC_E_LIMIT when it says more. */
int tc_program_ask(const char *const *argv, unsigned seconds, char *out, size_t size, struct tc_err *err);

/* A program that runs: what is written to `to` it reads, what it says on standard output or error comes from `from`. Both
 * ends do not block and are closed on exec. */
struct tc_program {
    pid_t pid;
    int to, from;
};

/* Start argv in a process group of its own, or with session in a session of its own, with no signal blocked or ignored.
 * The caller waits for its end (waitpid) and closes the pipes. */
int tc_program_start(struct tc_program *process, const char *const *argv, bool session, struct tc_err *err);
void tc_program_close(struct tc_program *process); /* the pipes that are still open (>= 0) */

#endif
