#include <limits.h>

#include "cli/report.h"
#include "cli/size.h"
#include "api/server.h"
#include "file/folder.h"

struct clean_values {
    struct tc_dir_options place;
    bool all;
};

static int run(const struct tc_call *call, struct tc_err *err)
{
    const struct clean_values *values = call->values;
    char dir[PATH_MAX], size[TC_AMOUNT_TEXT];
    unsigned files = 0;
    uint64_t bytes = 0;
    int result = tc_dir_find(dir, sizeof dir, &values->place, err);
    if (result < 0)
        return result;
    struct tc_folder *folder = tc_folder_open_read(dir, err);
    if (folder) {
        result = tc_folder_clean(folder, values->all, &files, &bytes, err);
        if (result == 0)
            result = tc_api_clean(tc_folder_state_fd(folder), &files, err);
        tc_folder_close(folder);
    } else if (err->reason != TC_E_NOTFOUND || values->place.dir) {
        result = err->reason ? -err->reason : -TC_E_NOMEM;
    }
    if (result == 0)
        printf("%s: removed %u file%s, %s\n", dir, files, files == 1 ? "" : "s", tc_size_print(size, bytes));
    return result;
}

/* clang-format off */
static const struct tc_option options[] = {
    TC_DIR_ROWS(struct clean_values, place),
    {.name = "all", .kind = TC_OPT_FLAG, TC_AT(struct clean_values, all), .help = "remove published arrays too"},
    {.name = NULL},
};
/* clang-format on */

const struct tc_verb tc_verb_clean = {
    .name = "clean",
    .arguments = "",
    .summary = "remove what failed sessions left behind",
    .options = options,
    .size = sizeof(struct clean_values),
    .run = run,
};
