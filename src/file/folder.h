/* folder.h - a host's directory of published arrays.
 *
 * DIR/NAME          an array, complete, or not there at all
 * DIR/.treecast/    local API (the Unix socket), lock, temporary files, descriptions by inode (INODE.json)
 * Everything goes through directory descriptors: a path in which a component was swapped for a link leads nowhere
 * (openat2 with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS where the kernel has it, O_NOFOLLOW else). All calls may
 * block, those that change names for up to TC_LOCK_MS: then they fail with TC_E_BUSY and have changed nothing. */
#ifndef TC_FILE_FOLDER_H
#define TC_FILE_FOLDER_H

#include <stdbool.h>
#include <sys/types.h>

#include "data/describe.h"

struct tc_folder;

#define TC_FOLDER_STATE ".treecast" /* the agent's own directory inside DIR */

/* For the agent: create DIR (0755, its parent must be there) and .treecast (0711) where they are missing, whatever the
 * umask: others may list DIR, read the arrays that their mode lets them read, and open a description (0644) by its
 * inode. Refused are a directory of another user, one that others may write, /dev/shm or another sticky directory
 * itself, and a link (TC_E_POLICY; one line that says what to do). For readers: open_read takes what is there if it is a
 * believed user's and others may not write it (base/trust.h), so nothing in it was put there by anybody else. NULL on
 * error. */
struct tc_folder *tc_folder_open(const char *path, struct tc_err *err);
struct tc_folder *tc_folder_open_read(const char *path, struct tc_err *err);
const char *tc_folder_path(const struct tc_folder *folder); /* absolute; borrowed until close */
int tc_folder_fd(const struct tc_folder *folder);           /* of DIR; borrowed */
int tc_folder_state_fd(const struct tc_folder *folder);     /* of DIR/.treecast; borrowed; -1 when it is not there */
uint64_t tc_folder_space(const struct tc_folder *folder);   /* bytes that a user may still allocate;
                                                              INT64_MAX: the file system does not say */
/* Bytes that files being filled in this folder may still take, after adding more and taking off less. Thread-safe. */
uint64_t tc_folder_promise(struct tc_folder *folder, uint64_t more, uint64_t less);
/* No more bytes of memory than most (0: no bound) for all files in this folder, on tmpfs; and how many of them are left, UINT64_MAX
 * without a bound. What is promised is not counted as taken yet. */
void tc_folder_bound(struct tc_folder *folder, uint64_t most);
uint64_t tc_folder_bound_left(const struct tc_folder *folder);
bool tc_folder_on_tmpfs(const struct tc_folder *folder);
/* This process is to end: from now on no call waits for the folder's lock for more than a moment. Thread-safe. */
void tc_folder_hurry(struct tc_folder *folder);
void tc_folder_close(struct tc_folder *folder);

/* Open published NAME read-only and read the description of the very inode that was opened; description may be NULL.
 * Returns a descriptor that the caller closes, or a negative reason: TC_E_NOTFOUND, TC_E_NAME, TC_E_FORMAT (a file
 * without a description, or whose size differs from it), TC_E_POLICY (it is of a user who is not believed). */
int tc_folder_open_array(struct tc_folder *folder, const char *name, struct tc_description *description,
                         struct tc_err *err);

/* Call each for every published array in order of name (the description is borrowed for the call); stops at the first
 * nonzero answer, which it returns. */
int tc_folder_each(struct tc_folder *folder, int (*each)(const struct tc_description *description, void *arg),
                   void *arg, struct tc_err *err);

/* Unlink NAME, a regular file, and its description; readers keep their mapping. TC_E_NOTFOUND, TC_E_PERMISSION,
 * TC_E_FORMAT, TC_E_BUSY (another process has held the lock for seconds). */
int tc_folder_remove(struct tc_folder *folder, const char *name, struct tc_err *err);

/* Remove what failed sessions left (temporary files that no live process holds: they are flock'ed by their writer) and
 * descriptions without a file; all: published arrays too. Counts what went; files and bytes are set also on error. */
int tc_folder_clean(struct tc_folder *folder, bool all, unsigned *files, uint64_t *bytes, struct tc_err *err);

/* What an agent does when it starts: descriptions without a file go, and of what failed sessions left of one NAME all but
 * the newest, which a session to come may go on with. */
int tc_folder_tidy(struct tc_folder *folder, struct tc_err *err);

/* Digest the published file again and compare with its description, which is given to the caller (its array to be
 * freed) on success; NULL allowed. TC_E_INTEGRITY, and what open_array returns. */
int tc_folder_verify(struct tc_folder *folder, const char *name, struct tc_description *description,
                     struct tc_err *err);

#endif
