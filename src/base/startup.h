/* startup.h - what a process begins with that is started in surroundings which somebody else has set, as hooks of batch
 * systems and the agents that they start are: named variables only, no descriptor, signal, timer, limit, mask or directory
 * of the one who started it.
 *
 * All calls are for a process without threads, before anything else is done in it. They never fail: what the kernel does
 * not grant stays as it is. */
#ifndef TC_BASE_STARTUP_H
#define TC_BASE_STARTUP_H

#include <stdbool.h>
#include <stddef.h>

/* Close all descriptors from 3 up but the count ones in keep, in any order; what is below 3 in it does not matter. */
void tc_startup_close(const int *keep, size_t count);

/* No signal is blocked. */
void tc_startup_unblock(void);

/* Every signal has its default action and is not blocked; no alarm or interval timer runs. */
void tc_startup_signals(void);

/* All of it: 0, 1 and 2 are open (/dev/null where they were not) and nothing else is, signals as above, umask 022, in /,
 * no core dumps, and limits on files, memory, processor time, processes and descriptors that let an agent work. */
void tc_startup_surroundings(void);

/* Begin again with those strings of the environment only that keep approves of ("NAME=value"), the first of each name:
 * execute this program anew with argv, so that the dynamic linker and the libraries' constructors see no others either.
 * Returns, with environ cut down, when there was nothing to remove, or where the program cannot be executed anew. */
void tc_startup_environment(char *const *argv, bool (*keep)(const char *entry));

#endif
