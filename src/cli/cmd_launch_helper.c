#include "cli/cli.h"
#include "site/launch_helper.h"

static int run(const struct tc_call *call, struct tc_err *err)
{
    (void)call;
    return tc_launch_helper_run(err);
}

static const struct tc_option options[] = {{.name = NULL}};

/* Started by launchers only, with a launch request on its standard input; nothing that a person would call. */
const struct tc_verb tc_verb_launch_helper = {
    .name = "launch-helper",
    .arguments = "",
    .summary = "start this host's agent, and others', as a launch request on standard input says",
    .options = options,
    .hidden = true,
    .run = run,
};
