/* privilege.h - what an agent gives up once it has what only a privileged process can get.
 *
 * Both calls are for the main thread, before any other thread exists: the kernel keeps these things for each thread, and
 * a new thread inherits them. */
#ifndef TC_NODE_PRIVILEGE_H
#define TC_NODE_PRIVILEGE_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/* Become user for good: its groups and, where it is not (gid_t)-1, one more that files may be given to; then its group
 * and itself, whom no capability can come back to. The way back is tried, and must fail. TC_E_NOTFOUND for a name that is
 * none, TC_E_PERMISSION for anybody but root, unless user is who runs this already (then nothing changes). user NULL: stay
 * who it is, root with no groups but that one. */
int tc_privilege_become(const char *user, gid_t group, struct tc_err *err);

/* From now on: no capability of any set, for root neither; no new privileges by executing a file; no core dumps; started as
 * root, not dumpable (no other process of the same user can look into it); and, where the kernel has Landlock, files may be changed below the directory dir_fd
 * only, and read there and where names are resolved and libraries come from. dir_fd -1: without
 * Landlock. Returns its version, 0 where there is none, or a negative reason. */
int tc_privilege_confine(int dir_fd, bool was_root, struct tc_err *err);

#endif
