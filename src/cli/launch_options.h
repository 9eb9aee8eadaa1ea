/* launch_options.h - whether send starts agents, by which launcher, and what the launcher is told. */
#ifndef TC_CLI_LAUNCH_OPTIONS_H
#define TC_CLI_LAUNCH_OPTIONS_H

#include "cli/cli.h"
#include "net/address.h"
#include "net/key.h"
#include "site/launch_request.h"
#include "site/resource.h"

struct tc_launch_options {
    const char *launch; /* NULL: as auto where the batch system named the hosts and no key was given, else as none */
    const char *ssh, *program, *dir, *interface;
    uint64_t fanout; /* of the tree of logins; 1: none, all from here; 0: as it is best */
    bool stay;
};

/* clang-format off */
#define TC_LAUNCH_ROWS(type, member) \
    {.name = "launch", .argument = "HOW", .kind = TC_OPT_TEXT, TC_AT(type, member.launch), \
     .choices = "auto|none|srun|ssh|exec:", \
     .help = "start the agents: auto, none, srun, ssh or exec:COMMAND (%h host, %n rank) " \
             "(default: auto in a batch job without host option and key, else none)"}, \
    {.name = "ssh", .argument = "COMMAND", .kind = TC_OPT_TEXT, TC_AT(type, member.ssh), \
     .help = "ssh and its options for --launch ssh (default ssh)"}, \
    {.name = "launch-fanout", .argument = "N", .kind = TC_OPT_NUMBER, .least = 1, .most = 1024, TC_AT(type, member.fanout), \
     .help = "hosts that each host of the tree of logins starts (default 16); 1: all from this host"}, \
    {.name = "agent-program", .argument = "PATH", .kind = TC_OPT_TEXT, TC_AT(type, member.program), \
     .help = "treecast on the hosts (default: the path of this one)"}, \
    {.name = "agent-dir", .argument = "DIR", .kind = TC_OPT_TEXT, TC_AT(type, member.dir), \
     .help = "where launched agents publish, %h is the host (default $TREECAST_DIR, else as recv has it)"}, \
    {.name = "stay", .kind = TC_OPT_FLAG, TC_AT(type, member.stay), \
     .help = "launched agents serve on, at --port with the key, instead of going when this broadcast ends"}, \
    {.name = "interface", .argument = "IF", .kind = TC_OPT_TEXT, TC_AT(type, member.interface), \
     .help = "the network that launched agents join by: an interface or its address (default: the way to the hosts)"}
/* clang-format on */

/* What was decided. Zeroed before; tc_launch_plan_end frees it. */
struct tc_launch_plan {
    bool wanted;
    enum tc_site_system system;
    struct tc_launch_request request; /* complete but for join */
    char listen[TC_ADDRESS_TEXT];
};

/* Whether to launch and how: found as the hosts were found, keyed when a key was given. TC_E_USAGE for an unknown HOW, and
 * for --stay without launch or key. */
int tc_launch_options_decide(struct tc_launch_plan *plan, const struct tc_launch_options *options,
                             const struct tc_resource *found, bool keyed, bool excluding, struct tc_err *err);

/* Write the launch request for these hosts (names without ports). seconds: for a host to come up; port: where staying agents
 * listen; rate: of each agent, 0: no limit. The key is copied into the launch request. */
int tc_launch_options_fill(struct tc_launch_plan *plan, const struct tc_launch_options *options,
                           const struct tc_hostlist *hosts, const struct tc_key *key, double seconds, uint16_t port,
                           uint64_t rate, struct tc_err *err);
void tc_launch_plan_end(struct tc_launch_plan *plan);

#endif
