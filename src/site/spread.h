/* spread.h - what runs on a host that a launcher has reached, and beside the sender: become the host's agent, and launch
 * on the hosts that the letter names.
 *
 * It says on its standard output "treecast spread: up" when it has its letter, "treecast spread: failed NUMBER WHY" for
 * each host whose agent could not be started, its own launches' included, and "treecast spread: unreached NUMBER WHY" for
 * each that a login from here did not reach. The one beside the sender tries those again from there: nodes of some sites
 * cannot log in to each other. There a login that was refused or dropped (sshd's MaxStartups, a host that is booting) is
 * tried again after growing pauses, as long as the hosts may take to come up. When its standard input ends, whoever
 * started it is gone or done: launches that are not up yet are ended; the others end by themselves, for an agent goes
 * when its sender goes. Secrets come in the letter alone. */
#ifndef TC_SITE_SPREAD_H
#define TC_SITE_SPREAD_H

#include "base/err.h"

#define TC_SPREAD_SAYS "treecast spread: "

/* Runs until every launch has ended, or becomes the agent (then it does not return). Standard input, output and error are
 * those of the process. */
int tc_spread_run(struct tc_err *err);

#endif
