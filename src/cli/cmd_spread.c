#include "cli/cli.h"
#include "site/spread.h"

static int run(const struct tc_call *call, struct tc_err *err)
{
    (void)call;
    return tc_spread_run(err);
}

static const struct tc_option options[] = {{.name = NULL}};

/* Started by launchers only, with a letter on its standard input; nothing that a person would call. */
const struct tc_verb tc_verb_spread = {
    .name = "spread",
    .arguments = "",
    .summary = "start this host's agent, and others', as a letter on standard input says",
    .options = options,
    .hidden = true,
    .run = run,
};
