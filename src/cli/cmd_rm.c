#include <limits.h>

#include "cli/report.h"
#include "file/folder.h"

struct rm_values {
    struct tc_dir_options place;
};

/* Every name is tried; the first failure is the verb's, later ones are told at once. */
static int remove_all(struct tc_folder *folder, const struct tc_call *call, struct tc_err *err)
{
    int result = 0;
    for (size_t i = 0; i < call->count; i++) {
        struct tc_err why = {0};
        int one = tc_folder_remove(folder, call->operands[i], &why);
        if (one < 0 && result < 0)
            fprintf(stderr, "treecast rm: %s\n", why.text);
        else if (one < 0)
            result = tc_fail(err, why.reason, "%s", why.text);
    }
    return result;
}

static int run(const struct tc_call *call, struct tc_err *err)
{
    const struct rm_values *values = call->values;
    char dir[PATH_MAX];
    int result = 0;
    for (size_t i = 0; result == 0 && i < call->count; i++)
        result = tc_name_check(call->operands[i], err);
    if (result == 0)
        result = tc_dir_find(dir, sizeof dir, &values->place, err);
    if (result < 0)
        return result;
    struct tc_folder *folder = tc_folder_open_read(dir, err);
    if (!folder)
        return err->reason ? -err->reason : -TC_E_NOMEM;
    result = remove_all(folder, call, err);
    tc_folder_close(folder);
    return result;
}

/* clang-format off */
static const struct tc_option options[] = {
    TC_DIR_ROWS(struct rm_values, place),
    {.name = NULL},
};
/* clang-format on */

const struct tc_verb tc_verb_rm = {
    .name = "rm",
    .arguments = "NAME ...",
    .summary = "remove published arrays; who has one mapped keeps it",
    .options = options,
    .operands_are_names = true,
    .size = sizeof(struct rm_values),
    .least = 1,
    .most = SIZE_MAX,
    .run = run,
};
