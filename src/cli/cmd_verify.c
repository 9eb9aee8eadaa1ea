#include <limits.h>

#include "cli/report.h"
#include "cli/size.h"
#include "file/folder.h"

struct verify_values {
    struct tc_dir_options place;
};

static int run(const struct tc_call *call, struct tc_err *err)
{
    const struct verify_values *values = call->values;
    char dir[PATH_MAX], size[TC_AMOUNT_TEXT], digest[2 * TC_DIGEST_SIZE + 1];
    struct tc_description description = {0};
    int result = tc_name_check(call->operands[0], err);
    if (result == 0)
        result = tc_dir_find(dir, sizeof dir, &values->place, err);
    if (result < 0)
        return result;
    struct tc_folder *folder = tc_folder_open_read(dir, err);
    if (!folder)
        return err->reason ? -err->reason : -TC_E_NOMEM;
    result = tc_folder_verify(folder, call->operands[0], &description, err);
    if (result >= 0) {
        tc_digest_hex(&description.digest, digest);
        printf("%s: good, %s, digest %s\n", call->operands[0], tc_size_print(size, description.size), digest);
        result = 0;
    }
    tc_array_free(&description.array);
    tc_folder_close(folder);
    return result;
}

/* clang-format off */
static const struct tc_option options[] = {
    TC_DIR_ROWS(struct verify_values, place),
    {.name = NULL},
};
/* clang-format on */

const struct tc_verb tc_verb_verify = {
    .name = "verify",
    .arguments = "NAME",
    .summary = "digest a published file again and compare with its description",
    .options = options,
    .operands_are_names = true,
    .size = sizeof(struct verify_values),
    .least = 1,
    .most = 1,
    .run = run,
};
