/* jobdir.h - a job's directory on this host, and what hooks know of the job.
 *
 * BASE          root's, and so is every directory above it; nobody else may write there, but for names in a sticky one
 *   .hooks/     root's, 0700: hooks alone look in here
 *     NAME.lock   held (flock) by the hook that is at work on NAME: nobody else can hold it
 *     NAME.agent  who runs, see jobagent.h
 *     NAME.log    what the agent says on standard error
 *     trash/      what is being removed
 *   NAME/       0750: root's or the agent's user's; the job's user enters it by an access control list, or the job's group as
 *               its group
 *     ARRAY       an array
 *     .treecast/  the agent's own (local API, descriptions), and from the hook
 *       key, key.origin   the job's keys, 0400, the user's
 *       ports             where agents of the job listen, 0444, root's
 *
 * Nothing here is reached through a link. All that root writes into NAME is written through descriptors before the directory
 * is anybody else's; afterwards root only moves NAME aside, as a whole, and removes it there. All calls may block. */
#ifndef TC_SITE_JOBDIR_H
#define TC_SITE_JOBDIR_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

#define TC_JOBDIR_STATE ".treecast"
#define TC_JOBDIR_KEY ".treecast/key"
#define TC_JOBDIR_PORTS ".treecast/ports"

struct tc_jobdir;

/* Lock NAME in BASE. make: BASE (its parent must be there) and .hooks are made where they are missing; without, NULL and
 * TC_E_NOTFOUND. TC_E_POLICY: somebody else could move or change what is there; the line names the directory.
 * TC_E_BUSY: another hook holds the lock for longer than seconds. */
struct tc_jobdir *tc_jobdir_open(const char *base, const char *name, bool make, double seconds, struct tc_err *err);
void tc_jobdir_free(struct tc_jobdir *dir);              /* and unlock; NULL allowed */
const char *tc_jobdir_path(const struct tc_jobdir *dir); /* borrowed */

/* Make NAME and its .treecast, root's alone. TC_E_EXISTS: it is there (tc_jobdir_discard first). */
int tc_jobdir_make(struct tc_jobdir *dir, struct tc_err *err);
/* After tc_jobdir_make: a new file in .treecast for user (and group) with mode. */
int tc_jobdir_write(struct tc_jobdir *dir, const char *file, const void *bytes, size_t size, uid_t uid, gid_t gid,
                    mode_t mode, struct tc_err *err);
/* Let the user in, or all of the group (then by_group; also where the file system has no access control lists). */
int tc_jobdir_open_to(struct tc_jobdir *dir, uid_t uid, gid_t gid, bool by_group, struct tc_err *err);
/* Last: make it and .treecast the property of owner, in whose name the agent will run. */
int tc_jobdir_give(struct tc_jobdir *dir, uid_t owner, struct tc_err *err);

/* Take NAME away from everybody, whatever is in it, and remove it within seconds; what takes longer goes on in the
 * background. 0 when it was not there. */
int tc_jobdir_discard(struct tc_jobdir *dir, double seconds, struct tc_err *err);
/* Remove what hooks know of the job; the lock goes too, when dir is freed. */
void tc_jobdir_forget(struct tc_jobdir *dir);

/* A file of hooks about this job: NAME.SUFFIX, opened with flags, 0600 when it is made. A descriptor, or -1 and errno. */
int tc_jobdir_note(const struct tc_jobdir *dir, const char *suffix, int flags);

#endif
