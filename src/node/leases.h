/* leases.h - an agent ends leases in time: a timer for the next one that expires, a watch on every owner's process.
 *
 * Loop thread only; files are touched in the pool. No polling. What stands in the folder is the truth: it is read once, by
 * new, so an agent that starts finds the leases that an earlier one left; from then on an index in memory says which
 * array is to be looked at when, however many there are, and its file decides. */
#ifndef TC_NODE_LEASES_H
#define TC_NODE_LEASES_H

#include "file/folder.h"
#include "net/loop.h"
#include "node/pool.h"

struct tc_leases;

/* All are borrowed until free. Ends what is over already; blocks. NULL and TC_E_NOMEM. */
struct tc_leases *tc_leases_new(struct tc_loop *loop, struct tc_pool *pool, struct tc_folder *folder,
                                struct tc_err *err);
/* Published NAME has this lease now; all zero: none. */
void tc_leases_note(struct tc_leases *leases, const char *name, const struct tc_lease *lease);
/* Give published NAME this lease, in the pool; done is called in the end, with why->reason 0 when it has it. TC_E_NOMEM:
 * it is not called. */
typedef void tc_leases_done(void *arg, const struct tc_err *why);
int tc_leases_give(struct tc_leases *leases, const char *name, const struct tc_lease *lease, tc_leases_done *done,
                   void *arg, struct tc_err *err);
void tc_leases_stop(struct tc_leases *leases); /* before the pool goes: begin nothing more in it. NULL allowed */
/* The pool is gone or idle. What is over by now ends; blocks. NULL allowed. */
void tc_leases_free(struct tc_leases *leases);

#endif
