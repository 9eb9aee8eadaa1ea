#include "cli/report.h"

#include <errno.h>
#include <libsmartcols/libsmartcols.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file/place.h"

int tc_report_json(FILE *out, json_t *object, struct tc_err *err)
{
    json_t *line = json_pack("{s:i}", "schema", 1);
    char *text = NULL;
    if (line && object && json_object_update(line, object) == 0)
        text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(line);
    json_decref(object);
    if (!text)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    int bad = fprintf(out, "%s\n", text) < 0 || fflush(out) != 0;
    free(text);
    return bad ? tc_fail_errno(err, errno, "standard output") : 0;
}

json_t *tc_report_array(const struct tc_description *description, const char *path, struct tc_err *err)
{
    char digest[2 * TC_DIGEST_SIZE + 1];
    tc_digest_hex(&description->digest, digest);
    char *text = tc_array_print(&description->array, err);
    if (!text)
        return NULL;
    json_t *array = json_loads(text, JSON_DECODE_ANY, NULL);
    free(text);
    json_t *object =
        json_pack("{s:s, s:s*, s:I, s:s, s:I}", "name", description->name, "path", path, "size",
                  (json_int_t)description->size, "digest", digest, "created", (json_int_t)description->created);
    if (object && description->lease.expires)
        json_object_set_new(object, "expires", json_integer((json_int_t)tc_lease_expires(&description->lease)));
    if (object && description->lease.pid)
        json_object_set_new(object, "owner_pid", json_integer(description->lease.pid));
    static const char *const members[] = {"dtype", "shape", "order", "offset", "item_size"};
    for (size_t i = 0; object && array && i < sizeof members / sizeof members[0]; i++) {
        json_t *member = json_object_get(array, members[i]);
        json_object_set_new(object, members[i], member ? json_incref(member) : json_null());
    }
    if (!object || !array) {
        tc_fail(err, TC_E_NOMEM, "out of memory");
        json_decref(object);
        object = NULL;
    }
    json_decref(array);
    return object;
}

char *tc_shape_print(char *out, size_t size, const struct tc_array *array)
{
    size_t used = 0;
    *out = '\0';
    for (unsigned i = 0; i < array->ndim && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%ju", i ? "," : "", (uintmax_t)array->shape[i]);
    return out;
}

struct tc_table {
    struct libscols_table *table;
    size_t columns;
};

struct tc_table *tc_table_new(const char *const *heads, struct tc_err *err)
{
    struct tc_table *table = calloc(1, sizeof *table);
    if (table)
        table->table = scols_new_table();
    if (!table || !table->table) {
        tc_table_free(table);
        tc_fail(err, TC_E_NOMEM, "out of memory");
        return NULL;
    }
    for (; heads[table->columns]; table->columns++) {
        const char *head = heads[table->columns];
        bool right = *head == '>';
        if (!scols_table_new_column(table->table, head + right, 0, right ? SCOLS_FL_RIGHT : 0)) {
            tc_table_free(table);
            tc_fail(err, TC_E_NOMEM, "out of memory");
            return NULL;
        }
    }
    return table;
}

int tc_table_row(struct tc_table *table, const char *const *cells, struct tc_err *err)
{
    struct libscols_line *line = scols_table_new_line(table->table, NULL);
    for (size_t i = 0; line && i < table->columns; i++)
        if (scols_line_set_data(line, i, cells[i]) != 0)
            line = NULL;
    return line ? 0 : tc_fail(err, TC_E_NOMEM, "out of memory");
}

/* Printed into a text first: smartcols prints nothing at all for a table without rows, and pads the last column. */
int tc_table_print(struct tc_table *table, FILE *out, struct tc_err *err)
{
    char *text = NULL;
    if (scols_table_is_empty(table->table))
        return 0;
    scols_table_set_termforce(table->table, SCOLS_TERMFORCE_NEVER);
    if (scols_print_table_to_string(table->table, &text) != 0 || !text)
        return tc_fail(err, TC_E_NOMEM, "out of memory");
    fputs(text, out);
    size_t length = strlen(text);
    if (length && text[length - 1] != '\n')
        fputc('\n', out);
    free(text);
    return 0;
}

void tc_table_free(struct tc_table *table)
{
    if (table)
        scols_unref_table(table->table);
    free(table);
}

bool tc_report_color(FILE *out)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return !(no && *no) && term && strcmp(term, "dumb") != 0 && isatty(fileno(out));
}

int tc_dir_resolve(char *path, size_t size, const char *dir, struct tc_err *err)
{
    char base[PATH_MAX], working[PATH_MAX] = "";
    if (dir)
        snprintf(base, sizeof base, "%s", dir);
    else if (tc_place_default(base, sizeof base, err) < 0)
        return -TC_E_POLICY;
    if (*base != '/' && !getcwd(working, sizeof working))
        return tc_fail_errno(err, errno, "working directory");
    if (*base != '/' && strcmp(working, "/") == 0)
        *working = '\0';
    int used = snprintf(path, size, "%s%s%s", working, *base == '/' ? "" : "/", base);
    if (used < 0 || (size_t)used >= size)
        return tc_fail(err, TC_E_USAGE, "%s: path too long", base);
    return 0;
}

int tc_dir_find(char *path, size_t size, const struct tc_dir_options *options, struct tc_err *err)
{
    for (size_t i = 0; i < options->trust.count; i++)
        if (tc_trust_add(options->trust.items[i], err) < 0)
            return tc_err_prefix(err, "--trust");
    return tc_dir_resolve(path, size, options->dir, err);
}
