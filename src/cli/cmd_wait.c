#include <limits.h>

#include "cli/report.h"
#include "api/client.h"

struct wait_values {
    struct tc_dir_options place;
    double timeout;
};

static int run(const struct tc_call *call, struct tc_err *err)
{
    const struct wait_values *values = call->values;
    const char *name = call->operands[0];
    char dir[PATH_MAX];
    int result = tc_name_check(name, err);
    if (result == 0)
        result = tc_dir_find(dir, sizeof dir, &values->place, err);
    if (result == 0)
        result = tc_api_wait(dir, name, values->timeout, err);
    if (result == 0)
        printf("%s/%s\n", dir, name);
    return result;
}

/* clang-format off */
static const struct tc_option options[] = {
    TC_DIR_ROWS(struct wait_values, place),
    TC_TIMEOUT_ROW(struct wait_values, timeout),
    {.name = NULL},
};
/* clang-format on */

const struct tc_verb tc_verb_wait = {
    .name = "wait",
    .arguments = "NAME",
    .summary = "block until NAME is published here, print its path",
    .options = options,
    .operands_are_names = true,
    .size = sizeof(struct wait_values),
    .defaults = &(const struct wait_values){.timeout = TC_FOREVER},
    .least = 1,
    .most = 1,
    .run = run,
};
