/* topology_options.h - where hosts hang, for verbs that plan: --topology. */
#ifndef TC_CLI_TOPOLOGY_OPTIONS_H
#define TC_CLI_TOPOLOGY_OPTIONS_H

#include "cli/cli.h"
#include "plan/topology.h"

/* clang-format off */
#define TC_TOPOLOGY_ROW(type, member) \
    {.name = "topology", .argument = "FILE|auto|none", .kind = TC_OPT_TEXT, TC_AT(type, member), .choices = "auto|none", \
     .help = "which switches hosts hang on: a topology.conf of Slurm's; auto (default): asks Slurm in its jobs; or none"}
/* clang-format on */

/* What the option says of count hosts: member i + 1 of *topology is hosts[i], member 0 this host. Hosts that are on no
 * switch become a group of their own, which one warning tells. *topology stays NULL where nothing is known of any host: with
 * "none", outside of Slurm, or where Slurm does not know switches. TC_E_USAGE for a file that cannot be read or understood. */
int tc_topology_options_find(const char *option, const char *const *hosts, size_t count, struct tc_topology **topology,
                             struct tc_err *err);

#endif
