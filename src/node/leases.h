/* leases.h - an agent ends leases in time: a timer for the next one that expires, a watch on every owner's process.
 *
 * Loop thread only; no polling. What stands in the folder is the truth, so an agent that starts finds the leases that
 * an earlier one left. */
#ifndef TC_NODE_LEASES_H
#define TC_NODE_LEASES_H

#include "file/folder.h"
#include "net/loop.h"

struct tc_leases;

/* loop and folder are borrowed until free. Ends what is over already. NULL and TC_E_NOMEM. */
struct tc_leases *tc_leases_new(struct tc_loop *loop, struct tc_folder *folder, struct tc_err *err);
/* A lease was given, or an array published: look again. */
void tc_leases_look(struct tc_leases *leases);
void tc_leases_free(struct tc_leases *leases); /* NULL allowed */

#endif
