/* lease.h - how long published arrays stay: a lease stands in an array's description, and outlives the agent. */
#ifndef TC_FILE_LEASE_H
#define TC_FILE_LEASE_H

#include "file/folder.h"

/* Give published NAME this lease in place of the one it had; all zero: it stays. TC_E_NOTFOUND and what
 * tc_folder_open_array returns. */
int tc_lease_set(struct tc_folder *folder, const char *name, const struct tc_lease *lease, struct tc_err *err);

/* Whether it has ended: the time has come, or the owner has gone. */
bool tc_lease_over(const struct tc_lease *lease);

/* Remove NAME if its lease is over, as its file says: 1 when it was removed. 0 when it stays, is not there or cannot be
 * removed, with its lease in *lease, all zero where it has none. TC_E_BUSY: somebody holds the lock. */
int tc_lease_end(struct tc_folder *folder, const char *name, struct tc_lease *lease, struct tc_err *err);

/* The same for every array of the folder: gone is called for each name that was removed, stays for those that have a
 * lease and are still there; both may be NULL. 0, or a negative reason when the folder cannot be listed; one array that
 * cannot be removed does not end it. TC_E_BUSY: some are left whose lease is over. */
int tc_lease_sweep(struct tc_folder *folder, void (*gone)(void *arg, const char *name),
                   void (*stays)(void *arg, const char *name, const struct tc_lease *lease), void *arg,
                   struct tc_err *err);

#endif
