/* trust.h - whom this process believes on its own host: whose directories, files, locks and sockets.
 *
 * Believed are its effective user, root, and the users that root's configuration names: trust = NAME ... in [treecast] of
 * TC_TRUST_FILE, and the user of [hook] there, as whom root lets jobs' agents run. That file counts only if it is root's and
 * nobody else may write it; no environment and no user's configuration ever adds anybody. A command may add whom its
 * own command line names.
 *
 * Everything is checked by descriptor: what was looked at is what is used. All calls may block (user names). */
#ifndef TC_BASE_TRUST_H
#define TC_BASE_TRUST_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/err.h"

#define TC_TRUST_FILE "/etc/treecast/treecast.conf"

bool tc_trusted(uid_t uid);
/* Believe this user too, from now on: NAME or a number. TC_E_USAGE: there is no such user; TC_E_LIMIT: too many. Before
 * threads start. */
int tc_trust_add(const char *name, struct tc_err *err);
/* Whether a configuration in file names this user; one that cannot be parsed names nobody. Reads to its end. */
bool tc_trust_named(FILE *file, uid_t uid);

/* TC_E_POLICY where what shown names belongs to uid, who is not believed: one line with the owner and what to do. */
int tc_trust_owner(uid_t uid, const char *shown, struct tc_err *err);
/* The same for the file or directory that fd is of; TC_E_POLICY also where it is a directory that others may write. */
int tc_trust_fd(int fd, const char *shown, struct tc_err *err);
/* The same for the process at the other end of a connected Unix socket, as the kernel knows it (SO_PEERCRED). */
int tc_trust_peer(int fd, const char *shown, struct tc_err *err);

/* Open a directory that is believed: its descriptor (O_PATH where it may not be read), or a negative reason. A link to
 * it in path's last place must be a believed user's too. TC_E_NOTFOUND, TC_E_POLICY, TC_E_PERMISSION. */
int tc_trust_open_dir(const char *path, struct tc_err *err);
/* The same for name, one component and no link, in the directory fd; shown is what messages call it. */
int tc_trust_open_dir_at(int fd, const char *name, const char *shown, struct tc_err *err);

#endif
