#include <stdlib.h>

#include "cli/host_options.h"

struct hosts_values {
    bool expand, count;
    struct tc_texts exclude;
};

static int print(const struct tc_hostlist *list, const struct hosts_values *values, struct tc_err *err)
{
    size_t count = tc_hostlist_count(list);
    if (values->count)
        printf("%zu\n", count);
    for (size_t i = 0; values->expand && i < count; i++)
        puts(tc_hostlist_at(list, i));
    if (values->count || values->expand)
        return 0;
    char *folded = tc_hostlist_fold(list, err);
    if (!folded)
        return -TC_E_NOMEM;
    puts(folded);
    free(folded);
    return 0;
}

static int run(const struct tc_call *call, struct tc_err *err)
{
    const struct hosts_values *values = call->values;
    if (values->expand && values->count)
        return tc_fail(err, TC_E_USAGE, "--expand or --count, not both");
    /* Read only, like everything in the options. */
    const char **lists = (const char **)(uintptr_t)call->operands;
    struct tc_host_options options = {.hosts = {.items = lists, .count = call->count}, .exclude = values->exclude};
    struct tc_hostlist *list = tc_host_options_gather(&options, NULL, err);
    if (!list)
        return err->reason ? -err->reason : -TC_E_NOMEM;
    int result = print(list, values, err);
    tc_hostlist_free(list);
    return result;
}

static const struct tc_option options[] = {
    {.letter = 'e',
     .name = "expand",
     .kind = TC_OPT_FLAG,
     TC_AT(struct hosts_values, expand),
     .help = "one host a line, in the order of the list"},
    {.letter = 'c',
     .name = "count",
     .kind = TC_OPT_FLAG,
     TC_AT(struct hosts_values, count),
     .help = "how many they are"},
    {.letter = 'x',
     .name = "exclude",
     .argument = "LIST",
     .kind = TC_OPT_LIST,
     TC_AT(struct hosts_values, exclude),
     .help = "leave these hosts out; repeatable"},
    {.name = NULL},
};

const struct tc_verb tc_verb_hosts = {
    .name = "hosts",
    .arguments = "[LIST ...]",
    .summary = "fold, expand or count a list of hosts",
    .more = "LIST is what send -w takes: node[001-128,200] node7:7200 127.0.0.1:[7201-7208]; - reads standard input.\n"
            "Without LIST: the hosts of this batch job, of an MPI's host file or of the file that WCOLL names.\n"
            "Duplicates are dropped. Without an option: the shortest list of the same hosts.\n",
    .options = options,
    .size = sizeof(struct hosts_values),
    .least = 0,
    .most = SIZE_MAX,
    .run = run,
};
