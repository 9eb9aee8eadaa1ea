/* launch_helper.h - what runs on a host that a launcher has reached, and beside the sender: become the host's agent, and launch
 * on the hosts that the launch request names.
 *
 * It says on its standard output "treecast launch-helper: up" when it has its launch request, "treecast launch-helper: failed NUMBER WHY" for
 * each host whose agent could not be started, its own launches' included, and "treecast launch-helper: unreached NUMBER WHY" for
 * each that a login from here did not reach. The one beside the sender tries those again from there: nodes of some sites
 * cannot log in to each other. There a login that was refused or dropped (sshd's MaxStartups, a host that is booting) is
 * tried again after growing pauses, as long as the hosts may take to come up. When its standard input ends, whoever
 * started it is gone or done: launches that are not up yet are ended; the others end by themselves, for an agent goes
 * when its sender goes. Secrets come in the launch request alone. */
#ifndef TC_SITE_LAUNCH_HELPER_H
#define TC_SITE_LAUNCH_HELPER_H

#include "base/err.h"

#define TC_LAUNCH_HELPER_SAYS "treecast launch-helper: "

/* Runs until every launch has ended, or becomes the agent (then it does not return). Standard input, output and error are
 * those of the process. */
int tc_launch_helper_run(struct tc_err *err);

#endif
