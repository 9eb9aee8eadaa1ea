/* jobdir.h - a job's directory on this host, BASE/JOBID, and the agent that publishes in it.
 *
 * BASE         root's, 0711
 * BASE/JOBID   root's or the agent's user's, 0750; the job's user enters it by an access control list, or the job's group as its group
 *   NAME       arrays
 *   .treecast/ the agent's own (door, descriptions), and here also
 *     key, key.origin   the job's keys, 0400, the user's
 *     agent             "PID START\n": who runs (START: field 22 of /proc/PID/stat), root's
 *     log               what the agent says on standard error, root's
 * Nothing in here is reached through a link, and nothing is believed that others may have written. One process at a
 * time works on a job's directory (flock). All calls may block. */
#ifndef TC_SITE_JOBDIR_H
#define TC_SITE_JOBDIR_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

#define TC_JOBDIR_KEY ".treecast/key"

struct tc_jobdir;

/* Make BASE (its parent must be there) and BASE/ID as they are missing, 0700 at first, and lock it; or only lock what is
 * there: NULL with TC_E_NOTFOUND where nothing is. TC_E_POLICY: it belongs to another user, others may write it, or it
 * is a link. agent: whose it may be besides this process's user. TC_E_BUSY: another process holds the lock for longer than seconds. */
struct tc_jobdir *tc_jobdir_make(const char *base, const char *id, uid_t agent, double seconds, struct tc_err *err);
struct tc_jobdir *tc_jobdir_find(const char *base, const char *id, uid_t agent, double seconds, struct tc_err *err);
void tc_jobdir_free(struct tc_jobdir *dir);              /* and unlock; NULL allowed */
const char *tc_jobdir_path(const struct tc_jobdir *dir); /* borrowed */

/* Make it and .treecast the property of owner, in whose name its agent will run; done right after tc_jobdir_make or
 * tc_jobdir_purge. Root's agents need it not. */
int tc_jobdir_own(struct tc_jobdir *dir, uid_t owner, gid_t group, struct tc_err *err);

/* Give FILE (a path below the directory) to user with mode 0400. */
int tc_jobdir_give(struct tc_jobdir *dir, const char *file, uid_t uid, gid_t gid, struct tc_err *err);

/* Let the user in, or all of the group (then by_group; also where the file system has no access control lists). */
int tc_jobdir_open_to(struct tc_jobdir *dir, uid_t uid, gid_t gid, bool by_group, struct tc_err *err);

/* Whether the directory's agent lives. */
bool tc_jobdir_agent_lives(struct tc_jobdir *dir);

/* Start this program (/proc/self/exe) with arguments (ended by NULL; argv[0] too), with KEY open as descriptor 3, on its
 * own: no terminal, no environment, no groups, standard error into the log. Waits for a line on its standard output
 * for at most seconds. TC_E_TIMEOUT: it lives but has not said it; TC_E_FAILED: it ended, with the last line of its
 * log. */
int tc_jobdir_start(struct tc_jobdir *dir, const char *const *arguments, double seconds, struct tc_err *err);

/* End the agent if it lives: SIGTERM, and SIGKILL after seconds. */
int tc_jobdir_stop(struct tc_jobdir *dir, double seconds, struct tc_err *err);

/* Remove all that is in the directory; remove: and the directory, else nobody but root may enter it afterwards. */
int tc_jobdir_purge(struct tc_jobdir *dir, bool remove, struct tc_err *err);

/* Whether path lies below a mount that hides another one, as a job's private /tmp and /dev/shm do: mountinfo (text of
 * /proc/self/mountinfo) has the same mount point twice. Returns its length within path, 0 when not. Pure. */
size_t tc_jobdir_hidden(const char *path, const char *mountinfo);

/* Whether Slurm gives each job a private directory that path lies in: conf is the text of slurm.conf, container that of
 * job_container.conf ("" where there is none). Pure. */
bool tc_jobdir_private(const char *path, const char *conf, const char *container);

#endif
