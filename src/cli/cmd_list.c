#include <errno.h>
#include <limits.h>
#include <string.h>
#include <time.h>

#include "cli/report.h"
#include "cli/size.h"
#include "file/folder.h"

struct list_values {
    struct tc_dir_options place;
    bool json, names;
};

struct listing {
    const char *only; /* NULL: all */
    const char *dir;
    bool names;
    struct tc_table *table; /* NULL: JSON, or names alone */
    size_t count;
    struct tc_err *err;
};

static int add_row(struct listing *listing, const struct tc_description *d)
{
    char size[TC_AMOUNT_TEXT], shape[256], created[32] = "-";
    time_t when = (time_t)d->created;
    struct tm local;
    if (localtime_r(&when, &local))
        strftime(created, sizeof created, "%Y-%m-%d %H:%M:%S", &local);
    tc_shape_print(shape, sizeof shape, &d->array);
    const char *dtype = d->array.described ? d->array.dtype : "-";
    const char *cells[] = {d->name,
                           tc_size_print(size, d->size),
                           dtype,
                           d->array.described ? shape : "-",
                           !d->array.described ? "-"
                           : d->array.fortran  ? "F"
                                               : "C",
                           created};
    return tc_table_row(listing->table, cells, listing->err);
}

static int each(const struct tc_description *description, void *arg)
{
    struct listing *listing = arg;
    if (listing->only && strcmp(listing->only, description->name) != 0)
        return 0;
    listing->count++;
    if (listing->names)
        return puts(description->name) < 0 ? tc_fail_errno(listing->err, errno, "standard output") : 0;
    if (listing->table)
        return add_row(listing, description);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", listing->dir, description->name);
    json_t *object = tc_report_array(description, path, listing->err);
    if (!object || json_object_set_new(object, "type", json_string("array")) < 0) {
        json_decref(object);
        return tc_fail(listing->err, TC_E_NOMEM, "out of memory");
    }
    return tc_report_json(stdout, object, listing->err);
}

static int print(struct listing *listing, struct tc_err *err)
{
    struct tc_folder *folder = tc_folder_open_read(listing->dir, err);
    if (!folder)
        return err->reason ? -err->reason : -TC_E_NOMEM;
    int result = tc_folder_each(folder, each, listing, err);
    tc_folder_close(folder);
    if (result == 0 && listing->table)
        result = tc_table_print(listing->table, stdout, err);
    if (result == 0 && listing->only && listing->count == 0)
        result = tc_fail(err, TC_E_NOTFOUND, "%s is not published in %s", listing->only, listing->dir);
    return result;
}

static int run(const struct tc_call *call, struct tc_err *err)
{
    static const char *const heads[] = {"NAME", ">SIZE", "DTYPE", "SHAPE", "ORDER", "CREATED", NULL};
    const struct list_values *values = call->values;
    char dir[PATH_MAX];
    struct listing listing = {.only = call->operands[0], .dir = dir, .names = values->names, .err = err};
    int result = listing.only ? tc_name_check(listing.only, err) : 0;
    if (result == 0)
        result = tc_dir_find(dir, sizeof dir, &values->place, err);
    if (result == 0 && values->names && values->json)
        result = tc_fail(err, TC_E_USAGE, "--names or --json, not both");
    if (result == 0 && !values->json && !values->names) {
        listing.table = tc_table_new(heads, err);
        result = listing.table ? 0 : -TC_E_NOMEM;
    }
    if (result == 0)
        result = print(&listing, err);
    tc_table_free(listing.table);
    /* No directory yet is simply no array yet, unless it was named and so may be misspelt. */
    return result == -TC_E_NOTFOUND && !listing.only && !values->place.dir ? 0 : result;
}

/* clang-format off */
static const struct tc_option options[] = {
    TC_DIR_ROWS(struct list_values, place),
    TC_JSON_ROW(struct list_values, json),
    {.name = "names", .kind = TC_OPT_FLAG, TC_AT(struct list_values, names), .help = "names alone, one a line"},
    {.name = NULL},
};
/* clang-format on */

const struct tc_verb tc_verb_list = {
    .name = "list",
    .arguments = "[NAME]",
    .summary = "the arrays that are published here",
    .options = options,
    .operands_are_names = true,
    .size = sizeof(struct list_values),
    .most = 1,
    .run = run,
};
