/* launch.h - agents started on hosts that have none, and gone again with whoever started them.
 *
 * A helper beside the sender, `treecast launch-helper` in a session of its own, does the launching (site/launch_helper.h) and is told
 * what to do by a launch request; it outlives a sender that is killed just long enough to end what it started. */
#ifndef TC_SITE_LAUNCH_H
#define TC_SITE_LAUNCH_H

#include "site/launch_request.h"

struct tc_launch;

/* Start the helper and give it the launch request. Blocks while it starts (milliseconds). */
struct tc_launch *tc_launch_start(const struct tc_launch_request *request, struct tc_err *err);

/* Readable when there is something to take. */
int tc_launch_fd(const struct tc_launch *launch);

/* Take what there is: failed(arg, number, why) for each host that will not come. Returns 1 when the helper has ended and
 * all is taken, else 0. */
int tc_launch_take(struct tc_launch *launch, void (*failed)(void *arg, unsigned number, const char *why), void *arg);

/* The session is over: agents end by themselves now. Waits for that, at most seconds, then ends the helper, which ends
 * what it started. stay: they are to serve on, nothing is waited for. NULL allowed. */
void tc_launch_end(struct tc_launch *launch, unsigned seconds, bool stay);

#endif
