#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/report.h"
#include "api/client.h"
#include "file/folder.h"

struct attach_values {
    struct tc_dir_options place;
    double timeout;
    unsigned format;
};

enum { FORMAT_PATH, FORMAT_JSON, FORMAT_SH };
enum { CANNOT_RUN = 126, NOT_FOUND = 127 }; /* as env(1) */

#define SHAPE_MAX (TC_DIMENSIONS_MAX * 21)

/* What TREECAST_ARRAY_* say; NULL: not set, as for plain bytes. */
struct variables {
    const char *names[5];
    const char *values[5];
    char offset[24], shape[SHAPE_MAX];
};

static void fill(struct variables *out, const char *path, const struct tc_array *array)
{
    static const char *const names[] = {"PATH", "OFFSET", "DTYPE", "SHAPE", "ORDER"};
    memcpy(out->names, names, sizeof names);
    snprintf(out->offset, sizeof out->offset, "%ju", (uintmax_t)array->offset);
    tc_shape_print(out->shape, sizeof out->shape, array);
    out->values[0] = path;
    out->values[1] = out->offset;
    out->values[2] = array->described ? array->dtype : NULL;
    out->values[3] = array->described ? out->shape : NULL;
    out->values[4] = !array->described ? NULL : array->fortran ? "F" : "C";
}

static void print_quoted(const char *text)
{
    putchar('\'');
    for (; *text; text++)
        if (*text == '\'')
            fputs("'\\''", stdout);
        else
            putchar(*text);
    putchar('\'');
}

static void print_sh(const struct variables *variables)
{
    for (size_t i = 0; i < 5; i++) {
        if (!variables->values[i]) {
            printf("unset TREECAST_ARRAY_%s\n", variables->names[i]);
            continue;
        }
        printf("export TREECAST_ARRAY_%s=", variables->names[i]);
        print_quoted(variables->values[i]);
        putchar('\n');
    }
}

/* Become the command; comes back only when that fails. */
static int execute(const struct variables *variables, const char *const *words)
{
    for (size_t i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "TREECAST_ARRAY_%s", variables->names[i]);
        if (variables->values[i])
            setenv(name, variables->values[i], 1);
        else
            unsetenv(name);
    }
    execvp(words[0], (char *const *)(uintptr_t)words);
    int number = errno;
    fprintf(stderr, "treecast attach: %s: %s\n", words[0], strerror(number));
    return number == ENOENT ? NOT_FOUND : CANNOT_RUN;
}

/* Wait for NAME and read what is known of it; the file itself is opened by whoever uses the answer. */
static int find(const struct attach_values *values, const char *name, char path[PATH_MAX],
                struct tc_description *description, struct tc_err *err)
{
    int result = tc_dir_find(path, PATH_MAX - TC_NAME_MAX - 1, &values->place, err);
    if (result == 0)
        result = tc_api_wait(path, name, values->timeout, err);
    if (result < 0)
        return result;
    struct tc_folder *folder = tc_folder_open_read(path, err);
    if (!folder)
        return err->reason ? -err->reason : -TC_E_NOMEM;
    result = tc_folder_open_array(folder, name, description, err);
    tc_folder_close(folder);
    if (result < 0)
        return result;
    close(result);
    size_t used = strlen(path);
    snprintf(path + used, PATH_MAX - used, "/%s", name);
    return 0;
}

static int show(const struct attach_values *values, const struct tc_description *description, const char *path,
                struct tc_err *err)
{
    struct variables variables;
    fill(&variables, path, &description->array);
    switch (values->format) {
    case FORMAT_JSON: {
        json_t *object = tc_report_array(description, path, err);
        return object ? tc_report_json(stdout, object, err) : -TC_E_NOMEM;
    }
    case FORMAT_SH:
        print_sh(&variables);
        return 0;
    default:
        printf("%s\n", path);
        return 0;
    }
}

static int run(const struct tc_call *call, struct tc_err *err)
{
    const struct attach_values *values = call->values;
    const char *name = call->operands[0];
    if (call->after != 1)
        return tc_fail(err, TC_E_USAGE, "put -- between NAME and COMMAND");
    int result = tc_name_check(name, err);
    if (result < 0)
        return result;
    char path[PATH_MAX];
    struct tc_description description = {0};
    result = find(values, name, path, &description, err);
    if (result == 0 && call->count > 1) {
        struct variables variables;
        fill(&variables, path, &description.array);
        result = execute(&variables, call->operands + 1);
    } else if (result == 0) {
        result = show(values, &description, path, err);
    }
    tc_array_free(&description.array);
    return result;
}

/* clang-format off */
static const struct tc_option options[] = {
    TC_DIR_ROWS(struct attach_values, place),
    TC_TIMEOUT_ROW(struct attach_values, timeout),
    {.name = "format", .argument = "FORMAT", .kind = TC_OPT_CHOICE, TC_AT(struct attach_values, format),
     .choices = "path|json|sh", .help = "what to print: path (default), json, or sh for eval"},
    {.name = NULL},
};
/* clang-format on */

const struct tc_verb tc_verb_attach = {
    .name = "attach",
    .arguments = "NAME [-- COMMAND ...]",
    .summary = "wait, then print what is needed to map NAME, or run COMMAND with it",
    .more =
        "COMMAND replaces treecast, so its exit code is the answer. In its environment, and with --format sh:\n"
        "  TREECAST_ARRAY_PATH    the file, to be mapped read-only\n"
        "  TREECAST_ARRAY_OFFSET  bytes before the first element\n"
        "  TREECAST_ARRAY_DTYPE   type of an element as numpy writes it; not set for plain bytes, nor are the next\n"
        "  TREECAST_ARRAY_SHAPE   1000,1000 (empty: a scalar)\n"
        "  TREECAST_ARRAY_ORDER   C or F\n",
    .options = options,
    .operands_are_names = true,
    .size = sizeof(struct attach_values),
    .defaults = &(const struct attach_values){.timeout = TC_FOREVER},
    .least = 1,
    .most = SIZE_MAX,
    .run = run,
};
