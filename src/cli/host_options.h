/* host_options.h - the hosts a verb is about: -w, --hostfile, -x, and where to look when none is given. */
#ifndef TC_CLI_HOST_OPTIONS_H
#define TC_CLI_HOST_OPTIONS_H

#include "cli/cli.h"
#include "plan/hostlist.h"
#include "site/resource.h"

struct tc_host_options {
    struct tc_texts hosts; /* lists; "-" reads standard input */
    struct tc_texts files;
    struct tc_texts exclude;
};

/* The rows of a verb's table, when its struct has a member of that type. */
/* clang-format off */
#define TC_HOST_ROWS(type, member) \
    {.letter = 'w', .name = "hosts", .argument = "LIST", .kind = TC_OPT_LIST, .family = 1, TC_AT(type, member.hosts), \
     .help = "hosts: node[001-128,200] node7:7200 127.0.0.1:[7201-7208]; repeatable; - reads standard input"}, \
    {.name = "hostfile", .argument = "FILE", .kind = TC_OPT_LIST, .family = 1, TC_AT(type, member.files), \
     .help = "hosts from FILE: one host or list a line, # comments; repeatable"}, \
    {.letter = 'x', .name = "exclude", .argument = "LIST", .kind = TC_OPT_LIST, TC_AT(type, member.exclude), \
     .help = "leave these hosts out; repeatable"}
/* clang-format on */

/* The hosts that were asked for: -w and --hostfile together, else those of the batch job or of a file that the environment
 * names (site/resource.h), less -x. Never empty: TC_E_USAGE with what to do when nothing was given or nothing is left.
 * found (NULL allowed): where the environment said them; TC_SITE_NONE when options did. NULL on error; freed by the
 * caller. */
struct tc_hostlist *tc_host_options_gather(const struct tc_host_options *options, struct tc_resource *found,
                                           struct tc_err *err);

#endif
