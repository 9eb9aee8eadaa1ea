#include "cli/cli.h"
#include "net/key.h"

struct keygen_values {
    bool group_only;
};

static int run(const struct tc_call *call, struct tc_err *err)
{
    const struct keygen_values *values = call->values;
    const char *path = call->operands[0];
    int result = tc_key_generate(path, values->group_only, err);
    if (result < 0)
        return result;
    printf("%s: for agents and senders\n", path);
    if (!values->group_only)
        printf("%s.origin: for senders alone\n", path);
    return 0;
}

/* clang-format off */
static const struct tc_option options[] = {
    {.name = "group-only", .kind = TC_OPT_FLAG, TC_AT(struct keygen_values, group_only),
     .help = "a group key alone: everyone who holds FILE may send"},
    {.name = NULL},
};
/* clang-format on */

const struct tc_verb tc_verb_keygen = {
    .name = "keygen",
    .arguments = "FILE",
    .summary = "make FILE for agents and FILE.origin for senders, never over an existing one",
    .options = options,
    .size = sizeof(struct keygen_values),
    .least = 1,
    .most = 1,
    .operands_are_files = true,
    .run = run,
};
