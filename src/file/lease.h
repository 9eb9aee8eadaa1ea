/* lease.h - how long published arrays stay: a lease stands in an array's description, and outlives the agent. */
#ifndef TC_FILE_LEASE_H
#define TC_FILE_LEASE_H

#include "file/folder.h"

/* Give published NAME this lease in place of the one it had; all zero: it stays. TC_E_NOTFOUND and what
 * tc_folder_open_array returns. */
int tc_lease_set(struct tc_folder *folder, const char *name, const struct tc_lease *lease, struct tc_err *err);

/* Whether it has ended by now (seconds since 1970): the time has come, or the owner has gone. */
bool tc_lease_over(const struct tc_lease *lease, uint64_t now);

/* Remove the arrays whose lease is over, with a call of gone for each name, and call stays for those that have one that
 * is not. Both may be NULL. 0, or a negative reason when the folder cannot be listed; one array that cannot be removed
 * does not end it, but TC_E_BUSY does: then some may be left whose lease is over. */
int tc_lease_sweep(struct tc_folder *folder, uint64_t now, void (*gone)(void *arg, const char *name),
                   void (*stays)(void *arg, const struct tc_lease *lease), void *arg, struct tc_err *err);

#endif
