/* switches.h - which hosts hang on which switch, as Slurm's topology.conf and `scontrol show topology` say it.
 *
 *   SwitchName=s1 Nodes=n[1-8]        a switch with hosts
 *   SwitchName=s0 Switches=s[1-4]     a switch of switches
 *   BlockName=b1 Nodes=n[1-8]         a block of hosts
 *
 * Each is a group. Names of members are case-sensitive, keys are not; '#' begins a comment, '\' at the end of a line joins
 * the next one to it. A host that hangs on a switch and is listed again for a switch above it, as scontrol does, stays
 * where it is. Other keys that Slurm knows there say nothing of interest here. Pure. */
#ifndef TC_PLAN_SWITCHES_H
#define TC_PLAN_SWITCHES_H

#include "plan/hostlist.h"
#include "plan/topology.h"

/* The groups of members (host names, "name:port" too; NULL: a member without a name), in the order given. A member is known
 * by its whole text, else without its port, else by the part before the first dot. One that no switch names is in
 * TC_GROUP_ALL, and added to unknown, but for member 0: that sends, from anywhere. what names the text in errors, which are TC_E_USAGE: "topology.conf:3: ...". NULL on
 * error. */
struct tc_topology *tc_switches_read(const char *bytes, size_t size, const char *what, const char *const *members,
                                     uint32_t count, struct tc_hostlist *unknown, struct tc_err *err);

#endif
